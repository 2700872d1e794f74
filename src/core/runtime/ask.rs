//! What people ask of a rollout: to hold, to go on, to enter a step, to go back.

use crate::route::{RollBackTo, Route, Step};
use crate::runtime::{Approval, Note, Progress, Refusal, RuntimeState};
use crate::weight::Weight;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutAsk {
    /// To stay where it is.
    Hold,
    /// To go on: no longer held, and no longer latched by a rollback. What was counted until a rollback counts no more.
    Resume,
    /// To enter this step, once all else is as it should be; `None`: the one that comes next.
    Approve(Option<Step>),
    /// To go back now, to where its `roll_back_to` says, and to stay there.
    RollBack {
        /// Also where the extracted service owns the data.
        accept_stale: bool,
    },
}

impl RolloutAsk {
    /// As written in the audit and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            RolloutAsk::Hold => "hold",
            RolloutAsk::Resume => "resume",
            RolloutAsk::Approve(_) => "approve",
            RolloutAsk::RollBack { .. } => "rollback",
        }
    }
}

/// What that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutChange {
    /// Where it stood; `None`: it had never stood anywhere.
    pub before: Option<Progress>,
    /// Where it stands then.
    pub after: Progress,
}

impl RolloutChange {
    /// The weight before.
    pub fn from(&self) -> Weight {
        self.before.as_ref().map_or(Weight::NONE, |before| before.weight)
    }

    /// Whether it takes away something that kept users from extracted, now or later: that must be on record before it is in force.
    pub fn is_raise(&self) -> bool {
        let was_kept = self.before.as_ref().is_some_and(|one| one.held.is_some() || one.latched.is_some());
        let is_kept = self.after.held.is_some() || self.after.latched.is_some();
        self.after.weight > self.from() || (was_kept && !is_kept) || self.after.approved.is_some()
    }
}

impl RuntimeState {
    /// Does what is asked of a route's rollout.
    pub fn with_ask(&self, route: &Route, ask: RolloutAsk, note: Note) -> Result<RolloutChange, Refusal> {
        let Some(policy) = &route.rollout else {
            return Err(Refusal::NoRollout(route.name.clone()));
        };
        let before = self.rollouts().get(&route.name).cloned();
        let now = before.clone().unwrap_or_else(|| Progress::fresh(note.clone()));
        let after = match ask {
            RolloutAsk::Hold => Progress { held: Some(note), ..now },
            RolloutAsk::Resume if now.held.is_none() && now.latched.is_none() => {
                return Err(Refusal::NotHeld(route.name.clone()));
            }
            RolloutAsk::Resume => Progress { held: None, latched: None, ..now },
            RolloutAsk::Approve(step) => {
                let next = now.next_step(policy);
                let named = step.or(next);
                let refuse = |why: String| {
                    let step = named.map_or_else(|| "a further step".to_owned(), |step| step.to_string());
                    Err(Refusal::NotAwaited { route: route.name.clone(), step, why })
                };
                match (named, next) {
                    (_, None) => return refuse("it is at its last step".to_owned()),
                    (Some(named), Some(next)) if named != next => return refuse(format!("the next step is {next}")),
                    (Some(named), _) if !policy.approve.contains(&named) => {
                        return refuse("the file's `approve` does not name it".to_owned());
                    }
                    (None, _) => return refuse("there is none".to_owned()),
                    (Some(_), _) if policy.four_eyes && now.entered.by() == note.by() => {
                        return Err(Refusal::SamePerson { route: route.name.clone(), by: note.by().to_owned() });
                    }
                    (Some(step), _) => Progress { approved: Some(Approval { step, note }), ..now },
                }
            }
            RolloutAsk::RollBack { accept_stale } => {
                if now.weight == Weight::NONE && now.latched.is_some() {
                    return Err(Refusal::NothingToRollBack(route.name.clone()));
                }
                if !route.data.may_go_back() && !accept_stale && now.weight > Weight::NONE {
                    return Err(Refusal::WouldServeStale(route.name.clone()));
                }
                now.rolled_back(policy.target(now.step(policy), policy.roll_back_to), note)
            }
        };
        Ok(RolloutChange { before, after })
    }
}

impl crate::route::RolloutPolicy {
    /// Where a rollback from the step at `from` goes; `None`: before the first step, and nothing is copied either.
    pub fn target(&self, from: Option<usize>, to: RollBackTo) -> Option<Step> {
        match to {
            RollBackTo::Legacy => None,
            RollBackTo::PreviousStep => self.steps.get(from?.checked_sub(1)?).copied(),
            RollBackTo::Shadow => self.steps.first().copied().filter(|step| *step == Step::Shadow),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::judge::Gates;
    use crate::route::{Data, RolloutPolicy};
    use crate::samples;

    fn note(by: &str) -> Note {
        Note::new(by, 1, "because").unwrap()
    }

    fn step(text: &str) -> Step {
        text.parse().unwrap()
    }

    fn route() -> Route {
        let mut route = samples::route("a", "/a");
        route.rollout = Some(Arc::new(RolloutPolicy {
            steps: ["shadow", "10%", "50%"].map(step).into(),
            at_least: std::time::Duration::ZERO,
            warmup: std::time::Duration::ZERO,
            min_requests: 0,
            gates: Gates::by_default(),
            roll_back_to: RollBackTo::Shadow,
            approve: Arc::new([step("50%")]),
            four_eyes: true,
            window: None,
            freeze: Arc::new([]),
            needs: Arc::new([]),
            hooks: Arc::new([]),
        }));
        route
    }

    fn at(text: &str) -> RuntimeState {
        let progress = Progress::fresh(note("rollout")).entering(step(text), note("ann"));
        RuntimeState::default().with_progress(&"a".parse().unwrap(), Some(progress))
    }

    #[test]
    fn who_holds_lets_go_again() {
        let (route, state) = (route(), at("10%"));
        let held = state.with_ask(&route, RolloutAsk::Hold, note("ann")).unwrap();
        assert!(held.after.held.is_some() && !held.is_raise());
        let held = state.with_progress(&route.name, Some(held.after));
        let resumed = held.with_ask(&route, RolloutAsk::Resume, note("bob")).unwrap();
        assert!(resumed.after.held.is_none() && resumed.is_raise(), "on record before it is in force");
        assert!(matches!(state.with_ask(&route, RolloutAsk::Resume, note("bob")), Err(Refusal::NotHeld(_))));
    }

    #[test]
    fn a_rollback_latches_and_resuming_lifts_the_latch() {
        let (route, state) = (route(), at("50%"));
        let back = state.with_ask(&route, RolloutAsk::RollBack { accept_stale: false }, note("ann")).unwrap();
        assert_eq!((back.from().to_string(), back.after.weight), ("50%".to_owned(), Weight::NONE));
        assert!(back.after.latched.is_some() && back.after.is_begun && !back.is_raise());
        let state = state.with_progress(&route.name, Some(back.after));
        let again = state.with_ask(&route, RolloutAsk::RollBack { accept_stale: false }, note("ann"));
        assert!(matches!(again, Err(Refusal::NothingToRollBack(_))));
        assert!(state.with_ask(&route, RolloutAsk::Resume, note("ann")).unwrap().after.latched.is_none());
    }

    #[test]
    fn a_step_that_waits_for_a_person_waits_for_another_one() {
        let (route, state) = (route(), at("10%"));
        let ask = |step: Option<&str>, by: &str| {
            state
                .with_ask(&route, RolloutAsk::Approve(step.map(self::step)), note(by))
                .map(|change| change.after.approved)
        };
        assert_eq!(ask(None, "bob").unwrap().map(|approval| approval.step), Some(step("50%")));
        assert!(ask(Some("50%"), "bob").is_ok());
        assert!(matches!(ask(None, "ann"), Err(Refusal::SamePerson { .. })));
        assert!(matches!(ask(Some("10%"), "bob"), Err(Refusal::NotAwaited { .. })));
        let early = at("shadow").with_ask(&route, RolloutAsk::Approve(None), note("bob"));
        assert!(matches!(early, Err(Refusal::NotAwaited { .. })), "nobody has to approve 10 %");
    }

    #[test]
    fn what_extracted_owns_goes_back_by_a_persons_word_only() {
        let mut route = route();
        route.data = Data::Extracted;
        let ask = |accept_stale| at("50%").with_ask(&route, RolloutAsk::RollBack { accept_stale }, note("ann"));
        assert!(matches!(ask(false), Err(Refusal::WouldServeStale(_))));
        assert!(ask(true).is_ok());
        let plain = samples::route("b", "/b");
        let asked = RuntimeState::default().with_ask(&plain, RolloutAsk::Hold, note("ann"));
        assert!(matches!(asked, Err(Refusal::NoRollout(_))));
    }
}
