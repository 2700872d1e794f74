use super::*;
use proptest::prelude::*;

fn events(stages: &[(&str, u64, u64)]) -> Vec<Events> {
    let one = |(weight, extracted, legacy): &(&str, u64, u64)| {
        Events::new(weight.parse().expect("a weight"), *extracted, *legacy)
    };
    stages.iter().map(one).collect()
}

/// Steps (weight, extracted's events, legacy's), the evidence of more than as many, and whether it is 100 or more.
type Reference<'a> = (&'a [(&'a str, u64, u64)], f64, f64, bool);

const MORE_EVENTS: &[Reference<'static>] = &[
    (&[("1%", 0, 10)], 1.0, -0.598_752_809, false),
    (&[("1%", 1, 10)], 1.0, 0.670_095_22, false),
    (&[("1%", 2, 10)], 1.0, 2.733_815_522, false),
    (&[("1%", 3, 10)], 1.0, 5.451_880_542, true),
    (&[("1%", 5, 40)], 1.0, 6.100_131_758, true),
    (&[("1%", 1, 0)], 1.0, 2.608_907_555, false),
    (&[("1%", 2, 0)], 1.0, 6.111_064_716, true),
    (&[("5%", 10, 100)], 1.0, 0.339_618_107, false),
    (&[("5%", 12, 100)], 1.0, 1.534_445_554, false),
    (&[("50%", 60, 40)], 1.0, 0.534_767_395, false),
    (&[("50%", 8, 0)], 1.0, 4.547_282_007, false),
    (&[("50%", 9, 0)], 1.0, 5.182_076_935, true),
    (&[("50%", 0, 8)], 1.0, -2.707_059_338, false),
    (&[("50%", 10, 1)], 1.0, 3.459_649_97, false),
    (&[("50%", 15, 3)], 1.0, 3.238_381_325, false),
    (&[("50%", 30, 10)], 1.0, 3.784_604_955, false),
    (&[("50%", 60, 40)], 1.5, -2.541_919_184, false),
    (&[("1%", 2, 10), ("5%", 4, 20), ("25%", 12, 20)], 1.0, 2.874_940_919, false),
    (&[("1%", 0, 0)], 1.0, 0.0, false),
];

const LESS_EVENTS: &[Reference<'static>] = &[
    (&[("5%", 37, 703)], 1.5, 2.068_172_836, false),
    (&[("5%", 37, 900)], 1.5, 7.814_409_997, true),
    (&[("50%", 93, 93)], 1.5, 2.480_400_37, false),
    (&[("50%", 60, 100)], 1.5, 14.569_906_929, true),
    (&[("1%", 0, 300)], 1.5, 3.083_484_231, false),
    (&[("1%", 0, 500)], 1.5, 5.506_354_2, true),
];

#[test]
fn evidence_is_that_of_the_reference() {
    for (stages, r0, expected, is_enough) in MORE_EVENTS {
        let got = ln_e_more(&events(stages), *r0);
        assert!((got - expected).abs() < 1e-9, "{stages:?} at {r0}: {got}");
        assert_eq!(got >= 100f64.ln(), *is_enough, "{stages:?}");
    }
    for (stages, r0, expected, is_enough) in LESS_EVENTS {
        let got = ln_e_less(&events(stages), *r0);
        assert!((got - expected).abs() < 1e-9, "{stages:?} at {r0}: {got}");
        assert_eq!(got >= 40f64.ln(), *is_enough, "{stages:?}");
    }
}

#[test]
fn discordant_triples_weigh_as_in_a_test_of_mcnemar() {
    for ((only_extracted, only_legacy), expected) in
        [((8, 0), 94.4), ((9, 0), 178.1), ((10, 1), 31.8), ((20, 10), 1.76)]
    {
        let got = ln_e_discordant(only_extracted, only_legacy).exp();
        assert!((got / expected - 1.0).abs() < 0.01, "{only_extracted}, {only_legacy}: {got}");
    }
}

#[test]
fn nothing_and_one_sided_steps_are_exactly_no_evidence() {
    for stages in
        [vec![], events(&[("0%", 0, 1_000)]), events(&[("100%", 1_000, 0)]), events(&[("0%", 7, 7), ("5%", 0, 0)])]
    {
        assert_eq!((ln_e_more(&stages, 1.0), ln_e_less(&stages, 1.5)), (0.0, 0.0), "{stages:?}");
    }
    let alone = ln_e_more(&events(&[("1%", 2, 10)]), 1.0);
    let beside = ln_e_more(&events(&[("0%", 3, 900), ("1%", 2, 10), ("100%", 44, 0)]), 1.0);
    assert_eq!(alone.to_bits(), beside.to_bits());
}

#[test]
fn many_events_neither_overflow_nor_drown() {
    let got = ln_e_more(&events(&[("50%", 4_000_000, 2_000_000)]), 1.0);
    assert!(got.is_finite() && got > 100_000.0, "{got}");
}

fn steps() -> impl Strategy<Value = Vec<Events>> {
    let one = (1u16..10_000, 0u64..500, 0u64..5_000);
    let one = one.prop_map(|(points, extracted, legacy)| {
        Events::new(Weight::from_basis_points(points).expect("in range"), extracted, legacy)
    });
    proptest::collection::vec(one, 0..6)
}

proptest! {
    #[test]
    fn neither_the_order_of_steps_nor_their_parting_matters(mut stages in steps(), part in 0.0f64..1.0) {
        let whole = ln_e_more(&stages, 1.0);
        stages.reverse();
        let parted: Vec<Events> = stages
            .iter()
            .flat_map(|stage| {
                let (extracted, legacy) = ((stage.extracted * part).floor(), (stage.legacy * part).floor());
                let rest = Events { extracted: stage.extracted - extracted, legacy: stage.legacy - legacy, ..*stage };
                [Events { extracted, legacy, ..*stage }, rest]
            })
            .collect();
        let tolerance = 1e-9 * f64::max(1.0, whole.abs());
        prop_assert!((ln_e_more(&stages, 1.0) - whole).abs() < tolerance);
        prop_assert!((ln_e_more(&parted, 1.0) - whole).abs() < tolerance);
    }

    #[test]
    fn the_next_event_is_worth_nothing_on_average_at_the_tolerated_ratio(stages in steps(), points in 1u16..10_000, r0 in 0.5f64..3.0) {
        // The martingale itself: at the ratio r0 the mean of E over who has the next event is E.
        let weight = f64::from(points) / 10_000.0;
        let p = weight * r0 / (weight * r0 + 1.0 - weight);
        let after = |extracted: f64, legacy: f64| {
            let mut all = stages.clone();
            all.push(Events { weight, extracted, legacy });
            [ln_e_more(&all, r0), ln_e_less(&all, r0)]
        };
        let (now, hit, miss) = (after(0.0, 0.0), after(1.0, 0.0), after(0.0, 1.0));
        for at in 0..2 {
            let mean = p * (hit[at] - now[at]).exp() + (1.0 - p) * (miss[at] - now[at]).exp();
            prop_assert!((mean - 1.0).abs() < 1e-7, "{mean}");
        }
    }
}
