//! Journeys: whoever logs in and whatever is promoted, a user stays where it began; a rollback moves them at once.

use std::collections::BTreeMap;

use http::Method;
use strangler_core::split::Bucket;

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::proxy::{Answer, Plan, Proxy};

fn routes(legacy: &Backend, extracted: &Backend, weight: &str) -> String {
    format!(
        "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: [\"{}\"]}}}}\n\
         journeys: {{checkout: {{sticky_on: [\"header:x-user-id\", \"cookie:SHOPSID\"], salt: s}}}}\n\
         routes:\n  - {{name: cart, journey: checkout, match: '/cart', extracted: extracted, weight: {weight}}}\n\
         \x20 - {{name: pay, journey: checkout, match: '/pay', extracted: extracted, weight: {weight}}}\n",
        legacy.url(),
        extracted.url()
    )
}

/// A key whose bucket lies between `from` and `to`.
fn key_in(prefix: &str, from: u16, to: u16) -> String {
    let mut keys = (0..).map(|number| format!("{prefix}{number}"));
    keys.find(|key| (from..to).contains(&Bucket::of("s", key.as_bytes()).number())).unwrap()
}

async fn move_to(proxies: &[&Proxy], legacy: &Backend, extracted: &Backend, weight: &str) {
    let ratio = weight.trim_end_matches('%').parse::<f64>().unwrap() / 100.0;
    for proxy in proxies {
        proxy.write_routes(&routes(legacy, extracted, weight));
        let until = std::time::Instant::now() + crate::support::proxy::PATIENCE;
        while (proxy.metric(r#"strangler_route_weight_ratio{route="pay"}"#).await - ratio).abs() > 1e-9 {
            assert!(std::time::Instant::now() < until, "the weight never became {weight}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Two replicas that share their keys and nothing else.
async fn replicas(legacy: &Backend, extracted: &Backend, weight: &str) -> [Proxy; 2] {
    let one = Plan::file(&routes(legacy, extracted, weight)).start().await;
    let keys = one.state_dir().join("keys");
    let two = Plan::file(&routes(legacy, extracted, weight)).argument("--keys-file").argument(keys.to_str().unwrap());
    let two = two.start().await;
    [one, two]
}

#[tokio::test]
async fn neither_a_login_nor_a_promotion_moves_a_user_within_a_journey_and_a_rollback_does_on_every_replica() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let [one, two] = replicas(&legacy, &extracted, "20%").await;
    // Two visitors whose logins would change their sides.
    let mut inside = Browser::with_cookie(&format!("SHOPSID={}", key_in("in", 1_000, 2_000)));
    let mut outside = Browser::with_cookie(&format!("SHOPSID={}", key_in("out", 3_000, 4_000)));
    assert_eq!(inside.get(&one, "/cart").await.body, "extracted");
    assert_eq!(outside.get(&two, "/cart").await.body, "legacy");

    inside.headers.push(("x-user-id", key_in("user", 9_000, 10_000)));
    outside.headers.push(("x-user-id", key_in("user", 0, 500)));
    for proxy in [&two, &one] {
        assert_eq!(inside.get(proxy, "/pay").await.body, "extracted", "after a login");
        assert_eq!(outside.get(proxy, "/pay").await.body, "legacy", "after a login");
    }
    move_to(&[&one, &two], &legacy, &extracted, "50%").await;
    for proxy in [&two, &one] {
        assert_eq!(inside.get(proxy, "/pay").await.body, "extracted", "after a promotion");
        assert_eq!(outside.get(proxy, "/pay").await.body, "legacy", "after a promotion");
    }
    let mut fresh = Browser::with_cookie("SHOPSID=x");
    fresh.headers = outside.headers.clone();
    assert_eq!(fresh.get(&one, "/pay").await.body, "extracted", "another journey of the same user");

    move_to(&[&one, &two], &legacy, &extracted, "5%").await;
    assert_eq!(inside.get(&two, "/cart").await.body, "legacy", "after a rollback");
    move_to(&[&one, &two], &legacy, &extracted, "50%").await;
    assert_eq!(inside.get(&one, "/cart").await.body, "legacy", "what was broken is not mended");
    assert!(one.count(r#"strangler_decisions_total{reason="leased",route="pay",side="extracted"}"#).await > 0);
    assert_eq!(one.count(r#"strangler_rejected_total{reason="bad_lease"}"#).await, 0);

    let killed = one.admin(Method::POST, "/api/v1/routes/pay/kill", r#"{"reason": "test"}"#).await;
    assert_eq!(killed.status, 200, "{}", killed.body);
    assert_eq!(fresh.get(&one, "/pay").await.body, "legacy", "after a kill");
}

#[tokio::test]
async fn with_leases_nobody_changes_sides_within_a_journey_at_a_promotion_and_a_rollback_is_exact() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxies = replicas(&legacy, &extracted, "10%").await;
    let all: Vec<&Proxy> = proxies.iter().collect();
    let mut users: BTreeMap<u16, Browser> = BTreeMap::new();
    for number in 0..200 {
        let session = format!("s{number}");
        let bucket = Bucket::of("s", session.as_bytes()).number();
        users.insert(bucket, Browser::with_cookie(&format!("SHOPSID={session}")));
    }
    let mut began: BTreeMap<u16, String> = BTreeMap::new();
    for (at, (bucket, user)) in users.iter_mut().enumerate() {
        began.insert(*bucket, user.get(all[at % 2], "/cart").await.body);
    }
    for weight in ["25%", "100%"] {
        move_to(&all, &legacy, &extracted, weight).await;
        for (at, (bucket, user)) in users.iter_mut().enumerate() {
            assert_eq!(user.get(all[(at + 1) % 2], "/pay").await.body, began[bucket], "{bucket} at {weight}");
        }
    }
    move_to(&all, &legacy, &extracted, "3%").await;
    for (at, (bucket, user)) in users.iter_mut().enumerate() {
        let expect = if *bucket < 300 { "extracted" } else { "legacy" };
        assert_eq!(user.get(all[at % 2], "/pay").await.body, expect, "{bucket}");
    }
}

#[tokio::test]
async fn a_lease_that_is_forged_or_of_another_journey_is_not_there_and_counted() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Plan::file(&routes(&legacy, &extracted, "50%")).start().await;
    let mut browser = Browser::with_cookie(&format!("SHOPSID={}", key_in("in", 0, 1_000)));
    let first = browser.get(&proxy, "/cart").await;
    let lease = lease_of(&first).unwrap();
    assert!(lease.len() < 200 && lease.contains("; Path=/; Max-Age=1800; HttpOnly; SameSite=Lax"), "{lease}");
    assert_eq!(first.header("cache-control"), Some("private"));
    assert_eq!(lease_of(&browser.get(&proxy, "/cart").await), None, "once");

    let value = lease.split(';').next().unwrap().to_owned();
    let session = format!("SHOPSID={}", key_in("out", 9_000, 10_000));
    let turned = value.replacen(".o", ".a", 1);
    let other = value.replacen("strangler_lease_checkout", "strangler_lease_other", 1);
    for (cookie, expect, counted) in [(&value, "extracted", 0), (&turned, "legacy", 1), (&other, "legacy", 1)] {
        let cookies = format!("{session}; {cookie}");
        let answer = proxy.send(Method::GET, "/cart", &[("cookie", &cookies)], "").await;
        assert_eq!(answer.body, expect, "{cookie}");
        assert_eq!(proxy.count(r#"strangler_rejected_total{reason="bad_lease"}"#).await, counted, "{cookie}");
    }
    let asked = format!(r#"{{"method": "GET", "url": "/cart", "headers": ["cookie: {session}; {value}"]}}"#);
    let explained = proxy.admin(Method::POST, "/api/v1/explain", &asked).await.body;
    assert!(
        explained.contains(r#""reason":"leased""#) && explained.contains("where its journey began by"),
        "{explained}"
    );
}

#[tokio::test]
async fn a_lease_is_not_set_on_what_shared_caches_may_keep() {
    let answering = |control: Option<&'static str>| {
        Backend::with(move |_| {
            let mut answer = http::Response::new(bytes::Bytes::from_static(b"x"));
            if let Some(control) = control {
                answer.headers_mut().insert("cache-control", http::HeaderValue::from_static(control));
            }
            answer
        })
    };
    for (control, is_set) in
        [(None, false), (Some("public, max-age=60"), false), (Some("private"), true), (Some("no-store"), true)]
    {
        let backend = answering(control).await;
        let proxy = Plan::file(&routes(&backend, &backend, "0%")).start().await;
        let answer = proxy.get("/cart").await;
        assert_eq!(lease_of(&answer).is_some(), is_set, "{control:?}");
        assert_eq!(answer.header("cache-control"), control, "an answer of a route that is not split is left as it is");
        assert!(lease_of(&proxy.post("/cart", "x").await).is_some(), "no cache keeps the answer to a POST");
    }
}

#[tokio::test]
async fn routes_that_move_together_are_not_moved_apart() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let text = routes(&legacy, &extracted, "20%").replace("salt: s}", "salt: s, together: true}");
    let proxy = Plan::file(&text).start().await;
    let weigh = async |weight: &str| {
        let body = format!(r#"{{"weight": "{weight}", "reason": "test"}}"#);
        proxy.admin(Method::POST, "/api/v1/routes/cart/weight", &body).await
    };
    for weight in ["50%", "10%", "0%"] {
        let refused = weigh(weight).await;
        assert!(
            refused.status >= 400 && refused.body.contains("together"),
            "{weight}: {} {}",
            refused.status,
            refused.body
        );
    }
    assert_eq!(weigh("file").await.status, 200);
    let killed = proxy.admin(Method::POST, "/api/v1/routes/cart/kill", r#"{"reason": "test"}"#).await;
    assert_eq!(killed.status, 200, "an emergency is never refused");
}

fn lease_of(answer: &Answer) -> Option<String> {
    let all = answer.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    let mut own = all.filter(|value| value.starts_with("strangler_lease_"));
    own.next().map(str::to_owned)
}

#[tokio::test]
async fn a_lease_is_for_tls_only_where_the_client_came_by_tls() {
    let backend = Backend::answering(200, "x").await;
    let plan = Plan::file(&routes(&backend, &backend, "50%")).argument("--trusted-proxies").argument("127.0.0.1/32");
    let proxy = plan.start().await;
    for (scheme, is_secure) in [("https", true), ("http", false)] {
        let answer = proxy.send(Method::GET, "/cart", &[("x-forwarded-proto", scheme)], "").await;
        assert_eq!(lease_of(&answer).unwrap().ends_with("; Secure"), is_secure, "{scheme}");
    }
}
