//! What a connection waits for, and since when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;

use crate::proxy::{Limits, Proxy, Worker};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request's first byte.
    Idle = 0,
    /// The rest of a head; of an HTTP/2 connection, its first frame.
    Head = 1,
    /// Its answer: other bounds hold.
    Busy = 2,
    /// The client to read: it has taken nothing of an answer for a while.
    Writing = 3,
    /// The PROXY protocol header.
    ProxyHeader = 4,
    /// The TLS handshake.
    Handshake = 5,
    /// The client to see that the connection ends.
    Closing = 6,
}

impl Phase {
    const BITS: u32 = 3;

    const fn of(value: u64) -> Phase {
        match value & ((1 << Phase::BITS) - 1) {
            0 => Phase::Idle,
            1 => Phase::Head,
            3 => Phase::Writing,
            4 => Phase::ProxyHeader,
            5 => Phase::Handshake,
            6 => Phase::Closing,
            _ => Phase::Busy,
        }
    }
}

/// How long a client may take to see that its connection ends.
const CLOSING_MAX: Duration = Duration::from_secs(2);

/// What a connection waits for, and since when: a phase and milliseconds since the process began.
#[derive(Debug)]
pub(crate) struct Waiting {
    now: AtomicU64,
    /// HTTP/2: requests under way.
    under_way: AtomicU32,
    /// HTTP/2: whether it takes no new ones.
    is_closing: AtomicBool,
    /// HTTP/2: since when a request's fields have been incomplete, plus one; 0: none are.
    fields_since: AtomicU64,
    /// HTTP/1: requests that have come.
    requests: AtomicU32,
    /// HTTP/1: what is to be written waits for the client to read.
    is_stuck: AtomicBool,
    /// HTTP/1: it has been idle for long enough to be put to rest.
    is_tired: AtomicBool,
    /// HTTP/1: whom to tell that.
    driver: Mutex<Option<Waker>>,
}

/// How long a connection is idle before what serves its requests is taken down: most of its memory, and made again in microseconds.
const REST_AFTER: Duration = Duration::from_secs(1);

impl Waiting {
    /// For its first byte: the deadline of the first head holds from the connection's beginning.
    pub(super) fn new(proxy: &Proxy) -> Waiting {
        let waiting = Waiting {
            now: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            is_closing: AtomicBool::new(false),
            fields_since: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            is_stuck: AtomicBool::new(false),
            is_tired: AtomicBool::new(false),
            driver: Mutex::new(None),
        };
        waiting.note(Phase::Head, proxy);
        waiting
    }

    /// As of the last sweep: a quarter of a second early at most, which no bound is so small to mind.
    pub(crate) fn note(&self, phase: Phase, proxy: &Proxy) {
        self.now.store(proxy.coarse_now_ms() << Phase::BITS | phase as u64, Ordering::Relaxed);
    }

    /// Another phase under the same deadline.
    pub(crate) fn go_on_to(&self, phase: Phase) {
        let since = self.now.load(Ordering::Relaxed) >> Phase::BITS;
        self.now.store(since << Phase::BITS | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase() == phase
    }

    fn phase(&self) -> Phase {
        Phase::of(self.now.load(Ordering::Relaxed))
    }

    /// The client took something, or did not.
    pub(super) fn note_write(&self, is_stuck: bool, proxy: &Proxy) {
        self.is_stuck.store(is_stuck, Ordering::Relaxed);
        match (self.phase(), is_stuck) {
            (Phase::Busy, true) => self.note(Phase::Writing, proxy),
            (Phase::Writing, false) => self.note(Phase::Busy, proxy),
            // What is still written after an answer has been made is no idleness.
            (Phase::Idle, false) => self.note(Phase::Idle, proxy),
            _ => {}
        }
    }

    /// As `note_write`, on a connection that is written to without a request, too: that ends no idleness.
    pub(crate) fn note_write_beside_others(&self, is_stuck: bool, proxy: &Proxy) {
        if self.phase() != Phase::Idle {
            self.note_write(is_stuck, proxy);
        }
    }

    /// The client took a piece of an answer.
    pub(crate) fn note_taken(&self, proxy: &Proxy) {
        if matches!(self.phase(), Phase::Idle | Phase::Closing) {
            self.go_on_from_now(proxy);
        }
    }

    fn go_on_from_now(&self, proxy: &Proxy) {
        self.note(self.phase(), proxy);
    }

    /// HTTP/2: the client is in the middle of a request's fields, or no longer.
    pub(crate) fn note_fields(&self, is_in: bool, was_in: bool, proxy: &Proxy) {
        match (was_in, is_in) {
            (false, true) => self.fields_since.store(proxy.coarse_now_ms() + 1, Ordering::Relaxed),
            (_, false) => self.fields_since.store(0, Ordering::Relaxed),
            (true, true) => {}
        }
    }

    /// HTTP/2: the client's first frame is complete.
    pub(crate) fn note_begun(&self, proxy: &Proxy) {
        if self.is(Phase::Head) {
            self.note(Phase::Idle, proxy);
        }
    }

    /// HTTP/2: it ends as soon as its requests have.
    pub(crate) fn close(&self, proxy: &Proxy) {
        self.is_closing.store(true, Ordering::Relaxed);
        if self.under_way.load(Ordering::Relaxed) == 0 {
            self.note(Phase::Closing, proxy);
        }
    }

    /// HTTP/1: how many requests have come before this one.
    pub(super) fn count_request(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Requests are served from now on; `driver` is told when they have not been for a while.
    pub(super) fn wake_up(&self, driver: &Waker) {
        self.is_tired.store(false, Ordering::Relaxed);
        *self.driver.lock() = Some(driver.clone());
    }

    /// HTTP/1: says so, once, when it has been idle for a while.
    pub(super) fn tire(&self, now: Duration) -> bool {
        let value = self.now.load(Ordering::Relaxed);
        let is_idle = Phase::of(value) == Phase::Idle
            && now.saturating_sub(Duration::from_millis(value >> Phase::BITS)) >= REST_AFTER;
        if !is_idle || self.is_tired.swap(true, Ordering::Relaxed) {
            return false;
        }
        let driver = self.driver.lock().take();
        if let Some(driver) = driver {
            driver.wake();
        }
        true
    }

    /// Whether it may be put to rest: nothing is under way, nothing is left to be written.
    pub(super) fn may_rest(&self) -> bool {
        self.is_tired.load(Ordering::Relaxed) && self.is(Phase::Idle) && !self.is_stuck()
    }

    /// HTTP/1: whether the client did not take what was written last.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// What it has waited for too long.
    pub(super) fn overdue(&self, limits: &Limits, now: Duration) -> Option<Phase> {
        let fields_since = self.fields_since.load(Ordering::Relaxed);
        if fields_since != 0 && now.saturating_sub(Duration::from_millis(fields_since)) >= limits.header_deadline {
            return Some(Phase::Head);
        }
        let value = self.now.load(Ordering::Relaxed);
        let phase = Phase::of(value);
        let most = match phase {
            Phase::Idle => limits.keep_alive,
            Phase::Head | Phase::ProxyHeader | Phase::Handshake => limits.header_deadline,
            Phase::Writing => limits.body_idle,
            Phase::Closing => CLOSING_MAX,
            Phase::Busy => return None,
        };
        let waited = now.saturating_sub(Duration::from_millis(value >> Phase::BITS));
        (waited >= most).then_some(phase)
    }
}

/// A request under way on a connection; dropped, the next one is waited for.
pub(crate) struct Busy {
    waiting: Arc<Waiting>,
    worker: Arc<Worker>,
    /// Whether others may be under way beside it: HTTP/2.
    is_beside_others: bool,
    /// Since when the client has had something to take of its answer, plus one; 0: the answer is waited for.
    handed_ms: AtomicU64,
}

impl Busy {
    /// The only one on its connection.
    pub(super) fn alone(waiting: Arc<Waiting>, worker: Arc<Worker>) -> Arc<Busy> {
        Arc::new(Busy { waiting, worker, is_beside_others: false, handed_ms: AtomicU64::new(0) })
    }

    /// One of several.
    pub(crate) fn beside_others(waiting: Arc<Waiting>, worker: Arc<Worker>) -> Arc<Busy> {
        if waiting.under_way.fetch_add(1, Ordering::Relaxed) == 0 {
            waiting.note(Phase::Busy, &worker.proxy);
        }
        Arc::new(Busy { waiting, worker, is_beside_others: true, handed_ms: AtomicU64::new(0) })
    }

    /// The client has something to take.
    pub(crate) fn note_handed(&self) {
        self.handed_ms.store(self.worker.proxy.coarse_now_ms() + 1, Ordering::Relaxed);
    }

    /// It took it: more is asked for.
    pub(crate) fn note_asked(&self) {
        self.handed_ms.store(0, Ordering::Relaxed);
    }

    pub(super) fn is_stalled(&self, limits: &Limits, now: Duration) -> bool {
        let since = self.handed_ms.load(Ordering::Relaxed);
        since != 0 && now.saturating_sub(Duration::from_millis(since)) >= limits.body_idle
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let waiting = &self.waiting;
        if self.is_beside_others && waiting.under_way.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let is_closing = self.is_beside_others && waiting.is_closing.load(Ordering::Relaxed);
        waiting.note(if is_closing { Phase::Closing } else { Phase::Idle }, &self.worker.proxy);
    }
}
