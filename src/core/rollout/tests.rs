use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::judge::evidence::{Evidence, SideCounts, StageEvidence};
use crate::judge::{Gates, judge};
use crate::route::Data;
use crate::runtime::{Approval, Latch, Note};
use crate::samples;

/// 2026-11-23, a Monday, 10:00 UTC.
const MONDAY: u64 = 1_795_428_000_000;

fn note() -> Note {
    Note::new("ops", 1, "because").unwrap()
}

fn step(text: &str) -> Step {
    text.parse().unwrap()
}

fn policy() -> RolloutPolicy {
    RolloutPolicy {
        steps: ["shadow", "1%", "10%", "100%"].map(step).into(),
        at_least: Duration::from_mins(10),
        warmup: Duration::ZERO,
        min_requests: 300,
        gates: Gates::by_default(),
        roll_back_to: RollBackTo::Shadow,
        approve: Arc::new([]),
        four_eyes: false,
        window: None,
        freeze: Arc::new([]),
        needs: Arc::new([]),
        hooks: Arc::new([]),
    }
}

fn at(text: &str) -> Progress {
    Progress::fresh(note()).entering(step(text), note())
}

fn verdict(weight: &str, extracted: (u64, u64), legacy: (u64, u64)) -> Verdict {
    let side = |(units, errors)| SideCounts { units, errors, ..SideCounts::default() };
    let stage = StageEvidence { extracted: side(extracted), legacy: side(legacy), ..StageEvidence::default() };
    let weight: Weight = weight.parse().unwrap();
    let evidence = Evidence { step: Some(weight), stages: [(weight, stage)].into(), ..Evidence::default() };
    judge(&Gates::by_default(), &evidence)
}

fn sound() -> Verdict {
    let verdict = verdict("10%", (10_000, 50), (90_000, 450));
    assert_eq!(verdict.verdict, Decision::Promote, "{}", verdict.why);
    verdict
}

fn harmful() -> Verdict {
    let verdict = verdict("10%", (10_000, 500), (90_000, 450));
    assert_eq!(verdict.verdict, Decision::RollBack, "{}", verdict.why);
    verdict
}

/// What is known when nothing is in the way.
fn seen<'a>(route: &'a Route, policy: &'a RolloutPolicy, progress: &'a Progress, verdict: &'a Verdict) -> Seen<'a> {
    Seen {
        route,
        policy,
        progress,
        verdict: Some(verdict),
        trip: None,
        at_step: Duration::from_hours(1),
        requests: 10_000,
        unmet: &[],
        is_killed: false,
        is_state_known: true,
        now_unix_ms: MONDAY,
    }
}

#[test]
fn what_is_proven_and_has_stood_its_time_rises_one_step() {
    let (route, policy, verdict) = (samples::route("a", "/a"), policy(), sound());
    assert_eq!(look(&seen(&route, &policy, &at("10%"), &verdict)).action, Action::Rise(step("100%")));
    let progress = at("10%");
    let found = look(&Seen { at_step: Duration::from_secs(599), ..seen(&route, &policy, &progress, &verdict) });
    assert_eq!((found.action, found.reason), (Action::Stay, Reason::Soak));
    assert_eq!(found.waits_for, ["1s more at this step, of 10m"]);
    let quiet = look(&Seen { requests: 299, ..seen(&route, &policy, &progress, &verdict) });
    assert_eq!(quiet.waits_for, ["1 more users of extracted at this step, of 300"]);
    let done = look(&seen(&route, &policy, &at("100%"), &verdict));
    assert_eq!((done.action, done.waits_for), (Action::Stay, vec![]));
}

#[test]
fn everything_that_is_in_the_way_is_named() {
    let route = samples::route("a", "/a");
    let policy = RolloutPolicy {
        approve: Arc::new([step("100%")]),
        window: Some(Arc::new("Tue-Thu 09:00-16:00 UTC".parse().unwrap())),
        freeze: Arc::new(["2026-11-23".parse().unwrap()]),
        ..policy()
    };
    let held = Progress { held: Some(note()), ..at("10%") };
    let need: Need = "users@100%".parse().unwrap();
    let (unmet, verdict) = ([&need], sound());
    let found = look(&Seen { unmet: &unmet, is_killed: true, ..seen(&route, &policy, &held, &verdict) });
    assert_eq!(found.action, Action::Stay);
    assert_eq!(
        found.waits_for,
        [
            "it is killed",
            "`resume`: held since 1970-01-01T00:00:00Z by ops because because",
            "a person's approval of 100%",
            "`users` at 100%",
            "the end of the freeze 2026-11-23/2026-11-23",
            "the window Tue-Thu 09:00-16:00 UTC, which opens 2026-11-24T09:00:00Z",
        ]
    );
    let approved = Progress { approved: Some(Approval { step: step("100%"), note: note() }), ..at("10%") };
    let tuesday = Seen { now_unix_ms: MONDAY + 86_400_000, ..seen(&route, &policy, &approved, &verdict) };
    assert_eq!(look(&tuesday).action, Action::Rise(step("100%")));
    let other = Progress { approved: Some(Approval { step: step("10%"), note: note() }), ..at("10%") };
    let found = look(&Seen { progress: &other, ..tuesday });
    assert_eq!(found.reason, Reason::AwaitingApproval, "another step was approved");
}

#[test]
fn harm_sends_it_back_whatever_is_in_the_way_and_once_only() {
    let route = samples::route("a", "/a");
    let held = Progress { held: Some(note()), ..at("10%") };
    let verdict = harmful();
    for (to, expect) in [
        (RollBackTo::Shadow, Some(step("shadow"))),
        (RollBackTo::Legacy, None),
        (RollBackTo::PreviousStep, Some(step("1%"))),
    ] {
        let policy = RolloutPolicy { roll_back_to: to, freeze: Arc::new(["2026-11-23".parse().unwrap()]), ..policy() };
        let found = look(&seen(&route, &policy, &held, &verdict));
        assert_eq!((found.action, found.reason), (Action::Back(expect), Reason::Errors));
    }
    let latched = Progress { latched: Some(Latch { note: note(), release: None }), ..at("1%") };
    let policy = policy();
    let found = look(&seen(&route, &policy, &latched, &verdict));
    assert_eq!(
        (found.action, found.reason),
        (Action::Stay, Reason::Latched),
        "the evidence stands, and walks nothing down"
    );
    let tripped = look(&Seen { trip: Some(Trip::Failing), ..seen(&route, &policy, &latched, &verdict) });
    assert_eq!((tripped.action, tripped.reason), (Action::Back(Some(step("shadow"))), Reason::HardBreaker));
}

#[test]
fn the_hard_breaker_leaves_nobody_there() {
    let (route, progress, verdict) = (samples::route("a", "/a"), at("10%"), sound());
    let policy = RolloutPolicy { roll_back_to: RollBackTo::PreviousStep, ..policy() };
    let found = look(&Seen { trip: Some(Trip::Unreachable), ..seen(&route, &policy, &progress, &verdict) });
    assert_eq!(found.action, Action::Back(Some(step("shadow"))));
    let without = RolloutPolicy { steps: ["1%", "10%"].map(step).into(), ..policy };
    let found = look(&Seen { trip: Some(Trip::Unreachable), ..seen(&route, &without, &progress, &verdict) });
    assert_eq!(found.action, Action::Back(None));
}

#[test]
fn where_extracted_owns_the_data_somebody_is_called_and_nothing_moves() {
    let mut route = samples::route("a", "/a");
    route.data = Data::Extracted;
    let (policy, progress, verdict) = (policy(), at("10%"), harmful());
    let found = look(&seen(&route, &policy, &progress, &verdict));
    assert_eq!((found.action, found.reason), (Action::Page, Reason::DataOwnedByExtracted));
}

#[test]
fn in_the_shadow_nobody_is_sent_back_and_it_does_not_rise_on_harm() {
    let (route, policy, progress) = (samples::route("a", "/a"), policy(), at("shadow"));
    let verdict = harmful();
    let found = look(&seen(&route, &policy, &progress, &verdict));
    assert_eq!((found.action, found.reason), (Action::Stay, Reason::Errors));
}

#[test]
fn a_rollout_begins_with_its_first_step_when_that_is_allowed() {
    let (route, fresh) = (samples::route("a", "/a"), Progress::fresh(note()));
    let begin = |policy: &RolloutPolicy| {
        look(&Seen {
            route: &route,
            policy,
            progress: &fresh,
            verdict: None,
            trip: None,
            at_step: Duration::ZERO,
            requests: 0,
            unmet: &[],
            is_killed: false,
            is_state_known: true,
            now_unix_ms: MONDAY,
        })
    };
    assert_eq!(begin(&policy()).action, Action::Rise(Step::Shadow));
    let approving = RolloutPolicy { approve: Arc::new([Step::Shadow]), ..policy() };
    assert_eq!(begin(&approving).reason, Reason::AwaitingApproval);
}

#[test]
fn seconds_are_said_in_two_words_at_most() {
    for (seconds, expect) in [(0, "0s"), (59, "59s"), (90, "1m 30s"), (3_600, "1h"), (90_061, "1d 1h")] {
        assert_eq!(words(seconds), expect);
    }
}

proptest! {
    #[test]
    fn nothing_rises_without_proof_and_nothing_in_the_way_holds_a_rollback(
        flags: [bool; 6], at_step_s in 0u64..2_000, requests in 0u64..600, which in 0usize..3, now in MONDAY..MONDAY + 7 * 86_400_000,
    ) {
        let route = samples::route("a", "/a");
        let [is_killed, is_held, is_latched, is_state_known, is_tripped, has_window] = flags;
        let policy = RolloutPolicy {
            window: has_window.then(|| Arc::new("Mon-Fri 09:00-16:00 UTC".parse().unwrap())),
            ..policy()
        };
        let progress = Progress {
            held: is_held.then(note),
            latched: is_latched.then(|| Latch { note: note(), release: None }),
            ..at("10%")
        };
        let verdicts = [sound(), harmful(), verdict("10%", (10, 0), (90, 0))];
        let verdict = &verdicts[which];
        let found = look(&Seen {
            trip: is_tripped.then_some(Trip::Failing), at_step: Duration::from_secs(at_step_s), requests, is_killed, is_state_known, now_unix_ms: now,
            ..seen(&route, &policy, &progress, verdict)
        });
        let is_harm = is_tripped || (verdict.verdict == Decision::RollBack && !is_latched);
        prop_assert_eq!(matches!(found.action, Action::Back(_)), is_harm);
        if matches!(found.action, Action::Rise(_)) {
            prop_assert!(verdict.verdict == Decision::Promote && at_step_s >= 600 && requests >= 300);
            prop_assert!(!is_killed && !is_held && !is_latched && is_state_known);
        } else if !is_harm {
            prop_assert!(!found.waits_for.is_empty());
        }
    }
}
