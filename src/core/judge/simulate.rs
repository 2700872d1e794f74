//! Rollouts in simulated time: what the judge does to services whose truth is known. From a seed, and the same every time.

use std::time::Duration;

use crate::judge::evidence::{Evidence, SideCounts};
use crate::judge::gates::{ErrorsGate, Gates};
use crate::judge::judge_without_forecast;
use crate::judge::ladder::{Ladder, Move, Standing, Stood, WARMUP_S, is_warming};
use crate::judge::numbers::real;
use crate::judge::points::Points;
use crate::weight::Weight;

/// Chance from a seed.
#[derive(Clone, Debug)]
pub struct Chance(fastrand::Rng);

impl Chance {
    /// The `run`th of the streams that a seed has.
    pub fn new(seed: u64, run: u64) -> Chance {
        // Seeds that differ by one must not give streams that are alike: both are mixed (SplitMix64's finalizer).
        Chance(fastrand::Rng::with_seed(mixed(mixed(seed).wrapping_add(run))))
    }

    /// A number from 0 (included) to 1.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// Whether something happens that does in this part of all cases.
    pub fn happens(&mut self, part: f64) -> bool {
        self.unit() < part
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end.max(1))
    }

    /// How many of `of` happen, each in this part of all cases.
    pub fn binomial(&mut self, of: u64, part: f64) -> u64 {
        (0..of).map(|_| u64::from(self.happens(part))).sum()
    }

    /// How many arrive where `mean` do on average (Poisson's): by gaps where they are few, else by Hörmann's transformed rejection (1993).
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and far below 2^53")]
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean < 10.0 {
            let (mut count, mut left) = (0, mean);
            loop {
                left += (1.0 - self.unit()).ln();
                if left < 0.0 {
                    return count;
                }
                count += 1;
            }
        }
        let slope = 0.931 + 2.53 * mean.sqrt();
        let curve = -0.059 + 0.024_83 * slope;
        loop {
            let (across, height) = (self.unit() - 0.5, self.unit());
            let edge = 0.5 - across.abs();
            let count = ((2.0 * curve / edge + slope) * across + mean + 0.43).floor();
            if edge >= 0.07 && height <= 0.927_7 - 3.622_4 / (slope - 2.0) {
                return count as u64;
            }
            if count < 0.0 || (edge < 0.013 && height > edge) {
                continue;
            }
            let hat = 1.123_9 + 1.132_8 / (slope - 3.4);
            let least = (height * hat / (curve / (edge * edge) + slope)).ln();
            if least <= count * mean.ln() - mean - libm::lgamma(count + 1.0) {
                return count as u64;
            }
        }
    }
}

const fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Requests to the route in a second, each of a user of its own.
    pub rps: f64,
    /// Part of legacy's requests that fail.
    pub legacy_rate: f64,
    /// Part of extracted's requests that fail.
    pub extracted_rate: f64,
    /// What must be proven.
    pub gates: Gates,
    /// The steps.
    pub ladder: Ladder,
    /// When it is given up, in seconds.
    pub horizon_s: u64,
    /// Seconds from one look of the judge to the next.
    pub look_s: u64,
}

impl Setting {
    /// The setting in which controllers are compared: 5, 10, 25 and 50 %, failures alone within one percentage point, a day.
    pub fn end_to_end(rps: f64, legacy_rate: f64, extracted_rate: f64) -> Option<Setting> {
        let steps = [500, 1_000, 2_500, 5_000].into_iter().filter_map(Weight::from_basis_points).collect();
        Some(Setting {
            rps,
            legacy_rate,
            extracted_rate,
            gates: Gates {
                errors: Some(ErrorsGate { worse_by: Some(Points::from_hundredths(100)?) }),
                ..Gates::default()
            },
            ladder: Ladder::new(steps, Ladder::AT_LEAST_S, Ladder::MIN_REQUESTS).ok()?,
            horizon_s: 24 * 60 * 60,
            look_s: 60,
        })
    }
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All steps were passed, at that second.
    Promoted(u64),
    /// It was rolled back, at that second.
    RolledBack(u64),
    /// Neither until the horizon; it stood at that step.
    Held(usize),
}

/// One rollout. The steps of the setting are all to be passed: passing the last one is being promoted.
pub fn rollout(setting: &Setting, chance: &mut Chance) -> Ended {
    let mut evidence = Evidence::default();
    let mut standing = Standing { step: 0, stood: Stood::default() };
    let ladder = setting.ladder.up_to_all();
    let look = real(setting.look_s.max(1));
    let mut now_s = 0;
    while now_s < setting.horizon_s {
        let weight = ladder.weight(standing.step);
        let is_warming = is_warming(weight, standing.stood.time, Duration::from_secs(WARMUP_S));
        now_s += setting.look_s.max(1);
        standing.stood.time += Duration::from_secs(setting.look_s.max(1));
        let arrived = |chance: &mut Chance, share: f64, rate: f64| {
            let errors = chance.poisson(setting.rps * look * share * rate);
            let units = errors + chance.poisson(setting.rps * look * share * (1.0 - rate));
            SideCounts { units, errors, ..SideCounts::default() }
        };
        let extracted = arrived(chance, weight.ratio(), setting.extracted_rate);
        let legacy = arrived(chance, 1.0 - weight.ratio(), setting.legacy_rate);
        let stage = evidence.stages.entry(weight).or_default();
        let pair = if is_warming {
            (&mut stage.warmup.extracted, &mut stage.warmup.legacy)
        } else {
            standing.stood.requests += extracted.units;
            (&mut stage.extracted, &mut stage.legacy)
        };
        pair.0.merge(&extracted);
        pair.1.merge(&legacy);
        evidence.step = Some(weight);
        let verdict = judge_without_forecast(&setting.gates, &evidence);
        match ladder.next(&standing, (verdict.verdict, verdict.reason)) {
            Move::Back(_) => return Ended::RolledBack(now_s),
            Move::Raise(step) if ladder.weight(step) == Weight::ALL => return Ended::Promoted(now_s),
            Move::Raise(step) => standing = Standing { step, stood: Stood::default() },
            Move::Stay(_) => {}
        }
    }
    Ended::Held(standing.step)
}

/// Many rollouts, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Seconds at which each promoted one was.
    pub promoted_s: Vec<u64>,
    /// Seconds at which each one rolled back was.
    pub rolled_back_s: Vec<u64>,
    /// How many were neither.
    pub held: u64,
}

impl Counted {
    /// Counts one.
    pub fn count(&mut self, ended: Ended) {
        match ended {
            Ended::Promoted(at_s) => self.promoted_s.push(at_s),
            Ended::RolledBack(at_s) => self.rolled_back_s.push(at_s),
            Ended::Held(_) => self.held += 1,
        }
    }

    /// How many there were.
    pub fn runs(&self) -> u64 {
        (self.promoted_s.len() + self.rolled_back_s.len()) as u64 + self.held
    }

    /// The part that was promoted, and the part that was rolled back.
    pub fn parts(&self) -> (f64, f64) {
        let part = |list: &[u64]| real(list.len() as u64) / real(self.runs().max(1));
        (part(&self.promoted_s), part(&self.rolled_back_s))
    }
}

/// The one in the middle; `None`: there are none.
pub fn median(seconds: &[u64]) -> Option<u64> {
    let mut sorted = seconds.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_has_the_means_and_spreads_it_should_have() {
        for mean in [0.02, 3.0, 12.0, 400.0] {
            let mut chance = Chance::new(7, 0);
            let drawn: Vec<f64> = (0..20_000).map(|_| real(chance.poisson(mean))).collect();
            let average = drawn.iter().sum::<f64>() / 20_000.0;
            let spread = drawn.iter().map(|one| (one - average).powi(2)).sum::<f64>() / 20_000.0;
            let error = (mean / 20_000.0).sqrt();
            assert!((average - mean).abs() < 5.0 * error, "{mean}: {average}");
            assert!((spread / mean - 1.0).abs() < 0.1, "{mean}: {spread}");
        }
    }

    #[test]
    fn a_seed_is_all_there_is_to_chance() {
        let setting = Setting::end_to_end(5.0, 0.005, 0.03).expect("a setting");
        let ended = |seed, run| rollout(&setting, &mut Chance::new(seed, run));
        assert_eq!(ended(1, 0), ended(1, 0));
        let all: std::collections::BTreeSet<String> = (0..20).map(|run| format!("{:?}", ended(1, run))).collect();
        assert!(all.len() > 3, "runs differ: {all:?}");
        assert_ne!(Chance::new(1, 2).unit().to_bits(), Chance::new(2, 1).unit().to_bits());
    }
}
