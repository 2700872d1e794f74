//! What a verdict rests on: integers, of one route and one release of its extracted service. Merging replicas is adding up.
//!
//! **A unit** is what the weight is drawn for: a sticky key, or a request of a client without one. What counts is a unit's *first* failure
//! (answer above p95, answer of 4xx, …) in a release, over all steps and both sides together, at the step and the side where it happened.
//! Counting it again would make ten users who fail on either side look like a hundred failures, all of one side. So `units` are those that can
//! still have a first one: distinct at each step and side, without those that were counted as failed at an earlier step; `timed` and
//! `classed` likewise. `assignments` and `completions` count each key once in every step, whatever happened to it before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::weight::Weight;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Evidence {
    /// The weight that is judged, 0 for `shadow`. `None`: the largest of `stages`.
    pub step: Option<Weight>,
    /// What was seen at each weight. Two steps of one weight are one.
    pub stages: BTreeMap<Weight, StageEvidence>,
    /// Comparisons of the two answers to one request.
    pub comparisons: Comparisons,
    /// Legacy alone, before the first user was moved: what it is like when nobody shares its database.
    pub before: Before,
    /// Alarms of [`Late`](crate::judge::late::Late) that nobody has dealt with.
    pub late_alarms: u64,
    /// What the coverage gate said; `None`: it was not asked.
    pub coverage: Option<CoverageResult>,
    /// What the queries said, the worst of them; `None`: not asked.
    pub external: Option<External>,
    /// In words, which of them, and what.
    pub external_why: Option<String>,
}

/// What was seen at one weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageEvidence {
    /// Units assigned to extracted. What a hidden fallback saved a user from is counted here as a failure, and nowhere for legacy.
    pub extracted: SideCounts,
    /// Units assigned to legacy at the same time.
    pub legacy: SideCounts,
    /// Those of the first moments at this weight, beside the ones above: they count against extracted and not for it, since caches are cold.
    #[serde(skip_serializing_if = "Pair::is_empty")]
    pub warmup: Pair,
    /// Units, failures and timed units of this step by itself, warm-up left aside: each key once, counted at an earlier step or not. What a
    /// step proves of itself rests on these; without them on the ones above, and where the same users come back those run dry.
    #[serde(skip_serializing_if = "Pair::is_empty")]
    pub by_itself: Pair,
    /// Distinct keys that were assigned.
    #[serde(skip_serializing_if = "Split::is_empty")]
    pub assignments: Split,
    /// Distinct keys of which an answer came to its end. A service that hangs completes nothing.
    #[serde(skip_serializing_if = "Split::is_empty")]
    pub completions: Split,
    /// How long this weight has been in force, in seconds, warm-up left aside; for forecasts only.
    #[serde(skip_serializing_if = "is_zero")]
    pub seconds: u64,
    /// Of extracted's failures, those of the worst four seconds: a service that restarts fails many at once, and that is one event. They
    /// send nothing back; for a promotion they count like any other.
    #[serde(skip_serializing_if = "is_zero")]
    pub burst: u64,
}

/// Counts of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SideCounts {
    /// Distinct units.
    pub units: u64,
    /// Those that had a failure.
    pub errors: u64,
    /// Those whose time was taken while legacy's quantiles were known (frozen).
    #[serde(skip_serializing_if = "is_zero")]
    pub timed: u64,
    /// Those that had an answer slower than legacy's median; a timeout is slow.
    #[serde(skip_serializing_if = "is_zero")]
    pub slow_p50: u64,
    /// Slower than legacy's 95th percentile.
    #[serde(skip_serializing_if = "is_zero")]
    pub slow_p95: u64,
    /// Slower than legacy's 99th percentile.
    #[serde(skip_serializing_if = "is_zero")]
    pub slow_p99: u64,
    /// Those whose status class was taken.
    #[serde(skip_serializing_if = "is_zero")]
    pub classed: u64,
    /// Those that had an answer of 3xx, but 304: that is a cache at work.
    #[serde(skip_serializing_if = "is_zero")]
    pub status_3xx: u64,
    /// Those that had an answer of 4xx that is no failure already.
    #[serde(skip_serializing_if = "is_zero")]
    pub status_4xx: u64,
}

/// Counts of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pair {
    /// Of extracted.
    pub extracted: SideCounts,
    /// Of legacy.
    pub legacy: SideCounts,
}

/// Distinct keys on each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// On extracted.
    pub extracted: u64,
    /// On legacy.
    pub legacy: u64,
}

/// Outcomes of comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Comparisons {
    /// Pairs of which something could be said.
    pub compared: u64,
    /// Those that mismatched, confirmed or beyond confirming.
    pub mismatched: u64,
    /// Of these, those of the worst four seconds; see [`StageEvidence::burst`].
    #[serde(skip_serializing_if = "is_zero")]
    pub burst: u64,
}

/// Legacy without extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Before {
    /// Distinct units.
    pub units: u64,
    /// Those that had a failure.
    pub errors: u64,
}

/// What the coverage gate said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoverageResult {
    /// Whether nothing is missing.
    pub passed: bool,
    /// How many things have too few comparisons.
    #[serde(default)]
    pub missing: u64,
}

/// What another system's queries said, the better first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum External {
    /// None exceeds its limit.
    Met,
    /// One said nothing.
    NoData,
    /// One exceeds its limit.
    Exceeded,
}

impl Evidence {
    /// Adds what another replica, or another moment, has seen. The judged step is the larger one, for there the gates are stricter; of
    /// coverage and queries the worse holds.
    pub fn merge(&mut self, other: &Evidence) {
        self.step = self.step.max(other.step);
        for (weight, stage) in &other.stages {
            self.stages.entry(*weight).or_default().merge(stage);
        }
        add(&mut self.comparisons.compared, other.comparisons.compared);
        add(&mut self.comparisons.mismatched, other.comparisons.mismatched);
        add(&mut self.comparisons.burst, other.comparisons.burst);
        add(&mut self.before.units, other.before.units);
        add(&mut self.before.errors, other.before.errors);
        add(&mut self.late_alarms, other.late_alarms);
        if other.external > self.external {
            self.external_why.clone_from(&other.external_why);
        }
        self.external = self.external.max(other.external);
        self.coverage = match (self.coverage, other.coverage) {
            (Some(one), Some(other)) => {
                Some(CoverageResult { passed: one.passed && other.passed, missing: one.missing.max(other.missing) })
            }
            (one, other) => one.or(other),
        };
    }

    /// The weight that is judged; `None`: nothing was ever seen.
    pub fn judged_step(&self) -> Option<Weight> {
        self.step.or_else(|| self.stages.last_key_value().map(|(weight, _)| *weight))
    }

    /// What was seen at the weight that is judged.
    pub fn judged_stage(&self) -> StageEvidence {
        self.judged_step().and_then(|step| self.stages.get(&step).copied()).unwrap_or_default()
    }
}

impl StageEvidence {
    /// Adds another.
    pub fn merge(&mut self, other: &StageEvidence) {
        self.extracted.merge(&other.extracted);
        self.legacy.merge(&other.legacy);
        self.warmup.extracted.merge(&other.warmup.extracted);
        self.warmup.legacy.merge(&other.warmup.legacy);
        self.by_itself.extracted.merge(&other.by_itself.extracted);
        self.by_itself.legacy.merge(&other.by_itself.legacy);
        self.assignments.merge(&other.assignments);
        self.completions.merge(&other.completions);
        // Replicas stand at a weight at the same time.
        self.seconds = self.seconds.max(other.seconds);
        add(&mut self.burst, other.burst);
    }

    /// With the first moments: what may count against extracted.
    pub fn whole(&self) -> Pair {
        let mut whole = Pair { extracted: self.extracted, legacy: self.legacy };
        whole.extracted.merge(&self.warmup.extracted);
        whole.legacy.merge(&self.warmup.legacy);
        whole
    }

    /// What this step proves of itself.
    pub fn here(&self) -> Pair {
        if self.by_itself.is_empty() { self.settled() } else { self.by_itself }
    }

    /// Without the first moments: what may count for it.
    pub fn settled(&self) -> Pair {
        Pair { extracted: self.extracted, legacy: self.legacy }
    }
}

impl SideCounts {
    /// Adds another.
    pub fn merge(&mut self, other: &SideCounts) {
        add(&mut self.units, other.units);
        add(&mut self.errors, other.errors);
        add(&mut self.timed, other.timed);
        add(&mut self.slow_p50, other.slow_p50);
        add(&mut self.slow_p95, other.slow_p95);
        add(&mut self.slow_p99, other.slow_p99);
        add(&mut self.classed, other.classed);
        add(&mut self.status_3xx, other.status_3xx);
        add(&mut self.status_4xx, other.status_4xx);
    }
}

impl Split {
    /// Adds another.
    pub fn merge(&mut self, other: &Split) {
        add(&mut self.extracted, other.extracted);
        add(&mut self.legacy, other.legacy);
    }

    fn is_empty(&self) -> bool {
        *self == Split::default()
    }
}

impl Pair {
    fn is_empty(&self) -> bool {
        *self == Pair::default()
    }
}

fn add(to: &mut u64, more: u64) {
    *to = to.saturating_add(more);
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// As it is stored, and as `strangler judge` reads it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(default)]
    stages: Vec<WrittenStage>,
    #[serde(default)]
    comparisons: Comparisons,
    #[serde(default)]
    before: Before,
    #[serde(default, skip_serializing_if = "is_zero")]
    late_alarms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    coverage: Option<CoverageResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external: Option<External>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_why: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WrittenStage {
    step: String,
    weight: f64,
    #[serde(flatten)]
    seen: StageEvidence,
}

/// A step as it is called: `shadow`, or its weight.
pub fn step_name(weight: Weight) -> String {
    if weight == Weight::NONE { "shadow".to_owned() } else { weight.to_string() }
}

/// The weight of a step by its name; `None`: it is no such name.
pub fn step_weight(name: &str) -> Option<Weight> {
    if name == "shadow" { Some(Weight::NONE) } else { name.parse().ok() }
}

/// A weight from its ratio, as in `0.05`; `None`: not between 0 and 1, or finer than the hundredth of a percent that weights have.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held between 0 and 10,000 before")]
pub fn weight_of_ratio(ratio: f64) -> Option<Weight> {
    let points = (ratio * 10_000.0).round();
    let is_whole = (ratio * 10_000.0 - points).abs() < 1e-6;
    (is_whole && (0.0..=10_000.0).contains(&points)).then(|| Weight::from_basis_points(points as u16)).flatten()
}

/// Why stored evidence was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the weight of a step")]
pub struct NoStep(String);

impl TryFrom<Written> for Evidence {
    type Error = NoStep;

    fn try_from(written: Written) -> Result<Evidence, NoStep> {
        let mut stages: BTreeMap<Weight, StageEvidence> = BTreeMap::new();
        for stage in written.stages {
            let weight = weight_of_ratio(stage.weight).ok_or_else(|| NoStep(stage.weight.to_string()))?;
            stages.entry(weight).or_default().merge(&stage.seen);
        }
        let step = written.step.map(|name| step_weight(&name).ok_or(NoStep(name))).transpose()?;
        Ok(Evidence {
            step,
            stages,
            comparisons: written.comparisons,
            before: written.before,
            late_alarms: written.late_alarms,
            coverage: written.coverage,
            external: written.external,
            external_why: written.external_why,
        })
    }
}

impl From<Evidence> for Written {
    fn from(evidence: Evidence) -> Written {
        let stage = |(weight, seen): (Weight, StageEvidence)| WrittenStage {
            step: step_name(weight),
            weight: weight.ratio(),
            seen,
        };
        Written {
            step: evidence.step.map(step_name),
            stages: evidence.stages.into_iter().map(stage).collect(),
            comparisons: evidence.comparisons,
            before: evidence.before,
            late_alarms: evidence.late_alarms,
            coverage: evidence.coverage,
            external: evidence.external,
            external_why: evidence.external_why,
        }
    }
}

#[cfg(test)]
pub(in crate::judge) mod tests;
