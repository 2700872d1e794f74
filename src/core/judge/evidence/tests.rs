use super::*;
use proptest::prelude::*;

fn counts() -> impl Strategy<Value = SideCounts> {
    proptest::array::uniform9(0u64..1_000).prop_map(
        |[units, errors, timed, slow_p50, slow_p95, slow_p99, classed, status_3xx, status_4xx]| SideCounts {
            units,
            errors,
            timed,
            slow_p50,
            slow_p95,
            slow_p99,
            classed,
            status_3xx,
            status_4xx,
        },
    )
}

fn stage() -> impl Strategy<Value = StageEvidence> {
    let split = || (0u64..1_000, 0u64..1_000).prop_map(|(extracted, legacy)| Split { extracted, legacy });
    (counts(), counts(), counts(), counts(), split(), split(), 0u64..1_000).prop_map(
        |(extracted, legacy, cold_extracted, cold_legacy, assignments, completions, seconds)| StageEvidence {
            extracted,
            legacy,
            warmup: Pair { extracted: cold_extracted, legacy: cold_legacy },
            by_itself: Pair { extracted: cold_legacy, legacy: cold_extracted },
            assignments,
            completions,
            seconds,
            burst: 0,
        },
    )
}

pub(in crate::judge) fn evidence() -> impl Strategy<Value = Evidence> {
    let weight = || (0usize..6).prop_map(|at| [0, 5, 100, 500, 5_000, 10_000][at]);
    let weight = move || weight().prop_filter_map("in range", Weight::from_basis_points);
    let external =
        proptest::option::of((0usize..3).prop_map(|at| [External::Met, External::NoData, External::Exceeded][at]));
    let coverage =
        proptest::option::of((any::<bool>(), 0u64..9).prop_map(|(passed, missing)| CoverageResult { passed, missing }));
    let stages = proptest::collection::btree_map(weight(), stage(), 0..5);
    (proptest::option::of(weight()), stages, 0u64..5_000, 0u64..100, 0u64..3, coverage, external).prop_map(
        |(step, stages, many, few, late_alarms, coverage, external)| Evidence {
            step,
            stages,
            comparisons: Comparisons { compared: many, mismatched: few.min(many), burst: 0 },
            before: Before { units: many, errors: few.min(many) },
            late_alarms,
            coverage,
            external,
            external_why: None,
        },
    )
}

fn sum(one: &Evidence, other: &Evidence) -> Evidence {
    let mut sum = one.clone();
    sum.merge(other);
    sum
}

proptest! {
    #[test]
    fn merging_is_adding_up(a in evidence(), b in evidence(), c in evidence()) {
        prop_assert_eq!(sum(&a, &b), sum(&b, &a));
        prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
        prop_assert_eq!(sum(&a, &Evidence::default()), a.clone());
        let merged = sum(&a, &b);
        for (weight, stage) in &merged.stages {
            let of = |evidence: &Evidence| evidence.stages.get(weight).map_or(0, |stage| stage.whole().extracted.errors);
            prop_assert_eq!(stage.whole().extracted.errors, of(&a) + of(&b));
        }
    }

    #[test]
    fn what_is_stored_comes_back(evidence in evidence()) {
        let text = serde_json::to_string(&evidence).unwrap();
        prop_assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    }
}

#[test]
fn what_is_stored_wrongly_is_not_taken() {
    for text in [
        r#"{"stages": [{"step": "1%", "weight": 1.5}]}"#,
        r#"{"stages": [{"step": "1%", "weight": 0.000012}]}"#,
        r#"{"step": "half"}"#,
        r#"{"stage": []}"#,
        r#"{"comparisons": {"compared": -1}}"#,
    ] {
        assert!(serde_json::from_str::<Evidence>(text).is_err(), "{text}");
    }
    assert_eq!(serde_json::from_str::<Evidence>("{}").unwrap(), Evidence::default());
}

#[test]
fn a_weight_is_a_hundredth_of_a_percent_at_the_finest() {
    for (ratio, expected) in
        [(0.0, Some("0%")), (0.01, Some("1%")), (0.0005, Some("0.05%")), (0.07, Some("7%")), (1.0, Some("100%"))]
    {
        assert_eq!(weight_of_ratio(ratio).map(|weight| weight.to_string()).as_deref(), expected, "{ratio}");
    }
    for ratio in [-0.01, 1.01, 0.000_05, 1.0 / 3.0, f64::NAN, f64::INFINITY] {
        assert_eq!(weight_of_ratio(ratio), None, "{ratio}");
    }
}
