//! What of legacy has been compared, and how long both sides took, as a user is told it.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::idempotency::restarted;
use crate::support::backend::{Backend, Seen};
use crate::support::proxy::{Plan, Proxy, strangler};

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
    let mut own_methods = 0;
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
        own_methods += u64::from(proxy.send(method, "/search?q=json", &[], "").await.status == 200);
    }
    let seen = wait_for(&proxy, "search", 44 + own_methods, 44).await;
    assert_eq!(names(&seen, "parameter_sets"), ["<data>&q", "q"]);
    assert_eq!(cell(&seen, "methods", "(other)"), (own_methods, 0));
    assert!(own_methods >= 5, "the others are refused at the door");
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

#[tokio::test]
async fn two_processes_of_an_upgrade_count_each_request_once() {
    let (legacy, extracted) = (Backend::with(answer).await, Backend::with(answer).await);
    let route = format!("{{name: up, match: 'GET /up', extracted: extracted, {SHADOW}}}");
    let proxy = Proxy::between(&legacy, &extracted).route(&route).start().await;
    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    for _ in 0..10 {
        proxy.get("/up?a=1").await;
    }
    wait_for(&proxy, "up", 10, 10).await;
    let admin = format!("http://{}", proxy.admin);
    let upgraded = strangler().args(["upgrade", "--admin", &admin, "--state-dir"]).arg(proxy.state_dir()).output();
    let upgraded = upgraded.unwrap();
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    for _ in 0..7 {
        proxy.get("/up?a=1").await;
    }
    // What the old one has counted since it saved last is on record once it has ended.
    let heir = proxy.serving_pid().unwrap();
    let mut proxy = proxy;
    assert!(proxy.wait().success());
    assert!(std::process::Command::new("kill").arg(heir.to_string()).status().unwrap().success());
    for _ in 0..400 {
        if proxy.serving_pid().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let plan = Plan::file(&text);
    std::fs::create_dir_all(plan.state_dir()).unwrap();
    for entry in std::fs::read_dir(proxy.state_dir()).unwrap().flatten() {
        std::fs::copy(entry.path(), plan.state_dir().join(entry.file_name())).unwrap();
    }
    let again = plan.start().await;
    let seen = wait_for(&again, "up", 17, 17).await;
    assert_eq!(cell(&seen, "parameter_sets", "a"), (17, 17));
}

/// `COVERAGE_REQUESTS=1000000` sends all of a million.
#[tokio::test]
async fn random_parameters_of_many_requests_take_no_more_memory() {
    let count: u64 = std::env::var("COVERAGE_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(6_000);
    let (legacy, extracted) = (Backend::with(answer).await, Backend::with(answer).await);
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: odd, match: '/odd', extracted: extracted, weight: 0%, compare: true}")
        .start()
        .await;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut sent = async |from: u64, count: u64| {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        for first in (from..from + count).step_by(100) {
            let mut heads = String::new();
            for number in first..(first + 100).min(from + count) {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let name = ["page", "sort", "lang"][usize::try_from(dice >> 62).unwrap().min(2)];
                let _ = write!(
                    heads,
                    "GET /odd?{name}{}=1&x{:x}=2&{:x}=3 HTTP/1.1\r\nhost: a\r\n\r\n",
                    dice >> 52,
                    dice,
                    number
                );
            }
            let wanted = heads.matches("GET ").count();
            stream.write_all(heads.as_bytes()).await.unwrap();
            let (mut read, mut answers) = (vec![0u8; 64 << 10], 0);
            while answers < wanted {
                let bytes = stream.read(&mut read).await.unwrap();
                assert!(bytes > 0, "the proxy hung up");
                // Each answer has one; none is cut in two often enough to matter, for each is small and written whole.
                answers += String::from_utf8_lossy(&read[..bytes]).matches("HTTP/1.1 200").count();
            }
        }
    };
    sent(0, 2_000).await;
    let before = memory_kib(proxy.pid());
    sent(2_000, count - 2_000).await;
    let after = memory_kib(proxy.pid());
    eprintln!("{count} sets of parameters: {before} KiB after 2,000 of them, {after} KiB after all");
    assert!(after < before + (24 << 10), "{before} KiB, then {after} KiB");
    let mut seen = Value::Null;
    for _ in 0..400 {
        seen = coverage(&proxy, "odd");
        if seen["requests"] == count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(seen["requests"], count, "none is lost");
    assert!(seen["parameter_sets"].as_array().unwrap().len() <= 65);
    assert_eq!(seen["full"], serde_json::json!(["parameter_set"]));
    assert_eq!(proxy.count(r#"strangler_queue_dropped_total{queue="coverage"}"#).await, 0);
    assert!(told(&proxy, "coverage", &["odd"]).contains("more parameter sets than are told apart"));
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
