//! The bytes of an upstream's connection, heard to their end.
//!
//! An upstream that refuses an upload answers early and closes, and what is still written to it fails before its answer has been
//! read. The HTTP library would give up there; so a failed write is kept back until the reads have come to their end. And answers
//! that are none yet (1xx) are counted: the library would read them for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use strangler_core::interim::Interim;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Tells a connection's bytes that the next ones answer a new request.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<AtomicBool>);

impl Turn {
    /// A request is about to be sent.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The way to an upstream.
pub(super) struct LastWord<S> {
    io: S,
    /// What the first failed write came to; nothing is written from then on.
    broken: Option<io::Error>,
    turn: Turn,
    /// Answers before the one that counts; `None` once that one has begun.
    interim: Option<Interim>,
}

impl<S> LastWord<S> {
    pub(super) fn new(io: S, turn: Turn) -> LastWord<S> {
        LastWord { io, broken: None, turn, interim: None }
    }

    /// Whether what was written last may be taken to have failed for good.
    fn or_broken<T>(&mut self, polled: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(Err(error)) if is_gone(&error) => {
                self.broken = Some(error);
                // The next read tells how it ends; it may not have been asked for yet.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        }
    }

    /// The bytes of an answer, before they are given on.
    fn note_came(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.turn.0.load(Ordering::Relaxed) {
            self.turn.0.store(false, Ordering::Relaxed);
            self.interim = Some(Interim::default());
        }
        if let Some(interim) = &mut self.interim {
            match interim.read(bytes) {
                Ok(true) => {}
                Ok(false) => self.interim = None,
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(())
    }
}

/// The other end has closed.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for LastWord<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if came.is_empty() {
            // Behind a reset nobody can say that this is all there was: an answer without a length would look whole.
            return Poll::Ready(self.broken.take().map_or(Ok(()), Err));
        }
        Poll::Ready(self.note_came(came))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LastWord<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken.is_some() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.or_broken(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.broken.is_some() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.or_broken(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.or_broken(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn what_was_said_before_a_write_failed_is_heard_and_its_end_is_no_usual_one() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"HTTP/1.1 403 Forbidden\r\n").await.unwrap();
        drop(far);
        let mut near = LastWord::new(near, Turn::default());

        let mut nobody = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut near).poll_write(&mut nobody, b"more").is_pending());
        let mut said = Vec::new();
        let ended = near.read_to_end(&mut said).await;

        assert_eq!(said, b"HTTP/1.1 403 Forbidden\r\n");
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
    }
}
