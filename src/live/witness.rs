//! What requests on routes with a rollout prove, on its way from the data plane to whoever counts it.
//!
//! A bounded queue without locks that is emptied a few times a second: a request pays a push, and never waits. What does not fit is
//! dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use strangler_core::runtime::Release;
use strangler_core::unit::{End, Unit};

/// Requests that may wait to be counted: what 100,000 requests a second bring between two looks, and 6 MB.
const WAITING_MAX: usize = 1 << 16;

/// Answers whose release may wait to be looked at; what does not fit is left out, for the next ones say the same.
const RELEASES_MAX: usize = 1 << 10;

/// What one request proves.
#[derive(Debug)]
pub struct Seen {
    /// The route's name.
    pub route: Arc<str>,
    /// Of whom.
    pub unit: Unit,
    /// How it ended.
    pub end: End,
    /// Since the process began.
    pub at: Duration,
}

/// From the data plane to whoever counts.
#[derive(Debug)]
pub struct Witnesses {
    queue: ArrayQueue<Seen>,
    dropped: AtomicU64,
    releases: ArrayQueue<(Arc<str>, Option<Release>)>,
}

impl Default for Witnesses {
    fn default() -> Witnesses {
        Witnesses {
            queue: ArrayQueue::new(WAITING_MAX),
            dropped: AtomicU64::new(0),
            releases: ArrayQueue::new(RELEASES_MAX),
        }
    }
}

impl Witnesses {
    /// Hands one over, or drops and counts it.
    pub fn push(&self, seen: Seen) {
        if self.queue.push(seen).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest.
    pub fn pop(&self) -> Option<Seen> {
        self.queue.pop()
    }

    /// An answer of extracted names this release, or none.
    pub fn push_release(&self, route: &Arc<str>, release: Option<Release>) {
        if !self.releases.is_full() {
            let _ = self.releases.push((Arc::clone(route), release));
        }
    }

    /// The oldest of them: a route's name, and what was named.
    pub fn pop_release(&self) -> Option<(Arc<str>, Option<Release>)> {
        self.releases.pop()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What was dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
