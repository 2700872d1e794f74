//! A client's connection: driven by hyper, bounded in time by this core's sweeper.
//!
//! The bounds cost a request no timer: each connection notes what it waits for and since when, and a sweep a few times a
//! second ends those that have waited for too long.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::proxy::headers::Peer;
use crate::proxy::serve::respond;
use crate::proxy::strict::{Strict, Switch};
use crate::proxy::{Limits, Proxy, Worker};
use crate::upstream::cork::Corked;

/// How often a core looks at its connections.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// How long an idle connection is kept once the process stops, so that its next answer can say `connection: close`.
const LINGER: Duration = Duration::from_secs(3);

/// What a connection waits for, and since when: two bits and milliseconds since the process began.
#[derive(Debug)]
struct Waiting(AtomicU64);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request's first byte.
    Idle = 0,
    /// The rest of a head.
    Head = 1,
    /// Its answer: other bounds hold.
    Busy = 2,
    /// The client to read: it has taken nothing of an answer for a while.
    Writing = 3,
}

impl Waiting {
    /// As of the last sweep: a quarter of a second early at most, which no bound is so small to mind.
    fn note(&self, phase: Phase, proxy: &Proxy) {
        let ms = proxy.coarse_ms.load(Ordering::Relaxed);
        self.0.store(ms << 2 | phase as u64, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Relaxed) & 3 == phase as u64
    }

    /// The client took something, or did not.
    fn note_write(&self, is_stuck: bool, proxy: &Proxy) {
        match (self.0.load(Ordering::Relaxed) & 3, is_stuck) {
            (2, true) => self.note(Phase::Writing, proxy),
            (3, false) => self.note(Phase::Busy, proxy),
            // What is still written after an answer has been made is no idleness.
            (0, false) => self.note(Phase::Idle, proxy),
            _ => {}
        }
    }

    fn is_overdue(&self, limits: &Limits, now: Duration) -> bool {
        let value = self.0.load(Ordering::Relaxed);
        let waited = now.saturating_sub(Duration::from_millis(value >> 2));
        match value & 3 {
            0 => waited >= limits.keep_alive,
            1 => waited >= limits.header_deadline,
            3 => waited >= limits.body_idle,
            _ => false,
        }
    }
}

/// A request under way on a connection; dropped, the next one is waited for.
pub(crate) struct Busy {
    waiting: Arc<Waiting>,
    worker: Arc<Worker>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.waiting.note(Phase::Idle, &self.worker.proxy);
    }
}

struct Watched {
    waiting: Arc<Waiting>,
    task: AbortHandle,
}

thread_local! {
    static CONNECTIONS: RefCell<HashMap<u64, Watched>> = RefCell::default();
}

/// Ends the connections of this core that have waited for too long.
pub(crate) fn sweep(worker: &Worker) {
    let now = worker.proxy.begun.elapsed();
    let limits = &worker.proxy.settings.limits;
    CONNECTIONS.with_borrow(|connections| {
        for watched in connections.values().filter(|watched| watched.waiting.is_overdue(limits, now)) {
            if watched.waiting.is(Phase::Head) {
                worker.proxy.metrics.count_rejected("header_timeout");
            } else if watched.waiting.is(Phase::Writing) {
                worker.proxy.metrics.count_rejected("client_stalled");
            }
            watched.task.abort();
        }
    });
}

/// Drives a connection in a task of its own.
pub(crate) fn spawn<S>(worker: Arc<Worker>, io: S, peer: Peer, stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let proxy = Arc::clone(&worker.proxy);
    // Counted before the task runs, so that a stop does not overlook it.
    if proxy.open.add() >= proxy.settings.limits.connections {
        proxy.metrics.count_rejected("too_many_connections");
        proxy.open.remove();
        return;
    }
    let id = crate::upstream::chance::next_u64();
    let waiting = Arc::new(Waiting(AtomicU64::new(0)));
    waiting.note(Phase::Head, &proxy);
    let guard = Registered { id, worker: Arc::clone(&worker) };
    let io = Noted { io: Corked::new(io), waiting: Arc::clone(&waiting), worker: Arc::clone(&worker) };
    let task = tokio::spawn(drive(worker, io, Arc::new(peer), stop, guard));
    CONNECTIONS.with_borrow_mut(|all| all.insert(id, Watched { waiting, task: task.abort_handle() }));
}

/// Takes the connection off the books, however it ends.
struct Registered {
    id: u64,
    worker: Arc<Worker>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        CONNECTIONS.with_borrow_mut(|all| all.remove(&self.id));
        self.worker.proxy.open.remove();
    }
}

async fn drive<S>(
    worker: Arc<Worker>,
    io: Noted<S>,
    peer: Arc<Peer>,
    mut stop: watch::Receiver<bool>,
    guard: Registered,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.proxy.settings.limits;
    let waiting = Arc::clone(&io.waiting);
    let metrics = Arc::clone(&worker.proxy.metrics);
    let switch = Arc::<Switch>::default();
    let io = Strict::new(io, limits.head, limits.header_deadline, Arc::clone(&switch));
    let service = {
        let stop = stop.clone();
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            waiting.note(Phase::Busy, &worker.proxy);
            let (worker, peer, waiting) = (Arc::clone(&worker), Arc::clone(&peer), Arc::clone(&waiting));
            let switch = switch.is_asked_by(&request).then(|| Arc::clone(&switch));
            let is_stopping = *stop.borrow();
            async move {
                // Held by the answer's body and, while the client is still sending, by the request's.
                let busy = Arc::new(Busy { waiting, worker: Arc::clone(&worker) });
                let mut response = respond(worker, peer, &busy, request).await;
                if let Some(switch) = switch {
                    switch.tell(response.status() == http::StatusCode::SWITCHING_PROTOCOLS);
                }
                if is_stopping {
                    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response.map(|body| body.keeping_busy(busy)))
            }
        })
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .max_headers(limits.fields)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    // Boxed: what is idle for most of its life should be small.
    let mut connection = Box::pin(connection);
    let stopped = async {
        // The sender lives as long as the process; without it there is nobody left to stop us.
        let _ = stop.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(LINGER).await;
    };
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome
        && (error.is_parse() || error.is_parse_too_large())
    {
        let reason = if error.is_parse_too_large() { "head_too_large" } else { "bad_request" };
        metrics.count_rejected(reason);
        tracing::debug!(%error, reason, "a request was refused by the parser");
    }
    drop(guard);
}

/// Notes when a request's first byte arrives.
struct Noted<S> {
    io: S,
    waiting: Arc<Waiting>,
    worker: Arc<Worker>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() && buf.filled().len() > before && self.waiting.is(Phase::Idle) {
            self.waiting.note(Phase::Head, &self.worker.proxy);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.waiting.note_write(polled.is_pending(), &self.worker.proxy);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.waiting.note_write(polled.is_pending(), &self.worker.proxy);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
