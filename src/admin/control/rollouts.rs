//! Rollouts as they are moved: by what was proven, and by people.

use std::sync::Arc;

use serde::Serialize;
use strangler_core::name::RouteName;
use strangler_core::runtime::{Note, Progress, Refusal, RolloutAsk, RolloutChange};
use strangler_core::snapshot::Snapshot;

use crate::admin::control::{Control, ControlError, Record, audit};
use crate::store::{AuditEntry, Change, now_unix_ms};

/// What came of asking something of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolloutOutcome {
    /// The route.
    pub route: String,
    /// What was asked: `hold`, `resume`, `approve`, `rollback`.
    pub asked: &'static str,
    /// The weight before.
    pub from: String,
    /// And now.
    pub to: String,
    /// What follows from it, in words.
    pub note: String,
    /// Whether it outlives a restart.
    #[serde(flatten)]
    pub record: Record,
}

/// A move of the rollout's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutMove {
    /// The route.
    pub route: RouteName,
    /// Where it stood when this was decided.
    pub before: Option<Progress>,
    /// Where it stands then.
    pub after: Progress,
    /// For the audit: `rollout_step`, `rollout_back`, `rollout_release`.
    pub what: &'static str,
}

impl RolloutMove {
    fn is_raise(&self) -> bool {
        RolloutChange { before: self.before.clone(), after: self.after.clone() }.is_raise()
    }
}

impl Control {
    /// Does what a person asks of a route's rollout.
    pub async fn ask_rollout(
        &self,
        who: &str,
        name: &RouteName,
        ask: RolloutAsk,
        reason: &str,
    ) -> Result<RolloutOutcome, ControlError> {
        let note = Note::new(who, now_unix_ms(), reason)?;
        let entry = AuditEntry {
            what: ask.as_str().to_owned(),
            route: Some(name.as_str().to_owned()),
            to: if let RolloutAsk::Approve(Some(step)) = ask { Some(step.to_string()) } else { None },
            ..audit(&note)
        };
        let result = self.do_ask(name, ask, note, entry.clone()).await;
        self.audit_refusal(entry, result)
    }

    async fn do_ask(
        &self,
        name: &RouteName,
        ask: RolloutAsk,
        note: Note,
        entry: AuditEntry,
    ) -> Result<RolloutOutcome, ControlError> {
        let planned = plan(&self.snapshot(), name, ask, &note)?;
        let (from, to) = (planned.from().to_string(), planned.after.weight.to_string());
        let entry = AuditEntry { from: Some(from.clone()), to: entry.to.or(Some(to.clone())), accepted: true, ..entry };
        let words = words(ask, &planned);
        let record = if planned.is_raise() {
            let change = Change::Rollout(name.clone(), Some(planned.after.clone()));
            let one = RolloutMove { route: name.clone(), before: planned.before, after: planned.after, what: "" };
            self.put_after_record(&one, change, entry).await?;
            Record { stored: true, warning: None }
        } else {
            // In force first, by what is in force then: an emergency waits for no disk, and for nobody else's move.
            let mut result = Err(ControlError::Conflict);
            self.live.change(&mut |now| match plan(now, name, ask, &note) {
                Ok(change) => {
                    result = Ok(());
                    Some(Arc::new(now.with_runtime(&now.runtime().with_progress(name, Some(change.after)))))
                }
                Err(refusal) => {
                    result = Err(refusal.into());
                    None
                }
            });
            result?;
            self.record_rollout(name, entry).await
        };
        Ok(RolloutOutcome { route: name.as_str().to_owned(), asked: ask.as_str(), from, to, note: words, record })
    }

    /// Moves a rollout as it was decided, unless something else has moved it meanwhile. A raise is on record before it is in force.
    pub async fn move_rollout(&self, one: &RolloutMove) -> Result<(), ControlError> {
        let entry = AuditEntry {
            what: one.what.to_owned(),
            route: Some(one.route.as_str().to_owned()),
            from: Some(one.before.as_ref().map_or_else(|| "0%".to_owned(), |before| before.weight.to_string())),
            to: Some(one.after.weight.to_string()),
            accepted: true,
            ..audit(&one.after.entered)
        };
        if one.is_raise() {
            let change = Change::Rollout(one.route.clone(), Some(one.after.clone()));
            return self.put_after_record(one, change, entry).await;
        }
        if !self.publish_rollout(one) {
            return Err(ControlError::Conflict);
        }
        let record = self.record_rollout(&one.route, entry).await;
        if let Some(warning) = record.warning {
            tracing::error!(route = %one.route, warning, "a rollout was sent back");
        }
        Ok(())
    }

    async fn put_after_record(&self, one: &RolloutMove, change: Change, entry: AuditEntry) -> Result<(), ControlError> {
        let _turn = self.turn.lock().await;
        if let Err(error) = self.store.save_or_forget(vec![change], vec![entry]).await {
            self.save_rollout_in_force(&one.route);
            return Err(ControlError::NotRecorded(error));
        }
        if self.publish_rollout(one) {
            return Ok(());
        }
        self.save_rollout_in_force(&one.route);
        Err(ControlError::Conflict)
    }

    fn publish_rollout(&self, one: &RolloutMove) -> bool {
        let mut is_done = false;
        self.live.change(&mut |now| {
            let has_rollout = now.route(one.route.as_str()).is_some_and(|(_, route)| route.rollout.is_some());
            is_done = has_rollout && now.runtime().rollouts().get(&one.route) == one.before.as_ref();
            let next = is_done.then(|| now.runtime().with_progress(&one.route, Some(one.after.clone())))?;
            Some(Arc::new(now.with_runtime(&next)))
        });
        is_done
    }

    async fn record_rollout(&self, name: &RouteName, entry: AuditEntry) -> Record {
        let _turn = self.turn.lock().await;
        let in_force = self.snapshot().runtime().rollouts().get(name).cloned();
        Record::of(self.store.save(vec![Change::Rollout(name.clone(), in_force)], vec![entry]).await)
    }

    fn save_rollout_in_force(&self, name: &RouteName) {
        let in_force = self.snapshot().runtime().rollouts().get(name).cloned();
        self.store.save_soon(vec![Change::Rollout(name.clone(), in_force)], vec![]);
    }
}

fn plan(snapshot: &Snapshot, name: &RouteName, ask: RolloutAsk, note: &Note) -> Result<RolloutChange, Refusal> {
    let (_, route) = snapshot.route(name.as_str()).ok_or_else(|| Refusal::UnknownRoute(name.clone()))?;
    snapshot.runtime().with_ask(route, ask, note.clone())
}

fn words(ask: RolloutAsk, change: &RolloutChange) -> String {
    let weight = change.after.weight;
    match ask {
        RolloutAsk::Hold => format!("it stays at {weight} until `strangler resume`; harm still sends it back"),
        RolloutAsk::Resume if change.before.as_ref().is_some_and(|before| before.latched.is_some()) => {
            "it may rise again, and what was counted until the rollback counts no more".to_owned()
        }
        RolloutAsk::Resume => "it may rise again".to_owned(),
        RolloutAsk::Approve(_) => "it enters that step once all else is as it should be".to_owned(),
        RolloutAsk::RollBack { .. } => {
            "nothing rises again before `strangler resume`, or another release of the service".to_owned()
        }
    }
}
