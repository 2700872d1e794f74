//! A client's HTTP/2 connection: many requests at once, driven by hyper, bounded as HTTP/1 is and by what HTTP/2 needs beside it.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use strangler_core::door::Refusal;
use strangler_core::frames::{self, Flood, Frames, Passed, Verdict, kind};
use strangler_core::grpc;
use strangler_core::sniff::PREFACE;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::proxy::body::{AnswerError, ClientBody};
use crate::proxy::connection::{self, Busy, Registered, Waiting};
use crate::proxy::headers::Peer;
use crate::proxy::request_body::RequestBody;
use crate::proxy::serve::respond;
use crate::proxy::transport::Transport;
use crate::proxy::{Worker, answer};
use crate::upstream::cork::Corked;

/// Requests under way on a connection.
pub(crate) const STREAMS_MAX: u32 = 100;
/// Bytes of a request's body that a client may send before some of it has been read.
const STREAM_WINDOW: u32 = 64 << 10;
/// Likewise, of all requests of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// All fields of a request, as HPACK counts them.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// Bytes of an answer that wait for a client to take them.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// How often a silent client is asked whether it is there: a request may take for ever, its client may not be gone.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PONG_WITHIN: Duration = Duration::from_secs(20);

thread_local! {
    /// The request that was begun last on this core: its task is handed to the executor right after it.
    static BEGUN: RefCell<Weak<Busy>> = const { RefCell::new(Weak::new()) };
}

/// Starts requests' tasks and puts them on the connection's books.
#[derive(Clone, Copy)]
struct Streams {
    connection: u64,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let task = tokio::spawn(stream).abort_handle();
        connection::watch_stream(self.connection, BEGUN.take(), task);
    }
}

/// Drives a connection to its end. `before` has been read of it already.
pub(crate) async fn drive(io: Corked<Transport>, before: Vec<u8>, peer: Arc<Peer>, mut guard: Registered) {
    let (worker, waiting, id) = (Arc::clone(&guard.worker), Arc::clone(&guard.waiting), guard.id);
    let peer = Arc::new(Peer { is_h2: true, ..Arc::unwrap_or_clone(peer) });
    let wind_down = Arc::new(Notify::new());
    connection::watch_wind_down(id, Arc::clone(&wind_down));
    let requests_max = worker.proxy.settings.limits.requests_per_connection;
    let io = Counted::new(io, before, Arc::clone(&waiting), Arc::clone(&worker));
    let service = {
        let (waiting, wind_down) = (Arc::clone(&waiting), Arc::clone(&wind_down));
        let requests = AtomicU32::new(0);
        service_fn(move |request| {
            if requests_max > 0 && requests.fetch_add(1, Ordering::Relaxed) + 1 == requests_max {
                wind_down.notify_one();
            }
            let busy = Busy::beside_others(Arc::clone(&waiting), Arc::clone(&worker));
            BEGUN.set(Arc::downgrade(&busy));
            answer_one(Arc::clone(&worker), Arc::clone(&peer), busy, request)
        })
    };
    let connection = hyper::server::conn::http2::Builder::new(Streams { connection: id })
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        // Its own bound is on a whole connection's life; ours is on ten seconds of it.
        .max_local_error_reset_streams(None)
        .max_pending_accept_reset_streams(frames::RESETS_MAX as usize)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = Box::pin(connection);
    let told = async {
        tokio::select! {
            // The sender lives as long as the process; without it there is nobody left to stop us.
            _ = guard.stop.wait_for(|stopping| *stopping) => {}
            () = wind_down.notified() => {}
        }
    };
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = told => {
            waiting.close(&guard.worker.proxy);
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::debug!(%error, cause, "an HTTP/2 connection ended early");
    }
}

async fn answer_one(
    worker: Arc<Worker>,
    peer: Arc<Peer>,
    busy: Arc<Busy>,
    request: Request<Incoming>,
) -> Result<Response<StreamBody>, Infallible> {
    let (mut parts, body) = request.map(RequestBody::of_http_2).into_parts();
    let is_call = grpc::is_call(&parts.headers);
    let response = match look_through(&parts, worker.proxy.settings.limits.fields) {
        Ok(()) => {
            as_of_http_1(&mut parts);
            respond(worker, peer, &busy, Request::from_parts(parts, body)).await
        }
        Err(refusal) => {
            worker.proxy.metrics.count_rejected(refusal.as_str());
            answer::refused(refusal)
        }
    };
    let response = if is_call { answer::for_grpc(response) } else { response };
    busy.note_handed();
    Ok(response.map(|inner| StreamBody { inner, busy }))
}

/// What hyper's parser sees to in HTTP/1, and not here.
fn look_through(parts: &Parts, fields_max: usize) -> Result<(), Refusal> {
    if parts.headers.len() > fields_max {
        return Err(Refusal::FieldsTooLarge);
    }
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |value: &HeaderValue| is_space(value.as_bytes().first()) || is_space(value.as_bytes().last());
    if parts.headers.values().any(is_padded) { Err(Refusal::Field) } else { Ok(()) }
}

/// Brings a request into the form that the rest of the way knows: a target without authority, a Host that says it, one Cookie.
fn as_of_http_1(parts: &mut Parts) {
    // RFC 9113 §8.3.1: `:authority` wins.
    let host = parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        parts.headers.insert(header::HOST, host);
    }
    // Any other scheme stays where the door sees it, and is refused. `https` is believed no more than `http`.
    if matches!(parts.uri.scheme_str(), Some("http" | "https"))
        && let Some(target) = parts.uri.path_and_query().cloned()
    {
        parts.uri = Uri::from(target);
    }
    // RFC 9113 §8.2.3: cut up for compression; whoever reads it further on knows one field.
    let mut crumbs = parts.headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_some() && crumbs.next().is_some() {
        let all: Vec<&[u8]> = parts.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(whole) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            parts.headers.insert(header::COOKIE, whole);
        }
    }
}

/// An answer's body that notes whether the client takes it: a stream whose window stays shut would otherwise hold its upstream
/// for ever, unseen among others that go on.
struct StreamBody {
    inner: ClientBody,
    busy: Arc<Busy>,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.busy.note_asked();
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.busy.note_handed();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Bytes of a client that was told to calm down which are still read, so that it can read why.
const LAST_BYTES_MAX: usize = 1 << 20;

/// The way to a client, with its frames counted as they pass.
struct Counted {
    io: Corked<Transport>,
    /// Read already, given first.
    before: Vec<u8>,
    given: usize,
    came: Frames,
    went: Frames,
    flood: Flood,
    is_too_much: bool,
    /// It was told to calm down: what it still sends is thrown away, up to so many bytes.
    left: Option<usize>,
    waiting: Arc<Waiting>,
    worker: Arc<Worker>,
}

impl Counted {
    fn new(io: Corked<Transport>, before: Vec<u8>, waiting: Arc<Waiting>, worker: Arc<Worker>) -> Counted {
        let preface = u32::try_from(PREFACE.len()).unwrap_or_default();
        Counted {
            io,
            before,
            given: 0,
            came: Frames::new(preface),
            went: Frames::new(0),
            flood: Flood::default(),
            is_too_much: false,
            left: None,
            waiting,
            worker,
        }
    }

    fn poll_io(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(rest) = self.before.get(self.given..).filter(|rest| !rest.is_empty()) else {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        };
        let step = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..step).unwrap_or_default());
        self.given += step;
        if self.given == self.before.len() {
            self.before = Vec::new();
            self.given = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn note_came(&mut self, bytes: &[u8]) {
        let now_ms = self.worker.proxy.coarse_now_ms();
        let (flood, is_too_much) = (&mut self.flood, &mut self.is_too_much);
        let (was_in_fields, had_begun) = (flood.is_in_fields, flood.has_begun);
        self.came.follow(bytes, |passed| *is_too_much |= flood.came(passed, now_ms) == Verdict::TooMuch);
        if self.flood.is_in_fields || was_in_fields {
            self.waiting.note_fields(self.flood.is_in_fields, was_in_fields, &self.worker.proxy);
        }
        if self.flood.has_begun && !had_begun {
            self.waiting.note_begun(&self.worker.proxy);
        }
    }

    fn note_went(&mut self, bytes: &[u8]) {
        let now_ms = self.worker.proxy.coarse_now_ms();
        let (flood, is_too_much) = (&mut self.flood, &mut self.is_too_much);
        let (metrics, mut has_data) = (&self.worker.proxy.metrics, false);
        self.went.follow(bytes, |passed| match passed {
            Passed::Begun(head) => has_data |= head.kind == 0,
            Passed::Ended(head, code) if head.kind == kind::RST_STREAM && frames::is_clients_fault(code) => {
                metrics.count_rejected("h2_stream_error");
                *is_too_much |= flood.reset(code, now_ms) == Verdict::TooMuch;
            }
            Passed::Ended(head, code) if head.kind == kind::GOAWAY && code != 0 => {
                metrics.count_rejected("h2_connection_error");
                tracing::debug!(code, "an HTTP/2 connection was refused");
            }
            Passed::Ended(..) => {}
        });
        if has_data {
            self.waiting.note_taken(&self.worker.proxy);
        }
    }

    /// Tells the client that it is too much, and ends the connection from our side.
    fn tell_calm(&mut self, cx: &mut Context<'_>) {
        let proxy = &self.worker.proxy;
        proxy.metrics.count_rejected("h2_flood");
        tracing::debug!("an HTTP/2 client sent too much of what is cheap to send");
        self.waiting.close(proxy);
        // In the middle of another frame it would be garbage; then the end of the connection must say it alone.
        if self.went.is_between() {
            let last_word = frames::calm_down(self.flood.last_stream);
            let _ = Pin::new(&mut self.io).poll_write(cx, &last_word);
        }
        let _ = Pin::new(&mut self.io).poll_flush(cx);
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        self.left = Some(LAST_BYTES_MAX);
    }

    /// Reads on without looking: closed with bytes unread, the connection would be reset and the last word lost.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 4096];
        while let Some(left) = self.left.filter(|left| *left > 0) {
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            let got = buf.filled().len();
            self.left = Some(if got == 0 { 0 } else { left.saturating_sub(got) });
        }
        Poll::Ready(Err(io::Error::other("the client sent too much of what is cheap to send")))
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.left.is_none() && !me.is_too_much {
            let before = buf.filled().len();
            ready!(me.poll_io(cx, buf))?;
            me.note_came(buf.filled().get(before..).unwrap_or_default());
            if !me.is_too_much {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(before);
        }
        if me.left.is_none() {
            me.tell_calm(cx);
        }
        me.poll_discard(cx)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored_or_not(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored_or_not(cx, bufs)
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

impl Counted {
    fn poll_write_vectored_or_not(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.left.is_some() {
            // Nothing follows the last word.
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let polled = match bufs {
            [one] => Pin::new(&mut self.io).poll_write(cx, one),
            all => Pin::new(&mut self.io).poll_write_vectored(cx, all),
        };
        self.waiting.note_write_beside_others(polled.is_pending(), &self.worker.proxy);
        if let Poll::Ready(Ok(written)) = &polled {
            let mut left = *written;
            for buf in bufs {
                let step = left.min(buf.len());
                self.note_went(buf.get(..step).unwrap_or_default());
                left -= step;
            }
            if self.is_too_much {
                // The next read says so.
                cx.waker().wake_by_ref();
            }
        }
        polled
    }
}
