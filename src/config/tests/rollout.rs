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
        (
            "data: extracted, rollout: {}",
            "routes[0].rollout: the extracted service owns the data, so nobody may begin anew",
        ),
        ("data: extracted, rollout: {from: 0%}", "routes[0].rollout.from: from `0%` every user"),
        ("rollout: {from: 5%}", "routes[0].rollout.from: where legacy knows what was written"),
        ("data: synced, rollout: {from: 5%}", "routes[0].rollout.from: where legacy knows what was written"),
        (
            "data: extracted, rollout: {from: 5%, bake: {for: 1h, holdback: 1%}}",
            "routes[0].rollout.bake: a holdback asks legacy, which does not know what users have written since",
        ),
        (
            "rollout: {steps: [5%, 50%], bake: {for: 1h}}",
            "routes[0].rollout.bake: it begins when everybody has been moved",
        ),
        (
            "rollout: {steps: [5%, 99%, 100%], bake: {for: 1h}}",
            "routes[0].rollout.bake: a holdback of 1% leaves 99%, and the step 99% is not below that",
        ),
        ("rollout: {bake: {holdback: 1%}}", "routes[0].rollout.bake"),
        ("rollout: {bake: {for: 1h, holdback: 51%}}", "routes[0].rollout.bake.holdback: a holdback is 50% at most"),
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

#[test]
fn a_bake_is_a_step_of_its_own_before_the_last_one() {
    let baking = policy("", "rollout: {approve: [100%], bake: {for: 14d}}");
    assert_eq!(steps(&baking), ["1%", "5%", "10%", "25%", "50%", "99%", "100%"]);
    assert_eq!(
        baking.approve.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["99%"],
        "then nearly everybody is moved"
    );
    let (bake, last) = (baking.bake.expect("a bake"), "99%".parse().expect("a weight"));
    assert_eq!((bake.time, baking.is_baking(last)), (Duration::from_hours(14 * 24), true));
    assert_eq!(baking.terms_at(last).at_least, bake.time);
    assert_eq!(baking.terms_at("50%".parse().expect("a weight")).at_least, Duration::from_mins(10));
    let kept_warm = policy("", "rollout: {bake: {for: 1h, holdback: 0%}}");
    assert_eq!(steps(&kept_warm).last().map(String::as_str), Some("100%"));
    assert!(kept_warm.bake.is_some() && !kept_warm.steps.iter().any(|step| kept_warm.is_baking(step.weight())));
    let owned = policy("", "data: extracted, rollout: {from: 25%, bake: {for: 1h}}");
    assert_eq!((owned.from.to_string().as_str(), steps(&owned).len()), ("25%", 6), "no holdback where legacy is stale");
}

fn journey(of_journey: &str, keys: [&str; 2]) -> String {
    let [a, b] = keys;
    format!(
        "version: 1\nlegacy: http://127.0.0.1:1\njourneys: {{checkout: {{sticky_on: ['header:x-user'], lease: 0s, {of_journey}}}}}\nroutes:\n  - {{name: a, match: 'GET /a', extracted: http://127.0.0.1:2, journey: checkout{a}}}\n  - {{name: b, match: 'GET /b', extracted: http://127.0.0.1:2, journey: checkout{b}}}\n  - {{name: c, match: 'GET /c', extracted: http://127.0.0.1:2}}\n"
    )
}

#[test]
fn the_rollout_of_a_journey_is_that_of_all_its_routes() {
    for (of_journey, keys, ladder) in [
        ("rollout: {}", ["", ""], &["1%", "5%"][..]),
        ("together: true, rollout: {}", ["", ""], &["1%", "5%"]),
        ("rollout: {}", [", shadow: true, compare: true", ""], &["shadow", "1%"]),
        ("rollout: {steps: [shadow, 10%]}", [", shadow: true, compare: true", ""], &["shadow", "10%"]),
    ] {
        let loaded = load(journey(of_journey, keys).as_bytes());
        assert_eq!(loaded.faults, [], "{of_journey}");
        let table = loaded.table.expect("a table");
        assert_eq!(table.climbs(), [vec![0, 1]], "one rollout");
        for route in &table.routes()[..2] {
            let policy = route.rollout.as_ref().expect("a rollout");
            assert_eq!(policy.journey.as_ref().map(ToString::to_string).as_deref(), Some("checkout"));
            assert_eq!(steps(policy)[..2], *ladder, "{of_journey}");
        }
        assert!(table.routes()[2].rollout.is_none());
    }
}

#[test]
fn what_else_would_move_a_route_of_such_a_journey_is_refused_where_it_stands() {
    for (of_journey, keys, expect) in [
        ("rollout: {}", [", weight: 5%", ""], "routes[0].weight: a rollout moves the weight"),
        ("rollout: {}", ["", ", rollout: {}"], "routes[1].rollout: the rollout of the journey `checkout` moves all"),
        ("together: true", ["", ", rollout: {}"], "routes[1].rollout: the routes of `checkout` move together"),
        ("rollout: {steps: [shadow, 5%]}", ["", ""], "journeys.checkout.rollout.steps: at the step `shadow`"),
        ("rollout: {approve: [7%]}", ["", ""], "journeys.checkout.rollout.approve: `7%` is no step"),
        ("rollout: {needs: ['b@5%']}", ["", ""], "routes[1].rollout.needs: `b` waits for itself"),
        ("rollout: {needs: ['d@5%']}", ["", ""], "journeys.checkout.rollout.needs: there is no route `d`"),
        ("rollout: {from: 5%}", ["", ""], "journeys.checkout.rollout.from: where legacy knows"),
        ("rollout: {}", [", data: extracted", ""], "journeys.checkout.rollout: the extracted service owns the data"),
        ("rollout: {}", [", locate: {param: x, rules: [], else: legacy}", ""], "routes[0].locate: `locate` decides"),
    ] {
        let said = said(&journey(of_journey, keys));
        let found = said.iter().filter(|fault| fault.starts_with(expect)).count();
        assert_eq!(found, 1, "{of_journey} {keys:?}: {said:#?}");
    }
}
