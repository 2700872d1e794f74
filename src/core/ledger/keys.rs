//! Which keys have been counted for what: a bounded table of hashes.

use std::collections::BTreeMap;

use crate::weight::Weight;

/// Most keys of a route: some 30 MB.
pub const KEYS_MAX: usize = 1_000_000;
/// Changes that wait to be stored one by one: while a store is away they would grow without end.
const UNSAVED_MAX: usize = 200_000;
/// A key as it is stored, in bytes.
pub const KEY_BYTES: usize = 12;

/// What a key is counted for, once in a release; from [`Fact::StepUnit`] on, once in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Unit = 0,
    Error = 1,
    Timed = 2,
    Classed = 3,
    Status3xx = 4,
    Status4xx = 5,
    AloneUnit = 6,
    AloneError = 7,
    AllUnit = 8,
    AllError = 9,
    StepUnit = 11,
    StepError = 12,
    StepTimed = 13,
    Assigned = 14,
    Completed = 15,
}

impl Fact {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

const STAGE_FACTS: u32 =
    Fact::StepUnit.bit() | Fact::StepError.bit() | Fact::StepTimed.bit() | Fact::Assigned.bit() | Fact::Completed.bit();
const STAGE_SHIFT: u32 = 16;

/// Keys, and what each has been counted for: facts in the lower half, the number of the stage that those of a stage are about above.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: BTreeMap<u64, u32>,
    /// Those that have changed since they were stored.
    unsaved: Vec<u64>,
    /// Whether so many have changed that all of them are to be stored.
    is_whole_unsaved: bool,
    /// The stage that is counted now, and its number.
    stage: (Weight, u32),
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn has(&self, key: u64) -> bool {
        self.known.contains_key(&key)
    }

    /// Whether there was room.
    pub(super) fn add(&mut self, key: u64) -> bool {
        if self.known.len() >= KEYS_MAX {
            return false;
        }
        self.known.insert(key, 0);
        true
    }

    /// Whether the key has not been counted for this before; it has from now on.
    pub(super) fn first(&mut self, key: u64, fact: Fact) -> bool {
        let Some(facts) = self.known.get_mut(&key) else { return false };
        let is_first = *facts & fact.bit() == 0;
        if is_first {
            *facts |= fact.bit();
            if self.unsaved.len() < UNSAVED_MAX {
                self.unsaved.push(key);
            } else {
                self.is_whole_unsaved = true;
            }
        }
        is_first
    }

    /// Likewise, in the stage of that weight. What comes late from another stage is not counted.
    pub(super) fn first_in_stage(&mut self, key: u64, weight: Weight, fact: Fact) -> bool {
        let (now, number) = self.stage;
        let Some(facts) = self.known.get_mut(&key).filter(|_| now == weight) else { return false };
        if *facts >> STAGE_SHIFT != number {
            *facts = *facts & !STAGE_FACTS & ((1 << STAGE_SHIFT) - 1) | number << STAGE_SHIFT;
        }
        self.first(key, fact)
    }

    /// Whether only all of them together are what is unsaved.
    pub(super) const fn is_whole_unsaved(&self) -> bool {
        self.is_whole_unsaved
    }

    /// Another stage: every key is assigned anew.
    pub(super) fn enter(&mut self, weight: Weight) {
        if self.stage.0 != weight || self.stage.1 == 0 {
            self.stage = (weight, self.stage.1 + 1);
        }
    }

    pub(super) const fn stage(&self) -> (Weight, u32) {
        self.stage
    }

    pub(super) const fn set_stage(&mut self, weight: Weight, number: u32) {
        self.stage = (weight, number);
    }

    /// What has changed since this was asked last, as bytes.
    pub(super) fn take_unsaved(&mut self) -> Vec<u8> {
        self.unsaved.sort_unstable();
        self.unsaved.dedup();
        let mut bytes = Vec::with_capacity(self.unsaved.len() * KEY_BYTES);
        for key in self.unsaved.drain(..) {
            if let Some(facts) = self.known.get(&key) {
                bytes.extend(key.to_le_bytes());
                bytes.extend(facts.to_le_bytes());
            }
        }
        bytes
    }

    /// All of it, as bytes; nothing is unsaved then.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        self.unsaved.clear();
        self.is_whole_unsaved = false;
        let mut bytes = Vec::with_capacity(self.known.len() * KEY_BYTES);
        for (key, facts) in &self.known {
            bytes.extend(key.to_le_bytes());
            bytes.extend(facts.to_le_bytes());
        }
        bytes
    }

    /// Puts stored keys in; a later word on a key holds. `None`: these are no keys.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Option<()> {
        let (keys, rest) = bytes.as_chunks::<KEY_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        for entry in keys {
            let (key, facts) = entry.split_first_chunk::<8>()?;
            let facts = u32::from_le_bytes(*facts.first_chunk()?);
            if self.known.len() < KEYS_MAX || self.known.contains_key(&u64::from_le_bytes(*key)) {
                self.known.insert(u64::from_le_bytes(*key), facts);
            }
        }
        Some(())
    }
}
