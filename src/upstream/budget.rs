//! A bound on bytes kept by the whole process: what copies and comparisons hold in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be held, all holders together. Cloned, it is the same budget.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    held: Arc<AtomicU64>,
    max: u64,
}

/// Bytes held; given back when dropped.
#[derive(Debug, Default)]
pub struct Held {
    bytes: u64,
    budget: Option<ByteBudget>,
}

impl ByteBudget {
    /// At most `max` bytes.
    pub fn new(max: u64) -> ByteBudget {
        ByteBudget { held: Arc::default(), max }
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Holds `bytes`; `None` when that is more than is left.
    pub fn hold(&self, bytes: u64) -> Option<Held> {
        let mut held = Held { bytes: 0, budget: Some(self.clone()) };
        held.grow(bytes).then_some(held)
    }
}

impl Held {
    /// Holds `more` bytes; `false`, and nothing changed, when that is more than is left.
    pub fn grow(&mut self, more: u64) -> bool {
        let Some(budget) = &self.budget else {
            return false;
        };
        let before = budget.held.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > budget.max {
            budget.held.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_may_be_and_all_is_given_back() {
        let budget = ByteBudget::new(10);
        let mut first = budget.hold(6).unwrap();
        assert!(budget.hold(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        drop(first);
        assert_eq!(budget.held(), 0);
    }
}
