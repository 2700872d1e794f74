//! McNemar's test, exact and one-sided, and what goes with it.

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

/// The chance of `hits` or more heads in `tosses` of a fair coin.
pub fn at_least(hits: u64, tosses: u64) -> f64 {
    if hits == 0 {
        return 1.0;
    }
    if hits > tosses {
        return 0.0;
    }
    if hits * 2 <= tosses {
        // The other tail is the shorter one: fewer than `hits` heads are more than `tosses - hits` tails.
        return 1.0 - upper_tail(tosses - hits + 1, tosses);
    }
    upper_tail(hits, tosses)
}

/// For more than half: each term is smaller than the one before.
fn upper_tail(hits: u64, tosses: u64) -> f64 {
    if hits > tosses {
        return 0.0;
    }
    let first = ln_choose(tosses, hits) - real(tosses) * std::f64::consts::LN_2;
    let (mut sum, mut term) = (0.0, 1.0);
    for at in hits..=tosses {
        sum += term;
        term *= real(tosses - at) / real(at + 1);
        if term < sum * 1e-17 {
            break;
        }
    }
    (first + sum.ln()).exp().min(1.0)
}

fn ln_choose(of: u64, chosen: u64) -> f64 {
    ln_factorial(of) - ln_factorial(chosen) - ln_factorial(of - chosen)
}

/// By Stirling's series, good to 15 digits from 20 on; below that, by multiplying.
fn ln_factorial(number: u64) -> f64 {
    if number < 20 {
        return real((2..=number).product::<u64>().max(1)).ln();
    }
    let n = real(number);
    let series = 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3)) + 1.0 / (1260.0 * n.powi(5));
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + series
}

/// Lower end of the 95 % interval of the difference of two paired rates (Agresti and Min, 2005).
pub fn lower_rate_difference(more: u64, less: u64, pairs: u64) -> f64 {
    let (more, less, pairs) = (real(more) + 0.5, real(less) + 0.5, real(pairs) + 2.0);
    let apart = more - less;
    let spread = (more + less - apart * apart / pairs).max(0.0).sqrt();
    (apart - 1.96 * spread) / pairs
}

/// The largest chance that still counts as found, when of what is found at most the part `rate` may be false (Benjamini and
/// Hochberg, 1995); negative: none. Sorts `chances`.
pub fn most_by_false_discovery(chances: &mut [f64], rate: f64) -> f64 {
    chances.sort_by(f64::total_cmp);
    let count = real(u64::try_from(chances.len()).unwrap_or(u64::MAX));
    let found = (1u64..).zip(chances.iter()).filter(|(rank, chance)| **chance <= real(*rank) / count * rate);
    found.last().map_or(-1.0, |(_, chance)| *chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By adding up all the ways.
    fn obvious(hits: u64, tosses: u64) -> f64 {
        let mut ways = vec![1.0f64];
        for _ in 0..tosses {
            let mut next = vec![0.0; ways.len() + 1];
            for (at, way) in ways.iter().enumerate() {
                next[at] += way / 2.0;
                next[at + 1] += way / 2.0;
            }
            ways = next;
        }
        ways.iter().skip(usize::try_from(hits).expect("small")).sum()
    }

    #[test]
    fn chances_are_those_of_the_tables() {
        for (hits, tosses, expect) in [
            (0, 0, 1.0),
            (1, 1, 0.5),
            (8, 8, 0.003_906_25),
            (10, 11, 0.005_859_375),
            (5, 10, 0.623_046_875),
            (20, 30, 0.049_368_573_7),
            (60, 100, 0.028_443_966_8),
            (11, 10, 0.0),
        ] {
            assert!((at_least(hits, tosses) - expect).abs() < 1e-9, "{hits} of {tosses}: {}", at_least(hits, tosses));
        }
        // Far out in the tail of many tosses: within one part in ten thousand of ten standard deviations of the normal.
        let chance = at_least(505_000, 1_000_000);
        assert!((chance / 7.677_7e-24 - 1.0).abs() < 0.01, "{chance:e}");
    }

    #[test]
    fn an_interval_shrinks_with_its_pairs() {
        assert!(lower_rate_difference(2, 0, 200) < 0.001);
        assert!(lower_rate_difference(20, 0, 2_000) > 0.005);
        assert!(lower_rate_difference(5, 9, 200) < 0.0);
    }

    #[test]
    fn false_discoveries_are_bounded_by_rank() {
        let found = |chances: &[f64]| most_by_false_discovery(&mut chances.to_vec(), 0.05);
        assert!((found(&[0.9, 0.01, 0.02, 0.04]) - 0.02).abs() < 1e-12);
        assert!((found(&[0.02, 0.03, 0.035, 0.04]) - 0.04).abs() < 1e-12);
        assert!(found(&[0.2, 0.9]) < 0.0 && found(&[]) < 0.0);
    }

    proptest! {
        #[test]
        fn chances_agree_with_adding_up_all_ways(tosses in 0u64..60, hits in 0u64..62) {
            prop_assert!((at_least(hits, tosses) - obvious(hits, tosses)).abs() < 1e-9);
        }
    }
}
