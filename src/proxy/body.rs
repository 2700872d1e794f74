//! An answer's body on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::proxy::connection::Busy;
use crate::proxy::finish::Finish;
use crate::proxy::headers::without_forbidden_trailers;
use crate::proxy::tee::BodyTee;
use crate::upstream::Admission;
use crate::upstream::pool::Lease;

/// Why an answer's body broke off. The client's connection is then broken off, too: a truncated body never looks whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The upstream broke off.
    #[error("the upstream broke off in the answer's body")]
    Truncated(#[source] hyper::Error),
    /// Nothing came for longer than `timeouts.idle`, or the deadline passed.
    #[error("the upstream did not send the answer's body in time")]
    TooLate,
}

/// The body of an answer.
pub struct ClientBody {
    kind: Kind,
    /// Dropped with the body: from then on the connection waits for the next request.
    _busy: Option<Arc<Busy>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Upstream(Box<UpstreamBody>),
}

/// The body of an upstream's answer, and all that must outlive it.
pub(crate) struct UpstreamBody {
    pub(crate) incoming: Incoming,
    pub(crate) lease: Option<Lease>,
    pub(crate) admission: Option<Admission>,
    pub(crate) tee: Option<BodyTee>,
    pub(crate) finish: Option<Finish>,
    pub(crate) idle: Option<Duration>,
    /// When the whole request must have ended.
    pub(crate) deadline: Option<Instant>,
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    /// Told in the next turn.
    pub(crate) error: Option<AnswerError>,
}

impl ClientBody {
    /// One that is at hand.
    pub(crate) fn full(bytes: Bytes) -> ClientBody {
        ClientBody::new(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    fn new(kind: Kind) -> ClientBody {
        ClientBody { kind, _busy: None }
    }

    /// Keeps its connection busy until it has been sent.
    pub(crate) fn keeping_busy(self, busy: Arc<Busy>) -> ClientBody {
        ClientBody { _busy: Some(busy), ..self }
    }

    /// Bytes at hand.
    pub(crate) fn bytes_at_hand(&self) -> u64 {
        match &self.kind {
            Kind::Full(bytes) => bytes.len() as u64,
            Kind::Empty | Kind::Upstream(_) => 0,
        }
    }

    /// An upstream's.
    pub(crate) fn upstream(mut body: UpstreamBody) -> ClientBody {
        if body.incoming.is_end_stream() {
            body.end();
            return ClientBody::new(Kind::Empty);
        }
        ClientBody::new(Kind::Upstream(Box::new(body)))
    }
}

impl UpstreamBody {
    /// The answer has ended well: the connection goes back before the client has been written to.
    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
        self.admission = None;
        if let Some(tee) = self.tee.take() {
            tee.complete();
        }
        self.finish = None;
        self.timer = None;
    }

    /// The error itself is told a turn later: the library gives a connection up with all that it has not written yet, and a client
    /// that has not even got the head does not know what happened.
    fn fail(&mut self, error: AnswerError, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.lease = None;
        self.admission = None;
        if let Some(tee) = self.tee.take() {
            tee.truncated();
        }
        if let Some(mut finish) = self.finish.take() {
            finish.broke_off("truncated");
        }
        self.error = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        // Not at its end, and no fault of the upstream: the client went away. A tee dropped here tells the shadow so.
        if let Some(finish) = &mut self.finish {
            finish.error = Some("client_gone");
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Upstream(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Upstream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream(body) => body.incoming.size_hint(),
        }
    }
}

impl UpstreamBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match &mut self.lease {
            Some(lease) => lease.poll_frame(&mut self.incoming, cx),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                let frame = without_forbidden_trailers(frame);
                if let Some(data) = frame.data_ref() {
                    if let Some(finish) = &mut self.finish {
                        finish.bytes += data.len() as u64;
                    }
                    if let Some(tee) = &mut self.tee {
                        tee.piece(data);
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    if let Some(finish) = &mut self.finish {
                        finish.call.trailers(trailers);
                    }
                    if let Some(tee) = &mut self.tee {
                        tee.trailers(trailers);
                    }
                }
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(AnswerError::Truncated(error), cx),
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                // Made only when the upstream makes the client wait: most answers never need it.
                let by_idle = self.idle.map(|idle| Instant::now() + idle);
                let at = match (by_idle, self.deadline) {
                    (Some(a), Some(b)) => a.min(b),
                    (Some(at), None) | (None, Some(at)) => at,
                    (None, None) => return Poll::Pending,
                };
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                if timer.as_mut().poll(cx).is_ready() { self.fail(AnswerError::TooLate, cx) } else { Poll::Pending }
            }
        }
    }
}
