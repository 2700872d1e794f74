//! What serves a connection's requests is taken down while it is idle, and nobody notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::plane::Plane;
use crate::support::proxy::PATIENCE;

/// Long enough to be put to rest.
const A_WHILE: Duration = Duration::from_millis(1_700);

async fn answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let head = String::from_utf8(tokio::time::timeout(PATIENCE, read_head(stream)).await.unwrap()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0u8; length.trim().parse().unwrap()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut body)).await.unwrap().unwrap();
    (head, body)
}

#[tokio::test]
async fn a_connection_serves_on_after_each_rest() {
    let legacy = Backend::with(|seen| http::Response::new(seen.target.clone().into())).await;
    let plane = Plane::before(&legacy).limits(|limits| limits.requests_per_connection = 6).start();
    let mut stream = TcpStream::connect(plane.address).await.unwrap();

    tokio::time::sleep(A_WHILE).await;
    stream.write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.1, b"/1");
    tokio::time::sleep(A_WHILE).await;
    // In parts: the first wakes it up, and it does not rest amid a head.
    stream.write_all(b"GET /2 HTTP/1.1\r\nho").await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    stream.write_all(b"st: a\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.1, b"/2");
    tokio::time::sleep(A_WHILE).await;
    stream
        .write_all(b"GET /3 HTTP/1.1\r\nhost: a\r\n\r\nGET /4 HTTP/1.1\r\nhost: a\r\n\r\nGET /5 HTTP/1.1\r\n")
        .await
        .unwrap();
    assert_eq!(answer(&mut stream).await.1, b"/3");
    assert_eq!(answer(&mut stream).await.1, b"/4");
    stream.write_all(b"host: a\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut stream).await.1, b"/5");
    tokio::time::sleep(A_WHILE).await;
    // Nor does it amid a body.
    stream.write_all(b"POST /6 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    stream.write_all(b"cd").await.unwrap();
    let (head, body) = answer(&mut stream).await;
    assert_eq!(body, b"/6");
    assert!(head.contains("connection: close"), "its requests are counted over its rests: {head}");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_answer_that_is_read_late_is_read_whole() {
    let legacy = Backend::with(|seen| {
        let bytes: usize = seen.target.trim_start_matches('/').parse().unwrap();
        http::Response::new(vec![b'x'; bytes].into())
    })
    .await;
    let plane = Plane::before(&legacy).start();

    // Some of them end just where a socket is full.
    let reads = (0..40).map(|step| {
        let address = plane.address;
        async move {
            let bytes = 50_000 + step * 110_000;
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET /{bytes} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            tokio::time::sleep(2 * A_WHILE).await;
            assert_eq!(answer(&mut stream).await.1.len(), bytes);
            stream.write_all(b"GET /7 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            assert_eq!(answer(&mut stream).await.1, b"xxxxxxx");
        }
    });
    for read in reads.map(tokio::spawn).collect::<Vec<_>>() {
        read.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_connection_rests_is_let_go() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).start();
    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    answer(&mut stream).await;
    tokio::time::sleep(A_WHILE).await;
    assert!((plane.connections() - 1.0).abs() < 0.5);

    drop(stream);

    crate::support::plane::wait_until(|| plane.connections() < 0.5, "the connection's end").await;
}
