//! Rollouts: from text to table.

use std::time::Duration;

use strangler_core::judge::GateName;
use strangler_core::route::{RollBackTo, RolloutPolicy};

use super::*;

fn file(more: &str, keys: &str) -> String {
    format!(
        "version: 1\nlegacy: http://127.0.0.1:1\n{more}routes:\n  - {{name: a, match: 'GET /a/{{x}}', extracted: http://127.0.0.1:2, {keys}}}\n  - {{name: users, match: 'GET /users', extracted: http://127.0.0.1:2}}\n"
    )
}

fn said(text: &str) -> Vec<String> {
    load(text.as_bytes()).faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
}

fn policy(more: &str, keys: &str) -> RolloutPolicy {
    let text = file(more, keys);
    let loaded = load(text.as_bytes());
    assert_eq!(loaded.faults, [], "{text}");
    RolloutPolicy::clone(loaded.table.expect("a table").routes()[0].rollout.as_ref().expect("a rollout"))
}

fn steps(policy: &RolloutPolicy) -> Vec<String> {
    policy.steps.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_rollout_climbs_the_usual_steps_and_begins_in_the_shadow_where_there_is_one() {
    let plain = policy("", "rollout: {}");
    assert_eq!(steps(&plain), ["1%", "5%", "10%", "25%", "50%", "100%"]);
    assert_eq!(
        (plain.at_least, plain.warmup, plain.min_requests),
        (Duration::from_mins(10), Duration::from_mins(2), 300)
    );
    assert_eq!(plain.roll_back_to, RollBackTo::Shadow);
    assert!(plain.gates.errors.is_some() && plain.gates.latency.is_some());
    assert!(plain.gates.not_applicable.contains_key(&GateName::Mismatch), "nothing is compared, and that is said");
    let compared = policy("", "shadow: true, compare: true, rollout: {}");
    assert_eq!(steps(&compared)[..2], ["shadow", "1%"]);
    assert!(compared.gates.not_applicable.is_empty());
}

#[test]
fn every_key_does_what_it_says() {
    let keys = "shadow: true, compare: true, rollout: {steps: [shadow, 0.5%, 100%], step: {at_least: 1h, warmup: 0s, min_requests: 7}, \
                gates: {errors: {worse_by: 0.25pp}, latency: {more_slow_by: 50%}, mismatch: {at_most: 1%}, coverage: never}, \
                roll_back_to: previous_step, approve: [100%], four_eyes: true, window: 'Mon-Thu 09:00-16:00 Europe/Berlin', \
                freeze: ['2026-11-27/2026-12-01'], needs: ['users@100%']}";
    let policy = policy("", keys);
    assert_eq!(steps(&policy), ["shadow", "0.5%", "100%"]);
    assert_eq!((policy.at_least, policy.warmup, policy.min_requests), (Duration::from_hours(1), Duration::ZERO, 7));
    assert_eq!(
        policy.gates.errors.and_then(|gate| gate.worse_by).map(|points| points.to_string()).as_deref(),
        Some("0.25pp")
    );
    assert_eq!(policy.gates.latency.map(|gate| gate.more_slow_by.to_string()).as_deref(), Some("50%"));
    assert_eq!(policy.gates.mismatch.map(|gate| gate.at_most.to_string()).as_deref(), Some("1%"));
    assert_eq!(policy.gates.coverage, None);
    assert_eq!((policy.roll_back_to, policy.four_eyes), (RollBackTo::PreviousStep, true));
    assert_eq!(policy.approve.len() + policy.freeze.len() + policy.needs.len(), 3);
    assert!(policy.window.is_some());
}

#[test]
fn defaults_fill_what_a_rollout_leaves_out_and_begin_none() {
    let more = "defaults: {rollout: {step: {min_requests: 9}, freeze: ['2026-12-24']}}\n";
    let policy = policy(more, "rollout: {step: {at_least: 5m}}");
    assert_eq!((policy.at_least, policy.min_requests, policy.freeze.len()), (Duration::from_mins(5), 9, 1));
    let none = said(&file(more, "weight: 5%"));
    assert_eq!(
        none,
        ["defaults.rollout: no route writes `rollout`, so this fills nothing; defaults switch nothing on"]
    );
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (keys, expect) in [
        ("weight: 5%, rollout: {}", "routes[0].rollout: a rollout moves the weight, so the file cannot own it too"),
        ("rollout: {steps: [shadow, 5%]}", "routes[0].rollout.steps: at the step `shadow` answers are compared"),
        ("rollout: {steps: []}", "routes[0].rollout.steps: a ladder has at least one step"),
        ("rollout: {steps: [5%, 1%]}", "routes[0].rollout.steps: steps rise, and `1%` is not above `5%`"),
        ("rollout: {steps: [0%, 1%]}", "routes[0].rollout.steps[0]: `0%`: a step of `0%` asks nobody"),
        ("rollout: {approve: [7%]}", "routes[0].rollout.approve: `7%` is no step of this rollout"),
        ("rollout: {window: always}", "routes[0].rollout.window: `always`: a window is days, hours and a zone"),
        ("rollout: {freeze: [soon]}", "routes[0].rollout.freeze[0]: `soon`: a freeze is its first and its last day"),
        (
            "rollout: {needs: [users]}",
            "routes[0].rollout.needs[0]: `users`: a need is a route and how far it must have come",
        ),
        ("rollout: {needs: ['user@5%']}", "routes[0].rollout.needs: there is no route `user`"),
        ("rollout: {needs: ['a@5%']}", "routes[0].rollout.needs: `a` waits for itself, so it would never rise"),
        (
            "rollout: {gates: {errors: {worse_by: 0.5%}}}",
            "routes[0].rollout.gates.errors.worse_by: `0.5%`: percentage points are written with `pp`",
        ),
        ("rollout: {gates: {errors: off}}", "routes[0].rollout.gates.errors: expected one of `never`"),
        ("rollout: {steps: [1%], stepz: []}", "routes[0].rollout.stepz: unknown key `stepz`"),
        ("data: extracted, rollout: {}", "routes[0].rollout: `rollout` where the extracted service owns the data"),
        (
            "release_header: x-release",
            "routes[0].release_header: only a rollout or a comparison asks which release answers",
        ),
        (
            "locate: {param: x, rules: [], else: legacy}, rollout: {}",
            "routes[0].rollout: `locate` decides the side of this route",
        ),
    ] {
        let said = said(&file("", keys));
        assert!(said.iter().any(|fault| fault.starts_with(expect)), "{keys}: {said:#?}");
    }
}

#[test]
fn a_rollout_that_a_half_written_file_has_lost_is_no_reload() {
    use strangler_core::reload::{ReloadVerdict, Running, judge_reload};
    let table = |keys: &str| load(file("", keys).as_bytes()).table.expect("a table");
    let (before, after) = (table("rollout: {steps: [10%]}"), table("owner: me"));
    let weight = |_: usize| "10%".parse().ok();
    let verdict = judge_reload(Running { table: &before, weight: &weight }, &after, None, false);
    assert!(matches!(verdict, ReloadVerdict::Refuse(lost) if lost[0].to_string().contains("has lost `rollout`")));
    let to_file = judge_reload(Running { table: &before, weight: &weight }, &table("weight: 10%"), None, false);
    assert_eq!(to_file, ReloadVerdict::Accept);
}
