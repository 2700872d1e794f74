//! Whether a share keeps within a budget that was declared: mismatches among comparisons, failures against an objective.

use crate::judge::numbers::{ln_mean_exp, times};
use crate::judge::ratio::MORE;

/// The largest share that is held against what was seen.
const SHARE_MAX: f64 = 0.99;

/// The logarithm of the evidence that the share is above `budget`.
pub fn ln_e_above(hits: f64, of: f64, budget: f64) -> f64 {
    ln_mean_exp(MORE.iter().map(|g| ln_likelihood_ratio(hits, of, budget, f64::min(SHARE_MAX, budget * g))))
}

/// The logarithm of the evidence that the share is below `budget`.
pub fn ln_e_below(hits: f64, of: f64, budget: f64) -> f64 {
    ln_mean_exp(MORE.iter().map(|g| ln_likelihood_ratio(hits, of, budget, budget / g)))
}

fn ln_likelihood_ratio(hits: f64, of: f64, budget: f64, share: f64) -> f64 {
    times(hits, (share / budget).ln()) + times(of - hits, (-share).ln_1p() - (-budget).ln_1p())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mismatches, comparisons, the evidence above and below a budget of 0.1 %.
    const REFERENCE: [(f64, f64, f64, f64); 10] = [
        (0.0, 1_000.0, -1.552_707_082, 0.739_201_685),
        (0.0, 3_692.0, -2.742_275_74, 2.996_311_794),
        (0.0, 5_000.0, -3.178_954_74, 4.174_933_122),
        (0.0, 10_000.0, -4.620_906_278, 8.864_612_457),
        (1.0, 1_000.0, -1.060_749_367, -0.743_030_177),
        (3.0, 1_000.0, 0.335_647_095, -1.906_970_948),
        (5.0, 1_000.0, 2.605_890_857, -2.637_948_64),
        (8.0, 1_000.0, 7.758_495_73, -3.522_728_584),
        (5.0, 5_000.0, -1.653_068_912, -1.454_462_83),
        (20.0, 10_000.0, 2.241_376_021, -4.566_583_411),
    ];

    #[test]
    fn evidence_is_that_of_the_reference() {
        for (hits, of, above, below) in REFERENCE {
            let got = (ln_e_above(hits, of, 0.001), ln_e_below(hits, of, 0.001));
            assert!((got.0 - above).abs() < 1e-9 && (got.1 - below).abs() < 1e-9, "{hits} of {of}: {got:?}");
        }
        assert_eq!((ln_e_above(0.0, 0.0, 0.001), ln_e_below(0.0, 0.0, 0.001)), (0.0, 0.0));
    }

    #[test]
    fn without_a_mismatch_a_budget_has_its_price() {
        for (budget, needed) in [(0.001, 3_692.0), (0.01, 368.0), (0.000_1, 36_932.0)] {
            let passes = |of: f64| ln_e_below(0.0, of, budget) >= 20f64.ln();
            assert!(passes(needed) && !passes(needed - 1.0), "{budget}");
        }
    }
}
