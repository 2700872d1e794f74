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
        journey: None,
        is_compared: true,
        from: Weight::NONE,
        bake: None,
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
        stood: Stood { time: Duration::from_hours(1), requests: 10_000 },
        late: None,
        stands_out: None,
        unmet: &[],
        is_killed: false,
        is_state_known: true,
        now_unix_ms: MONDAY,
        is_clock_doubtful: false,
    }
}

#[test]
fn what_is_proven_and_has_stood_its_time_rises_one_step() {
    let (route, policy, verdict) = (samples::route("a", "/a"), policy(), sound());
    assert_eq!(look(&seen(&route, &policy, &at("10%"), &verdict)).action, Action::Rise(step("100%")));
    let progress = at("10%");
    let found = look(&Seen {
        stood: Stood { time: Duration::from_secs(599), requests: 10_000 },
        ..seen(&route, &policy, &progress, &verdict)
    });
    assert_eq!((found.action, found.reason), (Action::Stay, Reason::Soak));
    assert_eq!(found.waits_for, ["1s more at this step, of 10m"]);
    let quiet = look(&Seen {
        stood: Stood { time: Duration::from_hours(1), requests: 299 },
        ..seen(&route, &policy, &progress, &verdict)
    });
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
    let latched = Progress { latched: Some(Latch { note: note(), release: None, culprit: None }), ..at("1%") };
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
            stood: Stood::default(),
            late: None,
            stands_out: None,
            is_clock_doubtful: false,
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
            latched: is_latched.then(|| Latch { note: note(), release: None, culprit: None }),
            ..at("10%")
        };
        let verdicts = [sound(), harmful(), verdict("10%", (10, 0), (90, 0))];
        let verdict = &verdicts[which];
        let found = look(&Seen {
            trip: is_tripped.then_some(Trip::Failing), stood: Stood { time: Duration::from_secs(at_step_s), requests }, is_killed, is_state_known, now_unix_ms: now, is_clock_doubtful: false,
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

fn of_journey<'a>(routes: &'a [Route], stood: &'a [Progress], looks: Vec<Look>) -> Vec<Member<'a>> {
    let members = routes.iter().zip(stood).zip(looks);
    members.map(|((route, progress), look)| Member { route, before: Some(progress), progress, look }).collect()
}

fn two() -> [Route; 2] {
    [samples::route("a", "/a"), samples::route("b", "/b")]
}

fn of(action: Action, reason: Reason, waits: &[&str]) -> Look {
    let waits_for = waits.iter().map(|wait| (*wait).to_owned()).collect();
    Look { action, reason, why: waits.first().map_or("so it is", |wait| wait).to_owned(), waits_for }
}

fn rise(to: &str) -> Look {
    of(Action::Rise(step(to)), Reason::Proven, &[])
}

#[test]
fn routes_that_climb_together_wait_for_the_last_of_them_and_go_back_with_the_first() {
    let (routes, policy) = (two(), policy());
    let stood = [at("1%"), at("1%")];
    let decide = |a: Look, b: Look| together(&policy, &of_journey(&routes, &stood, vec![a, b]));
    let (both, _) = decide(rise("10%"), rise("10%"));
    assert_eq!(both.action, Action::Rise(step("10%")));
    let waiting = of(Action::Stay, Reason::Insufficient, &["300 more users"]);
    let (one, _) = decide(rise("10%"), waiting.clone());
    assert_eq!((one.action, one.waits_for), (Action::Stay, vec!["`b`: 300 more users".to_owned()]));
    let (alike, _) = decide(waiting.clone(), waiting.clone());
    assert_eq!(alike.waits_for, ["300 more users"], "what all wait for is said once");
    let harm = of(Action::Back(Some(Step::Shadow)), Reason::Errors, &["it fails"]);
    let (back, culprit) = decide(rise("10%"), harm.clone());
    assert_eq!((back.action.clone(), culprit.clone()), (harm.action.clone(), Some("b".parse().unwrap())));
    assert!(back.why.contains("`b`"), "{}", back.why);
    let members = of_journey(&routes, &stood, vec![waiting, harm]);
    let moved = changes(&members, &back.action, culprit.as_ref(), &note());
    assert!(
        moved.len() == 2 && moved.iter().all(|one| one.after.weight == Weight::NONE && one.after.latched.is_some())
    );
    let blamed = |index: usize| moved[index].after.latched.as_ref().unwrap().culprit.as_ref().map(ToString::to_string);
    assert_eq!((blamed(0), blamed(1)), (Some("b".to_owned()), None));
}

#[test]
fn a_route_that_is_new_to_a_journey_climbs_until_it_has_come_as_far_and_the_others_wait() {
    let (routes, policy) = (two(), policy());
    let stood = [at("10%"), Progress::fresh(note())];
    let members = of_journey(&routes, &stood, vec![rise("100%"), rise("shadow")]);
    let (look, _) = together(&policy, &members);
    assert_eq!(look.action, Action::Rise(Step::Shadow));
    let moved = changes(&members, &look.action, None, &note());
    assert_eq!(moved.iter().map(|one| one.route.as_str()).collect::<Vec<_>>(), ["b"], "nobody of `a` is sent back");
    // Harm is harm, however far the one that does it is ahead.
    let members =
        of_journey(&routes, &stood, vec![of(Action::Back(None), Reason::Errors, &["it fails"]), rise("shadow")]);
    assert_eq!(together(&policy, &members).0.action, Action::Back(None));
}

#[test]
fn where_one_route_of_a_journey_must_not_go_back_none_does_by_itself() {
    let mut routes = two();
    routes[1].data = Data::Extracted;
    let (stood, policy) = ([at("10%"), at("10%")], policy());
    let harm = of(Action::Back(Some(Step::Shadow)), Reason::Errors, &["it fails"]);
    let (look, _) = together(&policy, &of_journey(&routes, &stood, vec![harm, rise("100%")]));
    assert_eq!((look.action, look.reason), (Action::Page, Reason::DataOwnedByExtracted));
    assert!(look.why.contains("`a`") && look.why.contains("`b`"), "{}", look.why);
}

fn baking() -> RolloutPolicy {
    let bake = crate::route::Bake { time: Duration::from_hours(24), holdback: Weight::ONE_PERCENT };
    RolloutPolicy { steps: ["10%", "99%", "100%"].map(step).into(), bake: Some(bake), ..policy() }
}

#[test]
fn a_bake_takes_its_time_and_needs_no_further_proof() {
    let (route, policy, progress) = (samples::route("a", "/a"), baking(), at("99%"));
    // Of the few that legacy still answers nothing can be proven.
    let quiet = verdict("99%", (5_000, 25), (50, 0));
    assert_eq!((quiet.verdict, quiet.reason), (Decision::Hold, Reason::Insufficient), "{}", quiet.why);
    let at = |hours| Stood { time: Duration::from_hours(hours), requests: 10_000 };
    let early = look(&Seen { stood: at(23), ..seen(&route, &policy, &progress, &quiet) });
    assert_eq!((early.action, early.waits_for), (Action::Stay, vec!["1h more of its bake, of 1d".to_owned()]));
    let done = look(&Seen { stood: at(24), ..seen(&route, &policy, &progress, &quiet) });
    assert_eq!(done.action, Action::Rise(step("100%")));
    // At another step the same is a hold.
    let below = super::tests::at("10%");
    let held = look(&Seen { stood: at(24), ..seen(&route, &policy, &below, &quiet) });
    assert_eq!(held.action, Action::Stay);
}

#[test]
fn a_late_regression_sends_it_back_while_it_bakes_and_holds_it_before() {
    let (route, policy) = (samples::route("a", "/a"), baking());
    let quiet = verdict("99%", (5_000, 25), (50, 0));
    let lately = |failures, requests| Some(Lately { failures, requests });
    let found = |progress: &Progress, late| look(&Seen { late, ..seen(&route, &policy, progress, &quiet) });
    let back = found(&at("99%"), lately(300, 5_000));
    assert_eq!((back.action, back.reason), (Action::Back(None), Reason::LateRegression), "{}", back.why);
    assert_ne!(found(&at("99%"), lately(30, 5_000)).reason, Reason::LateRegression, "as often as legacy");
    assert_ne!(found(&at("10%"), lately(300, 5_000)).action, Action::Back(None), "e-CUSUM holds, before the bake");
    let owned = Route { data: Data::Extracted, ..route.clone() };
    let paged = look(&Seen { late: lately(300, 5_000), ..seen(&owned, &policy, &at("99%"), &quiet) });
    assert_eq!(paged.action, Action::Page);
}

#[test]
fn without_a_holdback_a_bake_is_time_in_which_legacy_is_kept_warm() {
    let bake = crate::route::Bake { time: Duration::from_hours(24), holdback: Weight::NONE };
    let (route, policy) = (samples::route("a", "/a"), RolloutPolicy { bake: Some(bake), ..policy() });
    let (progress, sound) = (at("100%"), sound());
    let found = look(&seen(&route, &policy, &progress, &sound));
    assert_eq!(
        (found.action, found.waits_for),
        (Action::Stay, vec!["23h more of its bake: legacy is to be kept warm".to_owned()])
    );
}

#[test]
fn a_clock_that_has_jumped_opens_no_window() {
    let (route, progress, sound) = (samples::route("a", "/a"), at("10%"), sound());
    let plain = policy();
    let windowed = RolloutPolicy { window: Some(Arc::new("Mon-Thu 09:00-16:00 UTC".parse().unwrap())), ..policy() };
    let found = |policy: &RolloutPolicy, is_clock_doubtful| {
        look(&Seen { is_clock_doubtful, ..seen(&route, policy, &progress, &sound) }).action
    };
    assert_eq!(found(&windowed, false), Action::Rise(step("100%")));
    assert_eq!(found(&windowed, true), Action::Stay);
    assert_eq!(found(&plain, true), Action::Rise(step("100%")), "nothing of it goes by that clock");
}

proptest! {
    #[test]
    fn where_there_is_no_window_and_no_freeze_the_clock_on_the_wall_moves_nothing(
        now in any::<u64>(), which in 0usize..2, at_step_s in 0u64..2_000, requests in 0u64..600,
    ) {
        let (route, policy, progress) = (samples::route("a", "/a"), policy(), at("10%"));
        let verdict = [sound(), harmful()][which].clone();
        let stood = Stood { time: Duration::from_secs(at_step_s), requests };
        let usual = Seen { stood, ..seen(&route, &policy, &progress, &verdict) };
        prop_assert_eq!(look(&usual), look(&Seen { now_unix_ms: now, ..usual }));
    }
}

#[test]
fn what_stands_out_among_many_routes_rises_no_further_and_is_not_sent_back_for_that() {
    let (route, policy, progress, sound) = (samples::route("a", "/a"), policy(), at("10%"), sound());
    let found = look(&Seen { stands_out: Some(40), ..seen(&route, &policy, &progress, &sound) });
    assert_eq!((found.action, found.reason), (Action::Stay, Reason::WithinMargin));
    assert!(found.waits_for[0].contains("of 40 routes"), "{:?}", found.waits_for);
}
