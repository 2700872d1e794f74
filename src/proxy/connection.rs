//! A client's connection: opened, told apart, driven by hyper, bounded in time by this core's sweeper.
//!
//! The bounds cost a request no timer: each connection notes what it waits for and since when, and a sweep a few times a
//! second ends those that have waited for too long.

mod books;
mod noted;
mod waiting;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use pingora_core::protocols::Stream;
use strangler_core::server::ListenerProtocol;
use tokio::io::AsyncWrite;
use tokio::sync::watch;

use crate::proxy::body::ClientBody;
pub(crate) use crate::proxy::connection::books::{Registered, SWEEP_EVERY, sweep, watch_stream, watch_wind_down};
use crate::proxy::connection::noted::Noted;
pub(crate) use crate::proxy::connection::waiting::{Busy, Phase, Waiting};
use crate::proxy::headers::Peer;
use crate::proxy::listener::Listener;
use crate::proxy::open::{Opened, open};
use crate::proxy::request_body::RequestBody;
use crate::proxy::serve::respond;
use crate::proxy::strict::Strict;
use crate::proxy::transport::Transport;
use crate::proxy::{Proxy, Worker, h2};
use crate::upstream::cork::Corked;

/// How long an idle connection is kept once the process stops, so that its next answer can say `connection: close`.
const LINGER: Duration = Duration::from_secs(3);

/// How long an idle connection's end may take to be written.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

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
    books::watch(id, waiting, task.abort_handle());
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
