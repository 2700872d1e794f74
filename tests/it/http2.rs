//! HTTP/2 from clients, in the clear and on the port that speaks HTTP/1, too.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::plane::{Plane, wait_until};
use crate::support::proxy::{PATIENCE, exchange};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

async fn connect(plane: &Plane) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(target: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://shop.example.com{target}")).version(Version::HTTP_2).body(Full::default()).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A client that sends and reads frames as a test writes them.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    async fn connect(plane: &Plane) -> Raw {
        Raw { stream: TcpStream::connect(plane.address).await.unwrap() }
    }

    /// With the preface and an empty SETTINGS.
    async fn greeting(plane: &Plane) -> Raw {
        let mut raw = Raw::connect(plane).await;
        raw.stream.write_all(PREFACE).await.unwrap();
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    /// The next frame: kind, stream, payload; `None` at the connection's end, or when it is reset.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut head)).await.expect("nothing came").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// The code of the GOAWAY that comes, if one does before the end.
    async fn goaway(&mut self) -> Option<u32> {
        while let Some((kind, _, payload)) = self.next().await {
            if kind == GOAWAY {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        None
    }

    /// Reads to the connection's end.
    async fn end(&mut self) {
        while self.next().await.is_some() {}
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK without compression.
pub(crate) fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in all {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

pub(crate) fn get_fields() -> Vec<u8> {
    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "shop.example.com"), (":path", "/")])
}

#[tokio::test]
async fn both_versions_are_spoken_on_one_port() {
    let legacy = Backend::answering(200, "from the monolith").await;
    let plane = Plane::before(&legacy).start();

    let mut sender = connect(&plane).await;
    let second = sender.send_request(get("/two")).await.unwrap();
    let first = exchange(plane.address, Request::get("/one").header("host", "a").body(Full::default()).unwrap()).await;

    assert_eq!((second.status(), second.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(text(second).await, "from the monolith");
    assert_eq!(first.unwrap().body, "from the monolith");
    let seen = legacy.seen();
    assert_eq!((seen[0].target.as_str(), &seen[0].headers["host"]), ("/two", &"shop.example.com".parse().unwrap()));
    assert_eq!(
        (&seen[0].headers["via"], &seen[1].headers["via"]),
        (&"2 strangler".parse().unwrap(), &"1.1 strangler".parse().unwrap())
    );
}

#[tokio::test]
async fn first_bytes_that_come_one_by_one_tell_as_well() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).start();
    let trickle = |first: Vec<u8>| {
        let address = plane.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for byte in first {
                stream.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stream
        }
    };

    // Begins as the preface does, and is another thing.
    let mut first = trickle(b"PRINT / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec()).await;
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    let mut second = Raw { stream: trickle([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await };
    second.send(HEADERS, 5, 1, &get_fields()).await;
    let mut kinds = Vec::new();
    while !kinds.contains(&HEADERS) {
        kinds.push(second.next().await.unwrap().0);
    }

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(legacy.seen()[0].method.as_str(), "PRINT");
}

#[tokio::test]
async fn an_upstream_of_http_1_sees_a_request_of_its_own_kind() {
    let legacy = Backend::with(|seen| Response::new(seen.body.clone())).await;
    let plane = Plane::before(&legacy).start();

    let mut sender = connect(&plane).await;
    let body = Bytes::from(vec![b'x'; 300_000]);
    let mut request = Request::post("http://shop.example.com/in").version(Version::HTTP_2);
    for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("host", "evil.example"), ("te", "trailers")] {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Full::new(body.clone())).unwrap()).await.unwrap();
    let back = response.into_body().collect().await.unwrap().to_bytes();

    assert_eq!(back, body);
    let seen = &legacy.seen()[0];
    assert_eq!(seen.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    assert_eq!(seen.headers.get_all("host").iter().collect::<Vec<_>>(), ["shop.example.com"]);
    assert_eq!(seen.headers["x-forwarded-host"], "shop.example.com");
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let legacy = Backend::with(|seen| Response::new(seen.target.clone().into())).await;
    let plane = Plane::before(&legacy).start();

    let sender = connect(&plane).await;
    let mut all = tokio::task::JoinSet::new();
    for at in 0..200 {
        let mut sender = sender.clone();
        all.spawn(
            async move { text(sender.send_request(get(&format!("/{at}"))).await.unwrap()).await == format!("/{at}") },
        );
    }

    assert!(all.join_all().await.into_iter().all(|is_own| is_own));
    assert!((plane.connections() - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn what_the_door_refuses_is_refused() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).start();
    let mut sender = connect(&plane).await;

    for (request, expect) in [
        (Request::get("http://shop.example.com/../x"), (400, "dot_segment")),
        (Request::get("ftp://shop.example.com/"), (400, "bad_target")),
        (Request::get("http://me@shop.example.com/"), (400, "bad_host")),
        (Request::builder().method("TRACE").uri("http://shop.example.com/"), (405, "method_not_accepted")),
    ] {
        let request = request.version(Version::HTTP_2).body(Full::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let reason = response.headers()["strangler-error"].to_str().unwrap();
        assert_eq!((response.status().as_u16(), reason), expect);
    }
    let mut raw = Raw::greeting(&plane).await;
    raw.send(HEADERS, 5, 1, &[get_fields(), fields(&[("x", " padded")])].concat()).await;
    plane.wait_for_rejected("bad_field", 1.0).await;
    let mut request = get("/");
    for at in 0..101 {
        request.headers_mut().insert(http::HeaderName::try_from(format!("x-{at}")).unwrap(), "1".parse().unwrap());
    }
    assert_eq!(sender.send_request(request).await.unwrap().status(), 431);
    assert!(legacy.seen().is_empty());
    assert!(plane.rejected("fields_too_large") > 0.0);
}

#[tokio::test]
async fn a_client_that_says_nothing_but_hello_is_let_go() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).limits(|limits| limits.header_deadline = Duration::from_millis(300)).start();

    for first in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM", PREFACE] {
        let mut raw = Raw::connect(&plane).await;
        raw.stream.write_all(first).await.unwrap();
        raw.end().await;
    }

    plane.wait_for_rejected("header_timeout", 4.0).await;
}

#[tokio::test]
async fn an_idle_connection_ends_with_a_goaway_whatever_is_pinged() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).limits(|limits| limits.keep_alive = Duration::from_millis(600)).start();

    let mut raw = Raw::greeting(&plane).await;
    let (mut reading, mut writing) = raw.stream.into_split();
    let pings = tokio::spawn(async move {
        while writing.write_all(&frame(6, 0, 0, b"12345678")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut bytes = Vec::new();
    let is_over = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut bytes)).await;
    pings.abort();

    assert!(is_over.is_ok(), "the connection was kept");
    let goaway = frame(GOAWAY, 0, 0, &[0; 8]);
    assert!(bytes.windows(5).any(|window| window == &goaway[..5]), "it ended without a word");
    raw = Raw::greeting(&plane).await;
    raw.send(HEADERS, 5, 1, &get_fields()).await;
    assert_eq!(raw.goaway().await, Some(0), "idle after a request");
}

#[tokio::test]
async fn fields_that_trickle_in_end_the_connection_beside_a_request_under_way() {
    let legacy = Backend::hanging().await;
    let plane = Plane::before(&legacy).limits(|limits| limits.header_deadline = Duration::from_millis(300)).start();

    let mut raw = Raw::greeting(&plane).await;
    raw.send(HEADERS, 5, 1, &get_fields()).await;
    raw.send(HEADERS, 1, 3, &get_fields()).await;
    let (mut reading, mut writing) = raw.stream.into_split();
    let trickle = tokio::spawn(async move {
        // Byte by byte: many small frames would be found out otherwise.
        for byte in frame(CONTINUATION, 0, 3, &[0; 10_000]) {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut bytes = Vec::new();
    let is_over = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut bytes)).await;
    trickle.abort();

    assert!(is_over.is_ok(), "the connection was kept");
    assert!(plane.rejected("header_timeout") > 0.0);
}

#[tokio::test]
async fn a_flood_of_resets_is_told_to_calm_down() {
    let legacy = Backend::hanging().await;
    let plane = Plane::before(&legacy).start();

    let mut raw = Raw::greeting(&plane).await;
    for at in 0..150 {
        let id = 2 * at + 1;
        raw.send(HEADERS, 5, id, &get_fields()).await;
        raw.send(RST_STREAM, 0, id, &[0, 0, 0, 8]).await;
    }

    assert_eq!(raw.goaway().await, Some(11));
    raw.end().await;
    plane.wait_for_rejected("h2_flood", 1.0).await;
    wait_until(|| plane.connections() < 1.0, "the end of the connection").await;
}

#[tokio::test]
async fn streams_broken_off_through_the_clients_fault_count_like_its_own_resets() {
    let legacy = Backend::hanging().await;
    let plane = Plane::before(&legacy).start();

    let mut raw = Raw::greeting(&plane).await;
    for at in 0..150 {
        let id = 2 * at + 1;
        raw.send(HEADERS, 5, id, &get_fields()).await;
        // A window that grows beyond all bounds: a stream error (RFC 9113 §6.9.1).
        raw.send(8, 0, id, &[0x7f, 0xff, 0xff, 0xff]).await;
    }

    assert_eq!(raw.goaway().await, Some(11));
    assert!(plane.rejected("h2_stream_error") > 99.0);
}

#[tokio::test]
async fn a_protocol_error_ends_the_connection_and_is_counted() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).start();

    let mut raw = Raw::greeting(&plane).await;
    // Data of a stream that was never opened.
    raw.send(0, 0, 1, b"x").await;

    assert_eq!(raw.goaway().await, Some(1));
    plane.wait_for_rejected("h2_connection_error", 1.0).await;
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_takes_no_new_ones() {
    let legacy = Backend::serving(std::sync::Arc::default(), |mut stream| async move {
        read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await;
    })
    .await;
    let plane = Plane::before(&legacy).start();

    let mut sender = connect(&plane).await;
    let under_way = sender.send_request(get("/"));
    let under_way = tokio::spawn(under_way);
    wait_until(|| legacy.connections() == 1, "the request").await;
    plane.stop();
    let response = tokio::time::timeout(PATIENCE, under_way).await.unwrap().unwrap().unwrap();

    assert_eq!(text(response).await, "late");
    wait_until(|| plane.connections() < 1.0, "the end of the connection").await;
    assert!(sender.send_request(get("/")).await.is_err());
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_broken_off_and_others_go_on() {
    let legacy = Backend::with(|seen| {
        let bytes = if seen.target == "/large" { vec![b'x'; 4 << 20] } else { b"small".to_vec() };
        Response::new(bytes.into())
    })
    .await;
    let plane = Plane::before(&legacy).limits(|limits| limits.body_idle = Duration::from_millis(600)).start();

    let mut sender = connect(&plane).await;
    // Its body is never read, so its window stays shut.
    let stalled = sender.send_request(get("/large")).await.unwrap();
    let mut answered = 0;
    while plane.rejected("client_stalled") < 1.0 {
        assert_eq!(text(sender.send_request(get("/small")).await.unwrap()).await, "small");
        answered += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert!(answered > 0);
    assert!(stalled.into_body().collect().await.is_err(), "a body that was broken off looks whole");
    assert_eq!(text(sender.send_request(get("/small")).await.unwrap()).await, "small");
}

#[tokio::test]
async fn a_connection_takes_so_many_requests() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy).limits(|limits| limits.requests_per_connection = 2).start();

    let mut raw = Raw::greeting(&plane).await;
    raw.send(HEADERS, 5, 1, &get_fields()).await;
    raw.send(HEADERS, 5, 3, &get_fields()).await;
    assert_eq!(raw.goaway().await, Some(0));

    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    for expect in [false, true] {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let head = String::from_utf8(read_head(&mut stream).await).unwrap();
        assert_eq!(head.contains("connection: close"), expect, "{head}");
        stream.read_exact(&mut [0; 2]).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_upstream_request_along() {
    let legacy = Backend::hanging().await;
    let plane = Plane::before(&legacy).start();

    let mut raw = Raw::greeting(&plane).await;
    raw.send(HEADERS, 5, 1, &get_fields()).await;
    let in_flight = || plane.metric(r#"strangler_requests_in_flight{side="legacy"}"#);
    wait_until(|| in_flight() > 0.0, "the request").await;
    raw.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;

    wait_until(|| in_flight() < 1.0, "the request's end").await;
}

#[tokio::test]
async fn a_fragment_is_cut_off_before_a_route_is_looked_for() {
    let (legacy, extracted) = (Backend::answering(200, "legacy").await, Backend::answering(200, "extracted").await);
    let route = format!("routes:\n  - {{name: a, match: /a, extracted: \"{}\", weight: 100%}}\n", extracted.url());
    let plane = Plane::before(&legacy).routes(&route).start();
    let mut raw = Raw::greeting(&plane).await;
    let asked = [(":method", "GET"), (":scheme", "http"), (":authority", "shop.example.com"), (":path", "/a#/../b")];
    raw.send(HEADERS, 5, 1, &fields(&asked)).await;
    while raw.next().await.expect("it is answered").0 != DATA {}

    // What was matched is what goes on (the HTTP library never shows the rest; on HTTP/1 it is a 400).
    assert_eq!(extracted.seen()[0].target, "/a");
    assert_eq!(legacy.seen().len(), 0);
}

#[tokio::test]
async fn an_early_answer_is_not_followed_by_a_reset_while_the_client_sends_on() {
    let legacy = Backend::answering(200, "ok").await;
    let plane = Plane::before(&legacy)
        .routes(&format!(
            "routes:\n  - {{name: few, match: /few, extracted: \"{}\", weight: 100%, max_body: 1KiB}}\n",
            legacy.url()
        ))
        .start();
    let mut raw = Raw::greeting(&plane).await;
    let asked = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "shop.example.com"),
        (":path", "/few"),
        ("content-length", "163840"),
    ];
    raw.send(HEADERS, 4, 1, &fields(&asked)).await;
    let (mut window, mut sent, mut has_answer, mut is_over) = (65_535, 0, false, false);
    let piece = vec![b'x'; 16 << 10];
    while !is_over {
        while window >= piece.len() && sent < 10 {
            sent += 1;
            window -= piece.len();
            raw.send(DATA, u8::from(sent == 10), 1, &piece).await;
            if sent == 10 {
                raw.send(PING, 0, 0, &[0; 8]).await;
            }
        }
        let (kind, stream, payload) = raw.next().await.expect("the connection goes on");
        match kind {
            WINDOW_UPDATE if stream == 1 => {
                window += u32::from_be_bytes(payload.try_into().unwrap()) as usize;
            }
            HEADERS => has_answer = true,
            RST_STREAM => panic!("stream {stream} was reset after {sent} pieces"),
            PING => is_over = true,
            _ => {}
        }
    }
    assert!(has_answer);
    plane.wait_for_rejected("body_too_large", 1.0).await;
}
