//! The gates beside failures and times: mismatches, coverage, another system's queries, an objective without legacy.

use crate::judge::Case;
use crate::judge::budget::{ln_e_above, ln_e_below};
use crate::judge::errors::{FORECAST_MAX, LN_PASS};
use crate::judge::evidence::External;
use crate::judge::gates::{CoverageGate, MismatchGate, Slo};
use crate::judge::numbers::{least, real};
use crate::judge::rates::{ERRORS, EVENTS_MIN};
use crate::judge::verdict::{GateReport, Reason, State};
use crate::judge::words;
use crate::weight::Weight;

/// Evidence of too many mismatches at which it is rolled back: 1 / 0.002.
const LN_MISMATCH: f64 = 6.214_608_098_422_191;
/// Evidence of few enough at which it passes.
const LN_MATCH: f64 = 2.995_732_273_553_991;
/// Evidence of a missed objective at which it is rolled back; as for errors, whose place it takes.
const LN_MISSED: f64 = 5.298_317_366_548_036;

pub(in crate::judge) fn mismatch(case: &Case<'_>, gate: MismatchGate) -> GateReport {
    let (hits, of) = (real(case.evidence.comparisons.mismatched), real(case.evidence.comparisons.compared));
    let budget = gate.at_most.ratio();
    // What came at once is one event: while a service restarts each copy to it fails. It proves no match either.
    let burst = real(case.evidence.comparisons.burst).min(hits);
    let (above, below) = (ln_e_above(hits - burst, of - burst, budget), ln_e_below(hits, of, budget));
    let report = |state, why: String| {
        let rate = (of > 0.0).then(|| hits / of);
        GateReport::new(state, why).evidence(above, below).number("margin", budget).number("rate", rate)
    };
    if above >= LN_MISMATCH && hits - burst >= EVENTS_MIN {
        let why = format!("{hits} of {of} comparisons mismatch, more than {}", gate.at_most);
        return report(State::Failed, why).because(Reason::Mismatch);
    }
    if below >= LN_MATCH {
        return report(State::Passed, format!("fewer than {} of the comparisons mismatch", gate.at_most));
    }
    let mut open = report(State::Open, String::new());
    if case.wants_forecast {
        open.needs_requests = mismatch_needs(hits, of, budget);
    }
    open.why = match open.needs_requests {
        Some(needed) => format!("waits for {} more comparisons, if none of them mismatches", words::count(needed)),
        None => format!("not proven that fewer than {} of the comparisons mismatch", gate.at_most),
    };
    open
}

/// Further comparisons without a mismatch until it passes.
pub(in crate::judge) fn mismatch_needs(hits: f64, of: f64, budget: f64) -> Option<u64> {
    least(FORECAST_MAX, |more| ln_e_below(hits, of + more, budget) >= LN_MATCH)
}

pub(in crate::judge) fn coverage(case: &Case<'_>, gate: CoverageGate) -> GateReport {
    match case.evidence.coverage {
        None => GateReport::new(State::Open, "what has been compared is not known").because(Reason::Coverage),
        Some(result) if result.passed => {
            GateReport::new(State::Passed, format!("all that matters has been compared {} times", gate.min_each))
        }
        Some(result) => {
            let what = if result.missing == 1 { "thing has" } else { "things have" };
            let why = format!("{} {what} been compared fewer than {} times", result.missing.max(1), gate.min_each);
            GateReport::new(State::Open, why).because(Reason::Coverage)
        }
    }
}

pub(in crate::judge) fn prometheus(case: &Case<'_>) -> GateReport {
    if case.step == Some(Weight::NONE) {
        return GateReport::new(State::NotApplicable, "no user is on extracted yet");
    }
    let words = |usual: &str| case.evidence.external_why.clone().unwrap_or_else(|| usual.to_owned());
    match case.evidence.external {
        Some(External::Met) => GateReport::new(State::Passed, "no query exceeds its limit"),
        Some(External::Exceeded) => {
            GateReport::new(State::Open, words("a query exceeds its limit")).because(Reason::ExternalVeto)
        }
        Some(External::NoData) => {
            GateReport::new(State::Open, words("a query says nothing")).because(Reason::ExternalNoData)
        }
        None => GateReport::new(State::Open, "no query has been asked").because(Reason::ExternalNoData),
    }
}

/// Only where there is no legacy side: before that, legacy is the better measure.
pub(in crate::judge) fn slo(case: &Case<'_>, gate: Slo) -> GateReport {
    let stage = case.evidence.stages.get(&Weight::ALL).copied().unwrap_or_default();
    let pair = |pair| ERRORS.counted(Weight::ALL, &pair).extracted;
    let ((all_hits, all), (hits, of)) = (pair(stage.whole()), pair(stage.settled()));
    let (above, below) = (ln_e_above(all_hits, all, gate.budget()), ln_e_below(hits, of, gate.budget()));
    let report = |state, why: String| {
        let rate = (all > 0.0).then(|| all_hits / all);
        GateReport::new(state, why).evidence(above, below).number("margin", gate.budget()).number("rate", rate)
    };
    if above >= LN_MISSED && all_hits >= EVENTS_MIN {
        let why = format!("{all_hits} of {all} units failed: fewer than {} succeed", gate.success);
        return report(State::Failed, why).because(Reason::Slo);
    }
    if case.step != Some(Weight::ALL) {
        return report(State::NotApplicable, "legacy is still there to hold extracted against".to_owned());
    }
    if below >= LN_PASS {
        return report(State::Passed, format!("more than {} succeed", gate.success));
    }
    let mut open = report(State::Open, String::new());
    if case.wants_forecast {
        open.needs_requests = least(FORECAST_MAX, |more| ln_e_below(hits, of + more, gate.budget()) >= LN_PASS);
        open.eta_s = case.eta_s(open.needs_requests, of);
    }
    open.why = match open.needs_requests {
        Some(needed) => format!("{}, if none of them fails", words::needs(needed, open.eta_s)),
        None => format!("not proven that {} succeed", gate.success),
    };
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_that_are_declared() {
        for (threshold, e) in [(LN_MISMATCH, 500.0f64), (LN_MATCH, 20.0), (LN_MISSED, 200.0)] {
            assert!((threshold - e.ln()).abs() < 1e-15, "{e}");
        }
    }
}
