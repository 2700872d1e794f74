//! Which causes are accepted as intended changes: read with each pair that differs, changed by people.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use strangler_core::redact::accept::Accepted;

/// What is accepted now.
#[derive(Debug, Default)]
pub struct LiveAccepted(ArcSwap<Accepted>);

impl LiveAccepted {
    /// What was stored.
    pub fn new(accepted: Accepted) -> LiveAccepted {
        LiveAccepted(ArcSwap::from_pointee(accepted))
    }

    /// What is in force.
    pub fn load(&self) -> Guard<Arc<Accepted>> {
        self.0.load()
    }

    /// Puts another list in force. One hand changes it, in turns.
    pub fn publish(&self, accepted: Accepted) {
        self.0.store(Arc::new(accepted));
    }
}
