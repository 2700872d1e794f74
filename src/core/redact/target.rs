//! A request's target as it may be kept: what the route's own template says, what the route allows, and hashes for the rest.

use crate::redact::detectors::is_sensitive;
use crate::redact::{KEPT_BYTES_MAX, Redactor, names};
use crate::route::Route;
use crate::template::{PathPattern, Segment};

/// Most query parameters told apart; the rest is one hash.
const PAIRS_MAX: usize = 32;
/// Most path segments told apart.
const SEGMENTS_MAX: usize = 64;

/// A target, redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) text: String,
    /// The names of the parameters whose values are hidden in it, in order; `path` and `query` stand for what has no name.
    pub(crate) hidden: Vec<String>,
}

impl Redactor {
    /// `/carts/<str len=5 #…>/total?coupon=<str len=6 #…>`: segments that the route's template has word by word stay as they are, and
    /// so do values of parameters that `keep` names (`*`: all), unless a detector objects.
    pub(crate) fn target(&self, route: &Route, path_and_query: &str, keep: &[std::sync::Arc<str>]) -> Target {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let known: &[Segment] = match &route.conditions.path {
            PathPattern::Template(template) => &template.segments,
            PathPattern::Regex(_) => &[],
        };
        let rest = match &route.conditions.path {
            PathPattern::Template(template) => template.rest.as_deref(),
            PathPattern::Regex(_) => None,
        };
        let mut out = Target { text: String::new(), hidden: Vec::new() };
        let is_allowed = |name: &str| keep.iter().any(|allowed| **allowed == *name || **allowed == *"*");
        let is_kept = |name: &str, value: &str| {
            // A secret does not become one less by being percent-encoded.
            let plain = decoded(value);
            is_allowed(name) && value.len() <= KEPT_BYTES_MAX && !is_sensitive(value) && !is_sensitive(&plain)
        };
        let put = |out: &mut Target, name: &str, value: &str| {
            if is_kept(name, value) {
                out.text.push_str(value);
            } else {
                out.text.push_str(&self.text(value));
                out.hidden.push(name.to_owned());
            }
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        for (place, segment) in path.splitn(SEGMENTS_MAX, '/').enumerate() {
            out.text.push('/');
            let name = match known.get(place) {
                Some(Segment::Literal(text)) if **text == *segment => None,
                _ if segment.is_empty() => None,
                Some(Segment::Param(name)) => Some(&**name),
                Some(Segment::Literal(_)) => Some("path"),
                None => Some(rest.unwrap_or("path")),
            };
            match name {
                None => out.text.push_str(segment),
                Some(name) => put(&mut out, name, segment),
            }
        }
        if query.is_empty() {
            return out;
        }
        for (place, pair) in query.splitn(PAIRS_MAX, '&').enumerate() {
            out.text.push(if place == 0 { '?' } else { '&' });
            let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
            let is_named = value.is_some() && names::is_plain(key);
            if is_named || (value.is_some() && keep.iter().any(|allowed| **allowed == *key)) {
                out.text.push_str(key);
            } else if !key.is_empty() {
                put(&mut out, "query", key);
            }
            if let Some(value) = value {
                out.text.push('=');
                if !value.is_empty() {
                    put(&mut out, if is_named { key } else { "query" }, value);
                }
            }
        }
        out
    }
}

/// Without percent-encoding and `+`; what is no UTF-8 then is replaced.
fn decoded(text: &str) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        match (byte, ahead.next().and_then(digit), ahead.next().and_then(digit)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
