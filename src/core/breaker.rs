//! A route's circuit breaker: while extracted fails too much, it is not asked.
//!
//! A state machine without a clock: times are since any fixed moment and come in as arguments. Requests are counted in slots of a
//! tenth of the window, so that a caller may count successes by itself and hand them in once a slot.

use std::time::Duration;

use crate::observation::Failure;
use crate::route::BreakerPolicy;

/// Slots of a window.
const SLOTS: usize = 10;

/// How a breaker stands; label of `strangler_breaker_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakerState {
    /// Requests pass.
    #[default]
    Closed,
    /// Requests are refused.
    Open,
    /// One request tries whether extracted is well again.
    HalfOpen,
}

impl BreakerState {
    /// All of them, for labels.
    pub const ALL: [BreakerState; 3] = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];

    /// As written in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Pass.
    Pass,
    /// Pass, and its outcome decides: [`Breaker::probed`] is to be told.
    Probe,
    /// Extracted is not asked.
    Refused,
}

/// Whether a failure opens a breaker. What the proxy itself refuses does not: a full upstream is slow, and all of its users at once
/// would be worse for legacy than those that do not fit.
pub const fn is_charged(failure: Failure) -> bool {
    match failure {
        Failure::Connect
        | Failure::ConnectTimeout
        | Failure::Timeout
        | Failure::Reset
        | Failure::Garbage
        | Failure::Truncated
        | Failure::NoHealthy
        | Failure::Status(_) => true,
        Failure::Full | Failure::BreakerOpen => false,
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    /// Which slot since the beginning of time; what is older than a window counts no more.
    number: u64,
    requests: u64,
    failures: u64,
}

/// One route's breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    slots: [Slot; SLOTS],
    /// Open: until then. Half open: when the request that tries is given up.
    until: Duration,
}

impl Breaker {
    /// Closed.
    pub const fn new(policy: BreakerPolicy) -> Breaker {
        let empty = Slot { number: 0, requests: 0, failures: 0 };
        Breaker { policy, state: BreakerState::Closed, slots: [empty; SLOTS], until: Duration::ZERO }
    }

    /// What it follows.
    pub const fn policy(&self) -> &BreakerPolicy {
        &self.policy
    }

    /// How it stands.
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// The slot that `now` lies in.
    pub fn slot(policy: &BreakerPolicy, now: Duration) -> u64 {
        let length = (policy.window.as_millis() / SLOTS as u128).max(1);
        u64::try_from(now.as_millis() / length).unwrap_or(u64::MAX)
    }

    /// Whether a request may pass now.
    pub fn enter(&mut self, now: Duration) -> Leave {
        match self.state {
            BreakerState::Closed => Leave::Pass,
            BreakerState::Open | BreakerState::HalfOpen if now >= self.until => {
                // One that was given up (its client went away) is followed by another one.
                self.state = BreakerState::HalfOpen;
                self.until = now + self.policy.open_for;
                Leave::Probe
            }
            BreakerState::Open | BreakerState::HalfOpen => Leave::Refused,
        }
    }

    /// Requests of `slot` have ended. Only a failure can open it.
    pub fn note(&mut self, slot: u64, successes: u64, failures: u64, now: Duration) {
        let Some(place) = usize::try_from(slot % SLOTS as u64).ok().and_then(|place| self.slots.get_mut(place)) else {
            return;
        };
        if place.number != slot {
            *place = Slot { number: slot, ..Slot::default() };
        }
        place.requests += successes + failures;
        place.failures += failures;
        // What was under way when it opened says nothing new.
        if failures == 0 || self.state != BreakerState::Closed {
            return;
        }
        let (requests, failed) = self.counts(now);
        let is_enough = requests >= u64::from(self.policy.min_requests.get());
        if is_enough && failed * 10_000 >= requests * u64::from(self.policy.error_ratio.basis_points()) {
            self.open(now);
        }
    }

    /// The request that tries has ended.
    pub fn probed(&mut self, is_good: bool, now: Duration) {
        if self.state != BreakerState::HalfOpen {
            return;
        }
        if is_good {
            // What it was opened for lies behind.
            *self = Breaker::new(self.policy);
        } else {
            self.open(now);
        }
    }

    /// Requests and failures of the window that ends now.
    pub fn counts(&self, now: Duration) -> (u64, u64) {
        let last = Breaker::slot(&self.policy, now);
        let counted = self.slots.iter().filter(|slot| slot.number <= last && last - slot.number < SLOTS as u64);
        counted.fold((0, 0), |(requests, failures), slot| (requests + slot.requests, failures + slot.failures))
    }

    fn open(&mut self, now: Duration) {
        self.state = BreakerState::Open;
        self.until = now + self.policy.open_for;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn breaker() -> Breaker {
        Breaker::new(BreakerPolicy::default())
    }

    fn note(breaker: &mut Breaker, now: Duration, successes: u64, failures: u64) {
        let slot = Breaker::slot(breaker.policy(), now);
        breaker.note(slot, successes, failures, now);
    }

    #[test]
    fn it_opens_at_the_ratio_and_not_before_there_are_enough_requests() {
        let mut few = breaker();
        note(&mut few, MS(100), 0, 19);
        assert_eq!(few.state(), BreakerState::Closed);
        note(&mut few, MS(100), 0, 1);
        assert_eq!(few.state(), BreakerState::Open);

        let mut mixed = breaker();
        note(&mut mixed, MS(100), 11, 9);
        assert_eq!(mixed.state(), BreakerState::Closed);
        note(&mut mixed, MS(100), 0, 2);
        assert_eq!(mixed.state(), BreakerState::Open);
    }

    #[test]
    fn what_is_older_than_a_window_counts_no_more() {
        let mut breaker = breaker();
        note(&mut breaker, MS(0), 1_000, 0);
        note(&mut breaker, MS(5_000), 0, 30);
        assert_eq!((breaker.state(), breaker.counts(MS(5_000))), (BreakerState::Closed, (1_030, 30)));
        note(&mut breaker, MS(10_000), 0, 1);
        assert_eq!((breaker.state(), breaker.counts(MS(10_000))), (BreakerState::Open, (31, 31)));
    }

    #[test]
    fn one_request_tries_and_decides() {
        let mut breaker = breaker();
        note(&mut breaker, MS(0), 0, 20);
        assert_eq!(breaker.enter(MS(4_999)), Leave::Refused);
        assert_eq!((breaker.enter(MS(5_000)), breaker.enter(MS(5_000))), (Leave::Probe, Leave::Refused));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.probed(false, MS(5_100));
        assert_eq!((breaker.state(), breaker.enter(MS(10_099))), (BreakerState::Open, Leave::Refused));
        assert_eq!(breaker.enter(MS(10_100)), Leave::Probe);
        breaker.probed(true, MS(10_200));
        assert_eq!((breaker.state(), breaker.enter(MS(10_200))), (BreakerState::Closed, Leave::Pass));
        note(&mut breaker, MS(10_200), 0, 1);
        assert_eq!(breaker.state(), BreakerState::Closed, "old failures are forgiven");
    }

    #[test]
    fn a_try_that_nobody_hears_of_again_is_followed_by_another() {
        let mut breaker = breaker();
        note(&mut breaker, MS(0), 0, 20);
        assert_eq!(breaker.enter(MS(6_000)), Leave::Probe);
        assert_eq!(breaker.enter(MS(10_999)), Leave::Refused);
        assert_eq!(breaker.enter(MS(11_000)), Leave::Probe);
    }

    proptest! {
        #[test]
        fn it_is_open_only_by_enough_failures_and_never_for_ever(
            steps in proptest::collection::vec((0u64..3_000, 0u64..40, 0u64..40), 1..60),
            ratio in 1u16..=10_000, least in 1u32..50,
        ) {
            let policy = BreakerPolicy {
                error_ratio: crate::weight::Weight::from_basis_points(ratio).unwrap(),
                min_requests: NonZeroU32::new(least).unwrap(),
                ..BreakerPolicy::default()
            };
            let mut breaker = Breaker::new(policy);
            let mut now = Duration::ZERO;
            for (wait, successes, failures) in steps {
                now += MS(wait);
                let was_closed = breaker.state() == BreakerState::Closed;
                note(&mut breaker, now, successes, failures);
                let (requests, failed) = breaker.counts(now);
                if was_closed && breaker.state() == BreakerState::Open {
                    prop_assert!(requests >= u64::from(least));
                    prop_assert!(failed * 10_000 >= requests * u64::from(ratio));
                }
            }
            prop_assert_ne!(breaker.enter(now + policy.open_for), Leave::Refused);
        }
    }
}
