//! The decision of a request: which route, which side, why. Taken once; a retry or a fallback does not decide anew.

use std::sync::Arc;

use crate::facts::RequestFacts;
use crate::route::{KeySource, Locate, Route};
use crate::side::Side;
use crate::snapshot::Snapshot;
use crate::split::{Bucket, choose_side};

/// Name of the proxy's own cookie: 128 random bits as 32 hex digits.
pub const STICKY_COOKIE: &str = "strangler_id";

/// An id drawn for a caller: 128 random bits as 32 lower-case hex digits.
pub type FreshId = [u8; 32];

/// Why a request is on its side; label of `strangler_decisions_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The caller's bucket and the route's weight.
    Weight,
    /// A rightly signed override.
    Forced,
    /// `locate`: the data lives there.
    Located,
    /// The route is killed.
    Killed,
    /// No route covers the path.
    FallThrough,
}

impl Reason {
    /// All of them, for labels made beforehand.
    pub const ALL: [Reason; 5] = [Reason::Weight, Reason::Forced, Reason::Located, Reason::Killed, Reason::FallThrough];

    /// As written in labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Weight => "weight",
            Reason::Forced => "forced",
            Reason::Located => "located",
            Reason::Killed => "killed",
            Reason::FallThrough => "fallthrough",
        }
    }
}

/// What was decided.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The side that is asked first.
    pub side: Side,
    /// Why.
    pub reason: Reason,
    /// The caller's bucket on this route, when there was one to look at.
    pub bucket: Option<Bucket>,
    /// Where the caller's key was found.
    pub key: KeyOrigin,
    /// The value of the proxy's own cookie, when it is to be set on the answer.
    pub cookie: Option<FreshId>,
}

impl Decision {
    /// Of a request that no route covers.
    pub const FALL_THROUGH: Decision =
        Decision { side: Side::Legacy, reason: Reason::FallThrough, bucket: None, key: KeyOrigin::None, cookie: None };
}

/// Where a caller's key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The source at this place in `sticky_on`.
    StickyOn(usize),
    /// The proxy's own cookie.
    OwnCookie,
    /// None was there: the id drawn for this request, which a client with cookies brings back.
    Fresh,
    /// Nobody asked.
    None,
}

/// Decides for a request of the route at `index`.
///
/// `forced` is what a rightly signed override says; `draw` draws an id for a caller without a key and is asked for at most one.
pub fn decide(
    snapshot: &Snapshot,
    index: usize,
    route: &Arc<Route>,
    facts: &RequestFacts<'_>,
    forced: Option<Side>,
    draw: impl FnOnce() -> FreshId,
) -> Decision {
    let Some(state) = snapshot.state(index) else {
        return Decision::FALL_THROUGH;
    };
    let weight = state.weight;
    let (bucket, origin, fresh) = if let Some((key, origin)) = caller_key(route, facts) {
        (Bucket::of(&route.salt, key), origin, None)
    } else {
        let id = draw();
        (Bucket::of(&route.salt, &id), KeyOrigin::Fresh, Some(id))
    };
    // A cookie only where it decides something: on routes that split users by it.
    let cookie = fresh.filter(|_| route.sticky_on.is_empty() && weight.is_split() && route.locate.is_none());
    let decided = |side, reason| Decision { side, reason, bucket: Some(bucket), key: origin, cookie };
    // A kill is an emergency: it outranks even a tester's wish.
    if state.killed {
        return decided(Side::Legacy, Reason::Killed);
    }
    if let Some(side) = forced {
        return Decision { cookie: None, ..decided(side, Reason::Forced) };
    }
    if let Some(locate) = &route.locate {
        return Decision { cookie: None, ..decided(located(locate, route, facts.path), Reason::Located) };
    }
    decided(choose_side(bucket, weight), Reason::Weight)
}

/// The caller's key on this route, and where it was found.
pub fn caller_key<'a>(route: &Route, facts: &RequestFacts<'a>) -> Option<(&'a [u8], KeyOrigin)> {
    if route.sticky_on.is_empty() {
        // Only what we could have issued: anyone may send a cookie, and a key of our own shape is as good as a drawn one.
        let own =
            facts.cookie(STICKY_COOKIE).filter(|value| value.len() == 32 && value.iter().all(u8::is_ascii_hexdigit));
        return own.map(|value| (value, KeyOrigin::OwnCookie));
    }
    route.sticky_on.iter().enumerate().find_map(|(place, source)| {
        let value = match source {
            KeySource::Header(name) => facts.header(name),
            KeySource::Cookie(name) => facts.cookie(name),
        };
        value.filter(|value| !value.is_empty()).map(|value| (value, KeyOrigin::StickyOn(place)))
    })
}

fn located(locate: &Locate, route: &Route, path: &str) -> Side {
    let value = route.conditions.path.capture(path, &locate.param).and_then(|text| text.parse::<u64>().ok());
    let rule = value.and_then(|value| locate.rules.iter().find(|rule| (rule.min..=rule.max).contains(&value)));
    rule.map_or(locate.otherwise, |rule| rule.to)
}
