//! HTTP/2 towards upstreams: a connection that many requests share, few of them per core and endpoint.
//!
//! As in [`pool`](crate::upstream::pool), connections belong to a thread, and what is borrowed is never held across an await.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use strangler_core::fallback::Sent;
use strangler_core::observation::Failure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use crate::upstream::body::OutBody;
use crate::upstream::endpoint::EndpointState;
use crate::upstream::pool::{
    DialError, HEAD_BYTES_MAX, IDLE_MAX, Lane, Leave, PoolKey, TryError, TryLimits, connect_by, leave_to_open,
    not_connected, wait_for_head, within,
};
use crate::upstream::{ConnectionCount, UpstreamState, dial};

/// Requests on one connection; the other end may allow fewer.
const STREAMS_MAX: usize = 100;

/// Requests on a connection until the other end has said how many it allows; the others wait for that, instead of being refused.
/// (An end that allows no more than this for good is not told apart, and has its requests one after the other.)
const STREAMS_UNTOLD: usize = 1;

/// Bytes of an answer that may be under way and unread.
const STREAM_WINDOW: u32 = 128 << 10;

/// Likewise, of all answers of a connection: as many as they may be together, so that clients that read slowly hold up nobody else.
#[expect(clippy::cast_possible_truncation, reason = "a hundred")]
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;

/// Bytes of a request's body that wait for the other end.
const SEND_BUFFER: usize = 256 << 10;

/// How often a connection is asked whether it still stands, and how long the answer may take: a network that swallows everything
/// is found out before a user runs into it.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_MAX: Duration = Duration::from_secs(5);

/// How long a connection serves its core before it ends for another one's sake; without, two cores would take turns at every request.
const TENURE: Duration = Duration::from_millis(200);

thread_local! {
    static SHARED: RefCell<HashMap<PoolKey, Connections>> = RefCell::default();
}

/// The connections of this core to one endpoint.
struct Connections {
    all: Vec<Connection>,
    /// Whoever holds it dials; the others wait for the connection that comes of it.
    dialling: Arc<Mutex<()>>,
    upstream: Arc<UpstreamState>,
}

struct Connection {
    sender: SendRequest<OutBody>,
    use_of: Arc<Use>,
    since: Instant,
    idle_since: Option<Instant>,
}

/// How a connection is used; shared with its streams and its task.
#[derive(Debug)]
struct Use {
    streams: AtomicUsize,
    /// As the other end says.
    streams_max: AtomicUsize,
    /// No new request goes over it.
    is_retired: AtomicBool,
}

/// A stream counted in; counted out when dropped.
#[derive(Debug)]
pub(super) struct Stream(Arc<Use>);

impl Stream {
    fn new(use_of: &Arc<Use>) -> Stream {
        use_of.streams.fetch_add(1, Ordering::Relaxed);
        Stream(Arc::clone(use_of))
    }

    /// What is under way ends as it may, and nothing new begins.
    fn retire(&self) {
        self.0.is_retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn streams(&self) -> usize {
        self.use_of.streams.load(Ordering::Relaxed)
    }

    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.use_of.is_retired.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        let told = self.use_of.streams_max.load(Ordering::Relaxed);
        self.streams() < if told == STREAMS_UNTOLD { STREAMS_MAX } else { told.min(STREAMS_MAX) }
    }
}

/// A way to send one request.
type Taken = (SendRequest<OutBody>, Stream);

/// Sends a request over a shared connection and waits for the answer's head.
pub(super) async fn send(
    upstream: &Arc<UpstreamState>,
    key: PoolKey,
    request: Box<Request<OutBody>>,
    limits: &TryLimits,
) -> Result<(Response<Incoming>, Stream), TryError> {
    let nothing_sent = |failure, request, was_pooled, cause| TryError {
        failure,
        sent: Sent::Nothing,
        was_pooled,
        request: Some(request),
        cause,
    };
    let Some(endpoint) = upstream.endpoints().get(key.endpoint) else {
        return Err(nothing_sent(Failure::Connect, request, false, None));
    };
    let mut begun = limits.now;
    let (mut sender, stream, was_pooled) = if let Some((sender, stream)) = take(key) {
        (sender, stream, true)
    } else {
        let at = connect_by(upstream, limits.deadline);
        match within(at, connection(upstream, endpoint, key, at)).await {
            Ok(((sender, stream), was_pooled)) => {
                begun = Instant::now();
                (sender, stream, was_pooled)
            }
            Err((failure, cause)) => return Err(nothing_sent(failure, request, false, cause)),
        }
    };
    let (request, given) = to_http2(*request, endpoint);
    let answer = sender.try_send_request(request);
    let timer = pin!(tokio::time::sleep_until(begun.into()));
    match wait_for_head(answer, timer, begun, &upstream.config.timeouts, limits).await {
        Some(Ok(response)) => Ok((response, stream)),
        Some(Err(mut error)) => {
            let request = error.take_message().map(|request| Box::new(given.restore(request)));
            let error = error.into_error();
            let (failure, is_unsent, is_over) = read_error(&error);
            // Where the connection lives and the stream was reset, somebody there has said no: that is news of the endpoint.
            let was_pooled = was_pooled && is_over;
            // One that refuses has as many streams as it wants: the next try goes over another one.
            if is_over || is_unsent {
                stream.retire();
            }
            let sent = if request.is_some() || is_unsent { Sent::Nothing } else { Sent::Maybe };
            Err(TryError { failure, sent, was_pooled, request, cause: Some(io::Error::other(error)) })
        }
        None => {
            // Perhaps the request is slow, perhaps the connection is dead: the next ones go over another one.
            stream.retire();
            Err(TryError { failure: Failure::Timeout, sent: Sent::Maybe, was_pooled, request: None, cause: None })
        }
    }
}

/// How it failed, whether the other end says that it has not looked at the request, and whether the connection is done for.
fn read_error(error: &hyper::Error) -> (Failure, bool, bool) {
    let Some(h2) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else {
        return (Failure::Reset, false, true);
    };
    // A stream beyond the last one that a GOAWAY names fails so, and no other (RFC 9113 §6.8).
    let is_gone_away = h2.is_remote() && h2.is_go_away();
    let is_refused = h2.is_remote() && h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
    let is_garbage = h2.is_library() && h2.reason() == Some(h2::Reason::PROTOCOL_ERROR);
    let failure = if is_garbage { Failure::Garbage } else { Failure::Reset };
    (failure, is_gone_away || is_refused, !h2.is_reset())
}

/// What a request had to give up on its way into HTTP/2.
struct Given {
    host: Option<HeaderValue>,
    is_chunked: bool,
    is_grpc: bool,
}

/// An absolute target from `Host`, and no field that only HTTP/1 knows.
fn to_http2(mut request: Request<OutBody>, endpoint: &EndpointState) -> (Request<OutBody>, Given) {
    let host = request.headers_mut().remove(header::HOST);
    let is_chunked = request.headers_mut().remove(header::TRANSFER_ENCODING).is_some();
    // What a client says there is between it and us; gRPC servers ask for it, and trailers do get through.
    let is_grpc =
        request.headers().get(header::CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let named = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = named.or_else(|| Authority::try_from(endpoint.authority.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if endpoint.endpoint.scheme.is_tls() { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = authority;
    // All three are there, which is what a target is made of.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    (request, Given { host, is_chunked, is_grpc })
}

impl Given {
    /// As it was: the next try may be over HTTP/1.
    fn restore(self, mut request: Request<OutBody>) -> Request<OutBody> {
        let target = request.uri().path_and_query().cloned();
        if let Some(target) = target {
            *request.uri_mut() = Uri::from(target);
        }
        if self.is_grpc {
            request.headers_mut().remove(header::TE);
        }
        if let Some(host) = self.host {
            request.headers_mut().insert(header::HOST, host);
        }
        if self.is_chunked && request.body().size_hint().exact().is_none() {
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        request
    }
}

/// One with room, if there is one: the first, so that few are used.
fn take(key: PoolKey) -> Option<Taken> {
    SHARED.with_borrow_mut(|shared| {
        let connections = shared.get_mut(&key)?;
        connections.all.retain(Connection::is_usable);
        connections.all.iter().find(|connection| connection.has_room()).map(taken)
    })
}

fn taken(connection: &Connection) -> Taken {
    (connection.sender.clone(), Stream::new(&connection.use_of))
}

/// Waits for the connection that somebody else dials, or dials; and whether it was there already.
async fn connection(
    upstream: &Arc<UpstreamState>,
    endpoint: &EndpointState,
    key: PoolKey,
    at: Option<Instant>,
) -> Result<(Taken, bool), DialError> {
    let dialling = SHARED.with_borrow_mut(|shared| {
        let connections = shared.entry(key).or_insert_with(|| Connections {
            all: Vec::new(),
            dialling: Arc::default(),
            upstream: Arc::clone(upstream),
        });
        Arc::clone(&connections.dialling)
    });
    let _turn = dialling.lock().await;
    if let Some(taken) = take(key) {
        return Ok((taken, true));
    }
    let permit = match Arc::clone(&upstream.connections).try_acquire_owned() {
        Ok(permit) if key.lane == Lane::User => permit,
        // No room for one more: the requests of those that are there grow longer queues.
        Err(_) if let Some(taken) = least_used(key) => return Ok((taken, true)),
        other => {
            drop(other);
            let _waiting = WaitingShared::new(upstream);
            loop {
                match leave_to_open(upstream, key, at).await? {
                    Leave::Open(permit) => break permit,
                    // One that speaks HTTP/1.1: closed, it makes room.
                    Leave::Given(conn) => drop(conn),
                }
            }
        }
    };
    let stream = dial::tcp(endpoint, at).await.map_err(not_connected)?;
    let held = (ConnectionCount::new(upstream), permit);
    let connection = if endpoint.endpoint.scheme.is_tls() {
        let stream = dial::tls(upstream, endpoint, stream, true).await.map_err(not_connected)?;
        speak(stream, held).await.map_err(not_connected)?
    } else {
        speak(stream, held).await.map_err(not_connected)?
    };
    let taken = taken(&connection);
    SHARED.with_borrow_mut(|shared| {
        // The entry may have been swept meanwhile.
        let connections = shared.entry(key).or_insert_with(|| Connections {
            all: Vec::new(),
            dialling: Arc::clone(&dialling),
            upstream: Arc::clone(upstream),
        });
        connections.all.push(connection);
    });
    Ok((taken, false))
}

struct WaitingShared(Arc<UpstreamState>);

impl WaitingShared {
    fn new(upstream: &Arc<UpstreamState>) -> WaitingShared {
        upstream.waiting_shared.fetch_add(1, Ordering::Relaxed);
        WaitingShared(Arc::clone(upstream))
    }
}

impl Drop for WaitingShared {
    fn drop(&mut self) {
        self.0.waiting_shared.fetch_sub(1, Ordering::Relaxed);
    }
}

fn least_used(key: PoolKey) -> Option<Taken> {
    SHARED.with_borrow(|shared| {
        shared.get(&key)?.all.iter().filter(|it| it.is_usable()).min_by_key(|it| it.streams()).map(taken)
    })
}

async fn speak<S>(stream: S, held: (ConnectionCount, OwnedSemaphorePermit)) -> io::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, mut connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_UNTOLD)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let use_of = Arc::new(Use {
        streams: AtomicUsize::new(0),
        streams_max: AtomicUsize::new(connection.current_max_send_streams()),
        is_retired: AtomicBool::new(false),
    });
    let shown = Arc::clone(&use_of);
    tokio::spawn(async move {
        let driven = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            shown.streams_max.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        });
        // How a connection ends is told by the exchanges that it ends in.
        let _ = driven.await;
        shown.is_retired.store(true, Ordering::Relaxed);
        drop(held);
    });
    Ok(Connection { sender, use_of, since: Instant::now(), idle_since: None })
}

/// Lets go of what is dead, has been idle for too long, or takes the place of a connection that somebody waits for. A connection
/// without senders says goodbye by itself once its last stream has ended.
pub(super) fn sweep(now: Instant) {
    SHARED.with_borrow_mut(|shared| {
        for connections in shared.values_mut() {
            let is_waited_for = connections.upstream.waiting.load(Ordering::Relaxed) > 0;
            let is_shared_waited_for = connections.upstream.waiting_shared.load(Ordering::Relaxed) > 0;
            connections.all.retain_mut(|connection| {
                if is_shared_waited_for && now.duration_since(connection.since) >= TENURE {
                    connection.use_of.is_retired.store(true, Ordering::Relaxed);
                }
                if connection.streams() > 0 {
                    connection.idle_since = None;
                    return connection.is_usable();
                }
                let since = *connection.idle_since.get_or_insert(now);
                connection.is_usable() && !is_waited_for && now.duration_since(since) < IDLE_MAX
            });
        }
        shared.retain(|_, connections| !connections.all.is_empty() || Arc::strong_count(&connections.dialling) > 1);
    });
}

/// Lets go of the connections to upstreams that are no longer in force; requests under way on them end as they may.
pub(super) fn forget(is_in_force: impl Fn(&Arc<UpstreamState>) -> bool) {
    SHARED.with_borrow_mut(|shared| shared.retain(|_, connections| is_in_force(&connections.upstream)));
}
