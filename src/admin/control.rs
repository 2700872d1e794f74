//! Everything that moves users by hand: what is asked becomes a runtime state, is published, and is put on record.
//!
//! What sends users to legacy is in force at once and put on record afterwards; what sends them to extracted is on record before it is
//! in force. So an emergency does not wait for a disk, and nothing rises that a restart would forget.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use strangler_core::name::RouteName;
use strangler_core::runtime::{
    DroppedRaise, Kill, KillScope, KillSource, Note, NoteError, Refusal, RuntimeState, WeightAsk, WeightChange,
};
use strangler_core::snapshot::{KillStatus, Snapshot};
use strangler_core::table::RoutingTable;
use tokio::sync::Mutex;

use crate::live::Publish;
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
        let warning = saved.err().map(|error| format!("in force, but a restart would forget it: {error}"));
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

/// What came of a kill or of lifting one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KillOutcome {
    /// `*` or a route's name.
    pub scope: String,
    /// How many routes are killed now, by this or another.
    pub killed_routes: usize,
    /// Routes it leaves where they are, because the extracted service owns their data.
    pub not_moved: Vec<String>,
    /// Kills that still cover this scope.
    pub remaining: Vec<KillStatus>,
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
}

impl Control {
    /// Over what is published and what is stored.
    pub fn new(live: Arc<dyn Publish>, store: Store) -> Control {
        Control { live, store, turn: Mutex::new(()) }
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

    /// Sends all traffic of a route, or of all, to legacy.
    pub async fn kill(
        &self,
        who: &str,
        scope: KillScope,
        accept_stale: bool,
        reason: &str,
    ) -> Result<KillOutcome, ControlError> {
        let note = Note::new(who, now_unix_ms(), reason)?;
        let entry = kill_audit("kill", &scope, &note);
        let published = self.publish_kill(&scope, KillSource::Api, accept_stale, &note);
        let not_moved = self.audit_refusal(entry.clone(), published.map_err(ControlError::from))?;
        let _turn = self.turn.lock().await;
        let changes = self.kills_in_force(&scope);
        let saved = self.store.save(changes, vec![AuditEntry { accepted: true, ..entry }]).await;
        Ok(self.outcome(&scope, &not_moved, Record::of(saved)))
    }

    /// Kills all, for a signal: in force when it answers, and put on record soon. Answers the routes that were not moved.
    pub fn kill_all_by_signal(&self) -> Vec<RouteName> {
        let Ok(note) = Note::new("SIGUSR1", now_unix_ms(), "a signal killed all") else {
            return Vec::new();
        };
        let scope = KillScope::All;
        let not_moved = self.publish_kill(&scope, KillSource::Signal, false, &note).unwrap_or_default();
        let entry = AuditEntry { accepted: true, ..kill_audit("kill", &scope, &note) };
        self.store.save_soon(self.kills_in_force(&scope), vec![entry]);
        tracing::warn!(not_moved = ?names(&not_moved), "a signal killed all routes");
        not_moved
    }

    /// Lifts a kill of the API or of a signal.
    pub async fn unkill(&self, who: &str, scope: KillScope, reason: &str) -> Result<KillOutcome, ControlError> {
        let note = Note::new(who, now_unix_ms(), reason)?;
        let entry = kill_audit("unkill", &scope, &note);
        let result = self.lift(&scope, entry.clone()).await;
        self.audit_refusal(entry, result)
    }

    async fn lift(&self, scope: &KillScope, entry: AuditEntry) -> Result<KillOutcome, ControlError> {
        let _turn = self.turn.lock().await;
        let planned = self.snapshot();
        planned.runtime().without_kill(scope)?;
        let before = liftable(&planned, scope);
        let lifted = [KillSource::Api, KillSource::Signal].map(|source| Change::Kill(scope.clone(), source, None));
        let saved = self.store.save_or_forget(lifted.to_vec(), vec![AuditEntry { accepted: true, ..entry }]).await;
        if let Err(error) = saved {
            self.store.save_soon(self.kills_in_force(scope), vec![]);
            return Err(ControlError::NotRecorded(error));
        }
        let mut is_done = false;
        self.live.change(&mut |now| {
            let next = now.runtime().without_kill(scope).ok().filter(|_| liftable(now, scope) == before)?;
            is_done = true;
            Some(Arc::new(now.with_runtime(&next)))
        });
        if !is_done {
            self.store.save_soon(self.kills_in_force(scope), vec![]);
            return Err(ControlError::Conflict);
        }
        Ok(self.outcome(scope, &[], Record { stored: true, warning: None }))
    }

    /// Puts the kill file's lines in force. Answers the routes that they name and leave where they are.
    pub fn apply_kill_file(&self, lines: &BTreeSet<KillScope>) -> Vec<RouteName> {
        let Ok(note) = Note::new("kill file", now_unix_ms(), "its line in the kill file") else {
            return Vec::new();
        };
        let mut before = Arc::clone(&self.snapshot());
        let after = self.live.change(&mut |now| {
            before = Arc::clone(now);
            let next = now.runtime().with_kill_file(lines, &note);
            (next != *now.runtime()).then(|| Arc::new(now.with_runtime(&next)))
        });
        let of_file = |snapshot: &Snapshot| -> BTreeSet<KillScope> {
            let own = snapshot.runtime().kills().filter(|kill| kill.source == KillSource::File);
            own.map(|kill| kill.scope.clone()).collect()
        };
        let (was, is) = (of_file(&before), of_file(&after));
        let entries = is.difference(&was).map(|scope| ("kill", scope));
        let entries = entries.chain(was.difference(&is).map(|scope| ("unkill", scope)));
        let entries: Vec<AuditEntry> =
            entries.map(|(what, scope)| AuditEntry { accepted: true, ..kill_audit(what, scope, &note) }).collect();
        let mut not_moved = BTreeSet::new();
        for kill in after.runtime().kills().filter(|kill| kill.source == KillSource::File) {
            let spared = after.runtime().spared_by(kill, after.table());
            if let KillScope::Route(name) = &kill.scope
                && after.route(name.as_str()).is_none()
                && !was.contains(&kill.scope)
            {
                tracing::warn!(route = %name, "the kill file names a route that the table does not have");
            }
            not_moved.extend(spared);
        }
        if !entries.is_empty() {
            let lines: Vec<&str> = is.iter().map(KillScope::as_str).collect();
            tracing::warn!(?lines, "the kill file is in force");
            if !not_moved.is_empty() {
                tracing::error!(
                    routes = ?names(&not_moved),
                    "not moved by the kill file: the extracted service owns their data; use `strangler kill --accept-stale`"
                );
            }
            self.store.save_soon(vec![], entries);
        }
        not_moved.into_iter().collect()
    }

    /// Puts another table in force, under what people have moved. Answers the raises that it ends.
    pub fn with_table(&self, table: &Arc<RoutingTable>) -> Vec<DroppedRaise> {
        let mut dropped = Vec::new();
        self.live.change(&mut |now| {
            let (next, ended) = now.with_table(Arc::clone(table));
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

    /// Puts something that moves nobody on record: a refused login, a reload.
    pub fn note_in_audit(&self, entry: AuditEntry) {
        self.store.save_soon(vec![], vec![AuditEntry { at_unix_ms: now_unix_ms(), ..entry }]);
    }

    fn publish_kill(
        &self,
        scope: &KillScope,
        source: KillSource,
        accept_stale: bool,
        note: &Note,
    ) -> Result<Vec<RouteName>, Refusal> {
        let mut result = Ok(Vec::new());
        self.live.change(&mut |now| match now.runtime().with_kill(
            now.table(),
            scope.clone(),
            source,
            accept_stale,
            note.clone(),
        ) {
            Ok((next, not_moved)) => {
                result = Ok(not_moved);
                Some(Arc::new(now.with_runtime(&next)))
            }
            Err(refusal) => {
                result = Err(refusal);
                None
            }
        });
        result
    }

    fn kills_in_force(&self, scope: &KillScope) -> Vec<Change> {
        let kills = liftable(&self.snapshot(), scope);
        let of = |source| kills.iter().find(|kill: &&Kill| kill.source == source).cloned();
        [KillSource::Api, KillSource::Signal].map(|source| Change::Kill(scope.clone(), source, of(source))).to_vec()
    }

    fn save_move_in_force(&self, name: &RouteName) {
        let in_force = self.snapshot().runtime().moves().get(name).cloned();
        self.store.save_soon(vec![Change::Move(name.clone(), in_force)], vec![]);
    }

    fn outcome(&self, scope: &KillScope, not_moved: &[RouteName], record: Record) -> KillOutcome {
        let now = self.snapshot();
        let covers = |kill: &&Kill| kill.scope == *scope || kill.scope == KillScope::All || *scope == KillScope::All;
        KillOutcome {
            scope: scope.as_str().to_owned(),
            killed_routes: (0..now.table().routes().len())
                .filter(|index| now.state(*index).is_some_and(|state| state.killed))
                .count(),
            not_moved: names(not_moved),
            remaining: now.runtime().kills().filter(covers).map(KillStatus::of).collect(),
            record,
        }
    }

    fn audit_refusal<T>(&self, entry: AuditEntry, result: Result<T, ControlError>) -> Result<T, ControlError> {
        if let Err(error) = &result {
            let reason = format!("{error} (asked because {})", entry.reason);
            self.store.save_soon(vec![], vec![AuditEntry { reason, accepted: false, ..entry }]);
        }
        result
    }
}

/// The kills of a scope that `unkill` lifts.
fn liftable(snapshot: &Snapshot, scope: &KillScope) -> Vec<Kill> {
    let runtime: &RuntimeState = snapshot.runtime();
    runtime.kills().filter(|kill| kill.scope == *scope && kill.source != KillSource::File).cloned().collect()
}

fn how_it_ends(change: &WeightChange) -> String {
    use strangler_core::runtime::MoveKind;
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

fn kill_audit(what: &str, scope: &KillScope, note: &Note) -> AuditEntry {
    AuditEntry { what: what.to_owned(), route: Some(scope.as_str().to_owned()), ..audit(note) }
}

fn names<'a>(routes: impl IntoIterator<Item = &'a RouteName>) -> Vec<String> {
    routes.into_iter().map(|name| name.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests;
