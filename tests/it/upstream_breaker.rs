//! The route's breaker: while extracted fails too much, legacy answers without it being asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};

use crate::support::backend::Backend;
use crate::support::proxy::{PATIENCE, Proxy, strangler};

/// Answers 200 or 500, as a test switches it.
async fn switched() -> (Backend, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_well);
    let backend = Backend::with(move |_| {
        let status = if told.load(Ordering::Relaxed) { 200 } else { 500 };
        Response::builder().status(status).body(Bytes::from_static(b"extracted")).unwrap()
    })
    .await;
    (backend, is_well)
}

fn state(state: &str) -> String {
    format!(r#"strangler_breaker_state{{route="r",state="{state}"}}"#)
}

const FAST: &str = "breaker: {min_requests: 5, window: 10s, open_for: 300ms}";

#[tokio::test]
async fn it_opens_to_legacy_tries_and_closes_again() {
    let legacy = Backend::answering(200, "legacy").await;
    let (extracted, is_well) = switched().await;
    let route = format!("{{name: r, match: /r, extracted: extracted, weight: 100%, {FAST}}}");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    assert_eq!(proxy.count(&state("closed")).await, 1);

    for _ in 0..5 {
        assert_eq!(proxy.get("/r").await.body, "legacy", "hidden by the fallback");
    }
    let asked = extracted.seen().len();
    let posted = proxy.post("/r", "write").await;

    assert_eq!((posted.status, posted.body.as_str()), (200, "legacy"), "nothing of it was sent to extracted");
    assert_eq!(extracted.seen().len(), asked);
    assert_eq!(proxy.count(&state("open")).await, 1);
    let status = proxy.admin(Method::GET, "/api/v1/status", "").await.body;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let stands = status["routes"][0]["breaker"].as_str().unwrap().to_owned();
    assert!(stands == "open" || stands == "half_open", "{status}");
    assert!(status["alarms"].to_string().contains("breaker"), "{status}");
    let mut told = strangler();
    told.args(["status", "--admin", &format!("http://{}", proxy.admin), "--state-dir"]).arg(proxy.state_dir());
    let told = String::from_utf8(told.output().unwrap().stdout).unwrap();
    assert!(told.contains("r: breaker "), "{told}");
    assert_eq!(proxy.count(r#"strangler_fallbacks_total{cause="breaker_open",route="r"}"#).await, 1);
    assert_eq!(proxy.count(r#"strangler_decisions_total{reason="breaker",route="r",side="legacy"}"#).await, 1);

    is_well.store(true, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    while proxy.get("/r").await.body != "extracted" {
        assert!(Instant::now() < until, "it never closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(proxy.count(&state("closed")).await, 1);
}

#[tokio::test]
async fn where_legacy_may_not_be_asked_the_answer_is_503() {
    let legacy = Backend::answering(200, "legacy").await;
    for keys in ["data: extracted", "fallback: never", "fallback: {when: [timeout]}"] {
        let (extracted, _) = switched().await;
        let breaker = "breaker: {min_requests: 5, open_for: 1h}";
        let route = format!("{{name: r, match: /r, extracted: extracted, weight: 100%, {keys}, {breaker}}}");
        let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;

        for _ in 0..5 {
            assert_eq!(proxy.get("/r").await.status, 500, "{keys}");
        }
        let answer = proxy.get("/r").await;

        assert_eq!((answer.status, answer.header("strangler-error")), (503, Some("breaker_open")), "{keys}");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(extracted.seen().len(), 5, "{keys}");
    }
    assert_eq!(legacy.seen().len(), 0);
}

#[tokio::test]
async fn it_can_be_switched_off_and_is_on_without_being_written() {
    let legacy = Backend::answering(200, "legacy").await;
    let (extracted, _) = switched().await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: r, match: /r, extracted: extracted, weight: 100%}")
        .route("{name: off, match: /off, extracted: extracted, weight: 100%, breaker: never}")
        .start()
        .await;

    for _ in 0..25 {
        proxy.get("/r").await;
        proxy.get("/off").await;
    }

    let asked = |path: &str| extracted.seen().iter().filter(|seen| seen.target == path).count();
    assert_eq!((asked("/r"), asked("/off")), (20, 25));
    assert_eq!(proxy.count(r#"strangler_breaker_state{route="off",state="closed"}"#).await, 0);
}

#[tokio::test]
async fn a_forced_request_is_no_evidence_and_is_not_held_back() {
    let legacy = Backend::answering(200, "legacy").await;
    let (extracted, is_well) = switched().await;
    let route = "{name: r, match: /r, extracted: extracted, weight: 0%, override: {header: strangler-side}, breaker: {min_requests: 5, open_for: 1h}}";
    let proxy = Proxy::between(&legacy, &extracted).route(route).start().await;
    let made = strangler()
        .args(["override-token", "--route", "r", "--side", "extracted", "--host", "shop.example.com", "--state-dir"])
        .arg(proxy.state_dir())
        .output()
        .unwrap();
    let token = String::from_utf8(made.stdout).unwrap();
    let headers = [("strangler-side", token.trim())];
    let forced = || proxy.send(Method::GET, "/r", &headers, "");

    for _ in 0..10 {
        forced().await;
    }
    assert_eq!(extracted.seen().len(), 10, "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(proxy.count(&state("closed")).await, 1);

    is_well.store(true, Ordering::Relaxed);
    assert_eq!(forced().await.body, "extracted");
}

#[tokio::test]
async fn an_open_breaker_stays_open_over_a_reload() {
    let legacy = Backend::answering(200, "legacy").await;
    let (extracted, is_well) = switched().await;
    let route = "{name: r, match: /r, extracted: extracted, weight: 100%, breaker: {min_requests: 5, open_for: 1h}}";
    let proxy = Proxy::between(&legacy, &extracted).route(route).start().await;
    for _ in 0..5 {
        proxy.get("/r").await;
    }
    assert_eq!(proxy.count(&state("open")).await, 1);
    is_well.store(true, Ordering::Relaxed);

    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    proxy.write_routes(&format!("{text}  - {{name: other, match: /other, extracted: extracted}}\n"));
    proxy.wait_for_metric(r#"strangler_breaker_state{route="other",state="closed"}"#, 1.0).await;

    assert_eq!(proxy.get("/r").await.body, "legacy");
    assert_eq!(proxy.count(&state("open")).await, 1);
}
