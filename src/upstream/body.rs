//! Bodies on their way to an upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Why a request's body could not be sent to its end; the upstream then sees an aborted request, never a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The client broke off.
    #[error("the client broke off its request")]
    ClientGone,
    /// More bytes than the route takes.
    #[error("the request's body is larger than the route takes")]
    TooLarge,
    /// Nothing came for longer than `timeouts.idle`.
    #[error("the client sent nothing for too long")]
    Idle,
}

/// A request body as the connection to the upstream takes it. Small when there is none, which is the usual case.
pub enum OutBody {
    /// None.
    Empty,
    /// All of it, at hand; can be sent again.
    Full(Bytes),
    /// As it comes from the client; can be sent once.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl std::fmt::Debug for OutBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            OutBody::Empty => "Empty",
            OutBody::Full(_) => "Full",
            OutBody::Stream(_) => "Stream",
        })
    }
}

impl OutBody {
    /// A second one like it, if it is at hand.
    pub fn replay(&self) -> Option<OutBody> {
        match self {
            OutBody::Empty => Some(OutBody::Empty),
            OutBody::Full(bytes) => Some(OutBody::Full(bytes.clone())),
            OutBody::Stream(_) => None,
        }
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            OutBody::Empty => Poll::Ready(None),
            OutBody::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = OutBody::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            OutBody::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            OutBody::Empty => true,
            OutBody::Full(bytes) => bytes.is_empty(),
            OutBody::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            OutBody::Empty => SizeHint::with_exact(0),
            OutBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            OutBody::Stream(body) => body.size_hint(),
        }
    }
}
