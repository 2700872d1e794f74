//! Whatever bytes a client sends: the service sees no more requests than were sent, and none that was not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use strangler_core::fixture::raw_bytes::{RawInput, RawInputs};
use strangler_core::fixture::strict_reading::{StrictEnd, read};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::support::backend::Backend;
use crate::support::proxy::{PATIENCE, Proxy};

/// Inputs of a run; all of a million by `RAW_CONNECTIONS=1000000`.
fn inputs() -> usize {
    std::env::var("RAW_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// What the strict origin read: a method, a target and a body, or what it could not read.
type Log = Arc<Mutex<Vec<Result<(String, String, Vec<u8>), String>>>>;

/// Reads as strictly as can be, and answers what it could read.
async fn strict_origin(log: Log) -> Backend {
    Backend::serving(Arc::default(), move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            let mut bytes = Vec::new();
            let mut is_told_to_continue = false;
            while let Ok(1..) = stream.read_buf(&mut bytes).await {
                let reading = read(&bytes);
                for request in &reading.requests {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let entry = (text(&request.method), text(&request.target), request.body.clone());
                    log.lock().unwrap().push(Ok(entry));
                    is_told_to_continue = false;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
                bytes.drain(..reading.requests.last().map_or(0, |request| request.spans.2));
                match reading.end {
                    StrictEnd::Wrong(fault) => {
                        log.lock().unwrap().push(Err(format!("{fault}: {}", bytes.escape_ascii())));
                        return;
                    }
                    StrictEnd::InBody { .. } if !is_told_to_continue => {
                        is_told_to_continue = true;
                        if bytes.to_ascii_lowercase().windows(7).any(|part| part == b"expect:") {
                            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                        }
                    }
                    StrictEnd::InBody { .. } | StrictEnd::InHead | StrictEnd::Clean => {}
                }
            }
        }
    })
    .await
}

async fn send(mut writer: OwnedWriteHalf, input: RawInput) {
    for piece in input.pieces() {
        // Who is refused need not be heard to the end.
        if writer.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _ = writer.shutdown().await;
}

/// A target as it is written when it reaches a service: its path, each escape in one spelling.
fn path_of(target: &str) -> String {
    let path = match target.split_once("://").filter(|_| !target.starts_with('/')) {
        Some((_, rest)) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        None => target,
    };
    let mut out = String::new();
    let mut rest = if path.starts_with('?') { format!("/{path}") } else { path.to_owned() };
    // A query goes on as it is.
    let query = rest.find('?').map(|at| rest.split_off(at)).unwrap_or_default();
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let hex: String = if byte == b'%' { bytes.by_ref().take(2).map(char::from).collect() } else { String::new() };
        match u8::from_str_radix(&hex, 16) {
            Ok(escaped) if escaped.is_ascii_alphanumeric() || b"-._~".contains(&escaped) => out.push(escaped.into()),
            Ok(_) => out += &format!("%{}", hex.to_ascii_uppercase()),
            Err(_) => out.push(byte.into()),
        }
    }
    out + &query
}

#[tokio::test]
async fn a_strict_origin_never_sees_a_request_that_was_not_sent() {
    let log = Log::default();
    let origin = strict_origin(Arc::clone(&log)).await;
    let proxy = Proxy::between(&origin, &origin).start().await;
    let mut generator = RawInputs::new(0xb17e5);
    let (mut sent, mut arrived, mut open) = (0, 0, VecDeque::new());

    for number in 0..inputs() {
        let input = generator.next_input();
        let (mut reader, writer) = TcpStream::connect(proxy.address).await.unwrap().into_split();
        let writing = tokio::spawn(send(writer, input.clone()));
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
        writing.abort();

        let told = || format!("input {number}: {}\nanswered: {}", input.bytes.escape_ascii(), answer.escape_ascii());
        assert!(ended.is_ok(), "it was not closed; {}", told());
        let requests = read(&input.bytes).requests;
        sent += requests.len();
        open.extend(requests);
        let seen = std::mem::take(&mut *log.lock().unwrap());
        arrived += seen.len();
        for entry in &seen {
            let (method, target, body) = entry.as_ref().unwrap_or_else(|fault| panic!("{fault}\n{}", told()));
            // Each once: what was sent and never arrives was refused on the way.
            let found = open.iter().position(|request| {
                request.method == method.as_bytes()
                    && path_of(&String::from_utf8_lossy(&request.target)) == *target
                    && request.body == *body
            });
            let found = found.unwrap_or_else(|| panic!("{method} {target} was not sent; {}\nseen: {seen:?}", told()));
            open.remove(found);
        }
        // A client that closes its half is taken to have gone: what it sent may arrive a little later than its end.
        while open.len() > 64 {
            open.pop_front();
        }
    }

    assert!(arrived > sent / 3, "{arrived} of {sent} arrived");
    assert_eq!(proxy.get("/alive").await.status, 200);
}
