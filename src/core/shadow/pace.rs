//! How many copies begin in a second.

use std::time::Duration;

/// Lets at most so many through a second on the long run; what was not used in the last second may be used at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// When the next one would be due if they came evenly; it may lie up to a second ahead.
    due: Duration,
}

impl Pace {
    /// Whether one more may begin at `now` (since any fixed moment, the same for all calls), and counts it if so.
    ///
    /// A rate of 0 lets none through.
    pub fn take(&mut self, now: Duration, per_second: u32) -> bool {
        let Some(interval) = Duration::from_secs(1).checked_div(per_second) else {
            return false;
        };
        let due = self.due.max(now) + interval;
        // Half an interval of grace: the division above rounds down or up by a nanosecond a piece.
        if due > now + Duration::from_secs(1) + interval / 2 {
            return false;
        }
        self.due = due;
        true
    }

    /// Whether something that counts as `cost` may begin at `now`: what was taken before may reach at most `ahead` beyond it. So of two
    /// that take from one pace, the one with the longer `ahead` goes first.
    ///
    /// What is taken is owed: on the long run no more than `per_second` are.
    pub fn take_ahead(&mut self, now: Duration, per_second: u32, cost: u32, ahead: Duration) -> bool {
        let Some(interval) = Duration::from_secs(1).checked_div(per_second) else {
            return false;
        };
        if self.due > now + ahead {
            return false;
        }
        self.due = self.due.max(now) + interval * cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_of_copies_may_come_at_once_and_no_more() {
        let mut pace = Pace::default();
        let taken = |pace: &mut Pace, now, tries| (0..tries).filter(|_| pace.take(now, 50)).count();
        assert_eq!(taken(&mut pace, Duration::from_secs(9), 200), 50);
        assert_eq!(taken(&mut pace, Duration::from_secs(9), 10), 0);
        assert_eq!(taken(&mut pace, Duration::from_millis(9_100), 10), 5);
        assert_eq!(taken(&mut pace, Duration::from_secs(60), 200), 50);
        assert!(!Pace::default().take(Duration::from_secs(1), 0));
        assert!(Pace::default().take(Duration::ZERO, 1));
    }

    #[test]
    fn what_matters_more_goes_first_and_the_rate_holds_for_both() {
        let (mut pace, second) = (Pace::default(), Duration::from_secs(1));
        let (mut samples, mut looks) = (0u32, 0u32);
        for ms in 0..60_000u64 {
            let now = Duration::from_millis(ms);
            // Wanted all the time; a look, which costs two, every second.
            samples += u32::from(pace.take_ahead(now, 5, 1, Duration::ZERO));
            if ms % 1_000 == 0 {
                looks += u32::from(pace.take_ahead(now, 5, 2, second));
            }
        }
        assert_eq!(looks, 60);
        assert!((170..=182).contains(&samples), "{samples}");
        let mut slow = Pace::default();
        assert!(
            slow.take_ahead(second, 1, 2, second)
                && !slow.take_ahead(Duration::from_millis(1_999), 1, 2, Duration::ZERO)
        );
        assert!(slow.take_ahead(second * 3, 1, 1, Duration::ZERO));
    }

    proptest! {
        #[test]
        fn on_the_long_run_the_rate_holds(
            gaps_ms in proptest::collection::vec(0u64..30, 1..400),
            per_second in 1u32..200,
        ) {
            let (mut pace, mut now, mut taken) = (Pace::default(), Duration::ZERO, 0u32);
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                taken += u32::from(pace.take(now, per_second));
            }
            let allowed = f64::from(per_second) * (1.0 + now.as_secs_f64()) + 1.0;
            prop_assert!(f64::from(taken) <= allowed, "{taken} of {allowed}");
        }
    }
}
