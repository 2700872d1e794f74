//! A ledger on its way to the store and back: what was counted and the keys it was counted for go together, so that nothing is counted
//! twice after a restart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Ledger;
use crate::judge::Evidence;
use crate::judge::late::{Late, Lately};
use crate::runtime::Release;
use crate::sketch::{Sketch, Thresholds};
use crate::weight::Weight;

/// What is stored of a ledger in one go, all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The counts, as JSON.
    pub counts: String,
    /// Keys that were counted since the last one, each [`KEY_BYTES`](super::KEY_BYTES).
    pub keys: Vec<u8>,
    /// Whether these are all keys there are, so that those stored before go.
    pub is_whole: bool,
}

/// Why what was stored is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The counts.
    #[error("the counts cannot be read")]
    Counts(#[source] serde_json::Error),
    /// A release or a weight that is none.
    #[error("the release or the weight of the counts is none")]
    Value,
    /// The keys.
    #[error("the keys cannot be read")]
    Keys,
}

#[derive(Serialize, Deserialize)]
struct Counts {
    release: Option<String>,
    evidence: Evidence,
    late: Late,
    times: Sketch,
    slow: Option<Thresholds>,
    stage: u16,
    stage_number: u32,
    at_step_ms: u64,
    compared_before: u64,
    #[serde(default)]
    since: Lately,
    #[serde(default)]
    alarm: Option<(u16, Lately)>,
    #[serde(default)]
    epoch: u64,
}

impl Ledger {
    /// What has changed since this was asked last; `None`: nothing. `is_whole`: all of it, for a store that shall forget what it has.
    pub fn take_unsaved(&mut self, is_whole: bool) -> Option<Saved> {
        if !self.is_changed && !is_whole {
            return None;
        }
        self.is_changed = false;
        let is_whole = is_whole || self.keys.is_whole_unsaved();
        let (stage, stage_number) = self.keys.stage();
        let counts = Counts {
            release: self.release.as_ref().map(|release| release.as_str().to_owned()),
            evidence: self.evidence.clone(),
            late: self.late,
            times: self.times.clone(),
            slow: self.slow,
            stage: stage.basis_points(),
            stage_number,
            at_step_ms: u64::try_from(self.at_step.as_millis()).unwrap_or(u64::MAX),
            compared_before: self.compared_before,
            since: self.since,
            alarm: self.alarm.map(|(weight, lately)| (weight.basis_points(), lately)),
            epoch: self.epoch,
        };
        let keys = if is_whole { self.keys.take_all() } else { self.keys.take_unsaved() };
        // Numbers and short texts only: there is nothing in it that cannot be written.
        Some(Saved { counts: serde_json::to_string(&counts).unwrap_or_default(), keys, is_whole })
    }

    /// As it was stored: counts, and keys in the order in which they were.
    pub fn load<'a>(counts: &str, keys: impl IntoIterator<Item = &'a [u8]>) -> Result<Ledger, LedgerError> {
        let counts: Counts = serde_json::from_str(counts).map_err(LedgerError::Counts)?;
        let release = counts.release.map(|text| Release::new(&text).ok_or(LedgerError::Value)).transpose()?;
        let stage = Weight::from_basis_points(counts.stage).ok_or(LedgerError::Value)?;
        let alarm = match counts.alarm {
            None => None,
            Some((weight, lately)) => Some((Weight::from_basis_points(weight).ok_or(LedgerError::Value)?, lately)),
        };
        let mut ledger = Ledger {
            since: counts.since,
            alarm,
            epoch: counts.epoch,
            release,
            evidence: counts.evidence,
            late: counts.late,
            times: counts.times,
            slow: counts.slow,
            at_step: Duration::from_millis(counts.at_step_ms),
            compared_before: counts.compared_before,
            ..Ledger::default()
        };
        ledger.keys.set_stage(stage, counts.stage_number);
        for chunk in keys {
            ledger.keys.load(chunk).ok_or(LedgerError::Keys)?;
        }
        Ok(ledger)
    }
}
