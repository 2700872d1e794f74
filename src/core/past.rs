//! Weights of before: what a bucket's side was in the last minutes, where that matters (routes with `idempotency`).

use crate::weight::Weight;

/// How long after a change of sides a write that nobody remembers is in doubt, in seconds: 15 minutes.
pub const DOUBT_S: u64 = 15 * 60;
/// Changes that are told apart; older ones are taken together, which doubts more and never less.
pub const PASTS_MAX: usize = 16;

/// Weights that were in force until some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The lowest of them.
    pub low: Weight,
    /// The highest of them.
    pub high: Weight,
    /// When the last of them ended, in Unix seconds.
    pub until_s: u64,
}

impl Past {
    /// When it is no longer of interest.
    pub const fn ends_s(&self) -> u64 {
        self.until_s.saturating_add(DOUBT_S)
    }
}

/// A route's weight, and those it had: what is stored of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePast {
    /// In force when this was noted, kills left aside.
    pub weight: Weight,
    /// In force before, oldest first.
    pub pasts: Vec<Past>,
}

impl RoutePast {
    /// The pasts of a route whose weight is `now` after all this, at `now_s`.
    pub fn followed_by(&self, now: Weight, now_s: u64) -> Vec<Past> {
        let mut pasts: Vec<Past> = self.pasts.iter().filter(|past| now_s < past.ends_s()).copied().collect();
        if self.weight != now {
            pasts.push(Past { low: self.weight, high: self.weight, until_s: now_s });
        }
        while pasts.len() > PASTS_MAX {
            let oldest = pasts.remove(0);
            if let Some(next) = pasts.first_mut() {
                next.low = next.low.min(oldest.low);
                next.high = next.high.max(oldest.high);
                next.until_s = next.until_s.max(oldest.until_s);
            }
        }
        pasts
    }

    /// As text: `500-1000@1763700000`, joined by spaces; weights in basis points.
    pub fn pasts_text(&self) -> String {
        let one = |past: &Past| format!("{}-{}@{}", past.low.basis_points(), past.high.basis_points(), past.until_s);
        self.pasts.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// Back from text; `None` when it makes no sense.
    pub fn parse(weight: Weight, text: &str) -> Option<RoutePast> {
        let weight_of = |text: &str| text.parse().ok().and_then(Weight::from_basis_points);
        let one = |text: &str| {
            let (weights, until_s) = text.split_once('@')?;
            let (low, high) = weights.split_once('-')?;
            Some(Past { low: weight_of(low)?, high: weight_of(high)?, until_s: until_s.parse().ok()? })
        };
        let pasts = text.split_ascii_whitespace().map(one).collect::<Option<Vec<_>>>()?;
        Some(RoutePast { weight, pasts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weight(points: u16) -> Weight {
        Weight::from_basis_points(points).unwrap()
    }

    proptest! {
        #[test]
        fn no_weight_of_the_last_quarter_of_an_hour_is_forgotten(moves in proptest::collection::vec((0u16..=10_000, 1u64..120), 1..60)) {
            let mut known = RoutePast { weight: weight(0), pasts: Vec::new() };
            let (mut now_s, mut all) = (1_000_000, Vec::new());
            for (points, after_s) in moves {
                now_s += after_s;
                if weight(points) != known.weight {
                    all.push((known.weight, now_s));
                }
                known = RoutePast { pasts: known.followed_by(weight(points), now_s), weight: weight(points) };
                prop_assert!(known.pasts.len() <= PASTS_MAX);
                for (past, until_s) in all.iter().filter(|(_, until_s)| now_s < until_s + DOUBT_S) {
                    let covers = |one: &Past| one.low <= *past && *past <= one.high && one.until_s >= *until_s;
                    prop_assert!(known.pasts.iter().any(covers), "{past} until {until_s}: {known:?}");
                }
                prop_assert_eq!(RoutePast::parse(known.weight, &known.pasts_text()), Some(known.clone()));
            }
        }
    }
}
