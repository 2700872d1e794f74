//! Answers that come while their request, or a part of the answer itself, is still missing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::backend::{Backend, read_head};
use crate::support::proxy::{PATIENCE, Plan, Proxy};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A client that reads no answer before it has sent all of its request, as the usual libraries do: head, body, what came.
async fn post(proxy: &Proxy, target: &str, body_bytes: usize) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {body_bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..body_bytes / piece.len() {
        stream.write_all(&piece).await.expect("the upload is not cut off");
    }
    to_the_end(&mut stream).await
}

async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(proxy: &Proxy, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    to_the_end(&mut stream).await
}

/// As large as no socket's buffers.
const LARGE: usize = 16 << 20;

#[tokio::test]
async fn an_upload_that_is_too_large_is_told_so_to_a_client_that_sends_on() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy)
        .route("{name: small, match: /small, extracted: extracted, weight: 100%, max_body: 1KiB}")
        .start()
        .await;

    let answer = post(&proxy, "/small", LARGE).await;

    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("strangler-error: body_too_large"), "{answer}");
}

#[tokio::test]
async fn a_service_that_refuses_an_upload_and_closes_is_heard() {
    for rest in ["content-length: 6\r\n\r\ndenied", "connection: close\r\ncontent-length: 6\r\n\r\ndenied"] {
        let legacy = Backend::serving(std::sync::Arc::default(), move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(format!("HTTP/1.1 403 Forbidden\r\n{rest}").as_bytes()).await;
            // Closed with the body unread, which resets the connection.
        })
        .await;
        let proxy = Proxy::between(&legacy, &legacy).start().await;
        for _ in 0..10 {
            let answer = post(&proxy, "/", LARGE).await;
            assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\ndenied"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_service_that_answers_early_and_reads_no_more_holds_nobody() {
    let legacy = Backend::serving(std::sync::Arc::default(), |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\ndenied").await;
        tokio::time::sleep(PATIENCE).await;
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    let answer = post(&proxy, "/", LARGE).await;

    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\ndenied"), "{answer}");
}

#[tokio::test]
async fn an_answer_cut_at_any_byte_is_never_nothing_and_never_whole() {
    for (raw, cut_length) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", true),
    ] {
        let legacy = Backend::raw(raw.as_bytes()).await;
        let proxy = Proxy::between(&legacy, &legacy).start().await;
        for _ in 0..20 {
            let answer = ask(&proxy, GET).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{raw:?} became {answer:?}");
            assert_eq!(answer.contains("abc"), raw.contains("abc"), "{raw:?} became {answer:?}");
            assert!(!answer.ends_with("0\r\n\r\n"), "{raw:?} became {answer:?}");
            assert_eq!(answer.contains("chunked"), cut_length, "{answer}");
        }
    }
}

#[tokio::test]
async fn answers_that_are_none_yet_have_an_end() {
    for (hints, status) in [(1, "200 OK"), (100, "200 OK"), (101, "502 Bad Gateway"), (5_000, "502 Bad Gateway")] {
        let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n".repeat(hints)
            + "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let legacy = Backend::raw(answer.leak().as_bytes()).await;
        let proxy = Proxy::between(&legacy, &legacy).start().await;
        let answer = ask(&proxy, GET).await;
        assert!(answer.contains(&format!("HTTP/1.1 {status}\r\n")), "{hints}: {answer}");
        assert_eq!(answer.contains("strangler-error: bad_response"), status.starts_with("502"), "{answer}");
    }
}

/// Tries in which an answer must begin in time at least once: on a machine with much else to do not every one does.
const TRIES: usize = 100;

#[tokio::test]
async fn a_client_that_closes_its_half_still_gets_its_answer() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    proxy.get("/warm").await;
    for request in
        [GET, b"GET / HTTP/1.0\r\n\r\n", b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n"]
    {
        let asked = request.windows(4).filter(|bytes| bytes == b"GET ").count();
        let mut answers = Vec::new();
        while answers.len() < TRIES && !answers.iter().any(|it: &String| it.matches(" 200 OK\r\n").count() == asked) {
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
            answers.push(to_the_end(&mut stream).await);
        }
        assert!(answers.len() < TRIES, "{answers:?}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_all_of_a_long_answer() {
    const BYTES: usize = 64 << 20;
    let legacy = Backend::serving(std::sync::Arc::default(), |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n").as_bytes()).await;
        let piece = vec![b'x'; 1 << 20];
        for number in 0..BYTES / piece.len() {
            if number == 8 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let _ = stream.write_all(&piece).await;
        }
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    for _ in 0..TRIES {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut first = vec![0; 1 << 10];
        if stream.read_exact(&mut first).await.is_err() {
            continue;
        }
        // It reads nothing for longer than a silent client is given; so is the service silent in between.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(first.len() + rest.len() > BYTES, "{}", first.len() + rest.len());
        return;
    }
    panic!("no answer began in time");
}

#[tokio::test]
async fn a_client_that_has_gone_is_not_waited_for_whatever_its_end_looks_like() {
    for is_half in [false, true] {
        let (ended, mut ends) = mpsc::unbounded_channel();
        let legacy = Backend::serving(std::sync::Arc::default(), move |mut stream| {
            let ended = ended.clone();
            async move {
                read_head(&mut stream).await;
                let _ = stream.read(&mut [0; 1]).await;
                let _ = ended.send(());
            }
        })
        .await;
        let plan: Plan = Proxy::between(&legacy, &legacy);
        let proxy = plan.start().await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        stream.shutdown().await.unwrap();
        let kept = is_half.then_some(stream);
        tokio::time::timeout(PATIENCE, ends.recv()).await.expect("the service is let go");
        drop(kept);
    }
}
