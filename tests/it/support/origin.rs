//! A service that answers fast and keeps nothing: what loads are put on.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::wire::{content_length, head_end};

/// What is answered to every request that asks for nothing else.
pub(crate) const BODY: &str = r#"{"a": 1}"#;

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

/// Answers `BODY` at once, after so many milliseconds to `/wait/MS`, the number of bytes to a body, and echoes on an upgraded connection.
pub(crate) async fn start() -> Backend {
    Backend::serving(Arc::default(), |stream| serve(stream, Duration::ZERO)).await
}

/// Likewise, each answer so much later.
pub(crate) async fn late(by: Duration) -> Backend {
    Backend::serving(Arc::default(), move |stream| serve(stream, by)).await
}

/// Serves one connection.
pub(crate) async fn serve(mut stream: TcpStream, late: Duration) {
    let mut held = Vec::new();
    let mut piece = vec![0u8; 16 << 10];
    loop {
        let end = loop {
            if let Some(end) = head_end(&held) {
                break end;
            }
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => held.extend_from_slice(&piece[..read]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
        let length = content_length(&head).unwrap_or(0);
        held.drain(..end);
        if head.contains("\r\nupgrade: websocket") {
            return echo(stream, held).await;
        }
        let mut left = length;
        loop {
            let step = left.min(held.len());
            held.drain(..step);
            left -= step;
            if left == 0 {
                break;
            }
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => held.extend_from_slice(&piece[..read]),
                _ => return,
            }
        }
        let asked = head.split_whitespace().nth(1).and_then(|target| target.strip_prefix("/wait/")?.parse().ok());
        let wait = asked.map_or(late, Duration::from_millis);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let body = if head.starts_with("post ") { length.to_string() } else { BODY.to_owned() };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn echo(mut stream: TcpStream, held: Vec<u8>) {
    if stream.write_all(SWITCHED).await.is_err() || stream.write_all(&held).await.is_err() {
        return;
    }
    let mut piece = vec![0u8; 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        if stream.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}
