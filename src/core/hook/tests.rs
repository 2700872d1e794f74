use std::sync::Arc;

use super::*;
use crate::name::RouteName;
use crate::route::{Hook, HookFormat, HookTo, RolloutPolicy, Step, When};
use crate::runtime::{Note, Progress};
use crate::samples;

fn step(text: &str) -> Step {
    text.parse().unwrap()
}

fn note(why: &str) -> Note {
    Note::new("ops", 1, why).unwrap()
}

fn at(text: &str) -> Progress {
    Progress::fresh(note("begun")).entering(step(text), note("it is proven"))
}

fn hook(when: &[When]) -> Hook {
    Hook {
        to: HookTo::Url("https://ci.example.com/secret".parse().unwrap()),
        when: when.into(),
        key_file: None,
        ca: None,
        timeout: Duration::from_secs(10),
        retries: 3,
        format: HookFormat::Json,
    }
}

fn look(action: Action, reason: Reason) -> Look {
    Look { action, reason, why: "because".to_owned(), waits_for: Vec::new() }
}

fn name() -> RouteName {
    "cart".parse().unwrap()
}

fn now<'a>(route: &'a RouteName, progress: &'a Progress, found: &'a Look) -> Now<'a> {
    Now {
        route,
        progress,
        found,
        verdict: None,
        is_killed: false,
        at_step: Duration::from_secs(60),
        requests: 7,
        now_unix_ms: 1_795_428_000_000,
    }
}

#[test]
fn a_refusal_holds_a_raise_and_nothing_else() {
    let refused = Leave::Refused("ci.example.com: answers 503".to_owned());
    let rise = look(Action::Rise(step("10%")), Reason::Proven);
    let held = with_leave(rise.clone(), &refused);
    assert_eq!((held.action, held.reason), (Action::Stay, Reason::Hook));
    assert_eq!(held.why, "hook ci.example.com: answers 503");
    assert_eq!(with_leave(rise.clone(), &Leave::Asked("ci".to_owned())).action, Action::Stay);
    assert_eq!(with_leave(rise.clone(), &Leave::Given), rise);
    let back = look(Action::Back(None), Reason::Errors);
    assert_eq!(with_leave(back.clone(), &refused), back);
}

#[test]
fn a_raise_is_asked_for_once_and_again_after_a_refusal() {
    let second = Duration::from_secs;
    let question = Question::new(&at("10%"), step("50%"));
    let whom = || vec!["a".to_owned(), "b".to_owned()];
    let mut asking = Asking::new(question.clone(), 1, whom(), second(0));
    asking.answered(0, Ok(()), second(1));
    assert_eq!(asking.leave(&question, second(2)), Some(Leave::Asked("b".to_owned())));
    asking.answered(1, Err("answers 500".to_owned()), second(3));
    assert_eq!(asking.leave(&question, second(4)), Some(Leave::Refused("b: answers 500".to_owned())));
    assert_eq!(asking.leave(&question, second(33)), None, "it is asked again");

    let mut asking = Asking::new(question.clone(), 2, whom(), second(0));
    (0..2).for_each(|index| asking.answered(index, Ok(()), second(1)));
    assert_eq!(asking.leave(&question, second(2)), Some(Leave::Given));
    assert_eq!(asking.leave(&question, second(302)), None, "what was true once may not be later");
    assert_eq!(asking.leave(&Question::new(&at("1%"), step("50%")), second(2)), None, "another raise");
    // Before its first step it stands nowhere, and at every look since that look.
    let fresh = |at_ms| Question::new(&Progress::fresh(Note::new("ops", at_ms, "begins").unwrap()), step("1%"));
    assert_eq!(fresh(1), fresh(2));
}

#[test]
fn the_promotion_is_asked_for_as_such() {
    let hooks = [hook(&[When::PreStep, When::ConfirmPromotion]), hook(&[When::Event]), hook(&[When::ConfirmPromotion])];
    let route = samples::route("cart", "/cart");
    let mut policy: RolloutPolicy = route.rollout.as_deref().cloned().unwrap_or_else(samples_policy);
    policy.steps = ["10%", "50%"].map(step).into();
    policy.hooks = Arc::new(hooks);
    let asked = |to: &str| {
        let question = Question::new(&at("1%"), step(to));
        question.asked(&policy).into_iter().map(|(index, _, when)| (index, when)).collect::<Vec<_>>()
    };
    assert_eq!(asked("10%"), [(0, When::PreStep)]);
    assert_eq!(asked("50%"), [(0, When::ConfirmPromotion), (2, When::ConfirmPromotion)]);
}

fn samples_policy() -> RolloutPolicy {
    RolloutPolicy {
        steps: Arc::new([]),
        at_least: Duration::ZERO,
        warmup: Duration::ZERO,
        min_requests: 0,
        gates: crate::judge::Gates::default(),
        roll_back_to: crate::route::RollBackTo::Shadow,
        approve: Arc::new([]),
        four_eyes: false,
        window: None,
        freeze: Arc::new([]),
        needs: Arc::new([]),
        hooks: Arc::new([]),
        journey: None,
        is_compared: true,
        from: crate::weight::Weight::NONE,
        bake: None,
    }
}

#[test]
fn what_has_changed_is_told_whoever_changed_it() {
    let route = name();
    let stay = look(Action::Stay, Reason::Soak);
    let mut watch = Watch::default();
    let mut told = |progress: &Progress, found: &Look, is_killed: bool| {
        let now = Now { is_killed, ..now(&route, progress, found) };
        let messages = watch.follow(&now, Duration::ZERO);
        messages.into_iter().map(|it| (it.kind, it.from, it.to, it.reason)).collect::<Vec<_>>()
    };
    let says = |kind, from: &str, to: &str, reason| vec![(kind, from.to_owned(), to.to_owned(), reason)];
    let (low, high) = (at("10%"), at("50%"));
    assert_eq!(told(&low, &stay, false), [], "what was before the start is no news");
    assert_eq!(told(&low, &stay, false), []);
    let rise = look(Action::Rise(step("50%")), Reason::Proven);
    assert_eq!(told(&high, &rise, false), says(Kind::PostStep, "10%", "50%", "proven"));
    assert_eq!(told(&high, &stay, true), says(Kind::Rollback, "50%", "none", "killed"));
    assert_eq!(told(&high, &stay, false), says(Kind::Change, "50%", "50%", "unkilled"));
    let back = high.rolled_back(Some(Step::Shadow), note("it fails"), None);
    let found = look(Action::Back(Some(Step::Shadow)), Reason::Errors);
    assert_eq!(told(&back, &found, false), says(Kind::Rollback, "50%", "shadow", "errors"));
    let resumed = Progress { latched: None, ..back };
    assert_eq!(told(&resumed, &stay, false), says(Kind::Change, "shadow", "shadow", "resumed"));
    assert_eq!(told(&high, &stay, false), says(Kind::PostStep, "shadow", "50%", "proven"));
    assert_eq!(told(&low, &stay, false), says(Kind::Rollback, "50%", "10%", "asked"), "by a person");
}

#[test]
fn a_hold_that_somebody_should_know_of_is_told_once() {
    let route = name();
    let progress = at("10%");
    let mut watch = Watch::default();
    let mut told = |reason, seconds| {
        let found = look(Action::Stay, reason);
        watch.follow(&now(&route, &progress, &found), Duration::from_secs(seconds)).len()
    };
    assert_eq!(told(Reason::Insufficient, 0), 0);
    assert_eq!(told(Reason::ExternalVeto, 1), 1);
    assert_eq!(told(Reason::ExternalVeto, 2), 0);
    // It comes and goes: one message in ten minutes.
    assert_eq!(
        (3..600).map(|at| told(if at % 2 == 0 { Reason::ExternalVeto } else { Reason::Soak }, at)).sum::<usize>(),
        0
    );
    assert_eq!(told(Reason::AwaitingApproval, 600), 1);
    assert_eq!(told(Reason::Soak, 601) + told(Reason::ExternalVeto, 602), 1);
}

#[test]
fn a_message_says_what_happened_in_both_forms() {
    let route = name();
    let progress = at("10%");
    let found = look(Action::Rise(step("50%")), Reason::Proven);
    let message = Message::asking(&now(&route, &progress, &found), false, "50%".to_owned());
    let json: serde_json::Value = serde_json::from_str(&message.json("msg_1")).unwrap();
    assert_eq!(
        (&json["id"], &json["type"], &json["route"], &json["from"], &json["to"], &json["numbers"]["requests"]),
        (&"msg_1".into(), &"rollout.pre_step".into(), &"cart".into(), &"10%".into(), &"50%".into(), &7.into())
    );
    let back = Message { kind: Kind::Rollback, why: "a < b & c".to_owned(), ..message };
    let slack: serde_json::Value = serde_json::from_str(&back.slack()).unwrap();
    assert_eq!(slack["text"], "*cart* was sent back, 10% → 50%: a &lt; b &amp; c (by rollout)");
}

#[test]
fn waits_rise_to_a_bound_and_are_spread() {
    let waits: Vec<u64> = (1..9).map(|tried| wait_before_retry(tried, 0.0).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(wait_before_retry(3, 1.0), Duration::from_secs(2));
    assert_eq!(wait_before_retry(u32::MAX, 7.0), Duration::from_secs(30));
    for (status, expect) in [(503, true), (429, true), (404, false), (302, false), (410, false)] {
        assert_eq!(may_retry(status), expect, "{status}");
    }
}
