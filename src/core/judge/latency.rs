//! The latency gate: no more of extracted's answers may be slow than of legacy's, by legacy's own quantiles.

use crate::judge::Case;
use crate::judge::errors::FORECAST_MAX;
use crate::judge::errors::LN_PASS;
use crate::judge::gates::LatencyGate;
use crate::judge::numbers::{least, ln_mean_exp};
use crate::judge::rates::{Counted, EVENTS_MIN, Excess, SLOW, events, hits, legacy_rate, without_bursts};
use crate::judge::ratio::{Events, ln_e_less, ln_e_more};
use crate::judge::verdict::{GateReport, Reason, State};
use crate::judge::words;
use crate::weight::Weight;

/// Evidence of harm at which it is rolled back: 1 / 0.003.
const LN_HARM: f64 = 5.809_142_990_314_028;
/// The weight from which on it must be proven that extracted is no slower. Below, that would take days and nobody is hurt much: there it is enough
/// that no harm is proven.
pub(in crate::judge) const PROVEN_FROM: u16 = 1_000;
/// What the quantiles are called, and how many of legacy's answers are above each.
pub(in crate::judge) const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.05), ("p99", 0.01)];

pub(in crate::judge) fn report(case: &Case<'_>, gate: LatencyGate) -> GateReport {
    let Some(step) = case.step else {
        return GateReport::new(State::Open, "nothing has been seen yet").evidence(0.0, 0.0);
    };
    let kinds = SLOW.map(|slow| {
        // Who was not answered was not answered fast, either.
        let mut against = slow.against(case.evidence);
        without_bursts(&mut against, case.evidence);
        let harm = ln_e_more(&events(&against), 1.0);
        (harm, hits(&against), Excess::of(&against))
    });
    let harm = ln_mean_exp(kinds.iter().map(|(harm, ..)| *harm));
    let settled = SLOW.map(|slow| slow.settled(case.evidence));
    let less = settled.each_ref().map(|settled| ln_e_less(&events(settled), gate.ratio()));
    // p99 is looked at for harm alone: to prove it takes two million requests at 1 %.
    let [p50, p95, _] = less;
    let report = |state, why: String| {
        let mut report =
            GateReport::new(state, why).evidence(harm, f64::min(p50, p95)).number("margin", gate.more_slow_by.ratio());
        let names = [["log_e_harm_p50", "slow_p50"], ["log_e_harm_p95", "slow_p95"], ["log_e_harm_p99", "slow_p99"]];
        for ((harm, _, excess), [log_e, slow]) in kinds.iter().zip(names) {
            report = report.number(log_e, *harm).number(slow, excess.map(|excess| excess.rate));
        }
        report.number("log_e_pass_p50", p50).number("log_e_pass_p95", p95)
    };

    let reached = || QUANTILES.iter().zip(&kinds).filter(|(_, (one, ..))| harm >= LN_HARM && *one >= LN_HARM);
    let said = |name: &str, excess: Excess| {
        format!(
            "{} of its answers are above legacy's {name}, {} of legacy's",
            words::percent(excess.rate),
            words::percent(excess.expected)
        )
    };
    for ((name, _), (_, hits, excess)) in reached() {
        let excess = excess
            .filter(|excess| *hits >= EVENTS_MIN && excess.is_beyond(excess.expected * gate.more_slow_by.ratio()));
        if let Some(excess) = excess {
            let why = format!("extracted is slower than legacy, beyond {}: {}", gate.more_slow_by, said(name, excess));
            return report(State::Failed, why).because(Reason::Latency);
        }
    }
    if !step.is_split() {
        let why = if step == Weight::NONE { "no user is on extracted yet" } else { "there is no legacy side at 100%" };
        return report(State::NotApplicable, why.to_owned());
    }
    for ((name, _), (_, hits, excess)) in reached() {
        if let Some(excess) = excess.filter(|_| *hits >= EVENTS_MIN) {
            let why = format!(
                "extracted is slower than legacy, within the {} that are tolerated: {}; a person decides",
                gate.more_slow_by,
                said(name, excess)
            );
            return report(State::Open, why).because(Reason::WithinMargin);
        }
    }
    let here = SLOW.map(|slow| slow.counted(step, &case.evidence.judged_stage().here()));
    let [counted, ..] = &here;
    if counted.extracted.1 <= 0.0 || counted.legacy.1 <= 0.0 {
        let why =
            "no answer of both sides has been timed at this step; legacy's own quantiles come first (1,000 requests)";
        return report(State::Open, why.to_owned());
    }
    let is_proven = p50 >= LN_PASS && p95 >= LN_PASS;
    if is_proven {
        return report(State::Passed, format!("extracted is no slower than legacy, within {}", gate.more_slow_by));
    }
    if step.basis_points() < PROVEN_FROM {
        return report(State::Passed, "no harm is proven; from 10% on it must be proven that there is none".to_owned());
    }
    let mut open = report(State::Open, String::new());
    if case.wants_forecast {
        let one = |(settled, (_, share)): (&Vec<Counted>, &(&str, f64))| {
            needs(settled, step, legacy_rate(settled).unwrap_or(*share), gate)
        };
        let both: Option<Vec<u64>> = settled.iter().zip(&QUANTILES).take(2).map(one).collect();
        open.needs_requests = both.and_then(|both| both.into_iter().max());
        open.eta_s = case.eta_s(open.needs_requests, counted.extracted.1);
    }
    open.why = match open.needs_requests {
        Some(needed) => format!("{}, if it is as fast as legacy", words::needs(needed, open.eta_s)),
        None => "not proven to be no slower than legacy".to_owned(),
    };
    open
}

/// Further units of extracted until a quantile passes, where both sides are slow at that rate from now on.
pub(in crate::judge) fn needs(settled: &[Counted], step: Weight, rate: f64, gate: LatencyGate) -> Option<u64> {
    let weight = step.ratio();
    let beside = (1.0 - weight) / weight;
    let mut all = events(settled);
    all.push(Events { weight, extracted: 0.0, legacy: 0.0 });
    least(FORECAST_MAX, |more| {
        let mut then = all.clone();
        if let Some(last) = then.last_mut() {
            (last.extracted, last.legacy) = (more * rate, more * beside * rate);
        }
        ln_e_less(&then, gate.ratio()) >= LN_PASS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_the_declared_one() {
        assert!((LN_HARM - (1.0f64 / 0.003).ln()).abs() < 1e-15);
    }
}
