//! Few are very active, most hardly at all.

use crate::prng::Prng;

/// Draws ranks of `0..n`, rank `r` with a chance in proportion to `1 / (r + 1)^exponent`.
#[derive(Clone, Debug)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// `ranks` of 0 counts as 1. An exponent near 1 is what shops see.
    pub fn new(ranks: u32, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let cumulative = (1..=ranks.max(1)).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Zipf { cumulative: cumulative.collect() }
    }

    pub fn draw(&self, prng: &mut Prng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let point = prng.unit() * total;
        self.cumulative.partition_point(|reached| *reached <= point).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_is_drawn_most_and_the_last_at_times() {
        let zipf = Zipf::new(50, 1.0);
        let mut prng = Prng::new(3);
        let mut counts = [0_u32; 50];
        for _ in 0..50_000 {
            counts[zipf.draw(&mut prng)] += 1;
        }
        assert!(counts[0] > counts[1] && counts[1] > counts[9] && counts[9] > counts[49]);
        assert!(counts[49] > 0);
    }
}
