//! One countable harm on both sides: failures, slow answers, answers of a class.

use crate::judge::evidence::{Evidence, Pair, SideCounts, StageEvidence};
use crate::judge::numbers::real;
use crate::judge::ratio::Events;
use crate::weight::Weight;

/// Distinct units of extracted with an event below which nothing is rolled back.
pub(in crate::judge) const EVENTS_MIN: f64 = 5.0;
/// By how many standard errors an excess must lie beyond what is tolerated to count as beyond it.
///
/// The e-process alone bounds how often one that is *not* worse is rolled back. Whether one that is worse is worse by *more than was
/// declared tolerable* is asked at the moment at which that process has just crossed its threshold, and it crosses the sooner the more chance
/// has added to the excess. So the excess itself would decide too often for a roll back: one that is 0.25 points worse under a margin of
/// 0.5 was rolled back in 11 % of runs with none of these, in 0.4 % with two; what is well beyond the margin is not found later
/// (`docs/judge.md` has the table).
pub(in crate::judge) const STANDARD_ERRORS: f64 = 2.0;

/// A harm by its counts.
#[derive(Clone, Copy)]
pub(in crate::judge) struct Harm {
    /// Units that had it.
    pub(in crate::judge) hits: fn(&SideCounts) -> u64,
    /// Units that could have had it.
    pub(in crate::judge) of: fn(&SideCounts) -> u64,
}

/// Failures.
pub(in crate::judge) const ERRORS: Harm = Harm { hits: |counts| counts.errors, of: |counts| counts.units };
/// Answers of 3xx.
pub(in crate::judge) const REDIRECTS: Harm = Harm { hits: |counts| counts.status_3xx, of: |counts| counts.classed };
/// Answers of 4xx.
pub(in crate::judge) const REFUSALS: Harm = Harm { hits: |counts| counts.status_4xx, of: |counts| counts.classed };
/// Answers slower than legacy's p50, p95 and p99.
pub(in crate::judge) const SLOW: [Harm; 3] = [
    Harm { hits: |counts| counts.slow_p50, of: |counts| counts.timed },
    Harm { hits: |counts| counts.slow_p95, of: |counts| counts.timed },
    Harm { hits: |counts| counts.slow_p99, of: |counts| counts.timed },
];

/// Its counts at one weight.
#[derive(Clone, Copy, Debug)]
pub(in crate::judge) struct Counted {
    pub(in crate::judge) weight: Weight,
    pub(in crate::judge) extracted: (f64, f64),
    pub(in crate::judge) legacy: (f64, f64),
}

impl Harm {
    pub(in crate::judge) fn counted(self, weight: Weight, pair: &Pair) -> Counted {
        let side = |counts: &SideCounts| (real((self.hits)(counts)), real((self.of)(counts)));
        Counted { weight, extracted: side(&pair.extracted), legacy: side(&pair.legacy) }
    }

    /// At every weight at which there are both sides, the first moments included: what may count against extracted.
    pub(in crate::judge) fn against(self, evidence: &Evidence) -> Vec<Counted> {
        self.split(evidence, StageEvidence::whole)
    }

    /// Likewise without the first moments: what may count for it.
    pub(in crate::judge) fn settled(self, evidence: &Evidence) -> Vec<Counted> {
        self.split(evidence, StageEvidence::settled)
    }

    fn split(self, evidence: &Evidence, of: impl Fn(&StageEvidence) -> Pair) -> Vec<Counted> {
        let stages = evidence.stages.iter().filter(|(weight, _)| weight.is_split());
        stages.map(|(weight, stage)| self.counted(*weight, &of(stage))).collect()
    }
}

pub(in crate::judge) fn events(counted: &[Counted]) -> Vec<Events> {
    let one = |counted: &Counted| Events {
        weight: counted.weight.ratio(),
        extracted: counted.extracted.0,
        legacy: counted.legacy.0,
    };
    counted.iter().map(one).collect()
}

/// Takes away what came in one burst at each weight: of failures at the same moment each makes the next one likely, and the test takes them
/// for independent. What goes on failing shows beyond the burst, some seconds later.
pub(in crate::judge) fn without_bursts(against: &mut [Counted], evidence: &Evidence) {
    for one in against {
        let burst = evidence.stages.get(&one.weight).map_or(0.0, |stage| real(stage.burst)).min(one.extracted.0);
        one.extracted.0 -= burst;
        one.extracted.1 -= burst;
    }
}

/// Extracted's units that had it.
pub(in crate::judge) fn hits(counted: &[Counted]) -> f64 {
    counted.iter().map(|one| one.extracted.0).sum()
}

/// The part of legacy's units that had it, at all weights together; `None`: there are none.
pub(in crate::judge) fn legacy_rate(counted: &[Counted]) -> Option<f64> {
    let (hits, of) = counted.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.legacy.0, sum.1 + one.legacy.1));
    (of > 0.0).then(|| hits / of)
}

/// How much worse extracted was than legacy at the same time.
#[derive(Clone, Copy, Debug)]
pub(in crate::judge) struct Excess {
    /// Part of extracted's units.
    pub(in crate::judge) rate: f64,
    /// The part that there would have been, had they fared as legacy's at the same weight: never a mean over weights that the two sides
    /// spent in different parts of (Simpson).
    pub(in crate::judge) expected: f64,
    /// Of the difference.
    standard_error: f64,
}

impl Excess {
    /// `None`: nothing was seen at one weight on both sides.
    pub(in crate::judge) fn of(counted: &[Counted]) -> Option<Excess> {
        let (mut units, mut hits, mut expected, mut variance) = (0.0, 0.0, 0.0, 0.0);
        for Counted { extracted: (extracted_hits, extracted), legacy: (legacy_hits, legacy), .. } in counted {
            if *extracted <= 0.0 || *legacy <= 0.0 {
                continue;
            }
            let (rate, legacy_rate) = (extracted_hits / extracted, legacy_hits / legacy);
            units += extracted;
            hits += extracted_hits;
            expected += extracted * legacy_rate;
            variance +=
                extracted * rate * (1.0 - rate) + extracted * extracted * legacy_rate * (1.0 - legacy_rate) / legacy;
        }
        (units > 0.0).then(|| Excess {
            rate: hits / units,
            expected: expected / units,
            standard_error: variance.max(0.0).sqrt() / units,
        })
    }

    pub(in crate::judge) fn difference(&self) -> f64 {
        self.rate - self.expected
    }

    /// Whether it is beyond `margin` by more than chance alone does often.
    pub(in crate::judge) fn is_beyond(&self, margin: f64) -> bool {
        self.difference() - STANDARD_ERRORS * self.standard_error >= margin
    }
}
