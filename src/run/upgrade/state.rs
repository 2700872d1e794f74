//! What people have moved, as it goes from one process to the next. By word and not by the store: a store that failed would lose it.

use serde::{Deserialize, Serialize};
use strangler_core::runtime::{Kill, KillSource, Move, Note, Progress, RuntimeState};

use crate::store::Change;

/// Moved weights and kills.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct HandedState {
    moves: Vec<HandedMove>,
    kills: Vec<HandedKill>,
    /// By route, as they are stored. A predecessor that knows none says nothing.
    #[serde(default)]
    rollouts: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HandedMove {
    route: String,
    weight: String,
    file_weight: String,
    kind: String,
    note: HandedNote,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HandedKill {
    scope: String,
    source: String,
    accept_stale: bool,
    note: HandedNote,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct HandedNote {
    by: String,
    at_unix_ms: u64,
    reason: String,
}

impl HandedState {
    pub(super) fn of(state: &RuntimeState) -> HandedState {
        let note = |note: &Note| HandedNote {
            by: note.by().to_owned(),
            at_unix_ms: note.at_unix_ms(),
            reason: note.reason().to_owned(),
        };
        let moves = state.moves().iter().map(|(route, moved)| HandedMove {
            route: route.as_str().to_owned(),
            weight: moved.weight.to_string(),
            file_weight: moved.file_weight.to_string(),
            kind: moved.kind.as_str().to_owned(),
            note: note(&moved.note),
        });
        let kills = state.kills().map(|kill| HandedKill {
            scope: kill.scope.as_str().to_owned(),
            source: kill.source.as_str().to_owned(),
            accept_stale: kill.accept_stale,
            note: note(&kill.note),
        });
        let rollouts = state.rollouts().iter().map(|(route, one)| (route.as_str().to_owned(), one.to_json()));
        HandedState { moves: moves.collect(), kills: kills.collect(), rollouts: rollouts.collect() }
    }

    /// `None` when something in it makes no sense to this version.
    pub(super) fn restore(&self) -> Option<RuntimeState> {
        let note = |note: &HandedNote| Note::new(&note.by, note.at_unix_ms, &note.reason).ok();
        let moves = self.moves.iter().map(|one| {
            let moved = Move {
                weight: one.weight.parse().ok()?,
                file_weight: one.file_weight.parse().ok()?,
                kind: one.kind.parse().ok()?,
                note: note(&one.note)?,
            };
            Some((one.route.parse().ok()?, moved))
        });
        let kills = self.kills.iter().map(|one| {
            Some(Kill {
                scope: one.scope.parse().ok()?,
                source: one.source.parse().ok()?,
                accept_stale: one.accept_stale,
                note: note(&one.note)?,
            })
        });
        let rollouts =
            self.rollouts.iter().map(|(route, json)| Some((route.parse().ok()?, Progress::from_json(json)?)));
        Some(RuntimeState::restore(
            moves.collect::<Option<Vec<_>>>()?,
            kills.collect::<Option<Vec<_>>>()?,
            rollouts.collect::<Option<Vec<_>>>()?,
        ))
    }
}

/// What has to be put on record so that a record of `before` becomes one of `after`.
pub(super) fn changes(before: &RuntimeState, after: &RuntimeState) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = before.moves().keys().filter(|route| !after.moves().contains_key(*route));
    changes.extend(gone.map(|route| Change::Move(route.clone(), None)));
    let moved = after.moves().iter().filter(|(route, moved)| before.moves().get(*route) != Some(moved));
    changes.extend(moved.map(|(route, moved)| Change::Move(route.clone(), Some(moved.clone()))));
    let gone = before.rollouts().keys().filter(|route| !after.rollouts().contains_key(*route));
    changes.extend(gone.map(|route| Change::Rollout(route.clone(), None)));
    let climbed = after.rollouts().iter().filter(|(route, one)| before.rollouts().get(*route) != Some(one));
    changes.extend(climbed.map(|(route, one)| Change::Rollout(route.clone(), Some(one.clone()))));
    // Those of the kill file are kept by that file.
    let stored = |kill: &&Kill| kill.source != KillSource::File;
    let lifted = before
        .kills()
        .filter(stored)
        .filter(|kill| !after.kills().any(|it| it.scope == kill.scope && it.source == kill.source));
    changes.extend(lifted.map(|kill| Change::Kill(kill.scope.clone(), kill.source, None)));
    let killed = after.kills().filter(stored).filter(|kill| !before.kills().any(|it| it == *kill));
    changes.extend(killed.map(|kill| Change::Kill(kill.scope.clone(), kill.source, Some(kill.clone()))));
    changes
}

#[cfg(test)]
mod tests {
    use strangler_core::runtime::{KillScope, MoveKind};

    use super::*;

    fn state(weight: &str, is_killed: bool) -> RuntimeState {
        let note = Note::new("somebody", 7, "a reason").unwrap();
        let moved = Move {
            weight: weight.parse().unwrap(),
            file_weight: "50%".parse().unwrap(),
            kind: MoveKind::Ceiling,
            note: note.clone(),
        };
        let kill = Kill { scope: KillScope::All, source: KillSource::Api, accept_stale: true, note };
        RuntimeState::restore([("cart".parse().unwrap(), moved)], is_killed.then_some(kill), [])
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        let before = state("2.5%", true);
        let text = serde_json::to_string(&HandedState::of(&before)).unwrap();
        let handed: HandedState = serde_json::from_str(&text).unwrap();
        assert_eq!(handed.restore(), Some(before));
        assert_eq!(HandedState::default().restore(), Some(RuntimeState::default()));
        let nonsense = serde_json::from_str::<HandedState>(&text.replace("ceiling", "floor")).unwrap();
        assert_eq!(nonsense.restore(), None);
    }

    #[test]
    fn only_what_differs_is_put_on_record() {
        assert_eq!(changes(&state("1%", true), &state("1%", true)), []);
        assert_eq!(changes(&state("1%", false), &state("2%", true)).len(), 2);
        let lifted = changes(&state("1%", true), &RuntimeState::default());
        assert!(matches!(&lifted[..], [Change::Move(_, None), Change::Kill(KillScope::All, KillSource::Api, None)]));
    }
}
