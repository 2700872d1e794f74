//! What is counted of one endpoint.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::coverage::{NONE, OTHER};
use crate::discovery::Sighting;
use crate::sketch::Sketch;

/// Sorts of callers that are told apart.
const CALLERS_MAX: usize = 16;
/// Sets of parameters.
const SETS_MAX: usize = 16;
/// Media types.
const TYPES_MAX: usize = 8;
/// Longest name of a caller.
const CALLER_BYTES_MAX: usize = 24;

/// What is known of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Requests.
    pub requests: u64,
    /// By class of status, from 1xx.
    pub classes: [u64; 5],
    /// By sort of caller.
    pub callers: BTreeMap<Box<str>, u64>,
    /// By set of parameters, by their names.
    pub parameters: BTreeMap<Box<str>, u64>,
    /// By media type of the answer.
    pub types: BTreeMap<Box<str>, u64>,
    /// To the answer's head.
    pub took: Sketch,
    /// Of answers' bodies.
    pub bytes: u64,
    /// When it was asked first, in Unix seconds.
    pub first_s: u64,
    /// When last.
    pub last_s: u64,
    /// Names of parameters by now.
    #[serde(skip)]
    names: BTreeSet<Arc<str>>,
}

impl Endpoint {
    pub(super) fn count(&mut self, sighting: &Sighting<'_>) {
        self.requests += 1;
        if let Some(class) = self.classes.get_mut(usize::from(sighting.seen.status / 100).wrapping_sub(1)) {
            *class += 1;
        }
        add(&mut self.callers, &caller(sighting.agent), 1, CALLERS_MAX);
        let set = sighting.seen.set(&mut self.names);
        add(&mut self.parameters, &set, 1, SETS_MAX);
        if let Some(media_type) = sighting.seen.media_type() {
            add(&mut self.types, &media_type, 1, TYPES_MAX);
        }
        self.took.add(i64::try_from(sighting.took_us).unwrap_or(i64::MAX));
        self.bytes = self.bytes.saturating_add(sighting.bytes);
        self.first_s = if self.requests == 1 { sighting.at_s } else { self.first_s.min(sighting.at_s) };
        self.last_s = self.last_s.max(sighting.at_s);
    }

    pub(super) fn merge(&mut self, other: &Endpoint) {
        if other.requests == 0 {
            return;
        }
        self.first_s = if self.requests == 0 { other.first_s } else { self.first_s.min(other.first_s) };
        self.last_s = self.last_s.max(other.last_s);
        self.requests = self.requests.saturating_add(other.requests);
        self.classes.iter_mut().zip(other.classes).for_each(|(sum, count)| *sum = sum.saturating_add(count));
        for (sums, counts, most) in [
            (&mut self.callers, &other.callers, CALLERS_MAX),
            (&mut self.parameters, &other.parameters, SETS_MAX),
            (&mut self.types, &other.types, TYPES_MAX),
        ] {
            for (name, count) in counts {
                add(sums, name, *count, most);
            }
        }
        self.took.merge(&other.took);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What finds no room is counted together.
fn add(counts: &mut BTreeMap<Box<str>, u64>, name: &str, count: u64, most: usize) {
    if let Some(sum) = counts.get_mut(name) {
        *sum = sum.saturating_add(count);
        return;
    }
    let name = if counts.len() < most { name } else { OTHER };
    let sum = counts.entry(name.into()).or_default();
    *sum = sum.saturating_add(count);
}

/// The sort of a caller: the family of a browser, else the name of the first product (RFC 9110 §10.1.5), as far as it reads like one.
fn caller(agent: Option<&[u8]>) -> Cow<'static, str> {
    let Some(agent) = agent.map(|agent| agent.get(..512).unwrap_or(agent)).and_then(|it| std::str::from_utf8(it).ok())
    else {
        return NONE.into();
    };
    if agent.starts_with("Mozilla/") {
        // The order counts: each names those behind it, too.
        let families = [
            ("bot", "bot"),
            ("Edg", "Edge"),
            ("OPR/", "Opera"),
            ("Firefox/", "Firefox"),
            ("Chrome/", "Chrome"),
            ("Safari/", "Safari"),
        ];
        let family = families.iter().find(|(mark, _)| agent.contains(mark)).map_or("browser", |(_, family)| family);
        return family.into();
    }
    let product = agent.split(['/', ' ', '(']).next().unwrap_or_default();
    let is_name = !product.is_empty()
        && product.len() <= CALLER_BYTES_MAX
        && product.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_.".contains(&byte));
    if is_name { product.to_ascii_lowercase().into() } else { OTHER.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_by_its_family() {
        for (agent, expect) in [
            (None, "(none)"),
            (Some("curl/8.5.0"), "curl"),
            (Some("PartnerFeed/2.1 (+https://partner.example)"), "partnerfeed"),
            (
                Some(
                    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
                ),
                "Chrome",
            ),
            (Some("Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15"), "Safari"),
            (Some("Mozilla/5.0 (compatible; Googlebot/2.1)"), "bot"),
            (Some("anna.meier@example.com"), "(other)"),
            (Some("4f9a21bc77"), "(other)"),
        ] {
            assert_eq!(&*caller(agent.map(str::as_bytes)), expect, "{agent:?}");
        }
    }
}
