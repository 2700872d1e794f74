//! Who has just written: for a while nothing is said of that caller's answers, for copies of data lag behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Places for callers. Two that share one are both taken to have written: too little is said of one, never too much.
const PLACES: usize = 1 << 18;

/// When callers last wrote, by a keyed hash of who they are. Of a fixed size, and without a lock: it lies in the way of users.
#[derive(Debug)]
pub struct Writes {
    /// Milliseconds since any fixed moment, and one; 0: never.
    last: Box<[AtomicU64]>,
}

impl Default for Writes {
    fn default() -> Writes {
        Writes { last: std::iter::repeat_with(AtomicU64::default).take(PLACES).collect() }
    }
}

impl Writes {
    fn place(&self, caller: u64) -> Option<&AtomicU64> {
        let place = caller % self.last.len() as u64;
        self.last.get(usize::try_from(place).ok()?)
    }

    /// A caller writes, or has just been answered. Times are since any fixed moment, the same for all calls.
    pub fn note(&self, caller: u64, now: Duration) {
        if let Some(place) = self.place(caller) {
            place.fetch_max(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Whether a request that began at `begun` came within `settle` after a write of the same caller, or was overtaken by one.
    pub fn is_settling(&self, caller: u64, begun: Duration, settle: Duration) -> bool {
        let noted = self.place(caller).map_or(0, |place| place.load(Ordering::Relaxed));
        // Rounded up: the write came within that millisecond.
        let over = noted.checked_sub(1).map(|ms| Duration::from_millis(ms + 1) + settle);
        !settle.is_zero() && over.is_some_and(|over| over > begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_write_its_caller_alone_is_left_out_for_a_while() {
        let at = Duration::from_millis;
        let (writes, settle) = (Writes::default(), Duration::from_secs(3));
        assert!(!writes.is_settling(7, at(0), settle));
        writes.note(7, at(1_000));
        assert!(writes.is_settling(7, at(1_000), settle) && writes.is_settling(7, at(3_999), settle));
        assert!(!writes.is_settling(7, at(4_001), settle));
        assert!(!writes.is_settling(8, at(1_001), settle));
        // One that was under way when the write came.
        assert!(writes.is_settling(7, at(500), settle));
        // Told again when it is answered, and never earlier than it was.
        writes.note(7, at(2_000));
        writes.note(7, at(1_500));
        assert!(writes.is_settling(7, at(4_999), settle));
        assert!(!writes.is_settling(7, at(2_000), Duration::ZERO));
    }
}
