use super::*;
use crate::judge::evidence::tests::evidence;
use crate::judge::evidence::{Before, Comparisons, CoverageResult, External, SideCounts, StageEvidence};
use crate::judge::gates::{CoverageGate, ErrorsGate, LatencyGate, MismatchGate, Query, Slo};
use proptest::prelude::*;

fn weight(text: &str) -> Weight {
    text.parse().unwrap()
}

fn failing(units: u64, errors: u64) -> SideCounts {
    SideCounts { units, errors, ..SideCounts::default() }
}

/// One step: extracted's units and failures, and legacy's.
fn seen(step: &str, extracted: (u64, u64), legacy: (u64, u64)) -> Evidence {
    let stage = StageEvidence {
        extracted: failing(extracted.0, extracted.1),
        legacy: failing(legacy.0, legacy.1),
        ..StageEvidence::default()
    };
    Evidence { stages: [(weight(step), stage)].into(), ..Evidence::default() }
}

fn stage_mut(evidence: &mut Evidence) -> &mut StageEvidence {
    evidence.stages.last_entry().unwrap().into_mut()
}

fn within(points: &str) -> Gates {
    Gates { errors: Some(ErrorsGate { worse_by: Some(points.parse().unwrap()) }), ..Gates::default() }
}

fn all_gates() -> Gates {
    Gates {
        latency: Some(LatencyGate::default()),
        mismatch: Some(MismatchGate::default()),
        coverage: Some(CoverageGate::default()),
        prometheus: vec![Query { max: Some(1.0), ..Query::of("up") }],
        slo: Some(Slo { success: weight("99.9%") }),
        ..Gates::by_default()
    }
}

fn said(gates: &Gates, evidence: &Evidence) -> (Decision, Reason) {
    let verdict = judge(gates, evidence);
    assert!(!verdict.why.is_empty() && verdict.gates.values().all(|report| !report.why.is_empty()), "{verdict:?}");
    (verdict.verdict, verdict.reason)
}

#[test]
fn missing_evidence_is_a_hold() {
    let hold = |reason| (Decision::Hold, reason);
    assert_eq!(said(&Gates::by_default(), &Evidence::default()), hold(Reason::Insufficient));
    assert_eq!(said(&Gates::default(), &Evidence::default()), hold(Reason::Insufficient));
    assert_eq!(said(&Gates::default(), &seen("5%", (9_000, 0), (171_000, 0))), hold(Reason::Insufficient));
    assert_eq!(said(&all_gates(), &Evidence::default()), hold(Reason::ExternalNoData));
    assert_eq!(said(&Gates::by_default(), &seen("5%", (0, 0), (171_000, 0))), hold(Reason::Insufficient));
    assert_eq!(said(&Gates::by_default(), &seen("5%", (9_000, 0), (0, 0))), hold(Reason::Insufficient));
    // Failures of which nobody says how many units had none.
    assert_eq!(said(&Gates::by_default(), &seen("5%", (0, 40), (0, 10))), hold(Reason::Insufficient));
    // What earlier steps have shown proves nothing of one that nobody has been at.
    let mut elsewhere = seen("5%", (60_000, 300), (1_140_000, 5_700));
    assert_eq!(said(&Gates::by_default(), &elsewhere), (Decision::Promote, Reason::Proven));
    elsewhere.step = Some(weight("10%"));
    assert_eq!(said(&Gates::by_default(), &elsewhere), hold(Reason::Insufficient));
    let mut untimed = seen("25%", (20_000, 20), (60_000, 60));
    untimed.comparisons = Comparisons { compared: 9_000, ..Comparisons::default() };
    let mut gates = Gates { latency: Some(LatencyGate::default()), ..Gates::by_default() };
    assert_eq!(said(&gates, &untimed), hold(Reason::Insufficient));
    gates.latency = None;
    assert_eq!(said(&gates, &untimed), (Decision::Promote, Reason::Proven));
}

#[test]
fn failures_promote_hold_or_roll_back_by_what_is_proven() {
    for (step, extracted, legacy, points, expected) in [
        ("1%", (828, 0), (81_972, 0), "1pp", (Decision::Promote, Reason::Proven)),
        ("1%", (827, 0), (81_873, 0), "1pp", (Decision::Hold, Reason::Insufficient)),
        ("5%", (2_000, 60), (38_000, 190), "1pp", (Decision::RollBack, Reason::Errors)),
        // Four distinct failures are never enough.
        ("1%", (20, 4), (1_980, 0), "1pp", (Decision::Hold, Reason::Insufficient)),
        ("1%", (20, 5), (1_980, 0), "1pp", (Decision::RollBack, Reason::Errors)),
        // Surely worse by 0.15 points, and surely by less than the 0.5 that were declared tolerable.
        ("50%", (100_000, 650), (100_000, 500), "0.5pp", (Decision::Promote, Reason::Proven)),
        // Surely worse, and not surely by less than that.
        ("50%", (20_000, 200), (20_000, 100), "0.7pp", (Decision::Hold, Reason::WithinMargin)),
        ("50%", (100_000, 650), (100_000, 500), "0.1pp", (Decision::Hold, Reason::WithinMargin)),
        ("50%", (100_000, 850), (100_000, 500), "0.1pp", (Decision::RollBack, Reason::Errors)),
    ] {
        assert_eq!(
            said(&within(points), &seen(step, extracted, legacy)),
            expected,
            "{step} {extracted:?} {legacy:?} {points}"
        );
    }
}

#[test]
fn what_is_tolerated_follows_the_weight_where_nobody_says() {
    let at = |step| said(&Gates::by_default(), &seen(step, (6_000, 96), (18_000, 90))).0;
    // 1.6 % where legacy has 0.5 %.
    assert_eq!((at("25%"), at("4%")), (Decision::RollBack, Decision::Hold));
    // Nobody has said that so much is fine: what is surely worse holds, although it is surely within the schedule.
    let worse = seen("50%", (100_000, 650), (100_000, 500));
    assert_eq!(said(&Gates::by_default(), &worse), (Decision::Hold, Reason::WithinMargin));
}

#[test]
fn what_may_only_veto_promotes_nothing() {
    let mut evidence = seen("50%", (100_000, 0), (100_000, 0));
    evidence.external = Some(External::Met);
    let gates = Gates { prometheus: vec![Query { max: Some(1.0), ..Query::of("up") }], ..Gates::default() };
    assert_eq!(said(&gates, &evidence), (Decision::Hold, Reason::Insufficient));
    evidence.external = Some(External::Exceeded);
    evidence.external_why = Some("`up` is 2, above 1".to_owned());
    let verdict = judge(&gates, &evidence);
    assert_eq!((verdict.reason, verdict.why.as_str()), (Reason::ExternalVeto, "prometheus: `up` is 2, above 1"));
}

#[test]
fn what_is_declared_tolerable_is_so_of_status_classes_too() {
    let mut evidence = seen("50%", (100_000, 500), (100_000, 500));
    let stage = stage_mut(&mut evidence);
    (stage.extracted.classed, stage.extracted.status_4xx) = (100_000, 1_400);
    (stage.legacy.classed, stage.legacy.status_4xx) = (100_000, 1_000);
    assert_eq!(said(&within("0.9pp"), &evidence), (Decision::Promote, Reason::Proven));
    assert_eq!(said(&within("0.5pp"), &evidence), (Decision::Hold, Reason::WithinMargin));
}

#[test]
fn a_service_that_answers_402_to_everything_is_rolled_back() {
    let mut evidence = seen("5%", (40, 0), (760, 4));
    let stage = stage_mut(&mut evidence);
    (stage.extracted.classed, stage.extracted.status_4xx) = (40, 40);
    (stage.legacy.classed, stage.legacy.status_4xx) = (760, 30);
    let verdict = judge(&Gates::by_default(), &evidence);
    assert_eq!((verdict.verdict, verdict.reason), (Decision::RollBack, Reason::Errors), "{verdict:?}");
    assert!(verdict.why.contains("answers 4xx"), "{}", verdict.why);
    // The same of both sides is no shift.
    stage_mut(&mut evidence).legacy.status_4xx = 760;
    assert_eq!(said(&Gates::by_default(), &evidence).0, Decision::Hold);
    // That classes are taken costs failures a tenth, and no more.
    let (mut plain, with) = (seen("5%", (10, 10), (100, 100)), stage_mut(&mut evidence).legacy.classed);
    let without = judge(&Gates::by_default(), &plain).gates[&GateName::Errors].log_e_harm.unwrap();
    (stage_mut(&mut plain).legacy.classed, stage_mut(&mut plain).extracted.classed) = (with, 10);
    let taken = judge(&Gates::by_default(), &plain).gates[&GateName::Errors].log_e_harm.unwrap();
    assert!((without - 0.339_618_107).abs() < 1e-9 && (taken - (0.9 * without.exp() + 0.1).ln()).abs() < 1e-9);
}

#[test]
fn the_first_moments_count_against_it_and_not_for_it() {
    let mut evidence = seen("5%", (0, 0), (0, 0));
    let stage = stage_mut(&mut evidence);
    (stage.warmup.extracted, stage.warmup.legacy) = (failing(9_000, 0), failing(171_000, 0));
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::Hold, Reason::Insufficient));
    stage_mut(&mut evidence).warmup.extracted.errors = 900;
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::RollBack, Reason::Errors));
}

#[test]
fn a_bad_hour_while_few_were_moved_is_no_excuse_later() {
    // At 1 % legacy failed in 5 %, and so did extracted; at 25 % extracted fails in 3 % where legacy is down to 0.1 %.
    let mut evidence = seen("1%", (1_000, 50), (99_000, 4_950));
    evidence.merge(&seen("25%", (4_000, 120), (12_000, 12)));
    assert_eq!(said(&within("1pp"), &evidence), (Decision::RollBack, Reason::Errors));
    let verdict = judge(&within("1pp"), &evidence);
    let numbers = &verdict.gates[&GateName::Errors].numbers;
    assert!(
        (numbers["rate_extracted"] - 0.034).abs() < 1e-9 && (numbers["rate_legacy"] - 0.010_8).abs() < 1e-9,
        "{numbers:?}"
    );
}

#[test]
fn slow_answers_are_harm_and_must_be_disproven_from_ten_percent_on() {
    let timed = |step: &str, units: u64, slow: [u64; 3], legacy_units: u64| {
        let mut evidence = seen(step, (units, 0), (legacy_units, 0));
        let stage = stage_mut(&mut evidence);
        let [slow_p50, slow_p95, slow_p99] = slow;
        stage.extracted = SideCounts { timed: units, slow_p50, slow_p95, slow_p99, ..stage.extracted };
        stage.legacy.timed = legacy_units;
        (stage.legacy.slow_p50, stage.legacy.slow_p95, stage.legacy.slow_p99) =
            (legacy_units / 2, legacy_units / 20, legacy_units / 100);
        evidence
    };
    let gates = Gates { latency: Some(LatencyGate::default()), ..Gates::default() };
    for (evidence, expected) in [
        (timed("10%", 10_000, [5_000, 500, 100], 90_000), (Decision::Promote, Reason::Proven)),
        (timed("10%", 1_000, [500, 50, 10], 9_000), (Decision::Hold, Reason::Insufficient)),
        (timed("5%", 1_000, [500, 50, 10], 19_000), (Decision::Promote, Reason::Proven)),
        (timed("5%", 1_000, [900, 50, 10], 19_000), (Decision::RollBack, Reason::Latency)),
        (timed("5%", 1_000, [500, 150, 10], 19_000), (Decision::RollBack, Reason::Latency)),
        (timed("5%", 1_000, [500, 50, 60], 19_000), (Decision::RollBack, Reason::Latency)),
        // A fifth more above p50, surely, and tolerated.
        (timed("25%", 40_000, [24_000, 2_000, 400], 120_000), (Decision::Hold, Reason::WithinMargin)),
    ] {
        assert_eq!(said(&gates, &evidence), expected, "{:?}", evidence.judged_stage());
    }
}

#[test]
fn mismatches_beyond_the_budget_roll_back_and_few_enough_pass() {
    let gates = Gates { mismatch: Some(MismatchGate::default()), ..Gates::default() };
    for (compared, mismatched, expected) in [
        (3_692, 0, (Decision::Promote, Reason::Proven)),
        (3_691, 0, (Decision::Hold, Reason::Insufficient)),
        (1_000, 8, (Decision::RollBack, Reason::Mismatch)),
        (1_000, 5, (Decision::Hold, Reason::Insufficient)),
    ] {
        let evidence = Evidence { comparisons: Comparisons { compared, mismatched, burst: 0 }, ..Evidence::default() };
        assert_eq!(said(&gates, &evidence), expected, "{mismatched} of {compared}");
    }
}

#[test]
fn in_shadow_only_what_applies_is_demanded() {
    let mut evidence = seen("0%", (0, 0), (5_000, 25));
    let mut gates = all_gates();
    evidence.comparisons = Comparisons { compared: 9_000, ..Comparisons::default() };
    assert_eq!(said(&gates, &evidence), (Decision::Hold, Reason::Coverage));
    evidence.coverage = Some(CoverageResult { passed: false, missing: 2 });
    assert_eq!(said(&gates, &evidence), (Decision::Hold, Reason::Coverage));
    evidence.coverage = Some(CoverageResult { passed: true, missing: 0 });
    assert_eq!(said(&gates, &evidence), (Decision::Promote, Reason::Proven));
    let why = "unsafe methods are not compared".to_owned();
    gates.not_applicable = [(GateName::Mismatch, why.clone()), (GateName::Coverage, why.clone())].into();
    let verdict = judge(&gates, &evidence);
    assert_eq!((verdict.verdict, verdict.reason), (Decision::Promote, Reason::NothingDemanded));
    assert_eq!(
        (verdict.gates[&GateName::Mismatch].state, &verdict.gates[&GateName::Mismatch].why),
        (State::NotApplicable, &why)
    );
}

#[test]
fn a_split_that_is_not_the_weights_voids_everything() {
    let mut evidence = seen("1%", (5_000, 0), (495_000, 0));
    let split = |extracted, legacy| Split { extracted, legacy };
    stage_mut(&mut evidence).assignments = split(1_000, 99_000);
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::Promote, Reason::Proven));
    stage_mut(&mut evidence).assignments = split(1_150, 99_000);
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::Hold, Reason::Srm));
    stage_mut(&mut evidence).extracted.errors = 900;
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::Hold, Reason::Srm), "labels are no coins");
    // Extracted hangs: it completes less than it was given. Harm that shows all the same is real.
    stage_mut(&mut evidence).assignments = split(1_000, 99_000);
    stage_mut(&mut evidence).completions = split(700, 99_000);
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::RollBack, Reason::Errors));
    stage_mut(&mut evidence).extracted.errors = 0;
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::Hold, Reason::Srm));
    stage_mut(&mut evidence).completions = split(1_300, 99_000);
    stage_mut(&mut evidence).extracted.errors = 900;
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::Hold, Reason::Srm));
}

#[test]
fn a_legacy_that_became_worse_holds_and_never_rolls_back() {
    let mut evidence = seen("25%", (20_000, 800), (60_000, 2_400));
    assert_eq!(said(&within("1pp"), &evidence), (Decision::Promote, Reason::Proven));
    evidence.before = Before { units: 100_000, errors: 500 };
    assert_eq!(said(&within("1pp"), &evidence), (Decision::Hold, Reason::Contaminated));
    evidence.before = Before { units: 100_000, errors: 3_800 };
    assert_eq!(said(&within("1pp"), &evidence), (Decision::Promote, Reason::Proven));
    let gates = Gates { slo: Some(Slo { success: weight("99%") }), ..within("1pp") };
    assert_eq!(said(&gates, &evidence), (Decision::Hold, Reason::Contaminated));
}

#[test]
fn late_alarms_and_vetoes_hold() {
    let mut evidence = seen("25%", (20_000, 20), (60_000, 60));
    evidence.late_alarms = 1;
    assert_eq!(said(&Gates::by_default(), &evidence), (Decision::Hold, Reason::LateRegression));
    evidence.late_alarms = 0;
    let gates = Gates { prometheus: vec![Query { max: Some(1.0), ..Query::of("up") }], ..Gates::by_default() };
    for (external, expected) in [
        (None, (Decision::Hold, Reason::ExternalNoData)),
        (Some(External::NoData), (Decision::Hold, Reason::ExternalNoData)),
        (Some(External::Exceeded), (Decision::Hold, Reason::ExternalVeto)),
        (Some(External::Met), (Decision::Promote, Reason::Proven)),
    ] {
        evidence.external = external;
        assert_eq!(said(&gates, &evidence), expected, "{external:?}");
    }
    // A query never promotes by itself.
    let mut alone = seen("25%", (10, 0), (30, 0));
    alone.external = Some(External::Met);
    assert_eq!(said(&gates, &alone), (Decision::Hold, Reason::Insufficient));
}

#[test]
fn without_legacy_an_objective_takes_its_place() {
    let gates = Gates { slo: Some(Slo { success: weight("99%") }), ..Gates::by_default() };
    for (units, errors, expected) in [
        (2_000, 0, (Decision::Promote, Reason::Proven)),
        (100, 0, (Decision::Hold, Reason::Insufficient)),
        (2_000, 80, (Decision::RollBack, Reason::Slo)),
    ] {
        assert_eq!(said(&gates, &seen("100%", (units, errors), (0, 0))), expected, "{errors} of {units}");
    }
    assert_eq!(said(&Gates::by_default(), &seen("100%", (99_999, 0), (0, 0))), (Decision::Hold, Reason::Insufficient));
    // With a holdback legacy is still there.
    assert_eq!(said(&gates, &seen("99%", (99_000, 500), (1_000, 5))).1, Reason::Insufficient);
}

#[test]
fn an_open_gate_says_what_it_needs_and_when_it_never_will() {
    let mut evidence = seen("1%", (100, 0), (9_900, 0));
    stage_mut(&mut evidence).seconds = 1_000;
    let report = |evidence: &Evidence| judge(&within("1pp"), evidence).gates[&GateName::Errors].clone();
    assert_eq!((report(&evidence).needs_requests, report(&evidence).eta_s), (Some(728), Some(7_280)));
    assert!(
        report(&evidence).why.contains("728 more requests of extracted (about 2.1 h)"),
        "{}",
        report(&evidence).why
    );
    stage_mut(&mut evidence).seconds = 100_000;
    assert_eq!(said(&within("1pp"), &evidence), (Decision::Hold, Reason::Starved));
    assert!(judge_without_forecast(&within("1pp"), &evidence).gates[&GateName::Errors].needs_requests.is_none());
}

proptest! {
    #[test]
    fn whatever_is_seen_the_judge_answers_and_how_replicas_saw_it_does_not_matter(one in evidence(), other in evidence()) {
        let mut merged = one.clone();
        merged.merge(&other);
        let mut back = other.clone();
        back.merge(&one);
        let (verdict, same) = (judge(&all_gates(), &merged), judge(&all_gates(), &back));
        prop_assert_eq!(&verdict, &same);
        let alone = judge_without_forecast(&all_gates(), &merged);
        let mut names = [(verdict.verdict, verdict.reason), (alone.verdict, alone.reason)];
        // Only a forecast can tell that a gate starves.
        for (_, reason) in &mut names {
            if *reason == Reason::Starved {
                *reason = Reason::Insufficient;
            }
        }
        prop_assert_eq!(names[0], names[1]);
        for report in verdict.gates.values() {
            prop_assert!(report.log_e_harm.is_none_or(f64::is_finite) && report.log_e_pass.is_none_or(f64::is_finite));
        }
        let text = serde_json::to_string(&verdict).unwrap();
        prop_assert!(!text.contains("null"), "{}", text);
    }

    #[test]
    fn a_failure_more_of_extracted_never_helps_it(units in 5u64..5_000, errors in 0u64..60, legacy_errors in 0u64..200, points in 1u16..10_000) {
        let at = Weight::from_basis_points(points).unwrap();
        let of = |errors: u64| {
            let stage = StageEvidence {
                extracted: failing(units, errors.min(units)),
                legacy: failing(units * 3, legacy_errors.min(units)),
                ..StageEvidence::default()
            };
            let verdict = judge_without_forecast(&within("1pp"), &Evidence { stages: [(at, stage)].into(), ..Evidence::default() });
            verdict.gates[&GateName::Errors].log_e_pass.unwrap()
        };
        prop_assert!(of(errors + 1) <= of(errors) + 1e-9);
    }
}
