//! One try: a connection of this core's pool, or a new one, and the answer's head.
//!
//! Pools belong to a thread. A runtime never moves a task to another thread, so a connection is used where its socket is
//! polled, and taking one costs no lock. The borrow of the pool is never held across an await.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use strangler_core::fallback::Sent;
use strangler_core::observation::Failure;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::upstream::body::OutBody;
use crate::upstream::{ConnectionCount, UpstreamState, resolve};

/// How long an idle connection is kept: less than most servers do, so that few races with their close are lost.
const IDLE_MAX: Duration = Duration::from_secs(55);

/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// Fields of an answer's head.
const HEAD_FIELDS_MAX: usize = 256;

/// Whose connections are used: users' and copies' never mix, so that a copy that hangs takes nothing from a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Requests that somebody waits for.
    User,
    /// Copies.
    Shadow,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PoolKey {
    upstream: u64,
    endpoint: usize,
    lane: Lane,
}

struct Idle {
    sender: SendRequest<OutBody>,
    since: Instant,
    /// To tell whether somebody waits for a connection, and whether the upstream is still in force.
    upstream: Arc<UpstreamState>,
}

thread_local! {
    static POOL: RefCell<HashMap<PoolKey, Vec<Idle>>> = RefCell::default();
}

/// How far a streamed request body has come; shared between the body and the wait for the answer.
#[derive(Debug)]
pub struct UploadProgress {
    begun: Instant,
    is_done: AtomicBool,
    is_started: AtomicBool,
    last_ms: AtomicU64,
}

impl UploadProgress {
    /// Nothing sent yet.
    pub fn new() -> Arc<UploadProgress> {
        Arc::new(UploadProgress {
            begun: Instant::now(),
            is_done: AtomicBool::new(false),
            is_started: AtomicBool::new(false),
            last_ms: AtomicU64::new(0),
        })
    }

    /// A piece was handed over, or the end was.
    pub fn note(&self, is_done: bool) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
        self.is_started.store(true, Ordering::Relaxed);
        self.is_done.store(is_done, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

/// An answer's head, and the connection that its body comes over.
#[derive(Debug)]
pub struct Exchange {
    /// The answer.
    pub response: Response<Incoming>,
    /// To be given back once the body has ended.
    pub lease: Lease,
}

/// A connection in use. Given back by [`Lease::finish`]; closed when dropped.
pub struct Lease {
    key: PoolKey,
    sender: SendRequest<OutBody>,
    upstream: Arc<UpstreamState>,
    _busy: EndpointBusy,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

struct EndpointBusy(Arc<UpstreamState>, usize);

impl EndpointBusy {
    fn new(upstream: &Arc<UpstreamState>, endpoint: usize) -> EndpointBusy {
        if let Some(state) = upstream.endpoints.get(endpoint) {
            state.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        EndpointBusy(Arc::clone(upstream), endpoint)
    }
}

impl Drop for EndpointBusy {
    fn drop(&mut self) {
        if let Some(state) = self.0.endpoints.get(self.1) {
            state.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Lease {
    /// Gives the connection back to this core's pool; its answer's body has ended.
    pub fn finish(self) {
        let is_wanted = self.upstream.waiting.load(Ordering::Relaxed) == 0;
        if self.sender.is_closed() || !is_wanted {
            return;
        }
        let idle = Idle { sender: self.sender, since: Instant::now(), upstream: self.upstream };
        POOL.with_borrow_mut(|pool| pool.entry(self.key).or_default().push(idle));
    }
}

/// A try that brought no answer.
#[derive(Debug)]
pub struct TryError {
    /// How it failed.
    pub failure: Failure,
    /// What may have left.
    pub sent: Sent,
    /// Whether the connection came from the pool.
    pub was_pooled: bool,
    /// The request, whole, when nothing of it has left.
    pub request: Option<Request<OutBody>>,
    /// For the log.
    pub cause: Option<io::Error>,
}

/// Bounds on one try.
#[derive(Clone, Debug)]
pub struct TryLimits {
    /// When the whole request must have ended.
    pub deadline: Option<Instant>,
    /// Of a streamed body, so that the wait for the answer begins when the request has been sent.
    pub progress: Option<Arc<UploadProgress>>,
}

/// Sends `request` to `endpoint` and waits for the answer's head.
///
/// # Errors
/// How it failed, what may have left, and the request itself when nothing has.
pub async fn send(
    upstream: &Arc<UpstreamState>,
    endpoint: usize,
    lane: Lane,
    request: Request<OutBody>,
    limits: &TryLimits,
) -> Result<Exchange, TryError> {
    let key = PoolKey { upstream: upstream.id, endpoint, lane };
    let busy = EndpointBusy::new(upstream, endpoint);
    let (mut sender, was_pooled) = if let Some(sender) = take(key) {
        (sender, true)
    } else {
        // Boxed: a dial is rare, and its future need not lie in every request's.
        match Box::pin(dial(upstream, endpoint, lane, limits.deadline)).await {
            Ok(sender) => (sender, false),
            Err((failure, cause)) => {
                return Err(TryError {
                    failure,
                    sent: Sent::Nothing,
                    was_pooled: false,
                    request: Some(request),
                    cause,
                });
            }
        }
    };
    let answer = sender.try_send_request(request);
    match wait_for_head(answer, upstream.config.timeouts.response_header, limits).await {
        Some(Ok(response)) => {
            Ok(Exchange { response, lease: Lease { key, sender, upstream: Arc::clone(upstream), _busy: busy } })
        }
        Some(Err(mut error)) => {
            let request = error.take_message();
            let sent = if request.is_some() { Sent::Nothing } else { Sent::Maybe };
            let error = error.into_error();
            let failure = if error.is_parse() { Failure::Garbage } else { Failure::Reset };
            Err(TryError { failure, sent, was_pooled, request, cause: Some(io::Error::other(error)) })
        }
        None => Err(TryError { failure: Failure::Timeout, sent: Sent::Maybe, was_pooled, request: None, cause: None }),
    }
}

/// `None`: not in time.
async fn wait_for_head<T>(answer: impl Future<Output = T>, bound: Option<Duration>, limits: &TryLimits) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let mut since = Instant::now();
    loop {
        let by_bound = bound.map(|bound| since + bound);
        let at = match (by_bound, limits.deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let Some(at) = at else {
            return Some(answer.await);
        };
        if let Ok(answer) = tokio::time::timeout_at(at.into(), answer.as_mut()).await {
            return Some(answer);
        }
        // The wait for the head begins with the request's last byte; the body's own idle bound covers the time before.
        let progress = limits.progress.as_ref().filter(|progress| progress.is_started.load(Ordering::Relaxed))?;
        let is_overdue = limits.deadline.is_some_and(|deadline| deadline <= Instant::now());
        let waits_for_head = progress.is_done.load(Ordering::Relaxed) && progress.last() <= since;
        if is_overdue || waits_for_head {
            return None;
        }
        since = if progress.is_done.load(Ordering::Relaxed) { progress.last() } else { Instant::now() };
    }
}

fn take(key: PoolKey) -> Option<SendRequest<OutBody>> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.get_mut(&key)?;
        // The newest first: the oldest then run into their end. One whose last exchange is not quite over is left for later.
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let (is_ready, is_closed) = idle.get(at).map(|idle| (idle.sender.is_ready(), idle.sender.is_closed()))?;
            if is_closed {
                idle.swap_remove(at);
            } else if is_ready {
                return Some(idle.swap_remove(at).sender);
            }
        }
        None
    })
}

/// Closes what has been idle for too long, what nobody needs any more, and what somebody waits for. Run by every core, a few
/// times a second.
pub fn sweep() {
    let now = Instant::now();
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, idle| {
            idle.retain(|idle| {
                let is_wanted_elsewhere = idle.upstream.waiting.load(Ordering::Relaxed) > 0;
                !idle.sender.is_closed() && !is_wanted_elsewhere && now.duration_since(idle.since) < IDLE_MAX
            });
            !idle.is_empty()
        });
    });
}

/// Closes the idle connections to upstreams that are no longer in force.
pub fn forget(is_in_force: impl Fn(&Arc<UpstreamState>) -> bool) {
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, idle| idle.first().is_some_and(|idle| is_in_force(&idle.upstream)));
    });
}

type DialError = (Failure, Option<io::Error>);

async fn dial(
    upstream: &Arc<UpstreamState>,
    endpoint: usize,
    lane: Lane,
    deadline: Option<Instant>,
) -> Result<SendRequest<OutBody>, DialError> {
    let by_connect = upstream.config.timeouts.connect.map(|connect| Instant::now() + connect);
    let at = match (by_connect, deadline) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let connecting = connect(upstream, endpoint, lane);
    match at {
        Some(at) => match tokio::time::timeout_at(at.into(), connecting).await {
            Ok(done) => done,
            Err(_) => Err((Failure::ConnectTimeout, None)),
        },
        None => connecting.await,
    }
}

async fn connect(
    upstream: &Arc<UpstreamState>,
    endpoint: usize,
    lane: Lane,
) -> Result<SendRequest<OutBody>, DialError> {
    let failed = |error: io::Error| (Failure::Connect, Some(error));
    let permit = permit(upstream, lane).await?;
    let Some(state) = upstream.endpoints.get(endpoint) else {
        return Err((Failure::Connect, None));
    };
    let addresses = match state.addresses() {
        Some(known) => known,
        None => resolve::look_up(state).await.map_err(failed)?,
    };
    let stream = first_that_answers(&addresses).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(HEAD_FIELDS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(io::Error::other(error)))?;
    let count = ConnectionCount::new(upstream);
    tokio::spawn(async move {
        // How a connection ends is told by the exchange that it ends in.
        let _ = connection.await;
        drop((count, permit));
    });
    Ok(sender)
}

/// Leave to open one more connection.
async fn permit(upstream: &Arc<UpstreamState>, lane: Lane) -> Result<OwnedSemaphorePermit, DialError> {
    let connections = Arc::clone(&upstream.connections);
    if lane == Lane::Shadow && connections.available_permits() <= upstream.config.max_connections as usize / 2 {
        // Copies take at most half, so that they never make a user wait.
        return Err((Failure::Full, None));
    }
    if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
        return Ok(permit);
    }
    // All are taken, some perhaps idle in another core's pool: while somebody waits, those are given up.
    let _waiting = Waiting::new(upstream);
    connections.acquire_owned().await.map_err(|_| (Failure::Connect, None))
}

struct Waiting(Arc<UpstreamState>);

impl Waiting {
    fn new(upstream: &Arc<UpstreamState>) -> Waiting {
        upstream.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(upstream))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn first_that_answers(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
