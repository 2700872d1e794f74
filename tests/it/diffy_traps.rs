//! What an older comparing proxy got wrong, by its own source, pinned the other way.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Response};
use serde_json::Value;

use crate::support::backend::{Backend, Seen};
use crate::support::proxy::Proxy;

fn json(body: String) -> Response<Bytes> {
    Response::builder().header("content-type", "application/json").body(Bytes::from(body)).unwrap()
}

async fn always(body: &'static str) -> Backend {
    Backend::with(move |_: &Seen| json(body.to_owned())).await
}

async fn between(legacy: &Backend, extracted: &Backend) -> Proxy {
    // What is asked again on purpose is not what is looked at here.
    let route = "{name: items, match: 'GET /items/{id}', extracted: extracted, shadow: {max_rps: 10000}, \
                 compare: {a_a: {mode: never}, recheck: {times: 0}}}";
    Proxy::between(legacy, extracted).route(route).start().await
}

fn compared(result: &str) -> String {
    format!("strangler_comparisons_total{{result=\"{result}\",route=\"items\"}}")
}

fn differing(kind: &str) -> String {
    format!("strangler_differences_total{{kind=\"{kind}\",route=\"items\"}}")
}

#[tokio::test]
async fn trap_1_a_side_that_is_down_is_a_difference_and_not_the_absence_of_differences() {
    let (legacy, extracted) = (always("[1]").await, Backend::refusing().await);
    let proxy = between(&legacy, &extracted).await;

    assert_eq!(proxy.get("/items/7").await.status, 200);

    proxy.wait_for_metric(&compared("failed"), 1.0).await;
    assert_eq!(proxy.count(&differing("extracted_error")).await, 1);
    assert_eq!(proxy.count(&compared("match")).await, 0);
}

#[tokio::test]
async fn trap_2_a_copy_that_failed_is_not_sent_again() {
    let legacy = always("[1]").await;
    for extracted in [Backend::resetting().await, Backend::raw(b"nonsense\r\n\r\n").await] {
        let proxy = between(&legacy, &extracted).await;
        proxy.get("/items/7").await;
        proxy.wait_for_metric(&compared("failed"), 1.0).await;
        assert_eq!(extracted.connections(), 1);
    }
    let failing = Backend::answering(503, "busy").await;
    let proxy = between(&legacy, &failing).await;
    proxy.get("/items/7").await;
    proxy.wait_for_metric(&compared("failed"), 1.0).await;
    assert_eq!(failing.seen().len(), 1);
}

#[tokio::test]
async fn trap_3_lists_that_are_the_same_are_equal_and_an_order_that_changed_is_not_lost_among_them() {
    let (legacy, extracted) = (
        always("[3, 1, 2]").await,
        Backend::with(|seen| json(if seen.target.ends_with("/0") { "[1, 2, 3]" } else { "[3, 1, 2]" }.to_owned()))
            .await,
    );
    let proxy = between(&legacy, &extracted).await;

    for id in (0..20).rev() {
        proxy.get(&format!("/items/{id}")).await;
    }

    proxy.wait_for_metric(&compared("mismatch"), 1.0).await;
    proxy.wait_for_metric(&compared("match"), 19.0).await;
    assert_eq!(proxy.count(&differing("array_order")).await, 1);
}

#[tokio::test]
async fn trap_4_headers_with_commas_arrive_as_they_were_sent_at_both_sides_and_at_the_client() {
    const COOKIES: [&str; 2] =
        ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2; Expires=Thu, 22 Oct 2026 07:28:00 GMT"];
    const DATE: &str = "Sat, 21 Nov 2026 10:00:00 GMT";
    let legacy = Backend::with(|_| {
        let mut response = json("[1]".to_owned());
        for cookie in COOKIES {
            response.headers_mut().append("set-cookie", cookie.parse().unwrap());
        }
        response.headers_mut().insert("last-modified", DATE.parse().unwrap());
        response
    })
    .await;
    let extracted = always("[1]").await;
    let proxy = between(&legacy, &extracted).await;
    let sent = [("user-agent", "Mozilla/5.0 (X11; Linux, x86_64)"), ("x-list", "a, b"), ("x-when", DATE)];

    let answer = proxy.send(Method::GET, "/items/7", &sent, "").await;
    proxy.wait_for_metric(&compared("match"), 1.0).await;

    let got: Vec<&str> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!((&got[..], answer.header("last-modified")), (&COOKIES[..], Some(DATE)));
    for side in [&legacy, &extracted] {
        let seen = &side.seen()[0];
        for (name, value) in sent {
            let values: Vec<&str> = seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(values, [value], "{name}");
        }
    }
}

#[tokio::test]
async fn trap_5_a_bare_question_shows_the_newest_and_nothing_pretends_to_clear() {
    let (legacy, extracted) = (always("[1]").await, always("[2]").await);
    let proxy = between(&legacy, &extracted).await;
    proxy.get("/items/7").await;
    proxy.wait_for_metric(&compared("mismatch"), 1.0).await;

    for method in [Method::GET, Method::POST] {
        for path in ["/api/1/clear", "/api/v1/clear", "/api/v1/divergences/clear"] {
            let status = proxy.admin(method.clone(), path, "{}").await.status;
            assert!(matches!(status, 404 | 405), "{method} {path}: {status}");
        }
    }

    for _ in 0..400 {
        let listed: Value =
            serde_json::from_str(&proxy.admin(Method::GET, "/api/v1/divergences", "").await.body).unwrap();
        if listed["divergences"].as_array().unwrap().len() == 1 && listed["causes"][0]["pairs"] == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the divergence was never listed");
}

#[tokio::test]
async fn trap_6_ids_in_paths_make_neither_endpoints_nor_labels() {
    let (legacy, extracted) = (always("[1]").await, always("[2]").await);
    let proxy = between(&legacy, &extracted).await;

    for id in 0..50 {
        proxy.get(&format!("/items/id{id}")).await;
    }
    proxy.wait_for_metric(&compared("mismatch"), 50.0).await;

    let metrics = proxy.admin(Method::GET, "/metrics", "").await.body;
    assert!(!metrics.contains("id17") && !metrics.contains("/items"), "{metrics}");
    for _ in 0..400 {
        let listed: Value =
            serde_json::from_str(&proxy.admin(Method::GET, "/api/v1/divergences", "").await.body).unwrap();
        let causes = listed["causes"].as_array().unwrap();
        assert!(causes.len() <= 1, "{causes:?}");
        if causes.len() == 1 && causes[0]["pairs"] == 50 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("fifty pairs were never counted as one cause");
}

#[tokio::test]
async fn trap_7_nobody_is_told_anything_who_is_not_named_in_a_file() {
    let (legacy, extracted) = (always("[1]").await, always("[2]").await);
    let proxy = between(&legacy, &extracted).await;
    proxy.get("/items/7").await;
    proxy.wait_for_metric(&compared("mismatch"), 1.0).await;

    // Not while it runs: no connection leaves for anything but its own sides.
    let strangers = foreign_connections(proxy.pid());
    assert!(strangers.is_empty(), "{strangers:?}");
    // Nor later: no address of anybody is written in the program.
    let mut named = Vec::new();
    named_hosts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut named);
    assert!(named.is_empty(), "{named:?}");
}

#[tokio::test]
async fn trap_8_neither_legacy_nor_extracted_is_always_asked_last() {
    let asked: Arc<Mutex<Vec<(String, &'static str)>>> = Arc::default();
    let side = |name: &'static str| {
        let asked = Arc::clone(&asked);
        Backend::with(move |seen: &Seen| {
            asked.lock().unwrap().push((seen.target.clone(), name));
            json(r#"{"total": 1}"#.to_owned())
        })
    };
    let (legacy, extracted) = (side("legacy").await, side("extracted").await);
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: total, match: 'GET /total/{id}', extracted: extracted, weight: 0%, shadow: {max_rps: 100000, max_in_flight: 1000}, compare: {a_a: {sample: 100%, max_rps: 10000}}}")
        .start()
        .await;
    let mut last = std::collections::BTreeMap::new();
    for id in 0..2_000 {
        let path = format!("/total/{id}");
        assert_eq!(proxy.get(&path).await.status, 200);
        let begun = std::time::Instant::now();
        let order = loop {
            let order: Vec<&str> =
                asked.lock().unwrap().iter().filter(|(seen, _)| *seen == path).map(|(_, side)| *side).collect();
            if order.len() == 3 {
                break order;
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{order:?}");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        };
        *last.entry(order[2]).or_insert(0) += 1;
        if id >= 40 && last.values().all(|times| *times >= 5) && last.len() == 2 {
            return;
        }
    }
    panic!("asked last: {last:?}");
}

/// Hosts of URLs that stand in the sources, but for loopback, examples, and the name by which JSON Schema calls its version.
fn named_hosts(folder: &Path, named: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            named_hosts(&path, named);
            continue;
        }
        if path.to_string_lossy().contains("/tests") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for rest in
            text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| line.split("://").skip(1))
        {
            let host: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            // Of the last two each is the name of a language: nobody asks there.
            let is_harmless = ["127.0.0.1", "example.com", "legacy.internal", "json-schema.org", "www.w3.org"]
                .iter()
                .any(|end| host.ends_with(end));
            if host.contains('.') && !is_harmless {
                named.push(format!("{host} in {}", path.display()));
            }
        }
    }
}

/// Ends of its TCP connections that are not on loopback.
fn foreign_connections(pid: u32) -> Vec<String> {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|to| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let mut strangers = Vec::new();
    for table in ["tcp", "tcp6"] {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (remote, inode) = (columns[2], columns[9]);
            // In the machine's byte order: 127.0.0.1 ends in 7F, and nobody yet is zeros.
            let address = remote.split(':').next().unwrap_or_default();
            let is_near =
                address.ends_with("7F") || address.bytes().all(|byte| byte == b'0') || address.ends_with("01000000");
            if inodes.iter().any(|own| own == inode) && !is_near {
                strangers.push(remote.to_owned());
            }
        }
    }
    strangers
}
