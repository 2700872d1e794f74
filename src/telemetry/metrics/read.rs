//! All counts of all routes at once, for whoever shows them: each family is walked once, however many routes there are.

use std::collections::BTreeMap;

use prometheus::core::{Collector, Metric};
use prometheus::proto;
use strangler_core::history::{BUCKETS, Counts, Times};

use crate::telemetry::metrics::{self, Metrics, sum};

const SIDES: [&str; 2] = ["legacy", "extracted"];

impl Metrics {
    /// Requests of a route that a side has answered.
    pub fn requests_of(&self, route: &str, side: &str) -> u64 {
        sum(&self.requests, &[("route", &|value| value == route), ("side", &|value| value == side)])
    }

    /// Failures of a side of a route.
    pub fn failures_of(&self, route: &str, side: &str) -> u64 {
        sum(&self.failures, &[("route", &|value| value == route), ("side", &|value| value == side)])
    }

    /// Requests of a route that legacy answered because extracted failed.
    pub fn fallbacks_of(&self, route: &str) -> u64 {
        sum(&self.fallbacks, &[("route", &|value| value == route)])
    }

    /// Copies of a route's requests that were answered.
    pub fn copies_of(&self, route: &str) -> u64 {
        sum(&self.shadow, &[("route", &|value| value == route), ("outcome", &|outcome| outcome == "sent")])
    }

    /// What has been counted of every route, and of what no route covers, since the process began.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        let mut all: BTreeMap<String, Counts> = BTreeMap::new();
        each(&self.requests, |labels, metric| {
            if let Some(side) = side(labels) {
                bump(&mut all.entry(labels.route.to_owned()).or_default().answered, side, count(metric));
            }
        });
        each(&self.failures, |labels, metric| {
            if let Some(side) = side(labels) {
                bump(&mut all.entry(labels.route.to_owned()).or_default().failed, side, count(metric));
            }
        });
        each(&self.fallbacks, |labels, metric| {
            all.entry(labels.route.to_owned()).or_default().fallbacks += count(metric);
        });
        each(&self.shadow, |labels, metric| {
            if labels.outcome == "sent" {
                all.entry(labels.route.to_owned()).or_default().copies += count(metric);
            }
        });
        each(&self.comparisons, |labels, metric| {
            let counts = all.entry(labels.route.to_owned()).or_default();
            match labels.result {
                "not_comparable" => return,
                "mismatch" | "failed" => counts.mismatched += count(metric),
                _ => {}
            }
            counts.compared += count(metric);
        });
        each(&self.upstream_duration, |labels, metric| {
            if let Some(side) = side(labels)
                && let Some(times) = all.entry(labels.route.to_owned()).or_default().times.get_mut(side)
            {
                *times = by_bucket(metric);
            }
        });
        all
    }

    /// How long the proxy itself took, by bucket: the ends of the buckets in microseconds, and the counts.
    pub fn overhead_times(&self) -> (Vec<u32>, Vec<u64>) {
        let metric = self.overhead.metric();
        (metrics::OVERHEAD_BUCKETS.iter().map(|end| micros(*end)).collect(), differences(&metric))
    }

    /// Requests under way of both sides.
    pub fn in_flight_now(&self) -> [i64; 2] {
        SIDES.map(|side| self.in_flight.with_label_values(&[side]).get())
    }

    /// Requests refused at the door since the process began, and records that found no room, each by reason.
    pub fn refused(&self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let by = |family: &prometheus::IntCounterVec| {
            let all = family.collect();
            let metrics = all.iter().flat_map(proto::MetricFamily::get_metric);
            let named =
                metrics.filter_map(|metric| Some((metric.get_label().first()?.value().to_owned(), count(metric))));
            named.filter(|(_, count)| *count > 0).collect()
        };
        (by(&self.rejected), by(&self.queue_dropped))
    }
}

/// Upper ends of the buckets of every duration, in microseconds.
pub fn bounds_us() -> Vec<u32> {
    metrics::BUCKETS.iter().map(|end| micros(*end)).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "our own constants")]
fn micros(seconds: f64) -> u32 {
    (seconds * 1e6).round() as u32
}

#[derive(Clone, Copy, Default)]
struct Labels<'a> {
    route: &'a str,
    side: &'a str,
    outcome: &'a str,
    result: &'a str,
}

fn each(family: &impl Collector, mut take: impl FnMut(Labels<'_>, &proto::Metric)) {
    for metric in family.collect().iter().flat_map(proto::MetricFamily::get_metric) {
        let mut labels = Labels::default();
        for pair in metric.get_label() {
            match pair.name() {
                "route" => labels.route = pair.value(),
                "side" => labels.side = pair.value(),
                "outcome" => labels.outcome = pair.value(),
                "result" => labels.result = pair.value(),
                _ => {}
            }
        }
        take(labels, metric);
    }
}

fn side(labels: Labels<'_>) -> Option<usize> {
    SIDES.iter().position(|side| *side == labels.side)
}

fn bump(of: &mut [u64; 2], side: usize, by: u64) {
    if let Some(count) = of.get_mut(side) {
        *count += by;
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
fn count(metric: &proto::Metric) -> u64 {
    metric.get_counter().get_value() as u64
}

fn by_bucket(metric: &proto::Metric) -> Times {
    let mut times = [0; BUCKETS];
    times.iter_mut().zip(differences(metric)).for_each(|(own, count)| *own = count);
    times
}

/// Its buckets say how many took at most so long; what is wanted is how many lie in each, those above the last end included.
fn differences(metric: &proto::Metric) -> Vec<u64> {
    let histogram = metric.get_histogram();
    let mut below = 0;
    let mut counts: Vec<u64> = Vec::with_capacity(BUCKETS);
    for bucket in histogram.get_bucket() {
        counts.push(bucket.cumulative_count().saturating_sub(below));
        below = bucket.cumulative_count();
    }
    counts.push(histogram.get_sample_count().saturating_sub(below));
    counts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use strangler_core::side::Side;

    use super::*;

    #[test]
    fn all_counts_of_a_route_come_together() {
        let metrics = Metrics::new("test").unwrap();
        let route = metrics.route("cart");
        route.count_request(Some(Side::Legacy), 200);
        route.count_request(Some(Side::Extracted), 200);
        route.count_request(Some(Side::Extracted), 418);
        route.count_request(None, 503);
        metrics.count_comparison("cart", "match");
        metrics.count_comparison("cart", "mismatch");
        metrics.count_comparison("cart", "not_comparable");
        metrics.count_shadow("cart", "sent");
        route.observe_upstream(Side::Legacy, Duration::from_millis(3));
        route.observe_upstream(Side::Legacy, Duration::from_secs(60));
        let counts = metrics.counts();
        let cart = counts.get("cart").unwrap();
        assert_eq!((cart.answered, cart.compared, cart.mismatched, cart.copies), ([1, 2], 2, 1, 1));
        assert_eq!((cart.times[0][3], cart.times[0][15]), (1, 1), "2.5 to 5 ms, and above all");
        assert_eq!(bounds_us().len() + 1, BUCKETS);
        assert_eq!(counts.len(), 1);
    }
}
