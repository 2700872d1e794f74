//! What may be kept of a pair that differed: its shape, and keyed hashes in place of values.
//!
//! Runs after the comparison, so it can hide no difference; and before anything is stored, logged or shown. A value becomes
//! its type, its length and a short keyed hash (`<str len=12 #a1b2c3d4>`): equal values still look equal, and without the key a
//! hash is no use for guessing. Plain values only where the route's `keep_values` allows the place *and* no detector objects.

pub mod accept;
mod cause;
pub mod detectors;
pub mod keep;
pub mod maps;
pub mod names;
mod record;
mod request;
mod target;

pub use cause::Cause;
pub use record::{Difference, Divergence, SideRecord};
pub use request::{NoReplay, noted};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, Method, header};
use sha2::Sha256;

use crate::compare::pointer::{Pointer, Step, escape};
use crate::compare::rules::matches_pointer;
use crate::compare::{Location, Shown};
use crate::json::number::Number;
use crate::route::{PointerPattern, Route};
use crate::runtime::Release;
use crate::side::Side;
use crate::table::Revision;

/// Longest value that is ever kept plainly, in bytes.
pub const KEPT_BYTES_MAX: usize = 256;

/// The circumstances of a pair that differed; everything that the comparison itself does not know.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Unlike any other's.
    pub id: &'a str,
    /// When the pair was compared, in Unix milliseconds.
    pub at_unix_ms: u64,
    /// The route.
    pub route: &'a Route,
    /// What the route was doing.
    pub phase: Phase,
    /// The side that answered the user.
    pub answered_by: Side,
    /// The request's method.
    pub method: &'a Method,
    /// The request's path and query.
    pub path_and_query: &'a str,
    /// What is noted of its headers ([`noted`]).
    pub request_headers: &'a HeaderMap,
    /// Bytes of its body.
    pub request_bytes: u64,
    /// Keyed hash of the caller's key.
    pub caller: Option<u64>,
    /// The user's trace.
    pub trace_id: Option<&'a str>,
    /// The routes file in force.
    pub revision: &'a Revision,
    /// The release of extracted that answered; `None`: it names none.
    pub release: Option<&'a Release>,
}

/// What a route was doing when a pair was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No user was on extracted.
    Shadow,
    /// Some were.
    Canary,
}

impl Phase {
    /// As written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Shadow => "shadow",
            Phase::Canary => "canary",
        }
    }
}

/// Puts keyed hashes in place of values.
#[derive(Clone)]
pub struct Redactor {
    /// Keyed once; cloned for each value.
    keyed: Hmac<Sha256>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// With the store's key: the same on every replica that shares the store.
    pub fn new(key: [u8; 32]) -> Redactor {
        // A key shorter than the hash's block is padded with zeros (RFC 2104 §2); done here, because then nothing can fail.
        let mut block = [0u8; 64];
        if let Some(room) = block.first_chunk_mut::<32>() {
            *room = key;
        }
        Redactor { keyed: Hmac::new(&block.into()) }
    }

    /// The first `digits` hex digits of a keyed hash. Values of different sorts never share one.
    fn hash(&self, sort: &str, value: &[u8], digits: usize) -> String {
        let mut mac = self.keyed.clone();
        mac.update(sort.as_bytes());
        mac.update(&[0]);
        mac.update(value);
        mac.finalize().into_bytes().iter().take(digits / 2).map(|byte| format!("{byte:02x}")).collect()
    }

    fn mark(&self, sort: &str, length: usize, value: &[u8]) -> String {
        format!("<{sort} len={length} #{}>", self.hash(sort, value, 8))
    }

    /// A text's shape: `<str len=12 #a1b2c3d4>`; the length in characters.
    pub fn text(&self, text: &str) -> String {
        self.mark("str", text.chars().count(), text.as_bytes())
    }

    fn bytes(&self, bytes: &[u8]) -> String {
        std::str::from_utf8(bytes).map_or_else(|_| self.mark("bytes", bytes.len(), bytes), |text| self.text(text))
    }

    /// A whole body's hash, 32 hex digits.
    fn body(&self, body: &[u8]) -> String {
        self.hash("body", body, 32)
    }

    /// A place; segments that look like data are hashed.
    pub fn path(&self, location: &Location) -> String {
        match location {
            Location::Body(pointer) => self.pointer(pointer),
            Location::Status | Location::Header(_) | Location::Trailer(_) => location.to_string(),
        }
    }

    fn pointer(&self, pointer: &Pointer) -> String {
        let named = |name: &str| {
            if names::is_plain(name) { escape(name) } else { self.mark("key", name.chars().count(), name.as_bytes()) }
        };
        let segment = |step: &Step| match step {
            Step::Index(index) => format!("/{index}"),
            Step::Key(key) => format!("/{}", named(key)),
            Step::Data(key) => format!("/{}", self.mark("key", key.chars().count(), key.as_bytes())),
            Step::Item { key, value } => {
                format!("/[{}={}]", named(key), self.mark("key", value.chars().count(), value.as_bytes()))
            }
            Step::Node { name, index } => {
                let name = if &**name == "text()" { name.to_string() } else { named(name) };
                index.map_or_else(|| format!("/{name}"), |index| format!("/{name}[{index}]"))
            }
        };
        pointer.0.iter().map(segment).collect()
    }

    /// What a side had at a place, as it may be kept.
    pub fn shown(&self, location: &Location, shown: &Shown, keep: &[PointerPattern]) -> String {
        let is_kept = |text: &str| {
            let is_allowed = match location {
                Location::Body(pointer) => keep.iter().any(|pattern| matches_pointer(pattern, pointer)),
                Location::Status | Location::Header(_) | Location::Trailer(_) => false,
            };
            is_allowed && text.len() <= KEPT_BYTES_MAX && !detectors::is_sensitive(text)
        };
        match shown {
            Shown::Null => "null".to_owned(),
            Shown::Bool(value) if is_kept("") => value.to_string(),
            Shown::Bool(value) => format!("<bool #{}>", self.hash("bool", &[u8::from(*value)], 8)),
            Shown::Number(text) if is_kept(text) => text.clone(),
            Shown::Number(text) => {
                let value = Number::new(text).canonical().to_string();
                self.mark("number", text.len(), value.as_bytes())
            }
            Shown::String(text) if is_kept(text) => serde_json::Value::from(text.as_str()).to_string(),
            Shown::String(text) => self.text(text),
            Shown::Array { items, digest } => self.mark("array", *items, digest),
            Shown::Object { members, digest } => self.mark("object", *members, digest),
            Shown::Bytes { bytes, digest } => format!("<bytes len={bytes} #{}>", self.hash("bytes", digest, 8)),
            Shown::Status(status) => status.to_string(),
            Shown::Failure(failure) => (*failure).to_owned(),
            Shown::Header(value) => match location {
                Location::Header(name) | Location::Trailer(name) => self.header(&name.0, value),
                Location::Status | Location::Body(_) => self.bytes(value),
            },
        }
    }

    /// A header's value, as it may be kept. Credentials not even as a hash.
    pub fn header(&self, name: &HeaderName, value: &[u8]) -> String {
        if is_credential(name) {
            return "<dropped>".to_owned();
        }
        if *name == header::CONTENT_TYPE
            && let Some(known) = known_content_type(value)
        {
            return known;
        }
        // One of seventeen numbers, and what went wrong in one of them.
        if name.as_str() == "grpc-status" && value.len() <= 2 && value.iter().all(u8::is_ascii_digit) {
            return String::from_utf8_lossy(value).into_owned();
        }
        self.bytes(value)
    }
}

/// Headers whose values are never kept in any form.
pub fn is_credential(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "authorization" | "cookie" | "set-cookie")
        || name.starts_with("proxy-")
        || ["token", "secret", "api-key", "apikey", "password", "session", "csrf"]
            .iter()
            .any(|part| name.contains(part))
}

/// A media type that says nothing but what everybody says; parameters other than a usual charset are left out.
fn known_content_type(value: &[u8]) -> Option<String> {
    const KNOWN: [&str; 22] = [
        "application/json",
        "application/problem+json",
        "application/hal+json",
        "application/vnd.api+json",
        "application/ld+json",
        "application/x-ndjson",
        "application/xml",
        "application/soap+xml",
        "application/pdf",
        "application/octet-stream",
        "application/javascript",
        "application/grpc",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/html",
        "text/plain",
        "text/xml",
        "text/css",
        "text/csv",
        "text/javascript",
        "text/event-stream",
        "text/json",
    ];
    const CHARSETS: [&str; 4] = ["utf-8", "us-ascii", "iso-8859-1", "windows-1252"];
    let text = std::str::from_utf8(value).ok()?.to_ascii_lowercase();
    let mut pieces = text.split(';').map(str::trim);
    let media_type = pieces.next().filter(|media_type| KNOWN.contains(media_type))?;
    let charset = pieces.find_map(|piece| piece.strip_prefix("charset=")).map(|charset| charset.trim_matches('"'));
    match charset {
        None => Some(media_type.to_owned()),
        Some(charset) if CHARSETS.contains(&charset) => Some(format!("{media_type}; charset={charset}")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
