//! What is counted of comparisons.

use crate::telemetry::metrics::{Metrics, sum};

/// What can be known of a route, as in the `verdict` label.
const VERDICTS: [&str; 7] = ["equal", "expected", "noisy", "unknown", "not_comparable", "suspect", "divergent"];

impl Metrics {
    /// A comparison's result: match, mismatch, noise, transient, expected, failed, `not_comparable`.
    pub fn count_comparison(&self, route: &str, result: &str) {
        self.comparisons.with_label_values(&[route, result]).inc();
    }

    /// What a second look made of a pair: confirmed, noise, transient, unconfirmed.
    pub fn count_second_look(&self, route: &str, tag: &str) {
        self.second_looks.with_label_values(&[route, tag]).inc();
    }

    /// A difference's kind.
    pub fn count_difference(&self, route: &str, kind: &str) {
        self.differences.with_label_values(&[route, kind]).inc();
    }

    /// Shows what is known of a route.
    pub fn show_verdict(&self, route: &str, verdict: &str) {
        for known in VERDICTS {
            self.verdict.with_label_values(&[route, known]).set(i64::from(known == verdict));
        }
    }

    /// Shows how many templates were found of what no route covers.
    pub fn show_discovered(&self, templates: usize) {
        self.discovered.set(i64::try_from(templates).unwrap_or(i64::MAX));
    }

    /// Shows how many things are compared too seldom on a route.
    pub fn show_coverage_missing(&self, route: &str, missing: usize) {
        self.coverage_missing.with_label_values(&[route]).set(i64::try_from(missing).unwrap_or(i64::MAX));
    }

    /// Takes that away of a route that is gone, or compares no more.
    pub fn forget_coverage(&self, route: &str) {
        // One that was never shown is no fault.
        let _ = self.coverage_missing.remove_label_values(&[route]);
    }

    pub(super) fn forget_verdict(&self, route: &str) {
        for verdict in VERDICTS {
            // One that was never shown is no fault.
            let _ = self.verdict.remove_label_values(&[route, verdict]);
        }
    }

    /// Pairs of a route that were compared.
    pub fn compared_of(&self, route: &str) -> u64 {
        sum(&self.comparisons, &[("route", &|value| value == route), ("result", &|result| result != "not_comparable")])
    }

    /// Pairs of a route that differed, failures included; not those that a second look took for noise or for passing.
    pub fn mismatches_of(&self, route: &str) -> u64 {
        sum(
            &self.comparisons,
            &[("route", &|value| value == route), ("result", &|result| matches!(result, "mismatch" | "failed"))],
        )
    }
}
