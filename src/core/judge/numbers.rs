//! What the formulas share: sums of logarithms, the beta function, counts as numbers.

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(in crate::judge) const fn real(count: u64) -> f64 {
    count as f64
}

/// Back to a count, rounded up; what is beyond every count is the largest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
pub(in crate::judge) const fn count_up(number: f64) -> u64 {
    number.ceil() as u64
}

/// The logarithm of the mean of `exp(term)`, without overflow. Equal terms give exactly that term, so that no evidence is exactly 0.
pub(in crate::judge) fn ln_mean_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return most;
    }
    let (sum, count) = terms.fold((0.0, 0.0), |(sum, count), term| (sum + (term - most).exp(), count + 1.0));
    most + f64::ln(sum / count)
}

/// ln B(a, b). By libm's `lgamma` (FreeBSD's msun, within an ulp or so).
pub(in crate::judge) fn ln_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

/// `count * term`, where no count makes nothing of an infinite term.
pub(in crate::judge) fn times(count: f64, term: f64) -> f64 {
    if count > 0.0 { count * term } else { 0.0 }
}

/// The smallest number of at most `most` for which `holds`; `None`: none. What holds is taken to go on holding: this is for forecasts.
pub(in crate::judge) fn least(most: u64, holds: impl Fn(f64) -> bool) -> Option<u64> {
    if holds(0.0) {
        return Some(0);
    }
    let mut above = 64.0;
    let mut below = 0.0;
    while !holds(above) {
        below = above;
        above *= 2.0;
        if above > real(most) {
            return None;
        }
    }
    while above - below > 1.0 {
        let middle = f64::midpoint(below, above).floor();
        if holds(middle) {
            above = middle;
        } else {
            below = middle;
        }
    }
    Some(count_up(above))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_of_gamma_is_that_of_factorials_and_of_halves() {
        let mut ln_factorial = 0.0;
        // Γ(1/2) = √π, and Γ(x + 1) = x Γ(x).
        let mut ln_half = std::f64::consts::PI.sqrt().ln();
        for n in 0u64..170 {
            let n_real = real(n);
            for (x, expected) in [(n_real + 1.0, ln_factorial), (n_real + 0.5, ln_half)] {
                let got = libm::lgamma(x);
                assert!((got - expected).abs() <= 1e-13 * f64::max(1.0, expected.abs()), "lgamma({x}) = {got}");
            }
            ln_factorial += (n_real + 1.0).ln();
            ln_half += (n_real + 0.5).ln();
        }
    }

    #[test]
    fn a_mean_of_exponentials_neither_overflows_nor_drifts() {
        let of = |terms: &[f64]| ln_mean_exp(terms.iter().copied());
        assert_eq!(of(&[0.0; 9]).to_bits(), 0.0f64.to_bits());
        assert!((of(&[1_000.0, 0.0]) - (1_000.0 - std::f64::consts::LN_2)).abs() < 1e-12);
        assert!((of(&[-2_000.0, -2_000.0]) + 2_000.0).abs() < 1e-12);
        assert_eq!(of(&[]), f64::NEG_INFINITY);
    }

    #[test]
    fn a_forecast_finds_the_least_number() {
        assert_eq!(least(1_000_000, |n| n >= 828.0), Some(828));
        assert_eq!(least(1_000_000, |n| n >= 77.0), Some(77));
        assert_eq!((least(1_000, |_| true), least(1_000, |_| false)), (Some(0), None));
    }
}
