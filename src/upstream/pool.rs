//! One try: a connection of this core's pool, or a new one, and the answer's head.
//!
//! Pools belong to a thread. A runtime never moves a task to another thread, so a connection is used where its socket is
//! polled, and taking one costs no lock. The borrow of the pool is never held across an await. Only where `max_connections` are
//! all taken do cores meet: then what one has done with goes to whoever has waited longest, on any core.

mod open;
mod waiters;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use strangler_core::fallback::Sent;
use strangler_core::observation::Failure;
use strangler_core::route::Timeouts;
use tokio::time::Sleep;

use crate::upstream::UpstreamState;
use crate::upstream::body::OutBody;
use crate::upstream::drive::Drive;
use crate::upstream::last_word::Turn;
use crate::upstream::pool::open::dial;
pub(super) use crate::upstream::pool::open::{DialError, Leave, connect_by, leave_to_open, not_connected, within};
pub(crate) use crate::upstream::pool::waiters::{Waiters, wanted};
pub use crate::upstream::progress::UploadProgress;
use crate::upstream::shared::{self, Stream};

/// How long an idle connection is kept for requests that may be sent again.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(55);

/// Likewise for requests with side effects: when such a one loses the race with the other end's close, it is lost, for it may not
/// be sent again; and many servers close after one or two seconds.
const IDLE_MAX_UNSAFE: Duration = Duration::from_secs(1);

/// How much longer than its own bound an upload may stall before the upstream is blamed: a slow client is told first.
const UPLOAD_GRACE: Duration = Duration::from_secs(1);

/// Largest head of an answer, in bytes. It may have 100 fields, the library's own bound: another one costs two allocations for
/// each answer.
pub(super) const HEAD_BYTES_MAX: usize = 256 << 10;

/// Whose connections are used: users' and copies' never mix, so that a copy that hangs takes nothing from a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Requests that somebody waits for.
    User,
    /// Copies.
    Shadow,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) upstream: u64,
    pub(super) endpoint: usize,
    pub(super) lane: Lane,
}

/// For keys of our own making, which nobody can choose so that they collide: a multiplication for each part (the constant is
/// 2^64 divided by the golden ratio, odd: Knuth's multiplicative hashing).
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, part: u64) {
        self.0 = (self.0.rotate_left(26) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, part: usize) {
        self.write_u64(part as u64);
    }

    fn write_isize(&mut self, part: isize) {
        self.write_u64(part.unsigned_abs() as u64);
    }
}

/// A connection: what requests go in by, and what drives it.
pub(crate) struct Conn {
    sender: SendRequest<OutBody>,
    drive: Drive,
    turn: Turn,
    /// Bounds the wait for each answer's head. Kept with the connection: made once, and put off for each request without touching
    /// the runtime's wheel, where a timer of its own for each would be an allocation and two locks.
    timer: Pin<Box<Sleep>>,
    /// An answer in HTTP/1.0 came over it: the library would speak 1.0 from then on, and send no chunked body.
    is_old: bool,
}

struct Idle {
    conn: Conn,
    since: Instant,
    /// To tell whether somebody waits for a connection, and whether the upstream is still in force.
    upstream: Arc<UpstreamState>,
}

thread_local! {
    static POOL: RefCell<HashMap<PoolKey, Vec<Idle>, BuildHasherDefault<KeyHasher>>> = RefCell::default();
}

/// An answer's head, and the connection that its body comes over.
#[derive(Debug)]
pub struct Exchange {
    /// The answer.
    pub response: Response<Incoming>,
    /// To be given back once the body has ended.
    pub lease: Lease,
}

/// A connection in use, or one stream of a shared one. Given back by [`Lease::finish`]; closed when dropped.
pub struct Lease {
    way: Way,
    _busy: EndpointBusy,
}

enum Way {
    Own {
        key: PoolKey,
        conn: Conn,
        upstream: Arc<UpstreamState>,
        /// Of a streamed request.
        progress: Option<Arc<UploadProgress>>,
    },
    /// Counted out when dropped; dropping the answer's body has reset the stream.
    Shared { _stream: Stream },
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

/// A piece of an answer's body.
pub type BodyFrame = Result<http_body::Frame<bytes::Bytes>, hyper::Error>;

pub(super) struct EndpointBusy(Arc<UpstreamState>, usize);

impl EndpointBusy {
    pub(super) fn new(upstream: &Arc<UpstreamState>, endpoint: usize) -> EndpointBusy {
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
    /// Polls the answer's body, and the connection that it comes over.
    pub fn poll_frame(&mut self, body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        match &mut self.way {
            Way::Own { conn, .. } => conn.drive.poll_with(cx, |cx| Pin::new(&mut *body).poll_frame(cx)),
            Way::Shared { .. } => Pin::new(body).poll_frame(cx),
        }
    }

    /// Gives the connection back to this core; its answer's body has ended.
    pub fn finish(self) {
        let Lease { way: Way::Own { key, mut conn, upstream, progress }, _busy } = self else { return };
        if progress.is_some_and(|progress| !progress.is_done()) {
            // Answered before the request's end: the rest is not worth sending, and might wait for ever to be read.
            return;
        }
        conn.drive.rest();
        if !conn.sender.is_ready() {
            conn.drive.look();
        }
        if conn.sender.is_closed() || conn.is_old {
            return;
        }
        let is_waited_for = upstream.waiting.load(Ordering::Relaxed) > 0;
        let conn = if is_waited_for { upstream.waiters.hand_over(key, conn) } else { Some(conn) };
        if let Some(conn) = conn {
            let idle = Idle { conn, since: Instant::now(), upstream };
            POOL.with_borrow_mut(|pool| pool.entry(key).or_default().push(idle));
        }
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
    pub request: Option<Box<Request<OutBody>>>,
    /// For the log.
    pub cause: Option<io::Error>,
}

/// Bounds on one try.
#[derive(Clone, Debug)]
pub struct TryLimits {
    /// When the try begins.
    pub now: Instant,
    /// Whether only a new connection will do: the last one from the pool was dead, and so may be the next.
    pub is_fresh: bool,
    /// Whether it needs a connection of its own that speaks HTTP/1.1, whatever the endpoint speaks otherwise: an upgrade does.
    pub needs_own: bool,
    /// When the whole request must have ended.
    pub deadline: Option<Instant>,
    /// Of a streamed body, so that the wait for the answer begins when the request has been sent.
    pub progress: Option<Arc<UploadProgress>>,
}

/// Sends `request` to `endpoint` and waits for the answer's head. The request is boxed: it is handed from one to the next until the
/// connection takes it.
///
/// # Errors
/// How it failed, what may have left, and the request itself when nothing has.
pub async fn send(
    upstream: &Arc<UpstreamState>,
    endpoint: usize,
    lane: Lane,
    request: Box<Request<OutBody>>,
    limits: &TryLimits,
) -> Result<Exchange, TryError> {
    let key = PoolKey { upstream: upstream.id, endpoint, lane };
    let busy = EndpointBusy::new(upstream, endpoint);
    if upstream.endpoints.get(endpoint).is_some_and(|state| state.endpoint.scheme.is_h2()) && !limits.needs_own {
        // Boxed: the usual request goes another way, and its future need not carry this.
        let (response, stream) = Box::pin(shared::send(upstream, key, request, limits)).await?;
        return Ok(Exchange { response, lease: Lease { way: Way::Shared { _stream: stream }, _busy: busy } });
    }
    let is_safe = strangler_core::facts::is_safe(request.method());
    let idle_max = if is_safe { IDLE_MAX } else { IDLE_MAX_UNSAFE };
    let pooled = if limits.is_fresh { None } else { take(key, limits.now, idle_max) };
    let mut begun = limits.now;
    let (mut conn, was_pooled) = if let Some(conn) = pooled {
        (conn, true)
    } else {
        // Boxed: a dial is rare, and its future need not lie in every request's.
        match Box::pin(dial(upstream, key, limits.deadline)).await {
            Ok(dialled) => {
                // What a connection took is not the answer's delay: that has a bound of its own.
                begun = Instant::now();
                dialled
            }
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
    if limits.progress.is_some() || limits.needs_own {
        conn.drive.detach();
    }
    conn.turn.begin();
    let mut answer = std::pin::pin!(conn.sender.try_send_request(*request));
    let drive = &mut conn.drive;
    let answer = std::future::poll_fn(|cx| drive.poll_with(cx, |cx| answer.as_mut().poll(cx)));
    match wait_for_head(answer, conn.timer.as_mut(), begun, &upstream.config.timeouts, limits).await {
        Some(Ok(response)) => {
            conn.is_old = response.version() < http::Version::HTTP_11;
            let way = Way::Own { key, conn, upstream: Arc::clone(upstream), progress: limits.progress.clone() };
            Ok(Exchange { response, lease: Lease { way, _busy: busy } })
        }
        Some(Err(mut error)) => {
            let request = error.take_message().map(Box::new);
            let sent = if request.is_some() { Sent::Nothing } else { Sent::Maybe };
            let error = error.into_error();
            let failure = if error.is_parse() || is_endless(&error) { Failure::Garbage } else { Failure::Reset };
            Err(TryError { failure, sent, was_pooled, request, cause: Some(io::Error::other(error)) })
        }
        None => Err(TryError { failure: Failure::Timeout, sent: Sent::Maybe, was_pooled, request: None, cause: None }),
    }
}

/// Whether what came before the answer was too much of it.
fn is_endless(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData)
}

/// `None`: not in time.
pub(super) async fn wait_for_head<T>(
    answer: impl Future<Output = T>,
    mut timer: Pin<&mut Sleep>,
    begun: Instant,
    timeouts: &Timeouts,
    limits: &TryLimits,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let mut is_late = false;
    loop {
        // The wait for the head begins with the request's last byte. Until then the upload must go on; a client that is slow runs
        // into a bound of its own, so what stalls here is an upstream that does not read.
        let due = match &limits.progress {
            None => timeouts.response_header.map(|bound| begun + bound),
            Some(progress) if progress.is_done() => timeouts.response_header.map(|bound| progress.last() + bound),
            Some(progress) => timeouts.idle.map(|bound| progress.last().max(begun) + bound + UPLOAD_GRACE),
        };
        let at = match (due, limits.deadline) {
            (Some(a), Some(b)) => a.min(b),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return Some(answer.await),
        };
        if is_late && at <= Instant::now() {
            return None;
        }
        timer.as_mut().reset(at.into());
        tokio::select! {
            biased;
            answer = answer.as_mut() => return Some(answer),
            () = timer.as_mut() => is_late = true,
        }
    }
}

fn take(key: PoolKey, now: Instant, idle_max: Duration) -> Option<Conn> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.get_mut(&key)?;
        // The newest first: the oldest then run into their end. One whose last exchange is not quite over is left for later.
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let candidate = idle.get(at)?;
            if candidate.conn.sender.is_closed() {
                idle.swap_remove(at);
            } else if candidate.conn.sender.is_ready() {
                // Idle for too long for this one: those further down have been so for longer.
                return (now.saturating_duration_since(candidate.since) < idle_max).then(|| idle.swap_remove(at).conn);
            }
        }
        None
    })
}

/// Closes what has been idle for too long and what nobody needs any more; gives away what somebody waits for. Run by every core,
/// a few times a second and when somebody begins to wait.
pub fn sweep() {
    let now = Instant::now();
    POOL.with_borrow_mut(|pool| {
        for (key, idle) in pool.iter_mut() {
            for idle in idle.iter_mut() {
                idle.conn.drive.look();
            }
            idle.retain(|idle| !idle.conn.sender.is_closed() && now.duration_since(idle.since) < IDLE_MAX);
            while idle.last().is_some_and(|idle| idle.upstream.waiting.load(Ordering::Relaxed) > 0) {
                let Some(Idle { conn, since, upstream }) = idle.pop() else { break };
                if now.duration_since(since) >= IDLE_MAX_UNSAFE {
                    // It may be wanted for a request with side effects; closed, it makes room for a new one.
                    continue;
                }
                if let Some(conn) = upstream.waiters.hand_over(*key, conn) {
                    idle.push(Idle { conn, since, upstream });
                    break;
                }
            }
        }
        pool.retain(|_, idle| !idle.is_empty());
    });
    shared::sweep(now);
}

/// Closes the idle connections to upstreams that are no longer in force.
pub fn forget(is_in_force: impl Fn(&Arc<UpstreamState>) -> bool) {
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, idle| idle.first().is_some_and(|idle| is_in_force(&idle.upstream)));
    });
    shared::forget(is_in_force);
}
