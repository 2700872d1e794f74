//! Between a client's socket and the HTTP library: shows it only what [`Framing`] has found well.
//!
//! A head is handed on when it is whole, and a refused one is replaced by a short one that stands in for it, so that the refusal
//! is answered, counted and logged like any other request, in its turn. A usual request is one read, and passes without a copy.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use strangler_core::door::{Refusal, stand_in};
use strangler_core::framing::{Framing, HeadBounds, Refused};
use strangler_core::linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes read at once while a head is not whole.
const PIECE_BYTES: usize = 4 << 10;
/// Bytes read at once of what is thrown away.
const LINGER_PIECE_BYTES: usize = 16 << 10;
/// How much earlier than its deadline a head is given up, so that the answer leaves before the connection is closed.
const EARLY: Duration = Duration::from_millis(600);

/// What became of a request for another protocol, told by whoever answers it.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    answer: AtomicU8,
    reader: Mutex<Option<Waker>>,
    /// Whether all that was read is whole requests.
    is_between: AtomicBool,
}

const HTTP: u8 = 1;
const TUNNEL: u8 = 2;
const WAITED_FOR: u8 = 3;

impl Switch {
    /// Whether the answer to `request` is waited for. Costs a look when nobody waits.
    pub(crate) fn is_asked_by<B>(&self, request: &http::Request<B>) -> bool {
        self.answer.load(Ordering::Acquire) == WAITED_FOR && request.headers().contains_key(http::header::UPGRADE)
    }

    /// The answer to that request has been made.
    pub(crate) fn tell(&self, is_tunnel: bool) {
        self.answer.store(if is_tunnel { TUNNEL } else { HTTP }, Ordering::Release);
        if let Some(reader) = self.reader.lock().take() {
            reader.wake();
        }
    }

    /// Whether the reader is between two requests: it holds no part of one, and waits for none of one's body.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.is_between.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<bool> {
        match self.answer.load(Ordering::Acquire) {
            HTTP => Some(false),
            TUNNEL => Some(true),
            _ => None,
        }
    }
}

/// A client's connection, of which only sound requests can be read.
pub(crate) struct Strict<S> {
    io: S,
    framing: Framing,
    switch: Arc<Switch>,
    /// When the first head must be whole; each later one has as long from its first byte.
    first: Option<Instant>,
    deadline: Duration,
    /// Made when something out of the usual is under way.
    rare: Option<Box<Rare>>,
}

/// A head in parts, a refusal, bytes behind a request for another protocol, or the end.
#[derive(Default)]
struct Rare {
    /// Sound, and to be handed on.
    out: Vec<u8>,
    out_at: usize,
    /// Not handed on yet.
    kept: Vec<u8>,
    timer: Option<Pin<Box<Sleep>>>,
    is_refused: bool,
    is_body_refused: bool,
    lingers_since: Option<Instant>,
    lingered: u64,
}

impl<S> Strict<S> {
    /// `deadline` bounds each head.
    pub(crate) fn new(io: S, bounds: HeadBounds, deadline: Duration, switch: Arc<Switch>) -> Strict<S> {
        let first = Some(Instant::now() + deadline);
        Strict { io, framing: Framing::new(bounds), switch, first, deadline, rare: None }
    }

    /// What it read from.
    pub(crate) fn into_inner(self) -> S {
        self.io
    }

    /// What it reads from: bytes that are taken from there must come from there again.
    pub(crate) fn inner_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// Tells the service what became of a request for another protocol, and others where the reader is.
    pub(crate) fn switch(&self) -> &Arc<Switch> {
        &self.switch
    }

    /// Takes back what it has handed on, to hand it on again.
    pub(crate) fn give_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let rare = self.rare.get_or_insert_default();
            let waiting = rare.out.split_off(rare.out_at);
            (rare.out, rare.out_at) = ([bytes, &waiting].concat(), 0);
        }
    }

    /// Whether there is something to be read at once.
    pub(crate) fn is_amid(&self) -> bool {
        self.rare.is_some()
    }

    fn note_place(&self) {
        self.switch.is_between.store(self.rare.is_none() && self.framing.is_between_requests(), Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> Strict<S> {
    /// Looks at what is kept, and takes over what is sound of it.
    fn sift(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        match self.framing.feed(&rare.kept) {
            Ok(0) => {}
            Ok(whole) => {
                rare.out.extend(rare.kept.drain(..whole));
                rare.timer = None;
            }
            Err(refused) => rare.refuse(refused),
        }
        if self.framing.is_switching() {
            self.switch.answer.store(WAITED_FOR, Ordering::Release);
        }
    }

    /// The bytes of `buf` behind `before` are new.
    fn looked_at(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let new = buf.filled().get(before..).unwrap_or_default();
        let (whole, refused) = match self.framing.feed(new) {
            Ok(whole) => (whole, None),
            Err(refused) => (refused.whole, Some(refused)),
        };
        let is_switching = self.framing.is_switching();
        if whole > 0 {
            self.first = None;
        }
        if whole == new.len() && refused.is_none() && !is_switching {
            return;
        }
        let kept = new.get(whole..).unwrap_or_default().to_vec();
        let mut rare = Box::new(Rare { kept, ..Rare::default() });
        if let Some(refused) = refused {
            rare.refuse(Refused { whole: 0, ..refused });
        }
        if is_switching {
            self.switch.answer.store(WAITED_FOR, Ordering::Release);
        }
        buf.set_filled(before + whole);
        self.rare = Some(rare);
    }

    /// As [`AsyncRead::poll_read`], while something rare is under way.
    fn poll_rare(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.framing.is_switching() {
                // Registered first, so that an answer told meanwhile is not missed.
                *self.switch.reader.lock() = Some(cx.waker().clone());
                if let Some(is_tunnel) = self.switch.take() {
                    self.switch.answer.store(0, Ordering::Release);
                    self.switch.reader.lock().take();
                    self.framing.switched(is_tunnel);
                    self.sift();
                }
            }
            let Some(rare) = &mut self.rare else { return Poll::Ready(Ok(())) };
            let waiting = rare.out.get(rare.out_at..).unwrap_or_default();
            if !waiting.is_empty() {
                let given = waiting.len().min(buf.remaining());
                buf.put_slice(waiting.get(..given).unwrap_or_default());
                rare.out_at += given;
                let is_usual_again = rare.out_at == rare.out.len() && rare.kept.is_empty() && !rare.is_refused;
                if is_usual_again && !self.framing.is_switching() {
                    self.rare = None;
                }
                return Poll::Ready(Ok(()));
            }
            if rare.is_body_refused {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the body is not framed as it says",
                )));
            }
            if rare.is_refused || self.framing.is_switching() {
                return Poll::Pending;
            }
            if rare.kept.is_empty() {
                self.rare = None;
                return self.poll_usual(cx, buf);
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads on in a head that is not whole, as long as there is time.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(rare) = &mut self.rare else { return Poll::Ready(Ok(())) };
        let (first, deadline) = (self.first.take(), self.deadline);
        let timer = rare.timer.get_or_insert_with(|| {
            let due = first.unwrap_or_else(|| Instant::now() + deadline);
            Box::pin(tokio::time::sleep_until(due.checked_sub(EARLY.min(deadline / 2)).unwrap_or(due)))
        });
        let mut piece = [0u8; PIECE_BYTES];
        let mut read = ReadBuf::new(&mut piece);
        match Pin::new(&mut self.io).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) if read.filled().is_empty() => {
                rare.refuse(Refused { refusal: Refusal::RequestLine, whole: 0, is_in_body: false });
                self.framing.close();
            }
            Poll::Ready(Ok(())) => {
                rare.kept.extend_from_slice(read.filled());
                self.sift();
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if timer.as_mut().poll(cx).is_ready() => {
                rare.refuse(Refused { refusal: Refusal::HeadTimeout, whole: 0, is_in_body: false });
                self.framing.close();
            }
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    fn poll_usual(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.looked_at(buf, before);
                // Nothing at all would mean the end.
                if buf.filled().len() == before { self.poll_rare(cx, buf) } else { Poll::Ready(Ok(())) }
            }
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        }
    }

    /// Reads and drops what a client sends after its request was answered in the middle, within bounds: closed at once, its unread
    /// bytes would take the answer with them.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_amid = self.framing.is_amid() || self.rare.as_ref().is_some_and(|rare| !rare.kept.is_empty());
        if !is_amid {
            return Poll::Ready(Ok(()));
        }
        let rare = self.rare.get_or_insert_default();
        let begun = *rare.lingers_since.get_or_insert_with(Instant::now);
        let mut piece = [0u8; LINGER_PIECE_BYTES];
        while let Some(patience) = linger::patience(rare.lingered) {
            let mut read = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => rare.lingered += read.filled().len() as u64,
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    let until = begun + patience;
                    let timer = rare.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                    timer.as_mut().reset(until);
                    return timer.as_mut().poll(cx).map(Ok);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Rare {
    fn refuse(&mut self, refused: Refused) {
        self.out.extend(self.kept.drain(..refused.whole.min(self.kept.len())));
        self.kept = Vec::new();
        self.timer = None;
        self.is_refused = true;
        if refused.is_in_body {
            self.is_body_refused = true;
        } else {
            self.out.extend_from_slice(stand_in(refused.refusal).as_bytes());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = if self.rare.is_some() { self.poll_rare(cx, buf) } else { self.poll_usual(cx, buf) };
        if polled.is_ready() {
            self.note_place();
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => self.poll_linger(cx),
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn strict(deadline: Duration) -> (DuplexStream, Strict<DuplexStream>) {
        let (client, near) = tokio::io::duplex(1 << 16);
        (client, Strict::new(near, HeadBounds::default(), deadline, Arc::default()))
    }

    #[tokio::test]
    async fn a_head_that_is_not_whole_in_time_becomes_a_request_that_says_so() {
        let (mut client, mut strict) = strict(Duration::from_millis(40));
        client.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
        let mut seen = [0u8; 64];
        let read = strict.read(&mut seen).await.unwrap();
        assert!(seen[..read].starts_with(b"~ /header_timeout HTTP/1.1\r\n"), "{:?}", String::from_utf8_lossy(&seen));
    }

    #[tokio::test]
    async fn a_reader_with_little_room_gets_every_byte() {
        let (mut client, mut strict) = strict(Duration::from_secs(60));
        let request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
        client.write_all(&request[..20]).await.unwrap();
        let reading = async {
            let mut seen = Vec::new();
            let mut few = [0u8; 3];
            while seen.len() < request.len() {
                let read = strict.read(&mut few).await.unwrap();
                seen.extend_from_slice(&few[..read]);
            }
            seen
        };
        let writing = async {
            tokio::task::yield_now().await;
            client.write_all(&request[20..]).await.unwrap();
        };
        let (seen, ()) = tokio::join!(reading, writing);
        assert_eq!(seen, request);
    }
}
