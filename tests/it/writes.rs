//! Requests with side effects beside a shadow: who is left alone for a while after one, where its copy may go, and how it is read back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};

use crate::support::backend::Backend;
use crate::support::proxy::{Plan, Proxy};

fn json(body: String) -> Response<Bytes> {
    Response::builder().header("content-type", "application/json").body(Bytes::from(body)).unwrap()
}

fn results(result: &str) -> String {
    format!(r#"strangler_comparisons_total{{result="{result}",route="orders"}}"#)
}

const JOURNEYS: &str = "journeys:\n  shop: {sticky_on: ['header:x-user-id']}\n";

/// A routes file with a third upstream.
fn plan(legacy: &Backend, extracted: &Backend, sandbox: &Backend, route: &str) -> Plan {
    Plan::file(&format!(
        "version: 1\nupstreams:\n  monolith: {{endpoints: [\"{}\"]}}\n  extracted: {{endpoints: [\"{}\"]}}\n  \
         sandbox: {{endpoints: [\"{}\"]}}\nlegacy: monolith\n{JOURNEYS}routes:\n  - {route}\n",
        legacy.url(),
        extracted.url(),
        sandbox.url()
    ))
}

#[tokio::test]
async fn after_a_write_its_callers_answers_say_nothing_for_a_while() {
    let legacy = Backend::with(|_| json(r#"{"a": 1}"#.to_owned())).await;
    let extracted = Backend::with(|_| json(r#"{"a": 2}"#.to_owned())).await;
    let route = "{name: orders, match: 'GET /orders/{id}', extracted: extracted, journey: shop, weight: 0%, \
                 shadow: {max_rps: 10000, upstream: sandbox}, compare: {settle: 1s, a_a: {mode: never}, recheck: {times: 0}}}";
    let proxy = plan(&legacy, &extracted, &extracted, route).start().await;
    let as_user = |user: &'static str| [("x-user-id", user)];

    // On a path that no route covers.
    proxy.send(Method::POST, "/elsewhere", &as_user("ada"), "x").await;
    proxy.send(Method::GET, "/orders/1", &as_user("ada"), "").await;
    proxy.wait_for_metric(&results("not_comparable"), 1.0).await;
    proxy.send(Method::GET, "/orders/1", &as_user("bob"), "").await;
    proxy.wait_for_metric(&results("mismatch"), 1.0).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    proxy.send(Method::GET, "/orders/1", &as_user("ada"), "").await;

    proxy.wait_for_metric(&results("mismatch"), 2.0).await;
    assert_eq!(proxy.count(&results("not_comparable")).await, 1);
}

#[tokio::test]
async fn a_write_goes_to_the_sandbox_once_and_never_to_a_side() {
    let legacy = Backend::with(|_| json(r#"{"status": "PAID"}"#.to_owned())).await;
    let extracted = Backend::with(|_| json("{}".to_owned())).await;
    let sandbox = Backend::with(|_| json(r#"{"status": "CONFIRMED"}"#.to_owned())).await;
    let route = |weight: &str| {
        format!(
            "{{name: orders, match: '/orders', extracted: extracted, weight: {weight}, data: shared, \
             shadow: {{max_rps: 10000, unsafe: sandbox, upstream: sandbox}}, compare: true}}"
        )
    };
    let proxy = plan(&legacy, &extracted, &sandbox, &route("0%")).start().await;
    proxy.send(Method::POST, "/orders", &[("idempotency-key", "k1"), ("content-type", "application/json")], "{}").await;
    proxy.wait_for_metric(&results("mismatch"), 1.0).await;

    assert_eq!((legacy.seen().len(), extracted.seen().len(), sandbox.seen().len()), (1, 0, 1));
    let copy = &sandbox.seen()[0];
    assert_eq!((copy.method.as_str(), &copy.body[..]), ("POST", &b"{}"[..]));
    assert_eq!(
        (&copy.headers["strangler-shadow"], &copy.headers["idempotency-key"]),
        (&"1".parse().unwrap(), &"k1".parse().unwrap())
    );

    // Answered by extracted there is nowhere to copy it to.
    let canary = plan(&legacy, &extracted, &sandbox, &route("100%")).start().await;
    canary.send(Method::POST, "/orders", &[], "{}").await;
    canary.wait_for_metric(r#"strangler_shadow_total{outcome="refused_unsafe",route="orders"}"#, 1.0).await;
    assert_eq!((legacy.seen().len(), extracted.seen().len(), sandbox.seen().len()), (1, 1, 1));
}

#[tokio::test]
async fn a_dry_run_says_so_and_is_never_sent_to_legacy() {
    let legacy = Backend::with(|_| json("{}".to_owned())).await;
    let extracted = Backend::with(|_| json("{}".to_owned())).await;
    let route = |weight: &str| {
        format!(
            "{{name: orders, match: '/orders', extracted: extracted, weight: {weight}, data: shared, \
             shadow: {{max_rps: 10000, unsafe: dry_run}}, compare: true}}"
        )
    };
    let proxy = Proxy::between(&legacy, &extracted).route(&route("0%")).start().await;
    proxy.post("/orders", "{}").await;
    proxy.wait_for_metric(&results("match"), 1.0).await;

    assert_eq!(extracted.seen()[0].headers["strangler-dry-run"], "1");
    assert!(!legacy.seen()[0].headers.contains_key("strangler-dry-run"));
    let canary = Proxy::between(&legacy, &extracted).route(&route("100%")).start().await;
    canary.post("/orders", "{}").await;
    canary.wait_for_metric(r#"strangler_shadow_total{outcome="refused_unsafe",route="orders"}"#, 1.0).await;
    assert_eq!((legacy.seen().len(), extracted.seen().len()), (1, 2));
    assert!(!extracted.seen()[1].headers.contains_key("strangler-dry-run"));
}

#[tokio::test]
async fn what_a_canary_wrote_is_read_from_both_sides_and_compared() {
    let order = |status: &'static str| {
        let next = AtomicUsize::new(42);
        move |seen: &crate::support::backend::Seen| match seen.method {
            Method::POST => json(format!(r#"{{"order_no": {}}}"#, next.fetch_add(1, Ordering::SeqCst))),
            _ => json(format!(r#"{{"status": "{status}"}}"#)),
        }
    };
    let (legacy, extracted) = (Backend::with(order("PAID")).await, Backend::with(order("LOST")).await);
    let route = |data: &str| {
        format!(
            "{{name: orders, match: 'POST /orders', extracted: extracted, weight: 100%, data: {data}, fallback: never, \
             shadow: {{max_rps: 10000, unsafe: {{verify_read: {{get: '/orders/{{json:/order_no}}'}}}}}}, \
             compare: {{settle: 200ms, recheck: {{delay: 50ms}}}}}}"
        )
    };
    let proxy = Proxy::between(&legacy, &extracted).route(&route("shared")).start().await;
    proxy
        .send(Method::POST, "/orders", &[("authorization", "Bearer t"), ("content-type", "application/json")], "{}")
        .await;
    proxy.wait_for_metric(&results("mismatch"), 1.0).await;

    let reads = |backend: &Backend| -> Vec<(String, String)> {
        let all = backend.seen();
        all.iter().map(|seen| (seen.method.to_string(), seen.target.clone())).collect()
    };
    assert!(
        reads(&legacy).iter().all(|(method, target)| method == "GET" && target == "/orders/42"),
        "{:?}",
        reads(&legacy)
    );
    assert_eq!(reads(&extracted)[0], ("POST".to_owned(), "/orders".to_owned()));
    assert!(reads(&extracted)[1..].iter().all(|(method, target)| method == "GET" && target == "/orders/42"));
    let read = &legacy.seen()[0];
    assert_eq!(read.headers["strangler-shadow"], "1");
    assert_eq!(read.headers["authorization"], "Bearer t");
    assert!(!read.headers.contains_key("content-length") && !read.headers.contains_key("content-type"));
    assert_eq!(proxy.count(r#"strangler_second_looks_total{route="orders",tag="confirmed"}"#).await, 1);

    // Where legacy does not see what extracted writes, nothing is asked, and nothing is said.
    let before = legacy.seen().len();
    let stale =
        Proxy::between(&legacy, &extracted).route(&route("extracted").replace("fallback: never, ", "")).start().await;
    stale.post("/orders", "{}").await;
    stale.wait_for_metric(&results("not_comparable"), 1.0).await;
    assert_eq!(legacy.seen().len(), before);
}

#[tokio::test]
async fn posts_that_read_are_copied_and_mutations_are_not() {
    let legacy = Backend::with(|_| json("{}".to_owned())).await;
    let extracted = Backend::with(|_| json("{}".to_owned())).await;
    let route = "{name: orders, match: '/{*rest}', extracted: extracted, weight: 0%, \
                 shadow: {max_rps: 10000, safe_posts: [{path: /search}, {path: /graphql, graphql: query}]}, \
                 compare: {a_a: {mode: never}}}";
    let proxy = Proxy::between(&legacy, &extracted).route(route).start().await;

    proxy.post("/search", "anything").await;
    proxy.post("/graphql", r#"{"query": "{ cart { total } }"}"#).await;
    proxy.post("/graphql", r#"{"query": "mutation { pay }"}"#).await;
    proxy.post("/pay", "{}").await;
    proxy.wait_for_metric(&results("match"), 2.0).await;

    let mut copied: Vec<String> =
        extracted.seen().iter().map(|seen| String::from_utf8(seen.body.to_vec()).unwrap()).collect();
    copied.sort();
    assert_eq!(copied, ["anything", r#"{"query": "{ cart { total } }"}"#]);
    assert_eq!(proxy.count(r#"strangler_shadow_total{outcome="refused_unsafe",route="orders"}"#).await, 2);
}
