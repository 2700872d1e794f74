//! What is in force: the table, and where people and rollouts have moved it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::name::RouteName;
use crate::past::{Past, RoutePast};
use crate::route::{KeySource, Route};
use crate::runtime::{DroppedRaise, Kill, MoveKind, Note, Progress, RuntimeState, utc};
use crate::table::RoutingTable;
use crate::weight::Weight;

/// A routing table with the weights and kills in force. Swapped whole, so that a request sees one of them only.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) table: Arc<RoutingTable>,
    /// By route index; as many as the table has routes.
    pub(crate) states: Vec<RouteState>,
    pub(crate) runtime: Arc<RuntimeState>,
}

/// Where a route stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteState {
    /// The weight in force, kills left aside.
    pub weight: Weight,
    /// All traffic to legacy until lifted.
    pub killed: bool,
    /// Whether its shadow is asked: not once a rollout was rolled back to `legacy`.
    pub is_copied: bool,
    /// Weights of the last minutes, oldest first; kept for routes with `idempotency` only.
    pub pasts: Option<Arc<[Past]>>,
}

impl Snapshot {
    /// Puts the runtime state on top of a table. Answers also the raises that the table ends; they are no longer in the snapshot.
    pub fn new(table: Arc<RoutingTable>, runtime: &RuntimeState) -> (Snapshot, Vec<DroppedRaise>) {
        let (runtime, dropped) = runtime.settled(&table);
        let state = |route: &Arc<Route>| RouteState {
            weight: runtime.weight_of(route),
            killed: runtime.kills_of(route).next().is_some(),
            is_copied: runtime.is_copied(route),
            pasts: None,
        };
        let states = table.routes().iter().map(state).collect();
        (Snapshot { table, states, runtime: Arc::new(runtime) }, dropped)
    }

    /// Another table under the same runtime state. A rollout that takes over a weight of the file begins at the nearest step that is not
    /// above it; one that gives its weight to the file is forgotten, and one whose route is gone is not.
    pub fn with_table(&self, table: Arc<RoutingTable>, now_unix_ms: u64) -> (Snapshot, Vec<DroppedRaise>) {
        let mut runtime = RuntimeState::clone(&self.runtime);
        let mut before: BTreeMap<&RouteName, Weight> = BTreeMap::new();
        for (route, state) in self.table.routes().iter().zip(&self.states) {
            before.insert(&route.name, state.weight);
        }
        for route in table.routes() {
            let Some(policy) = &route.rollout else {
                if runtime.rollouts().contains_key(&route.name) {
                    runtime = runtime.with_progress(&route.name, None);
                }
                continue;
            };
            let Some(weight) = before.get(&route.name).filter(|weight| **weight > Weight::NONE) else { continue };
            if !runtime.rollouts().contains_key(&route.name) {
                let note = Note::routes_file(now_unix_ms, &format!("`rollout` takes over its weight of {weight}"));
                runtime = runtime.with_progress(&route.name, Some(Progress::taking_over(*weight, policy, note)));
            }
        }
        Snapshot::new(table, &runtime)
    }

    /// Another runtime state over the same table.
    pub fn with_runtime(&self, runtime: &RuntimeState) -> Snapshot {
        Snapshot::new(Arc::clone(&self.table), runtime).0
    }

    /// Notes at which weights its routes with `idempotency` ran in `before`, which it follows at `now_s` (Unix seconds).
    pub fn following(self: Arc<Self>, before: &Snapshot, now_s: u64) -> Arc<Snapshot> {
        if self.remembering().next().is_none() {
            return self;
        }
        let wanted: BTreeSet<&RouteName> = self.remembering().map(|(_, route)| &route.name).collect();
        let known = before.table.routes().iter().enumerate().filter(|(_, route)| wanted.contains(&route.name));
        let before: BTreeMap<RouteName, RoutePast> = known.filter_map(|(index, _)| before.past(index)).collect();
        self.resuming(&before, now_s)
    }

    /// The same after a restart, with what was stored.
    pub fn resuming(self: Arc<Self>, stored: &BTreeMap<RouteName, RoutePast>, now_s: u64) -> Arc<Snapshot> {
        let mut states = self.states.clone();
        for (index, route) in self.remembering() {
            if let (Some(state), Some(before)) = (states.get_mut(index), stored.get(&route.name)) {
                let pasts = before.followed_by(state.weight, now_s);
                state.pasts = (!pasts.is_empty()).then(|| pasts.into());
            }
        }
        if states == self.states { self } else { Arc::new(Snapshot { states, ..(*self).clone() }) }
    }

    /// What is to be stored of routes with `idempotency`.
    pub fn pasts(&self) -> impl Iterator<Item = (RouteName, RoutePast)> {
        self.remembering().filter_map(|(index, _)| self.past(index))
    }

    fn past(&self, index: usize) -> Option<(RouteName, RoutePast)> {
        let (route, state) = (self.table.routes().get(index)?, self.states.get(index)?);
        let pasts = state.pasts.as_deref().unwrap_or_default().to_vec();
        Some((route.name.clone(), RoutePast { weight: state.weight, pasts }))
    }

    fn remembering(&self) -> impl Iterator<Item = (usize, &Arc<Route>)> {
        self.table.routes().iter().enumerate().filter(|(_, route)| route.idempotency.is_some())
    }

    /// The table.
    pub fn table(&self) -> &Arc<RoutingTable> {
        &self.table
    }

    /// What stands on top of it.
    pub fn runtime(&self) -> &RuntimeState {
        &self.runtime
    }

    /// Where the route at `index` stands; `None` beyond the table.
    pub fn state(&self, index: usize) -> Option<&RouteState> {
        self.states.get(index)
    }

    /// The route of that name and its index. Looks at one after the other: not for requests.
    pub fn route(&self, name: &str) -> Option<(usize, &Arc<Route>)> {
        self.table.routes().iter().enumerate().find(|(_, route)| route.name.as_str() == name)
    }

    /// How far the route at `index` has come.
    pub fn stage(&self, index: usize) -> Option<Stage> {
        let (route, state) = (self.table.routes().get(index)?, self.states.get(index)?);
        Some(if state.killed { Stage::Killed } else { Stage::of(route, state.weight) })
    }

    /// All that is worth showing of the route at `index`.
    pub fn status(&self, index: usize) -> Option<RouteStatus> {
        let (route, state) = (self.table.routes().get(index)?, self.states.get(index)?);
        let moved = self.runtime.moves().get(&route.name);
        Some(RouteStatus {
            name: route.name.as_str().to_owned(),
            owner: route.owner.as_deref().map(str::to_owned),
            stage: self.stage(index)?.as_str(),
            stage_when_lifted: Stage::of(route, state.weight).as_str(),
            file_weight: route.weight.to_string(),
            weight: state.weight.to_string(),
            weight_in_force: if state.killed { Weight::NONE } else { state.weight }.to_string(),
            moved: moved.map(|moved| MoveStatus {
                kind: moved.kind.as_str(),
                weight: moved.weight.to_string(),
                file_weight_then: moved.file_weight.to_string(),
                by: moved.note.by().to_owned(),
                at: utc(moved.note.at_unix_ms()),
                at_unix_ms: moved.note.at_unix_ms(),
                reason: moved.note.reason().to_owned(),
            }),
            drift: self.drift(route),
            killed: state.killed,
            kills: self.runtime.kills_of(route).map(KillStatus::of).collect(),
            kills_not_applied: self.runtime.kills_sparing(route).map(KillStatus::of).collect(),
            data: route.data.as_str(),
            legacy: self.table.legacy().name.as_str().to_owned(),
            extracted: route.extracted.name.as_str().to_owned(),
            sticky_on: route.sticky_on.iter().map(written).collect(),
            shadow: route.shadow.as_ref().map(|shadow| shadow.sample.to_string()),
            compare: route.compare.is_some(),
            fallback: route.fallback.is_some(),
            located: route.locate.is_some(),
            waits_for: Vec::new(),
        })
    }

    /// `file 5% · running 10% since … by … because …`; `None` where only the file speaks.
    pub fn drift(&self, route: &Route) -> Option<String> {
        let moved = self.runtime.moves().get(&route.name)?;
        let (file, running) = (route.weight, moved.over(route.weight));
        Some(if moved.kind == MoveKind::Ceiling && running == file {
            format!("file {file} · held at {} or less {}", moved.weight, moved.note)
        } else {
            format!("file {file} · running {running} {}", moved.note)
        })
    }

    /// The routes of that runtime state that the table does not have: they can still be lifted by name.
    pub fn orphans(&self) -> Vec<RouteName> {
        self.runtime.moves().keys().filter(|name| self.route(name.as_str()).is_none()).cloned().collect()
    }
}

/// How far a route has come; derived, never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// 0 %, nothing copied.
    Legacy,
    /// 0 %, copied.
    Shadow,
    /// Both sides answer users.
    Canary,
    /// 100 %, legacy still warm.
    Extracted,
    /// All traffic to legacy until lifted, whatever the stage below.
    Killed,
}

impl Stage {
    /// Every stage, for labels.
    pub const ALL: [Stage; 5] = [Stage::Legacy, Stage::Shadow, Stage::Canary, Stage::Extracted, Stage::Killed];

    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Legacy => "legacy",
            Stage::Shadow => "shadow",
            Stage::Canary => "canary",
            Stage::Extracted => "extracted",
            Stage::Killed => "killed",
        }
    }

    /// Of a route that runs at `weight`. Where data decides the side, both sides answer users.
    pub fn of(route: &Route, weight: Weight) -> Stage {
        match (route.locate.is_some() || weight.is_split(), weight, route.shadow.is_some()) {
            (true, ..) => Stage::Canary,
            (false, Weight::ALL, _) => Stage::Extracted,
            (false, _, true) => Stage::Shadow,
            (false, _, false) => Stage::Legacy,
        }
    }
}

/// A route as people and programs are shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// Whom to ask.
    pub owner: Option<String>,
    /// How far it has come; `killed` overlays.
    pub stage: &'static str,
    /// The stage below a kill; without one, the same.
    pub stage_when_lifted: &'static str,
    /// What the file says.
    pub file_weight: String,
    /// What runs, kills left aside.
    pub weight: String,
    /// What users see: 0 % when killed.
    pub weight_in_force: String,
    /// The move on top of the file.
    pub moved: Option<MoveStatus>,
    /// The same as a sentence.
    pub drift: Option<String>,
    /// All traffic to legacy.
    pub killed: bool,
    /// By whom and why.
    pub kills: Vec<KillStatus>,
    /// Kills that leave it where it is, because the extracted service owns its data.
    pub kills_not_applied: Vec<KillStatus>,
    /// Who owns what it writes.
    pub data: &'static str,
    /// The upstream of the one side.
    pub legacy: String,
    /// The upstream of the other.
    pub extracted: String,
    /// Where the caller's key is looked for, as in the file; empty: our own cookie.
    pub sticky_on: Vec<String>,
    /// The part of callers that is copied; `None`: no shadow.
    pub shadow: Option<String>,
    /// Whether the two answers are compared.
    pub compare: bool,
    /// Whether legacy answers when extracted fails.
    pub fallback: bool,
    /// Whether data decides the side.
    pub located: bool,
    /// What must come before the weight rises; empty until rollouts exist.
    pub waits_for: Vec<String>,
}

/// A moved weight as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MoveStatus {
    /// `raise` or `ceiling`.
    pub kind: &'static str,
    /// The weight asked for.
    pub weight: String,
    /// What the file said then.
    pub file_weight_then: String,
    /// Who.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Why.
    pub reason: String,
}

/// A kill as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KillStatus {
    /// `*` or a route's name.
    pub scope: String,
    /// `api`, `file` or `signal`.
    pub source: &'static str,
    /// Who.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
}

impl KillStatus {
    /// Of a kill.
    pub fn of(kill: &Kill) -> KillStatus {
        KillStatus {
            scope: kill.scope.as_str().to_owned(),
            source: kill.source.as_str(),
            by: kill.note.by().to_owned(),
            at: utc(kill.note.at_unix_ms()),
            reason: kill.note.reason().to_owned(),
        }
    }
}

/// A key source as it stands in the file.
pub fn written(source: &KeySource) -> String {
    match source {
        KeySource::Header(name) => format!("header:{name}"),
        KeySource::Cookie(name) => format!("cookie:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::past::DOUBT_S;
    use crate::route::{IdempotencyPolicy, OnKill};
    use crate::samples;

    fn at(weight: &str, is_remembering: bool) -> Arc<Snapshot> {
        let mut route = Route { weight: weight.parse().unwrap(), ..samples::route("pay", "/pay") };
        let header = http::HeaderName::from_static("idempotency-key");
        route.idempotency = is_remembering.then_some(IdempotencyPolicy { header, on_kill: OnKill::Refuse });
        Arc::new(Snapshot::new(samples::table(vec![route]), &RuntimeState::default()).0)
    }

    fn lowest(snapshot: &Snapshot) -> Vec<String> {
        snapshot.states[0].pasts.iter().flat_map(|pasts| pasts.iter()).map(|past| past.low.to_string()).collect()
    }

    #[test]
    fn weights_of_before_are_carried_from_snapshot_to_snapshot_for_a_quarter_of_an_hour() {
        let first = at("5%", true);
        let second = at("10%", true).following(&first, 1_000);
        let same = at("10%", true).following(&second, 1_010);
        let third = at("0%", true).following(&same, 1_020);
        assert_eq!((lowest(&second), lowest(&same)), (vec!["5%".to_owned()], vec!["5%".to_owned()]));
        assert_eq!(lowest(&third), ["5%", "10%"]);
        assert_eq!(lowest(&at("0%", true).following(&third, 1_000 + DOUBT_S)), ["10%"]);
        // A route that begins to remember remembers what it was a moment ago; any other pays nothing.
        assert_eq!(lowest(&at("7%", true).following(&at("6%", false), 1_000)), ["6%"]);
        let plain = at("7%", false);
        assert!(Arc::ptr_eq(&Arc::clone(&plain).following(&third, 1_030), &plain));
    }

    #[test]
    fn after_a_restart_what_was_stored_counts() {
        let stored: BTreeMap<RouteName, RoutePast> =
            at("10%", true).following(&at("5%", true), 1_000).pasts().collect();
        assert_eq!(lowest(&at("10%", true).resuming(&stored, 1_100)), ["5%"]);
        assert_eq!(lowest(&at("20%", true).resuming(&stored, 1_100)), ["5%", "10%"]);
        assert!(lowest(&at("20%", true).resuming(&BTreeMap::new(), 1_100)).is_empty());
    }
}
