use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::route::{
    Balance, ComparePolicy, Conditions, Endpoint, HeaderEdits, HostPattern, HostPolicy, Retry, Scheme, StatusSet,
    Timeouts, Tls, Upstream,
};
use crate::template::{PathPattern, PathTemplate};

pub(crate) fn route(shadow: Option<ShadowPolicy>) -> Route {
    let extracted = Upstream {
        name: "pricing".parse().expect("a name"),
        endpoints: vec![Endpoint { scheme: Scheme::Http, host: "127.0.0.1".into(), port: 1 }],
        host: HostPolicy::Preserve,
        balance: Balance::RoundRobin,
        timeouts: Timeouts::default(),
        max_connections: 1,
        max_in_flight: 1,
        fallback_share: Weight::NONE,
        retry: Retry::default(),
        health_check: None,
        outlier_detection: None,
        tls: Tls::default(),
        own_names: crate::rewrite::OwnNames::default(),
    };
    Route {
        name: "cart-total".parse().expect("a name"),
        owner: None,
        journey: None,
        salt: "cart-total".into(),
        sticky_on: Arc::new([]),
        conditions: Conditions {
            host: HostPattern::Any,
            path: PathPattern::Template(PathTemplate::parse("/carts/{id}/total").expect("a template")),
            methods: vec![Method::GET],
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
        },
        extracted: Arc::new(extracted),
        rewrite: None,
        upgrades: Vec::new(),
        rate_limit: None,
        data: Data::Legacy,
        weight: Weight::NONE,
        deadline: Some(Duration::from_secs(60)),
        override_header: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        fallback: None,
        breaker: None,
        success: StatusSet::default(),
        max_body: 0,
        shadow,
        compare: Some(Arc::new(ComparePolicy::default())),
        locate: None,
        lease: None,
        form: None,
        rollout: None,
        release_header: None,
        idempotency: None,
    }
}

fn asked<'a>(method: &'a Method, path: &'a str) -> Asked<'a> {
    Asked {
        method,
        path,
        answered_by: Side::Legacy,
        is_forced: false,
        is_marked: false,
        is_upgrade: false,
        body_bytes: Some(0),
        has_idempotency_key: false,
        key: b"user-1",
    }
}

#[test]
fn only_what_may_be_sent_twice_is_copied() {
    let policy =
        ShadowPolicy { never: vec!["/logout".into(), "/auth/**".into(), "/a/*/c".into()], ..Default::default() };
    let route = route(Some(policy));
    let get = asked(&Method::GET, "/carts/1/total");
    let plan = plan_shadow(&route, &get).expect("copied");
    assert_eq!((plan.target, plan.kept_bytes_max), (Side::Extracted, (1 << 20) + 1));
    for (refused, why) in [
        (Asked { is_marked: true, ..get }, Refusal::Marked),
        (Asked { is_forced: true, ..get }, Refusal::Forced),
        (Asked { is_upgrade: true, ..get }, Refusal::Upgrade),
        (Asked { body_bytes: Some(65_537), ..get }, Refusal::BodyTooLarge),
        (asked(&Method::POST, "/x"), Refusal::Unsafe),
        (asked(&Method::DELETE, "/x"), Refusal::Unsafe),
        (asked(&Method::TRACE, "/x"), Refusal::Unsafe),
        (asked(&Method::OPTIONS, "/x"), Refusal::MethodNotListed),
        (asked(&Method::GET, "/logout"), Refusal::Never),
        (asked(&Method::GET, "/logout/"), Refusal::Never),
        (asked(&Method::GET, "/auth"), Refusal::Never),
        (asked(&Method::HEAD, "/auth/otp/1"), Refusal::Never),
        (asked(&Method::GET, "/a/b/c"), Refusal::Never),
    ] {
        assert_eq!(plan_shadow(&route, &refused), Err(why), "{refused:?}");
    }
    for copied in ["/logouts", "/x/logout", "/logout/x", "/a/b/c/d", "/a/c"] {
        assert!(plan_shadow(&route, &asked(&Method::GET, copied)).is_ok(), "{copied}");
    }
    assert_eq!(plan_shadow(&self::route(None), &get), Err(Refusal::Off));
}

#[test]
fn the_copy_goes_to_the_side_that_does_not_answer() {
    let route = route(Some(ShadowPolicy::default()));
    let asked = Asked { answered_by: Side::Extracted, ..asked(&Method::GET, "/") };
    assert_eq!(plan_shadow(&route, &asked).map(|plan| plan.target), Ok(Side::Legacy));
}

#[test]
fn the_sample_is_drawn_with_a_salt_of_its_own() {
    let half = Weight::from_basis_points(5_000).expect("a weight");
    let route = route(Some(ShadowPolicy { sample: half, ..Default::default() }));
    let (mut both, mut sampled) = (0, 0);
    for caller in 0..4_000 {
        let key = format!("user-{caller}");
        let is_sampled = plan_shadow(&route, &Asked { key: key.as_bytes(), ..asked(&Method::GET, "/") }).is_ok();
        let joined = format!("cart-total\0shadow\0{key}");
        assert_eq!(is_sampled, xxhash_rust::xxh3::xxh3_64(joined.as_bytes()) % 10_000 < 5_000);
        sampled += i32::from(is_sampled);
        both += i32::from(is_sampled && Bucket::of(&route.salt, key.as_bytes()).number() < 5_000);
    }
    assert!((1_800..2_200).contains(&sampled), "{sampled}");
    assert!((850..1_150).contains(&both), "{both}");
}

#[test]
fn legacy_is_a_baseline_only_while_it_sees_what_extracted_writes() {
    let stale = |data, methods: &[Method]| {
        let mut route = route(None);
        route.data = data;
        route.conditions.methods = methods.to_vec();
        is_baseline_stale(&route, Side::Extracted)
    };
    assert!(!stale(Data::Shared, &[]) && !stale(Data::Synced, &[]));
    assert!(!stale(Data::Legacy, &[Method::GET, Method::HEAD]));
    assert!(stale(Data::Legacy, &[]) && stale(Data::Legacy, &[Method::GET, Method::POST]));
    assert!(stale(Data::Extracted, &[Method::GET]));
    assert!(!is_baseline_stale(&route(None), Side::Legacy));
}

#[test]
fn a_copy_is_marked_linked_and_unconditional() {
    let mut forwarded = HeaderMap::new();
    for (name, value) in [
        ("host", "shop"),
        ("accept", "application/json"),
        ("cookie", "SHOPSID=1"),
        ("if-none-match", "\"a\""),
        ("if-modified-since", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("range", "bytes=0-1"),
        ("if-range", "\"a\""),
        ("idempotency-key", "k"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=b"),
    ] {
        forwarded.append(name, value.parse().expect("a value"));
    }
    let own = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";

    let copy = copy_headers(forwarded.clone(), HeaderValue::from_static(own), Manner::Plain);

    let mut left: Vec<String> =
        copy.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
    left.sort();
    let expect = [
        "accept: application/json",
        "cookie: SHOPSID=1",
        "host: shop",
        "strangler-linked-trace: 0af7651916cd43dd8448eb211c80319c",
        "strangler-shadow: 1",
        &format!("traceparent: {own}"),
    ];
    assert_eq!(left, expect);
}

proptest! {
    #[test]
    fn no_trace_header_breaks_the_copy(text in "[ -~]{0,60}") {
        let value = HeaderValue::from_str(&text).expect("printable");
        let mut forwarded = HeaderMap::new();
        forwarded.insert("traceparent", value.clone());
        prop_assert_eq!(copy_headers(forwarded.clone(), HeaderValue::from_static("x"), Manner::Plain).contains_key(&LINKED_TRACE), trace_id(&value).is_some());
    }

    #[test]
    fn a_larger_sample_leaves_nobody_out(caller: [u8; 8], a in 0u16..=10_000, b in 0u16..=10_000) {
        let is_in = |points| {
            let sample = Weight::from_basis_points(points).expect("in range");
            let route = route(Some(ShadowPolicy { sample, ..Default::default() }));
            plan_shadow(&route, &Asked { key: &caller, ..asked(&Method::GET, "/") }).is_ok()
        };
        prop_assert!(!is_in(a.min(b)) || is_in(a.max(b)));
    }
}

#[test]
fn what_may_have_side_effects_goes_only_where_it_does_no_harm() {
    let manner = |unsafe_requests: UnsafeShadow, upstream: bool, answered_by| {
        let mut route = route(None);
        let upstream = upstream.then(|| Arc::clone(&route.extracted));
        route.shadow = Some(ShadowPolicy { unsafe_requests, upstream, ..ShadowPolicy::default() });
        plan_shadow(&route, &Asked { answered_by, ..asked(&Method::PUT, "/carts/7/total") })
            .map(|plan| (plan.manner, plan.target, plan.may_repeat))
    };
    let (legacy, extracted) = (Side::Legacy, Side::Extracted);
    let read = || UnsafeShadow::VerifyRead("/carts/{json:/id}".parse().expect("a template"));
    assert_eq!(manner(UnsafeShadow::Refuse, true, legacy), Err(Refusal::Unsafe));
    assert_eq!(manner(UnsafeShadow::Sandbox, true, legacy), Ok((Manner::Sandbox, extracted, false)));
    assert_eq!(manner(UnsafeShadow::DryRun, false, legacy), Ok((Manner::DryRun, extracted, false)));
    // Legacy's store is never written twice, whatever is configured.
    assert_eq!(manner(UnsafeShadow::Sandbox, true, extracted), Err(Refusal::Unsafe));
    assert_eq!(manner(UnsafeShadow::DryRun, true, extracted), Err(Refusal::Unsafe));
    // A sandbox that is nowhere is none.
    assert_eq!(manner(UnsafeShadow::Sandbox, false, legacy), Err(Refusal::Unsafe));
    assert_eq!(manner(read(), false, extracted), Ok((Manner::VerifyRead, legacy, false)));
}

#[test]
fn a_post_that_reads_is_copied_and_is_no_write() {
    let post = |path: &str, graphql| SafePost { path: path.into(), graphql };
    let policy = ShadowPolicy {
        safe_posts: vec![post("/search/**", false), post("/graphql", true)],
        never: vec!["/search/audit".into()],
        ..ShadowPolicy::default()
    };
    let route = route(Some(policy));
    let manner = |method: &Method, path: &str| plan_shadow(&route, &asked(method, path)).map(|plan| plan.manner);
    assert_eq!(manner(&Method::POST, "/search/carts"), Ok(Manner::Plain));
    assert_eq!(manner(&Method::POST, "/graphql"), Ok(Manner::GraphqlQuery));
    assert_eq!(manner(&Method::POST, "/search/audit"), Err(Refusal::Never));
    assert_eq!(manner(&Method::POST, "/other"), Err(Refusal::Unsafe));
    assert_eq!(manner(&Method::PUT, "/search/carts"), Err(Refusal::Unsafe));
    assert!(!is_write(Some(&route), &Method::POST, "/search/carts") && !is_write(Some(&route), &Method::GET, "/x"));
    assert!(is_write(Some(&route), &Method::PUT, "/search/carts") && is_write(None, &Method::POST, "/search/carts"));
}

#[test]
fn a_request_whose_repetition_proves_nothing_is_copied_and_not_asked_again() {
    let route = route(Some(ShadowPolicy::default()));
    let get = asked(&Method::GET, "/");
    assert!(plan_shadow(&route, &get).is_ok_and(|plan| plan.may_repeat));
    assert!(plan_shadow(&route, &Asked { has_idempotency_key: true, ..get }).is_ok_and(|plan| !plan.may_repeat));
}

#[test]
fn a_write_is_read_back_only_where_both_sides_must_know_of_it() {
    let alike = |data: Data| [Side::Legacy, Side::Extracted].map(|side| data.is_read_back_alike(side));
    assert_eq!(alike(Data::Legacy), [true, false]);
    assert_eq!([alike(Data::Shared), alike(Data::Synced)], [[true, true]; 2]);
    assert_eq!(alike(Data::Extracted), [false, false]);
}
