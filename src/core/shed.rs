//! How many requests a core answers 503 at once because it has more to do than it can.
//!
//! What tells is how late the core gets to what it is due to do: a queue that only grows makes every answer late, and at last all
//! of them too late. Refusing a part early keeps the rest in time. But a refusal costs up to a third of an answer, and clients that
//! do not wait ask again at once: a part that grew until nothing is late would leave a core that does little but refuse. So some
//! lateness is left as it is (those who wait for their answers bound it themselves), and the part has a bound.

use std::time::Duration;

/// Lateness up to which nothing is wrong.
const LATE: Duration = Duration::from_millis(300);
/// Lateness that calls for haste.
const VERY_LATE: Duration = Duration::from_millis(1_000);
/// Requests under way below which lateness is somebody else's doing: a busy neighbour, not our queue.
const IN_FLIGHT_LEAST: u64 = 256;
/// Largest part that is refused: with refusals at a third of the cost, three quarters of what the core can do are still answers.
const PART_MAX: u16 = 500;

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
        for _ in 0..3 {
            shed = shed.next(Duration::from_secs(2), 10_000);
        }
        assert_eq!(shed, Shed(450));
        assert!(shed.takes(449) && !shed.takes(450));
        for _ in 0..60 {
            shed = shed.next(Duration::from_millis(1), 10_000);
        }
        assert!(!shed.is_any());
        assert_eq!(Shed::default().next(Duration::from_secs(5), 3), Shed::default());
    }

    #[test]
    fn a_queue_of_clients_that_wait_for_their_answers_is_no_overload() {
        // Two thousand of them, each asking again as soon as it has been answered: a turn takes 150 ms, and nobody is the better for
        // being refused.
        assert!(!Shed::default().next(Duration::from_millis(150), 2_000).is_any());
    }

    proptest! {
        #[test]
        fn some_requests_are_always_let_in(lates in proptest::collection::vec(0u64..10_000, 0..100)) {
            let shed = lates.iter().fold(Shed::default(), |shed, ms| shed.next(Duration::from_millis(*ms), 1_000));
            prop_assert!(!shed.takes(500));
        }
    }
}
