use super::*;
use crate::fixture::{route, table};
use crate::name::RouteName;
use crate::route::{Data, KeySource, ShadowPolicy, TextCondition};
use crate::runtime::{KillScope, KillSource, Note, RuntimeState};

fn shop() -> Snapshot {
    let mut cart = route("cart-total", "/cart/{id}/total", "5%");
    cart.sticky_on = Arc::from([KeySource::Header(HeaderName::from_static("x-user-id"))]);
    cart.shadow = Some(ShadowPolicy::default());
    let mut beta = route("beta", "/cart/{id}/total", "0%");
    beta.conditions.cookies.push(("beta".into(), TextCondition::Exact("1".into())));
    let mut pay = route("pay", "/pay", "100%");
    pay.conditions.methods = vec![Method::POST];
    pay.data = Data::Extracted;
    let far = (0..20).map(|n| route(&format!("far-{n}"), &format!("/far/{n}"), "0%"));
    Snapshot::new(table([cart, beta, pay].into_iter().chain(far).collect()), &RuntimeState::default()).0
}

fn ask(snapshot: &Snapshot, method: &str, url: &str, headers: &[&str]) -> Explanation {
    explain(snapshot, &Asked::parse(method, url, headers.iter().copied()).unwrap().facts())
}

#[test]
fn a_key_leads_to_a_bucket_and_a_side() {
    let answer = ask(&shop(), "GET", "http://Shop.example.com:8080/cart/7/total", &["X-User-Id: user-1"]);
    assert_eq!(answer.host, "shop.example.com");
    assert_eq!(answer.route.as_deref(), Some("cart-total"));
    assert_eq!((answer.key.as_deref(), answer.bucket), (Some("header:x-user-id"), Some(2439)));
    assert_eq!((answer.side, answer.reason), ("legacy", "weight"));
    assert_eq!(answer.because, "bucket 2439 does not lie below 500 (5%)");
    assert_eq!(answer.shadow, "a copy goes to extracted");
    assert_eq!(answer.others.len(), OTHERS_MAX);
    assert_eq!(answer.others_left_out, 12);
    assert_eq!(answer.others[0].why_not, "cookie: its condition on `beta` does not hold");
}

#[test]
fn without_a_key_the_side_is_chance() {
    let answer = ask(&shop(), "get", "/cart/7/total", &[]);
    assert_eq!((answer.side, answer.bucket), ("by chance", None));
    assert_eq!(answer.upstream, "extracted or monolith");
    assert_eq!(answer.shadow, "a copy goes to the side that does not answer");
    assert_eq!(answer.key.as_deref(), Some("none: the request has no header:x-user-id"));
}

#[test]
fn why_there_is_no_copy_is_said() {
    let mut cart = route("cart", "/cart/{id}", "5%");
    cart.conditions.methods.clear();
    cart.shadow = Some(ShadowPolicy {
        sample: "25%".parse().unwrap(),
        never: vec!["/cart/logout".into()],
        ..ShadowPolicy::default()
    });
    let snapshot = Snapshot::new(table(vec![cart]), &RuntimeState::default()).0;
    for (method, path, expect) in [
        ("GET", "/cart/7", "by chance: a copy goes to the side that does not answer for 25% of such callers"),
        ("POST", "/cart/7", "none: a POST may have side effects"),
        ("OPTIONS", "/cart/7", "none: OPTIONS is not among the methods that are copied"),
        ("GET", "/cart/logout", "none: the path stands under `never`"),
    ] {
        assert_eq!(ask(&snapshot, method, path, &[]).shadow, expect);
    }
}

#[test]
fn the_nearest_misses_come_first() {
    let answer = ask(&shop(), "GET", "/pay", &[]);
    assert_eq!((answer.route, answer.reason), (None, "fallthrough"));
    assert_eq!(answer.others[0], OtherRoute { route: "pay".to_owned(), why_not: "method: it is for POST".to_owned() });
    let answer = ask(&shop(), "GET", "/far/99", &[]);
    assert_eq!(answer.others[0].why_not, "path: it is for /far/0");
}

#[test]
fn a_kill_is_named_with_its_reason() {
    let snapshot = shop();
    let note = Note::new("ops", 0, "incident 7").unwrap();
    let scope = KillScope::Route("cart-total".parse::<RouteName>().unwrap());
    let state = snapshot.runtime().with_kill(snapshot.table(), scope, KillSource::Api, false, note).unwrap().0;
    let answer = ask(&snapshot.with_runtime(&state), "GET", "/cart/7/total", &["x-user-id: user-1"]);
    assert_eq!((answer.side, answer.reason, answer.stage), ("legacy", "killed", Some("killed")));
    assert_eq!(answer.because, "`cart-total` is killed since 1970-01-01T00:00:00Z by ops because incident 7");
}

#[test]
fn nothing_falls_back_to_a_legacy_that_does_not_know() {
    let answer = ask(&shop(), "POST", "/pay", &[]);
    assert_eq!((answer.side, answer.upstream.as_str()), ("extracted", "extracted"));
    assert!(answer.fallback.starts_with("none: the extracted service owns the data"));
}

#[test]
fn a_question_that_makes_no_sense_is_refused() {
    let parse = |method, url, lines: &[&str]| Asked::parse(method, url, lines.iter().copied()).map(drop);
    assert!(matches!(parse("GE T", "/", &[]), Err(AskError::Method(_))));
    assert!(matches!(parse("GET", "shop.example.com", &[]), Err(AskError::Url(_))));
    assert!(matches!(parse("GET", "/a/../b", &[]), Err(AskError::Path { .. })));
    assert!(matches!(parse("GET", "/", &["nonsense"]), Err(AskError::Header(_))));
    assert_eq!(parse("GET", "/", &["a: b"; 101]), Err(AskError::TooManyHeaders));
}

#[test]
fn what_keeps_a_user_on_a_side_is_said() {
    use crate::lease::{Lease, set_cookie};
    use crate::route::{IdempotencyPolicy, LeasePolicy, OnKill};
    use crate::signing::SigningKey;

    let mut cart = route("cart", "/cart", "50%");
    cart.sticky_on = Arc::from([KeySource::Header(HeaderName::from_static("x-user-id"))]);
    let life = std::time::Duration::from_mins(30);
    let policy = Arc::new(LeasePolicy::journey(&"checkout".parse().unwrap(), "s", life));
    cart.lease = Some(Arc::clone(&policy));
    let header = HeaderName::from_static("idempotency-key");
    cart.idempotency = Some(IdempotencyPolicy { header, on_kill: OnKill::Refuse });
    let snapshot = Snapshot::new(table(vec![cart]), &RuntimeState::default()).0;
    let keys = [SigningKey { id: "k1".to_owned(), secret: [1; 32] }];
    let signing = Signing { keys: &keys, now_s: 1_763_700_000 };
    // The key's own bucket is extracted's; the journey began on legacy.
    let lease = Lease::of_side(Side::Legacy, crate::split::Bucket::from_number(7_000).unwrap(), signing.now_s - 60);
    let cookie = set_cookie(&policy, &lease, signing).unwrap();
    let line = format!("cookie: {}", cookie.split(';').next().unwrap());
    let ask = |lines: &[&str], signing| {
        explain_with(&snapshot, &Asked::parse("GET", "/cart", lines.iter().copied()).unwrap().facts(), signing)
    };
    let user = "x-user-id: 42";

    let kept = ask(&[user, &line], signing);
    assert_eq!((kept.side, kept.reason, kept.bucket), ("legacy", "leased", Some(7_000)));
    assert_eq!(kept.because, "its lease keeps it there (bucket 7000, 50%)");
    let said = kept.kept.unwrap();
    assert!(said.starts_with("where its journey began by cookie:strangler_lease_checkout, from 2025-11-21T"), "{said}");
    assert!(said.ends_with("; where the same value of header:idempotency-key was seen first"), "{said}");

    let forged = ask(&[user, &line.replace(".a.", ".o.")], signing);
    assert_eq!(forged.reason, "weight");
    assert!(forged.kept.unwrap().contains("which is not believed: "));
    let unknown = ask(&[user, &line], Signing { keys: &[], now_s: 0 });
    assert!(unknown.kept.unwrap().contains("which only a running proxy can verify"));
    assert!(ask(&[user], signing).kept.unwrap().contains("which the request does not have"));
}

#[test]
fn a_host_is_read_as_a_requests_is() {
    for (url, lines, host) in [
        ("http://Shop.Example.com.:8080/x", &[][..], "shop.example.com"),
        ("http://a/x", &["Host: shop.example.com"], "shop.example.com"),
        ("/x", &["host: [::1]:80"], "[::1]"),
        ("/x", &[], ""),
    ] {
        let asked = Asked::parse("GET", url, lines.iter().copied()).unwrap();
        assert_eq!(asked.facts().host, host, "{url} {lines:?}");
    }
}
