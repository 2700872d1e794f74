//! How slowly a client may send a request's body.

use std::time::Duration;

/// What a client has sent, and how long it was waited for: time in which nobody was ready to take more does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Bytes that came.
    pub bytes: u64,
    /// Waited for them, in all.
    pub waited: Duration,
}

/// Wait that is never held against a client.
pub const GRACE: Duration = Duration::from_secs(10);

impl Pace {
    /// How much longer the next byte may be waited for; zero: the client is too slow. `rate` is in bytes a second, 0 no bound.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use strangler_core::upload_rate::Pace;
    /// let pace = Pace { bytes: 2_400, waited: Duration::from_secs(15) };
    /// assert_eq!(pace.patience(240), Some(Duration::from_secs(5)));
    /// assert_eq!(pace.patience(0), None);
    /// ```
    pub fn patience(&self, rate: u32) -> Option<Duration> {
        let rate = u64::from(std::num::NonZeroU32::new(rate)?.get());
        let earned = Duration::from_millis(self.bytes.saturating_mul(1_000) / rate);
        Some(GRACE.saturating_add(earned).saturating_sub(self.waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_client_that_keeps_the_rate_is_never_too_slow(seconds in 0u64..100_000, rate in 1u32..1_000_000) {
            let pace = Pace { bytes: seconds * u64::from(rate), waited: Duration::from_secs(seconds) };
            prop_assert_eq!(pace.patience(rate), Some(GRACE));
        }

        #[test]
        fn more_bytes_earn_more_patience_and_more_waiting_less(bytes in 0u64..1 << 40, ms in 0u64..1 << 30, rate in 1u32..1_000_000) {
            let pace = Pace { bytes, waited: Duration::from_millis(ms) };
            let more = Pace { bytes: bytes + 1_000, ..pace };
            let later = Pace { waited: pace.waited + Duration::from_secs(1), ..pace };
            prop_assert!(more.patience(rate) >= pace.patience(rate));
            prop_assert!(later.patience(rate) <= pace.patience(rate));
        }
    }
}
