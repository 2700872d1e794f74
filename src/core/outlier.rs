//! Which endpoints are left out because requests to them fail.
//!
//! Times are since any fixed moment; they come in as arguments.

use std::time::Duration;

use crate::observation::Failure;
use crate::route::OutlierDetection;

/// Whether a failure says something about the endpoint; what the proxy itself refuses says nothing.
pub const fn is_charged(failure: Failure) -> bool {
    match failure {
        Failure::Connect
        | Failure::ConnectTimeout
        | Failure::Timeout
        | Failure::Reset
        | Failure::Garbage
        | Failure::Truncated
        | Failure::Status(500..=599) => true,
        Failure::Full | Failure::NoHealthy | Failure::BreakerOpen | Failure::Status(_) => false,
    }
}

/// Most times over that an ejection is lengthened.
const LONGEST: u32 = 10;

/// One endpoint's past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Past {
    /// Left out until then; the last time, if that is over.
    until: Duration,
    /// Ejections that weigh on the next one.
    times: u32,
}

/// The ejections of one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejections {
    endpoints: Vec<Past>,
}

impl Ejections {
    /// Of as many endpoints; none is out.
    pub fn of(endpoints: usize) -> Ejections {
        Ejections { endpoints: vec![Past::default(); endpoints] }
    }

    /// `endpoint` has failed as often in a row as the policy takes: until when it is left out; `None`: it stays, for it is out
    /// already, or too many are, or it is the last one that `is_up` otherwise.
    pub fn eject(
        &mut self,
        endpoint: usize,
        policy: &OutlierDetection,
        is_up: impl Fn(usize) -> bool,
        now: Duration,
    ) -> Option<Duration> {
        let count = self.endpoints.len();
        let is_out = |past: &Past| past.until > now;
        let out = self.endpoints.iter().filter(|past| is_out(past)).count();
        let others_in = self
            .endpoints
            .iter()
            .enumerate()
            .filter(|(at, past)| *at != endpoint && !is_out(past) && is_up(*at))
            .count();
        // To the nearest whole number, halves up: `50%` of three endpoints are two.
        let most = policy.max_ejected.of(count as u64 * 2).div_ceil(2);
        let past = self.endpoints.get_mut(endpoint)?;
        if is_out(past) || others_in == 0 || out as u64 >= most {
            return None;
        }
        // One that has behaved for as long as it was out begins anew, step by step.
        let quiet = now.saturating_sub(past.until).as_millis() / policy.eject_for.as_millis().max(1);
        let forgiven = if past.until.is_zero() { 0 } else { u32::try_from(quiet).unwrap_or(u32::MAX) };
        past.times = past.times.saturating_sub(forgiven).saturating_add(1).min(LONGEST);
        past.until = now + policy.eject_for * past.times;
        Some(past.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn policy(max: &str) -> OutlierDetection {
        OutlierDetection { max_ejected: max.parse().unwrap(), ..OutlierDetection::default() }
    }

    #[test]
    fn a_lone_endpoint_is_never_ejected() {
        assert_eq!(Ejections::of(1).eject(0, &policy("100%"), |_| true, S(1)), None);
        // Nor is the last one that checks call well.
        assert_eq!(Ejections::of(2).eject(0, &policy("100%"), |at| at == 0, S(1)), None);
    }

    #[test]
    fn each_ejection_is_longer_and_is_forgotten_in_time() {
        let mut ejections = Ejections::of(2);
        let policy = policy("50%");
        assert_eq!(ejections.eject(0, &policy, |_| true, S(100)), Some(S(130)));
        assert_eq!(ejections.eject(0, &policy, |_| true, S(120)), None, "it is out already");
        assert_eq!(ejections.eject(0, &policy, |_| true, S(131)), Some(S(191)));
        assert_eq!(ejections.eject(0, &policy, |_| true, S(192)), Some(S(282)));
        assert_eq!(ejections.eject(0, &policy, |_| true, S(900)), Some(S(930)));
    }

    #[test]
    fn no_more_than_the_allowed_part_is_out() {
        let mut ejections = Ejections::of(4);
        let policy = policy("50%");
        let ejected: Vec<bool> = (0..4).map(|at| ejections.eject(at, &policy, |_| true, S(1)).is_some()).collect();
        assert_eq!(ejected, [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn one_is_always_left(steps in proptest::collection::vec((0usize..5, 0u64..90), 0..60), points in 0u16..=10_000) {
            let mut ejections = Ejections::of(5);
            let policy = OutlierDetection { max_ejected: crate::weight::Weight::from_basis_points(points).unwrap(), ..OutlierDetection::default() };
            let mut now = S(1);
            for (endpoint, wait) in steps {
                now += S(wait);
                if let Some(until) = ejections.eject(endpoint, &policy, |_| true, now) {
                    prop_assert!(until > now && until <= now + policy.eject_for * LONGEST);
                }
                prop_assert!(ejections.endpoints.iter().any(|past| past.until <= now));
            }
        }
    }
}
