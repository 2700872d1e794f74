//! What is shown of rollouts.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;
use strangler_core::judge::price::{Rates, count_up_s, dearest};
use strangler_core::judge::{GateReport, Verdict};
use strangler_core::ledger::Ledger;
use strangler_core::name::RouteName;
use strangler_core::rollout::{Action, Look};
use strangler_core::route::{RolloutPolicy, Route, Step};
use strangler_core::runtime::{Progress, utc};

use crate::rollout::locked;

/// A rollout as people and programs are shown it.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutView {
    /// The journey whose routes climb together; `None`: the route climbs by itself.
    pub journey: Option<String>,
    /// What somebody should look at, in words.
    pub alarm: Option<String>,
    /// What each step still to come costs at the traffic of now, in the order of the steps; empty: the traffic is not known yet.
    pub prices: Vec<StepPrice>,
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

/// What a step costs before it starts.
#[derive(Clone, Debug, Serialize)]
pub struct StepPrice {
    /// The step.
    pub step: String,
    /// The gate that takes longest; `None`: none takes longer than the step's own least time and traffic.
    pub gate: Option<&'static str>,
    /// Requests that extracted has to answer (comparisons at `shadow`).
    pub requests: u64,
    /// How long that takes, in seconds.
    pub seconds: u64,
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
            if before.step == view.step {
                view.prices.clone_from(&before.prices);
            }
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
    route: &Route,
    policy: &RolloutPolicy,
    progress: &Progress,
    found: &Look,
    verdict: Option<&Verdict>,
    ledger: &Ledger,
) -> RolloutView {
    let name = |step: Step| step.to_string();
    RolloutView {
        journey: policy.journey.as_ref().map(ToString::to_string),
        alarm: alarm(route, policy, progress, found),
        prices: Vec::new(),
        steps: policy.steps.iter().copied().map(name).collect(),
        step: progress.step(policy).and_then(|step| policy.steps.get(step)).copied().map(name),
        next: progress.next_step(policy).map(name),
        since: utc(progress.entered.at_unix_ms()),
        at_step_s: ledger.at_step().as_secs(),
        requests: ledger.stood(progress.weight).requests,
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

/// What somebody should look at: users who must not go back and should, or would after the next loss of what is known.
fn alarm(route: &Route, policy: &RolloutPolicy, progress: &Progress, found: &Look) -> Option<String> {
    if found.action == Action::Page {
        return Some(format!("should be sent back, and must not be by itself: {}", found.why));
    }
    let is_below = !route.data.may_go_back() && policy.from < progress.weight;
    is_below.then(|| {
        format!(
            "is at {} and its file says `from: {}`: were the state directory lost, the users between would be sent to a legacy that does \
             not know what they wrote; write `from: {}`",
            progress.weight, policy.from, progress.weight
        )
    })
}

/// What each step to come costs at the traffic of now; empty where that is not known.
pub(super) fn prices(policy: &RolloutPolicy, progress: &Progress, verdict: Option<&Verdict>) -> Vec<StepPrice> {
    let rates = verdict.map(|verdict| Rates::of(&verdict.on)).unwrap_or_default();
    let after = progress.step(policy).map_or(0, |step| step + 1);
    let Some(rps) = rates.rps else { return Vec::new() };
    let steps = policy.steps.iter().skip(after).filter(|step| step.weight().is_split());
    let price = |step: &Step| {
        let dearest = dearest(&policy.gates, step.weight(), rates.failures, rps);
        let terms = policy.terms_at(step.weight());
        let by_traffic = count_up_s(terms.min_requests, rps * step.weight().ratio());
        let least = terms.at_least.as_secs().max(by_traffic);
        match dearest.filter(|_| !policy.is_baking(step.weight())) {
            Some((gate, requests, seconds)) if seconds > least => {
                StepPrice { step: step.to_string(), gate: Some(gate), requests, seconds }
            }
            _ => StepPrice { step: step.to_string(), gate: None, requests: terms.min_requests, seconds: least },
        }
    };
    steps.map(price).collect()
}
