//! What a gate costs before it starts: how many requests at a weight, and how long that takes.
//!
//! As the gates are judged: both sides fail (are slow, mismatch) at one and the same rate, and counts are what is expected. Chance makes half of all
//! runs longer than that.

use crate::judge::errors;
use crate::judge::evidence::{Evidence, Pair, StageEvidence};
use crate::judge::gates::{GateName, Gates, LatencyGate};
use crate::judge::latency;
use crate::judge::numbers::{count_up, real};
use crate::judge::others::mismatch_needs;
use crate::judge::points::Points;
use crate::judge::rates::{ERRORS, SLOW, legacy_rate};
use crate::weight::Weight;

/// A gate whose price is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Priced {
    /// Failures: non-inferior by so much, where both sides fail in this part of their units.
    Errors {
        /// What is tolerated.
        margin: Points,
        /// Part of the units that fail on either side; 0: none does.
        rate: f64,
    },
    /// Slow answers: p50 and p95, as is demanded from 10 % on.
    Latency(LatencyGate),
    /// Mismatches: no more than this part, where none is found.
    Mismatch {
        /// Part of the comparisons.
        at_most: Weight,
    },
}

/// What it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Requests that extracted has to answer; for mismatches: comparisons.
    pub requests: u64,
    /// How long that takes, in seconds, at the traffic that was named.
    pub seconds: Option<u64>,
}

/// The price of a gate at a weight, where `rps` units come to the route in a second (for mismatches: are compared). `None`: at no price, as where all or
/// none are extracted's, or where more fail than can be told from what is tolerated.
pub fn price(gate: Priced, weight: Weight, rps: Option<f64>) -> Option<Price> {
    let nothing = Pair::default();
    let (requests, share) = match gate {
        Priced::Mismatch { at_most } => (mismatch_needs(0.0, 0.0, at_most.ratio())?, 1.0),
        _ if !weight.is_split() => return None,
        Priced::Errors { margin, rate } => {
            let here = ERRORS.counted(weight, &nothing);
            (errors::needs(&[], &here, rate.clamp(0.0, 1.0), margin)?, weight.ratio())
        }
        Priced::Latency(gate) => {
            let one =
                |(_, share): &(&str, f64)| latency::needs(&[SLOW[0].counted(weight, &nothing)], weight, *share, gate);
            let both: Option<Vec<u64>> = latency::QUANTILES.iter().take(2).map(one).collect();
            (both?.into_iter().max()?, weight.ratio())
        }
    };
    let rate = rps.map(|rps| rps * share).filter(|rate| *rate > 0.0);
    Some(Price { requests, seconds: rate.map(|rate| count_up(real(requests) / rate)) })
}

/// What is known of the traffic of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// New units in a second, both sides; `None`: not known yet.
    pub rps: Option<f64>,
    /// Part of legacy's units that fail.
    pub failures: f64,
}

impl Rates {
    /// As measured at the judged step; of the whole rollout where that one has just begun.
    pub fn of(evidence: &Evidence) -> Rates {
        let rate = |(weight, stage): (&Weight, &StageEvidence)| {
            let pair = stage.here();
            let alone = if *weight == Weight::NONE { evidence.before.units } else { 0 };
            let units = pair.extracted.units + pair.legacy.units + alone;
            (stage.seconds >= MEASURED_S && units > 0).then(|| real(units) / real(stage.seconds))
        };
        let here = evidence.stages.get_key_value(&evidence.step.unwrap_or_default()).and_then(rate);
        let any = || evidence.stages.iter().rev().find_map(rate);
        Rates {
            rps: here.or_else(any),
            failures: legacy_rate(&ERRORS.settled(evidence)).unwrap_or_else(|| {
                if evidence.before.units > 0 { real(evidence.before.errors) / real(evidence.before.units) } else { 0.0 }
            }),
        }
    }
}

/// How long a traffic is measured before it is believed, in seconds.
const MEASURED_S: u64 = 30;

/// The gate that takes longest at a weight, with the requests it takes of extracted and the time in seconds; `None`: there is none that
/// can be had, or at no price.
pub fn dearest(gates: &Gates, weight: Weight, failures: f64, rps: f64) -> Option<(&'static str, u64, u64)> {
    let errors =
        gates.errors.map(|gate| (GateName::Errors, Priced::Errors { margin: gate.margin(weight), rate: failures }));
    // Below that, no harm is enough.
    let is_timed = weight.basis_points() >= latency::PROVEN_FROM;
    let latency = gates.latency.filter(|_| is_timed).map(|gate| (GateName::Latency, Priced::Latency(gate)));
    let prices = [errors, latency].into_iter().flatten().filter_map(|(name, gate)| {
        let Price { requests, seconds } = price(gate, weight, Some(rps))?;
        Some((name.as_str(), requests, seconds?))
    });
    prices.max_by_key(|(_, _, seconds)| *seconds)
}

/// How long `count` takes at `rate` a second, in whole seconds; for ever where there is no rate.
pub fn count_up_s(count: u64, rate: f64) -> u64 {
    if rate > 0.0 { count_up(real(count) / rate) } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::interval::Interval;

    fn errors(margin: &str, rate: f64, weight: &str, rps: f64) -> (u64, u64) {
        let gate = Priced::Errors { margin: margin.parse().expect("points"), rate };
        let price = price(gate, weight.parse().expect("a weight"), Some(rps)).expect("a price");
        (price.requests, price.seconds.expect("a time"))
    }

    #[test]
    fn without_a_failure_a_margin_has_the_price_of_one_interval() {
        assert_eq!(errors("1pp", 0.0, "1%", 5.0), (828, 16_560));
        assert_eq!(errors("0.5pp", 0.0, "25%", 5.0).0, 1_733);
        assert_eq!(errors("2pp", 0.0, "1%", 5.0).0, 394);
    }

    #[test]
    fn with_failures_both_sides_have_to_be_known() {
        // Were legacy's rate known beforehand, one interval would do: this is what is left of the price then.
        let alone =
            (1u32..1_000_000).map(f64::from).find(|n| Interval::high_of(n * 0.005, *n, 0.0125) <= 0.015).expect("some");
        assert!((1_816.0..1_840.0).contains(&alone), "{alone}");
        // It is not: 19 (3, 1) units of legacy for each of extracted's know it only so well.
        assert_eq!(errors("1pp", 0.005, "1%", 5.0).0, 2_057);
        assert_eq!(errors("1pp", 0.005, "5%", 5.0).0, 2_317);
        assert_eq!(errors("1pp", 0.005, "25%", 5.0).0, 2_958);
    }

    #[test]
    fn where_failures_are_frequent_the_relative_test_is_the_cheaper_one() {
        let (few, many) = (errors("0.5pp", 0.01, "50%", 5.0).0, errors("0.5pp", 0.1, "50%", 5.0).0);
        assert!(many < few / 5, "{few}, {many}");
    }

    #[test]
    fn times_have_their_prices_too() {
        let gate = Priced::Latency(LatencyGate::default());
        let at = |weight: &str| price(gate, weight.parse().expect("a weight"), Some(5.0)).map(|price| price.requests);
        assert!(at("10%").is_some_and(|requests| (1_000..10_000).contains(&requests)), "{:?}", at("10%"));
        assert_eq!((at("0%"), at("100%")), (None, None));
        let gate = Priced::Mismatch { at_most: "0.1%".parse().expect("a share") };
        let in_shadow = price(gate, Weight::NONE, Some(2.0));
        assert_eq!(in_shadow, Some(Price { requests: 3_692, seconds: Some(1_846) }));
    }
}
