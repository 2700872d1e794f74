//! A client's body on its way to an upstream: counted, bounded, never buffered whole.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use strangler_core::upload_rate::Pace;
use tokio::time::{Instant, Sleep};

use crate::proxy::connection::Busy;
use crate::proxy::headers::without_forbidden_trailers;
use crate::proxy::request_body::RequestBody;
use crate::upstream::body::{BodyError, OutBody, length};
use crate::upstream::budget::Held;
use crate::upstream::pool::UploadProgress;

/// Why an upload ended early, readable after the body was given away.
#[derive(Debug, Default)]
pub(crate) struct UploadFault(AtomicU8);

impl UploadFault {
    pub(crate) fn read(&self) -> Option<BodyError> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(BodyError::ClientGone),
            2 => Some(BodyError::TooLarge),
            3 => Some(BodyError::Idle),
            4 => Some(BodyError::Malformed),
            _ => None,
        }
    }

    fn note(&self, error: BodyError) {
        let code = match error {
            BodyError::ClientGone => 1,
            BodyError::TooLarge => 2,
            BodyError::Idle => 3,
            BodyError::Malformed => 4,
        };
        self.0.store(code, Ordering::Relaxed);
    }
}

/// Bounds on an upload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadBounds {
    /// Bytes in all.
    pub(crate) bytes_max: u64,
    /// How slowly it may come.
    pub(crate) pace: Pacer,
}

/// Holds a client to its pace: between two pieces, and over all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    idle: Duration,
    min_rate: u32,
    pace: Pace,
    /// When the client began to be waited for.
    since: Option<Instant>,
}

impl Pacer {
    pub(crate) fn new(idle: Duration, min_rate: u32) -> Pacer {
        Pacer { idle, min_rate, pace: Pace::default(), since: None }
    }

    /// Nothing is there: until when it is waited for.
    fn wait(&mut self) -> Instant {
        let since = *self.since.get_or_insert_with(Instant::now);
        since + self.pace.patience(self.min_rate).map_or(self.idle, |patience| patience.min(self.idle))
    }

    /// A piece came.
    fn came(&mut self, bytes: usize) {
        self.pace.bytes += bytes as u64;
        if let Some(since) = self.since.take() {
            self.pace.waited += since.elapsed();
        }
    }
}

/// The client's body as it comes, after what has been read of it already.
pub(crate) struct Upload {
    /// Read ahead, counted already.
    head: VecDeque<Bytes>,
    incoming: RequestBody,
    left: u64,
    pace: Pacer,
    timer: Option<Pin<Box<Sleep>>>,
    progress: Arc<UploadProgress>,
    fault: Arc<UploadFault>,
    /// While the client is sending, its connection does not wait for a next request.
    _busy: Arc<Busy>,
}

impl Upload {
    /// `head` has been counted already.
    pub(crate) fn stream(
        head: VecDeque<Bytes>,
        incoming: RequestBody,
        bounds: UploadBounds,
        progress: Arc<UploadProgress>,
        fault: Arc<UploadFault>,
        busy: Arc<Busy>,
    ) -> OutBody {
        let left = bounds.bytes_max.saturating_sub(length(&head));
        OutBody::Stream(Box::pin(Upload {
            head,
            incoming,
            left,
            pace: bounds.pace,
            timer: None,
            progress,
            fault,
            _busy: busy,
        }))
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.fault.note(error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(head) = self.head.pop_front() {
            self.progress.note(false);
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                let frame = without_forbidden_trailers(frame);
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.pace.came(frame.data_ref().map_or(0, Bytes::len));
                if bytes > self.left {
                    return self.fail(BodyError::TooLarge);
                }
                self.left -= bytes;
                self.progress.note(self.incoming.is_end_stream());
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(fault_of(&error)),
            Poll::Ready(None) => {
                self.progress.note(true);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let at = self.pace.wait();
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                if timer.as_mut().poll(cx).is_ready() { self.fail(BodyError::Idle) } else { Poll::Pending }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let head = length(&self.head);
        let rest = self.incoming.size_hint();
        rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(head + rest))
    }
}

/// Whether the client broke off, or sent what is no body.
fn fault_of(error: &hyper::Error) -> BodyError {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) => BodyError::Malformed,
        Some(_) | None => BodyError::ClientGone,
    }
}

/// What came of reading a body ahead.
pub(crate) enum ReadAhead {
    /// All of it.
    Whole(VecDeque<Bytes>),
    /// Its beginning; the rest is still to come.
    Part(VecDeque<Bytes>),
}

/// Pieces of a body that are kept; beyond, the rest streams.
const PIECES_MAX: usize = 256;

/// Reads up to `bytes_max` bytes, or to the first that `held` has no room for.
pub(crate) async fn read_ahead(
    incoming: &mut RequestBody,
    bytes_max: u64,
    pace: &mut Pacer,
    held: &mut Held,
) -> Result<ReadAhead, BodyError> {
    let mut pieces = VecDeque::new();
    let mut kept = 0;
    loop {
        let at = pace.wait();
        let frame = tokio::time::timeout_at(at, incoming.frame()).await.map_err(|_| BodyError::Idle)?;
        let data = match frame {
            None => return Ok(ReadAhead::Whole(pieces)),
            Some(Err(error)) => return Err(fault_of(&error)),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        pace.came(data.len());
        kept += data.len() as u64;
        let has_room = held.grow(data.len() as u64);
        if !data.is_empty() {
            pieces.push_back(data);
        }
        // Pieces of one byte each would cost far more than their bytes.
        if kept > bytes_max || !has_room || pieces.len() > PIECES_MAX {
            return Ok(ReadAhead::Part(pieces));
        }
    }
}
