//! What came of the requests.

use std::fmt;
use std::time::Duration;

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status, after the whole body.
    Answered(u16),
    /// No answer, half an answer, or none in time.
    Failed,
    /// The shopper left; what the other side made of it is not judged.
    Aborted,
}

/// Counts, and how long the answered ones took.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub ok: u64,
    pub client_errors: u64,
    pub server_errors: u64,
    pub failed: u64,
    pub aborted: u64,
    latencies: Latencies,
}

impl Tally {
    pub fn count(&mut self, ending: Ending, took: Duration) {
        match ending {
            Ending::Answered(status) => {
                self.latencies.add(took);
                match status {
                    500.. => self.server_errors += 1,
                    400..500 => self.client_errors += 1,
                    _ => self.ok += 1,
                }
            }
            Ending::Failed => self.failed += 1,
            Ending::Aborted => self.aborted += 1,
        }
    }

    pub fn requests(&self) -> u64 {
        self.ok + self.client_errors + self.server_errors + self.failed + self.aborted
    }

    /// The time within which this part of the answered requests was answered, at most 2 % too long.
    pub fn quantile(&self, part: f64) -> Duration {
        self.latencies.quantile(part)
    }

    /// One line: the counts of this tally, and of `recent` how many per second and how long they took.
    pub fn line(&self, recent: &Tally, over: Duration) -> String {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
        let per_second = recent.requests() as f64 / over.as_secs_f64().max(0.001);
        format!(
            "{per_second:.1} rps  ok {}  4xx {}  5xx {}  failed {}  aborted {}  p50 {}  p99 {}",
            self.ok,
            self.client_errors,
            self.server_errors,
            self.failed,
            self.aborted,
            Ms(recent.quantile(0.50)),
            Ms(recent.quantile(0.99)),
        )
    }
}

struct Ms(Duration);

impl fmt::Display for Ms {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.1} ms", self.0.as_secs_f64() * 1_000.0)
    }
}

/// Buckets that grow by 2 %, from 10 µs to over a minute: a fixed size however many are added.
#[derive(Clone, Debug)]
struct Latencies {
    buckets: Vec<u64>,
}

const BUCKETS: usize = 800;
const GROWTH: f64 = 1.02;
const FIRST_US: f64 = 10.0;

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { buckets: vec![0; BUCKETS] }
    }
}

impl Latencies {
    fn add(&mut self, took: Duration) {
        let us = took.as_secs_f64() * 1e6;
        let place = (us / FIRST_US).max(1.0).log(GROWTH).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not below 0, capped just below")]
        let place = (place as usize).min(BUCKETS - 1);
        self.buckets[place] += 1;
    }

    fn quantile(&self, part: f64) -> Duration {
        let total: u64 = self.buckets.iter().sum();
        if total == 0 {
            return Duration::ZERO;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among far fewer than 2^52"
        )]
        let rank = ((total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        let exponent = i32::try_from(place.unwrap_or(BUCKETS - 1)).unwrap_or(0);
        Duration::from_secs_f64(FIRST_US * GROWTH.powi(exponent) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_never_too_short() {
        let mut tally = Tally::default();
        for ms in 1..=1_000 {
            tally.count(Ending::Answered(200), Duration::from_millis(ms));
        }
        for (part, exact_ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let ms = tally.quantile(part).as_secs_f64() * 1_000.0;
            assert!(ms >= exact_ms && ms < exact_ms * 1.03, "{part}: {ms}");
        }
        assert_eq!(Tally::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn every_request_is_counted_once_and_extremes_are_kept() {
        let mut tally = Tally::default();
        for status in [200, 303, 404, 503] {
            tally.count(Ending::Answered(status), Duration::ZERO);
        }
        tally.count(Ending::Failed, Duration::MAX);
        tally.count(Ending::Aborted, Duration::MAX);
        tally.count(Ending::Answered(200), Duration::from_secs(1_000_000));
        assert_eq!(
            (tally.ok, tally.client_errors, tally.server_errors, tally.failed, tally.aborted, tally.requests()),
            (3, 1, 1, 1, 1, 7)
        );
    }
}
