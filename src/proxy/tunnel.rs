//! WebSocket and other protocols that a connection is switched to: bytes both ways, until one end has nothing more to say.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use strangler_core::route::Route;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::proxy::Proxy;
use crate::proxy::body::ClientBody;
use crate::proxy::finish::Finish;
use crate::proxy::headers::Peer;
use crate::upstream::pool::Lease;
use crate::upstream::{Admission, ConnectionCount, UpstreamState};

/// Silence of both ends after which a tunnel is closed: far beyond what keeps a page's socket alive.
const IDLE: Duration = Duration::from_hours(1);
/// How long one end may go on after the other has ended.
const GRACE: Duration = Duration::from_secs(10);
/// Wait for the client's connection to be handed over once its answer is written.
const HAND_OVER: Duration = Duration::from_secs(10);
/// Bytes on their way, each way.
const PIECE_BYTES: usize = 8 << 10;

/// A request for another protocol that its route allows.
pub(crate) struct Asked {
    pub(crate) protocol: HeaderValue,
    client: OnUpgrade,
}

impl Asked {
    /// `None`: an ordinary request, whatever its `Upgrade` says (RFC 9110 §7.8 lets us ignore it).
    pub(crate) fn of(
        parts: &mut Parts,
        protocol: &HeaderValue,
        route: Option<&Route>,
        has_body: bool,
    ) -> Option<Box<Asked>> {
        let text = protocol.to_str().ok()?;
        // What no route covers is the monolith's own: it must not lose its sockets to a proxy in front of it.
        let is_allowed = match route {
            Some(route) => route.upgrades.iter().any(|allowed| allowed.eq_ignore_ascii_case(text)),
            None => text.eq_ignore_ascii_case("websocket"),
        };
        let is_sound = parts.version == Version::HTTP_11 && parts.method == Method::GET && !has_body;
        if !is_allowed || !is_sound || !is_nominated(&parts.headers) {
            return None;
        }
        let client = parts.extensions.remove::<OnUpgrade>()?;
        Some(Box::new(Asked { protocol: protocol.clone(), client }))
    }

    /// Puts back what belongs to one connection: here both ends want the same.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// Whether an answer switches to what was asked for.
    pub(crate) fn is_answered_by<B>(&self, response: &Response<B>) -> bool {
        let said = response.headers().get(header::UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
        response.status() == StatusCode::SWITCHING_PROTOCOLS && said.eq_ignore_ascii_case(self.protocol.as_bytes())
    }
}

fn is_nominated(headers: &HeaderMap) -> bool {
    let options =
        headers.get_all(header::CONNECTION).into_iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    options.into_iter().any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// What must live as long as a tunnel.
pub(crate) struct Held {
    pub(crate) proxy: Arc<Proxy>,
    /// Its connection stays on the books of its listener.
    pub(crate) peer: Arc<Peer>,
    pub(crate) upstream: Arc<UpstreamState>,
    pub(crate) lease: Lease,
    pub(crate) admission: Admission,
    pub(crate) finish: Finish,
}

/// Answers the client, and carries bytes as soon as both connections are handed over.
pub(crate) fn open(asked: Asked, upstream: OnUpgrade, held: Held) -> ClientBody {
    // A stop waits for it as for a connection, which it is.
    held.proxy.open.add();
    let counted = Counted(Arc::clone(&held.proxy));
    tokio::spawn(async move {
        let Held { upstream: state, lease, admission, mut finish, peer, proxy: _ } = held;
        let connection = ConnectionCount::new(&state);
        let both = async { tokio::try_join!(asked.client, upstream) };
        match tokio::time::timeout(HAND_OVER, both).await {
            Ok(Ok((client, upstream))) => {
                let (up, down) = carry(TokioIo::new(client), TokioIo::new(upstream), IDLE, GRACE).await;
                tracing::debug!(up, down, "a tunnel has ended");
                finish.bytes = down;
            }
            Ok(Err(_)) | Err(_) => finish.error = Some("client_gone"),
        }
        drop((lease, admission, connection, counted, peer));
    });
    ClientBody::full(bytes::Bytes::new())
}

struct Counted(Arc<Proxy>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.remove();
    }
}

/// Carries bytes both ways until both ends have ended, one has for `grace`, or both are silent for `idle`. Answers the bytes
/// from the first to the second, and back.
async fn carry<A, B>(first: A, second: B, idle: Duration, grace: Duration) -> (u64, u64)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (up, down, last) = (AtomicU64::new(0), AtomicU64::new(0), Last::new());
    let (first_reader, first_writer) = tokio::io::split(first);
    let (second_reader, second_writer) = tokio::io::split(second);
    let mut there = pin!(one_way(first_reader, second_writer, &up, &last));
    let mut back = pin!(one_way(second_reader, first_writer, &down, &last));
    let mut timer = pin!(tokio::time::sleep(idle));
    let (mut is_there, mut is_back) = (false, false);
    std::future::poll_fn(|cx| {
        let before = is_there || is_back;
        is_there = is_there || there.as_mut().poll(cx).is_ready();
        is_back = is_back || back.as_mut().poll(cx).is_ready();
        if is_there && is_back {
            return Poll::Ready(());
        }
        if !before && (is_there || is_back) {
            timer.as_mut().reset(Instant::now() + grace);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let due = last.read() + idle;
            if is_there || is_back || due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;
    (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed))
}

/// When something was last carried, to the millisecond.
struct Last {
    begun: Instant,
    ms: AtomicU64,
}

impl Last {
    fn new() -> Last {
        Last { begun: Instant::now(), ms: AtomicU64::new(0) }
    }

    fn note(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ms.store(ms, Ordering::Relaxed);
    }

    fn read(&self) -> Instant {
        self.begun + Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }
}

/// How a direction ends is no news to anybody: the other end sees it end.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, bytes: &AtomicU64, last: &Last) {
    let mut piece = vec![0u8; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        last.note();
        let Some(read_bytes) = piece.get(..read) else { break };
        if to.write_all(read_bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        last.note();
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tunnel_carries_both_ways_and_ends_when_one_end_has() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, mut service) = tokio::io::duplex(64);
        let carrying = carry(near, far, Duration::from_secs(600), Duration::from_millis(1));
        let talking = async {
            let mut piece = [0u8; 5];
            client.write_all(b"hello").await.unwrap();
            service.read_exact(&mut piece).await.unwrap();
            service.write_all(b"bye").await.unwrap();
            service.shutdown().await.unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"bye");
        };
        let (carried, ()) = tokio::join!(carrying, talking);
        assert_eq!(carried, (5, 3));
    }

    #[tokio::test]
    async fn a_tunnel_of_which_both_ends_are_silent_is_closed() {
        let (_client, near) = tokio::io::duplex(64);
        let (far, _service) = tokio::io::duplex(64);
        assert_eq!(carry(near, far, Duration::from_millis(20), Duration::from_secs(600)).await, (0, 0));
    }
}
