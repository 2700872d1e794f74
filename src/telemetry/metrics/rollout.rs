//! What is shown and counted of rollouts.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec};

use crate::telemetry::metrics::{Maker, Metrics};

/// Messages to hooks, by route, hook (`pre_step`, `rollback`, …) and outcome (delivered, refused, failed, dropped).
pub(super) const HOOKS: &str = "strangler_hooks_total";

/// As in the `hook` and `outcome` labels.
const OCCASIONS: [&str; 6] = ["pre_step", "confirm_promotion", "post_step", "rollback", "hold", "event"];
const OUTCOMES: [&str; 4] = ["delivered", "refused", "failed", "dropped"];

/// What a judge says, as in the `verdict` label.
const VERDICTS: [&str; 3] = ["promote", "hold", "roll_back"];
/// As in the `gate` label.
const GATES: [&str; 6] = ["errors", "latency", "mismatch", "coverage", "prometheus", "slo"];

/// 1 for what the judge says of a route's rollout: promote, hold, roll_back.
pub(super) const ROLLOUT_VERDICT: &str = "strangler_rollout_verdict";
/// Moves of rollouts, by route, action (rise, roll_back) and actor (rollout, person).
pub(super) const TRANSITIONS: &str = "strangler_rollout_transitions_total";
/// When a route's rollout last moved, in Unix seconds.
pub(super) const LAST_TRANSITION: &str = "strangler_route_last_transition_timestamp_seconds";
/// Natural logarithm of the evidence of harm, by route and gate.
pub(super) const LOG_E: &str = "strangler_evidence_log_e";
/// Natural logarithm of the evidence that any of the routes that climb is harmed: the mean of theirs.
const LOG_E_ANY: &str = "strangler_evidence_log_e_any";
/// 1 while somebody should look at a route's rollout: it should go back and must not, or its file is behind.
const ALARM: &str = "strangler_rollout_alarm";
/// 1 while rollouts are looked at.
const RUNNING: &str = "strangler_rollouts_running";
/// How often what moves rollouts began again after a fault of its own.
const RESTARTS: &str = "strangler_rollout_restarts_total";
/// Looks at a rollout that a fault of our own ended.
const PANICS: &str = "strangler_rollout_panics_total";

/// How what moves rollouts is.
#[derive(Debug)]
pub(super) struct Rollouts {
    alarm: IntGaugeVec,
    running: IntGauge,
    restarts: IntCounter,
    panics: IntCounter,
    log_e_any: Gauge,
}

impl Rollouts {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Rollouts> {
        let running = "1 while rollouts are looked at; else all of them stay where they are";
        let restarts = "How often what moves rollouts began again after a fault of its own";
        let any = "Natural logarithm of the evidence that any of the routes is harmed";
        Ok(Rollouts {
            alarm: make.gauge(ALARM, "1 while somebody should look at a route's rollout", &["route"])?,
            running: make.keep(IntGauge::new(RUNNING, running))?,
            restarts: make.keep(IntCounter::new(RESTARTS, restarts))?,
            panics: make.keep(IntCounter::new(PANICS, "Looks at a rollout that a fault of our own ended"))?,
            log_e_any: make.keep(Gauge::new(LOG_E_ANY, any))?,
        })
    }
}

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

    /// The evidence that any of the routes is harmed.
    pub fn show_log_e_any(&self, log_e: f64) {
        self.rollouts.log_e_any.set(log_e);
    }

    /// A rollout moved: `rise` or `roll_back`, by `rollout` or `person`.
    pub fn count_transition(&self, route: &str, action: &str, actor: &str) {
        self.transitions.with_label_values(&[route, action, actor]).inc();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.last_transition.with_label_values(&[route]).set(i64::try_from(now_s).unwrap_or(i64::MAX));
    }

    /// Whether somebody should look at a route's rollout.
    pub fn show_rollout_alarm(&self, route: &str, is_alarm: bool) {
        self.rollouts.alarm.with_label_values(&[route]).set(i64::from(is_alarm));
    }

    /// Whether rollouts are looked at, and how often what does had to begin again.
    pub fn show_rollouts(&self, is_running: bool, restarts: u64) {
        self.rollouts.running.set(i64::from(is_running));
        self.rollouts.restarts.inc_by(restarts.saturating_sub(self.rollouts.restarts.get()));
    }

    /// A rollout could not be judged for a fault of ours.
    pub fn count_rollout_panic(&self) {
        self.rollouts.panics.inc();
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
        let _ = self.rollouts.alarm.remove_label_values(&[route]);
    }
}
