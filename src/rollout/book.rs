//! What is known of one route's rollout beside what is in force: its ledger, and how far that is on record.

use std::time::Duration;

use strangler_core::hook::Watch;
use strangler_core::judge::evidence::Comparisons;
use strangler_core::judge::hard::Trip;
use strangler_core::judge::ladder::is_warming;
use strangler_core::ledger::{Ledger, LedgerError, Saved};
use strangler_core::release::Recent;
use strangler_core::runtime::Progress;
use strangler_core::weight::Weight;

use crate::live::witness::Seen;
use crate::rollout::Beside;
use crate::store::StoredLedger;

/// Pieces after which the keys are written anew as one: ten minutes of a busy route.
const PIECES_MAX: u32 = 600;

#[derive(Debug)]
pub(super) struct Book {
    pub(super) ledger: Ledger,
    /// How long caches may be cold after a raise.
    pub(super) warmup: Duration,
    /// Where it stood at the last look.
    stood: Option<(Weight, bool)>,
    trip: Option<Trip>,
    /// What extracted's answers say which release it runs.
    pub(super) releases: Recent,
    /// What has been told of it.
    pub(super) watch: Watch,
    /// As the process has counted them, at the last look.
    compared: Option<Comparisons>,
    pieces: u32,
    is_whole_next: bool,
}

impl Default for Book {
    fn default() -> Book {
        Book {
            ledger: Ledger::new(None),
            warmup: Duration::ZERO,
            stood: None,
            trip: None,
            releases: Recent::default(),
            watch: Watch::default(),
            compared: None,
            pieces: 0,
            // What the store has of a route that is gone, or cannot be read, goes.
            is_whole_next: true,
        }
    }
}

impl Book {
    pub(super) fn stored(stored: &StoredLedger) -> Result<Book, LedgerError> {
        let ledger = Ledger::load(&stored.counts, stored.keys.iter().map(Vec::as_slice))?;
        let pieces = u32::try_from(stored.keys.len()).unwrap_or(u32::MAX);
        Ok(Book { ledger, pieces, is_whole_next: false, ..Book::default() })
    }

    pub(super) fn note(&mut self, seen: &Seen) {
        let is_warming = self.is_warming(seen.unit.weight);
        let trip = self.ledger.note(&seen.unit, seen.end, seen.at, is_warming);
        self.trip = self.trip.or(trip);
    }

    /// Whether what is seen now is of the first moments of a step.
    fn is_warming(&self, weight: Weight) -> bool {
        is_warming(weight, self.ledger.at_step(), self.warmup)
    }

    /// Another step, another release, or another begin by a person's word. Which begin the counts are of is stored with them: a process
    /// that is killed between a person's word and the next save does not judge by what that word has put aside.
    pub(super) fn follow(&mut self, progress: &Progress) {
        let is_other = progress.release.is_some() && self.ledger.release() != progress.release.as_ref();
        if is_other || self.ledger.epoch() != progress.epoch {
            self.ledger = self.ledger.anew(progress.release.clone(), progress.epoch);
            self.is_whole_next = true;
            self.trip = None;
            self.ledger.enter(progress.weight);
        }
        let stands = (progress.weight, progress.is_begun);
        match self.stood {
            // After a restart it stands where it stood.
            None if self.ledger.stands_at(progress.weight) => {}
            Some(stood) if stood == stands => {}
            None | Some(_) => {
                self.ledger.enter(progress.weight);
                self.trip = None;
            }
        }
        self.stood = Some(stands);
    }

    /// So much time has passed. Answers what the hard breaker says.
    pub(super) fn tick(
        &mut self,
        progress: &Progress,
        beside: &Beside,
        passed: Duration,
        is_killed: bool,
        at: Duration,
    ) -> Option<Trip> {
        let warm = self.is_warming(progress.weight);
        if !is_killed {
            self.ledger.ran(progress.weight, passed, warm);
        }
        let before = self.compared.replace(beside.comparisons).unwrap_or(beside.comparisons);
        let more = Comparisons {
            compared: beside.comparisons.compared.saturating_sub(before.compared),
            mismatched: beside.comparisons.mismatched.saturating_sub(before.mismatched),
            burst: 0,
        };
        self.ledger.compared(more, at);
        let trip = self.ledger.breaker(at, beside.is_breaker_open && progress.weight > Weight::NONE);
        self.trip.take().or(trip)
    }

    pub(super) fn take_unsaved(&mut self) -> Option<Saved> {
        let is_whole = self.is_whole_next || self.pieces >= PIECES_MAX;
        let saved = self.ledger.take_unsaved(is_whole)?;
        self.is_whole_next = false;
        self.pieces = if is_whole { 1 } else { self.pieces + u32::from(!saved.keys.is_empty()) };
        Some(saved)
    }

    pub(super) fn write_whole_next(&mut self) {
        self.is_whole_next = true;
    }
}
