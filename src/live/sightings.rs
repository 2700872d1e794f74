//! What no route covers, on its way from the data plane to whoever learns its templates.
//!
//! A bounded queue without locks that is emptied a few times a second: a request pays a push, and never waits. What does not fit is
//! dropped and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use http::{HeaderValue, StatusCode, Uri};
use strangler_core::coverage::MethodKind;

/// Requests that may wait: what 40,000 a second bring between two looks; 11 MB at most, 2 MB as they usually are.
const WAITING_MAX: usize = 1 << 13;

/// Bytes of a path and query, of an agent and of a media type that are kept; a longer path is told nothing of.
const TARGET_BYTES_MAX: usize = 1_024;
const AGENT_BYTES_MAX: usize = 160;
const TYPE_BYTES_MAX: usize = 96;

/// A request that no route covers, and its answer. Its texts are copies: a piece of a connection's buffer would keep all of it in memory.
#[derive(Debug)]
pub struct Sighting {
    /// Its method.
    pub method: MethodKind,
    /// Of the answer.
    pub status: StatusCode,
    /// The answer's length, where its head says it.
    pub bytes: u64,
    /// To the answer's head.
    pub took: Duration,
    /// Path and query, agent, media type.
    texts: Box<[u8]>,
    target_bytes: u16,
    agent_bytes: u16,
}

impl Sighting {
    /// `None`: its target is too long.
    pub fn new(
        (method, uri, agent): (MethodKind, &Uri, Option<&HeaderValue>),
        (status, content_type): (StatusCode, Option<&HeaderValue>),
        (bytes, took): (u64, Duration),
    ) -> Option<Sighting> {
        let target = uri.path_and_query()?.as_str().as_bytes();
        let cut = |value: Option<&HeaderValue>, most: usize| {
            let value = value.map(HeaderValue::as_bytes);
            value.map(|value| value.get(..most).unwrap_or(value).to_vec()).unwrap_or_default()
        };
        let (agent, content_type) = (cut(agent, AGENT_BYTES_MAX), cut(content_type, TYPE_BYTES_MAX));
        (target.len() <= TARGET_BYTES_MAX).then(|| Sighting {
            method,
            status,
            bytes,
            took,
            texts: [target, &agent, &content_type].concat().into(),
            target_bytes: u16::try_from(target.len()).unwrap_or_default(),
            agent_bytes: u16::try_from(agent.len()).unwrap_or_default(),
        })
    }

    /// As it came, path and query.
    pub fn target(&self) -> &str {
        let target = self.texts.get(..usize::from(self.target_bytes)).unwrap_or_default();
        std::str::from_utf8(target).unwrap_or_default()
    }

    /// Its `User-Agent`, cut; `None`: none, or an empty one.
    pub fn agent(&self) -> Option<&[u8]> {
        let from = usize::from(self.target_bytes);
        self.texts.get(from..from + usize::from(self.agent_bytes)).filter(|agent| !agent.is_empty())
    }

    /// The answer's media type, cut; `None`: none.
    pub fn content_type(&self) -> Option<&[u8]> {
        let from = usize::from(self.target_bytes) + usize::from(self.agent_bytes);
        self.texts.get(from..).filter(|content_type| !content_type.is_empty())
    }
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
