//! Copies and comparisons as a user meets them: by the binary, over sockets.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::load::Load;
use crate::support::proxy::{Proxy, strangler};

const SHADOWED: &str = "{name: total, match: '/total/{id}', extracted: extracted, weight: 0%, \
                        shadow: {max_rps: 10000}, compare: {keep: {values: [/total_cents]}}}";

fn json(body: &'static str) -> Response<Bytes> {
    Response::builder().header("content-type", "application/json").body(Bytes::from_static(body.as_bytes())).unwrap()
}

#[tokio::test]
async fn a_difference_is_found_named_and_kept_without_what_is_secret() {
    let legacy = Backend::with(|_| json(r#"{"total_cents": 9781, "customer": "jane.doe@example.com"}"#)).await;
    let extracted = Backend::with(|_| json(r#"{"total_cents": 9782, "customer": "john.doe@example.com"}"#)).await;
    let proxy = Proxy::between(&legacy, &extracted).route(SHADOWED).start().await;

    let answer = proxy.send(Method::GET, "/total/7?token=s3cr3t", &[("authorization", "Bearer abcdef")], "").await;
    proxy.wait_for_metric(r#"strangler_comparisons_total{result="mismatch",route="total"}"#, 1.0).await;

    assert!(answer.body.contains("9781"));
    let seen = &extracted.seen()[0];
    assert_eq!(seen.headers["strangler-shadow"], "1");
    assert_eq!(seen.target, "/total/7?token=s3cr3t");
    let mut told = String::new();
    for _ in 0..200 {
        let mut command = strangler();
        command.args(["divergences", "total", "--admin", &format!("http://{}", proxy.admin), "--state-dir"]);
        let output = command.arg(proxy.state_dir()).output().unwrap();
        told = String::from_utf8(output.stdout).unwrap();
        if told.contains("/total_cents") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for part in ["/total_cents", "9781", "9782", "/customer", "pairs", "text → text"] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
    for secret in ["jane.doe", "john.doe", "s3cr3t", "abcdef"] {
        assert!(!told.contains(secret), "{secret} is in:\n{told}");
    }
}

#[tokio::test]
async fn what_the_rules_forgive_matches_and_what_they_want_is_expected() {
    let legacy = Backend::with(|_| {
        json(r#"{"at": "2026-11-21T10:00:00Z", "tags": ["a", "b"], "total": 97.81, "state": "open", "old": 1}"#)
    });
    let extracted = Backend::with(|_| {
        json(r#"{"at": "2026-11-21T11:00:01+01:00", "tags": ["b", "a"], "total": 97.82, "state": "OPEN"}"#)
    });
    let (legacy, extracted) = (legacy.await, extracted.await);
    let rules = "{path: /at, as: timestamp, within: 2s}, {path: /tags, array_order: ignore}, \
                 {path: /total, tolerance: {abs: 0.01}}, {path: /state, map: {open: OPEN}}, \
                 {path: /old, expect: missing, until: 2999-12-31, reason: \"MIG-1\"}";
    let route = |name: &str, rules: &str| {
        format!(
            "{{name: {name}, match: '/{name}/{{id}}', extracted: extracted, shadow: {{max_rps: 10000}}, compare: {{rules: [{rules}]}}}}"
        )
    };
    let proxy =
        Proxy::between(&legacy, &extracted).route(&route("ruled", rules)).route(&route("strict", "")).start().await;

    proxy.get("/ruled/7").await;
    proxy.get("/strict/7").await;

    proxy.wait_for_metric(r#"strangler_comparisons_total{result="expected",route="ruled"}"#, 1.0).await;
    proxy.wait_for_metric(r#"strangler_comparisons_total{result="mismatch",route="strict"}"#, 1.0).await;
    for kind in ["value", "array_order", "missing"] {
        let metric = format!("strangler_differences_total{{kind=\"{kind}\",route=\"strict\"}}");
        assert_eq!(proxy.count(&metric).await, 1, "{kind}");
    }
}

#[tokio::test]
async fn equal_answers_match_and_writes_are_never_copied() {
    let legacy = Backend::with(|_| json(r#"{"a": 1, "b": [1, 2]}"#)).await;
    let extracted = Backend::with(|_| json(r#"{"b":[1,2.0],"a":1}"#)).await;
    let proxy = Proxy::between(&legacy, &extracted).route(SHADOWED).start().await;

    proxy.get("/total/7").await;
    proxy.post("/total/7", "{}").await;
    proxy.wait_for_metric(r#"strangler_comparisons_total{result="match",route="total"}"#, 1.0).await;

    assert_eq!(proxy.count(r#"strangler_shadow_total{outcome="refused_unsafe",route="total"}"#).await, 1);
    assert!(extracted.seen().iter().all(|seen| seen.method == Method::GET));
    assert_eq!(proxy.count(r#"strangler_comparisons_total{result="mismatch",route="total"}"#).await, 0);
}

#[tokio::test]
async fn a_failing_copy_is_a_finding_and_no_users_concern() {
    let legacy = Backend::with(|_| json("{}")).await;
    let extracted = Backend::resetting().await;
    let proxy = Proxy::between(&legacy, &extracted).route(SHADOWED).start().await;

    assert_eq!(proxy.get("/total/7").await.status, 200);
    proxy.wait_for_metric(r#"strangler_differences_total{kind="extracted_error",route="total"}"#, 1.0).await;
}

#[tokio::test]
async fn a_copy_that_hangs_is_dropped_and_counted_and_nobody_waits() {
    let legacy = Backend::with(|_| json("{}")).await;
    let extracted = Backend::hanging().await;
    let route = SHADOWED.replace("max_rps: 10000", "max_rps: 10000, max_in_flight: 3, timeout: 1s");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;

    let load = Load::start(proxy.address, "/total/7", 4, |status, _| status == 200);
    tokio::time::sleep(Duration::from_millis(800)).await;
    let (done, failed) = load.stop().await;

    assert!(done > 50, "{done}");
    assert_eq!(failed, 0);
    proxy.wait_for_metric(r#"strangler_shadow_total{outcome="timeout",route="total"}"#, 3.0).await;
    assert!(proxy.count(r#"strangler_shadow_total{outcome="dropped",route="total"}"#).await > 0);
    assert!(extracted.connections() <= 12, "{}", extracted.connections());
}

#[tokio::test]
async fn a_copy_ends_when_the_user_goes_away() {
    let legacy = Backend::hanging().await;
    let extracted = Backend::hanging().await;
    let proxy = Proxy::between(&legacy, &extracted).route(SHADOWED).start().await;

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET /total/7 HTTP/1.1\r\nhost: shop\r\n\r\n").await.unwrap();
    while extracted.connections() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);

    proxy.wait_for_metric(r#"strangler_shadow_total{outcome="cancelled",route="total"}"#, 1.0).await;
}

#[tokio::test]
async fn in_a_canary_the_copy_goes_to_legacy() {
    let legacy = Backend::with(|_| json("{}")).await;
    let extracted = Backend::with(|_| json("{}")).await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: total, match: 'GET /total/{id}', extracted: extracted, weight: 100%, shadow: true, compare: true, fallback: never}")
        .start()
        .await;

    proxy.get("/total/7").await;
    proxy.wait_for_metric(r#"strangler_comparisons_total{result="match",route="total"}"#, 1.0).await;

    assert!(!extracted.seen()[0].headers.contains_key("strangler-shadow"));
    assert_eq!(legacy.seen()[0].headers["strangler-shadow"], "1");
}

#[tokio::test]
async fn a_marked_request_from_a_trusted_peer_is_not_copied_again() {
    let both = Backend::with(|_| json("{}")).await;
    let extracted = Backend::with(|_| json("{}")).await;
    let proxy = Proxy::between(&both, &extracted).route(SHADOWED).argument("--trusted-proxies=127.0.0.1").start().await;

    proxy.send(Method::GET, "/total/7", &[("strangler-shadow", "1")], "").await;
    proxy.send(Method::GET, "/total/8", &[], "").await;
    proxy.wait_for_metric(r#"strangler_comparisons_total{result="match",route="total"}"#, 1.0).await;

    assert_eq!(both.seen()[0].headers["strangler-shadow"], "1");
    assert_eq!(extracted.seen().iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), ["/total/8"]);
}
