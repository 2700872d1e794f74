//! What is no sound request is refused with an answer of our own, counted and logged, and nothing of it reaches an upstream.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::proxy::{PATIENCE, Proxy};

/// All that is answered until the connection is closed (or nothing comes for a while).
async fn talk(proxy: &Proxy, pieces: &[&[u8]]) -> (String, bool) {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let mut answer = Vec::new();
    let mut piece = [0u8; 4096];
    loop {
        match tokio::time::timeout(Duration::from_millis(700), stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&answer).into_owned(), true),
            Ok(Ok(read)) => answer.extend_from_slice(&piece[..read]),
            Err(_) => return (String::from_utf8_lossy(&answer).into_owned(), false),
        }
    }
}

#[tokio::test]
async fn what_the_library_would_mend_is_refused_with_an_answer_of_our_own() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).argument("--access-log=json").start().await;
    let both = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for (raw, status, reason) in [
        (both, 400, "bad_framing"),
        ("GET /x HTTP/1.1\nhost: a\n\n", 400, "bad_line_end"),
        ("GET /x HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n", 400, "bad_field"),
        ("GET  /x HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad_request_line"),
        ("GET /x HTTP/3.0\r\nhost: a\r\n\r\n", 505, "bad_version"),
        ("CONNECT a:22 HTTP/1.1\r\nhost: a:22\r\n\r\n", 405, "method_not_accepted"),
        ("~ /bad_field HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad_request_line"),
        ("TRACE /x HTTP/1.1\r\nhost: a\r\n\r\n", 405, "method_not_accepted"),
        ("GET /x HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n", 400, "bad_connection_option"),
    ] {
        let (answer, is_closed) = talk(&proxy, &[raw.as_bytes()]).await;
        let head = answer.to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{raw:?}: {answer}");
        assert!(head.contains(&format!("strangler-error: {reason}\r\n")), "{raw:?}: {answer}");
        assert!(head.contains("content-type: application/problem+json\r\n"), "{raw:?}: {answer}");
        assert!(head.contains("connection: close\r\n") && is_closed, "{raw:?}: {answer}");
        let told = proxy.wait_for_access(&format!("\"error\":\"{reason}\"")).await;
        assert!(told.contains(&format!("\"status\":{status}")), "{told}");
    }
    assert_eq!(legacy.seen().len(), 0);
    assert_eq!(proxy.count(r#"strangler_rejected_total{reason="bad_framing"}"#).await, 1);
}

#[tokio::test]
async fn a_head_that_comes_in_pieces_is_as_good_as_a_whole_one() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    let pieces: [&[u8]; 5] = [
        b"POST /a HT",
        b"TP/1.1\r",
        b"\nhost: a\r\ncontent-length: 5\r\n\r\nab",
        b"cdeGET /b HTTP/1.1\r\nho",
        b"st: a\r\n\r\nGET /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ];
    let (answer, is_closed) = talk(&proxy, &pieces).await;

    assert_eq!((answer.matches("HTTP/1.1 200 OK").count(), is_closed), (3, true), "{answer}");
    let seen: Vec<_> = legacy.seen().iter().map(|seen| (seen.target.clone(), seen.body.clone())).collect();
    assert_eq!(seen, [("/a".into(), "abcde".into()), ("/b".into(), "".into()), ("/c".into(), "".into())]);
}

#[tokio::test]
async fn a_good_request_before_a_bad_one_is_answered_first() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    let (answer, is_closed) =
        talk(&proxy, &[b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"]).await;

    let (first, second) = (answer.find("HTTP/1.1 200").unwrap(), answer.find("HTTP/1.1 400").unwrap());
    assert!(first < second && is_closed, "{answer}");
    assert_eq!(legacy.seen().iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), ["/a"]);
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_ends_the_request_upstream() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    let head = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [&b"5 \r\nabcde\r\n0\r\n\r\n"[..], b"5\r\nabcdef\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\nx: \x01\r\n\r\n"] {
        let (answer, is_closed) = talk(&proxy, &[head, body]).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert!(is_closed, "{body:?}");
    }
    assert_eq!(legacy.seen().len(), 0);
}

#[tokio::test]
async fn a_client_that_only_closes_its_half_is_told_that_its_body_is_cut() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    stream.shutdown().await.unwrap();

    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();

    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("strangler-error: body_cut"), "{answer}");
    assert_eq!(legacy.seen().len(), 0);
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_ends_here() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    let (answer, _) = talk(&proxy, &[b"OPTIONS /x HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n"]).await;
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.contains("allow: GET"), "{answer}");
    assert_eq!(legacy.seen().len(), 0);
    talk(&proxy, &[b"OPTIONS /x HTTP/1.1\r\nhost: a\r\nmax-forwards: 5\r\n\r\n"]).await;
    assert_eq!(legacy.seen()[0].headers["max-forwards"], "4");
}

#[tokio::test]
async fn a_client_of_http_1_0_need_not_name_a_host() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    let (old, is_closed) = talk(&proxy, &[b"GET /health HTTP/1.0\r\n\r\n"]).await;
    let (new, _) = talk(&proxy, &[b"GET /health HTTP/1.1\r\n\r\n"]).await;

    assert!(old.contains(" 200 OK") && is_closed, "{old}");
    assert!(new.starts_with("HTTP/1.1 400 "), "{new}");
    assert_eq!(legacy.seen()[0].headers["host"], "localhost");
}
