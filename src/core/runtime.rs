//! What people (and later rollouts) have put on top of the file while the proxy runs: moved weights and kills.
//!
//! Three rules. A *raise* is a loan from the file: it goes when the file says another weight for that route. A *lowering* is a
//! ceiling: it holds, whatever the file says, until a weight at or above the file's is set by name (or `file`). A *kill* holds until it
//! is lifted the way it came: its line leaves the kill file, or `unkill` names it. So an emergency is never undone by a merge.
//!
//! Where the extracted service owns the data (`data: extracted`) nothing that names no route, or comes from a file or a signal, sends
//! users to legacy; a person can, by name and knowing that legacy is stale.

mod note;
mod ask;
mod progress;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::name::{JourneyName, NameError, RouteName};
use crate::route::Route;
pub use crate::runtime::ask::{RolloutAsk, RolloutChange, RolloutMove};
pub use crate::runtime::note::{BY_BYTES_MAX, Note, NoteError, REASON_BYTES_MAX, utc};
pub use crate::runtime::progress::{Approval, HANDS_MAX, Latch, Progress, RELEASE_BYTES_MAX, Release};
use crate::table::RoutingTable;
use crate::weight::{Weight, WeightError};

/// How a moved weight lies to the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// Above it: dropped when the file's own weight changes.
    Raise,
    /// Below it: holds until lifted by name.
    Ceiling,
}

impl MoveKind {
    /// As written in the store and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            MoveKind::Raise => "raise",
            MoveKind::Ceiling => "ceiling",
        }
    }
}

impl FromStr for MoveKind {
    type Err = ();

    fn from_str(text: &str) -> Result<MoveKind, ()> {
        [MoveKind::Raise, MoveKind::Ceiling].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// A weight that was moved while the proxy ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The weight asked for.
    pub weight: Weight,
    /// What the file said at that time.
    pub file_weight: Weight,
    /// How the two lay to each other at that time.
    pub kind: MoveKind,
    /// Who, when and why.
    pub note: Note,
}

impl Move {
    /// The weight in force where the file says `file_weight` now.
    pub fn over(&self, file_weight: Weight) -> Weight {
        match self.kind {
            MoveKind::Raise if self.file_weight == file_weight => self.weight,
            MoveKind::Raise => file_weight,
            MoveKind::Ceiling => self.weight.min(file_weight),
        }
    }
}

/// What a kill is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KillScope {
    /// Every route; written `*`.
    All,
    /// One.
    Route(RouteName),
}

impl KillScope {
    /// `*` or the route's name.
    pub fn as_str(&self) -> &str {
        match self {
            KillScope::All => "*",
            KillScope::Route(name) => name.as_str(),
        }
    }

    fn covers(&self, name: &RouteName) -> bool {
        match self {
            KillScope::All => true,
            KillScope::Route(own) => own == name,
        }
    }
}

impl FromStr for KillScope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<KillScope, NameError> {
        if text == "*" { Ok(KillScope::All) } else { text.parse().map(KillScope::Route) }
    }
}

/// Where a kill came from, and so how it is lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KillSource {
    /// The admin API or the CLI; lifted by `unkill`.
    Api,
    /// A line of the kill file; lifted when the line goes.
    File,
    /// SIGUSR1; lifted by `unkill --all`.
    Signal,
}

impl KillSource {
    /// Every source.
    pub const ALL: [KillSource; 3] = [KillSource::Api, KillSource::File, KillSource::Signal];

    /// As written in the store and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            KillSource::Api => "api",
            KillSource::File => "file",
            KillSource::Signal => "signal",
        }
    }
}

impl FromStr for KillSource {
    type Err = ();

    fn from_str(text: &str) -> Result<KillSource, ()> {
        KillSource::ALL.into_iter().find(|s| s.as_str() == text).ok_or(())
    }
}

/// All traffic to legacy until lifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// What it is about.
    pub scope: KillScope,
    /// Where it came from.
    pub source: KillSource,
    /// Whether routes whose data the extracted service owns go too.
    pub accept_stale: bool,
    /// Who, when and why.
    pub note: Note,
}

impl Kill {
    /// Whether it sends this route's traffic to legacy.
    ///
    /// A route that a person killed by name stays killed even if the file says later that the extracted service owns its data: a merge
    /// undoes no emergency. Anything else leaves such a route where it is, unless staleness was accepted.
    pub fn moves(&self, route: &Route) -> bool {
        let is_by_name = self.source == KillSource::Api && self.scope != KillScope::All;
        self.scope.covers(&route.name) && (is_by_name || self.accept_stale || route.data.may_go_back())
    }

    /// Whether it is about this route but leaves it where it is, because legacy does not know what was written.
    pub fn spares(&self, route: &Route) -> bool {
        self.scope.covers(&route.name) && !self.moves(route)
    }
}

/// The weight someone asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightAsk {
    /// This one.
    To(Weight),
    /// Whatever the file says, from now on; written `file`.
    File,
}

impl FromStr for WeightAsk {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<WeightAsk, WeightError> {
        if text == "file" { Ok(WeightAsk::File) } else { text.parse().map(WeightAsk::To) }
    }
}

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such route in the table in force.
    #[error("no route is named `{0}`")]
    UnknownRoute(RouteName),
    /// The extracted service owns the data, and nobody said that this is known.
    #[error(
        "the extracted service owns the data of `{0}`: legacy does not know what was written since, and would answer from before; \
         repeat with `--accept-stale` if that is better than what happens now"
    )]
    WouldServeStale(RouteName),
    /// The route's data decides, not a weight.
    #[error(
        "`{0}` is located by its data (`locate`), so its weight decides nothing; change `locate` in the file, or kill the route"
    )]
    Located(RouteName),
    /// Its rollout moves it.
    #[error(
        "the rollout of `{0}` moves its weight; `strangler hold`, `approve` or `rollback` it, or kill the route (`weight:` in the \
         place of `rollout:` in the file gives the weight to the file)"
    )]
    RollingOut(RouteName),
    /// Nothing climbs there.
    #[error("`{0}` has no `rollout`; its weight is the file's, and `strangler weight` moves it")]
    NoRollout(RouteName),
    /// Nothing holds it.
    #[error("the rollout of `{0}` is neither held nor latched, so there is nothing to resume")]
    NotHeld(RouteName),
    /// It is not the step that comes next, or nobody has to approve it.
    #[error("the rollout of `{route}` waits for no approval of {step}: {why}")]
    NotAwaited {
        /// The route.
        route: RouteName,
        /// The step named, or the one that comes next.
        step: String,
        /// Why it does not.
        why: String,
    },
    /// Four eyes see more than two.
    #[error("`four_eyes`: {by} has set `{route}` by hand since its step began, so somebody else has to approve it")]
    SamePerson {
        /// The route.
        route: RouteName,
        /// Who.
        by: String,
    },
    /// It is at the bottom.
    #[error("the rollout of `{0}` has sent nobody to extracted, so there is nothing to roll back")]
    NothingToRollBack(RouteName),
    /// The routes of its journey would no longer have one weight.
    #[error(
        "the routes of the journey `{journey}` move together (`together: true`), and `{route}` at {weight} would leave the others \
         behind; change the file's weights, or kill the route"
    )]
    Apart {
        /// The route.
        route: RouteName,
        /// Its journey.
        journey: JourneyName,
        /// The weight asked for.
        weight: Weight,
    },
    /// There is nothing to lift.
    #[error("no kill of `{}` from the API or a signal is in force", .0.as_str())]
    NotKilled(KillScope),
    /// Lifted only where it came from.
    #[error("the kill of `{}` stands in the kill file: take its line out to lift it", .0.as_str())]
    KilledByFile(KillScope),
}

/// What a change of weight does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightChange {
    /// The route.
    pub route: RouteName,
    /// In force before, kills left aside.
    pub from: Weight,
    /// In force after it, kills left aside.
    pub to: Weight,
    /// What the file says.
    pub file_weight: Weight,
    /// The move that stood before.
    pub before: Option<Move>,
    /// The move that stands now; `None`: the file's weight is in force.
    pub after: Option<Move>,
}

impl WeightChange {
    /// Whether more users reach extracted, now or at the next change of the file. Such a change must be on record before it is in force.
    pub fn is_raise(&self) -> bool {
        let had_ceiling = self.before.as_ref().is_some_and(|before| before.kind == MoveKind::Ceiling);
        let is_below = |after: &Move| {
            after.kind == MoveKind::Ceiling && self.before.as_ref().is_none_or(|b| after.weight <= b.weight)
        };
        self.to > self.from || (had_ceiling && !self.after.as_ref().is_some_and(is_below))
    }

    /// Whether it lifts a lowering that held against the file.
    pub fn lifts_ceiling(&self) -> bool {
        let is_ceiling = |one: &Option<Move>| one.as_ref().is_some_and(|one| one.kind == MoveKind::Ceiling);
        is_ceiling(&self.before) && !is_ceiling(&self.after)
    }
}

/// A raise that went because the file now says another weight, or no longer has the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedRaise {
    /// The route.
    pub route: RouteName,
    /// The raise.
    pub dropped: Move,
    /// What the file says now; `None`: the route is gone.
    pub file_weight: Option<Weight>,
}

impl fmt::Display for DroppedRaise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Move { weight, file_weight, note, .. } = &self.dropped;
        write!(f, "the raise of `{}` to {weight} ({note}) is dropped: the file said {file_weight} then", self.route)?;
        match self.file_weight {
            Some(now) => write!(f, " and says {now} now"),
            None => f.write_str(" and does not have the route now"),
        }
    }
}

/// All that stands on top of the file. Small: one move per route at most, and the kills.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeState {
    moves: BTreeMap<RouteName, Move>,
    kills: BTreeMap<(KillScope, KillSource), Kill>,
    rollouts: BTreeMap<RouteName, Progress>,
}

impl RuntimeState {
    /// As it was stored.
    pub fn restore(
        moves: impl IntoIterator<Item = (RouteName, Move)>,
        kills: impl IntoIterator<Item = Kill>,
        rollouts: impl IntoIterator<Item = (RouteName, Progress)>,
    ) -> Self {
        let kills = kills.into_iter().map(|kill| ((kill.scope.clone(), kill.source), kill));
        RuntimeState {
            moves: moves.into_iter().collect(),
            kills: kills.collect(),
            rollouts: rollouts.into_iter().collect(),
        }
    }

    /// Every moved weight.
    pub fn moves(&self) -> &BTreeMap<RouteName, Move> {
        &self.moves
    }

    /// Every kill.
    pub fn kills(&self) -> impl Iterator<Item = &Kill> {
        self.kills.values()
    }

    /// The kills that send this route's traffic to legacy.
    pub fn kills_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Kill> {
        self.covering(&route.name).filter(|kill| kill.moves(route))
    }

    /// The kills that are about this route but leave it where it is.
    pub fn kills_sparing<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Kill> {
        self.covering(&route.name).filter(|kill| kill.spares(route))
    }

    /// By look-ups: kills and routes may both be many.
    fn covering(&self, name: &RouteName) -> impl Iterator<Item = &Kill> {
        let scopes =
            if self.kills.is_empty() { Vec::new() } else { vec![KillScope::All, KillScope::Route(name.clone())] };
        let keys = scopes.into_iter().flat_map(|scope| KillSource::ALL.map(|source| (scope.clone(), source)));
        keys.filter_map(|key| self.kills.get(&key))
    }

    /// How far rollouts have come.
    pub fn rollouts(&self) -> &BTreeMap<RouteName, Progress> {
        &self.rollouts
    }

    /// Puts how far a rollout has come in the place of what was known of it.
    pub fn with_progress(&self, route: &RouteName, progress: Option<Progress>) -> RuntimeState {
        let mut next = self.clone();
        match progress {
            Some(progress) => next.rollouts.insert(route.clone(), progress),
            None => next.rollouts.remove(route),
        };
        next
    }

    /// The weight in force for a route, kills left aside.
    pub fn weight_of(&self, route: &Route) -> Weight {
        if let Some(policy) = &route.rollout {
            return self.rollouts.get(&route.name).map_or(policy.from, |progress| progress.weight);
        }
        self.moves.get(&route.name).map_or(route.weight, |own| own.over(route.weight))
    }

    /// Whether a route's shadow is asked: not once its rollout was rolled back to `legacy`.
    pub fn is_copied(&self, route: &Route) -> bool {
        let progress = self.rollouts.get(&route.name).filter(|_| route.rollout.is_some());
        progress.is_none_or(|progress| progress.is_begun || progress.latched.is_none())
    }

    /// Moves a route's weight. A weight at or above the file's, or `file`, lifts a ceiling.
    pub fn with_weight(
        &self,
        route: &Route,
        ask: WeightAsk,
        accept_stale: bool,
        note: Note,
    ) -> Result<(RuntimeState, WeightChange), Refusal> {
        if route.locate.is_some() {
            return Err(Refusal::Located(route.name.clone()));
        }
        if route.rollout.is_some() {
            return Err(Refusal::RollingOut(route.name.clone()));
        }
        let (from, file_weight) = (self.weight_of(route), route.weight);
        let to = match ask {
            WeightAsk::To(weight) => weight,
            WeightAsk::File => file_weight,
        };
        if to < from && !route.data.may_go_back() && !accept_stale {
            return Err(Refusal::WouldServeStale(route.name.clone()));
        }
        let kind = if to > file_weight { MoveKind::Raise } else { MoveKind::Ceiling };
        let after = (to != file_weight).then_some(Move { weight: to, file_weight, kind, note });
        let mut next = self.clone();
        let before = match after.clone() {
            Some(after) => next.moves.insert(route.name.clone(), after),
            None => next.moves.remove(&route.name),
        };
        Ok((next, WeightChange { route: route.name.clone(), from, to, file_weight, before, after }))
    }

    /// Refuses a change that takes a route away from the others of a journey that moves together.
    ///
    /// The file's own weight is always allowed, for there they are equal, and so is one that another route of the journey has.
    pub fn refuse_apart(&self, table: &RoutingTable, change: &WeightChange) -> Result<(), Refusal> {
        let route = table.routes().iter().find(|route| route.name == change.route);
        let name = route.and_then(|route| route.journey.as_ref());
        let together = name.and_then(|name| table.journeys().get(name)).filter(|journey| journey.is_together);
        let (Some(name), Some(journey)) = (name, together) else {
            return Ok(());
        };
        let others = journey.routes.iter().filter_map(|index| table.routes().get(*index));
        let mut others = others.filter(|other| other.name != change.route).peekable();
        let is_alone = others.peek().is_none();
        if is_alone || change.to == change.file_weight || others.any(|other| self.weight_of(other) == change.to) {
            return Ok(());
        }
        Err(Refusal::Apart { route: change.route.clone(), journey: name.clone(), weight: change.to })
    }

    /// Puts a move in the place of another, as it was planned or stored.
    pub fn with_move(&self, route: &RouteName, moved: Option<Move>) -> RuntimeState {
        let mut next = self.clone();
        match moved {
            Some(moved) => next.moves.insert(route.clone(), moved),
            None => next.moves.remove(route),
        };
        next
    }

    /// With what a store says that answered late: its kills and moves are in force, too. Of two moves of a route the younger one is.
    pub fn with_found(&self, found: &RuntimeState) -> RuntimeState {
        let mut next = found.clone();
        next.kills.extend(self.kills.clone());
        for (route, moved) in &self.moves {
            let is_old = |other: &Move| other.note.at_unix_ms() > moved.note.at_unix_ms();
            if !next.moves.get(route).is_some_and(is_old) {
                next.moves.insert(route.clone(), moved.clone());
            }
        }
        for (route, progress) in &self.rollouts {
            let is_old = |other: &Progress| other.entered.at_unix_ms() > progress.entered.at_unix_ms();
            if !next.rollouts.get(route).is_some_and(is_old) {
                next.rollouts.insert(route.clone(), progress.clone());
            }
        }
        next
    }

    /// Kills one route or all; answers the kill and the routes that it leaves where they are.
    ///
    /// A route by name whose data the extracted service owns is refused without `accept_stale`; `*` goes ahead and spares such routes,
    /// for an emergency must not wait for a second try.
    pub fn with_kill(
        &self,
        table: &RoutingTable,
        scope: KillScope,
        source: KillSource,
        accept_stale: bool,
        note: Note,
    ) -> Result<(RuntimeState, Vec<RouteName>), Refusal> {
        if let (KillScope::Route(name), KillSource::Api) = (&scope, source) {
            let route = table.routes().iter().find(|route| route.name == *name);
            let route = route.ok_or_else(|| Refusal::UnknownRoute(name.clone()))?;
            if !route.data.may_go_back() && !accept_stale {
                return Err(Refusal::WouldServeStale(name.clone()));
            }
        }
        let key = (scope.clone(), source);
        let accept_stale = accept_stale || self.kills.get(&key).is_some_and(|before| before.accept_stale);
        let kill = Kill { scope, source, accept_stale, note };
        let spared = self.spared_by(&kill, table);
        let mut next = self.clone();
        next.kills.insert(key, kill);
        Ok((next, spared))
    }

    /// Lifts what the API or a signal killed. `*` lifts only the kill of all: a route killed by name is lifted by name.
    pub fn without_kill(&self, scope: &KillScope) -> Result<RuntimeState, Refusal> {
        let mut next = self.clone();
        next.kills.retain(|(own, source), _| own != scope || *source == KillSource::File);
        if next.kills.len() < self.kills.len() {
            Ok(next)
        } else if self.kills.contains_key(&(scope.clone(), KillSource::File)) {
            Err(Refusal::KilledByFile(scope.clone()))
        } else {
            Err(Refusal::NotKilled(scope.clone()))
        }
    }

    /// Puts the kill file's lines in the place of those before. A line that stays keeps its note.
    pub fn with_kill_file<'a>(&self, lines: impl IntoIterator<Item = &'a KillScope>, note: &Note) -> RuntimeState {
        let mut next = self.clone();
        next.kills.retain(|(_, source), _| *source != KillSource::File);
        for scope in lines {
            let key = (scope.clone(), KillSource::File);
            let kill = self.kills.get(&key).cloned().unwrap_or_else(|| Kill {
                scope: scope.clone(),
                source: KillSource::File,
                accept_stale: false,
                note: note.clone(),
            });
            next.kills.insert(key, kill);
        }
        next
    }

    /// The raises that `table` ends, and what is left. Lowerings and kills stay, those of routes that are gone included.
    pub fn settled(&self, table: &RoutingTable) -> (RuntimeState, Vec<DroppedRaise>) {
        let raised = |(_, moved): &(&RouteName, &Move)| moved.kind == MoveKind::Raise;
        let mut loans: BTreeMap<&RouteName, (&Move, Option<Weight>)> =
            self.moves.iter().filter(raised).map(|(name, moved)| (name, (moved, None))).collect();
        if loans.is_empty() {
            return (self.clone(), Vec::new());
        }
        for route in table.routes() {
            if let Some((_, file_weight)) = loans.get_mut(&route.name) {
                *file_weight = Some(route.weight);
            }
        }
        let ended = loans.into_iter().filter(|(_, (moved, now))| *now != Some(moved.file_weight));
        let dropped: Vec<DroppedRaise> = ended
            .map(|(name, (moved, now))| DroppedRaise { route: name.clone(), dropped: moved.clone(), file_weight: now })
            .collect();
        let mut next = self.clone();
        for raise in &dropped {
            next.moves.remove(&raise.route);
        }
        (next, dropped)
    }

    /// The routes a kill is about but leaves where they are.
    pub fn spared_by(&self, kill: &Kill, table: &RoutingTable) -> Vec<RouteName> {
        let already = |route: &Route| self.kills_of(route).next().is_some();
        table.routes().iter().filter(|route| kill.spares(route) && !already(route)).map(|r| r.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
