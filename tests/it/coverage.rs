//! What of legacy has been compared, and how long both sides took, as a user is told it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::Value;

use crate::idempotency::restarted;
use crate::support::backend::{Backend, Seen};
use crate::support::proxy::{Proxy, strangler};

/// 404 for `/…/missing`, text for `/…/text`, else JSON.
fn answer(seen: &Seen) -> Response<Bytes> {
    let path = seen.target.split('?').next().unwrap();
    let (status, kind) = match path.rsplit('/').next().unwrap() {
        "missing" => (404, "application/problem+json"),
        "text" => (200, "text/plain; charset=utf-8"),
        _ => (200, "application/json"),
    };
    Response::builder().status(status).header("content-type", kind).body(Bytes::from_static(b"{}")).unwrap()
}

/// The verb's output.
fn told(proxy: &Proxy, verb: &str, arguments: &[&str]) -> String {
    let mut command = strangler();
    command.arg(verb).args(arguments).args(["--admin", &format!("http://{}", proxy.admin), "--state-dir"]);
    let output = command.arg(proxy.state_dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn coverage(proxy: &Proxy, route: &str) -> Value {
    serde_json::from_str(&told(proxy, "coverage", &[route, "--format", "json"])).unwrap()
}

/// Asked until so many requests and comparisons are in the book.
async fn wait_for(proxy: &Proxy, route: &str, requests: u64, comparisons: u64) -> Value {
    let mut told = Value::Null;
    for _ in 0..400 {
        told = coverage(proxy, route);
        if told["requests"] == requests && told["comparisons"] == comparisons {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not {requests} and {comparisons}: {told:#}");
}

/// Requests and comparisons of one thing.
fn cell(told: &Value, sort: &str, name: &str) -> (u64, u64) {
    let cell = told[sort].as_array().unwrap().iter().find(|cell| cell["name"] == name);
    let cell = cell.unwrap_or_else(|| panic!("no {name} in {:#}", told[sort]));
    (cell["requests"].as_u64().unwrap(), cell["comparisons"].as_u64().unwrap())
}

fn names(told: &Value, list: &str) -> Vec<String> {
    told[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

const SHADOW: &str =
    "shadow: {max_rps: 100000, max_in_flight: 1000}, compare: {a_a: {mode: never}, recheck: {times: 0}}";

#[tokio::test]
async fn what_legacy_is_asked_and_nobody_compares_is_named_and_outlives_a_restart() {
    let (legacy, extracted) = (Backend::with(answer).await, Backend::with(answer).await);
    let orders = format!(
        "{{name: orders, match: {{path: '/orders/{{*rest}}', methods: [GET, HEAD, POST]}}, extracted: extracted, {SHADOW}}}"
    );
    let plan = Proxy::between(&legacy, &extracted)
        .route(&orders)
        .route("{name: idle, match: /idle, extracted: extracted, weight: 0%}")
        .route("{name: half, match: /half, extracted: extracted, weight: 100%}");
    let proxy = plan.start().await;
    for id in 0..30 {
        proxy.get(&format!("/orders/{id}")).await;
        proxy.get(&format!("/orders/{id}?page={id}&currency=EUR")).await;
    }
    for _ in 0..7 {
        proxy.get("/orders/missing?currency=USD").await;
        proxy.get("/orders/text").await;
        proxy.post("/orders/new?dry=1", "x").await;
        proxy.get("/idle?a=1").await;
        proxy.get("/half?a=1").await;
    }
    proxy.send(Method::HEAD, "/orders/1", &[], "").await;
    // Copies of what has side effects are not made, so its answers are never compared.
    let seen = wait_for(&proxy, "orders", 82, 75).await;

    assert_eq!(cell(&seen, "methods", "GET"), (74, 74));
    assert_eq!(cell(&seen, "methods", "POST"), (7, 0));
    assert_eq!(cell(&seen, "methods", "HEAD"), (1, 1));
    assert_eq!(cell(&seen, "status_classes", "2xx"), (75, 68));
    assert_eq!(cell(&seen, "status_classes", "4xx"), (7, 7));
    assert_eq!(cell(&seen, "parameter_sets", "(none)"), (38, 38));
    assert_eq!(cell(&seen, "parameter_sets", "currency&page"), (30, 30));
    assert_eq!(cell(&seen, "parameter_sets", "currency"), (7, 7));
    assert_eq!(cell(&seen, "parameter_sets", "dry"), (7, 0));
    assert_eq!(cell(&seen, "content_types", "text/plain"), (7, 7));
    assert_eq!(cell(&seen, "content_types", "application/problem+json"), (7, 7));
    assert_eq!(names(&seen, "unseen"), ["POST", "dry"]);
    assert_eq!(seen["gate"]["passed"], false);
    assert_eq!(names(&seen["gate"], "missing"), ["HEAD", "4xx", "currency", "dry"]);
    assert_eq!(seen["gate"]["missing"][1]["missing"], 13);
    assert_eq!(
        (names(&seen["gate"], "named"), &seen["gate"]["named"][0]["why"]),
        (vec!["POST".to_owned()], &"unsafe_method".into())
    );
    proxy.wait_for_metric(r#"strangler_coverage_missing{route="orders"}"#, 4.0).await;
    let text = told(&proxy, "coverage", &[]);
    for part in [
        "orders (/orders/{*rest}): 82 requests legacy has answered in 7 days, 75 of them compared",
        "never compared: method POST, parameter set dry",
        "parameter set dry needs 20 more",
        "idle (/idle): 0 requests legacy has answered in 7 days",
        "not counted now: the route neither copies nor compares",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    // Extracted answered these: legacy was not asked.
    assert_eq!(coverage(&proxy, "half")["requests"], 0);
    let unknown = proxy.admin(Method::GET, "/api/v1/coverage/nothing", "").await;
    assert_eq!((unknown.status, proxy.admin(Method::GET, "/api/v1/coverage", "").await.status), (404, 200));

    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    let proxy = restarted(proxy, &text).await;
    let again = wait_for(&proxy, "orders", 82, 75).await;
    for list in ["methods", "status_classes", "parameter_sets", "content_types", "unseen", "gate"] {
        assert_eq!(again[list], seen[list]);
    }
    // And counting goes on.
    proxy.get("/orders/missing").await;
    wait_for(&proxy, "orders", 83, 76).await;
}

#[tokio::test]
async fn a_copy_to_legacy_counts_as_what_legacy_was_asked() {
    let (legacy, extracted) = (Backend::with(answer).await, Backend::with(answer).await);
    let route = format!("{{name: all, match: 'GET /all', extracted: extracted, weight: 100%, {SHADOW}}}");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    for _ in 0..9 {
        proxy.get("/all?lang=de").await;
    }
    let seen = wait_for(&proxy, "all", 9, 9).await;
    assert_eq!((cell(&seen, "parameter_sets", "lang"), legacy.seen().len()), ((9, 9), 9));
}

#[tokio::test]
async fn no_secret_in_a_parameter_is_in_the_coverage_the_store_or_the_metrics() {
    let secrets = [
        "4111111111111111",
        "ada.lovelace@example.com",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJlMQ",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_abcdefghijklmnopqrst0123456789",
        "DE89370400440532013000",
        "xoxb-123456789012-abcdefgh",
        "SHOPSID-8f14e45fceea167a",
        "q7Zr2Lk9Xw4Vb1Nm",
        "wxkzqjhvbn",
        "83910274655",
    ];
    let kind_of = |seen: &Seen| {
        let kind = seen.target.rsplit('=').next().unwrap().to_owned();
        Response::builder().header("content-type", format!("application/{kind}")).body(Bytes::new()).unwrap()
    };
    let (legacy, extracted) = (Backend::with(move |seen| kind_of(seen)).await, Backend::with(answer).await);
    let route = format!("{{name: search, match: /search, extracted: extracted, {SHADOW}}}");
    let mut proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    for secret in secrets {
        for query in [
            format!("q={secret}"),
            format!("{secret}=1&q={secret}"),
            format!("f[{secret}]=2&q={secret}"),
            format!("{secret}&q={secret}"),
        ] {
            assert_eq!(proxy.get(&format!("/search?{query}")).await.status, 200);
        }
        // A method of the client's own making.
        let method = Method::from_bytes(secret.replace(['@', '.'], "-").as_bytes()).unwrap();
        proxy.send(method, "/search?q=json", &[], "").await;
    }
    let seen = wait_for(&proxy, "search", 55, 44).await;
    assert_eq!(names(&seen, "parameter_sets"), ["<data>&q", "q"]);
    assert_eq!(cell(&seen, "methods", "(other)"), (11, 0));
    let mut texts = vec![seen.to_string(), told(&proxy, "coverage", &[])];
    texts.push(proxy.admin(Method::GET, "/metrics", "").await.body);
    texts.push(proxy.admin(Method::GET, "/api/v1/verdicts", "").await.body);
    texts.push(proxy.log_so_far());
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    for file in std::fs::read_dir(proxy.state_dir()).unwrap().flatten().filter(|file| file.path().is_file()) {
        texts.push(String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned());
    }
    for (place, text) in texts.iter().enumerate() {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
    assert!(texts.iter().any(|text| text.contains("parameter_set") && text.contains("SQLite format")), "it was stored");
}

#[tokio::test]
async fn both_sides_times_stand_beside_the_verdict() {
    let legacy = Backend::with(answer).await;
    let extracted = Backend::slow(Duration::from_millis(40), answer).await;
    let route = format!("{{name: slow, match: 'GET /slow/{{id}}', extracted: extracted, {SHADOW}}}");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    for id in 0..40 {
        proxy.get(&format!("/slow/{id}")).await;
    }
    wait_for(&proxy, "slow", 40, 40).await;

    let verdicts: Value = serde_json::from_str(&told(&proxy, "verdicts", &["slow", "--format", "json"])).unwrap();
    let window = &verdicts["latency"][0]["last_hour"];
    assert_eq!((window["pairs"].as_u64(), window["unpaired"].as_u64()), (Some(40), Some(0)));
    assert_eq!(window, &verdicts["latency"][0]["since_start"]);
    let ms = |pointer: &str| window.pointer(pointer).unwrap().as_f64().unwrap();
    assert!(ms("/extracted/p50_ms") >= 39.0 && ms("/extracted/p50_ms") <= ms("/extracted/p99_ms"), "{window}");
    assert!(ms("/legacy/p50_ms") < ms("/extracted/p50_ms"), "{window}");
    assert!(ms("/paired/median_ms") > 0.0 && ms("/paired/slower_share") > 0.5, "{window}");
    // Correct all the same.
    assert_eq!(verdicts["endpoints"][0]["equal"], 40);
    let text = told(&proxy, "verdicts", &[]);
    for part in ["pairs: 40 equal", "p50 legacy|extracted", "p99 legacy|extracted", "paired", "No part of the verdicts"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_copy_that_runs_into_its_timeout_counts_with_its_length() {
    let legacy = Backend::with(answer).await;
    let extracted = Backend::slow(Duration::from_secs(30), answer).await;
    let shadow = "shadow: {timeout: 300ms, max_in_flight: 100, breaker: never}, compare: {a_a: {mode: never}, recheck: {times: 0}}";
    let route = format!("{{name: hang, match: 'GET /hang/{{id}}', extracted: extracted, {shadow}}}");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    for id in 0..5 {
        proxy.get(&format!("/hang/{id}")).await;
    }
    wait_for(&proxy, "hang", 5, 5).await;
    let verdicts: Value = serde_json::from_str(&told(&proxy, "verdicts", &["hang", "--format", "json"])).unwrap();
    let window = &verdicts["latency"][0]["since_start"];
    assert_eq!((window["pairs"].as_u64(), window["extracted"]["timeouts"].as_u64()), (Some(5), Some(5)));
    assert!(window["extracted"]["p50_ms"].as_f64().unwrap() >= 297.0, "{window}");
}
