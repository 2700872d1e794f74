//! The connections of each core, and the sweep that ends those that have waited for too long.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::proxy::connection::waiting::{Busy, Phase, Waiting};
use crate::proxy::listener::Seat;
use crate::proxy::{Worker, h2};

/// How often a core looks at its connections.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

struct Watched {
    waiting: Arc<Waiting>,
    task: AbortHandle,
    /// Of an HTTP/2 connection only.
    h2: Option<Box<WatchedStreams>>,
}

struct WatchedStreams {
    /// Asks the connection to end as soon as its requests have.
    wind_down: Arc<Notify>,
    streams: Vec<(Weak<Busy>, AbortHandle)>,
}

/// Connections put to rest after which their memory is given back: some megabytes.
const MANY_RESTED: usize = 256;

thread_local! {
    /// Connections of this core that went to rest since memory was given back.
    static RESTED: Cell<usize> = const { Cell::new(0) };
    static CONNECTIONS: RefCell<HashMap<u64, Watched>> = RefCell::default();
}

/// Connections that are ended before others have their turn: each costs some tens of microseconds, and a crowd that came together is
/// overdue together.
const ENDED_AT_ONCE: usize = 8;

/// Ends the connections of this core that have waited for too long.
pub(crate) async fn sweep(worker: &Worker) {
    let overdue = look(worker);
    for few in overdue.chunks(ENDED_AT_ONCE) {
        end(worker, few);
        tokio::task::yield_now().await;
    }
}

/// Does what takes no time, and answers the connections that are to be ended.
fn look(worker: &Worker) -> Vec<u64> {
    let now = worker.proxy.begun.elapsed();
    let limits = &worker.proxy.settings.limits;
    let metrics = &worker.proxy.metrics;
    if RESTED.get() >= MANY_RESTED {
        RESTED.set(0);
        give_back_memory();
    }
    let mut rested = 0;
    let mut overdue = Vec::new();
    CONNECTIONS.with_borrow_mut(|connections| {
        for (id, watched) in connections.iter_mut() {
            if let Some(h2) = &mut watched.h2 {
                h2.streams.retain(|(busy, task)| {
                    let Some(busy) = busy.upgrade() else { return false };
                    if busy.is_stalled(limits, now) {
                        metrics.count_rejected("client_stalled");
                        task.abort();
                    }
                    true
                });
            }
            if watched.h2.is_none() {
                rested += usize::from(watched.waiting.tire(now));
            }
            match (watched.waiting.overdue(limits, now), &watched.h2) {
                (None, _) => {}
                (Some(Phase::Idle), Some(h2)) => {
                    watched.waiting.close(&worker.proxy);
                    h2.wind_down.notify_one();
                }
                (Some(_), _) => overdue.push(*id),
            }
        }
    });
    RESTED.set(RESTED.get() + rested);
    overdue
}

/// Ends those of them that are overdue still: while others had their turn, a head may have become complete.
fn end(worker: &Worker, overdue: &[u64]) {
    let now = worker.proxy.begun.elapsed();
    let metrics = &worker.proxy.metrics;
    CONNECTIONS.with_borrow(|connections| {
        for watched in overdue.iter().filter_map(|id| connections.get(id)) {
            let Some(phase) = watched.waiting.overdue(&worker.proxy.settings.limits, now) else { continue };
            match (phase, &watched.h2) {
                // Told to end meanwhile; the next sweep sees what came of it.
                (Phase::Idle, Some(_)) => continue,
                (Phase::Head, _) => metrics.count_rejected("header_timeout"),
                (Phase::Writing, _) => metrics.count_rejected("client_stalled"),
                (Phase::ProxyHeader, _) => metrics.count_rejected("proxy_protocol"),
                (Phase::Handshake, _) => metrics.count_rejected("tls_handshake"),
                (Phase::Idle | Phase::Busy | Phase::Closing, _) => {}
            }
            watched.task.abort();
        }
    });
}

/// Has the allocator give back what connections have left: it does so after so many larger allocations (`generic_collect` of
/// mimalloc), which a process that nobody asks anything never makes. Costs a core half a millisecond.
fn give_back_memory() {
    for _ in 0..10_000 {
        std::hint::black_box(Vec::<u8>::with_capacity(2 << 10));
    }
}

/// Puts a stream's task on its connection's books.
pub(crate) fn watch_stream(connection: u64, busy: Weak<Busy>, task: AbortHandle) {
    CONNECTIONS.with_borrow_mut(|all| {
        if let Some(h2) = all.get_mut(&connection).and_then(|watched| watched.h2.as_mut()) {
            // Those that have ended are taken off before there are twice as many as may be under way.
            if h2.streams.len() >= 2 * h2::STREAMS_MAX as usize {
                h2.streams.retain(|(busy, _)| busy.strong_count() > 0);
            }
            h2.streams.push((busy, task));
        }
    });
}

/// It speaks HTTP/2.
pub(crate) fn watch_wind_down(connection: u64, wind_down: Arc<Notify>) {
    CONNECTIONS.with_borrow_mut(|all| {
        if let Some(watched) = all.get_mut(&connection) {
            watched.h2 = Some(Box::new(WatchedStreams { wind_down, streams: Vec::new() }));
        }
    });
}

/// Puts a connection on the books, and the task that drives it.
pub(super) fn watch(id: u64, waiting: Arc<Waiting>, task: AbortHandle) {
    CONNECTIONS.with_borrow_mut(|all| all.insert(id, Watched { waiting, task, h2: None }));
}

/// What a connection is on the books with; dropped, it is taken off them, however it ended.
pub(crate) struct Registered {
    pub(crate) id: u64,
    pub(crate) worker: Arc<Worker>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Until the connection is open; then its peer has it, and with that a tunnel that outlives HTTP on it.
    pub(super) seat: Option<Seat>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        CONNECTIONS.with_borrow_mut(|all| all.remove(&self.id));
        self.worker.proxy.open.remove();
    }
}
