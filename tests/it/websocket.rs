//! A connection is switched to another protocol where that is allowed, and then carries bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::plane::{Plane, wait_until};
use crate::support::proxy::{PATIENCE, Proxy};

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

/// Switches to whatever is asked for, tells what it was asked in its first bytes, then echoes.
async fn echoing() -> Backend {
    Backend::serving(std::sync::Arc::default(), |mut stream| async move {
        let head = String::from_utf8_lossy(&read_head(&mut stream).await).to_ascii_lowercase();
        if !head.contains("upgrade: websocket") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await;
            return;
        }
        if head.contains("/refused") {
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = stream.write_all(SWITCHED).await;
        let mut piece = [0u8; 1024];
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            if piece[..read].starts_with(b"die") {
                return;
            }
            let _ = stream.write_all(&piece[..read]).await;
        }
    })
    .await
}

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

async fn answer(stream: &mut TcpStream) -> String {
    let head = tokio::time::timeout(PATIENCE, read_head(stream)).await.unwrap();
    String::from_utf8_lossy(&head).to_ascii_lowercase()
}

async fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    expect(stream, text).await;
}

async fn expect(stream: &mut TcpStream, text: &[u8]) {
    let mut back = vec![0u8; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, text);
}

#[tokio::test]
async fn a_websocket_is_carried_both_ways_to_the_monolith_and_where_a_route_allows_it() {
    let backend = echoing().await;
    let proxy = Proxy::between(&backend, &backend)
        .argument("--access-log=json")
        .route("{name: chat, match: '/chat', extracted: extracted, weight: 100%, upgrade: [websocket]}")
        .route("{name: plain, match: '/plain', extracted: extracted, weight: 100%}")
        .start()
        .await;

    for path in ["/legacy", "/chat"] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(upgrade(path).as_bytes()).await.unwrap();
        let head = answer(&mut stream).await;
        assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n") && head.contains("sec-websocket-accept: x\r\n"), "{head}");
        echo(&mut stream, b"\x81\x85hello").await;
        // A line that would be no request, and a silence.
        tokio::time::sleep(Duration::from_millis(300)).await;
        echo(&mut stream, b"\r\n\n\x00GET / HTTP/9.9\r\n\r\n").await;
    }
    let told = proxy.wait_for_access("\"route\":\"chat\"").await;
    assert!(told.contains("\"status\":101") && told.contains("\"bytes\":29"), "{told}");

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(upgrade("/plain").as_bytes()).await.unwrap();
    let head = answer(&mut stream).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_service_that_does_not_switch_answers_and_the_connection_goes_on() {
    let backend = echoing().await;
    let proxy = Proxy::between(&backend, &backend).start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();

    stream.write_all(upgrade("/refused").as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("http/1.1 403 "));
    expect(&mut stream, b"no").await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();

    assert!(answer(&mut stream).await.starts_with("http/1.1 200 "));
}

#[tokio::test]
async fn bytes_behind_a_request_for_another_protocol_wait_for_its_answer() {
    let backend = echoing().await;
    let proxy = Proxy::between(&backend, &backend).start().await;

    let mut early = TcpStream::connect(proxy.address).await.unwrap();
    early.write_all(format!("{}early\x01", upgrade("/ws")).as_bytes()).await.unwrap();
    assert!(answer(&mut early).await.starts_with("http/1.1 101 "));
    expect(&mut early, b"early\x01").await;

    let mut pipelined = TcpStream::connect(proxy.address).await.unwrap();
    let next =
        format!("GET /before HTTP/1.1\r\nhost: a\r\n\r\n{}GET /next HTTP/1.1\r\nhost: a\r\n\r\n", upgrade("/refused"));
    pipelined.write_all(next.as_bytes()).await.unwrap();
    for (status, body) in [("200", &b"plain"[..]), ("403", b"no"), ("200", b"plain")] {
        assert!(answer(&mut pipelined).await.starts_with(&format!("http/1.1 {status} ")));
        expect(&mut pipelined, body).await;
    }
}

#[tokio::test]
async fn what_is_no_request_for_a_websocket_is_answered_as_any_other() {
    let backend = echoing().await;
    let proxy = Proxy::between(&backend, &backend).start().await;
    for request in [
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 1\r\n\r\nx",
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = answer(&mut stream).await;
        assert!(head.contains(" 200 "), "{request:?}: {head}");
    }
}

#[tokio::test]
async fn a_service_that_dies_ends_the_clients_socket_and_a_stop_waits_for_the_others() {
    let backend = echoing().await;
    let mut proxy = Proxy::between(&backend, &backend).argument("--drain-deadline=1s").start().await;
    let mut dying = TcpStream::connect(proxy.address).await.unwrap();
    dying.write_all(upgrade("/ws").as_bytes()).await.unwrap();
    answer(&mut dying).await;
    dying.write_all(b"die").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, dying.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());

    let mut living = TcpStream::connect(proxy.address).await.unwrap();
    living.write_all(upgrade("/ws").as_bytes()).await.unwrap();
    answer(&mut living).await;
    proxy.signal("TERM");
    proxy.wait_for_log("stopping");
    echo(&mut living, b"still here").await;
    assert!(proxy.wait().success());
}

#[tokio::test]
async fn a_socket_keeps_its_connections_place_on_the_listener() {
    let backend = echoing().await;
    let plane = Plane::before(&backend).listener(|listener| listener.max_connections = 1).start();
    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    stream.write_all(upgrade("/ws").as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("http/1.1 101 "));
    echo(&mut stream, b"there").await;

    assert!((plane.connections() - 1.0).abs() < f64::EPSILON, "{}", plane.connections());
    let mut second = TcpStream::connect(plane.address).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, second.read(&mut [0u8; 1])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "there is one place");
    echo(&mut stream, b"and stays").await;

    drop(stream);
    wait_until(|| plane.connections() < 1.0, "the place to be free again").await;
    let mut third = TcpStream::connect(plane.address).await.unwrap();
    third.write_all(upgrade("/ws").as_bytes()).await.unwrap();
    assert!(answer(&mut third).await.starts_with("http/1.1 101 "));
}
