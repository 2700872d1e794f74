use std::sync::Arc;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;
use crate::decide::{Decision, Reason, Remembered, decide, keep};
use crate::route::{Data, KeySource};
use crate::runtime::RuntimeState;
use crate::samples;

const LIFE: Duration = Duration::from_mins(30);
const BEGUN: u64 = 1_763_700_000;

fn keys() -> Vec<SigningKey> {
    vec![SigningKey { id: "a".into(), secret: [7; 32] }, SigningKey { id: "b".into(), secret: [9; 32] }]
}

fn bucket(number: u16) -> Bucket {
    Bucket::from_number(number).unwrap()
}

/// A snapshot of one journey: each route with its weight in basis points.
fn snapshot(weights: &[(&str, u16)]) -> Snapshot {
    let sticky: Arc<[KeySource]> =
        Arc::new([KeySource::Header(http::HeaderName::from_static("x-user-id")), KeySource::Cookie("SHOPSID".into())]);
    let journey = "checkout".parse().unwrap();
    let policy = Arc::new(LeasePolicy::journey(&journey, "salt", LIFE));
    let routes = weights.iter().map(|(name, weight)| Route {
        journey: Some(journey.clone()),
        salt: "salt".into(),
        sticky_on: Arc::clone(&sticky),
        weight: Weight::from_basis_points(*weight).unwrap(),
        lease: Some(Arc::clone(&policy)),
        ..samples::route(name, &format!("/{name}"))
    });
    Snapshot::new(samples::table(routes.collect()), &RuntimeState::default()).0
}

/// One request: decided by one replica that knows nothing but the snapshot, the keys and what the request brings.
fn ask(snapshot: &Snapshot, index: usize, headers: &[(&'static str, &str)], now_s: u64) -> (Decision, Option<String>) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let route = Arc::clone(&snapshot.table().routes()[index]);
    let path = format!("/{}", route.name);
    let facts = RequestFacts { method: &Method::GET, host: "shop", path: &path, query: "", headers: &map };
    let decision = decide(snapshot, index, &route, &facts, None, || *b"0123456789abcdef0123456789abcdef");
    let keys = keys();
    let signing = Signing { keys: &keys, now_s };
    let policy = route.lease.as_ref().unwrap();
    let journey = read(policy, &facts, signing).unwrap_or_default();
    let decision = keep(snapshot, index, &route, decision, Remembered { journey, form: None }, now_s);
    let cookie = decision.lease.as_ref().map(|lease| set_cookie(policy, lease, signing).unwrap());
    let cookie = cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned());
    (decision, cookie)
}

/// A browser: what it was told to keep, it brings along.
struct Browser {
    cookies: String,
    user: Option<String>,
    now_s: u64,
}

impl Browser {
    fn new(session: &str) -> Browser {
        Browser { cookies: format!("SHOPSID={session}"), user: None, now_s: BEGUN }
    }

    fn ask(&mut self, snapshot: &Snapshot, index: usize) -> Decision {
        let mut headers = vec![("cookie", self.cookies.as_str())];
        headers.extend(self.user.as_deref().map(|user| ("x-user-id", user)));
        let (decision, cookie) = ask(snapshot, index, &headers, self.now_s);
        if let Some(cookie) = cookie {
            let session = self.cookies.split("; ").next().unwrap();
            self.cookies = format!("{session}; {cookie}");
        }
        decision
    }
}

#[test]
fn a_lease_says_what_it_said_and_stays_small() {
    let keys = keys();
    let signing = Signing { keys: &keys, now_s: BEGUN };
    for held in [
        Held::Only(vec![]),
        Held::AllBut(vec![]),
        Held::Only(vec![0, 1, u32::MAX]),
        Held::AllBut((0..u32::MAX).rev().take(MARKS_MAX).collect()),
    ] {
        let lease = Lease { bucket: bucket(9_999), begun_s: BEGUN, held };
        let long = SigningKey { id: "k".repeat(16), secret: [1; 32] };
        let token = sign(&long, "scope", &lease);
        assert!(token.len() <= TOKEN_BYTES_MAX, "{}", token.len());
        let token = sign(&keys[1], "scope", &lease);
        assert_eq!(verify(signing, "scope", LIFE, &token), Ok(lease));
    }
}

#[test]
fn a_forged_expired_or_foreign_lease_is_none() {
    let keys = keys();
    let lease = Lease { bucket: bucket(7), begun_s: BEGUN, held: Held::Only(vec![5]) };
    let token = sign(&keys[0], "journey\ncheckout\ns", &lease);
    let check = |token: &str, scope: &str, now_s| verify(Signing { keys: &keys, now_s }, scope, LIFE, token);
    let own = "journey\ncheckout\ns";
    let end = BEGUN + LIFE.as_secs();
    assert_eq!(check(&token, own, end - 1), Ok(lease));
    assert_eq!(check(&token, own, end), Err(LeaseError::Expired));
    assert!(check(&token, own, BEGUN - SKEW_S).is_ok());
    assert_eq!(check(&token, own, BEGUN - SKEW_S - 1), Err(LeaseError::Expired));
    assert_eq!(check(&token, "journey\nother\ns", BEGUN), Err(LeaseError::BadSignature));
    assert_eq!(check(&token, "journey\ncheckout\nother salt", BEGUN), Err(LeaseError::BadSignature));
    assert_eq!(check(&token.replacen(".7.", ".8.", 1), own, BEGUN), Err(LeaseError::BadSignature));
    assert_eq!(check(&token.replacen("1.a.", "1.b.", 1), own, BEGUN), Err(LeaseError::BadSignature));
    assert_eq!(check(&token.replacen("1.a.", "1.c.", 1), own, BEGUN), Err(LeaseError::UnknownKey));
    let cut = token.rsplit_once('.').unwrap().0.to_owned();
    for bad in ["", "1", "2.a.0.0.o.x", &cut, &format!("{token}A"), &format!("{cut}."), &format!("{token}.x")] {
        assert!(check(bad, own, BEGUN).is_err(), "{bad}");
    }
    // An override is signed with the same keys and is no lease.
    let forced = crate::override_token::sign(&keys[0], "shop", "r", Side::Extracted, BEGUN);
    assert_eq!(check(&forced, own, BEGUN), Err(LeaseError::Malformed));
}

#[test]
fn of_two_cookies_of_a_name_the_first_one_counts() {
    let at = snapshot(&[("cart", 5_000)]);
    let (_, cookie) = ask(&at, 0, &[("cookie", "SHOPSID=x")], BEGUN);
    let good = cookie.unwrap();
    let lines = |first: &str, second: &str| format!("{first}; SHOPSID=x; {second}");
    let (leased, again) = ask(&at, 0, &[("cookie", &lines(&good, "strangler_lease_checkout=1.a.0.0.o.AA"))], BEGUN);
    assert_eq!((leased.reason, again), (Reason::Leased, None));
    let (plain, again) = ask(&at, 0, &[("cookie", &lines("strangler_lease_checkout=1.a.0.0.o.AA", &good))], BEGUN);
    assert_eq!(plain.reason, Reason::Weight);
    assert!(again.is_some(), "another lease begins");
    let huge = format!("strangler_lease_checkout={}", "x".repeat(4_096));
    assert_eq!(ask(&at, 0, &[("cookie", &lines(&huge, &good))], BEGUN).0.reason, Reason::Weight);
}

#[test]
fn nothing_is_set_where_nobody_can_be_moved() {
    assert!(ask(&snapshot(&[("cart", 10_000), ("pay", 10_000)]), 0, &[], BEGUN).1.is_none());
    assert!(ask(&snapshot(&[("cart", 10_000), ("pay", 9_999)]), 0, &[], BEGUN).1.is_some());
    assert!(ask(&snapshot(&[("cart", 0)]), 0, &[], BEGUN).1.is_some());
}

#[test]
fn where_extracted_owns_the_data_nobody_is_held_with_legacy() {
    let lease = Lease { bucket: bucket(7_000), begun_s: BEGUN, held: Held::AllBut(vec![]) };
    let mut route = samples::route("pay", "/pay");
    assert_eq!(lease.side_on(&route, Weight::ALL), Side::Legacy);
    route.data = Data::Extracted;
    assert_eq!(lease.side_on(&route, Weight::ALL), Side::Extracted);
}

#[test]
fn what_a_rollback_or_a_kill_broke_is_not_mended_by_the_next_promotion() {
    let at = |weight| snapshot(&[("cart", weight), ("pay", weight)]);
    let mut killed = at(10_000);
    killed.states[0].killed = true;
    for lowered in [at(0), killed] {
        let mut browser = Browser::new("x");
        let begin = at(9_999);
        assert_eq!(browser.ask(&begin, 0).side, Side::Extracted);
        let broken = browser.ask(&lowered, 0);
        assert_eq!(broken.side, Side::Legacy);
        assert!(matches!(broken.reason, Reason::Weight | Reason::Killed), "{broken:?}");
        let after = browser.ask(&begin, 0);
        assert_eq!((after.side, after.reason), (Side::Legacy, Reason::Leased));
        browser.now_s += LIFE.as_secs();
        assert_eq!(browser.ask(&begin, 0).side, Side::Extracted, "the next journey");
    }
}

fn weight() -> impl Strategy<Value = u16> {
    0u16..=10_000
}

proptest! {
    #[test]
    fn no_token_breaks_the_reader(token in "[1aob.A-Za-z0-9_-]{0,60}|\\PC{0,40}") {
        let keys = keys();
        let signing = Signing { keys: &keys, now_s: BEGUN };
        prop_assert!(verify(signing, "s", LIFE, &token).is_err());
    }

    #[test]
    fn neither_a_login_nor_promotions_move_anybody_within_a_journey(
        session in "[a-z0-9]{8}", user in "[a-z0-9]{8}",
        begin in proptest::collection::vec(weight(), 3),
        raises in proptest::collection::vec((proptest::collection::vec(weight(), 3), any::<bool>()), 1..5),
    ) {
        let names = ["cart", "pay", "done"];
        let table = |weights: &[u16]| {
            snapshot(&names.iter().copied().zip(weights.iter().copied()).collect::<Vec<_>>())
        };
        let mut browser = Browser::new(&session);
        let mut weights = begin;
        let first = table(&weights);
        let began: Vec<Side> = (0..3).map(|index| browser.ask(&first, index).side).collect();
        for (raise, logs_in) in raises {
            for (weight, raise) in weights.iter_mut().zip(raise) {
                *weight = (*weight).max(raise);
            }
            // The one begun at 100 % everywhere has no lease: nothing is above it, and nobody is moved by a login, either.
            browser.user = browser.user.take().or(logs_in.then(|| user.clone()));
            browser.now_s += 300;
            let now = table(&weights);
            for (index, side) in began.iter().enumerate() {
                prop_assert_eq!(browser.ask(&now, index).side, *side, "route {}", index);
            }
        }
        browser.now_s = BEGUN + LIFE.as_secs() + 1;
        let (fresh, now) = (Browser { cookies: format!("SHOPSID={session}"), user: browser.user.clone(), now_s: browser.now_s }, table(&weights));
        let mut fresh = fresh;
        for index in 0..3 {
            prop_assert_eq!(browser.ask(&now, index).side, fresh.ask(&now, index).side, "the next journey is dealt by the key");
        }
    }

    #[test]
    fn a_rollback_moves_exactly_those_above_it_and_at_once(session in "[a-z0-9]{8}", high in weight(), low in weight()) {
        let (low, high) = (low.min(high), low.max(high));
        let (before, after) = (snapshot(&[("cart", high)]), snapshot(&[("cart", low)]));
        let mut browser = Browser::new(&session);
        let began = browser.ask(&before, 0);
        let now = browser.ask(&after, 0);
        let is_above = began.bucket.unwrap().number() >= low;
        prop_assert_eq!(now.side, if is_above { Side::Legacy } else { began.side });
        prop_assert_eq!(browser.ask(&before, 0).side, now.side, "and what comes up again waits for the next journey");
    }

    #[test]
    fn replicas_that_share_nothing_but_keys_agree(
        session in "[a-z0-9]{8}", begin in weight(), later in proptest::collection::vec(weight(), 1..6),
    ) {
        // Each replica is a snapshot and the keys, made anew; the browser goes to another one at every request.
        let (mut one, mut two) = (Browser::new(&session), Browser::new(&session));
        one.ask(&snapshot(&[("cart", begin)]), 0);
        two.ask(&snapshot(&[("cart", begin)]), 0);
        for weight in later {
            let (a, b) = (one.ask(&snapshot(&[("cart", weight)]), 0), two.ask(&snapshot(&[("cart", weight)]), 0));
            prop_assert_eq!((a.side, a.bucket, a.reason), (b.side, b.bucket, b.reason));
            prop_assert_eq!(&one.cookies, &two.cookies);
            let other_way = two.ask(&snapshot(&[("cart", weight)]), 0);
            prop_assert_eq!(other_way.side, a.side);
        }
    }

    #[test]
    fn a_killed_route_is_legacys_whatever_a_lease_says(session in "[a-z0-9]{8}", begin in weight()) {
        let mut browser = Browser::new(&session);
        browser.ask(&snapshot(&[("cart", begin)]), 0);
        let mut killed = snapshot(&[("cart", begin)]);
        killed.states[0].killed = true;
        let decision = browser.ask(&killed, 0);
        prop_assert_eq!((decision.side, decision.reason), (Side::Legacy, Reason::Killed));
    }
}
