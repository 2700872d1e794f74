//! What differs is asked again, and legacy is asked twice: by the binary, over sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};

use crate::support::backend::{Backend, Seen};
use crate::support::proxy::{Proxy, strangler};

fn json(body: String) -> Response<Bytes> {
    Response::builder().header("content-type", "application/json").body(Bytes::from(body)).unwrap()
}

/// Without samples, so that only what differs is asked again.
fn route(more: &str, compare: &str) -> String {
    format!(
        "{{name: total, match: '/total/{{id}}', extracted: extracted, weight: 0%, {more} \
         compare: {{a_a: {{sample: 0%, max_rps: 1000}}, recheck: {{delay: 100ms}}, {compare}}}}}"
    )
}

const SHADOW: &str = "shadow: {max_rps: 10000},";

fn looks(tag: &str) -> String {
    format!(r#"strangler_second_looks_total{{route="total",tag="{tag}"}}"#)
}

fn results(result: &str) -> String {
    format!(r#"strangler_comparisons_total{{result="{result}",route="total"}}"#)
}

/// A backend whose answers hold a number that is never the same twice.
async fn restless(who: usize, rest: &'static str) -> Backend {
    let next = AtomicUsize::new(who * 1_000);
    Backend::with(move |_| json(format!(r#"{{"trace": {}, {rest}}}"#, next.fetch_add(1, Ordering::SeqCst)))).await
}

#[tokio::test]
async fn what_differs_between_two_answers_of_legacy_is_tagged_noise_and_kept() {
    let (legacy, quiet_one, wrong_one) =
        (restless(1, r#""total": 1"#).await, restless(2, r#""total": 1"#).await, restless(3, r#""total": 2"#).await);
    let quiet = Proxy::between(&legacy, &quiet_one).route(&route(SHADOW, "")).start().await;
    let wrong = Proxy::between(&legacy, &wrong_one).route(&route(SHADOW, "")).start().await;

    quiet.get("/total/1").await;
    wrong.get("/total/1").await;
    quiet.wait_for_metric(&looks("noise"), 1.0).await;
    wrong.wait_for_metric(&looks("confirmed"), 1.0).await;

    assert_eq!((quiet.count(&results("noise")).await, quiet.count(&results("mismatch")).await), (1, 0));
    assert_eq!((wrong.count(&results("noise")).await, wrong.count(&results("mismatch")).await), (0, 1));
    let told = divergences(&quiet).await;
    assert!(told.contains("  noise  ") && told.contains("value (noise)"), "{told}");
    let told = divergences(&wrong).await;
    let of = |place: &str| told.lines().find(|line| line.trim_start().starts_with(place)).unwrap_or_default();
    assert!(told.contains("  confirmed  ") && of("/trace").contains("(noise)"), "{told}");
    assert!(of("/total").contains("value") && !of("/total").contains("(noise)"), "{told}");
}

async fn divergences(proxy: &Proxy) -> String {
    let mut told = String::new();
    for _ in 0..200 {
        let mut command = strangler();
        command.args(["divergences", "total", "--admin", &format!("http://{}", proxy.admin), "--state-dir"]);
        told = String::from_utf8(command.arg(proxy.state_dir()).output().unwrap().stdout).unwrap();
        if told.contains("answered)") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    told
}

#[tokio::test]
async fn what_lags_is_transient_and_no_mismatch() {
    let legacy = Backend::with(|_| json(r#"{"stock": 4}"#.to_owned())).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let extracted = Backend::with(move |_| {
        let is_late = counted.fetch_add(1, Ordering::SeqCst) == 0;
        json(format!(r#"{{"stock": {}}}"#, if is_late { 5 } else { 4 }))
    });
    let extracted = extracted.await;
    let proxy = Proxy::between(&legacy, &extracted).route(&route(SHADOW, "")).start().await;

    proxy.get("/total/1").await;
    proxy.wait_for_metric(&looks("transient"), 1.0).await;

    assert_eq!((proxy.count(&results("transient")).await, proxy.count(&results("mismatch")).await), (1, 0));
    // The user's own, and two that the second look asks of legacy: all of ours are marked.
    let marked = |seen: &Seen| seen.headers.contains_key("strangler-shadow");
    assert_eq!(legacy.seen().iter().map(marked).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert!(divergences(&proxy).await.contains("  transient  "));
}

#[tokio::test]
async fn what_must_not_be_repeated_is_never_asked_again() {
    let legacy = Backend::with(|_| json(r#"{"a": 1}"#.to_owned())).await;
    let extracted = Backend::with(|_| json(r#"{"a": 2}"#.to_owned())).await;
    let shadow = "shadow: {max_rps: 10000, never: [/total/never]},";
    let proxy = Proxy::between(&legacy, &extracted)
        .route(&route(shadow, "").replace("sample: 0%", "sample: 100%"))
        .argument("--trusted-proxies=127.0.0.1")
        .start()
        .await;

    proxy.send(Method::GET, "/total/1", &[("idempotency-key", "k")], "").await;
    proxy.send(Method::GET, "/total/2", &[("strangler-shadow", "1")], "").await;
    proxy.get("/total/never").await;
    proxy.post("/total/3", "{}").await;
    proxy.wait_for_metric(&results("mismatch"), 1.0).await;
    tokio::time::sleep(Duration::from_millis(400)).await;

    assert_eq!(legacy.seen().len(), 4, "{:?}", legacy.seen());
    assert_eq!(extracted.seen().len(), 1);
    assert_eq!(proxy.count(&looks("unconfirmed")).await + proxy.count(&looks("confirmed")).await, 0);
    assert!(divergences(&proxy).await.contains("/a"));
}

#[tokio::test]
async fn second_looks_ask_legacy_no_more_than_they_may_and_lose_no_record() {
    let legacy = Backend::with(|_| json(r#"{"a": 1}"#.to_owned())).await;
    let extracted = Backend::with(|_| json(r#"{"a": 2}"#.to_owned())).await;
    let route = route(SHADOW, "").replace("max_rps: 1000}", "max_rps: 2}");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;

    for id in 0..40 {
        proxy.get(&format!("/total/{id}")).await;
    }
    proxy.wait_for_metric(&results("mismatch"), 40.0).await;

    let further = legacy.seen().len() - 40;
    assert!((2..=12).contains(&further), "{further}");
    assert!(proxy.count(r#"strangler_queue_dropped_total{queue="second_looks"}"#).await >= 30);
    assert_eq!(proxy.count(&looks("unconfirmed")).await + proxy.count(&looks("confirmed")).await, 40);
}

#[tokio::test]
async fn a_user_waits_for_no_second_look() {
    let legacy = restless(1, r#""total": 1"#).await;
    let extracted = Backend::hanging().await;
    let shadow = "shadow: {max_rps: 10000, max_in_flight: 10000, timeout: 30s, breaker: never},";
    let proxy = Proxy::between(&legacy, &extracted).route(&route(shadow, "")).start().await;

    let begun = std::time::Instant::now();
    for id in 0..50 {
        assert_eq!(proxy.get(&format!("/total/{id}")).await.status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "fifty answers took as long as one copy may");
}

#[tokio::test]
async fn copies_stop_while_the_other_side_fails() {
    let legacy = Backend::with(|_| json("{}".to_owned())).await;
    let extracted = Backend::answering(503, "down").await;
    let shadow = "shadow: {max_rps: 10000, breaker: {min_requests: 5, open_for: 60s}},";
    let proxy = Proxy::between(&legacy, &extracted)
        .route(&route(shadow, "recheck: {times: 0}").replace("recheck: {delay: 100ms}, ", ""))
        .start()
        .await;

    for id in 0..30 {
        proxy.get(&format!("/total/{id}")).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    proxy.wait_for_metric(r#"strangler_shadow_total{outcome="breaker_open",route="total"}"#, 10.0).await;
    assert!(extracted.seen().len() < 20, "{}", extracted.seen().len());
}
