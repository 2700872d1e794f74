//! What a change would do, before it is made: whom it moves, and in which words.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::name::RouteName;
use crate::runtime::{Kill, KillScope, KillSource, Note, Refusal, RolloutAsk, WeightAsk};
use crate::snapshot::Snapshot;
use crate::weight::Weight;

/// What someone would do to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Set its weight.
    Weight {
        /// To what.
        ask: WeightAsk,
        /// Also where the extracted service owns the data.
        accept_stale: bool,
    },
    /// Send all of it to legacy.
    Kill {
        /// Also where the extracted service owns the data.
        accept_stale: bool,
    },
    /// Lift that.
    Unkill,
    /// Something about its rollout.
    Rollout(RolloutAsk),
}

impl Wish {
    /// As on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Wish::Weight { .. } => "weight",
            Wish::Kill { .. } => "kill",
            Wish::Unkill => "unkill",
            Wish::Rollout(ask) => ask.as_str(),
        }
    }

    /// Whether it sends nobody to extracted: it is never in the way of anything, and asks for no proof that its reader saw the newest state.
    pub const fn is_safe(self) -> bool {
        matches!(self, Wish::Kill { .. } | Wish::Rollout(RolloutAsk::Hold | RolloutAsk::RollBack { .. }))
    }
}

/// What a change would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The route.
    pub route: String,
    /// What users see now.
    pub from: String,
    /// What they would see.
    pub to: String,
    /// The part of the users that changes sides.
    pub moved: String,
    /// The same in basis points; below 0: towards legacy.
    pub moved_points: i32,
    /// Whether it is on record before it is in force.
    pub is_raise: bool,
    /// The same as sentences.
    pub words: Vec<String>,
    /// Of what is in force, for `If-Match`.
    pub version: String,
}

/// Tells what `wish` would do to a route; changes nothing.
///
/// # Errors
/// What the change itself would be refused for.
pub fn plan(snapshot: &Snapshot, name: &RouteName, wish: Wish, note: &Note) -> Result<Plan, Refusal> {
    let unknown = || Refusal::UnknownRoute(name.clone());
    let (index, route) = snapshot.route(name.as_str()).ok_or_else(unknown)?;
    let (runtime, before) = (snapshot.runtime(), in_force(snapshot, index));
    let mut words = Vec::new();
    let next = match wish {
        Wish::Weight { ask, accept_stale } => {
            let (next, change) = runtime.with_weight(route, ask, accept_stale, note.clone())?;
            runtime.refuse_apart(snapshot.table(), &change)?;
            if change.lifts_ceiling() {
                words.push("The ceiling that held it below the file's weight is lifted.".to_owned());
            }
            next
        }
        Wish::Kill { accept_stale } => {
            let scope = KillScope::Route(name.clone());
            runtime.with_kill(snapshot.table(), scope, KillSource::Api, accept_stale, note.clone())?.0
        }
        Wish::Unkill => runtime.without_kill(&KillScope::Route(name.clone()))?,
        Wish::Rollout(ask) => {
            let moved = runtime.with_ask(snapshot.table(), route, ask, note)?;
            words.push(of_rollout(ask).to_owned());
            let others: Vec<&str> =
                moved.changes.iter().map(|one| one.route.as_str()).filter(|one| *one != name.as_str()).collect();
            if !others.is_empty() {
                words.push(format!("Its journey moves with it: {}.", others.join(", ")));
            }
            // Nothing stands elsewhere: it was asked of the same snapshot.
            runtime.with_rollout_move(&moved).unwrap_or_else(|| runtime.clone())
        }
    };
    let after = snapshot.with_runtime(&next);
    let to = in_force(&after, index);
    let moved_points = i32::from(to.basis_points()) - i32::from(before.basis_points());
    words.insert(0, whom(moved_points));
    if after.state(index).is_some_and(|state| state.killed) && !matches!(wish, Wish::Kill { .. }) {
        words.push("The route stays killed: users see nothing of it until that is lifted, too.".to_owned());
    }
    let moved = u16::try_from(moved_points.unsigned_abs()).ok().and_then(Weight::from_basis_points);
    Ok(Plan {
        route: name.as_str().to_owned(),
        from: before.to_string(),
        to: to.to_string(),
        moved: moved.unwrap_or_default().to_string(),
        moved_points,
        is_raise: moved_points > 0,
        words,
        version: version(snapshot, Some(name)),
    })
}

fn in_force(snapshot: &Snapshot, index: usize) -> Weight {
    snapshot.state(index).map_or(Weight::NONE, |state| if state.killed { Weight::NONE } else { state.weight })
}

fn whom(points: i32) -> String {
    let of_hundred = f64::from(points.unsigned_abs()) / 100.0;
    match points {
        0 => "Nobody changes sides now.".to_owned(),
        1.. => format!("{of_hundred} of 100 users go from legacy to extracted; nobody goes the other way."),
        _ => format!("{of_hundred} of 100 users go back to legacy, at their next request; nobody goes the other way."),
    }
}

const fn of_rollout(ask: RolloutAsk) -> &'static str {
    match ask {
        RolloutAsk::Hold => "It stays at its weight until somebody resumes it; what does harm is still sent back.",
        RolloutAsk::Resume => "It may rise again. After a rollback, what was counted until then counts no more.",
        RolloutAsk::Approve(_) => "It enters the next step once every gate has passed; until then nothing moves.",
        RolloutAsk::RollBack { .. } => "It stays there until somebody resumes it, or another release comes.",
    }
}

/// What is in force, as one word that changes with it: of a route, or of all. For `If-Match`; not comparable between processes.
pub fn version(snapshot: &Snapshot, route: Option<&RouteName>) -> String {
    let runtime = snapshot.runtime();
    let text = match route.and_then(|name| snapshot.route(name.as_str())) {
        Some((_, route)) => {
            let kills: Vec<&Kill> = runtime.kills_of(route).chain(runtime.kills_sparing(route)).collect();
            let moved = (runtime.moves().get(&route.name), runtime.rollouts().get(&route.name));
            format!("{} {:?} {kills:?} {moved:?}", route.name.as_str(), route.weight)
        }
        None => format!("{} {runtime:?}", snapshot.table().revision().as_str()),
    };
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::route::{Data, Route};
    use crate::runtime::RuntimeState;
    use crate::samples;

    fn note() -> Note {
        Note::new("ann", 1_000, "because").unwrap()
    }

    fn snapshot() -> Snapshot {
        let cart = Route { weight: "5%".parse().unwrap(), ..samples::route("cart", "/cart") };
        let owned = Route { weight: "100%".parse().unwrap(), data: Data::Extracted, ..samples::route("pay", "/pay") };
        Snapshot::new(samples::table(vec![cart, owned]), &RuntimeState::default()).0
    }

    fn weight(text: &str) -> Wish {
        Wish::Weight { ask: text.parse().unwrap(), accept_stale: false }
    }

    #[test]
    fn a_plan_says_whom_a_change_moves_and_changes_nothing() {
        let (snapshot, cart) = (snapshot(), "cart".parse().unwrap());
        let before = version(&snapshot, None);
        let up = plan(&snapshot, &cart, weight("12.5%"), &note()).unwrap();
        assert_eq!((up.from.as_str(), up.to.as_str(), up.moved_points, up.is_raise), ("5%", "12.5%", 750, true));
        assert_eq!(up.words, ["7.5 of 100 users go from legacy to extracted; nobody goes the other way."]);
        let killed = plan(&snapshot, &cart, Wish::Kill { accept_stale: false }, &note()).unwrap();
        assert_eq!((killed.to.as_str(), killed.moved_points), ("0%", -500));
        assert_eq!(plan(&snapshot, &cart, weight("file"), &note()).unwrap().words, ["Nobody changes sides now."]);
        assert_eq!(version(&snapshot, None), before);
    }

    #[test]
    fn what_would_be_refused_is_refused_in_the_plan() {
        let (snapshot, pay) = (snapshot(), "pay".parse().unwrap());
        let stale = plan(&snapshot, &pay, Wish::Kill { accept_stale: false }, &note());
        assert!(matches!(stale, Err(Refusal::WouldServeStale(_))));
        assert!(plan(&snapshot, &pay, Wish::Kill { accept_stale: true }, &note()).is_ok());
        assert!(matches!(plan(&snapshot, &pay, Wish::Unkill, &note()), Err(Refusal::NotKilled(_))));
        let hold = plan(&snapshot, &pay, Wish::Rollout(RolloutAsk::Hold), &note());
        assert!(matches!(hold, Err(Refusal::NoRollout(_))));
        assert!(matches!(plan(&snapshot, &"x".parse().unwrap(), Wish::Unkill, &note()), Err(Refusal::UnknownRoute(_))));
    }

    #[test]
    fn a_version_changes_with_what_it_is_of_and_with_nothing_else() {
        let snapshot = Arc::new(snapshot());
        let (cart, pay): (RouteName, RouteName) = ("cart".parse().unwrap(), "pay".parse().unwrap());
        let of = |snapshot: &Snapshot, name| version(snapshot, Some(name));
        let (_, route) = snapshot.route("cart").unwrap();
        let (next, _) = snapshot.runtime().with_weight(route, "7%".parse().unwrap(), false, note()).unwrap();
        let next = snapshot.with_runtime(&next);
        assert_ne!(of(&snapshot, &cart), of(&next, &cart));
        assert_eq!(of(&snapshot, &pay), of(&next, &pay));
        assert_ne!(version(&snapshot, None), version(&next, None));
    }
}
