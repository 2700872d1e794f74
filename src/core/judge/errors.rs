//! The errors gate: extracted may not fail more than legacy does at the same time, by more than was declared.

use crate::judge::Case;
use crate::judge::interval::Interval;
use crate::judge::numbers::{least, ln_mean_exp};
use crate::judge::points::Points;
use crate::judge::rates::{
    Counted, ERRORS, EVENTS_MIN, Excess, Harm, REDIRECTS, REFUSALS, events, hits, legacy_rate, without_bursts,
};
use crate::judge::ratio::{Events, ln_e_less, ln_e_more};
use crate::judge::verdict::{GateReport, Reason, State};
use crate::judge::words;
use crate::weight::Weight;

/// Evidence of harm at which it is rolled back: a chance of 0.005 of 0.01 in all.
const LN_HARM: f64 = 5.298_317_366_548_036;
/// Evidence that extracted is not worse, at which it passes.
pub(in crate::judge) const LN_PASS: f64 = 3.688_879_454_113_936;
/// How often each end of the two intervals may be wrong: together as often as [`LN_PASS`].
pub(in crate::judge) const END_ALPHA: f64 = 0.0125;
/// How much more often extracted may fail relatively, and pass.
pub(in crate::judge) const RELATIVE_MARGIN: f64 = 0.5;
/// Largest number that is forecast.
pub(in crate::judge) const FORECAST_MAX: u64 = 1 << 40;

/// What evidence of each kind weighs in the whole where status classes are taken: a mean of e-values is one, however they depend on each
/// other. Failures keep nine tenths, since they are what most regressions are; a service that answers 402 to everything is found by a
/// twentieth as surely, a few requests later.
const FAILURES_PART: usize = 18;
const CLASS_PART: usize = 1;

pub(in crate::judge) fn report(case: &Case<'_>, worse_by: Option<Points>) -> GateReport {
    let Some(step) = case.step else {
        return GateReport::new(State::Open, "nothing has been seen yet").evidence(0.0, 0.0);
    };
    let margin = worse_by.unwrap_or(Points::by_schedule(step));
    let failures = Kind::of(case, ERRORS, FAILS);
    let mut kinds = vec![failures];
    // Whether classes are taken is a matter of how the evidence was collected, not of what was seen.
    if case.evidence.stages.values().any(|stage| stage.whole().extracted.classed + stage.whole().legacy.classed > 0) {
        kinds.push(Kind::of(case, REFUSALS, "answers 4xx"));
        kinds.push(Kind::of(case, REDIRECTS, "redirects"));
    }
    let parts = kinds.iter().zip([FAILURES_PART, CLASS_PART, CLASS_PART]);
    let shares: Vec<f64> = match kinds.as_slice() {
        [only] => vec![only.harm],
        _ => parts.flat_map(|(kind, part)| std::iter::repeat_n(kind.harm, part)).collect(),
    };
    let harm = ln_mean_exp(shares.iter().copied());

    let settled = ERRORS.settled(case.evidence);
    let less = ln_e_less(&events(&settled), 1.0 + RELATIVE_MARGIN);
    let here = ERRORS.counted(step, &case.evidence.judged_stage().here());
    let absolute = kinds.first().and_then(|failures| failures.absolute);
    let report = |state, why: String| {
        let report = GateReport::new(state, why).evidence(harm, less).number("margin", margin.ratio());
        let report = kinds.iter().fold(report, |report, kind| kind.numbers(report));
        report
            .number("highest_extracted", absolute.map(|one| one.highest))
            .number("lowest_legacy", absolute.map(|one| one.lowest))
    };

    // A mean reaches the threshold only where one of them does: that one says by how much.
    let reached: Vec<&Kind> = kinds.iter().filter(|kind| harm >= LN_HARM && kind.harm >= LN_HARM).collect();
    if let Some(kind) = reached.iter().find(|kind| kind.is_beyond(margin)) {
        let why = format!("extracted {} more often than legacy, beyond {margin}: {}", kind.does, kind.words());
        return report(State::Failed, why).because(Reason::Errors);
    }
    if !step.is_split() {
        return report(State::NotApplicable, not_here(step, case.gates.slo.is_some()));
    }
    // What was declared tolerable is, once it is proven to be no more than that. Nobody has declared the schedule.
    let is_tolerated = worse_by.is_some() && reached.iter().all(|kind| kind.is_within(margin));
    let worse = reached.iter().find(|kind| kind.hits >= EVENTS_MIN && kind.excess.is_some());
    if let Some(kind) = worse.filter(|_| !is_tolerated) {
        let why = format!(
            "extracted {} more often than legacy, and not beyond {margin}: {}; {}",
            kind.does,
            kind.words(),
            if worse_by.is_some() {
                "not proven to be within it"
            } else {
                "a person decides, or `worse_by` says what is tolerated"
            }
        );
        return report(State::Open, why).because(Reason::WithinMargin);
    }
    let shifted = kinds.iter().skip(1).find(|kind| kind.excess.is_some_and(|it| it.difference() > margin.ratio()));
    // Without a unit of both sides at this step nothing is proven of it, whatever the steps before have shown.
    let is_passed = absolute.is_some_and(|one| less >= LN_PASS || one.worst() <= margin.ratio());
    if let (true, Some(kind)) = (is_passed, shifted) {
        return report(
            State::Open,
            format!("extracted {} more often than legacy, not surely: {}", kind.does, kind.words()),
        );
    }
    if is_passed {
        let why = match worse {
            Some(kind) => {
                format!(
                    "extracted {} more often than legacy, by less than the declared {margin}: {}",
                    kind.does,
                    kind.words()
                )
            }
            None => format!("extracted fails no more than legacy, within {margin}"),
        };
        return report(State::Passed, why);
    }
    let mut open = report(State::Open, String::new());
    let has_units = here.extracted.1 > 0.0 || hits(&settled) <= 0.0;
    if case.wants_forecast && has_units {
        let rate = legacy_rate(&settled).or_else(|| case.rate_before()).unwrap_or(0.0);
        open.needs_requests = needs(&settled, &here, rate, margin);
        open.eta_s = case.eta_s(open.needs_requests, here.extracted.1);
    }
    open.why = match open.needs_requests {
        _ if !has_units => "how many units there were is missing (`units`)".to_owned(),
        Some(needed) => format!("{}, if it fails as often as legacy", words::needs(needed, open.eta_s)),
        None => format!("not proven to fail no more than legacy, within {margin}"),
    };
    open
}

fn not_here(step: Weight, has_slo: bool) -> String {
    match (step == Weight::NONE, has_slo) {
        (true, _) => "no user is on extracted yet",
        (false, true) => "there is no legacy side at 100% to hold it against; the objective (`slo`) is what counts",
        (false, false) => {
            "there is no legacy side at 100% to hold it against; write an objective (`slo: {success: 99.9%}`)"
        }
    }
    .to_owned()
}

const FAILS: &str = "fails";

/// One kind of harm, over all weights.
struct Kind {
    does: &'static str,
    harm: f64,
    hits: f64,
    excess: Option<Excess>,
    /// How much worse it can be at the judged step.
    absolute: Option<Absolute>,
}

impl Kind {
    fn of(case: &Case<'_>, harm: Harm, does: &'static str) -> Kind {
        let mut against = harm.against(case.evidence);
        if does == FAILS {
            without_bursts(&mut against, case.evidence);
        }
        let stage = case.evidence.judged_stage();
        // Classes are counted once in a release alone, failures at every step by itself, too.
        let here = if does == FAILS { stage.here() } else { stage.settled() };
        let absolute = case.step.and_then(|step| Absolute::of(&harm.counted(step, &here)));
        Kind {
            does,
            harm: ln_e_more(&events(&against), 1.0),
            hits: hits(&against),
            excess: Excess::of(&against),
            absolute,
        }
    }

    fn is_within(&self, margin: Points) -> bool {
        self.absolute.is_some_and(|one| one.worst() <= margin.ratio())
    }

    fn is_beyond(&self, margin: Points) -> bool {
        self.hits >= EVENTS_MIN && self.excess.is_some_and(|excess| excess.is_beyond(margin.ratio()))
    }

    fn words(&self) -> String {
        let Some(excess) = self.excess else { return format!("{} of extracted's units", self.hits) };
        format!("{} where legacy has {}", words::percent(excess.rate), words::percent(excess.expected))
    }

    fn numbers(&self, report: GateReport) -> GateReport {
        let [log_e, rate, expected] = match self.does {
            FAILS => ["log_e_failures", "rate_extracted", "rate_legacy"],
            "redirects" => ["log_e_3xx", "rate_3xx_extracted", "rate_3xx_legacy"],
            _ => ["log_e_4xx", "rate_4xx_extracted", "rate_4xx_legacy"],
        };
        report
            .number(log_e, self.harm)
            .number(rate, self.excess.map(|excess| excess.rate))
            .number(expected, self.excess.map(|excess| excess.expected))
    }
}

/// How much worse extracted can be, by a confidence sequence of either side.
///
/// Of the judged step alone: there both sides were asked at the same time with the same weight. Over several steps the two sides spend their
/// units at different times, and a legacy that had a bad hour while few users were moved would excuse extracted later (Simpson). Nothing is spent on
/// it: a worse release would have to be passed wrongly at every step.
#[derive(Clone, Copy)]
pub(in crate::judge) struct Absolute {
    highest: f64,
    lowest: f64,
}

impl Absolute {
    /// `None`: a side has no units.
    pub(in crate::judge) fn of(counted: &Counted) -> Option<Absolute> {
        let ((extracted_hits, extracted), (legacy_hits, legacy)) = (counted.extracted, counted.legacy);
        (extracted > 0.0 && legacy > 0.0).then(|| Absolute {
            highest: Interval::high_of(extracted_hits, extracted, END_ALPHA),
            lowest: Interval::of(legacy_hits, legacy, END_ALPHA).low,
        })
    }

    pub(in crate::judge) fn worst(self) -> f64 {
        self.highest - self.lowest
    }
}

/// Further units of extracted until either test passes, where both sides fail at that rate from now on.
pub(in crate::judge) fn needs(settled: &[Counted], here: &Counted, rate: f64, margin: Points) -> Option<u64> {
    let weight = here.weight.ratio();
    let beside = (1.0 - weight) / weight;
    least(FORECAST_MAX, |more| {
        let mut then = *here;
        then.extracted.0 += more * rate;
        then.extracted.1 += more;
        then.legacy.0 += more * beside * rate;
        then.legacy.1 += more * beside;
        if Absolute::of(&then).is_some_and(|one| one.worst() <= margin.ratio()) {
            return true;
        }
        let mut all = events(settled);
        all.push(Events { weight, extracted: more * rate, legacy: more * beside * rate });
        ln_e_less(&all, 1.0 + RELATIVE_MARGIN) >= LN_PASS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_that_are_declared() {
        assert!((LN_HARM - 200f64.ln()).abs() < 1e-15 && (LN_PASS - 40f64.ln()).abs() < 1e-15);
        assert_eq!(FAILURES_PART + 2 * CLASS_PART, 20);
    }
}
