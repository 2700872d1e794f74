//! Everything that moves users by hand: what is asked becomes a runtime state, is published, and is put on record.
//!
//! What sends users to legacy is in force at once and put on record afterwards; what sends them to extracted is on record before it is
//! in force. So an emergency does not wait for a disk, and nothing rises that a restart would forget.

mod accepts;
mod kills;
mod rollouts;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use strangler_core::name::RouteName;
use strangler_core::past::RoutePast;
use strangler_core::redact::accept::Accepted;
use strangler_core::runtime::{
    DroppedRaise, MoveKind, Note, NoteError, Refusal, RuntimeState, WeightAsk, WeightChange,
};
use strangler_core::signing::{Signing, SigningKey};
use strangler_core::snapshot::Snapshot;
use strangler_core::table::RoutingTable;
use tokio::sync::Mutex;

pub use crate::admin::control::accepts::{AcceptError, AcceptedStatus};
pub use crate::admin::control::kills::KillOutcome;
pub use crate::admin::control::rollouts::RolloutOutcome;
use crate::live::Publish;
use crate::live::accepted::LiveAccepted;
use crate::store::{AuditEntry, Change, Store, StoreError, now_unix_ms};

/// Why a change was not made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// A rule of the runtime state forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Who and why were not said well.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It would send users to extracted and cannot be put on record.
    #[error(
        "not done, for it could not be put on record, and a restart would forget it (a kill or a lower weight is still possible)"
    )]
    NotRecorded(#[source] StoreError),
    /// A cause cannot be accepted, or taken back.
    #[error(transparent)]
    Accept(#[from] AcceptError),
    /// Something else moved the route meanwhile.
    #[error("not done, for something else moved this route at the same moment; look at its status and ask again")]
    Conflict,
}

/// Whether a change outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// It and its audit are on the disk.
    pub stored: bool,
    /// Why not. It is in force all the same, and written once the store is sound.
    pub warning: Option<String>,
}

impl Record {
    fn of(saved: Result<(), StoreError>) -> Record {
        let warning = saved.err().map(|error| {
            let is_kept = matches!(error, StoreError::Behind(_));
            let but = if is_kept { "and kept in the state directory" } else { "but a restart would forget it" };
            format!("in force, {but}: {error}")
        });
        Record { stored: warning.is_none(), warning }
    }
}

/// What came of a change of weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightOutcome {
    /// The route.
    pub route: String,
    /// In force before, kills left aside.
    pub from: String,
    /// In force now, kills left aside.
    pub to: String,
    /// What the file says; `None`: it does not have the route.
    pub file_weight: Option<String>,
    /// Whether a ceiling was lifted.
    pub lifted_ceiling: bool,
    /// How it now differs from the file, and how that ends.
    pub note: String,
    /// Whether the route is killed, so that users see nothing of it yet.
    pub killed: bool,
    /// Whether it outlives a restart.
    #[serde(flatten)]
    pub record: Record,
}

/// The one hand on the runtime state.
pub struct Control {
    live: Arc<dyn Publish>,
    store: Store,
    /// Held while something is put on record, so that the record ends as what is in force.
    turn: Mutex<()>,
    keys: Vec<SigningKey>,
    accepted: Arc<LiveAccepted>,
}

impl Control {
    /// Over what is published and what is stored.
    pub fn new(live: Arc<dyn Publish>, store: Store) -> Control {
        Control { live, store, turn: Mutex::new(()), keys: Vec::new(), accepted: Arc::default() }
    }

    /// With what leases are signed with, so that `explain` can tell them from forged ones. Default: none.
    #[must_use]
    pub fn with_keys(self, keys: Vec<SigningKey>) -> Control {
        Control { keys, ..self }
    }

    /// With the causes that are accepted, read by whoever compares. Default: a list of its own, empty.
    #[must_use]
    pub fn with_accepted(self, accepted: Arc<LiveAccepted>) -> Control {
        Control { accepted, ..self }
    }

    /// What leases are verified with, now.
    pub(super) fn signing(&self) -> Signing<'_> {
        Signing { keys: &self.keys, now_s: now_unix_ms() / 1_000 }
    }

    /// What is in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.live.snapshot()
    }

    /// Where changes are put on record.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Moves a route's weight.
    pub async fn set_weight(
        &self,
        who: &str,
        name: &RouteName,
        ask: WeightAsk,
        accept_stale: bool,
        reason: &str,
    ) -> Result<WeightOutcome, ControlError> {
        let note = Note::new(who, now_unix_ms(), reason)?;
        let entry = AuditEntry {
            what: "weight".to_owned(),
            route: Some(name.as_str().to_owned()),
            to: Some(match ask {
                WeightAsk::To(weight) => weight.to_string(),
                WeightAsk::File => "file".to_owned(),
            }),
            ..audit(&note)
        };
        let result = self.move_weight(name, ask, accept_stale, note, entry.clone()).await;
        self.audit_refusal(entry, result)
    }

    async fn move_weight(
        &self,
        name: &RouteName,
        ask: WeightAsk,
        accept_stale: bool,
        note: Note,
        entry: AuditEntry,
    ) -> Result<WeightOutcome, ControlError> {
        let snapshot = self.snapshot();
        let Some((_, route)) = snapshot.route(name.as_str()) else {
            return self.forget_orphan(&snapshot, name, ask, entry).await;
        };
        let (_, planned) = snapshot.runtime().with_weight(route, ask, accept_stale, note.clone())?;
        snapshot.runtime().refuse_apart(snapshot.table(), &planned)?;
        let entry = AuditEntry { from: Some(planned.from.to_string()), accepted: true, ..entry };
        let (change, record) = if planned.is_raise() {
            (self.raise(planned, entry).await?, Record { stored: true, warning: None })
        } else {
            self.lower(name, ask, accept_stale, &note, entry).await?
        };
        let now = self.snapshot();
        let is_killed = now.route(name.as_str()).and_then(|(index, _)| now.state(index)).is_some_and(|s| s.killed);
        Ok(WeightOutcome {
            route: name.as_str().to_owned(),
            from: change.from.to_string(),
            to: change.to.to_string(),
            file_weight: Some(change.file_weight.to_string()),
            lifted_ceiling: change.lifts_ceiling(),
            note: how_it_ends(&change),
            killed: is_killed,
            record,
        })
    }

    /// On record first, then in force, if nothing else moved the route in between.
    async fn raise(&self, planned: WeightChange, entry: AuditEntry) -> Result<WeightChange, ControlError> {
        let _turn = self.turn.lock().await;
        let name = &planned.route;
        let saved =
            self.store.save_or_forget(vec![Change::Move(name.clone(), planned.after.clone())], vec![entry]).await;
        if let Err(error) = saved {
            // It may have been written just too late: what is in force has the last word.
            self.save_move_in_force(name);
            return Err(ControlError::NotRecorded(error));
        }
        let mut is_done = false;
        self.live.change(&mut |now| {
            let same_file = now.route(name.as_str()).is_some_and(|(_, route)| route.weight == planned.file_weight);
            is_done = same_file && now.runtime().moves().get(name) == planned.before.as_ref();
            is_done.then(|| Arc::new(now.with_runtime(&now.runtime().with_move(name, planned.after.clone()))))
        });
        if is_done {
            return Ok(planned);
        }
        self.save_move_in_force(name);
        Err(ControlError::Conflict)
    }

    /// In force first, then on record.
    async fn lower(
        &self,
        name: &RouteName,
        ask: WeightAsk,
        accept_stale: bool,
        note: &Note,
        entry: AuditEntry,
    ) -> Result<(WeightChange, Record), ControlError> {
        let mut result = Err(ControlError::Conflict);
        self.live.change(&mut |now| {
            let (_, route) = now.route(name.as_str())?;
            match now.runtime().with_weight(route, ask, accept_stale, note.clone()) {
                Ok((_, change)) if change.is_raise() => None,
                Ok((next, change)) => {
                    result = Ok(change);
                    Some(Arc::new(now.with_runtime(&next)))
                }
                Err(refusal) => {
                    result = Err(refusal.into());
                    None
                }
            }
        });
        let change = result?;
        let _turn = self.turn.lock().await;
        let in_force = self.snapshot().runtime().moves().get(name).cloned();
        let saved = self.store.save(vec![Change::Move(name.clone(), in_force)], vec![entry]).await;
        Ok((change, Record::of(saved)))
    }

    /// A ceiling of a route that the file no longer has is lifted by `file`.
    async fn forget_orphan(
        &self,
        snapshot: &Snapshot,
        name: &RouteName,
        ask: WeightAsk,
        entry: AuditEntry,
    ) -> Result<WeightOutcome, ControlError> {
        let held = snapshot.runtime().moves().get(name).filter(|_| ask == WeightAsk::File);
        let held = held.ok_or_else(|| Refusal::UnknownRoute(name.clone()))?;
        let _turn = self.turn.lock().await;
        let entry = AuditEntry { from: Some(held.weight.to_string()), accepted: true, ..entry };
        let saved = self.store.save_or_forget(vec![Change::Move(name.clone(), None)], vec![entry]).await;
        saved.map_err(ControlError::NotRecorded)?;
        self.live.change(&mut |now| Some(Arc::new(now.with_runtime(&now.runtime().with_move(name, None)))));
        Ok(WeightOutcome {
            route: name.as_str().to_owned(),
            from: held.weight.to_string(),
            to: "file".to_owned(),
            file_weight: None,
            lifted_ceiling: true,
            note: "the file does not have this route; should it come back, its own weight is in force".to_owned(),
            killed: false,
            record: Record { stored: true, warning: None },
        })
    }

    /// Puts another table in force, under what people have moved. Answers the raises that it ends.
    pub fn with_table(&self, table: &Arc<RoutingTable>) -> Vec<DroppedRaise> {
        let mut dropped = Vec::new();
        self.live.change(&mut |now| {
            let (next, ended) = now.with_table(Arc::clone(table), now_unix_ms());
            dropped = ended;
            Some(Arc::new(next))
        });
        self.forget(&dropped);
        dropped
    }

    /// Takes ended raises off the record, and says so. Also for those that the first snapshot ended.
    pub fn forget(&self, dropped: &[DroppedRaise]) {
        for one in dropped {
            tracing::warn!(route = %one.route, "{one}");
        }
        let entries = dropped.iter().map(|one| AuditEntry {
            at_unix_ms: now_unix_ms(),
            who: "routes file".to_owned(),
            what: "raise_dropped".to_owned(),
            route: Some(one.route.as_str().to_owned()),
            from: Some(one.dropped.weight.to_string()),
            to: one.file_weight.map(|weight| weight.to_string()),
            reason: one.to_string(),
            accepted: true,
            ..AuditEntry::default()
        });
        let changes = dropped.iter().map(|one| Change::Move(one.route.clone(), None)).collect();
        if !dropped.is_empty() && !self.store.save_soon(changes, entries.collect()) {
            tracing::warn!("the end of these raises could not be put on record");
        }
    }

    /// Puts in force what a store says that answered after the start. What people have done since stays.
    pub fn adopt(&self, found: &RuntimeState, pasts: &BTreeMap<RouteName, RoutePast>, accepted: Accepted) {
        let mut dropped = Vec::new();
        self.live.change(&mut |now| {
            let (next, ended) = now.runtime().with_found(found).settled(now.table());
            dropped = ended;
            Some(Arc::new(now.with_runtime(&next)).resuming(pasts, now_unix_ms() / 1_000))
        });
        self.accepted.publish(accepted);
        self.forget(&dropped);
        let (kills, moves) = (found.kills().count(), found.moves().len());
        tracing::warn!(kills, moves, "the store answered after the start; what it says is in force from now on");
    }

    /// Puts something that moves nobody on record: a refused login, a reload.
    pub fn note_in_audit(&self, entry: AuditEntry) {
        self.store.save_soon(vec![], vec![AuditEntry { at_unix_ms: now_unix_ms(), ..entry }]);
    }

    fn save_move_in_force(&self, name: &RouteName) {
        let in_force = self.snapshot().runtime().moves().get(name).cloned();
        self.store.save_soon(vec![Change::Move(name.clone(), in_force)], vec![]);
    }

    fn audit_refusal<T>(&self, entry: AuditEntry, result: Result<T, ControlError>) -> Result<T, ControlError> {
        if let Err(error) = &result {
            let reason = format!("{error} (asked because {})", entry.reason);
            self.store.save_soon(vec![], vec![AuditEntry { reason, accepted: false, ..entry }]);
        }
        result
    }
}

fn how_it_ends(change: &WeightChange) -> String {
    let file = change.file_weight;
    match &change.after {
        None if change.lifts_ceiling() => format!("the ceiling is lifted; the file's {file} is in force again"),
        None => format!("the file's {file} is in force"),
        Some(moved) if moved.kind == MoveKind::Ceiling => format!(
            "a ceiling of {}: it holds whatever the file says, until a weight at or above the file's ({file}) is set, or `file`",
            moved.weight
        ),
        Some(_) => format!("a raise above the file's {file}: it ends when the file says another weight for this route"),
    }
}

fn audit(note: &Note) -> AuditEntry {
    AuditEntry {
        at_unix_ms: note.at_unix_ms(),
        who: note.by().to_owned(),
        reason: note.reason().to_owned(),
        ..AuditEntry::default()
    }
}

#[cfg(test)]
mod tests;
