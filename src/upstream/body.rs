//! Bodies on their way to an upstream.

use std::collections::VecDeque;
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
    /// What came is not how a body is framed.
    #[error("the request's body is not framed as it says")]
    Malformed,
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
    /// All of it, at hand in the pieces it came in; can be sent again.
    Full(VecDeque<Bytes>),
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

/// Bytes in all.
pub fn length(pieces: &VecDeque<Bytes>) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

impl OutBody {
    /// One that is at hand.
    pub fn pieces(pieces: VecDeque<Bytes>) -> OutBody {
        if pieces.is_empty() { OutBody::Empty } else { OutBody::Full(pieces) }
    }

    /// One that is at hand in one piece.
    pub fn whole(bytes: Bytes) -> OutBody {
        OutBody::pieces(if bytes.is_empty() { VecDeque::new() } else { VecDeque::from([bytes]) })
    }

    /// All of it in one piece, if it is at hand.
    pub fn to_bytes(&self) -> Option<Bytes> {
        match self {
            OutBody::Empty => Some(Bytes::new()),
            OutBody::Full(pieces) if pieces.len() == 1 => pieces.front().cloned(),
            OutBody::Full(pieces) => Some(pieces.iter().flatten().copied().collect::<Vec<u8>>().into()),
            OutBody::Stream(_) => None,
        }
    }

    /// A second one like it, if it is at hand.
    pub fn replay(&self) -> Option<OutBody> {
        match self {
            OutBody::Empty => Some(OutBody::Empty),
            OutBody::Full(pieces) => Some(OutBody::Full(pieces.clone())),
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
            OutBody::Full(pieces) => {
                let piece = pieces.pop_front();
                if pieces.is_empty() {
                    *self = OutBody::Empty;
                }
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            OutBody::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            OutBody::Empty => true,
            OutBody::Full(pieces) => pieces.is_empty(),
            OutBody::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            OutBody::Empty => SizeHint::with_exact(0),
            OutBody::Full(pieces) => SizeHint::with_exact(length(pieces)),
            OutBody::Stream(body) => body.size_hint(),
        }
    }
}
