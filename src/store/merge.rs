//! What of two records holds: what a server says, and what this process knows, perhaps from a time when the server was not there.
//!
//! A kill is never lost: one that either side knows, and nobody is known to have lifted, stands.

use std::collections::{BTreeMap, BTreeSet};

use strangler_core::name::RouteName;
use strangler_core::past::RoutePast;
use strangler_core::redact::accept::{Acceptance, AcceptedKey};
use strangler_core::runtime::{Kill, KillScope, KillSource, Move};

use crate::store::Change;
use crate::store::database::State;

/// What should be on record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) moves: BTreeMap<RouteName, Move>,
    pub(super) kills: BTreeMap<(KillScope, KillSource), Kill>,
    pub(super) pasts: BTreeMap<RouteName, RoutePast>,
    pub(super) accepted: BTreeMap<AcceptedKey, Acceptance>,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Move(RouteName),
    Kill(KillScope, KillSource),
    Past(RouteName),
    Accept(AcceptedKey),
}

impl Subject {
    pub(super) fn of(change: &Change) -> Subject {
        match change {
            Change::Move(route, _) => Subject::Move(route.clone()),
            Change::Kill(scope, source, _) => Subject::Kill(scope.clone(), *source),
            Change::Past(route, _) => Subject::Past(route.clone()),
            Change::Accept(key, _) => Subject::Accept(key.clone()),
        }
    }
}

impl From<State> for Known {
    fn from(state: State) -> Known {
        Known {
            moves: state.moves.into_iter().collect(),
            kills: state.kills.into_iter().map(|kill| ((kill.scope.clone(), kill.source), kill)).collect(),
            pasts: state.pasts.into_iter().collect(),
            accepted: state.accepted.into_iter().collect(),
        }
    }
}

impl Known {
    pub(super) fn note(&mut self, change: Change) {
        match change {
            Change::Move(route, Some(moved)) => drop(self.moves.insert(route, moved)),
            Change::Move(route, None) => drop(self.moves.remove(&route)),
            Change::Kill(scope, source, Some(kill)) => drop(self.kills.insert((scope, source), kill)),
            Change::Kill(scope, source, None) => drop(self.kills.remove(&(scope, source))),
            Change::Past(route, Some(past)) => drop(self.pasts.insert(route, past)),
            Change::Past(route, None) => drop(self.pasts.remove(&route)),
            Change::Accept(key, Some(acceptance)) => drop(self.accepted.insert(key, acceptance)),
            Change::Accept(key, None) => drop(self.accepted.remove(&key)),
        }
    }

    /// All of it, as changes of an empty record.
    pub(super) fn all(&self) -> Vec<Change> {
        let moves = self.moves.iter().map(|(route, moved)| Change::Move(route.clone(), Some(moved.clone())));
        let kills = self.kills.values().map(|kill| Change::Kill(kill.scope.clone(), kill.source, Some(kill.clone())));
        let pasts = self.pasts.iter().map(|(route, past)| Change::Past(route.clone(), Some(past.clone())));
        let accepted = self.accepted.iter().map(|(key, one)| Change::Accept(key.clone(), Some(one.clone())));
        moves.chain(kills).chain(pasts).chain(accepted).collect()
    }

    /// What makes a record of this one in one respect.
    fn about(&self, subject: &Subject) -> Change {
        match subject {
            Subject::Move(route) => Change::Move(route.clone(), self.moves.get(route).cloned()),
            Subject::Kill(scope, source) => {
                Change::Kill(scope.clone(), *source, self.kills.get(&(scope.clone(), *source)).cloned())
            }
            Subject::Past(route) => Change::Past(route.clone(), self.pasts.get(route).cloned()),
            Subject::Accept(key) => Change::Accept(key.clone(), self.accepted.get(key).cloned()),
        }
    }

    /// Whether the record has no word on this, or of a weight an older one.
    fn is_behind(&self, change: &Change) -> bool {
        match change {
            Change::Move(route, Some(moved)) => {
                self.moves.get(route).is_none_or(|found| found.note.at_unix_ms() < moved.note.at_unix_ms())
            }
            Change::Kill(scope, source, Some(_)) => !self.kills.contains_key(&(scope.clone(), *source)),
            Change::Past(route, Some(_)) => !self.pasts.contains_key(route),
            Change::Accept(key, Some(_)) => !self.accepted.contains_key(key),
            Change::Move(_, None) | Change::Kill(_, _, None) | Change::Past(_, None) | Change::Accept(_, None) => false,
        }
    }
}

/// What holds once a server is there: it in force of both, and what the server has to be told.
///
/// What is `unsaved` was changed here and never acknowledged: it is as it is here. Else the server is right, for others write to it,
/// too; unless it does not know what is known here (`is_other`: it is another database than the one that was told).
pub(super) fn merged(found: &Known, own: &Known, unsaved: &BTreeSet<Subject>, is_other: bool) -> (Known, Vec<Change>) {
    let mut told: Vec<Change> = unsaved.iter().map(|subject| own.about(subject)).collect();
    if is_other {
        let more = own.all().into_iter().filter(|change| !unsaved.contains(&Subject::of(change)));
        told.extend(more.filter(|change| found.is_behind(change)));
    }
    let mut both = found.clone();
    for change in &told {
        both.note(change.clone());
    }
    (both, told)
}

#[cfg(test)]
mod tests {
    use strangler_core::runtime::{MoveKind, Note};

    use super::*;

    fn kill(scope: &str) -> Change {
        let (scope, source): (KillScope, _) = (scope.parse().unwrap(), KillSource::Api);
        let note = Note::new("ops", 7, "incident").unwrap();
        Change::Kill(scope.clone(), source, Some(Kill { scope, source, accept_stale: false, note }))
    }

    fn lowered(route: &str, weight: &str, at_unix_ms: u64) -> Change {
        let moved = Move {
            weight: weight.parse().unwrap(),
            file_weight: "50%".parse().unwrap(),
            kind: MoveKind::Ceiling,
            note: Note::new("ops", at_unix_ms, "slow").unwrap(),
        };
        Change::Move(route.parse().unwrap(), Some(moved))
    }

    fn known(changes: &[Change]) -> Known {
        let mut known = Known::default();
        changes.iter().cloned().for_each(|change| known.note(change));
        known
    }

    fn unsaved(changes: &[Change]) -> BTreeSet<Subject> {
        changes.iter().map(Subject::of).collect()
    }

    #[test]
    fn what_others_have_killed_and_lifted_is_as_they_left_it() {
        let (found, own) = (known(&[kill("cart")]), known(&[kill("pay")]));
        let (both, told) = merged(&found, &own, &BTreeSet::new(), false);
        assert_eq!((both, told), (found, vec![]));
    }

    #[test]
    fn what_was_killed_while_the_server_was_away_is_told_and_what_it_says_stays() {
        let (found, own) = (known(&[kill("cart")]), known(&[kill("pay")]));
        let (both, told) = merged(&found, &own, &unsaved(&[kill("pay")]), false);
        assert_eq!((both, told), (known(&[kill("cart"), kill("pay")]), vec![kill("pay")]));
    }

    #[test]
    fn what_was_taken_back_while_the_server_was_away_is_taken_back_there() {
        let (found, own) = (known(&[lowered("cart", "1%", 7)]), Known::default());
        let (both, told) = merged(&found, &own, &unsaved(&[lowered("cart", "1%", 7)]), false);
        assert_eq!((both, told), (Known::default(), vec![Change::Move("cart".parse().unwrap(), None)]));
    }

    #[test]
    fn a_database_that_was_made_anew_learns_all_and_keeps_what_is_newer_in_it() {
        let own = known(&[kill("pay"), lowered("cart", "1%", 7), lowered("a", "2%", 9)]);
        let found = known(&[lowered("cart", "3%", 8), lowered("a", "3%", 8)]);
        let (both, told) = merged(&found, &own, &BTreeSet::new(), true);
        assert_eq!(both, known(&[kill("pay"), lowered("cart", "3%", 8), lowered("a", "2%", 9)]));
        assert_eq!(told, [lowered("a", "2%", 9), kill("pay")]);
    }
}
