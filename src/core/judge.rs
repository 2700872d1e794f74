//! The judge: evidence in, a verdict out. A pure function of integers; formulas and defaults with their reasons in `docs/judge.md`.
//!
//! - **Missing evidence is a hold**, never a pass and never a failure.
//! - It may be asked at any time and as often as one likes: every test behind it holds at all times at once.
//! - Evidence is kept over the steps of a release and never reset in between: that would spend the chance of a false alarm anew.
//!
//! ```
//! use strangler_core::judge::{Decision, Evidence, Gates, Reason, judge};
//!
//! let evidence: Evidence = serde_json::from_str(
//!     r#"{"stages": [{"step": "5%", "weight": 0.05,
//!         "extracted": {"units": 2000, "errors": 60}, "legacy": {"units": 38000, "errors": 190}}]}"#,
//! )?;
//! let verdict = judge(&Gates::by_default(), &evidence);
//! assert_eq!((verdict.verdict, verdict.reason), (Decision::RollBack, Reason::Errors));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod budget;
mod errors;
pub mod evidence;
pub mod gates;
pub mod hard;
pub mod interval;
pub mod ladder;
mod latency;
pub mod late;
pub mod many;
mod numbers;
mod others;
pub mod points;
pub mod price;
mod rates;
pub mod ratio;
pub mod share;
pub mod simulate;
pub mod verdict;
pub mod words;

use std::collections::BTreeMap;

pub use crate::judge::evidence::Evidence;
pub use crate::judge::gates::{GateName, Gates};
pub use crate::judge::verdict::{Decision, FORMULA_VERSION, GateReport, Reason, SplitReport, State, Verdict};

use crate::judge::evidence::Split;
use crate::judge::interval::Interval;
use crate::judge::numbers::{count_up, real};
use crate::judge::points::Points;
use crate::judge::rates::ERRORS;
use crate::weight::Weight;

/// Longest time at a step, after which it is said that it cannot conclude: 7 days, in seconds.
pub const STAGE_S_MAX: u64 = 7 * 24 * 60 * 60;
/// How often legacy's drift may be seen wrongly, at either end of the two intervals.
const DRIFT_ALPHA: f64 = 0.001;

/// Judges, and forecasts what open gates need.
pub fn judge(gates: &Gates, evidence: &Evidence) -> Verdict {
    decide(gates, evidence, true)
}

/// Judges alone: what is needed to move a weight, at a tenth of the time.
pub fn judge_without_forecast(gates: &Gates, evidence: &Evidence) -> Verdict {
    decide(gates, evidence, false)
}

/// What is judged.
struct Case<'a> {
    gates: &'a Gates,
    evidence: &'a Evidence,
    step: Option<Weight>,
    wants_forecast: bool,
}

impl Case<'_> {
    /// How long so many more units take, where so many came in the seconds of the judged step.
    fn eta_s(&self, needed: Option<u64>, units: f64) -> Option<u64> {
        let seconds = self.evidence.judged_stage().seconds;
        let needed = needed.filter(|_| seconds > 0 && units > 0.0)?;
        Some(count_up(real(needed) * real(seconds) / units))
    }

    /// The part of legacy's units that failed before the first user was moved.
    fn rate_before(&self) -> Option<f64> {
        let before = self.evidence.before;
        (before.units > 0).then(|| real(before.errors) / real(before.units))
    }
}

fn decide(gates: &Gates, evidence: &Evidence, wants_forecast: bool) -> Verdict {
    let case = Case { gates, evidence, step: evidence.judged_step(), wants_forecast };
    let reports = reports(&case);
    let assignments = split(evidence, |stage| stage.assignments);
    let completions = split(evidence, |stage| stage.completions);
    let (verdict, reason, why) = conclude(&case, &reports, assignments, completions);
    Verdict {
        verdict,
        reason,
        why,
        gates: reports,
        assignments: assignments.map(|(report, _)| report),
        completions: completions.map(|(report, _)| report),
        formula_version: FORMULA_VERSION,
        by: gates.clone(),
        on: evidence.clone(),
    }
}

fn reports(case: &Case<'_>) -> BTreeMap<GateName, GateReport> {
    let gates = case.gates;
    let one = |name: GateName| match name {
        GateName::Errors => gates.errors.map(|gate| errors::report(case, gate.worse_by)),
        GateName::Latency => gates.latency.map(|gate| latency::report(case, gate)),
        GateName::Mismatch => gates.mismatch.map(|gate| others::mismatch(case, gate)),
        GateName::Coverage => gates.coverage.map(|gate| others::coverage(case, gate)),
        GateName::Prometheus => (!gates.prometheus.is_empty()).then(|| others::prometheus(case)),
        GateName::Slo => gates.slo.map(|gate| others::slo(case, gate)),
    };
    let known = |name: GateName| match gates.not_applicable.get(&name) {
        Some(why) => Some(GateReport::new(State::NotApplicable, why.clone())),
        None => one(name),
    };
    GateName::ALL.into_iter().filter_map(|name| known(name).map(|report| (name, report))).collect()
}

type Conclusion = (Decision, Reason, String);
/// A split, and whether extracted has less than its share.
type Checked = Option<(SplitReport, bool)>;

/// The first of these that is so. What is in the way of believing the counts comes first, then harm, then what is in the way of a raise.
fn conclude(
    case: &Case<'_>,
    reports: &BTreeMap<GateName, GateReport>,
    assignments: Checked,
    completions: Checked,
) -> Conclusion {
    let is_off = |checked: Checked| checked.is_some_and(|(report, _)| report.is_alarm);
    let hold = |reason: Reason, why: &str| (Decision::Hold, reason, why.to_owned());
    if is_off(assignments) {
        return hold(Reason::Srm, "units are not split as the weight says: no count of theirs can be trusted");
    }
    // Extracted that hangs completes less than its share, and so has fewer failures counted, not more: harm that shows all the same is real.
    if is_off(completions) && !completions.is_some_and(|(_, is_less)| is_less) {
        return hold(
            Reason::Srm,
            "more answers of extracted come to an end than the weight says: counts cannot be trusted",
        );
    }
    if let Some(failed) = reports.values().find(|report| report.state == State::Failed) {
        return (Decision::RollBack, failed.reason, failed.why.clone());
    }
    if is_off(completions) {
        return hold(Reason::Srm, "fewer answers of extracted come to an end than the weight says: does it hang?");
    }
    if let Some(why) = contamination(case) {
        return (Decision::Hold, Reason::Contaminated, why);
    }
    if case.evidence.late_alarms > 0 {
        return hold(Reason::LateRegression, "failures have begun to come more often from extracted than before");
    }
    let open = || reports.iter().filter(|(_, report)| report.state == State::Open);
    // By what a person would do about it: a veto, a decision, a missing comparison, and only then more time.
    if let Some((name, first)) = open().min_by_key(|(_, report)| report.reason) {
        let is_starved = |report: &GateReport| report.eta_s.is_some_and(|eta_s| eta_s > STAGE_S_MAX);
        if first.reason == Reason::Insufficient && open().any(|(_, report)| is_starved(report)) {
            return hold(Reason::Starved, "at this traffic a gate cannot conclude within 7 days");
        }
        return (Decision::Hold, first.reason, format!("{}: {}", name.as_str(), first.why));
    }
    match case.step {
        // What may only veto proves nothing.
        _ if reports.iter().any(|(name, report)| *name != GateName::Prometheus && report.state == State::Passed) => {
            (Decision::Promote, Reason::Proven, "every gate is passed".to_owned())
        }
        Some(Weight::NONE) if !reports.is_empty() => {
            (Decision::Promote, Reason::NothingDemanded, "no gate applies to this step".to_owned())
        }
        _ => hold(Reason::Insufficient, "no gate can be judged here, so nothing is proven"),
    }
}

/// The worst of all steps: a step that was split wrongly stands in the evidence.
fn split(evidence: &Evidence, of: impl Fn(&evidence::StageEvidence) -> Split) -> Checked {
    let stages = evidence.stages.iter().map(|(weight, stage)| (*weight, of(stage)));
    let given = stages.filter(|(weight, split)| weight.is_split() && split.extracted + split.legacy > 0);
    let checked = given.map(|(weight, split)| {
        let log_e = share::ln_e_imbalance(weight, split.extracted, split.legacy);
        let all = real(split.extracted) + real(split.legacy);
        let report = SplitReport { log_e, p: f64::min(1.0, (-log_e).exp()), is_alarm: log_e >= share::LN_ALARM };
        (report, real(split.extracted) < all * weight.ratio())
    });
    checked.max_by(|(one, _), (other, _)| one.log_e.total_cmp(&other.log_e))
}

/// Whether legacy is worse than it was alone, or misses the objective itself. A service that hurts what both share is no worse than legacy
/// at the same time, so no comparison of the two shows it. This is one of two times, not of two arms, so it holds and never rolls back.
fn contamination(case: &Case<'_>) -> Option<String> {
    let step = case.step.filter(|step| step.is_split())?;
    let (hits, of) = ERRORS.counted(step, &case.evidence.judged_stage().whole()).legacy;
    let now = Interval::of(hits, of, DRIFT_ALPHA);
    if let Some(slo) = case.gates.slo.filter(|slo| now.low > slo.budget()) {
        let why = format!(
            "legacy fails in {} of its units: it misses the objective of {} itself",
            words::percent(hits / of),
            slo.success
        );
        return Some(why);
    }
    let before = case.evidence.before;
    let then = Interval::of(real(before.errors), real(before.units), DRIFT_ALPHA);
    let margin = case.gates.errors.map_or(Points::by_schedule(step), |gate| gate.margin(step));
    (before.units > 0 && now.low - then.high > margin.ratio()).then(|| {
        let (now, then) = (words::percent(hits / of), words::percent(real(before.errors) / real(before.units)));
        format!("legacy fails in {now} of its units, {then} before the first user was moved: does extracted hurt what both share?")
    })
}

/// The part of legacy's units that failed while users were split; `None`: there were none.
pub fn legacy_failures(evidence: &Evidence) -> Option<f64> {
    rates::legacy_rate(&rates::ERRORS.settled(evidence))
}

#[cfg(test)]
mod tests;
