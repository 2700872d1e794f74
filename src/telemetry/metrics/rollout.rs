//! What is shown and counted of rollouts.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::telemetry::metrics::Metrics;

/// Messages to hooks, by route, hook (`pre_step`, `rollback`, …) and outcome (delivered, refused, failed, dropped).
pub(super) const HOOKS: &str = "strangler_hooks_total";

/// As in the `hook` and `outcome` labels.
const OCCASIONS: [&str; 6] = ["pre_step", "confirm_promotion", "post_step", "rollback", "hold", "event"];
const OUTCOMES: [&str; 4] = ["delivered", "refused", "failed", "dropped"];

/// What a judge says, as in the `verdict` label.
const VERDICTS: [&str; 3] = ["promote", "hold", "roll_back"];
/// As in the `gate` label.
const GATES: [&str; 6] = ["errors", "latency", "mismatch", "coverage", "prometheus", "slo"];

impl Metrics {
    /// What the judge says of a route.
    pub fn show_rollout(&self, route: &str, verdict: &str) {
        for known in VERDICTS {
            self.rollout_verdict.with_label_values(&[route, known]).set(i64::from(known == verdict));
        }
    }

    /// The evidence of harm at one gate.
    pub fn show_log_e(&self, route: &str, gate: &str, log_e: f64) {
        self.log_e.with_label_values(&[route, gate]).set(log_e);
    }

    /// A rollout moved: `rise` or `roll_back`, by `rollout` or `person`.
    pub fn count_transition(&self, route: &str, action: &str, actor: &str) {
        self.transitions.with_label_values(&[route, action, actor]).inc();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.last_transition.with_label_values(&[route]).set(i64::try_from(now_s).unwrap_or(i64::MAX));
    }

    /// A message to a hook came to its end.
    pub fn count_hook(&self, route: &str, hook: &str, outcome: &str) {
        self.hooks.with_label_values(&[route, hook, outcome]).inc();
    }

    /// Pairs of a route that a gate on mismatches counts, and those of them that speak against extracted: answers that differ for sure or
    /// beyond finding out, and failures that are extracted's.
    pub fn comparisons_of(&self, route: &str) -> (u64, u64) {
        let result = |name: &str| self.comparisons.with_label_values(&[route, name]).get();
        let kind = |name: &str| self.differences.with_label_values(&[route, name]).get();
        let failed = kind("extracted_error") + kind("extracted_timeout");
        let mismatched = result("mismatch") + failed;
        (result("match") + result("expected") + result("noise") + result("transient") + mismatched, mismatched)
    }

    pub(super) fn forget_rollout(&self, route: &str) {
        // One that was never shown is no fault.
        for verdict in VERDICTS {
            let _ = self.rollout_verdict.remove_label_values(&[route, verdict]);
        }
        for gate in GATES {
            let _ = self.log_e.remove_label_values(&[route, gate]);
        }
        for (hook, outcome) in OCCASIONS.iter().flat_map(|hook| OUTCOMES.iter().map(move |outcome| (hook, outcome))) {
            let _ = self.hooks.remove_label_values(&[route, *hook, *outcome]);
        }
        let _ = self.last_transition.remove_label_values(&[route]);
    }
}
