//! A service behind a bad network: what the client is told, and what it is never told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::backend::{Backend, read_head};
use crate::support::fault::{Fault, Network, Unreachable};
use crate::support::proxy::{PATIENCE, Plan, Proxy};

/// A proxy before `endpoints`, with further `keys` of their upstream.
async fn before(endpoints: &[String], keys: &str) -> Proxy {
    let endpoints: Vec<String> = endpoints.iter().map(|url| format!("'{url}'")).collect();
    let endpoints = endpoints.join(", ");
    Plan::file(&format!("version: 1\nlegacy: m\nupstreams:\n  m: {{endpoints: [{endpoints}]{keys}}}\n")).start().await
}

/// Answers with what it was sent.
async fn echo() -> Backend {
    Backend::with(|seen| Response::new(seen.body.clone())).await
}

/// All that comes until the connection ends, and whether it ended as it should.
async fn raw(proxy: &Proxy, request: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    (answer, ended.is_ok())
}

#[tokio::test]
async fn where_nobody_listens_the_answer_is_there_at_once_or_the_next_endpoints() {
    let (nobody, good) = (Backend::refusing().await, Backend::answering(200, "good").await);
    let alone = before(&[nobody.url()], ", timeouts: {connect: 20s, response_header: 20s}").await;
    let beside = before(&[nobody.url(), good.url()], ", timeouts: {connect: 20s}").await;

    let begun = Instant::now();
    for method in [Method::GET, Method::POST] {
        let answer = alone.send(method, "/", &[], "").await;
        assert_eq!((answer.status, answer.header("strangler-error")), (502, Some("connect_failure")), "{answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "a refusal is no silence: {:?}", begun.elapsed());
    for method in [Method::GET, Method::POST] {
        for _ in 0..6 {
            // Not a byte of it was sent, so even a write may go to the next one.
            assert_eq!(beside.send(method.clone(), "/", &[], "x").await.status, 200);
        }
    }
    assert_eq!(good.seen().len(), 12);
}

#[tokio::test]
async fn an_address_that_swallows_packets_costs_its_own_route_its_bound_and_others_nothing() {
    let dark = Unreachable::new();
    let legacy = Backend::answering(200, "legacy").await;
    let proxy = Plan::file(&format!(
        "version: 1\nlegacy: {}\nupstreams:\n  dark: {{endpoints: ['{}'], timeouts: {{connect: 3s}}, retry: {{times: 0}}}}\nroutes:\n  - {{name: dark, match: /dark, extracted: dark, weight: 100%, fallback: never}}\n",
        legacy.url(),
        dark.url(),
    ))
    .start()
    .await;

    let (waiting, others) = tokio::join!(
        async {
            let answer = proxy.get("/dark").await;
            (answer, Instant::now())
        },
        async {
            for _ in 0..20 {
                assert_eq!(proxy.get("/else").await.body, "legacy");
            }
            Instant::now()
        },
    );

    let (answer, at) = waiting;
    assert_eq!((answer.status, answer.header("strangler-error")), (504, Some("connect_timeout")), "{answer:?}");
    assert!(others < at, "twenty answers from elsewhere take less than one wait in vain");
}

#[tokio::test]
async fn a_service_that_never_answers_is_let_go_when_the_client_is_told() {
    let (closed, mut closings) = mpsc::unbounded_channel();
    let silent = Backend::serving(std::sync::Arc::default(), move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            let rest = stream.read(&mut [0u8; 16]).await;
            let _ = closed.send(matches!(rest, Ok(0) | Err(_)));
        }
    })
    .await;
    let proxy = before(&[silent.url()], ", retry: {times: 0}, timeouts: {response_header: 300ms}").await;

    assert_eq!(proxy.get("/").await.status, 504);

    let is_closed = tokio::time::timeout(PATIENCE, closings.recv()).await.unwrap();
    assert_eq!(is_closed, Some(true), "nobody reads what it may say yet");
}

#[tokio::test]
async fn an_answer_that_is_reset_midway_never_looks_whole_however_it_is_framed() {
    let body = "x".repeat(4 << 10);
    for (framing, body) in [
        ("content-length: 4096\r\n", body.clone()),
        (
            "transfer-encoding: chunked\r\n",
            format!("400\r\n{}\r\n400\r\n{}\r\n0\r\n\r\n", &body[..1024], &body[..1024]),
        ),
        // Its end is the connection's end, which a reset is not.
        ("connection: close\r\n", body.clone()),
    ] {
        let answer: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}").into_boxed_str());
        let service = Backend::raw(answer.as_bytes()).await;
        let network = Network::with(service.address, Fault { reset_after: Some(1_500), ..Fault::default() }).await;
        let proxy = before(&[network.near.url()], "").await;

        let answer = proxy.try_send(Method::GET, "/", &[], "").await;
        assert!(answer.is_err(), "{framing:?}: {answer:?}");
        let (old, is_whole) = raw(&proxy, b"GET / HTTP/1.0\r\n\r\n").await;
        let says_a_length = old.to_ascii_lowercase().windows(16).any(|part| part == b"content-length: ");
        assert!(says_a_length || !is_whole, "{framing:?}: {}", old.escape_ascii());
        let failed = proxy.admin(Method::GET, "/metrics", "").await.body;
        let counted = failed.lines().any(|line| line.starts_with("strangler_failures_total{") && !line.ends_with(" 0"));
        assert!(counted, "{framing:?}: {failed}");
        network.set(Fault::default());
        assert_eq!(proxy.get("/").await.status, 200, "{framing:?}: the next one is whole");
    }
}

#[tokio::test]
async fn late_and_sliced_bytes_are_the_bytes_that_were_sent() {
    const BODY: &str = "0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n5;x\r\nHTTP/1.1 500 No\r\n\r\n";
    let service = echo().await;
    for slice in [1, 2, 3, 7, 64] {
        let latency = Duration::from_millis(if slice < 64 { 0 } else { 5 });
        let network = Network::with(service.address, Fault { latency, slice, ..Fault::default() }).await;
        let proxy = before(&[network.near.url()], "").await;
        for _ in 0..3 {
            assert_eq!(proxy.post("/", BODY).await.body, BODY, "{slice}");
        }
        let chunks: String = BODY
            .as_bytes()
            .chunks(9)
            .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
            .collect();
        let chunked = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        );
        let (answer, _) = raw(&proxy, chunked.as_bytes()).await;
        assert!(String::from_utf8_lossy(&answer).contains(BODY), "{slice}: {}", answer.escape_ascii());
    }
    assert!(service.seen().iter().all(|seen| seen.body == BODY && seen.target == "/"));
    assert_eq!(service.seen().len(), 20);
}

#[tokio::test]
async fn a_narrow_line_is_slow_and_no_fault_and_a_dark_one_ends_at_its_bound() {
    const BYTES: usize = 200 << 10;
    let service = Backend::with(|_| Response::new(Bytes::from(vec![b'x'; BYTES]))).await;
    let network = Network::with(service.address, Fault { rate: 128 << 10, slice: 4 << 10, ..Fault::default() }).await;
    let proxy =
        before(&[network.near.url()], ", timeouts: {idle: 800ms, response_header: 800ms}, retry: {times: 0}").await;

    let begun = Instant::now();
    assert_eq!(proxy.get("/").await.body.len(), BYTES);
    assert!(begun.elapsed() > Duration::from_millis(800), "it took longer than any single wait may");

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_head(&mut stream).await;
    network.set(Fault { is_dark: true, ..Fault::default() });
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends");
    assert!(rest.len() < BYTES, "{}", rest.len());
}

#[tokio::test]
async fn a_service_that_was_in_the_dark_is_there_again_when_the_light_is() {
    let service = Backend::answering(200, "ok").await;
    let network = Network::before(service.address).await;
    let proxy =
        before(&[network.near.url()], ", timeouts: {connect: 500ms, response_header: 500ms}, retry: {times: 0}").await;
    assert_eq!(proxy.get("/").await.status, 200);

    network.set(Fault { is_dark: true, ..Fault::default() });
    for _ in 0..3 {
        assert_eq!(proxy.get("/").await.status, 504);
    }
    network.set(Fault::default());

    for _ in 0..10 {
        assert_eq!(proxy.get("/").await.status, 200, "no connection of the dark time is used again");
    }
}
