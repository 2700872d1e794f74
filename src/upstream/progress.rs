//! How far an upload has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How far a streamed request body has come; shared between the body and the wait for the answer.
#[derive(Debug)]
pub struct UploadProgress {
    begun: Instant,
    is_done: AtomicBool,
    last_ms: AtomicU64,
}

impl UploadProgress {
    /// Nothing sent yet.
    pub fn new() -> Arc<UploadProgress> {
        Arc::new(UploadProgress { begun: Instant::now(), is_done: AtomicBool::new(false), last_ms: AtomicU64::new(0) })
    }

    /// A piece was handed over, or the end was.
    pub fn note(&self, is_done: bool) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
        self.is_done.store(is_done, Ordering::Relaxed);
    }

    /// Whether the last piece was handed over.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    pub(super) fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}
