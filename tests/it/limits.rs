//! Bounds on clients, and what is answered at them.

use bytes::Bytes;
use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::proxy::{PATIENCE, Proxy};

/// The answer to `request`, sent in one piece.
async fn answer_to(proxy: &Proxy, request: &[u8]) -> String {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let request = request.to_vec();
    // The proxy may well stop reading before the end.
    let writing = tokio::spawn(async move {
        let _ = writer.write_all(&request).await;
        // Open until the answer is there: a client that closes is one that has gone.
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    let reading = reader.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    writing.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_and_bodies_over_their_bounds_are_answered_with_what_was_too_much() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy)
        .route("{name: small, match: 'POST /small', extracted: extracted, weight: 100%, max_body: 1MiB}")
        .start()
        .await;
    let head = |rest: &str| format!("GET / HTTP/1.1\r\nhost: a\r\n{rest}\r\n\r\n");
    let long = "v".repeat(17 << 10);
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "b".repeat(1 << 16));
    let chunked =
        format!("POST /small HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(40));
    let measured =
        format!("POST /small HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{}", 4 << 20, "b".repeat(4 << 20));
    for (request, status, reason) in [
        (head("").replace("GET /", &format!("GET /{long}")), 414, "target_too_long"),
        (head(&format!("x: {long}")), 431, "fields_too_large"),
        (head(&"x: y\r\n".repeat(100)), 431, "fields_too_large"),
        (head(&format!("x: {}\r\n", "v".repeat(9 << 10)).repeat(8)), 431, "fields_too_large"),
        (measured, 413, "body_too_large"),
        (chunked, 413, "body_too_large"),
    ] {
        let answer = answer_to(&proxy, request.as_bytes()).await;
        let begin: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{begin:?}: {answer}");
        assert!(answer.contains(&format!("strangler-error: {reason}\r\n")), "{begin:?}: {answer}");
    }
    assert_eq!(legacy.seen().len(), 0);
}

#[tokio::test]
async fn the_bounds_of_a_head_are_those_that_the_process_was_given() {
    let legacy = Backend::answering(200, "ok").await;
    let flags = ["--limit-request-line=1KiB", "--limit-header-bytes=2KiB", "--limit-headers=5"];
    let plan = flags.iter().fold(Proxy::between(&legacy, &legacy), |plan, flag| plan.argument(flag));
    let proxy = plan.start().await;
    let head = |path: &str, rest: &str| format!("GET /{path} HTTP/1.1\r\nhost: a\r\n{rest}connection: close\r\n\r\n");
    for (request, status) in [
        (head(&"a".repeat(900), ""), 200),
        (head(&"a".repeat(1_100), ""), 414),
        (head("", &format!("x: {}\r\n", "v".repeat(2_100))), 431),
        (head("", "x: y\r\n"), 200),
        (head("", &"x: y\r\n".repeat(4)), 431),
    ] {
        let answer = answer_to(&proxy, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn behind_a_balancer_each_client_has_its_own_rate_and_none_can_pass_for_another() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy)
        .argument("--trusted-proxies=127.0.0.0/8,10.0.0.0/8")
        .argument("--access-log=json")
        .route("{name: few, match: /few, extracted: extracted, rate_limit: {rate: 1/h}}")
        .start()
        .await;
    // A balancer appends what it sees; what stands before that, the client wrote.
    for (forwarded_for, expect) in [
        ("203.0.113.1", 200),
        ("203.0.113.2", 200),
        ("203.0.113.2", 429),
        ("198.51.100.77, 203.0.113.1", 429),
        ("198.51.100.77, 203.0.113.3, 10.0.0.9", 200),
        ("203.0.113.3", 429),
    ] {
        let answer = proxy.send(Method::GET, "/few", &[("x-forwarded-for", forwarded_for)], "").await;
        assert_eq!(answer.status, expect, "{forwarded_for}");
    }
    proxy.send(Method::GET, "/logged", &[("x-forwarded-for", "6.6.6.6, 203.0.113.4")], "").await;
    let line = proxy.wait_for_access("/logged").await;
    assert!(line.contains(r#""client":"203.0.113.4""#), "{line}");
}

#[tokio::test]
async fn a_client_has_its_routes_rate_and_no_more() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy)
        .argument("--access-log=json")
        .route(
            "{name: by-user, match: /u, extracted: extracted, rate_limit: {key: 'header:x-user', rate: 1/h, burst: 2}}",
        )
        .route("{name: by-address, match: /a, extracted: extracted, rate_limit: {rate: 3/h}}")
        .start()
        .await;
    let as_user = |user: &'static str| {
        let proxy = &proxy;
        async move { proxy.send(Method::GET, "/u", &[("x-user", user)], "").await }
    };

    for user in ["ann", "ann", "bob", "bob"] {
        assert_eq!(as_user(user).await.status, 200, "{user}");
    }
    let refused = as_user("ann").await;
    assert_eq!((refused.status, refused.header("strangler-error")), (429, Some("rate_limited")));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"route\";q=2;w=7200"));
    assert!(refused.header("ratelimit").unwrap().starts_with("\"route\";r=0;t="), "{refused:?}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    for expect in [200, 200, 200, 429] {
        assert_eq!(proxy.get("/a").await.status, expect);
    }
    assert_eq!(legacy.seen().len(), 7);
    assert_eq!(proxy.count(r#"strangler_rejected_total{reason="rate_limited"}"#).await, 2);
    proxy.wait_for_access("\"status\":429").await;

    // A reload that leaves the bound as it is fills nobody's bucket.
    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    proxy.write_routes(&format!("{text}  - {{name: more, match: /more, extracted: extracted}}\n"));
    proxy.wait_for_metric(r#"strangler_config_reloads_total{result="accepted"}"#, 1.0).await;
    assert_eq!(as_user("ann").await.status, 429);
}

/// Resident memory, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn large_bodies_pass_either_way_in_little_memory() {
    const BYTES: usize = 192 << 20;
    let legacy = Backend::serving(std::sync::Arc::default(), |mut stream| async move {
        let head = String::from_utf8_lossy(&read_head(&mut stream).await).into_owned();
        let mut piece = vec![b'x'; 1 << 16];
        if head.starts_with("POST") {
            let mut left = BYTES;
            while left > 0 {
                left -= stream.read(&mut piece).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            return;
        }
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes()).await.unwrap();
        for _ in 0..BYTES / piece.len() {
            stream.write_all(&piece).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    proxy.admin(Method::GET, "/metrics", "").await;
    let before = resident(proxy.pid());

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_head(&mut stream).await;
    let mut piece = vec![0u8; 1 << 16];
    let mut left = BYTES;
    while left > 0 {
        left -= stream.read(&mut piece).await.unwrap();
    }
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    for _ in 0..BYTES / piece.len() {
        stream.write_all(&piece).await.unwrap();
    }
    assert!(read_head(&mut stream).await.starts_with(b"HTTP/1.1 200 "));

    let grown = resident(proxy.pid()) - before;
    assert!(grown < BYTES as u64 / 8, "{grown} bytes more for {BYTES}");
}

#[tokio::test]
async fn a_body_that_is_refused_midway_ends_the_request_at_the_service() {
    let legacy = Backend::with(|seen| Response::new(Bytes::from(seen.body.len().to_string()))).await;
    let proxy = Proxy::between(&legacy, &legacy)
        .route("{name: small, match: 'POST /small', extracted: extracted, weight: 100%, max_body: 100KiB}")
        .start()
        .await;
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 15, "b".repeat(1 << 15));
    let request = format!("POST /small HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}", chunk.repeat(8));

    let answer = answer_to(&proxy, request.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(legacy.seen().len(), 0);
    assert_eq!(proxy.count(r#"strangler_rejected_total{reason="body_too_large"}"#).await, 1);
}
