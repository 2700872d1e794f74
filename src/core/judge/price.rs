//! What a gate costs before it starts: how many requests at a weight, and how long that takes.
//!
//! As the gates are judged: both sides fail (are slow, mismatch) at one and the same rate, and counts are what is expected. Chance makes half of all
//! runs longer than that.

use crate::judge::errors;
use crate::judge::evidence::Pair;
use crate::judge::gates::LatencyGate;
use crate::judge::latency;
use crate::judge::numbers::{count_up, real};
use crate::judge::others::mismatch_needs;
use crate::judge::points::Points;
use crate::judge::rates::{ERRORS, SLOW};
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
                |(_, share): &(&str, f64)| latency::needs(&[SLOW[0].counted(weight, &nothing)], weight, *share, &gate);
            let both: Option<Vec<u64>> = latency::QUANTILES.iter().take(2).map(one).collect();
            (both?.into_iter().max()?, weight.ratio())
        }
    };
    let rate = rps.map(|rps| rps * share).filter(|rate| *rate > 0.0);
    Some(Price { requests, seconds: rate.map(|rate| count_up(real(requests) / rate)) })
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
        let alone = (1u32..).map(f64::from).find(|n| Interval::high_of(n * 0.005, *n, 0.0125) <= 0.015).expect("some");
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
