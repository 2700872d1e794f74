//! Whether units were split as the weight says (a sample ratio mismatch): if not, labels were no coins, and nothing that rests on them holds.
//!
//! A Dirichlet mixture against the shares that are expected (Lindon and Malek, 2020), with `k = 100`: a larger one is blind to
//! gross imbalance early on. The units are distinct keys, each once per step: requests of few busy keys are no coins.

use crate::judge::numbers::{ln_beta, real};
use crate::weight::Weight;

/// How near to the expected shares the mixture lies.
const CONCENTRATION: f64 = 100.0;
/// The evidence at which the split is said to be wrong: one in a thousand.
pub const LN_ALARM: f64 = 6.907_755_278_982_137;

/// The logarithm of the evidence that units were not split by `weight`; exactly 0 where all or none are assigned.
pub fn ln_e_imbalance(weight: Weight, extracted: u64, legacy: u64) -> f64 {
    if weight.is_split() { ln_e(CONCENTRATION, weight.ratio(), real(extracted), real(legacy)) } else { 0.0 }
}

fn ln_e(concentration: f64, share: f64, hits: f64, misses: f64) -> f64 {
    if hits + misses <= 0.0 {
        return 0.0;
    }
    let (a, b) = (concentration * share, concentration * (1.0 - share));
    ln_beta(a + hits, b + misses) - ln_beta(a, b) - hits * share.ln() - misses * (-share).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_that_of_the_reference() {
        for (k, counts, share, expected) in [
            (100.0, (100.0, 100.0), 0.5, -0.550_972_771),
            (100.0, (100.0, 130.0), 0.5, 0.770_975_088),
            (100.0, (100.0, 160.0), 0.5, 4.395_248_7),
            (100.0, (500.0, 600.0), 0.5, 2.930_243_971),
            (100.0, (500.0, 500.0), 0.5, -1.201_220_322),
            (100.0, (990.0, 10.0), 0.99, -1.272_443_08),
            (100.0, (990.0, 30.0), 0.99, 10.151_759_682),
            (100.0, (99_000.0, 1_000.0), 0.99, -3.535_364_015),
            (100.0, (99_000.0, 1_150.0), 0.99, 6.999_231_942),
            (10_000.0, (100.0, 100.0), 0.5, -0.009_901_804),
            (10_000.0, (100.0, 130.0), 0.5, 0.032_622_328),
            (10_000.0, (100.0, 160.0), 0.5, 0.162_622_19),
            (10_000.0, (500.0, 600.0), 0.5, 0.398_314_644),
            (10_000.0, (500.0, 500.0), 0.5, -0.047_657_363),
            (10_000.0, (990.0, 10.0), 0.99, -0.047_730_854),
            (10_000.0, (990.0, 30.0), 0.99, 1.568_394_03),
            (10_000.0, (99_000.0, 1_000.0), 0.99, -1.199_705_286),
            (10_000.0, (99_000.0, 1_150.0), 0.99, 8.426_538_408),
        ] {
            let got = ln_e(k, share, counts.0, counts.1);
            assert!((got - expected).abs() < 1e-9, "{counts:?} at {share}, k = {k}: {got}");
        }
        for (counts, p) in [((100.0, 160.0), 0.012_335_812_02), ((99_000.0, 1_150.0), 0.000_912_582_612)] {
            let got = (-ln_e(100.0, if counts.0 > 990.0 { 0.99 } else { 0.5 }, counts.0, counts.1)).exp();
            assert!((got - p).abs() < 1e-9, "{counts:?}: {got}");
        }
    }

    #[test]
    fn the_label_does_not_matter_and_a_gross_imbalance_is_found_early() {
        let at = |weight: &str, extracted, legacy| ln_e_imbalance(weight.parse().expect("a weight"), extracted, legacy);
        assert!((at("1%", 1_150, 99_000) - 6.999_231_942).abs() < 1e-9);
        assert!((at("1%", 40, 990) - 21.61).abs() < 0.01);
        assert!(at("1%", 1_150, 99_000) > LN_ALARM && at("1%", 1_000, 99_000) < 0.0);
        assert_eq!((at("0%", 5, 5), at("100%", 5, 5), at("5%", 0, 0)), (0.0, 0.0, 0.0));
        assert!((LN_ALARM - 1_000f64.ln()).abs() < 1e-15);
    }
}
