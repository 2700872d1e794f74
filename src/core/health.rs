//! What checks say of an endpoint, when the next one is due, and how what comes back is given its part again.

use std::time::Duration;

use crate::balance::FULL_SHARE;
use crate::route::HealthCheck;

/// How long an endpoint that comes back takes to get all of its part: caches are cold and pools empty.
pub const SLOW_START: Duration = Duration::from_secs(10);

/// What the checks of one endpoint have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    is_healthy: bool,
    /// Checks in a row that say otherwise.
    against: u32,
}

impl Default for Health {
    /// Well, until proven otherwise: a start must not begin with an outage.
    fn default() -> Health {
        Health { is_healthy: true, against: 0 }
    }
}

impl Health {
    /// Whether it may be asked.
    pub const fn is_healthy(self) -> bool {
        self.is_healthy
    }

    /// After one more check.
    pub const fn after(self, check: &HealthCheck, is_good: bool) -> Health {
        if is_good == self.is_healthy {
            return Health { against: 0, ..self };
        }
        let against = self.against.saturating_add(1);
        let needed = if is_good { check.healthy_after } else { check.unhealthy_after };
        if against >= needed.get() {
            return Health { is_healthy: is_good, against: 0 };
        }
        Health { against, ..self }
    }
}

/// Whether an answer to a check is a good one.
pub const fn is_good(status: u16) -> bool {
    200 <= status && status <= 399
}

/// Least time between two lines of the log that say the same of an endpoint.
pub const SAY_EVERY: Duration = Duration::from_secs(10);

/// Whether a failure that was `last` said then is said again `now`; both since the same beginning.
pub fn is_said_again(last: Option<Duration>, now: Duration) -> bool {
    last.is_none_or(|last| now.saturating_sub(last) >= SAY_EVERY)
}

/// From one check to the next: the interval, a tenth more or less, so that replicas do not ask in step.
pub fn wait(check: &HealthCheck, chance: u64) -> Duration {
    let thousandths = u32::try_from(chance % 1_001).unwrap_or_default();
    check.interval * 9 / 10 + check.interval / 5 * thousandths / 1_000
}

/// The part of its requests that an endpoint gets `since` it came back, of [`FULL_SHARE`].
pub fn share(since: Duration) -> u8 {
    if since >= SLOW_START {
        return FULL_SHARE;
    }
    // Never nothing: it has to be asked to get warm.
    let part = since.as_millis() * u128::from(FULL_SHARE) / SLOW_START.as_millis();
    u8::try_from(part).unwrap_or(FULL_SHARE).max(FULL_SHARE / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn check() -> HealthCheck {
        HealthCheck {
            path: "/healthz".parse().unwrap(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_after: NonZeroU32::new(2).unwrap(),
            unhealthy_after: NonZeroU32::new(3).unwrap(),
        }
    }

    fn after(checks: &[bool]) -> Health {
        checks.iter().fold(Health::default(), |health, good| health.after(&check(), *good))
    }

    #[test]
    fn only_checks_in_a_row_change_what_is_thought() {
        assert!(after(&[]).is_healthy());
        assert!(after(&[false, false]).is_healthy());
        assert!(after(&[false, false, true, false, false]).is_healthy());
        assert!(!after(&[false, false, false]).is_healthy());
        assert!(!after(&[false, false, false, true]).is_healthy());
        assert!(!after(&[false, false, false, true, false, true]).is_healthy());
        assert!(after(&[false, false, false, true, true]).is_healthy());
    }

    #[test]
    fn what_comes_back_gets_more_and_more() {
        let shares: Vec<u8> = [0, 1, 5, 9, 10, 60].map(Duration::from_secs).into_iter().map(share).collect();
        assert_eq!(shares, [25, 25, 127, 229, 255, 255]);
    }

    #[test]
    fn a_redirect_is_good_and_an_error_is_not() {
        let good: Vec<u16> =
            [199, 200, 204, 399, 400, 404, 500].into_iter().filter(|status| is_good(*status)).collect();
        assert_eq!(good, [200, 204, 399]);
    }

    proptest! {
        #[test]
        fn checks_stay_near_their_interval(chance: u64) {
            let wait = wait(&check(), chance);
            prop_assert!(wait >= Duration::from_millis(4_500) && wait <= Duration::from_millis(5_500), "{wait:?}");
        }
    }
}
