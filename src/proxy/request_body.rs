//! A client's body. On HTTP/2, what is left of it when it is let go is read and thrown away for a while.
//!
//! On HTTP/1 the connection is at its end then, and lingers as a whole (`strict`).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use strangler_core::linger;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

/// What a client sends behind a request's head.
pub(crate) struct RequestBody {
    /// `None` once nothing more can come of it.
    incoming: Option<Incoming>,
    is_drained: bool,
}

impl RequestBody {
    /// Of a connection that carries one request at a time.
    pub(crate) fn of_http_1(incoming: Incoming) -> RequestBody {
        RequestBody { incoming: Some(incoming), is_drained: false }
    }

    /// Of a stream: let go before its end, it would be reset, and the answer would be lost to many a client.
    pub(crate) fn of_http_2(incoming: Incoming) -> RequestBody {
        RequestBody { incoming: Some(incoming), is_drained: true }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.incoming.take().filter(|incoming| self.is_drained && !incoming.is_end_stream());
        if let Some(rest) = rest
            && let Ok(runtime) = Handle::try_current()
        {
            // As many as there may be streams, each for a bounded time.
            runtime.spawn(drain(rest));
        }
    }
}

async fn drain(mut rest: Incoming) {
    let (begun, mut drained) = (Instant::now(), 0);
    while let Some(patience) = linger::patience(drained) {
        match timeout_at(begun + patience, rest.frame()).await {
            Ok(Some(Ok(frame))) => drained += frame.data_ref().map_or(0, |data| data.len() as u64),
            Ok(None | Some(Err(_))) | Err(_) => return,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            // The client is gone.
            self.incoming = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}
