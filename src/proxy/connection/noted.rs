//! Looks on while a client's bytes are read and written.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use strangler_core::sniff::{Spoken, spoken};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::proxy::Worker;
use crate::proxy::connection::books::Registered;
use crate::proxy::connection::waiting::{Phase, Waiting};
use crate::proxy::transport::Transport;
use crate::upstream::cork::Corked;

/// Bytes read at once while nothing is served.
const FIRST_BYTES: usize = 4 << 10;

/// How long a client that has closed its half may be sent nothing before it is taken to have gone: an upstream is to see that soon.
const HALF_CLOSED_MAX: Duration = Duration::from_millis(50);

/// Notes when a request's first byte arrives, and whether the connection's first bytes are HTTP/2's.
///
/// They are looked at where hyper reads them: a client of HTTP/1 costs no read, no copy and no buffer more.
pub(super) struct Noted {
    io: Corked<Transport>,
    waiting: Arc<Waiting>,
    worker: Arc<Worker>,
    is_sniffing: bool,
    /// It is HTTP/2: not for hyper's HTTP/1 to read, nor to close.
    pub(super) is_h2: bool,
    /// Looked at, not yet given.
    held: Vec<u8>,
    /// The client has closed its half of the connection while it has an answer to get: until when it is not taken to have gone.
    half_closed: Option<Pin<Box<Sleep>>>,
    /// Whether it has been written to since.
    has_written: bool,
}

impl Noted {
    pub(super) fn new(io: Corked<Transport>, guard: &Registered, is_sniffing: bool) -> Noted {
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
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
    pub(super) fn into_h2(self) -> Option<(Corked<Transport>, Vec<u8>)> {
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
