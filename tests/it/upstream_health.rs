//! Endpoints that are ill: by their checks, by what requests see; left out, and taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;

use crate::support::backend::Backend;
use crate::support::proxy::{PATIENCE, Plan, Proxy};

/// A backend whose health a test switches; it says who it is, and fails everything while it is ill.
async fn switched(name: &'static str) -> (Backend, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_well);
    let backend = Backend::with(move |_| {
        let status = if told.load(Ordering::Relaxed) { 200 } else { 500 };
        Response::builder().status(status).body(Bytes::from_static(name.as_bytes())).unwrap()
    })
    .await;
    (backend, is_well)
}

async fn between(endpoints: &[&Backend], keys: &str) -> Proxy {
    let endpoints = endpoints.iter().map(|it| format!("\"{}\"", it.url())).collect::<Vec<_>>().join(", ");
    let text = format!("version: 1\nlegacy: m\nupstreams:\n  m: {{endpoints: [{endpoints}], {keys}}}\n");
    Plan::file(&text).start().await
}

fn healthy(backend: &Backend) -> String {
    format!(r#"strangler_upstream_healthy{{endpoint="{}",upstream="m"}}"#, backend.url())
}

async fn wait_for(proxy: &Proxy, sample: &str, value: u64) {
    let until = Instant::now() + PATIENCE;
    while proxy.count(sample).await != value {
        assert!(Instant::now() < until, "{sample} never was {value}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Which endpoints answer.
async fn answering(proxy: &Proxy, requests: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..requests {
        let answer = proxy.get("/").await;
        names.push(format!("{} {}", answer.status, answer.body));
    }
    names.sort();
    names.dedup();
    names
}

const CHECK: &str =
    "health_check: {path: /healthz, interval: 100ms, timeout: 1s, healthy_after: 2, unhealthy_after: 2}";

#[tokio::test]
async fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_is_well() {
    let ((one, one_is_well), (other, _)) = (switched("one").await, switched("other").await);
    let proxy = between(&[&one, &other], CHECK).await;
    assert_eq!(answering(&proxy, 8).await, ["200 one", "200 other"]);

    one_is_well.store(false, Ordering::Relaxed);
    wait_for(&proxy, &healthy(&one), 0).await;
    assert_eq!(answering(&proxy, 8).await, ["200 other"]);
    assert_eq!(proxy.count(&healthy(&other)).await, 1);

    one_is_well.store(true, Ordering::Relaxed);
    wait_for(&proxy, &healthy(&one), 1).await;
    // It comes back with a small part that grows.
    let until = Instant::now() + PATIENCE;
    while answering(&proxy, 8).await.len() < 2 {
        assert!(Instant::now() < until, "it never came back");
    }
    assert!(one.seen().iter().any(|seen| seen.target == "/healthz"));
}

#[tokio::test]
async fn with_no_endpoint_left_the_answer_is_503() {
    let (lone, is_well) = switched("lone").await;
    let proxy = between(&[&lone], CHECK).await;
    is_well.store(false, Ordering::Relaxed);
    wait_for(&proxy, &healthy(&lone), 0).await;

    let answer = proxy.get("/").await;

    assert_eq!((answer.status, answer.header("strangler-error")), (503, Some("no_healthy_endpoint")));
    assert!(answer.header("retry-after").is_some());
    is_well.store(true, Ordering::Relaxed);
    wait_for(&proxy, &healthy(&lone), 1).await;
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn what_is_known_of_endpoints_outlives_a_reload() {
    let ((one, one_is_well), (other, _)) = (switched("one").await, switched("other").await);
    // Checked so seldom that after the reload nothing new would be learned in time.
    let check = "health_check: {path: /healthz, interval: 1s, timeout: 1s, healthy_after: 1000, unhealthy_after: 1}";
    one_is_well.store(false, Ordering::Relaxed);
    let proxy = between(&[&one, &other], check).await;
    wait_for(&proxy, &healthy(&one), 0).await;
    one_is_well.store(true, Ordering::Relaxed);

    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    let route = format!("{text}routes:\n  - {{name: r, match: /r, extracted: m}}\n");
    proxy.write_routes(&route);
    wait_for(&proxy, r#"strangler_config_reloads_total{result="accepted"}"#, 1).await;

    assert_eq!(answering(&proxy, 8).await, ["200 other"]);
    assert_eq!(proxy.count(&healthy(&one)).await, 0);
}

#[tokio::test]
async fn an_endpoint_that_fails_requests_is_left_out_and_the_last_one_never_is() {
    let ((one, one_is_well), (other, other_is_well)) = (switched("one").await, switched("other").await);
    let detection = "outlier_detection: {consecutive_failures: 3, eject_for: 1h, max_ejected: 100%}";
    let proxy = between(&[&one, &other], detection).await;

    one_is_well.store(false, Ordering::Relaxed);
    wait_until_left_out(&proxy, &one).await;
    assert_eq!(answering(&proxy, 8).await, ["200 other"]);

    other_is_well.store(false, Ordering::Relaxed);
    assert_eq!(answering(&proxy, 20).await, ["500 other"]);
    assert_eq!(proxy.count(&healthy(&other)).await, 1);
}

async fn wait_until_left_out(proxy: &Proxy, backend: &Backend) {
    let until = Instant::now() + PATIENCE;
    while proxy.count(&healthy(backend)).await != 0 {
        assert!(Instant::now() < until, "it never was left out");
        answering(proxy, 4).await;
    }
}

#[tokio::test]
async fn an_ejected_endpoint_comes_back_by_itself() {
    let ((one, one_is_well), (other, _)) = (switched("one").await, switched("other").await);
    let proxy = between(&[&one, &other], "outlier_detection: {consecutive_failures: 3, eject_for: 300ms}").await;
    one_is_well.store(false, Ordering::Relaxed);
    let asked = one.seen().len();
    let until = Instant::now() + PATIENCE;
    while one.seen().len() < asked + 3 {
        assert!(Instant::now() < until);
        answering(&proxy, 2).await;
    }

    one_is_well.store(true, Ordering::Relaxed);

    let asked = one.seen().len();
    while one.seen().len() == asked {
        assert!(Instant::now() < until, "it never came back");
        answering(&proxy, 8).await;
    }
}

#[tokio::test]
async fn checks_speak_what_the_endpoint_speaks() {
    let backend = Backend::h2c().await;
    let text = format!(
        "version: 1\nlegacy: m\nupstreams:\n  m: {{endpoints: [\"h2c://{}\"], host: shop.internal, {CHECK}}}\n",
        backend.address
    );
    let proxy = Plan::file(&text).start().await;

    let until = Instant::now() + PATIENCE;
    while backend.seen().len() < 3 {
        assert!(Instant::now() < until, "it was never asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert_eq!(backend.seen()[0].target, "http://shop.internal/healthz");
    assert_eq!(proxy.get("/").await.status, 200);
}
