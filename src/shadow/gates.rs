//! How many copies of a route are under way, and how many begin in a second: counted for the whole process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use strangler_core::name::RouteName;
use strangler_core::route::ShadowPolicy;
use strangler_core::shadow::pace::Pace;
use strangler_core::table::ROUTES_MAX;

/// The gates of all routes that were ever copied.
#[derive(Debug, Default)]
pub struct Gates {
    /// By name: a reload must not let a second lot through.
    routes: RwLock<HashMap<RouteName, Arc<Gate>>>,
}

#[derive(Debug, Default)]
struct Gate {
    in_flight: AtomicU32,
    pace: Mutex<Pace>,
}

/// Leave to make one copy; given back when dropped.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

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

    fn gate(&self, route: &RouteName) -> Arc<Gate> {
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
}
