//! What comes after a body, and what comes bit by bit.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::proxy::{PATIENCE, Proxy};

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let mut byte = [0u8; 1];
    while !read.ends_with(end.as_bytes()) {
        match tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.unwrap() {
            Ok(1) => read.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&read)),
        }
    }
    String::from_utf8(read).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn declared_trailers_pass_both_ways_and_forbidden_ones_do_not() {
    let (told, mut seen) = tokio::sync::mpsc::channel(1);
    let legacy = Backend::serving(std::sync::Arc::default(), move |mut stream| {
        let told = told.clone();
        async move {
            let head = String::from_utf8_lossy(&read_head(&mut stream).await).into_owned();
            let body = read_until(&mut stream, "0\r\n").await;
            let trailers = read_until(&mut stream, "\r\n\r\n").await;
            told.send((head, body, trailers)).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\ntrailer: x-sum, x-strangler-side\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\nx-strangler-side: y\r\nx-other: z\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let request = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\ntrailer: x-check, authorization, x-forwarded-for\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-check: 7\r\nauthorization: evil\r\nx-forwarded-for: evil\r\nhost: evil\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();

    let answer = read_until(&mut stream, "0\r\n").await;
    let trailers = read_until(&mut stream, "\r\n\r\n").await;

    let (head, body, sent) = seen.recv().await.unwrap();
    assert!(body.contains("abc") && !head.contains("evil"), "{head}{body}");
    assert_eq!(sent, "x-check: 7\r\n\r\n");
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    assert_eq!(trailers, "x-sum: 9\r\n\r\n");
}

#[tokio::test]
async fn each_event_of_a_stream_is_handed_on_at_once() {
    // The next event is sent only when the client has the one before: one that is held back would wait for ever.
    let read = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let has_read = std::sync::Arc::clone(&read);
    let legacy = Backend::serving(std::sync::Arc::default(), move |mut stream| {
        let read = std::sync::Arc::clone(&read);
        async move {
            read_head(&mut stream).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            for number in 0..3 {
                read.acquire().await.unwrap().forget();
                stream.write_all(format!("9\r\ndata: {number}\n\n\r\n").as_bytes()).await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();

    for number in 0..3 {
        read_until(&mut stream, &format!("data: {number}\n\n")).await;
        has_read.add_permits(1);
    }
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn a_client_is_told_to_continue_only_when_its_request_is_taken() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy)
        .route("{name: small, match: 'POST /small', extracted: extracted, weight: 100%, max_body: 4}")
        .start()
        .await;
    let ask = |path: &str, expect: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: {expect}\r\ncontent-length: 5\r\n\r\n")
    };
    for (path, expect, status) in
        [("/small", "100-continue", "413"), ("/any", "tea", "417"), ("/a/../b", "100-continue", "400")]
    {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(ask(path, expect).as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{path}: {answer}");
    }
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(ask("/any", "100-continue").as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("http/1.1 100 "));
    stream.write_all(b"12345").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("http/1.1 200 "));
    assert_eq!(legacy.seen().len(), 1);
    assert!(!legacy.seen()[0].headers.contains_key("expect"));
}
