//! What no route covers, on its way from the data plane to whoever learns its templates.
//!
//! A bounded queue without locks that is emptied a few times a second: a request pays a push, and never waits. What does not fit is
//! dropped and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use http::{HeaderValue, StatusCode, Uri};
use strangler_core::coverage::MethodKind;

/// Requests that may wait: what 40,000 a second bring between two looks, and 2 MB.
const WAITING_MAX: usize = 1 << 13;

/// A request that no route covers, and its answer.
#[derive(Debug)]
pub struct Sighting {
    /// Its method.
    pub method: MethodKind,
    /// As it came.
    pub uri: Uri,
    /// Its `User-Agent`.
    pub agent: Option<HeaderValue>,
    /// Of the answer.
    pub status: StatusCode,
    /// The answer's media type.
    pub content_type: Option<HeaderValue>,
    /// The answer's length, where its head says it.
    pub bytes: u64,
    /// To the answer's head.
    pub took: Duration,
}

/// From the data plane to whoever learns.
#[derive(Debug)]
pub struct Sightings {
    queue: ArrayQueue<Sighting>,
    is_wanted: AtomicBool,
    dropped: AtomicU64,
}

impl Default for Sightings {
    fn default() -> Sightings {
        Sightings { queue: ArrayQueue::new(WAITING_MAX), is_wanted: AtomicBool::new(false), dropped: AtomicU64::new(0) }
    }
}

impl Sightings {
    /// Whether anybody wants them: then what is needed of a request is kept until its answer comes.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn want(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// Hands one over, or drops and counts it.
    pub fn push(&self, sighting: Sighting) {
        if self.queue.push(sighting).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest.
    pub fn pop(&self) -> Option<Sighting> {
        self.queue.pop()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many were dropped since this was asked last.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}
