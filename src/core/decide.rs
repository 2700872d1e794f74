//! The decision of a request: which route, which side, why. Taken once; a retry or a fallback does not decide anew.

use std::sync::Arc;

use crate::facts::RequestFacts;
use crate::lease::Lease;
use crate::route::{KeySource, Locate, Route};
use crate::side::Side;
use crate::snapshot::Snapshot;
use crate::split::{Bucket, choose_side};
use crate::weight::Weight;

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
    /// The journey began there, or the form came from there.
    Leased,
    /// The same idempotency key was seen there first.
    Pinned,
    /// The route is killed.
    Killed,
    /// No route covers the path.
    FallThrough,
}

impl Reason {
    /// All of them, for labels made beforehand.
    pub const ALL: [Reason; 7] = [
        Reason::Weight,
        Reason::Forced,
        Reason::Located,
        Reason::Leased,
        Reason::Pinned,
        Reason::Killed,
        Reason::FallThrough,
    ];

    /// As written in labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Weight => "weight",
            Reason::Forced => "forced",
            Reason::Located => "located",
            Reason::Leased => "leased",
            Reason::Pinned => "pinned",
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
    /// The journey's lease, when one is to be set on the answer: it begins, or has been broken.
    pub lease: Option<Box<Lease>>,
}

impl Decision {
    /// Of a request that no route covers.
    pub const FALL_THROUGH: Decision = Decision {
        side: Side::Legacy,
        reason: Reason::FallThrough,
        bucket: None,
        key: KeyOrigin::None,
        cookie: None,
        lease: None,
    };
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
    let decided = |side, reason| Decision { side, reason, bucket: Some(bucket), key: origin, cookie, lease: None };
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

/// What a request remembers: leases that were rightly signed.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Of the route's journey.
    pub journey: Option<Lease>,
    /// Of the form that this request sends back.
    pub form: Option<Lease>,
}

/// Gives leases their say over a [decision](decide) by weight; an override and `locate` outrank them.
///
/// The form's goes before the journey's: what it shows was made by the side that served it. Where neither is there a lease of the
/// journey begins.
pub fn keep(
    snapshot: &Snapshot,
    index: usize,
    route: &Route,
    mut decision: Decision,
    remembered: Remembered,
    now_s: u64,
) -> Decision {
    let (Some(state), Some(bucket)) = (snapshot.state(index), decision.bucket) else {
        return decision;
    };
    if !matches!(decision.reason, Reason::Weight | Reason::Killed) {
        return decision;
    }
    let weight = if state.killed { Weight::NONE } else { state.weight };
    let mut keep_by = |lease: &Lease, is_broken| {
        decision.bucket = Some(lease.bucket);
        // A kill keeps its name.
        if !state.killed {
            decision.side = lease.side_on(route, weight);
            decision.reason = if is_broken { Reason::Weight } else { Reason::Leased };
        }
    };
    match (remembered.form, remembered.journey) {
        (Some(form), _) => keep_by(&form, false),
        (None, Some(lease)) => {
            let is_broken = lease.is_broken(route, weight);
            keep_by(&lease, is_broken);
            decision.lease = is_broken.then(|| Box::new(lease.broken(snapshot, route)));
        }
        (None, None) if route.lease.is_some() => {
            decision.lease = Lease::begin(snapshot, route, bucket, now_s).map(Box::new);
        }
        (None, None) => {}
    }
    decision
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::LocateRule;
    use crate::runtime::RuntimeState;
    use crate::samples;
    use http::{HeaderMap, Method};
    use proptest::prelude::*;

    const FRESH: FreshId = *b"0123456789abcdef0123456789abcdef";

    fn ask(route: Route, killed: bool, headers: &[(&'static str, &str)], path: &str, forced: Option<Side>) -> Decision {
        let (mut snapshot, _) = Snapshot::new(samples::table(vec![route]), &RuntimeState::default());
        snapshot.states[0].killed = killed;
        let route = Arc::clone(&snapshot.table().routes()[0]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let facts = RequestFacts { method: &Method::GET, host: "shop", path, query: "", headers: &map };
        decide(&snapshot, 0, &route, &facts, forced, || FRESH)
    }

    fn weighted(weight: &str) -> Route {
        Route { weight: weight.parse().unwrap(), ..samples::route("r", "/r/{id}") }
    }

    #[test]
    fn a_caller_without_a_key_gets_an_id_on_a_split_route_only() {
        let split = ask(weighted("50%"), false, &[], "/r/1", None);
        assert_eq!((split.key, split.cookie), (KeyOrigin::Fresh, Some(FRESH)));
        assert_eq!(split.bucket, Some(Bucket::of("r", &FRESH)));
        for weight in ["0%", "100%"] {
            assert_eq!(ask(weighted(weight), false, &[], "/r/1", None).cookie, None, "{weight}");
        }
        assert_eq!(ask(weighted("50%"), true, &[], "/r/1", None).side, Side::Legacy);
    }

    #[test]
    fn the_own_cookie_is_believed_only_in_the_shape_we_give_it() {
        let cookie = format!("a=b; {STICKY_COOKIE}={}", "ab".repeat(16));
        let known = ask(weighted("50%"), false, &[("cookie", &cookie)], "/r/1", None);
        assert_eq!((known.key, known.cookie), (KeyOrigin::OwnCookie, None));
        assert_eq!(known.bucket, Some(Bucket::of("r", "ab".repeat(16).as_bytes())));
        let odd = ask(weighted("50%"), false, &[("cookie", "strangler_id=1")], "/r/1", None);
        assert_eq!((odd.key, odd.cookie), (KeyOrigin::Fresh, Some(FRESH)));
    }

    #[test]
    fn the_first_source_that_is_there_is_the_key() {
        let mut route = weighted("50%");
        let header = KeySource::Header(http::HeaderName::from_static("x-user-id"));
        route.sticky_on = Arc::new([header, KeySource::Cookie("SHOPSID".into())]);
        let ask = |headers: &[(&'static str, &str)]| ask(route.clone(), false, headers, "/r/1", None);
        let both = ask(&[("x-user-id", "7"), ("cookie", "SHOPSID=s")]);
        assert_eq!((both.key, both.bucket), (KeyOrigin::StickyOn(0), Some(Bucket::of("r", b"7"))));
        let cookie = ask(&[("x-user-id", ""), ("cookie", "SHOPSID=s")]);
        assert_eq!((cookie.key, cookie.bucket), (KeyOrigin::StickyOn(1), Some(Bucket::of("r", b"s"))));
        let none = ask(&[]);
        assert_eq!((none.key, none.cookie), (KeyOrigin::Fresh, None));
    }

    #[test]
    fn a_kill_outranks_an_override_and_that_data_and_that_the_weight() {
        let mut route = weighted("100%");
        let rules = vec![LocateRule { min: 10_000_000, max: u64::MAX, to: Side::Extracted }];
        route.locate = Some(Locate { param: "id".into(), rules, otherwise: Side::Legacy });
        let decided = |killed, path, forced| {
            let decision = ask(route.clone(), killed, &[], path, forced);
            (decision.side, decision.reason)
        };
        assert_eq!(decided(true, "/r/10000001", Some(Side::Extracted)), (Side::Legacy, Reason::Killed));
        assert_eq!(decided(false, "/r/10000001", Some(Side::Legacy)), (Side::Legacy, Reason::Forced));
        assert_eq!(decided(false, "/r/10000001", None), (Side::Extracted, Reason::Located));
        assert_eq!(decided(false, "/r/9999999", None), (Side::Legacy, Reason::Located));
        assert_eq!(decided(false, "/r/none", None), (Side::Legacy, Reason::Located));
        route.locate = None;
        let decision = ask(route.clone(), false, &[], "/r/1", None);
        assert_eq!((decision.side, decision.reason), (Side::Extracted, Reason::Weight));
    }

    proptest! {
        #[test]
        fn equal_weights_of_a_journey_move_together_and_unequal_ones_nest(user in "[a-z0-9]{1,12}", low in 0u16..=10_000, high in 0u16..=10_000) {
            let (low, high) = (low.min(high), low.max(high));
            let on = |name: &str, points| {
                let header = KeySource::Header(http::HeaderName::from_static("x-user-id"));
                let weight = Weight::from_basis_points(points).unwrap();
                let route = Route { salt: "journey".into(), sticky_on: Arc::new([header]), weight, ..samples::route(name, "/r/{id}") };
                ask(route, false, &[("x-user-id", &user)], "/r/1", None).side
            };
            prop_assert_eq!(on("one", low), on("other", low));
            if on("one", low) == Side::Extracted {
                prop_assert_eq!(on("other", high), Side::Extracted);
            }
        }
    }
}
