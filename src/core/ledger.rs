//! The ledger of a route's rollout: requests in, evidence out. Every key is counted once.
//!
//! It is about one release of the extracted service and one process; another release begins a new one. What it keeps is bounded: a
//! key that finds no room proves nothing, and is counted as such.

mod burst;
mod keys;
mod saved;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::judge::Evidence;
use crate::judge::evidence::{Comparisons, CoverageResult, External, SideCounts, Split, StageEvidence};
use crate::judge::hard::{Ending, HardBreaker, Trip};
use crate::judge::ladder::Stood;
use crate::judge::late::{Late, Lately};
use crate::ledger::burst::Burst;
use crate::ledger::keys::{Fact, Keys};
use crate::runtime::Release;
use crate::side::Side;
use crate::sketch::{Sketch, Thresholds};
use crate::unit::{End, Unit};
use crate::weight::Weight;

pub use crate::ledger::keys::{KEY_BYTES, KEYS_MAX};
pub use crate::ledger::saved::{LedgerError, Saved};

/// Failures of extracted within four seconds that the e-CUSUM is told of; a restart must not look like a service that has begun to fail.
const BURST_SAYS_MAX: u64 = 5;
/// New keys that one client address may add in a minute.
pub const CLIENT_KEYS_MAX: u16 = 60;
/// Client addresses that are told apart in a minute; those beyond share one bound.
const CLIENTS_MAX: usize = 100_000;

/// What is known of a release.
#[derive(Debug, Default)]
pub struct Ledger {
    release: Option<Release>,
    keys: Keys,
    /// What was counted, but for what others add at a look: comparisons, coverage.
    evidence: Evidence,
    late: Late,
    /// Failures since the last tick, for the e-CUSUM.
    lately: (Weight, Split),
    /// Since the e-CUSUM was at rest.
    since: Lately,
    /// What came with its last alarm, and at which weight.
    alarm: Option<(Weight, Lately)>,
    /// How often a person had let the rollout begin anew when this was begun.
    epoch: u64,
    /// Failures that came at once. Not kept over a restart: what it has found is.
    burst: Burst,
    /// Likewise mismatches.
    mismatch_burst: Burst,
    /// Likewise failures that the e-CUSUM was told of.
    said: Burst,
    /// Legacy's times, until they are frozen.
    times: Sketch,
    slow: Option<Thresholds>,
    hard: HardBreaker,
    minute: u64,
    clients: BTreeMap<u64, u16>,
    refused: Refused,
    /// Time at this step.
    at_step: Duration,
    /// Comparisons when it was entered.
    compared_before: u64,
    is_changed: bool,
}

/// What was not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// New keys of an address that had added enough.
    pub crowded: u64,
    /// New keys that found no room.
    pub full: u64,
}

impl Ledger {
    /// Of a release that nothing is known of.
    pub fn new(release: Option<Release>) -> Ledger {
        Ledger { release, is_changed: true, ..Ledger::default() }
    }

    /// How often a person had let the rollout begin anew when this was begun.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What came with an alarm of a late regression at that weight.
    pub fn late_harm(&self, weight: Weight) -> Option<Lately> {
        self.alarm.filter(|(at, _)| *at == weight).map(|(_, lately)| lately)
    }

    /// The release that it is about; `None`: the service does not tell.
    pub const fn release(&self) -> Option<&Release> {
        self.release.as_ref()
    }

    /// What was not counted.
    pub const fn refused(&self) -> Refused {
        self.refused
    }

    /// Keys that it knows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.keys.len() == 0
    }

    /// Above which times an answer is slow; `None`: legacy's are not known yet.
    pub const fn thresholds(&self) -> Option<Thresholds> {
        self.slow
    }

    /// Takes a request that has ended. `at`: of a clock that does not jump; `is_warming`: whether caches may still be cold.
    pub fn note(&mut self, unit: &Unit, end: End, at: Duration, is_warming: bool) -> Option<Trip> {
        let trip = self.note_hard(unit, end, at);
        if !self.admits(unit, at) {
            return trip;
        }
        self.is_changed = true;
        let stage = self.evidence.stages.entry(unit.weight).or_default();
        let assigned = self.keys.first_in_stage(unit.key, unit.weight, Fact::Assigned);
        let completed = end != End::Gone && self.keys.first_in_stage(unit.key, unit.weight, Fact::Completed);
        count(&mut stage.assignments, unit.side, assigned);
        count(&mut stage.completions, unit.side, completed);
        if end == End::Gone {
            return trip;
        }
        let has_failed = match end {
            End::Answered { is_failure, .. } => is_failure,
            End::Failed { .. } | End::Gone => true,
        };
        match unit.weight {
            Weight::NONE => self.note_alone(unit, end, has_failed),
            Weight::ALL => self.note_all(unit, has_failed),
            _ => self.note_split(unit, end, has_failed, (at, is_warming)),
        }
        trip
    }

    /// At a step where nobody is split: what legacy is like alone. Its keys are counted anew where users are split.
    fn note_alone(&mut self, unit: &Unit, end: End, has_failed: bool) {
        if unit.side != Side::Legacy {
            return;
        }
        let before = &mut self.evidence.before;
        before.units += u64::from(self.keys.first(unit.key, Fact::AloneUnit));
        before.errors += u64::from(has_failed && self.keys.first(unit.key, Fact::AloneError));
        self.note_time(end);
    }

    /// Where there is no legacy side: for an objective of its own.
    fn note_all(&mut self, unit: &Unit, has_failed: bool) {
        let counts = self.evidence.stages.entry(Weight::ALL).or_default();
        counts.extracted.units += u64::from(self.keys.first(unit.key, Fact::AllUnit));
        counts.extracted.errors += u64::from(has_failed && self.keys.first(unit.key, Fact::AllError));
    }

    fn note_split(&mut self, unit: &Unit, end: End, has_failed: bool, (at, is_warming): (Duration, bool)) {
        if unit.side == Side::Legacy && self.slow.is_none() {
            self.note_time(end);
            // Enough of them, and from now on they stay.
            self.slow = self.times.freeze();
        }
        let slow = self.slow;
        self.since.requests += u64::from(unit.side == Side::Extracted);
        if !is_warming {
            self.note_by_itself(unit, has_failed, slow.is_some());
        }
        let stage = self.evidence.stages.entry(unit.weight).or_default();
        let counts = side_of(stage, unit.side, is_warming);
        let mut is_new_error = false;
        counts.units += u64::from(self.keys.first(unit.key, Fact::Unit));
        if has_failed && self.keys.first(unit.key, Fact::Error) {
            counts.errors += 1;
            is_new_error = true;
            if self.lately.0 != unit.weight {
                self.lately = (unit.weight, Split::default());
            }
            count(&mut self.lately.1, unit.side, true);
        }
        if let Some(slow) = slow
            && self.keys.first(unit.key, Fact::Timed)
        {
            // By the first answer of each key: one that asks a thousand times is sure to be slow once on either side.
            let is_above = |bound_us: u64| match end {
                End::Answered { took, .. } => took.as_micros() > u128::from(bound_us),
                End::Failed { .. } | End::Gone => true,
            };
            counts.timed += 1;
            counts.slow_p50 += u64::from(is_above(slow.p50_us));
            counts.slow_p95 += u64::from(is_above(slow.p95_us));
            counts.slow_p99 += u64::from(is_above(slow.p99_us));
        }
        if let End::Answered { status, is_failure, .. } = end {
            counts.classed += u64::from(self.keys.first(unit.key, Fact::Classed));
            let is_redirect = (300..400).contains(&status) && status != 304;
            counts.status_3xx += u64::from(is_redirect && self.keys.first(unit.key, Fact::Status3xx));
            let is_refusal = (400..500).contains(&status) && !is_failure;
            counts.status_4xx += u64::from(is_refusal && self.keys.first(unit.key, Fact::Status4xx));
        }
        if is_new_error && unit.side == Side::Extracted {
            let burst = self.burst.note(unit.weight, at, 1);
            let stage = self.evidence.stages.entry(unit.weight).or_default();
            stage.burst = stage.burst.max(burst);
        }
    }

    /// What the step proves by itself: whoever was counted at an earlier one counts again.
    fn note_by_itself(&mut self, unit: &Unit, has_failed: bool, is_timed: bool) {
        let pair = &mut self.evidence.stages.entry(unit.weight).or_default().by_itself;
        let counts = if unit.side == Side::Extracted { &mut pair.extracted } else { &mut pair.legacy };
        let mut first = |fact| u64::from(self.keys.first_in_stage(unit.key, unit.weight, fact));
        counts.units += first(Fact::StepUnit);
        counts.errors += if has_failed { first(Fact::StepError) } else { 0 };
        counts.timed += if is_timed { first(Fact::StepTimed) } else { 0 };
    }

    fn note_time(&mut self, end: End) {
        if let End::Answered { took, .. } = end {
            self.times.add(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        }
    }

    fn note_hard(&mut self, unit: &Unit, end: End, at: Duration) -> Option<Trip> {
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let ending = match end {
            End::Gone => return None,
            End::Answered { is_failure: false, .. } => Ending::Served,
            End::Answered { .. } | End::Failed { is_unconnected: false } => Ending::Failed,
            End::Failed { is_unconnected: true } => Ending::Unconnected,
        };
        match unit.side {
            Side::Legacy => {
                self.hard.legacy(ending != Ending::Served);
                None
            }
            Side::Extracted => self.hard.extracted(at_ms, unit.key, ending),
        }
    }

    /// Whether a key may be counted: known ones are, and new ones while there is room, for the table and for their client.
    fn admits(&mut self, unit: &Unit, at: Duration) -> bool {
        if self.keys.has(unit.key) {
            return true;
        }
        let minute = at.as_secs() / 60;
        if minute != self.minute {
            self.minute = minute;
            self.clients.clear();
        }
        let client = if self.clients.len() < CLIENTS_MAX { unit.client } else { 0 };
        let added = self.clients.entry(client).or_default();
        if *added >= CLIENT_KEYS_MAX {
            self.refused.crowded += 1;
            return false;
        }
        *added += 1;
        let is_admitted = self.keys.add(unit.key);
        self.refused.full += u64::from(!is_admitted);
        is_admitted
    }

    /// Says how the route's breaker stands; to be said at every look.
    pub fn breaker(&mut self, at: Duration, is_open: bool) -> Option<Trip> {
        self.hard.breaker(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), is_open)
    }

    /// So much time has passed at `weight` since the last look.
    pub fn ran(&mut self, weight: Weight, time: Duration, is_warming: bool) {
        let seconds = (self.at_step + time).as_secs() - self.at_step.as_secs();
        self.at_step += time;
        let (at, lately) = std::mem::take(&mut self.lately);
        if lately != Split::default() {
            // What comes at once is one event: no more than so many of it speak.
            let said = self.said.note(at, self.at_step, 0);
            let failures = lately.extracted.min(BURST_SAYS_MAX.saturating_sub(said));
            self.said.note(at, self.at_step, failures);
            self.since.failures += lately.extracted;
            if self.late.events(at, failures, lately.legacy) {
                self.alarm = Some((at, std::mem::take(&mut self.since)));
            }
            if self.late.is_at_rest() {
                self.since = Lately::default();
            }
            self.evidence.late_alarms = self.late.alarms;
        }
        if seconds > 0 && !is_warming {
            self.evidence.stages.entry(weight).or_default().seconds += seconds;
            self.is_changed = true;
        }
    }

    /// A step is entered: what legacy's times are is settled, if enough are known.
    pub fn enter(&mut self, weight: Weight) {
        self.at_step = Duration::ZERO;
        self.compared_before = self.evidence.comparisons.compared;
        if self.slow.is_none() {
            self.slow = self.times.freeze();
        }
        self.keys.enter(weight);
        self.is_changed = true;
    }

    /// Whether it counts for that weight.
    pub fn stands_at(&self, weight: Weight) -> bool {
        let (stage, number) = self.keys.stage();
        stage == weight && number > 0
    }

    /// Of another release, or of the same one once a person has let it rise again after a rollback. What is known of legacy stays.
    pub fn anew(&self, release: Option<Release>, epoch: u64) -> Ledger {
        let before = self.evidence.before;
        Ledger {
            evidence: Evidence { before, ..Evidence::default() },
            times: self.times.clone(),
            slow: self.slow,
            at_step: Duration::ZERO,
            epoch,
            ..Ledger::new(release)
        }
    }

    /// So many more pairs were compared, and so many of them mismatched.
    pub fn compared(&mut self, more: Comparisons, at: Duration) {
        let known = &mut self.evidence.comparisons;
        known.compared += more.compared;
        known.mismatched += more.mismatched;
        known.burst = known.burst.max(self.mismatch_burst.note(Weight::NONE, at, more.mismatched));
        self.is_changed |= more.compared > 0;
    }

    /// What the judge is to judge at `step`.
    pub fn evidence(
        &self,
        step: Weight,
        coverage: Option<CoverageResult>,
        external: Option<(External, Option<String>)>,
    ) -> Evidence {
        let (external, external_why) = external.map_or((None, None), |(external, why)| (Some(external), why));
        Evidence { step: Some(step), coverage, external, external_why, ..self.evidence.clone() }
    }

    /// Time at this step.
    pub const fn at_step(&self) -> Duration {
        self.at_step
    }

    /// What the step at `weight` has stood.
    pub fn stood(&self, weight: Weight) -> Stood {
        let stage = self.evidence.stages.get(&weight);
        let requests = if weight == Weight::NONE {
            self.evidence.comparisons.compared.saturating_sub(self.compared_before)
        } else if weight.is_split() {
            stage.map_or(0, |stage| stage.by_itself.extracted.units)
        } else {
            stage.map_or(0, |stage| stage.completions.extracted)
        };
        Stood { time: self.at_step, requests }
    }
}

fn count(split: &mut Split, side: Side, is_new: bool) {
    match side {
        Side::Legacy => split.legacy += u64::from(is_new),
        Side::Extracted => split.extracted += u64::from(is_new),
    }
}

fn side_of(stage: &mut StageEvidence, side: Side, is_warming: bool) -> &mut SideCounts {
    match (side, is_warming) {
        (Side::Extracted, false) => &mut stage.extracted,
        (Side::Legacy, false) => &mut stage.legacy,
        (Side::Extracted, true) => &mut stage.warmup.extracted,
        (Side::Legacy, true) => &mut stage.warmup.legacy,
    }
}

#[cfg(test)]
mod tests;
