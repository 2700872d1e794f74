//! Who polls a connection to an upstream: the exchange that uses it, or a task of its own.
//!
//! A task for each connection costs every request four changes of task: to write it, to read the answer, and back each time. So
//! an exchange polls its connection itself, in the task of the client's connection; one that lies idle is polled by nobody, and
//! looked at by the pool's sweep. A task of its own it gets where both sides must go on independently of each other: an upload
//! that is still being sent when the answer comes would otherwise wait for a client that does not read.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use hyper::client::conn::http1::Connection;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;

use crate::upstream::ConnectionCount;
use crate::upstream::body::OutBody;
use crate::upstream::cork::Corked;
use crate::upstream::last_word::LastWord;

/// Times in a row that a connection is polled before others have their turn.
const ROUNDS_MAX: u8 = 32;

/// What counts as an open connection; dropped with it.
pub(crate) type Counted = (ConnectionCount, OwnedSemaphorePermit);

/// The other half of a `SendRequest`: it must be polled for anything to happen. Closed when dropped.
pub(crate) enum Drive {
    /// By whoever waits for what comes over it.
    Here(Box<Here>),
    /// By a task.
    Task {
        /// Ends with us.
        _task: OwnTask,
    },
    /// It has ended; what it had to say is said.
    Over,
}

/// A connection without a task.
pub(crate) struct Here {
    connection: Speaking,
    wakes: Arc<Wakes>,
    /// Of `wakes`: made once.
    waker: Waker,
    counted: Counted,
}

/// What HTTP/1.1 is spoken over. Both are of one size: what is beneath lies behind a pointer.
pub(super) enum Speaking {
    /// In the clear.
    Plain(Connection<TokioIo<LastWord<Corked<TcpStream>>>, OutBody>),
    /// Over TLS.
    Tls(Connection<TokioIo<LastWord<Corked<TlsStream<TcpStream>>>>, OutBody>),
}

impl Speaking {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Speaking::Plain(connection) => Pin::new(connection).poll(cx),
            Speaking::Tls(connection) => Pin::new(connection).poll(cx),
        }
    }

    /// To its end, or until it changes to another protocol.
    async fn drive(self) -> hyper::Result<()> {
        match self {
            Speaking::Plain(connection) => connection.with_upgrades().await,
            Speaking::Tls(connection) => connection.with_upgrades().await,
        }
    }
}

impl Drive {
    pub(super) fn new(connection: Speaking, counted: Counted) -> Drive {
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        Drive::Here(Box::new(Here { connection, wakes, waker, counted }))
    }

    /// Polls what comes over the connection, and the connection for as long as that leads on.
    pub(crate) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Drive::Here(here) = self else {
            return poll(cx);
        };
        here.wakes.begin(cx.waker());
        let mut inner = Context::from_waker(&here.waker);
        for _ in 0..ROUNDS_MAX {
            if let Poll::Ready(done) = poll(&mut inner) {
                // A wake-up noted until here is not lost: whoever waits next polls the connection as well.
                here.wakes.end();
                return Poll::Ready(done);
            }
            if here.connection.poll(&mut inner).is_ready() {
                // How a connection ends is told by the exchange that it ends in.
                *self = Drive::Over;
                return poll(cx);
            }
            if here.wakes.end_unless_noted() {
                return Poll::Pending;
            }
        }
        // The rest in another turn: other connections of this core wait for theirs.
        here.wakes.end();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nobody waits for it from here on: what happens to it wakes nobody.
    pub(crate) fn rest(&self) {
        if let Drive::Here(here) = self {
            here.wakes.0.lock().outer = None;
        }
    }

    /// Looks whether an idle connection has been closed, or has been sent what nobody asked for. Wakes nobody.
    pub(crate) fn look(&mut self) {
        if let Drive::Here(here) = self {
            let mut nobody = Context::from_waker(Waker::noop());
            if here.connection.poll(&mut nobody).is_ready() {
                *self = Drive::Over;
            }
        }
    }

    /// Gives it a task: from then on it goes on by itself, and may change to another protocol.
    pub(crate) fn detach(&mut self) {
        match std::mem::replace(self, Drive::Over) {
            Drive::Here(here) => {
                let Here { connection, counted, .. } = *here;
                let task = tokio::spawn(async move {
                    // As above.
                    let _ = connection.drive().await;
                    drop(counted);
                });
                *self = Drive::Task { _task: OwnTask(task.abort_handle()) };
            }
            other @ (Drive::Task { .. } | Drive::Over) => *self = other,
        }
    }
}

/// A task that ends with its owner.
pub(crate) struct OwnTask(AbortHandle);

impl Drop for OwnTask {
    fn drop(&mut self) {
        // It would otherwise wait for as long as the other end neither reads nor closes.
        self.0.abort();
    }
}

/// Wake-ups of a connection. Those that come while it is polled (most: the two ends of the library's channels wake each other)
/// are noted and worked off at once, instead of running the whole task once more.
#[derive(Default)]
struct Wakes(Mutex<State>);

#[derive(Default)]
struct State {
    phase: Phase,
    /// Whom to wake outside of a poll.
    outer: Option<Waker>,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Waiting,
    Polled,
    PolledAndNoted,
}

impl Wakes {
    fn begin(&self, outer: &Waker) {
        let mut state = self.0.lock();
        state.phase = Phase::Polled;
        match &mut state.outer {
            Some(known) => known.clone_from(outer),
            None => state.outer = Some(outer.clone()),
        }
    }

    fn end(&self) {
        self.0.lock().phase = Phase::Waiting;
    }

    /// `false`: something has been noted since the last look.
    fn end_unless_noted(&self) -> bool {
        let mut state = self.0.lock();
        let is_noted = state.phase == Phase::PolledAndNoted;
        state.phase = if is_noted { Phase::Polled } else { Phase::Waiting };
        !is_noted
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let outer = {
            let mut state = self.0.lock();
            match state.phase {
                Phase::Polled | Phase::PolledAndNoted => {
                    state.phase = Phase::PolledAndNoted;
                    None
                }
                Phase::Waiting => state.outer.take(),
            }
        };
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}
