//! A client's connection: opened, told apart, driven by hyper, bounded in time by this core's sweeper.
//!
//! The bounds cost a request no timer: each connection notes what it waits for and since when, and a sweep a few times a
//! second ends those that have waited for too long.

mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use pingora_core::protocols::Stream;
use strangler_core::server::ListenerProtocol;
use strangler_core::sniff::{Spoken, spoken};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use crate::proxy::body::ClientBody;
pub(crate) use crate::proxy::connection::waiting::{Busy, Phase, Waiting};
use crate::proxy::headers::Peer;
use crate::proxy::listener::{Listener, Seat};
use crate::proxy::open::{Opened, open};
use crate::proxy::request_body::RequestBody;
use crate::proxy::serve::respond;
use crate::proxy::strict::Strict;
use crate::proxy::transport::Transport;
use crate::proxy::{Proxy, Worker, h2};
use crate::upstream::cork::Corked;

/// How often a core looks at its connections.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// How long an idle connection is kept once the process stops, so that its next answer can say `connection: close`.
const LINGER: Duration = Duration::from_secs(3);

/// How long an idle connection's end may take to be written.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Bytes read at once while nothing is served.
const FIRST_BYTES: usize = 4 << 10;

/// How long a client that has closed its half may be sent nothing before it is taken to have gone: an upstream is to see that soon.
const HALF_CLOSED_MAX: Duration = Duration::from_millis(50);

struct Watched {
    waiting: Arc<Waiting>,
    task: AbortHandle,
    /// Of an HTTP/2 connection only.
    h2: Option<Box<WatchedStreams>>,
}

struct WatchedStreams {
    /// Asks the connection to end as soon as its requests have.
    wind_down: Arc<Notify>,
    streams: Vec<(Weak<Busy>, AbortHandle)>,
}

/// Connections put to rest after which their memory is given back: some megabytes.
const MANY_RESTED: usize = 256;

thread_local! {
    /// Connections of this core that went to rest since memory was given back.
    static RESTED: Cell<usize> = const { Cell::new(0) };
    static CONNECTIONS: RefCell<HashMap<u64, Watched>> = RefCell::default();
}

/// Ends the connections of this core that have waited for too long.
pub(crate) fn sweep(worker: &Worker) {
    let now = worker.proxy.begun.elapsed();
    let limits = &worker.proxy.settings.limits;
    let metrics = &worker.proxy.metrics;
    if RESTED.get() >= MANY_RESTED {
        RESTED.set(0);
        give_back_memory();
    }
    let mut rested = 0;
    CONNECTIONS.with_borrow_mut(|connections| {
        for watched in connections.values_mut() {
            if let Some(h2) = &mut watched.h2 {
                h2.streams.retain(|(busy, task)| {
                    let Some(busy) = busy.upgrade() else { return false };
                    if busy.is_stalled(limits, now) {
                        metrics.count_rejected("client_stalled");
                        task.abort();
                    }
                    true
                });
            }
            if watched.h2.is_none() {
                rested += usize::from(watched.waiting.tire(now));
            }
            let Some(phase) = watched.waiting.overdue(limits, now) else { continue };
            match (phase, &watched.h2) {
                (Phase::Idle, Some(h2)) => {
                    watched.waiting.close(&worker.proxy);
                    h2.wind_down.notify_one();
                    continue;
                }
                (Phase::Head, _) => metrics.count_rejected("header_timeout"),
                (Phase::Writing, _) => metrics.count_rejected("client_stalled"),
                (Phase::ProxyHeader, _) => metrics.count_rejected("proxy_protocol"),
                (Phase::Handshake, _) => metrics.count_rejected("tls_handshake"),
                (Phase::Idle | Phase::Busy | Phase::Closing, _) => {}
            }
            watched.task.abort();
        }
    });
    RESTED.set(RESTED.get() + rested);
}

/// Has the allocator give back what connections have left: it does so after so many larger allocations (`generic_collect` of
/// mimalloc), which a process that nobody asks anything never makes. Costs a core half a millisecond.
fn give_back_memory() {
    for _ in 0..10_000 {
        std::hint::black_box(Vec::<u8>::with_capacity(2 << 10));
    }
}

/// Puts a stream's task on its connection's books.
pub(crate) fn watch_stream(connection: u64, busy: Weak<Busy>, task: AbortHandle) {
    CONNECTIONS.with_borrow_mut(|all| {
        if let Some(h2) = all.get_mut(&connection).and_then(|watched| watched.h2.as_mut()) {
            // Those that have ended are taken off before there are twice as many as may be under way.
            if h2.streams.len() >= 2 * h2::STREAMS_MAX as usize {
                h2.streams.retain(|(busy, _)| busy.strong_count() > 0);
            }
            h2.streams.push((busy, task));
        }
    });
}

/// It speaks HTTP/2.
pub(crate) fn watch_wind_down(connection: u64, wind_down: Arc<Notify>) {
    CONNECTIONS.with_borrow_mut(|all| {
        if let Some(watched) = all.get_mut(&connection) {
            watched.h2 = Some(Box::new(WatchedStreams { wind_down, streams: Vec::new() }));
        }
    });
}

/// Whether one more connection may come; [`spawn`] has the last word.
pub(crate) fn has_room(proxy: &Proxy, listener: &Listener) -> bool {
    proxy.open.count() < proxy.connections_max() && listener.has_room()
}

/// Drives a connection in a task of its own, if there is room for it.
pub(crate) fn spawn(
    worker: Arc<Worker>,
    listener: &Arc<Listener>,
    stream: Stream,
    ip: IpAddr,
    stop: watch::Receiver<bool>,
) {
    let proxy = Arc::clone(&worker.proxy);
    // Counted before the task runs, so that a stop does not overlook it.
    let has_room = proxy.open.add() < proxy.connections_max();
    let seat = listener.take_in().and_then(|mut seat| {
        if !has_room {
            return Err("too_many_connections");
        }
        // Behind a PROXY header somebody else is the client.
        if !listener.has_proxy_header() {
            seat.take_client(ip)?;
        }
        Ok(seat)
    });
    let seat = match seat {
        Ok(seat) => seat,
        Err(reason) => {
            proxy.metrics.count_rejected(reason);
            proxy.open.remove();
            tracing::debug!(client = %ip, reason, "a connection was closed at once");
            return;
        }
    };
    let id = crate::upstream::chance::next_u64();
    let waiting = Arc::new(Waiting::new(&proxy));
    let guard = Registered { id, worker, seat: Some(seat), waiting: Arc::clone(&waiting), stop };
    let task = tokio::spawn(drive(stream, ip, guard));
    CONNECTIONS.with_borrow_mut(|all| all.insert(id, Watched { waiting, task: task.abort_handle(), h2: None }));
}

/// What a connection is on the books with; dropped, it is taken off them, however it ended.
pub(crate) struct Registered {
    pub(crate) id: u64,
    pub(crate) worker: Arc<Worker>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Until the connection is open; then its peer has it, and with that a tunnel that outlives HTTP on it.
    seat: Option<Seat>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        CONNECTIONS.with_borrow_mut(|all| all.remove(&self.id));
        self.worker.proxy.open.remove();
    }
}

/// Drives a connection to its end. Of its own it keeps little: what is idle for most of its life should be small.
async fn drive(stream: Stream, ip: IpAddr, mut guard: Registered) {
    let Some(listener) = guard.seat.as_ref().map(|seat| &seat.listener) else { return };
    let is_direct = listener.tls().is_none() && !listener.has_proxy_header();
    let opened = if is_direct {
        let peer = Peer::direct(ip, &guard.worker.proxy.settings.server.trusted_proxies, listener);
        Opened { io: Transport::Plain(stream), peer, protocol: listener.protocol() }
    } else {
        // Boxed: a handshake's state is large and soon over.
        let Some(opened) = Box::pin(open_unless_stopped(stream, ip, &mut guard)).await else { return };
        opened
    };
    let Opened { io, mut peer, protocol } = opened;
    peer.seat = guard.seat.take().map(Arc::new);
    let peer = Arc::new(peer);
    let io = Corked::to_client(io);
    if protocol == ListenerProtocol::H2c {
        return Box::pin(h2::drive(io, Vec::new(), peer, guard)).await;
    }
    let io = Noted::new(io, &guard, protocol == ListenerProtocol::Auto);
    if let Some((io, held)) = drive_h1(io, &peer, &mut guard).await {
        Box::pin(h2::drive(io, held, peer, guard)).await;
    }
}

/// Serves HTTP/1 to the connection's end; gives it back with what was read of it when it turns out to speak HTTP/2.
///
/// Between requests that are far apart nothing is kept but the socket: what serves them is four fifths of a connection's memory.
async fn drive_h1(io: Noted, peer: &Arc<Peer>, guard: &mut Registered) -> Option<(Corked<Transport>, Vec<u8>)> {
    let limits = guard.worker.proxy.settings.limits;
    let mut io = Strict::new(io, limits.head, limits.header_deadline, Arc::default());
    loop {
        let first = pin!(std::future::poll_fn(|cx| {
            if io.is_amid() { Poll::Ready(Ok(())) } else { io.inner_mut().poll_first(cx) }
        }));
        match unless_stopped(first, &mut guard.stop, || false).await {
            Running::Ended(Ok(())) => {}
            Running::Ended(Err(_)) | Running::Stopped | Running::Tired => {
                if !io.inner_mut().is_h2 {
                    // A client over TLS is told that this was the end. Bounded: there may be nobody to take it.
                    let goodbye = std::future::poll_fn(|cx| Pin::new(io.inner_mut()).poll_shutdown(cx));
                    let _ = tokio::time::timeout(GOODBYE_MAX, goodbye).await;
                }
                return io.into_inner().into_h2();
            }
        }
        std::future::poll_fn(|cx| {
            guard.waiting.wake_up(cx.waker());
            Poll::Ready(())
        })
        .await;
        let (switch, waiting) = (Arc::clone(io.switch()), Arc::clone(&guard.waiting));
        let mut connection = begin_h1(io, Arc::clone(peer), guard);
        let may_rest = || waiting.may_rest() && switch.is_between_requests();
        let outcome = match unless_stopped(Pin::new(&mut *connection), &mut guard.stop, may_rest).await {
            Running::Ended(outcome) => outcome,
            Running::Tired => {
                let parts = connection.into_parts()?;
                io = parts.io.into_inner();
                io.give_back(&parts.read_buf);
                continue;
            }
            Running::Stopped => {
                Pin::new(&mut *connection).graceful_shutdown();
                connection.as_mut().await
            }
        };
        if let Err(error) = outcome
            && (error.is_parse() || error.is_parse_too_large())
        {
            let reason = if error.is_parse_too_large() { "head_too_large" } else { "bad_request" };
            guard.worker.proxy.metrics.count_rejected(reason);
            tracing::debug!(%error, reason, "a request was refused by the parser");
        }
        return None;
    }
}

async fn open_unless_stopped(stream: Stream, ip: IpAddr, guard: &mut Registered) -> Option<Opened> {
    let opening = open(&guard.worker, guard.seat.as_mut()?, stream, ip, &guard.waiting);
    tokio::select! {
        opened = opening => opened,
        () = linger(&mut guard.stop) => None,
    }
}

/// HTTP/1 on a client's connection.
type Http1<S> = http1::UpgradeableConnection<TokioIo<Strict<Noted>>, S>;

/// Requests over `io`.
fn begin_h1(io: Strict<Noted>, peer: Arc<Peer>, guard: &Registered) -> Box<Http1<impl AnswersRequests + use<>>> {
    let limits = guard.worker.proxy.settings.limits;
    let (worker, waiting, stop) = (Arc::clone(&guard.worker), Arc::clone(&guard.waiting), guard.stop.clone());
    let switch = Arc::clone(io.switch());
    let service = service_fn(move |request: Request<Incoming>| {
        waiting.note(Phase::Busy, &worker.proxy);
        let (worker, peer, waiting) = (Arc::clone(&worker), Arc::clone(&peer), Arc::clone(&waiting));
        let most = worker.proxy.settings.limits.requests_per_connection;
        let is_last = most > 0 && waiting.count_request() + 1 >= most;
        let is_last = is_last || *stop.borrow();
        let switch = switch.is_asked_by(&request).then(|| Arc::clone(&switch));
        async move {
            // Held by the answer's body and, while the client is still sending, by the request's.
            let busy = Busy::alone(waiting, Arc::clone(&worker));
            let mut response = respond(worker, peer, &busy, request.map(RequestBody::of_http_1)).await;
            if let Some(switch) = switch {
                switch.tell(response.status() == http::StatusCode::SWITCHING_PROTOCOLS);
            }
            if is_last {
                response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| body.keeping_busy(busy)))
        }
    });
    Box::new(
        http1::Builder::new()
            .max_headers(limits.fields)
            .max_buf_size(limits.head_bytes)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades(),
    )
}

/// What hyper asks for answers: a function, for its type has no name.
trait AnswersRequests:
    Service<Request<Incoming>, Response = Response<ClientBody>, Error = Infallible, Future: Send> + Unpin
{
}

impl<S> AnswersRequests for S where
    S: Service<Request<Incoming>, Response = Response<ClientBody>, Error = Infallible, Future: Send> + Unpin
{
}

/// What became of something that was waited for.
enum Running<T> {
    Ended(T),
    /// It still runs some time after the process was told to stop.
    Stopped,
    /// It still runs, and nobody needs it at present.
    Tired,
}

/// Waits for `running`, and for what may come before its end.
///
/// The stop is listened to once, and asked again only when it has come: it wakes the task, as all else does that the connection
/// waits for, and asking each time would cost a request more than its place in the routes.
async fn unless_stopped<F: Future>(
    mut running: Pin<&mut F>,
    stop: &mut watch::Receiver<bool>,
    is_tired: impl Fn() -> bool,
) -> Running<F::Output> {
    let told = stop.clone();
    let mut is_told = *told.borrow();
    let mut is_heard = false;
    let mut lingered = pin!(linger(stop));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = running.as_mut().poll(cx) {
            return Poll::Ready(Running::Ended(outcome));
        }
        if is_tired() {
            return Poll::Ready(Running::Tired);
        }
        is_told |= told.has_changed().unwrap_or(true);
        if is_told || !is_heard {
            is_heard = true;
            return lingered.as_mut().poll(cx).map(|()| Running::Stopped);
        }
        Poll::Pending
    })
    .await
}

/// Waits until the process stops, and a little longer.
async fn linger(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the process; without it there is nobody left to stop us.
    let _ = stop.wait_for(|stopping| *stopping).await;
    tokio::time::sleep(LINGER).await;
}

/// Notes when a request's first byte arrives, and whether the connection's first bytes are HTTP/2's.
///
/// They are looked at where hyper reads them: a client of HTTP/1 costs no read, no copy and no buffer more.
struct Noted {
    io: Corked<Transport>,
    waiting: Arc<Waiting>,
    worker: Arc<Worker>,
    is_sniffing: bool,
    /// It is HTTP/2: not for hyper's HTTP/1 to read, nor to close.
    is_h2: bool,
    /// Looked at, not yet given.
    held: Vec<u8>,
    /// The client has closed its half of the connection while it has an answer to get: until when it is not taken to have gone.
    half_closed: Option<Pin<Box<Sleep>>>,
    /// Whether it has been written to since.
    has_written: bool,
}

impl Noted {
    fn new(io: Corked<Transport>, guard: &Registered, is_sniffing: bool) -> Noted {
        let (waiting, worker) = (Arc::clone(&guard.waiting), Arc::clone(&guard.worker));
        Noted {
            io,
            waiting,
            worker,
            is_sniffing,
            is_h2: false,
            held: Vec::new(),
            half_closed: None,
            has_written: false,
        }
    }

    /// Waits for the first bytes of a request, without keeping room for them meanwhile. An error: there are none, or not of HTTP/1.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_sniffing && !self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut room = [MaybeUninit::uninit(); FIRST_BYTES];
        let mut buf = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *self).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        // There may be some left of what told the protocol.
        self.held.splice(..0, buf.filled().iter().copied());
        Poll::Ready(Ok(()))
    }

    /// The bytes that HTTP/2 is spoken over, and what was read of them.
    fn into_h2(self) -> Option<(Corked<Transport>, Vec<u8>)> {
        self.is_h2.then_some((self.io, self.held))
    }

    /// Reads until the first bytes tell. Rare is all but the first line of it: the whole beginning of a request at once.
    fn poll_sniff(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let got = buf.filled().get(before..).unwrap_or_default();
            let is_end = got.is_empty();
            if self.held.is_empty() && (is_end || spoken(got) == Spoken::Http1) {
                self.is_sniffing = false;
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(got);
            buf.set_filled(before);
            match spoken(&self.held) {
                Spoken::Http2 => {
                    self.is_h2 = true;
                    return Poll::Ready(Err(io::Error::other("the client speaks HTTP/2")));
                }
                Spoken::Open if !is_end => {}
                Spoken::Open | Spoken::Http1 => {
                    self.is_sniffing = false;
                    self.give_held(buf);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// The client sends no more. Whether it has gone cannot be seen until something is written to it: one that has is reset then, one
    /// that waits for its answer takes it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // The end of an answer may still wait in the library when there is no more to be asked of a side.
            let is_owed = self.waiting.is(Phase::Busy) || self.waiting.is(Phase::Writing) || self.waiting.is_stuck();
            if !is_owed {
                return Poll::Ready(Ok(()));
            }
            let timer = self.half_closed.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED_MAX)));
            ready!(timer.as_mut().poll(cx));
            if self.has_written {
                // Whoever had gone would have reset the connection by now. What is written from here on wakes us.
                return match Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut [0; 1])) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                };
            }
            if !(self.waiting.is(Phase::Writing) || self.waiting.is_stuck()) {
                return Poll::Ready(Ok(()));
            }
            timer.as_mut().reset(Instant::now() + HALF_CLOSED_MAX);
        }
    }

    /// Something was written, or could not be for now.
    fn note_write<T>(&mut self, polled: &Poll<io::Result<T>>, cx: &Context<'_>) {
        if let (Some(timer), Poll::Ready(Ok(_))) = (&mut self.half_closed, polled) {
            if !self.has_written {
                timer.as_mut().reset(Instant::now() + HALF_CLOSED_MAX);
                self.has_written = true;
            }
            // It may have been the last of the answer: then the end is one at once.
            cx.waker().wake_by_ref();
        }
        self.waiting.note_write(polled.is_pending(), &self.worker.proxy);
    }

    fn give_held(&mut self, buf: &mut ReadBuf<'_>) {
        let step = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..step]);
        self.held.drain(..step);
    }
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.half_closed.is_some() {
            return self.poll_end(cx);
        }
        let polled = if self.is_sniffing {
            self.poll_sniff(cx, buf)
        } else if self.held.is_empty() {
            Pin::new(&mut self.io).poll_read(cx, buf)
        } else {
            self.give_held(buf);
            Poll::Ready(Ok(()))
        };
        if polled.is_ready() && buf.filled().len() > before && self.waiting.is(Phase::Idle) {
            self.waiting.note(Phase::Head, &self.worker.proxy);
        }
        match polled {
            Poll::Ready(Ok(())) if buf.filled().len() == before && buf.remaining() > 0 => self.poll_end(cx),
            Poll::Ready(_) | Poll::Pending => polled,
        }
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_write(&polled, cx);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_write(&polled, cx);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_h2 {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        // What the client still sends is no next request.
        self.waiting.note(Phase::Closing, &self.worker.proxy);
        Poll::Ready(Ok(()))
    }
}
