//! Many routes at once: what may be said of all of them, and which of them stand out.

use crate::judge::numbers::{ln_mean_exp, real};
use crate::judge::verdict::Verdict;

/// The logarithm of the evidence that some route is harmed: the mean of theirs, which is evidence under any dependence.
pub fn ln_e_any(routes: &[f64]) -> f64 {
    if routes.is_empty() { 0.0 } else { ln_mean_exp(routes.iter().copied()) }
}

/// Which routes stand out, where of all that are named at most the part `rate` may be named wrongly, under any dependence (e-BH, Wang and
/// Ramdas, 2022). In the order given.
pub fn found_among(routes: &[f64], rate: f64) -> Vec<bool> {
    let count = real(routes.len() as u64);
    let mut sorted: Vec<f64> = routes.iter().copied().filter(|ln_e| !ln_e.is_nan()).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let reaches = |(rank, ln_e): &(u64, &f64)| **ln_e >= (count / (real(*rank) * rate)).ln();
    let least = (1..).zip(&sorted).filter(reaches).last().map(|(_, ln_e)| *ln_e);
    routes.iter().map(|ln_e| least.is_some_and(|least| *ln_e >= least)).collect()
}

/// How many of those that are held for standing out may be sound.
pub const RATE: f64 = 0.05;

/// The logarithm of the evidence that a route is harmed in any way: the mean over its gates.
pub fn ln_e_harm(verdict: &Verdict) -> f64 {
    let gates: Vec<f64> = verdict.gates.values().filter_map(|gate| gate.log_e_harm).collect();
    ln_e_any(&gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_stand_out_are_found_by_rank() {
        let ln = |e: &[f64]| e.iter().map(|e| e.ln()).collect::<Vec<_>>();
        // Of four, at 5 %: 80 for one, 40 for the second, 26.7 for the third.
        assert_eq!(found_among(&ln(&[1.0, 79.0, 0.1, 3.0]), 0.05), [false; 4]);
        assert_eq!(found_among(&ln(&[1.0, 81.0, 0.1, 3.0]), 0.05), [false, true, false, false]);
        assert_eq!(found_among(&ln(&[41.0, 42.0, 0.1, 3.0]), 0.05), [true, true, false, false]);
        assert_eq!(found_among(&ln(&[27.0, 28.0, 0.1, 30.0]), 0.05), [true, true, false, true]);
        assert!(found_among(&[], 0.05).is_empty());
    }

    #[test]
    fn the_mean_of_all_is_evidence_of_any() {
        assert!((ln_e_any(&[0.0, 400f64.ln()]) - 200.5f64.ln()).abs() < 1e-12);
        assert!(ln_e_any(&[]).abs() < f64::EPSILON);
    }
}
