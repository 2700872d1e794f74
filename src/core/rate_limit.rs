//! Requests of one client in a time: what a route allows, and what a client is told who asks for more.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// Clients that are told apart on one route; beyond, the least recent are forgotten, and meanwhile newcomers share a few buckets.
pub const CLIENTS_MAX: usize = 100_000;

/// A bucket of `burst` requests for each client, filled one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Who is one client.
    pub key: RateKey,
    /// Requests in `per`.
    pub rate: NonZeroU32,
    /// A second, a minute or an hour.
    pub per: Duration,
    /// Requests at once. Default: `rate`.
    pub burst: NonZeroU32,
}

/// Who is one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RateKey {
    /// An address (of IPv6 its /64: a household has as many as it likes).
    #[default]
    Client,
    /// What this header says; the address where it is missing.
    Header(HeaderName),
    /// What this cookie says; the address where it is missing.
    Cookie(Arc<str>),
}

impl RateLimit {
    /// Until one more request is allowed when the bucket is empty.
    pub fn each(&self) -> Duration {
        (self.per / self.rate.get()).max(Duration::from_nanos(1))
    }

    /// Reads `10/s`, `100/m`, `1000/h`.
    pub fn parse_rate(text: &str) -> Option<(NonZeroU32, Duration)> {
        let (number, unit) = text.split_once('/')?;
        let per = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            _ => return None,
        };
        let is_number = number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse::<NonZeroU32>().ok().filter(|number| is_number && number.get() <= 1_000_000)?;
        Some((number, per))
    }

    /// What `RateLimit-Policy` says: the bucket, and how long it takes to fill.
    pub fn policy(&self) -> String {
        let window = self.each().saturating_mul(self.burst.get());
        format!("\"route\";q={};w={}", self.burst, whole_seconds(window))
    }

    /// What `RateLimit` says to a client that has to wait.
    pub fn state(wait: Duration) -> String {
        format!("\"route\";r=0;t={}", whole_seconds(wait))
    }
}

/// Seconds, rounded up: earlier would be too early.
pub fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        for (text, expect) in [
            ("10/s", Some((10, 1))),
            ("1/m", Some((1, 60))),
            ("1000/h", Some((1_000, 3_600))),
            ("0/s", None),
            ("+1/s", None),
            ("10", None),
            ("10/d", None),
            ("1000001/s", None),
        ] {
            let read = RateLimit::parse_rate(text).map(|(rate, per)| (rate.get(), per.as_secs()));
            assert_eq!(read, expect, "{text}");
        }
    }

    #[test]
    fn a_client_is_told_the_bucket_and_the_wait() {
        let (rate, per) = RateLimit::parse_rate("60/m").unwrap();
        let limit = RateLimit { key: RateKey::Client, rate, per, burst: NonZeroU32::new(5).unwrap() };
        assert_eq!(limit.policy(), "\"route\";q=5;w=5");
        assert_eq!(RateLimit::state(Duration::from_millis(1_200)), "\"route\";r=0;t=2");
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
