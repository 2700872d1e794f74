//! Hooks of rollouts: asked before a raise, told after a move.

use strangler_core::hook::{self, Question};
use strangler_core::rollout::{Action, Look};
use strangler_core::runtime::Progress;

use crate::rollout::{Found, Hand};
use crate::store::now_unix_ms;

impl Hand {
    /// A raise of one route, or of all of them, waits for the leave of the hooks of each that rises.
    pub(super) fn with_leave(&self, decided: Look, found: &[Found<'_>]) -> Look {
        let Action::Rise(step) = decided.action else { return decided };
        let rises = |one: &&Found<'_>| !one.progress.is_begun || one.progress.weight < step.weight();
        for one in found.iter().filter(rises) {
            let Some(policy) = &one.route.rollout else { continue };
            let now = self.now(one, &one.progress, &decided);
            let leave = (self.parts.leave)(policy, &Question::new(&one.progress, step), &now);
            let left = hook::with_leave(decided.clone(), &leave);
            if left != decided {
                return left;
            }
        }
        decided
    }

    /// What a look has shown of a route, for those who are asked and told.
    fn now<'b>(&self, one: &'b Found<'_>, progress: &'b Progress, look: &'b Look) -> hook::Now<'b> {
        let stood = self.books.get(&one.route.name).map(|book| book.ledger.stood(progress.weight)).unwrap_or_default();
        hook::Now {
            route: &one.route.name,
            progress,
            found: look,
            verdict: one.verdict.as_ref(),
            is_killed: one.is_killed,
            at_step: stood.time,
            requests: stood.requests,
            now_unix_ms: now_unix_ms(),
        }
    }

    /// Tells whoever is to be told what a look has changed. A raise is told once it is in force, at the next look.
    pub(super) fn tell_hooks(&mut self, one: &Found<'_>, stands: &Progress, look: &Look) {
        let Some(mut book) = self.books.remove(&one.route.name) else { return };
        let stood = book.ledger.stood(stands.weight);
        let now = hook::Now { at_step: stood.time, requests: stood.requests, ..self.now(one, stands, look) };
        for message in book.watch.follow(&now, self.parts.begun.elapsed()) {
            if let Some(policy) = &one.route.rollout {
                (self.parts.tell)(policy, message);
            }
        }
        self.books.insert(one.route.name.clone(), book);
    }
}
