//! Writes of many connections, made together: when this core has nothing else left to do, at the latest after a few.
//!
//! A small write wakes whoever waits at the other end, and a core that writes after each step wakes it once for each of its
//! connections: by far the dearest part of a small request. Made one after the other, the first finds it asleep and the others
//! find it awake; so answers are written first, and then requests. Nothing is delayed: a core with nothing to do writes at once.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use self::read::Reads;

mod read;

/// Largest write that is held back, in bytes; a larger one is made at once, without a copy.
const HELD_BYTES_MAX: usize = 8 << 10;

/// Connections whose writes are held back at once, per core. With 64 clients at once a request costs 7 % less than with 16, and
/// with 128 no less than with 64.
const HELD_MAX: usize = 64;

/// Reads and writes of a core after which what is held is written, whatever else there is to do: a core that is never at rest
/// (large transfers keep it busy) must not keep a small answer.
const HELD_TURNS_MAX: usize = 3 * HELD_MAX;

/// Buffers kept for the next write, per core.
const SPARE_MAX: usize = 2 * HELD_MAX;

thread_local! {
    /// Whether somebody calls [`write_all`] on this thread.
    static IS_SERVED: Cell<bool> = const { Cell::new(false) };
    /// Reads and writes since something is held; 0: nothing is.
    static TURNS: Cell<usize> = const { Cell::new(0) };
    static HELD: RefCell<HeldWrites> = RefCell::default();
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// From now on writes of this thread are held back: whoever says so calls [`write_all`] whenever the thread is about to wait.
pub fn serve_thread() {
    IS_SERVED.set(true);
}

/// Makes the writes that this core has held back.
pub fn write_all() {
    TURNS.set(0);
    let mut held = HELD.take();
    for one in held.answers.drain(..).chain(held.requests.drain(..)) {
        one.write();
    }
    // Its room serves the next round; nothing is held back while writing.
    HELD.set(held);
}

/// A read or a write is made on this core.
fn turn() {
    let turns = TURNS.get();
    if turns > HELD_TURNS_MAX {
        write_all();
    } else if turns > 0 {
        TURNS.set(turns + 1);
    }
}

/// What a core has held back, in the order in which it is written.
#[derive(Default)]
struct HeldWrites {
    answers: Vec<Arc<dyn Held>>,
    requests: Vec<Arc<dyn Held>>,
}

/// A connection with a write held back.
trait Held: Send + Sync {
    fn write(self: Arc<Self>);
}

/// A connection whose small writes are made together with those of others. One that is dropped is still written and closed then.
pub struct Corked<S> {
    inner: Arc<Mutex<Inner<S>>>,
    reads: Reads,
    is_to_client: bool,
}

struct Inner<S> {
    io: S,
    /// Taken from the caller, not written yet.
    out: Vec<u8>,
    /// Of `out`, written already.
    written: usize,
    is_held: bool,
    /// What a write came to that nobody waited for.
    error: Option<io::Error>,
    /// Whom to tell once a write that nobody waited for has come to something.
    waker: Option<Waker>,
    /// Writes what the other end did not take at once. It ends with the connection.
    finisher: Option<AbortHandle>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Corked<S> {
    /// Answers go out by it.
    pub fn to_client(io: S) -> Corked<S> {
        Corked::new(io, true)
    }

    /// Requests go out by it.
    pub fn to_upstream(io: S) -> Corked<S> {
        Corked::new(io, false)
    }

    fn new(io: S, is_to_client: bool) -> Corked<S> {
        let inner = Inner { io, out: Vec::new(), written: 0, is_held: false, error: None, waker: None, finisher: None };
        Corked { inner: Arc::new(Mutex::new(inner)), reads: Reads::default(), is_to_client }
    }

    fn hold(&self, inner: &mut Inner<S>, cx: &Context<'_>) -> bool {
        inner.note_waker(cx);
        if !inner.is_held {
            inner.is_held = true;
            let held = HELD.with_borrow_mut(|held| {
                let queue = if self.is_to_client { &mut held.answers } else { &mut held.requests };
                queue.push(Arc::clone(&self.inner) as Arc<dyn Held>);
                TURNS.set(TURNS.get().max(1));
                held.answers.len() + held.requests.len()
            });
            return held >= HELD_MAX;
        }
        false
    }
}

impl<S> Inner<S> {
    fn note_waker(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(known) => known.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}

impl<S> Drop for Corked<S> {
    fn drop(&mut self) {
        // Nobody is left to read what a slow reader was still to get, and it must not keep the socket.
        if let Some(finisher) = self.inner.lock().finisher.take() {
            finisher.abort();
        }
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    /// As [`Inner::poll_out`], for the owner: while a task finishes a write, it alone waits for the socket.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finisher.is_some() {
            self.note_waker(cx);
            return Poll::Pending;
        }
        self.poll_out(cx)
    }

    /// Writes what is held, and what `io` holds itself (TLS does).
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Writes what is held; pending when the other end takes no more.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(some)) => self.written += some,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.written = 0;
        if self.out.capacity() > 0 {
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_MAX {
                    spare.push(out);
                }
            });
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> Held for Mutex<Inner<S>> {
    fn write(self: Arc<Self>) {
        let mut inner = self.lock();
        inner.is_held = false;
        match inner.poll_all(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => settle(inner, Err(error)),
            // The owner has been told that it is written, and may never ask again: a tunnel then only reads.
            Poll::Pending => {
                if let Ok(runtime) = Handle::try_current() {
                    inner.finisher = Some(runtime.spawn(finish(Arc::downgrade(&self))).abort_handle());
                }
            }
        }
    }
}

/// Writes what the other end takes late.
async fn finish<S: AsyncWrite + Unpin>(connection: Weak<Mutex<Inner<S>>>) {
    std::future::poll_fn(|cx| {
        let Some(connection) = connection.upgrade() else { return Poll::Ready(()) };
        let mut inner = connection.lock();
        let done = ready!(inner.poll_all(cx));
        inner.finisher = None;
        settle(inner, done);
        Poll::Ready(())
    })
    .await;
}

/// A write that nobody waited for has come to something: whoever wants the next one is told.
fn settle<S>(mut inner: MutexGuard<'_, Inner<S>>, done: io::Result<()>) {
    inner.error = done.err();
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        turn();
        let Corked { inner, reads, .. } = self.get_mut();
        reads.poll(cx, |cx| Pin::new(&mut inner.lock().io).poll_read(cx, buf))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        turn();
        let mut inner = self.inner.lock();
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        let is_first = inner.out.is_empty();
        let may_hold = (is_first || inner.is_held) && inner.out.len() + bytes <= HELD_BYTES_MAX;
        let may_hold = may_hold && inner.error.is_none() && inner.finisher.is_none();
        if may_hold && bytes > 0 && IS_SERVED.get() {
            if is_first && inner.out.capacity() == 0 {
                inner.out = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(2 << 10));
            }
            for buf in bufs {
                inner.out.extend_from_slice(buf);
            }
            let is_full = self.hold(&mut inner, cx);
            drop(inner);
            if is_full {
                write_all();
            }
            return Poll::Ready(Ok(bytes));
        }
        ready!(inner.poll_own(cx))?;
        // Of one without vectored writes this writes the first piece.
        Pin::new(&mut inner.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.lock();
        if inner.is_held {
            // It will be: nobody has to wait for it here.
            return Poll::Ready(Ok(()));
        }
        ready!(inner.poll_own(cx))?;
        Pin::new(&mut inner.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.lock();
        ready!(inner.poll_own(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    fn pair(room: usize) -> (Corked<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(room);
        (Corked::to_upstream(near), far)
    }

    async fn read_now(far: &mut DuplexStream) -> String {
        let mut seen = vec![0u8; 64 << 10];
        let mut seen = ReadBuf::new(&mut seen);
        std::future::poll_fn(|cx| {
            let _ = Pin::new(&mut *far).poll_read(cx, &mut seen);
            Poll::Ready(())
        })
        .await;
        String::from_utf8(seen.filled().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn on_a_thread_that_nobody_serves_a_write_is_made_at_once() {
        let (mut near, mut far) = pair(64);
        near.write_all(b"now").await.unwrap();
        assert_eq!(read_now(&mut far).await, "now");
    }

    #[tokio::test]
    async fn small_writes_wait_for_each_other_and_keep_their_order() {
        serve_thread();
        let ((mut one, mut far_one), (mut two, mut far_two)) = (pair(64), pair(64));
        one.write_all(b"a").await.unwrap();
        two.write_all(b"b").await.unwrap();
        one.write_all(b"c").await.unwrap();
        one.flush().await.unwrap();
        assert_eq!((read_now(&mut far_one).await, read_now(&mut far_two).await), (String::new(), String::new()));

        write_all();
        assert_eq!((read_now(&mut far_one).await, read_now(&mut far_two).await), ("ac".into(), "b".into()));
    }

    #[tokio::test]
    async fn answers_are_written_before_requests() {
        /// Writes down who writes when.
        struct Noting(&'static str, Arc<Mutex<Vec<&'static str>>>);

        impl AsyncRead for Noting {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Pending
            }
        }

        impl AsyncWrite for Noting {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.1.lock().push(self.0);
                Poll::Ready(Ok(buf.len()))
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }

        serve_thread();
        let order = Arc::<Mutex<Vec<&'static str>>>::default();
        let mut request = Corked::to_upstream(Noting("request", Arc::clone(&order)));
        let mut answer = Corked::to_client(Noting("answer", Arc::clone(&order)));
        request.write_all(b"x").await.unwrap();
        answer.write_all(b"x").await.unwrap();
        write_all();
        assert_eq!(*order.lock(), ["answer", "request"]);
    }

    #[tokio::test]
    async fn a_large_write_is_made_at_once_and_after_what_was_held() {
        serve_thread();
        let (mut near, mut far) = pair(64 << 10);
        near.write_all(b"head ").await.unwrap();
        near.write_all(&[b'x'; HELD_BYTES_MAX]).await.unwrap();
        let seen = read_now(&mut far).await;
        assert!(seen.starts_with("head xx") && seen.len() == 5 + HELD_BYTES_MAX, "{}", seen.len());
    }

    #[tokio::test]
    async fn no_more_than_a_few_writes_are_held() {
        serve_thread();
        let mut pairs: Vec<_> = (0..HELD_MAX).map(|_| pair(64)).collect();
        for (near, _) in &mut pairs {
            near.write_all(b"x").await.unwrap();
        }
        assert_eq!(read_now(&mut pairs[0].1).await, "x");
    }

    #[tokio::test]
    async fn a_core_that_never_rests_writes_what_it_holds() {
        serve_thread();
        let ((mut small, mut far_small), (mut large, mut far_large)) = (pair(64), pair(1 << 20));
        small.write_all(b"an answer").await.unwrap();
        for _ in 0..=HELD_TURNS_MAX {
            large.write_all(&[b'x'; HELD_BYTES_MAX + 1]).await.unwrap();
            read_now(&mut far_large).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(read_now(&mut far_small).await, "an answer");
    }

    #[tokio::test]
    async fn what_the_other_end_does_not_take_is_written_once_it_does() {
        serve_thread();
        let (mut near, mut far) = pair(4);
        near.write_all(b"abcdefgh").await.unwrap();
        let flushed = tokio::spawn(async move {
            // Held: flushing has nothing to wait for yet.
            near.flush().await.unwrap();
            write_all();
            near.flush().await.unwrap();
            near.write_all(b"ij").await.unwrap();
            near.shutdown().await.unwrap();
        });
        let mut seen = String::new();
        far.read_to_string(&mut seen).await.unwrap();
        flushed.await.unwrap();
        assert_eq!(seen, "abcdefghij");
    }

    #[tokio::test]
    async fn what_is_stuck_is_written_although_nobody_asks_again() {
        serve_thread();
        let (mut near, mut far) = pair(4);
        near.write_all(b"abcdefgh").await.unwrap();
        write_all();
        // As in a tunnel: flushed once, and then only read from.
        let mut seen = [0u8; 8];
        let all = tokio::time::timeout(std::time::Duration::from_secs(20), far.read_exact(&mut seen)).await;
        assert!(all.is_ok_and(|read| read.is_ok()) && &seen == b"abcdefgh");
        near.write_all(b"ij").await.unwrap();
        write_all();
        assert_eq!(read_now(&mut far).await, "ij");
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_while_stuck_is_closed() {
        serve_thread();
        let (mut near, mut far) = pair(4);
        near.write_all(b"abcdefgh").await.unwrap();
        write_all();
        tokio::task::yield_now().await;
        drop(near);
        let mut seen = String::new();
        far.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "abcd");
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_is_still_written() {
        serve_thread();
        let (mut near, mut far) = pair(64);
        near.write_all(b"the last word").await.unwrap();
        drop(near);
        write_all();
        let mut seen = String::new();
        far.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "the last word");
    }

    #[tokio::test]
    async fn a_write_that_failed_later_is_told_at_the_next_one() {
        serve_thread();
        let (mut near, far) = pair(64);
        near.write_all(b"x").await.unwrap();
        drop(far);
        write_all();
        assert!(near.flush().await.is_err());
    }
}
