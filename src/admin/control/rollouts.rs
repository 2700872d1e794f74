//! Rollouts as they are moved: by what was proven, and by people.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use strangler_core::name::RouteName;
use strangler_core::runtime::{Note, Progress, Refusal, RolloutAsk, RolloutChange, RolloutMove, RuntimeState};
use strangler_core::snapshot::Snapshot;

use crate::admin::control::{Control, ControlError, Record, audit};
use crate::store::{AuditEntry, Change, now_unix_ms};

/// What came of asking something of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RolloutOutcome {
    /// The route.
    pub route: String,
    /// The routes of its journey that it climbs with: asked of one, it is asked of all.
    pub with: Vec<String>,
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

impl Control {
    /// Does what a person asks of a route's rollout; of all routes of its journey where they climb together.
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
        let result = self.do_ask(name, ask, &note).await;
        self.audit_refusal(entry, result)
    }

    async fn do_ask(&self, name: &RouteName, ask: RolloutAsk, note: &Note) -> Result<RolloutOutcome, ControlError> {
        let planned = plan(&self.snapshot(), name, ask, note)?;
        let outcome = |moved: &RolloutMove, record: Record| {
            let own = moved.of(name).or(moved.changes.first());
            RolloutOutcome {
                route: name.as_str().to_owned(),
                with: moved.changes.iter().filter(|one| one.route != *name).map(|one| one.route.to_string()).collect(),
                asked: ask.as_str(),
                from: own.map(|one| one.from().to_string()).unwrap_or_default(),
                to: own.map(|one| one.after.weight.to_string()).unwrap_or_default(),
                note: own.map(|one| words(ask, one)).unwrap_or_default(),
                record,
            }
        };
        if planned.is_raise() {
            self.put_after_record(&planned, note).await?;
            return Ok(outcome(&planned, Record { stored: true, warning: None }));
        }
        // In force first, by what is in force then: an emergency waits for no disk, and for nobody else's move.
        let mut result = Err(ControlError::Conflict);
        self.live.change(&mut |now| match plan(now, name, ask, note) {
            Ok(moved) => {
                let next = now.runtime().with_rollout_move(&moved)?;
                result = Ok(moved);
                Some(Arc::new(now.with_runtime(&next)))
            }
            Err(refusal) => {
                result = Err(refusal.into());
                None
            }
        });
        let moved = result?;
        let record = self.record_rollouts(vec![(moved.clone(), Some(note.clone()))]).await;
        Ok(outcome(&moved, record))
    }

    /// Puts a move of the rollout's own in force that is no raise, unless something else has moved one of its routes meanwhile. It is not
    /// on record yet: [`Control::record_lowered`].
    ///
    /// # Errors
    /// When something has.
    pub fn lower_rollout(&self, moved: &RolloutMove) -> Result<(), ControlError> {
        if moved.is_raise() || !self.publish_rollout(moved) {
            return Err(ControlError::Conflict);
        }
        Ok(())
    }

    /// Puts such moves on record, and where their routes stand now.
    pub async fn record_lowered(&self, moved: Vec<RolloutMove>) {
        let whats: Vec<&'static str> = moved.iter().map(|one| one.what).collect();
        let record = self.record_rollouts(moved.into_iter().map(|one| (one, None)).collect()).await;
        if let Some(warning) = record.warning {
            tracing::error!(?whats, warning, "rollouts moved");
        }
    }

    /// Puts a move of the rollout's own on record and then in force, unless something else has moved one of its routes meanwhile.
    ///
    /// # Errors
    /// When something has, or it cannot be put on record.
    pub async fn raise_rollout(&self, moved: &RolloutMove) -> Result<(), ControlError> {
        let Some(first) = moved.changes.first() else { return Ok(()) };
        let note = first.after.entered.clone();
        self.put_after_record(moved, &note).await
    }

    /// A person has had the routes file loaded that is now in force: whoever did has set all of it by hand.
    pub fn touched_by(&self, who: &str) {
        let mut changes = Vec::new();
        self.live.change(&mut |now| {
            let touch = |(route, progress): (&RouteName, &Progress)| (route.clone(), progress.clone().touched(who));
            let touched: Vec<(RouteName, Progress)> = now.runtime().rollouts().iter().map(touch).collect();
            let put = |state: RuntimeState, (route, progress): &(RouteName, Progress)| {
                state.with_progress(route, Some(progress.clone()))
            };
            let next = touched.iter().fold(now.runtime().clone(), put);
            changes = touched.into_iter().map(|(route, progress)| Change::Rollout(route, Some(progress))).collect();
            (!changes.is_empty()).then(|| Arc::new(now.with_runtime(&next)))
        });
        if !changes.is_empty() && !self.store.save_soon(changes, vec![]) {
            tracing::warn!(who, "who had the routes file loaded could not be put on record for `four_eyes`");
        }
    }

    async fn put_after_record(&self, moved: &RolloutMove, note: &Note) -> Result<(), ControlError> {
        let _turn = self.turn.lock().await;
        let changes = moved.changes.iter().map(|one| Change::Rollout(one.route.clone(), Some(one.after.clone())));
        let entries = moved.changes.iter().map(|change| entry(moved, change, note));
        if let Err(error) = self.store.save_or_forget(changes.collect(), entries.collect()).await {
            self.save_rollouts_in_force(moved);
            return Err(ControlError::NotRecorded(error));
        }
        if self.publish_rollout(moved) {
            return Ok(());
        }
        self.save_rollouts_in_force(moved);
        Err(ControlError::Conflict)
    }

    /// All of it, or nothing.
    fn publish_rollout(&self, moved: &RolloutMove) -> bool {
        let mut is_done = false;
        self.live.change(&mut |now| {
            let has_rollout = |change: &RolloutChange| {
                now.route(change.route.as_str()).is_some_and(|(_, route)| route.rollout.is_some())
            };
            let next =
                moved.changes.iter().all(has_rollout).then(|| now.runtime().with_rollout_move(moved)).flatten()?;
            is_done = true;
            Some(Arc::new(now.with_runtime(&next)))
        });
        is_done
    }

    /// With the note of whoever asked; without one, of what moved them.
    async fn record_rollouts(&self, moved: Vec<(RolloutMove, Option<Note>)>) -> Record {
        let _turn = self.turn.lock().await;
        let snapshot = self.snapshot();
        let in_force = |route: &RouteName| snapshot.runtime().rollouts().get(route).cloned();
        let routes: BTreeSet<&RouteName> =
            moved.iter().flat_map(|(one, _)| one.changes.iter().map(|change| &change.route)).collect();
        let changes = routes.into_iter().map(|route| Change::Rollout(route.clone(), in_force(route))).collect();
        let entries = moved.iter().flat_map(|(one, note)| {
            one.changes.iter().map(move |change| entry(one, change, note.as_ref().unwrap_or(&change.after.entered)))
        });
        Record::of(self.store.save(changes, entries.collect()).await)
    }

    fn save_rollouts_in_force(&self, moved: &RolloutMove) {
        let snapshot = self.snapshot();
        let in_force = |route: &RouteName| snapshot.runtime().rollouts().get(route).cloned();
        let changes = moved.changes.iter().map(|one| Change::Rollout(one.route.clone(), in_force(&one.route)));
        self.store.save_soon(changes.collect(), vec![]);
    }
}

fn entry(moved: &RolloutMove, change: &RolloutChange, note: &Note) -> AuditEntry {
    let to = match (moved.what, &change.after.approved) {
        ("approve", Some(approval)) => approval.step.to_string(),
        _ => change.after.weight.to_string(),
    };
    AuditEntry {
        what: moved.what.to_owned(),
        route: Some(change.route.as_str().to_owned()),
        from: Some(change.from().to_string()),
        to: Some(to),
        accepted: true,
        ..audit(note)
    }
}

fn plan(snapshot: &Snapshot, name: &RouteName, ask: RolloutAsk, note: &Note) -> Result<RolloutMove, Refusal> {
    let (_, route) = snapshot.route(name.as_str()).ok_or_else(|| Refusal::UnknownRoute(name.clone()))?;
    snapshot.runtime().with_ask(snapshot.table(), route, ask, note)
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
