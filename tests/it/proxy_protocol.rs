//! PROXY protocol from balancers, and who then counts as the client.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::plane::{Plane, wait_until};
use crate::support::proxy::PATIENCE;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\nconnection: close\r\n\r\n";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

/// What comes back for these pieces, each in a segment of its own; empty when the connection is closed without a word.
async fn talk(plane: &Plane, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut answer = Vec::new();
    // A reset says the same as an end.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it was kept open");
    String::from_utf8_lossy(&answer).into_owned()
}

fn expecting_a_header(legacy: &Backend) -> crate::support::plane::Setup {
    Plane::before(legacy).trusting("127.0.0.0/8").listener(|listener| listener.proxy_protocol = true)
}

#[tokio::test]
async fn the_client_is_who_the_balancer_says() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = expecting_a_header(&legacy).start();
    let four = v2(0x21, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0, 80, 4, 0, 2, 7, 7]);

    let one = [&b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 80\r\n"[..], REQUEST].concat();
    let unknown = [&b"PROXY UNKNOWN\r\n"[..], REQUEST].concat();
    let local = [&v2(0x20, 0, &[])[..], REQUEST].concat();
    let cut = [&four[..5], &four[5..18], &[&four[18..], REQUEST].concat()];
    for pieces in [&[&one[..]][..], &cut, &[&unknown], &[&local]] {
        let answer = talk(&plane, pieces).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    let seen: Vec<String> =
        legacy.seen().iter().map(|seen| seen.headers["x-forwarded-for"].to_str().unwrap().to_owned()).collect();
    // A balancer that speaks for itself is believed; a client whose address it does not tell is not.
    assert_eq!(seen, ["203.0.113.7", "203.0.113.9", "127.0.0.1", "192.0.2.1, 127.0.0.1"]);
}

#[tokio::test]
async fn what_is_no_header_is_closed_and_counted() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = expecting_a_header(&legacy).start();

    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    let bad =
        [REQUEST, b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", &long, &v2(0x22, 0x11, &[0; 12]), &v2(0x21, 0x11, &[0; 3])];
    for bytes in bad {
        assert_eq!(talk(&plane, &[bytes]).await, "");
    }

    plane.wait_for_rejected("proxy_protocol", 5.0).await;
    assert!(legacy.seen().is_empty());
}

#[tokio::test]
async fn only_trusted_peers_may_say_who_the_client_is() {
    let legacy = Backend::answering(200, "ok").await;
    let plane =
        Plane::before(&legacy).trusting("10.0.0.0/8").listener(|listener| listener.proxy_protocol = true).start();

    let one = [&b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 80\r\n"[..], REQUEST].concat();
    assert_eq!(talk(&plane, &[&one]).await, "");
    plane.wait_for_rejected("proxy_protocol", 1.0).await;
}

#[tokio::test]
async fn a_header_that_does_not_come_ends_the_connection() {
    let legacy = Backend::answering(200, "ok").await;
    let plane =
        expecting_a_header(&legacy).limits(|limits| limits.header_deadline = Duration::from_millis(300)).start();

    assert_eq!(talk(&plane, &[b"PROXY TCP4 203.0.113.7"]).await, "");
    plane.wait_for_rejected("proxy_protocol", 1.0).await;
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_the_listener_too() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = expecting_a_header(&legacy)
        .listener(|listener| (listener.max_connections, listener.max_connections_per_ip) = (4, 1))
        .start();
    let keep = |client: &str| {
        let first = format!("PROXY TCP4 {client} 10.0.0.1 8080 80\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let address = plane.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(first.as_bytes()).await;
            let head = read_head(&mut stream).await;
            (stream, String::from_utf8(head).unwrap())
        }
    };

    let (first, head) = keep("203.0.113.1").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(keep("203.0.113.1").await.1, "", "the client's second");
    plane.wait_for_rejected("too_many_connections_of_client", 1.0).await;
    let mut kept = Vec::new();
    for at in 2..=4 {
        let (stream, head) = keep(&format!("203.0.113.{at}")).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        kept.push(stream);
    }
    assert_eq!(keep("203.0.113.5").await.1, "", "one more than the listener has");
    plane.wait_for_rejected("too_many_connections", 1.0).await;

    drop(first);
    wait_until(|| plane.connections() < 4.0, "a free place").await;
    assert!(keep("203.0.113.1").await.1.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn ipv6_is_spoken() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).listener(|listener| listener.address = "[::1]:0".parse().unwrap()).start();

    let answer = talk(&plane, &[REQUEST]).await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(legacy.seen()[0].headers["x-forwarded-for"], "::1");
}
