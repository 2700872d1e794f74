//! How many requests a core answers 503 at once because it has more to do than it can.
//!
//! What tells is how late the core gets to what it is due to do: a queue that only grows makes every answer late, and at last all
//! of them too late. Refusing a part early keeps the rest in time.

use std::time::Duration;

/// Lateness up to which nothing is wrong.
const LATE: Duration = Duration::from_millis(20);
/// Lateness that calls for haste.
const VERY_LATE: Duration = Duration::from_millis(100);
/// Requests under way below which lateness is somebody else's doing: a busy neighbour, not our queue.
const IN_FLIGHT_LEAST: u64 = 256;
/// Largest part that is refused: the rest shows when it is over.
const PART_MAX: u16 = 950;

/// The part of requests that is refused at once, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shed(u16);

impl Shed {
    /// None.
    pub const PLAIN: Shed = Shed(0);

    /// After another look at the core: how late it was, and how many requests are under way. Taken a few times a second.
    #[must_use]
    pub fn next(self, late: Duration, in_flight: u64) -> Shed {
        let Shed(part) = self;
        if late <= LATE || in_flight < IN_FLIGHT_LEAST {
            // Slowly back, so that it does not swing.
            return Shed(part - part.div_ceil(8));
        }
        let step = if late >= VERY_LATE { 150 } else { 40 };
        Shed((part + step).min(PART_MAX))
    }

    /// Whether the request that drew `chance` is refused.
    pub const fn takes(self, chance: u64) -> bool {
        self.0 > 0 && chance % 1_000 < self.0 as u64
    }

    /// Whether any is.
    pub const fn is_any(self) -> bool {
        self.0 > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_core_that_stays_late_refuses_more_and_one_in_time_none() {
        let mut shed = Shed::default();
        for _ in 0..4 {
            shed = shed.next(Duration::from_millis(300), 10_000);
        }
        assert_eq!(shed, Shed(600));
        assert!(shed.takes(599) && !shed.takes(600));
        for _ in 0..60 {
            shed = shed.next(Duration::from_millis(1), 10_000);
        }
        assert!(!shed.is_any());
        assert_eq!(Shed::default().next(Duration::from_secs(5), 3), Shed::default());
    }

    proptest! {
        #[test]
        fn some_requests_are_always_let_in(lates in proptest::collection::vec(0u64..10_000, 0..100)) {
            let shed = lates.iter().fold(Shed::default(), |shed, ms| shed.next(Duration::from_millis(*ms), 1_000));
            prop_assert!(!shed.takes(999));
        }
    }
}
