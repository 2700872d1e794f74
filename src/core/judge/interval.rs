//! What a share can be, at every moment at once: Robbins' confidence sequence for a coin, by a Beta(1/2, 1/2) mixture.
//!
//! The interval of all `p` for which `B(1/2 + x, 1/2 + n - x) / B(1/2, 1/2) / (p^x (1-p)^(n-x)) < 1/alpha`: the true share lies in it at all
//! times with the probability `1 - alpha`, both ends together. Wilson's interval is narrower and holds for one look only.

use crate::judge::numbers::{ln_beta, times};

/// What a share can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// At least.
    pub low: f64,
    /// At most.
    pub high: f64,
}

impl Interval {
    /// Of a share of which `hits` of `of` were seen; nothing seen is no bound.
    pub fn of(hits: f64, of: f64, alpha: f64) -> Interval {
        let seen = Seen::new(hits, of, alpha);
        Interval { low: seen.low(), high: seen.high() }
    }

    /// Its upper end alone.
    pub fn high_of(hits: f64, of: f64, alpha: f64) -> f64 {
        Seen::new(hits, of, alpha).high()
    }
}

struct Seen {
    hits: f64,
    misses: f64,
    /// What the log-likelihood must not fall below.
    least: f64,
}

impl Seen {
    fn new(hits: f64, of: f64, alpha: f64) -> Seen {
        let hits = hits.clamp(0.0, of);
        let misses = of - hits;
        let least = ln_beta(0.5 + hits, 0.5 + misses) - std::f64::consts::PI.ln() + alpha.ln();
        Seen { hits, misses, least }
    }

    /// Below 0: `p` is outside. It is concave in `p`, with its top at the share that was seen.
    fn inside(&self, p: f64) -> f64 {
        times(self.hits, p.ln()) + times(self.misses, (-p).ln_1p()) - self.least
    }

    fn slope(&self, p: f64) -> f64 {
        times(self.hits, 1.0 / p) - times(self.misses, 1.0 / (1.0 - p))
    }

    fn share(&self) -> f64 {
        self.hits / (self.hits + self.misses)
    }

    fn low(&self) -> f64 {
        if self.hits <= 0.0 { 0.0 } else { self.end(self.share(), 0.0) }
    }

    fn high(&self) -> f64 {
        if self.misses <= 0.0 { 1.0 } else { self.end(self.share(), 1.0) }
    }

    /// The end between `inside` and `outside`: by Newton's steps, halved where they would leave what is known.
    fn end(&self, mut inside: f64, mut outside: f64) -> f64 {
        let towards = if outside > inside { 1.0 } else { -1.0 };
        // Three standard deviations and a little: near enough for Newton's steps not to wander.
        let all = self.hits + self.misses;
        let mut p = inside + towards * (3.0 * (inside * (1.0 - inside) / all).sqrt() + 3.0 / all);
        for _ in 0..100 {
            if (p - inside) * towards <= 0.0 || (outside - p) * towards <= 0.0 {
                p = f64::midpoint(inside, outside);
            }
            let value = self.inside(p);
            if value > 0.0 {
                inside = p;
            } else {
                outside = p;
            }
            let next = p - value / self.slope(p);
            if (next - p).abs() <= 1e-14 * p.min(1.0 - p) || (outside - inside).abs() <= 1e-15 * inside {
                break;
            }
            p = next;
        }
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_are_those_of_the_reference() {
        for (hits, of, low, high) in [
            (0.0, 100.0, 0.0, 0.057_028_598),
            (0.0, 1_000.0, 0.0, 0.006_997_503),
            (1.0, 100.0, 1.417_8e-5, 0.084_022_314),
            (5.0, 1_000.0, 0.000_539_304, 0.018_003_859),
            (15.0, 50.0, 0.126_754_651, 0.525_124_374),
            (700.0, 1_000.0, 0.645_437_653, 0.751_016_611),
            (3.0, 10_000.0, 8.316e-6, 0.001_582_033),
        ] {
            let got = Interval::of(hits, of, 0.05);
            assert!((got.low - low).abs() < 1e-9 && (got.high - high).abs() < 1e-9, "{hits} of {of}: {got:?}");
        }
        assert_eq!(Interval::of(0.0, 0.0, 0.05), Interval { low: 0.0, high: 1.0 });
    }

    proptest! {
        #[test]
        fn both_ends_lie_where_the_mixture_is_one_in_alpha(of in 1u32..2_000_000, part in 0.0f64..=1.0, alpha in 1e-4f64..0.2) {
            let of = f64::from(of);
            let hits = (of * part).round();
            let seen = Seen::new(hits, of, alpha);
            let Interval { low, high } = Interval::of(hits, of, alpha);
            prop_assert!(low <= hits / of && hits / of <= high && low >= 0.0 && high <= 1.0);
            for end in [low, high] {
                if end > 0.0 && end < 1.0 {
                    // In units of the end itself: the slope is steep.
                    let off = seen.inside(end) / seen.slope(end);
                    prop_assert!(off.abs() < 1e-9, "{hits} of {of} at {alpha}: {end} is off by {off}");
                }
            }
            let mirrored = Interval::of(of - hits, of, alpha);
            prop_assert!((mirrored.low - (1.0 - high)).abs() < 1e-9 && (mirrored.high - (1.0 - low)).abs() < 1e-9);
        }
    }
}
