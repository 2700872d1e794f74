//! What comparing proves, as a user is told it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde_json::Value;

use crate::idempotency::restarted;
use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, exchange, strangler};

fn json(body: String) -> Response<Bytes> {
    Response::builder().header("content-type", "application/json").body(Bytes::from(body)).unwrap()
}

/// An order with an id and a time of its own each time; every fourth total of a wrong one is a cent off.
async fn orders(is_wrong: bool) -> Backend {
    let next = AtomicUsize::new(0);
    Backend::with(move |_| {
        let count = next.fetch_add(1, Ordering::SeqCst);
        let total = if is_wrong && count.is_multiple_of(4) { 9_782 } else { 9_781 };
        let id = format!("7f1c0a52-8c7e-4a53-9a0d-{:04x}{:08x}", u16::from(is_wrong), count);
        json(format!(r#"{{"total": {total}, "request_id": "{id}"}}"#))
    })
    .await
}

const ROUTE: &str = "{name: total, match: 'GET /total/{id}', extracted: extracted, weight: 0%, \
                     shadow: {max_rps: 100000, max_in_flight: 1000}, \
                     compare: {a_a: {max_rps: 10000}, recheck: {times: 0}}}";

fn verdicts(proxy: &Proxy) -> Value {
    let mut command = strangler();
    let admin = format!("http://{}", proxy.admin);
    command.args(["verdicts", "total", "--format", "json", "--admin", &admin, "--state-dir"]);
    let told = command.arg(proxy.state_dir()).output().unwrap().stdout;
    serde_json::from_slice(&told).unwrap()
}

/// Asks until so many requests have been asked of legacy twice.
async fn sample(proxy: &Proxy, triples: u64) -> Value {
    for _ in 0..200 {
        for id in 0..50 {
            assert_eq!(proxy.get(&format!("/total/{id}")).await.status, 200);
        }
        let told = verdicts(proxy);
        if told["endpoints"][0]["triples"].as_u64().unwrap_or_default() >= triples {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("too few samples: {}", verdicts(proxy));
}

#[tokio::test]
async fn noise_is_told_from_a_regression_field_by_field() {
    let (legacy, extracted) = (orders(false).await, orders(true).await);
    let proxy = Proxy::between(&legacy, &extracted).route(ROUTE).start().await;

    let told = sample(&proxy, 200).await;
    proxy.wait_for_metric(r#"strangler_verdict{route="total",verdict="divergent"}"#, 1.0).await;

    let endpoint = &told["endpoints"][0];
    assert_eq!((endpoint["method"].as_str(), endpoint["verdict"].as_str()), (Some("GET"), Some("divergent")));
    let fields = endpoint["fields"].as_array().unwrap();
    let field = |place: &str| fields.iter().find(|field| field["place"] == place).unwrap().clone();
    assert_eq!(field("/total")["verdict"], "divergent");
    let request_id = field("/request_id");
    assert_eq!((request_id["verdict"].as_str(), request_id["is_blind"].as_bool()), (Some("noisy"), Some(true)));
    assert_eq!(request_id["suggestion"], r#"{path: "/request_id", as: uuid}"#);
    // As people see it; and without the token only the word.
    let mut command = strangler();
    let admin = format!("http://{}", proxy.admin);
    command.args(["verdicts", "--admin", &admin, "--state-dir"]);
    let text = String::from_utf8(command.arg(proxy.state_dir()).output().unwrap().stdout).unwrap();
    for part in ["total GET: divergent", "/request_id: blind. A/A cannot test this field, add a normaliser", "as: uuid"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let without_token = Request::get("/api/v1/verdicts").header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(exchange(proxy.admin, without_token).await.unwrap().status, 401);
    let status: Value = serde_json::from_str(&proxy.admin(Method::GET, "/api/v1/status", "").await.body).unwrap();
    assert_eq!(status["routes"][0]["numbers"]["verdict"], "divergent");

    // With other rules it begins anew, and the rule that was suggested takes the noise.
    let fixed =
        ROUTE.replace("recheck:", "rules: [{path: /request_id, as: uuid}, {path: /total, ignore: true}], recheck:");
    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    proxy.write_routes(&text.replace(ROUTE, &fixed));
    proxy.wait_for_metric(r#"strangler_config_reloads_total{result="accepted"}"#, 1.0).await;
    let told = sample(&proxy, 200).await;
    assert_eq!(told["endpoints"][0]["verdict"], "equal", "{told}");
    proxy.wait_for_metric(r#"strangler_verdict{route="total",verdict="equal"}"#, 1.0).await;
}

#[tokio::test]
async fn once_all_is_known_legacy_is_hardly_asked_any_more() {
    let legacy = Backend::with(|_| json("{}".to_owned())).await;
    let extracted = Backend::with(|_| json("{}".to_owned())).await;
    let proxy = Proxy::between(&legacy, &extracted).route(ROUTE).start().await;

    sample(&proxy, 200).await;
    let before = legacy.seen().len();
    for id in 0..300 {
        proxy.get(&format!("/total/{id}")).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;

    let further = legacy.seen().len() - before - 300;
    // One in a hundred, and those that were under way.
    assert!(further < 60, "{further}");
}

#[tokio::test]
async fn what_is_known_outlives_a_restart_and_not_the_release_that_it_was_about() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let legacy = Backend::with(|_| json(r#"{"total": 9781}"#.to_owned())).await;
    let is_so = Arc::clone(&is_mended);
    let extracted = Backend::with(move |_| {
        let (total, release) = if is_so.load(Ordering::SeqCst) { (9_781, "1.1") } else { (9_782, "1.0") };
        let mut answer = json(format!(r#"{{"total": {total}}}"#));
        answer.headers_mut().insert("x-release", HeaderValue::from_static(release));
        answer
    })
    .await;
    let route = ROUTE.replace("weight: 0%,", "weight: 0%, release_header: x-release,");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    let told = sample(&proxy, 200).await;
    assert_eq!(told["endpoints"][0]["verdict"], "divergent");
    let divergences = proxy.admin(Method::GET, "/api/v1/divergences?limit=1", "").await;
    let divergences: Value = serde_json::from_str(&divergences.body).unwrap();
    assert_eq!(divergences["divergences"][0]["record"]["release"], "1.0", "{divergences}");

    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    let proxy = restarted(proxy, &text).await;
    proxy.wait_for_metric(r#"strangler_verdict{route="total",verdict="divergent"}"#, 1.0).await;
    let told = verdicts(&proxy);
    let (endpoint, release) = (&told["endpoints"][0], told["endpoints"][0]["release"].as_str());
    assert!(endpoint["triples"].as_u64().unwrap() >= 200 && release == Some("1.0"), "{told}");

    // A release that differs no more is not told of what the one before did.
    is_mended.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        for id in 0..50 {
            assert_eq!(proxy.get(&format!("/total/{id}")).await.status, 200);
        }
        if verdicts(&proxy)["endpoints"][0]["release"] == "1.1" {
            break;
        }
    }
    let told = sample(&proxy, 200).await;
    assert_eq!(told["endpoints"][0]["release"], "1.1", "{told}");
    assert_eq!(told["endpoints"][0]["verdict"], "equal", "{told}");
    proxy.wait_for_metric(r#"strangler_verdict{route="total",verdict="equal"}"#, 1.0).await;
}
