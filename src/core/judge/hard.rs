//! The hard breaker: no statistics, the weight goes to 0 now.
//!
//! It trips when extracted
//! - cannot be reached: every try of at least 5 seconds has failed to connect, three of them or more;
//! - or fails at least half of its last 20 requests, from at least 3 units and over at least 5 seconds;
//! - or the route's breaker has stood open for 60 seconds in all;
//!
//! and, but for the last, while legacy does not fail alike. So a restart of two seconds, one client with a poisonous request, and a database
//! that both share and that hiccups, end no rollout.

use std::collections::VecDeque;

/// Requests of extracted that are looked at.
const LAST: usize = 20;
/// Of which so many must have failed.
const FAILED_MIN: usize = LAST / 2;
/// From so many units.
const UNITS_MIN: usize = 3;
/// Over so long, in milliseconds.
const OVER_MS: u64 = 5_000;
/// So many of them when that time is over: a restart long ago and one failure now are not a failure that lasts.
const LATER_MIN: usize = 3;
/// Tries that did not connect.
const TRIES_MIN: u64 = 3;
/// How long the route's breaker may stand open in all, in milliseconds.
const OPEN_MS_MAX: u64 = 60_000;
/// Legacy fails alike when it fails at least this part as often as extracted does: between none and as often, half.
const ALIKE: u64 = 2;

/// Why it tripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    /// Extracted cannot be reached.
    Unreachable,
    /// Extracted fails.
    Failing,
    /// The route's breaker has stood open for too long.
    BreakerOpen,
}

impl Trip {
    /// As written in logs and the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Trip::Unreachable => "unreachable",
            Trip::Failing => "failing",
            Trip::BreakerOpen => "breaker_open",
        }
    }
}

/// How a request of extracted ended, before any fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was answered, and that was no failure.
    Served,
    /// A failure that came after a connection stood.
    Failed,
    /// No connection came about.
    Unconnected,
}

/// What it knows of one route; 500 bytes. Times are milliseconds of a clock that does not jump; one that went back counts as no time.
#[derive(Clone, Debug, Default)]
pub struct HardBreaker {
    last: VecDeque<One>,
    legacy: Tally,
    unconnected: Option<Unconnected>,
    open_since_ms: Option<u64>,
    open_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct One {
    at_ms: u64,
    /// Hash of the unit's key.
    unit: u64,
    has_failed: bool,
    /// What legacy had done by then.
    legacy: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    all: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Unconnected {
    since_ms: u64,
    tries: u64,
    legacy: Tally,
}

impl HardBreaker {
    /// A request of legacy that no fallback brought there.
    pub fn legacy(&mut self, has_failed: bool) {
        self.legacy.all += 1;
        self.legacy.failed += u64::from(has_failed);
    }

    /// A request that was assigned to extracted, of a unit with that hash.
    pub fn extracted(&mut self, at_ms: u64, unit: u64, ending: Ending) -> Option<Trip> {
        if self.last.len() >= LAST {
            self.last.pop_front();
        }
        self.last.push_back(One { at_ms, unit, has_failed: ending != Ending::Served, legacy: self.legacy });
        self.unconnected = (ending == Ending::Unconnected).then(|| {
            let first = Unconnected { since_ms: at_ms, tries: 0, legacy: self.legacy };
            let known = self.unconnected.unwrap_or(first);
            Unconnected { tries: known.tries + 1, ..known }
        });
        if self.is_unreachable(at_ms) {
            Some(Trip::Unreachable)
        } else if self.is_failing() {
            Some(Trip::Failing)
        } else {
            None
        }
    }

    /// Whether the route's breaker stands open now; to be said at every change, and now and then in between.
    pub fn breaker(&mut self, at_ms: u64, is_open: bool) -> Option<Trip> {
        if let Some(since_ms) = self.open_since_ms {
            self.open_ms = self.open_ms.saturating_add(at_ms.saturating_sub(since_ms));
        }
        self.open_since_ms = is_open.then_some(at_ms);
        (self.open_ms >= OPEN_MS_MAX).then_some(Trip::BreakerOpen)
    }

    fn is_unreachable(&self, at_ms: u64) -> bool {
        self.unconnected.is_some_and(|it| {
            let is_long = at_ms.saturating_sub(it.since_ms) >= OVER_MS;
            is_long && it.tries >= TRIES_MIN && !self.is_legacy_alike(it.legacy, 1, 1)
        })
    }

    fn is_failing(&self) -> bool {
        let failed = || self.last.iter().filter(|one| one.has_failed);
        let count = failed().count();
        let Some(first) = failed().next() else { return false };
        let later = failed().filter(|one| one.at_ms.saturating_sub(first.at_ms) >= OVER_MS).count();
        if count < FAILED_MIN || later < LATER_MIN {
            return false;
        }
        let mut units: Vec<u64> = failed().map(|one| one.unit).collect();
        units.sort_unstable();
        units.dedup();
        let oldest = self.last.front().map_or(self.legacy, |one| one.legacy);
        units.len() >= UNITS_MIN && !self.is_legacy_alike(oldest, count as u64, self.last.len() as u64)
    }

    /// Whether legacy has failed as well since then, where extracted has in `failed` of `all`. One that was not asked at all has not.
    fn is_legacy_alike(&self, since: Tally, failed: u64, all: u64) -> bool {
        let (legacy_failed, legacy_all) = (self.legacy.failed - since.failed, self.legacy.all - since.all);
        legacy_failed > 0
            && u128::from(legacy_failed) * u128::from(all * ALIKE) >= u128::from(failed) * u128::from(legacy_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of extracted, one each `every_ms`, by `units` users in turn.
    fn run(
        breaker: &mut HardBreaker,
        from_ms: u64,
        every_ms: u64,
        count: u64,
        units: u64,
        ending: Ending,
    ) -> Option<(u64, Trip)> {
        (0..count).find_map(|at| {
            let at_ms = from_ms + at * every_ms;
            breaker.extracted(at_ms, at % units, ending).map(|trip| (at_ms, trip))
        })
    }

    #[test]
    fn half_of_the_last_20_failed_from_three_units_over_five_seconds() {
        let mut breaker = HardBreaker::default();
        assert_eq!(run(&mut breaker, 0, 100, 50, 9, Ending::Served), None);
        assert_eq!(run(&mut breaker, 5_000, 600, 50, 9, Ending::Failed), Some((11_600, Trip::Failing)));

        let of_two_units = run(&mut HardBreaker::default(), 0, 1_000, 100, 2, Ending::Failed);
        assert_eq!(of_two_units, None, "two clients with poisonous requests end nothing");

        let mut quick = HardBreaker::default();
        assert_eq!(run(&mut quick, 0, 20, 100, 50, Ending::Failed), None, "a restart of two seconds ends nothing");
        assert_eq!(run(&mut quick, 2_000, 20, 1_000, 50, Ending::Served), None);

        let mut every_third = HardBreaker::default();
        let trip = (0..3_000).find_map(|at| {
            let ending = if at % 3 == 0 { Ending::Failed } else { Ending::Served };
            every_third.extracted(at * 1_000, at, ending)
        });
        assert_eq!(trip, None, "a third is the judge's business");
    }

    #[test]
    fn what_cannot_be_reached_for_five_seconds_is_unreachable() {
        let mut breaker = HardBreaker::default();
        assert_eq!(run(&mut breaker, 0, 2_000, 9, 1, Ending::Unconnected), Some((6_000, Trip::Unreachable)));
        let mut rare = HardBreaker::default();
        assert_eq!(run(&mut rare, 0, 60_000, 9, 1, Ending::Unconnected), Some((120_000, Trip::Unreachable)));
        let mut restarting = HardBreaker::default();
        assert_eq!(run(&mut restarting, 0, 10, 200, 40, Ending::Unconnected), None);
        assert_eq!(restarting.extracted(2_000, 1, Ending::Served), None);
        assert_eq!(restarting.extracted(9_000, 1, Ending::Unconnected), None, "it has been reached in between");
    }

    #[test]
    fn where_legacy_fails_alike_nothing_is_gained() {
        for (legacy_fails_every, expected) in [(1, false), (2, false), (10, true)] {
            let mut breaker = HardBreaker::default();
            let trip = (0..40u64).find_map(|at| {
                for of_legacy in 0..10 {
                    breaker.legacy(of_legacy % legacy_fails_every == 0);
                }
                breaker.extracted(at * 1_000, at, Ending::Failed)
            });
            assert_eq!(trip.is_some(), expected, "legacy fails one of {legacy_fails_every}");
        }
        // An outage that both had, and that legacy's many requests have left behind: still the same span for both.
        let mut over = HardBreaker::default();
        for at in 0..10u64 {
            (0..50).for_each(|_| over.legacy(true));
            assert_eq!(over.extracted(at * 1_000, at, Ending::Failed), None);
        }
        for at in 10..20u64 {
            (0..50).for_each(|_| over.legacy(false));
            assert_eq!(over.extracted(at * 1_000, at, Ending::Served), None);
        }
    }

    #[test]
    fn a_breaker_that_stands_open_for_a_minute_in_all_is_enough() {
        let mut hard = HardBreaker::default();
        for round in 0..12u64 {
            assert_eq!(hard.breaker(round * 60_000, true), None);
            let trip = hard.breaker(round * 60_000 + 5_000, false);
            assert_eq!(trip, (round == 11).then_some(Trip::BreakerOpen));
            if trip.is_some() {
                break;
            }
        }
        let mut long = HardBreaker::default();
        assert_eq!(long.breaker(0, true), None);
        assert_eq!((long.breaker(59_999, true), long.breaker(60_000, true)), (None, Some(Trip::BreakerOpen)));
    }
}
