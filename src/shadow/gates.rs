//! How many copies of a route are under way, how many begin in a second, how often legacy is asked once more, and whether a side is left
//! alone for failing: counted for the whole process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::Method;
use strangler_core::breaker::{Breaker, Leave, is_charged};
use strangler_core::name::RouteName;
use strangler_core::observation::Outcome;
use strangler_core::route::{BreakerPolicy, Sampling, ShadowPolicy};
use strangler_core::shadow::pace::Pace;
use strangler_core::side::Side;
use strangler_core::table::ROUTES_MAX;

/// The gates of all routes that were ever copied.
#[derive(Debug, Default)]
pub struct Gates {
    /// By name: a reload must not let a second lot through.
    routes: RwLock<HashMap<RouteName, Arc<Gate>>>,
    /// Second looks that wait or are under way, all routes together.
    looks: Arc<AtomicU32>,
}

/// What is counted of one route.
#[derive(Debug, Default)]
pub struct Gate {
    in_flight: AtomicU32,
    pace: Mutex<Pace>,
    /// Further requests to legacy.
    asks: Mutex<Asks>,
    /// A bit for each method whose fields have verdicts.
    settled: AtomicU8,
    /// By side.
    breakers: [Mutex<Option<Breaker>>; 2],
}

/// How often legacy is asked once more.
#[derive(Debug, Default)]
struct Asks {
    all: Pace,
    /// Of those, second looks. They have half at most: what differs all the time must not leave the samples nothing that prove it.
    looks: Pace,
}

/// What legacy is asked once more for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A sample: evenly, with what second looks leave.
    Sample,
    /// A second look, which explains a difference: a second's worth may be taken ahead.
    Look,
}

/// Most second looks that wait or are under way, all routes and cores together; more are left out and counted.
pub const LOOKS_MAX: u32 = 256;

/// Leave for one second look; given back when dropped.
#[derive(Debug)]
pub struct LookPass(Arc<AtomicU32>);

impl Drop for LookPass {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// Whether a sample is drawn for a request. `draw`: any number, each as likely.
    pub fn is_drawn(&self, method: &Method, sampling: Sampling, draw: u64) -> bool {
        match sampling {
            Sampling::Auto if self.settled.load(Ordering::Relaxed) & bit(method) == 0 => true,
            Sampling::Auto => draw.is_multiple_of(100),
            Sampling::Part(part) => draw % 10_000 < u64::from(part.basis_points()),
        }
    }

    /// Whether the fields of an endpoint have verdicts by now.
    pub fn set_settled(&self, method: &Method, is_settled: bool) {
        if is_settled {
            self.settled.fetch_or(bit(method), Ordering::Relaxed);
        } else {
            self.settled.fetch_and(!bit(method), Ordering::Relaxed);
        }
    }

    /// Another release answers: whatever was settled was so of the one before.
    pub fn unsettle(&self) {
        self.settled.store(0, Ordering::Relaxed);
    }

    /// Lets so many further requests to legacy through, or not.
    pub fn may_ask(&self, per_second: u32, requests: u32, ask: Ask, now: Duration) -> bool {
        let second = Duration::from_secs(1);
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        match ask {
            Ask::Sample => asks.all.take_ahead(now, per_second, requests, Duration::ZERO),
            Ask::Look => {
                asks.looks.take_ahead(now, per_second, 2 * requests, second)
                    && asks.all.take_ahead(now, per_second, requests, second)
            }
        }
    }

    /// Whether a side may be asked; `None`: it has failed too often.
    pub fn leave(&self, policy: Option<BreakerPolicy>, side: Side, now: Duration) -> Option<Leave> {
        let Some(policy) = policy else { return Some(Leave::Pass) };
        let mut breaker = self.breaker(side);
        if breaker.as_ref().is_none_or(|breaker| *breaker.policy() != policy) {
            *breaker = Some(Breaker::new(policy));
        }
        breaker.as_mut().map(|breaker| breaker.enter(now)).filter(|leave| *leave != Leave::Refused)
    }

    /// What came of a request that had [`Gate::leave`].
    pub fn note(&self, side: Side, leave: Leave, outcome: &Outcome, now: Duration) {
        let is_good = match outcome {
            Outcome::Answered(answer) => !answer.status.is_server_error(),
            Outcome::Failed(failure) if is_charged(*failure) => false,
            Outcome::Failed(_) => return,
        };
        let mut breaker = self.breaker(side);
        let Some(breaker) = breaker.as_mut() else { return };
        if leave == Leave::Probe {
            return breaker.probed(is_good, now);
        }
        let slot = Breaker::slot(breaker.policy(), now);
        breaker.note(slot, u64::from(is_good), u64::from(!is_good), now);
    }

    fn breaker(&self, side: Side) -> std::sync::MutexGuard<'_, Option<Breaker>> {
        let [legacy, extracted] = &self.breakers;
        let breaker = match side {
            Side::Legacy => legacy,
            Side::Extracted => extracted,
        };
        breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(method: &Method) -> u8 {
    match method.as_str() {
        "GET" => 1,
        "HEAD" => 2,
        "OPTIONS" => 4,
        _ => 8,
    }
}

/// Leave to make one copy; given back when dropped.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

impl Pass {
    /// The route's counts.
    pub fn gate(&self) -> &Gate {
        &self.0
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gates {
    /// Lets a copy of `route` through, or not. `now` is since any fixed moment.
    pub fn enter(&self, route: &RouteName, policy: &ShadowPolicy, now: Duration) -> Option<Pass> {
        let gate = self.gate(route);
        let before = gate.in_flight.fetch_add(1, Ordering::Relaxed);
        let pass = Pass(gate);
        if before >= policy.max_in_flight {
            return None;
        }
        let is_paced = pass.0.pace.lock().unwrap_or_else(PoisonError::into_inner).take(now, policy.max_rps);
        is_paced.then_some(pass)
    }

    /// Lets a second look through, or not.
    pub fn enter_look(&self) -> Option<LookPass> {
        let before = self.looks.fetch_add(1, Ordering::Relaxed);
        let pass = LookPass(Arc::clone(&self.looks));
        (before < LOOKS_MAX).then_some(pass)
    }

    /// The counts of a route.
    pub fn gate(&self, route: &RouteName) -> Arc<Gate> {
        if let Some(gate) = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return Arc::clone(gate);
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= ROUTES_MAX {
            // Routes come and go with reloads; those that nobody passes through now can begin anew.
            routes.retain(|_, gate| gate.in_flight.load(Ordering::Relaxed) > 0);
        }
        Arc::clone(routes.entry(route.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_so_many_copies_under_way_and_so_many_in_a_second() {
        let gates = Gates::default();
        let policy = ShadowPolicy { max_in_flight: 2, max_rps: 3, ..ShadowPolicy::default() };
        let (one, other) = ("one".parse().expect("a name"), "other".parse().expect("a name"));
        let now = Duration::from_secs(1);

        let first = gates.enter(&one, &policy, now);
        let second = gates.enter(&one, &policy, now);
        assert!(first.is_some() && second.is_some());
        assert!(gates.enter(&one, &policy, now).is_none(), "two are under way");
        assert!(gates.enter(&other, &policy, now).is_some(), "another route has its own count");

        drop(first);
        assert!(gates.enter(&one, &policy, now).is_some(), "the third of this second");
        assert!(gates.enter(&one, &policy, now).is_none(), "one is under way, but three have begun");
        assert!(gates.enter(&one, &policy, now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn a_side_that_fails_is_left_alone_and_then_tried() {
        let (gate, policy) = (Gate::default(), Some(ShadowPolicy::default_breaker()));
        let at = Duration::from_secs;
        let failed = Outcome::Failed(strangler_core::observation::Failure::Timeout);
        for _ in 0..20 {
            let leave = gate.leave(policy, Side::Extracted, at(1)).expect("closed");
            gate.note(Side::Extracted, leave, &failed, at(1));
        }
        assert_eq!(gate.leave(policy, Side::Extracted, at(2)), None);
        assert_eq!(gate.leave(policy, Side::Legacy, at(2)), Some(Leave::Pass), "the other side is another matter");
        assert_eq!(gate.leave(None, Side::Extracted, at(2)), Some(Leave::Pass));
        assert_eq!(gate.leave(policy, Side::Extracted, at(7)), Some(Leave::Probe));
        gate.note(Side::Extracted, Leave::Probe, &failed, at(7));
        assert_eq!(gate.leave(policy, Side::Extracted, at(8)), None);
    }

    #[test]
    fn samples_are_drawn_until_all_is_known_and_then_seldom() {
        let gate = Gate::default();
        let drawn =
            |method: &Method, sampling| (0..1_000).filter(|draw| gate.is_drawn(method, sampling, *draw)).count();
        let tenth = Sampling::Part("10%".parse().expect("a part"));
        assert_eq!((drawn(&Method::GET, Sampling::Auto), drawn(&Method::GET, tenth)), (1_000, 1_000));
        gate.set_settled(&Method::GET, true);
        assert_eq!((drawn(&Method::GET, Sampling::Auto), drawn(&Method::HEAD, Sampling::Auto)), (10, 1_000));
        gate.set_settled(&Method::GET, false);
        assert_eq!(drawn(&Method::GET, Sampling::Auto), 1_000);
        assert_eq!(drawn(&Method::GET, Sampling::Part("0%".parse().expect("a part"))), 0);
    }

    #[test]
    fn second_looks_go_first_and_leave_the_samples_half() {
        let gate = Gate::default();
        let (mut looks, mut samples) = (0, 0);
        for ms in 0..60_000 {
            let now = Duration::from_millis(ms);
            looks += u32::from(gate.may_ask(10, 2, Ask::Look, now));
            samples += u32::from(gate.may_ask(10, 1, Ask::Sample, now));
        }
        // Ten requests a second: five for looks, which ask twice each, and five for samples.
        assert!((148..=156).contains(&looks) && (285..=305).contains(&samples), "{looks} {samples}");
    }

    #[test]
    fn second_looks_have_a_bound_of_their_own() {
        let gates = Gates::default();
        let mut passes: Vec<_> = (0..LOOKS_MAX).filter_map(|_| gates.enter_look()).collect();
        assert_eq!(passes.len(), 256);
        assert!(gates.enter_look().is_none());
        passes.pop();
        assert!(gates.enter_look().is_some());
    }
}
