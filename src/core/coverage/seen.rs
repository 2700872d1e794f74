//! One request as coverage sees it: cheap to tell apart where users wait, named only later.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::coverage::{DATA, NAMES_MAX, NONE, OTHER};
use crate::name::RouteName;
use crate::redact::names::is_plain;

/// Bytes of a query that are read; what is longer has more names than are told apart.
const QUERY_BYTES_MAX: usize = 4_096;
/// Most names of one set.
const SET_NAMES_MAX: usize = 16;
/// Longest content type that is read.
const TYPE_BYTES_MAX: usize = 128;
/// The types that are registered (RFC 6838 §4.2.7).
const TOP_LEVEL: [&str; 10] =
    ["application", "audio", "font", "image", "message", "model", "multipart", "text", "video", "haptics"];

/// A method, as far as it is told apart: a client may make up others, and its words are kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MethodKind {
    /// Get.
    Get,
    /// Head.
    Head,
    /// Options.
    Options,
    /// Post.
    Post,
    /// Put.
    Put,
    /// Patch.
    Patch,
    /// Delete.
    Delete,
    /// Connect.
    Connect,
    /// Trace.
    Trace,
    /// Any other.
    Other,
}

impl MethodKind {
    /// Those that a route without a list of methods is looked at for.
    pub const USUAL: [MethodKind; 7] = [
        MethodKind::Get,
        MethodKind::Head,
        MethodKind::Options,
        MethodKind::Post,
        MethodKind::Put,
        MethodKind::Patch,
        MethodKind::Delete,
    ];

    /// Of a request's method.
    pub fn of(method: &Method) -> MethodKind {
        match *method {
            Method::GET => MethodKind::Get,
            Method::POST => MethodKind::Post,
            Method::HEAD => MethodKind::Head,
            Method::OPTIONS => MethodKind::Options,
            Method::PUT => MethodKind::Put,
            Method::PATCH => MethodKind::Patch,
            Method::DELETE => MethodKind::Delete,
            Method::CONNECT => MethodKind::Connect,
            Method::TRACE => MethodKind::Trace,
            _ => MethodKind::Other,
        }
    }

    /// As shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            MethodKind::Get => "GET",
            MethodKind::Head => "HEAD",
            MethodKind::Options => "OPTIONS",
            MethodKind::Post => "POST",
            MethodKind::Put => "PUT",
            MethodKind::Patch => "PATCH",
            MethodKind::Delete => "DELETE",
            MethodKind::Connect => "CONNECT",
            MethodKind::Trace => "TRACE",
            MethodKind::Other => OTHER,
        }
    }

    /// The one that is shown so.
    pub fn of_word(text: &str) -> Option<MethodKind> {
        let all = MethodKind::USUAL.into_iter().chain([MethodKind::Connect, MethodKind::Trace, MethodKind::Other]);
        all.into_iter().find(|method| method.as_str() == text)
    }

    /// Whether copies of it are sent without being asked for.
    pub const fn is_safe(self) -> bool {
        matches!(self, MethodKind::Get | MethodKind::Head | MethodKind::Options)
    }
}

/// What was seen of a request that legacy has answered. No value of a parameter is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The route.
    pub route: RouteName,
    /// The method.
    pub method: MethodKind,
    /// The status.
    pub status: u16,
    /// Names of its parameters as they came, sorted; `None`: too many.
    names: Option<Vec<Box<str>>>,
    content_type: ContentType,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ContentType {
    /// Nothing is left of the answer's head.
    Unknown,
    /// It had none.
    None,
    Said(Box<str>),
}

/// What requests are told apart by where they are counted: equal for what is [`Seen`] alike, whatever the order of names and the parameters
/// of the media type. Cheap, and without memory. `route`: any number of its own.
pub fn key(route: u64, method: MethodKind, status: u16, query: &str, content_type: Option<&[u8]>) -> u64 {
    // Without its parameters: the boundary of a multipart is another each time.
    let media_type = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == b';').unwrap_or(bytes.len());
        xxh3_64(bytes.get(..end).unwrap_or(bytes))
    };
    let content_type = content_type.map_or(0, media_type);
    let mut set = 0u64;
    if !query.is_empty() {
        for pair in pairs(query) {
            let end = memchr::memchr(b'=', pair);
            let name = pair.get(..end.unwrap_or(0)).unwrap_or_default();
            set = set.wrapping_add(xxh3_64_with_seed(name, u64::from(end.is_some())));
        }
    }
    let other = (u64::from(status / 100) << 8) | method as u64;
    // Multiplied by odd numbers that have little to do with each other, so that no two parts take each other away.
    route
        ^ set.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ content_type.rotate_left(31).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ other.wrapping_mul(0x1656_67b1_9e37_79f9)
}

/// Up to a bound; one more than is told apart says that there are too many.
fn pairs(query: &str) -> impl Iterator<Item = &[u8]> {
    let bytes = query.as_bytes();
    let mut rest = Some(bytes.get(..QUERY_BYTES_MAX).unwrap_or(bytes));
    let all = std::iter::from_fn(move || {
        let now = rest?;
        let (pair, after) = match memchr::memchr(b'&', now) {
            Some(end) => (now.get(..end)?, now.get(end + 1..)),
            None => (now, None),
        };
        rest = after;
        Some(pair)
    });
    all.take(2 * SET_NAMES_MAX + 1)
}

impl Seen {
    /// Of a request and legacy's answer to it. `query`: without `?`.
    pub fn new(route: RouteName, method: MethodKind, status: u16, query: &str, content_type: Option<&[u8]>) -> Seen {
        let text = |bytes: &[u8]| {
            let bytes = bytes.get(..TYPE_BYTES_MAX).unwrap_or(bytes);
            String::from_utf8_lossy(bytes).into_owned().into_boxed_str()
        };
        Seen {
            route,
            method,
            status,
            names: names(query),
            content_type: content_type.map_or(ContentType::None, |it| ContentType::Said(text(it))),
        }
    }

    /// A number of its route's own, for [`key`].
    pub fn key_of(route: &str) -> u64 {
        xxh3_64(route.as_bytes())
    }

    /// The same of this one.
    pub fn route_key(&self) -> u64 {
        Seen::key_of(self.route.as_str())
    }

    /// As far as it is known.
    pub fn content_type(&self) -> Option<&[u8]> {
        match &self.content_type {
            ContentType::Unknown | ContentType::None => None,
            ContentType::Said(text) => Some(text.as_bytes()),
        }
    }

    /// Likewise, its parameters not told apart.
    #[must_use]
    pub fn unnamed(self) -> Seen {
        Seen { names: None, ..self }
    }

    /// Where nothing but the status is left of the answer.
    pub fn without_answer(route: RouteName, method: MethodKind, status: u16, query: &str) -> Seen {
        Seen { content_type: ContentType::Unknown, ..Seen::new(route, method, status, query, None) }
    }

    pub(super) const fn class(&self) -> &'static str {
        match self.status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => OTHER,
        }
    }

    /// The set's name. `known`: what has been taken for a name before, on this route.
    pub(crate) fn set(&self, known: &mut BTreeSet<Arc<str>>) -> Arc<str> {
        let Some(names) = &self.names else { return OTHER.into() };
        if names.is_empty() {
            return NONE.into();
        }
        let mut veiled: BTreeSet<&str> = BTreeSet::new();
        for name in names {
            let is_known = known.contains(&**name);
            let is_name = is_known || is_name(name);
            if is_name && !is_known {
                if known.len() >= NAMES_MAX {
                    return OTHER.into();
                }
                known.insert(name.as_ref().into());
            }
            veiled.insert(if is_name { name } else { DATA });
        }
        veiled.into_iter().collect::<Vec<_>>().join("&").into()
    }

    pub(crate) fn media_type(&self) -> Option<Arc<str>> {
        let content_type = match &self.content_type {
            ContentType::Unknown => return None,
            ContentType::None => return Some(NONE.into()),
            ContentType::Said(text) => text,
        };
        let whole = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (top, sub) = whole.split_once('/').unwrap_or((&whole, ""));
        let is_registered = TOP_LEVEL.contains(&top);
        // `vnd.shop.v2+json`, `atom+xml`, `x-ndjson`.
        let is_named = |part: &str| !part.is_empty() && is_plain(part);
        Some(match (is_registered, sub == "*" || sub.split('+').all(is_named)) {
            (true, true) => whole.into(),
            (true, false) => format!("{top}/{DATA}").into(),
            (false, _) => DATA.into(),
        })
    }
}

/// What a set that was stored has for names.
pub(super) fn learn(known: &mut BTreeSet<Arc<str>>, set: &str) {
    for name in set.split('&').filter(|name| ![OTHER, NONE, DATA].contains(name)) {
        if known.len() < NAMES_MAX {
            known.insert(name.into());
        }
    }
}

/// The names in a query, sorted, each once. What has no `=` may be a value: it has no name.
fn names(query: &str) -> Option<Vec<Box<str>>> {
    if query.len() > QUERY_BYTES_MAX {
        return None;
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (place, pair) in pairs(query).enumerate() {
        if place >= 2 * SET_NAMES_MAX {
            return None;
        }
        if pair.is_empty() {
            continue;
        }
        let name = memchr::memchr(b'=', pair).and_then(|end| pair.get(..end)).filter(|name| !name.is_empty());
        names.insert(
            name.map_or_else(|| DATA.to_owned(), |name| without_brackets_hidden(&String::from_utf8_lossy(name))),
        );
    }
    (names.len() <= SET_NAMES_MAX).then(|| names.into_iter().map(String::into_boxed_str).collect())
}

/// `filter%5Bstatus%5D` is `filter[status]`.
fn without_brackets_hidden(name: &str) -> String {
    if !name.contains('%') {
        return name.to_owned();
    }
    let shown = |name: String, (hidden, plain): (&str, &str)| name.replace(hidden, plain);
    [("%5B", "["), ("%5b", "["), ("%5D", "]"), ("%5d", "]")].into_iter().fold(name.to_owned(), shown)
}

/// `page`, `filter[status]`, `ids[]`; not what has digits or letters in a row that nobody would write, and nothing that a detector knows.
fn is_name(name: &str) -> bool {
    const WHOLE_BYTES_MAX: usize = 60;
    let (head, rest) = name.split_once('[').map_or((name, None), |(head, rest)| (head, Some(rest)));
    let is_word = |part: &str| !part.is_empty() && is_plain(part);
    let are_words = |rest: &str| {
        let inside = rest.strip_suffix(']');
        inside.is_some_and(|inside| inside.split("][").all(|part| part.is_empty() || is_word(part)))
    };
    name.len() <= WHOLE_BYTES_MAX && is_word(head) && rest.is_none_or(are_words)
}
