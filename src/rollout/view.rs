//! What is shown of rollouts.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;
use strangler_core::judge::{GateReport, Verdict};
use strangler_core::ledger::Ledger;
use strangler_core::name::RouteName;
use strangler_core::rollout::Look;
use strangler_core::route::{RolloutPolicy, Step};
use strangler_core::runtime::{Progress, utc};

use crate::rollout::locked;

/// A rollout as people and programs are shown it.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutView {
    /// The ladder.
    pub steps: Vec<String>,
    /// The step it is at; `None`: before the first.
    pub step: Option<String>,
    /// The one that comes next; `None`: it is at the top.
    pub next: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
    /// Time at this step while the proxy ran, in seconds.
    pub at_step_s: u64,
    /// Different users that extracted was asked for at this step; comparisons at the shadow step.
    pub requests: u64,
    /// `promote`, `hold`, `roll_back`.
    pub verdict: &'static str,
    /// Why, as a code.
    pub reason: &'static str,
    /// Why, in words.
    pub why: String,
    /// All that it waits for before it rises.
    pub waits_for: Vec<String>,
    /// Every gate.
    pub gates: BTreeMap<&'static str, GateView>,
    /// By whom and why it is held.
    pub held: Option<String>,
    /// Why it was rolled back.
    pub latched: Option<String>,
    /// The release that the evidence is about.
    pub release: Option<String>,
    /// What the verdict rests on: `strangler judge` finds the same from it.
    pub inputs: Option<serde_json::Value>,
}

/// A gate as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct GateView {
    /// `open`, `passed`, `failed`, `not_applicable`.
    pub state: &'static str,
    /// What it waits for, or what decided.
    pub why: String,
    /// Evidence of harm, as a natural logarithm.
    pub log_e_harm: Option<f64>,
    /// Evidence that it is harmless, likewise.
    pub log_e_pass: Option<f64>,
    /// Further requests until it passes.
    pub needs_requests: Option<u64>,
    /// The same in seconds.
    pub eta_s: Option<u64>,
}

impl GateView {
    fn of(report: &GateReport) -> GateView {
        GateView {
            state: report.state.as_str(),
            why: report.why.clone(),
            log_e_harm: report.log_e_harm,
            log_e_pass: report.log_e_pass,
            needs_requests: report.needs_requests,
            eta_s: report.eta_s,
        }
    }
}

/// Where they are looked at.
#[derive(Debug, Default)]
pub struct Views(Mutex<BTreeMap<RouteName, RolloutView>>);

impl Views {
    /// Of one route.
    pub fn get(&self, route: &str) -> Option<RolloutView> {
        locked(&self.0).get(route).cloned()
    }

    pub(super) fn retain(&self, is_there: impl Fn(&RouteName) -> bool) {
        locked(&self.0).retain(|route, _| is_there(route));
    }

    /// Puts a newer one in its place. One without forecasts keeps those of before.
    pub(super) fn put(&self, route: &RouteName, mut view: RolloutView, has_forecast: bool) {
        let mut views = locked(&self.0);
        if let Some(before) = views.get(route).filter(|_| !has_forecast) {
            for (name, gate) in &mut view.gates {
                if let Some(known) = before.gates.get(name).filter(|known| known.state == gate.state) {
                    (gate.needs_requests, gate.eta_s) = (known.needs_requests, known.eta_s);
                }
            }
        }
        views.insert(route.clone(), view);
    }
}

pub(super) fn of(
    policy: &RolloutPolicy,
    progress: &Progress,
    found: &Look,
    verdict: Option<&Verdict>,
    ledger: &Ledger,
) -> RolloutView {
    let name = |step: Step| step.to_string();
    RolloutView {
        steps: policy.steps.iter().copied().map(name).collect(),
        step: progress.step(policy).and_then(|step| policy.steps.get(step)).copied().map(name),
        next: progress.next_step(policy).map(name),
        since: utc(progress.entered.at_unix_ms()),
        at_step_s: ledger.at_step().as_secs(),
        requests: ledger.requests_at(progress.weight),
        verdict: verdict.map_or("hold", |verdict| verdict.verdict.as_str()),
        reason: found.reason.as_str(),
        why: found.why.clone(),
        waits_for: found.waits_for.clone(),
        gates: verdict
            .iter()
            .flat_map(|verdict| &verdict.gates)
            .map(|(name, report)| (name.as_str(), GateView::of(report)))
            .collect(),
        held: progress.held.as_ref().map(ToString::to_string),
        latched: progress.latched.as_ref().map(|latch| latch.note.to_string()),
        release: ledger.release().map(ToString::to_string),
        inputs: verdict.map(Verdict::inputs),
    }
}
