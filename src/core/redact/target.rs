//! A request's target as it may be kept: what the route's own template says, and hashes for the rest.

use crate::redact::{Redactor, names};
use crate::route::Route;
use crate::template::{PathPattern, Segment};

/// Most query parameters told apart; the rest is one hash.
const PAIRS_MAX: usize = 32;
/// Most path segments told apart.
const SEGMENTS_MAX: usize = 64;

impl Redactor {
    /// `/carts/<str len=5 #…>/total?coupon=<str len=6 #…>`: segments that the route's template has word by word stay as they are.
    pub(crate) fn target(&self, route: &Route, path_and_query: &str) -> String {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let known: &[Segment] = match &route.conditions.path {
            PathPattern::Template(template) => &template.segments,
            PathPattern::Regex(_) => &[],
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut out = String::new();
        for (place, segment) in path.splitn(SEGMENTS_MAX, '/').enumerate() {
            out.push('/');
            let is_literal = matches!(known.get(place), Some(Segment::Literal(text)) if **text == *segment);
            if is_literal || segment.is_empty() {
                out.push_str(segment);
            } else {
                out.push_str(&self.text(segment));
            }
        }
        if query.is_empty() {
            return out;
        }
        for (place, pair) in query.splitn(PAIRS_MAX, '&').enumerate() {
            out.push(if place == 0 { '?' } else { '&' });
            let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
            if value.is_some() && names::is_plain(key) {
                out.push_str(key);
            } else if !key.is_empty() {
                out.push_str(&self.text(key));
            }
            if let Some(value) = value {
                out.push('=');
                out.push_str(&self.text(value));
            }
        }
        out
    }
}
