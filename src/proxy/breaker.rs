//! A route's breaker among many cores: the core decides, this counts. A request of a route whose breaker is closed pays two relaxed
//! atomics; only failures, the first success of a slot and what meets an open breaker take the lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strangler_core::breaker::{Breaker, BreakerState, Leave};
use strangler_core::route::BreakerPolicy;

/// Times are since the process began.
#[derive(Debug)]
pub(crate) struct RouteBreaker {
    policy: BreakerPolicy,
    is_closed: AtomicBool,
    /// The slot in the upper half, its successes in the lower; handed in when the next slot begins.
    successes: AtomicU64,
    machine: Mutex<Breaker>,
    /// What the gauges say; [`UNSHOWN`]: nothing yet.
    shown: AtomicU8,
}

const UNSHOWN: u8 = u8::MAX;

impl RouteBreaker {
    pub(crate) fn new(policy: BreakerPolicy) -> RouteBreaker {
        RouteBreaker {
            policy,
            is_closed: AtomicBool::new(true),
            successes: AtomicU64::new(0),
            machine: Mutex::new(Breaker::new(policy)),
            shown: AtomicU8::new(UNSHOWN),
        }
    }

    pub(crate) fn policy(&self) -> &BreakerPolicy {
        &self.policy
    }

    /// How it stands.
    pub(crate) fn state(&self) -> BreakerState {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).state()
    }

    /// How it stands, unless it is closed.
    pub(crate) fn if_not_closed(&self) -> Option<BreakerState> {
        if self.is_closed.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.state()).filter(|state| *state != BreakerState::Closed)
    }

    /// How it stands, where that is not what was told last. `is_told`: also when it is closed and nothing was told yet.
    pub(crate) fn news(&self, is_told: bool) -> Option<BreakerState> {
        let shown = self.shown.load(Ordering::Relaxed);
        let is_closed = self.is_closed.load(Ordering::Relaxed);
        if is_closed && (shown == BreakerState::Closed as u8 || (shown == UNSHOWN && !is_told)) {
            return None;
        }
        let state = self.state();
        (self.shown.swap(state as u8, Ordering::Relaxed) != state as u8).then_some(state)
    }

    /// Whether extracted may be asked. `now` is looked up only while it is not closed.
    pub(crate) fn enter(&self, now: impl FnOnce() -> Duration) -> Leave {
        if self.is_closed.load(Ordering::Relaxed) {
            return Leave::Pass;
        }
        self.change(|machine| machine.enter(now()))
    }

    /// A request has been answered well.
    pub(crate) fn succeeded(&self, leave: Leave, now: Duration) {
        let slot = self.slot(now);
        if leave == Leave::Probe {
            self.change(|machine| machine.probed(true, now));
        } else if self.successes.load(Ordering::Relaxed) >> 32 == slot {
            self.successes.fetch_add(1, Ordering::Relaxed);
        } else {
            self.change(|machine| self.hand_in(machine, slot, 1, now));
        }
    }

    /// A request has failed.
    pub(crate) fn failed(&self, route: &str, now: Duration) {
        let slot = self.slot(now);
        let state = self.change(|machine| {
            let before = machine.state();
            self.hand_in(machine, slot, 0, now);
            match before {
                BreakerState::HalfOpen => machine.probed(false, now),
                BreakerState::Closed | BreakerState::Open => machine.note(slot, 0, 1, now),
            }
            (before, machine.state())
        });
        if let (BreakerState::Closed, BreakerState::Open) = state {
            tracing::warn!(route, "extracted fails too often: the route's breaker is open");
        }
    }

    fn slot(&self, now: Duration) -> u64 {
        // In 32 bits: a slot is a tenth of a second at least, so they last for 13 years.
        Breaker::slot(&self.policy, now) & 0xffff_ffff
    }

    fn hand_in(&self, machine: &mut Breaker, slot: u64, successes: u64, now: Duration) {
        let before = self.successes.swap(slot << 32 | successes, Ordering::Relaxed);
        machine.note(before >> 32, before & 0xffff_ffff, 0, now);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let told = change(&mut machine);
        self.is_closed.store(machine.state() == BreakerState::Closed, Ordering::Relaxed);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn successes_that_were_only_counted_weigh_against_failures() {
        let breaker = RouteBreaker::new(BreakerPolicy::default());
        for at in 0..100 {
            breaker.succeeded(Leave::Pass, MS(at * 50));
        }
        for _ in 0..99 {
            breaker.failed("r", MS(5_000));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.failed("r", MS(5_000));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.enter(|| MS(5_001)), Leave::Refused);
    }

    #[test]
    fn the_successes_of_a_quiet_past_do_not_hide_an_outage() {
        let breaker = RouteBreaker::new(BreakerPolicy::default());
        for _ in 0..1_000 {
            breaker.succeeded(Leave::Pass, MS(10));
        }
        for _ in 0..20 {
            breaker.failed("r", MS(60_000));
        }
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn only_the_request_that_tries_closes_it() {
        let breaker = RouteBreaker::new(BreakerPolicy::default());
        for _ in 0..20 {
            breaker.failed("r", MS(0));
        }
        assert_eq!(breaker.enter(|| MS(5_000)), Leave::Probe);
        breaker.succeeded(Leave::Pass, MS(5_001));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.succeeded(Leave::Probe, MS(5_002));
        assert_eq!((breaker.state(), breaker.enter(|| MS(5_003))), (BreakerState::Closed, Leave::Pass));
    }
}
