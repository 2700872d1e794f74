//! What people ask of a rollout: to hold, to go on, to enter a step, to go back.

use crate::name::RouteName;
use crate::route::{RollBackTo, RolloutPolicy, Route, Step};
use crate::runtime::{Approval, Note, Progress, Refusal, Release, RuntimeState};
use crate::table::RoutingTable;
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

/// What an ask makes of where a route stands.
type Doing<'a> = Box<dyn Fn(&Route, Progress) -> Progress + 'a>;

/// What is changed of one route's rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutChange {
    /// The route.
    pub route: RouteName,
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

/// A move: of one route, or of all routes of a journey at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutMove {
    /// Of each route. All of it is done, or nothing.
    pub changes: Vec<RolloutChange>,
    /// For the audit: `hold`, `resume`, `approve`, `rollback`, `rollout_step`, `rollout_back`, `rollout_release`, `rollout_lost`.
    pub what: &'static str,
}

impl RolloutMove {
    /// Whether any part of it is a raise.
    pub fn is_raise(&self) -> bool {
        self.changes.iter().any(RolloutChange::is_raise)
    }

    /// The change of that route.
    pub fn of(&self, route: &RouteName) -> Option<&RolloutChange> {
        self.changes.iter().find(|change| change.route == *route)
    }
}

impl RuntimeState {
    /// Puts a move in force, if every route of it still stands where it stood.
    pub fn with_rollout_move(&self, moved: &RolloutMove) -> Option<RuntimeState> {
        let stands = |change: &RolloutChange| self.rollouts().get(&change.route) == change.before.as_ref();
        moved.changes.iter().all(stands).then(|| {
            let put = |state: RuntimeState, change: &RolloutChange| {
                state.with_progress(&change.route, Some(change.after.clone()))
            };
            moved.changes.iter().fold(self.clone(), put)
        })
    }

    /// Does what is asked of a route's rollout; of all routes of its journey where they climb together.
    pub fn with_ask(
        &self,
        table: &RoutingTable,
        route: &Route,
        ask: RolloutAsk,
        note: &Note,
    ) -> Result<RolloutMove, Refusal> {
        let Some(policy) = &route.rollout else {
            return Err(Refusal::NoRollout(route.name.clone()));
        };
        let alone = [route];
        let members: Vec<&Route> = match &policy.journey {
            None => alone.into(),
            Some(_) => table.climbing_with(route).map(|member| &**member).collect(),
        };
        let stood: Vec<(&Route, Option<Progress>)> =
            members.iter().map(|member| (*member, self.rollouts().get(&member.name).cloned())).collect();
        let now = |before: &Option<Progress>| before.clone().unwrap_or_else(|| Progress::starting(route, note.clone()));
        let all: Vec<Progress> = stood.iter().map(|(_, before)| now(before)).collect();
        // The one that has come least far says what comes next.
        let last = all.iter().min_by_key(|progress| progress.step(policy)).cloned().unwrap_or_else(|| now(&None));
        let after: Doing<'_> = match ask {
            RolloutAsk::Hold => Box::new(|_, now| Progress { held: Some(note.clone()), ..now }),
            RolloutAsk::Resume if all.iter().all(|now| now.held.is_none() && now.latched.is_none()) => {
                return Err(Refusal::NotHeld(route.name.clone()));
            }
            RolloutAsk::Resume => Box::new(|_, now| Progress { held: None, ..now }.unlatched()),
            RolloutAsk::Approve(step) => {
                let step = awaited(route, policy, &last, step)?;
                if let Some(by) = policy.four_eyes.then(|| all.iter().find_map(|now| now.is_hand(note.by()))).flatten()
                {
                    return Err(Refusal::SamePerson { route: route.name.clone(), by });
                }
                Box::new(move |_, now| Progress { approved: Some(Approval { step, note: note.clone() }), ..now })
            }
            RolloutAsk::RollBack { accept_stale } => {
                if all.iter().all(|now| now.weight == Weight::NONE && now.latched.is_some()) {
                    return Err(Refusal::NothingToRollBack(route.name.clone()));
                }
                let is_stale =
                    |(member, now): (&&Route, &Progress)| !member.data.may_go_back() && now.weight > Weight::NONE;
                if let Some((member, _)) = members.iter().zip(&all).find(|one| is_stale(*one)).filter(|_| !accept_stale)
                {
                    return Err(Refusal::WouldServeStale(member.name.clone()));
                }
                let to = policy.target(last.step(policy), policy.roll_back_to);
                Box::new(move |member, now| {
                    let culprit = (member.name != route.name).then(|| route.name.clone());
                    now.rolled_back(now.at_most(to), note.clone(), culprit)
                })
            }
        };
        let change = |(member, before): (&Route, Option<Progress>)| {
            let after = after(member, now(&before)).touched(note.by());
            RolloutChange { route: member.name.clone(), before, after }
        };
        Ok(RolloutMove { changes: stood.into_iter().map(change).collect(), what: ask.as_str() })
    }
}

impl RuntimeState {
    /// Another release answers for a route. It stays where it stands; a rollback that it was to blame for is over, for all routes that
    /// climb with it.
    pub fn with_release(&self, table: &RoutingTable, route: &Route, release: &Release, note: &Note) -> RolloutMove {
        let change = |member: &Route, before: &Progress, after: Progress| RolloutChange {
            route: member.name.clone(),
            before: Some(before.clone()),
            after,
        };
        let mut changes = Vec::new();
        if let Some(before) = self.rollouts().get(&route.name) {
            let after = before.naming(release.clone(), note.clone());
            let is_over = before.latched.is_some() && after.latched.is_none();
            changes.push(change(route, before, after));
            let others = table.climbing_with(route).filter(|other| is_over && other.name != route.name);
            changes.extend(others.filter_map(|other| {
                let before = self.rollouts().get(&other.name)?;
                let is_its_doing = before.latched.as_ref()?.culprit.as_ref() == Some(&route.name);
                is_its_doing.then(|| change(other, before, before.clone().unlatched()))
            }));
        }
        RolloutMove { changes, what: "rollout_release" }
    }
}

/// The step that may be approved: the one that comes next, where a person has to approve it.
fn awaited(route: &Route, policy: &RolloutPolicy, last: &Progress, step: Option<Step>) -> Result<Step, Refusal> {
    let next = last.next_step(policy);
    let named = step.or(next);
    let refuse = |why: String| {
        let step = named.map_or_else(|| "a further step".to_owned(), |step| step.to_string());
        Err(Refusal::NotAwaited { route: route.name.clone(), step, why })
    };
    match (named, next) {
        (_, None) => refuse("it is at its last step".to_owned()),
        (Some(named), Some(next)) if named != next => refuse(format!("the next step is {next}")),
        (Some(named), _) if !policy.approve.contains(&named) => {
            refuse("the file's `approve` does not name it".to_owned())
        }
        (None, _) => refuse("there is none".to_owned()),
        (Some(named), _) => Ok(named),
    }
}

impl RolloutPolicy {
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
            journey: None,
            is_compared: true,
            from: Weight::NONE,
            bake: None,
            hooks: Arc::new([]),
        }));
        route
    }

    fn at(text: &str) -> RuntimeState {
        let progress = Progress::fresh(note("rollout")).entering(step(text), note("ann"));
        RuntimeState::default().with_progress(&"a".parse().unwrap(), Some(progress))
    }

    fn ask(state: &RuntimeState, route: &Route, ask: RolloutAsk, by: &str) -> Result<RolloutChange, Refusal> {
        let table = samples::table(vec![route.clone()]);
        state.with_ask(&table, route, ask, &note(by)).map(|mut moved| moved.changes.remove(0))
    }

    #[test]
    fn who_holds_lets_go_again() {
        let (route, state) = (route(), at("10%"));
        let held = ask(&state, &route, RolloutAsk::Hold, "ann").unwrap();
        assert!(held.after.held.is_some() && !held.is_raise());
        let held = state.with_progress(&route.name, Some(held.after));
        let resumed = ask(&held, &route, RolloutAsk::Resume, "bob").unwrap();
        assert!(resumed.after.held.is_none() && resumed.is_raise(), "on record before it is in force");
        assert_eq!(resumed.after.epoch, 0, "nothing was rolled back: what was counted counts on");
        assert!(matches!(ask(&state, &route, RolloutAsk::Resume, "bob"), Err(Refusal::NotHeld(_))));
    }

    #[test]
    fn a_rollback_latches_and_resuming_lifts_the_latch() {
        let (route, state) = (route(), at("50%"));
        let back = ask(&state, &route, RolloutAsk::RollBack { accept_stale: false }, "ann").unwrap();
        assert_eq!((back.from().to_string(), back.after.weight), ("50%".to_owned(), Weight::NONE));
        assert!(back.after.latched.is_some() && back.after.is_begun && !back.is_raise());
        let state = state.with_progress(&route.name, Some(back.after));
        let again = ask(&state, &route, RolloutAsk::RollBack { accept_stale: false }, "ann");
        assert!(matches!(again, Err(Refusal::NothingToRollBack(_))));
        let resumed = ask(&state, &route, RolloutAsk::Resume, "ann").unwrap().after;
        assert_eq!((resumed.latched, resumed.epoch), (None, 1));
    }

    #[test]
    fn a_step_that_waits_for_a_person_waits_for_another_one() {
        let (route, state) = (route(), at("10%"));
        let approve = |state: &RuntimeState, step: Option<&str>, by: &str| {
            let asked = ask(state, &route, RolloutAsk::Approve(step.map(self::step)), by);
            asked.map(|change| change.after.approved)
        };
        assert_eq!(approve(&state, None, "bob").unwrap().map(|approval| approval.step), Some(step("50%")));
        assert!(approve(&state, Some("50%"), "bob").is_ok());
        assert!(matches!(approve(&state, None, "ann"), Err(Refusal::SamePerson { .. })));
        assert!(matches!(approve(&state, Some("10%"), "bob"), Err(Refusal::NotAwaited { .. })));
        assert!(
            matches!(approve(&at("shadow"), None, "bob"), Err(Refusal::NotAwaited { .. })),
            "nobody has to approve 10 %"
        );
    }

    #[test]
    fn whoever_has_set_it_by_hand_at_this_step_does_not_approve_the_next_one() {
        let (route, state) = (route(), at("10%"));
        let held = ask(&state, &route, RolloutAsk::Hold, "bob").unwrap().after;
        let state = state.with_progress(&route.name, Some(held));
        let resumed = ask(&state, &route, RolloutAsk::Resume, "cat").unwrap().after;
        let state = state.with_progress(&route.name, Some(resumed.clone()));
        for by in ["ann", "bob", "cat"] {
            let asked = ask(&state, &route, RolloutAsk::Approve(None), by);
            assert!(matches!(asked, Err(Refusal::SamePerson { .. })), "{by}");
        }
        assert!(ask(&state, &route, RolloutAsk::Approve(None), "dan").is_ok());
        let entered = resumed.entering(step("50%"), note("rollout"));
        assert!(entered.hands.is_empty(), "another step, other eyes");
        let many = (0..100).fold(entered, |progress, one| progress.touched(&format!("p{one}")));
        assert_eq!((many.hands.len(), many.is_hand("p99").is_some()), (crate::runtime::HANDS_MAX, true));
    }

    #[test]
    fn what_extracted_owns_goes_back_by_a_persons_word_only() {
        let mut route = route();
        route.data = Data::Extracted;
        let back = |accept_stale| ask(&at("50%"), &route, RolloutAsk::RollBack { accept_stale }, "ann");
        assert!(matches!(back(false), Err(Refusal::WouldServeStale(_))));
        assert!(back(true).is_ok());
        let plain = samples::route("b", "/b");
        assert!(matches!(ask(&RuntimeState::default(), &plain, RolloutAsk::Hold, "ann"), Err(Refusal::NoRollout(_))));
    }

    fn journey() -> (Arc<RoutingTable>, Vec<Route>) {
        let member = |name: &str| {
            let mut member = samples::route(name, &format!("/{name}"));
            let policy = (**route().rollout.as_ref().unwrap()).clone();
            member.rollout = Some(Arc::new(RolloutPolicy { journey: Some("j".parse().unwrap()), ..policy }));
            member
        };
        let routes = vec![member("a"), member("b"), samples::route("c", "/c")];
        (samples::table(routes.clone()), routes)
    }

    #[test]
    fn what_is_asked_of_one_route_of_a_journey_is_asked_of_all() {
        let (table, routes) = journey();
        let state = at("50%")
            .with_progress(&routes[1].name, Some(Progress::fresh(note("rollout")).entering(step("10%"), note("x"))));
        let held = state.with_ask(&table, &routes[0], RolloutAsk::Hold, &note("ann")).unwrap();
        assert_eq!(held.changes.len(), 2);
        assert!(held.changes.iter().all(|change| change.after.held.is_some()));
        // The one behind says which step comes next.
        let approved = state.with_ask(&table, &routes[0], RolloutAsk::Approve(None), &note("bob")).unwrap();
        assert!(approved.changes.iter().all(|change| change.after.approved.as_ref().unwrap().step == step("50%")));
        let back =
            state.with_ask(&table, &routes[0], RolloutAsk::RollBack { accept_stale: false }, &note("ann")).unwrap();
        assert!(
            back.changes.iter().all(|change| change.after.latched.is_some() && change.after.weight == Weight::NONE)
        );
        let state = state.with_rollout_move(&back).unwrap();
        assert_eq!(state.with_rollout_move(&back), None, "it stands elsewhere now");
        // Named for one route, it is over once another release of that one answers, and of no other.
        let (one, two) = (Release::new("1").unwrap(), Release::new("2").unwrap());
        let named = |state: &RuntimeState, route: &Route, release: &Release| {
            state.with_rollout_move(&state.with_release(&table, route, release, &note("rollout"))).unwrap()
        };
        let latched = |state: &RuntimeState| state.rollouts().values().filter(|one| one.latched.is_some()).count();
        let state = named(&named(&state, &routes[0], &one), &routes[1], &one);
        let state = named(&state, &routes[1], &two);
        assert_eq!(latched(&state), 2);
        let state = named(&state, &routes[0], &two);
        assert_eq!((latched(&state), state.rollouts()[&routes[1].name].epoch), (0, 1));
    }
}
