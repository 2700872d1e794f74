//! Kills: by the API, by a signal, by the kill file; and how they are lifted.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use strangler_core::name::RouteName;
use strangler_core::route::Route;
use strangler_core::runtime::{Kill, KillScope, KillSource, Note, Refusal};
use strangler_core::snapshot::{KillStatus, Snapshot};

use crate::admin::control::{Control, ControlError, Record, audit};
use crate::store::{AuditEntry, Change, now_unix_ms};

/// Lines of one change of the kill file that are written down one by one.
const AUDITED_LINES_MAX: usize = 1_000;
/// Other kills that an answer names.
const REMAINING_MAX: usize = 100;

/// What came of a kill or of lifting one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KillOutcome {
    /// `*` or a route's name.
    pub scope: String,
    /// How many routes are killed now, by this or another.
    pub killed_routes: usize,
    /// Routes it leaves where they are, because the extracted service owns their data.
    pub not_moved: Vec<String>,
    /// Kills that still cover this scope; the first hundred.
    pub remaining: Vec<KillStatus>,
    /// Whether it outlives a restart.
    #[serde(flatten)]
    pub record: Record,
}

impl Control {
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
        let entry = |what, scope, reason: &str| {
            let entry = kill_audit(what, scope, &note);
            AuditEntry { accepted: true, reason: reason.to_owned(), ..entry }
        };
        let begun = is.difference(&was).map(|scope| entry("kill", scope, note.reason()));
        let ended = was.difference(&is).map(|scope| entry("unkill", scope, "its line left the kill file"));
        // A file of many lines is said in part; it is there to be read.
        let entries: Vec<AuditEntry> = begun.chain(ended).take(AUDITED_LINES_MAX).collect();
        let known: BTreeSet<&RouteName> = after.table().routes().iter().map(|route| &route.name).collect();
        for scope in is.difference(&was) {
            if let KillScope::Route(name) = scope
                && !known.contains(name)
            {
                tracing::warn!(route = %name, "the kill file names a route that the table does not have");
            }
        }
        let is_spared = |route: &&Arc<Route>| {
            let mut sparing = after.runtime().kills_sparing(route);
            sparing.any(|kill| kill.source == KillSource::File) && after.runtime().kills_of(route).next().is_none()
        };
        let not_moved: Vec<RouteName> =
            after.table().routes().iter().filter(is_spared).map(|route| route.name.clone()).collect();
        if !entries.is_empty() {
            let lines: Vec<&str> = is.iter().take(AUDITED_LINES_MAX).map(KillScope::as_str).collect();
            tracing::warn!(?lines, "the kill file has changed, and is in force");
            if !not_moved.is_empty() {
                tracing::error!(
                    routes = ?names(&not_moved),
                    "not moved by the kill file: the extracted service owns their data; use `strangler kill --accept-stale`"
                );
            }
            self.store.save_soon(vec![], entries);
        }
        not_moved
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

    fn outcome(&self, scope: &KillScope, not_moved: &[RouteName], record: Record) -> KillOutcome {
        let now = self.snapshot();
        let covers = |kill: &&Kill| kill.scope == *scope || kill.scope == KillScope::All || *scope == KillScope::All;
        KillOutcome {
            scope: scope.as_str().to_owned(),
            killed_routes: (0..now.table().routes().len())
                .filter(|index| now.state(*index).is_some_and(|state| state.killed))
                .count(),
            not_moved: names(not_moved),
            remaining: now.runtime().kills().filter(covers).take(REMAINING_MAX).map(KillStatus::of).collect(),
            record,
        }
    }
}

/// The kills of a scope that `unkill` lifts.
fn liftable(snapshot: &Snapshot, scope: &KillScope) -> Vec<Kill> {
    snapshot.runtime().kills().filter(|kill| kill.scope == *scope && kill.source != KillSource::File).cloned().collect()
}

fn kill_audit(what: &str, scope: &KillScope, note: &Note) -> AuditEntry {
    AuditEntry { what: what.to_owned(), route: Some(scope.as_str().to_owned()), ..audit(note) }
}

fn names<'a>(routes: impl IntoIterator<Item = &'a RouteName>) -> Vec<String> {
    routes.into_iter().map(|name| name.as_str().to_owned()).collect()
}
