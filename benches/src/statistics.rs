//! Medians, quantiles, and what chance alone would do.

/// The middle value; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which the part `at` (0..=1) of them lies, interpolated; 0 of none.
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let mut below = 0;
    let mut place = at.clamp(0.0, 1.0) * f64::from(u32::try_from(last).unwrap_or(u32::MAX));
    while place >= 1.0 && below < last {
        place -= 1.0;
        below += 1;
    }
    let upper = sorted[(below + 1).min(last)];
    sorted[below] + (upper - sorted[below]) * place
}

/// The least and the greatest; 0 of none.
pub fn range(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// Where 95 % of the medians of such differences lie when nothing but chance is at work.
///
/// `differences` come from pairs of like runs (A/A). Which of a pair is called the first is chance, so each difference
/// is as likely with the other sign: rounds are drawn anew with either sign, and the middle 95 % of their medians taken.
pub fn chance_interval(differences: &[f64]) -> (f64, f64) {
    const DRAWS: usize = 10_000;
    if differences.is_empty() {
        return (0.0, 0.0);
    }
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut draw = || {
        let picked = differences[random.below(differences.len())];
        if random.below(2) == 0 { picked } else { -picked }
    };
    let medians: Vec<f64> =
        (0..DRAWS).map(|_| median(&differences.iter().map(|_| draw()).collect::<Vec<f64>>())).collect();
    (quantile(&medians, 0.025), quantile(&medians, 0.975))
}

/// Marsaglia's xorshift64*: every run draws alike.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or_default() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        assert!(is_near(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(is_near(median(&[1.0, 2.0, 3.0, 4.0]), 2.5));
        assert!(is_near(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 1.0), 5.0));
        assert!(is_near(quantile(&[1.0, 3.0], 0.25), 1.5));
        assert!(is_near(median(&[]), 0.0));
    }

    #[test]
    fn chance_lies_around_nothing() {
        let (low, high) = chance_interval(&[0.4, 1.0, -0.2, 0.7, 0.9, 0.1, -0.5, 0.3, 0.6, 0.8]);
        assert!(low < -0.2 && high > 0.2 && low > -1.0 && high < 1.0, "{low} {high}");
        assert!((low + high).abs() < 0.2, "{low} {high}");
    }

    #[test]
    fn a_range_holds_all() {
        assert_eq!(range(&[2.0, -1.0, 5.0]), (-1.0, 5.0));
        assert_eq!(range(&[]), (0.0, 0.0));
    }
}
