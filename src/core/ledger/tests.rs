use proptest::prelude::*;

use super::*;

fn unit(key: u64, side: Side, weight: &str) -> Unit {
    Unit { key, client: key, side, weight: weight.parse().unwrap() }
}

fn answered(status: u16, ms: u64) -> End {
    End::Answered { status, is_failure: status >= 500, took: Duration::from_millis(ms) }
}

fn stage(ledger: &Ledger, weight: &str) -> StageEvidence {
    ledger.evidence.stages.get(&weight.parse().unwrap()).copied().unwrap_or_default()
}

/// Entered at a weight, with nothing known.
fn at(weight: &str) -> Ledger {
    let mut ledger = Ledger::new(None);
    ledger.enter(weight.parse().unwrap());
    ledger
}

#[test]
fn a_key_is_counted_once_for_each_fact_whatever_step_and_side() {
    let mut ledger = at("5%");
    for _ in 0..50 {
        ledger.note(&unit(1, Side::Legacy, "5%"), answered(500, 1), Duration::ZERO, false);
    }
    let seen = stage(&ledger, "5%");
    assert_eq!((seen.legacy.units, seen.legacy.errors), (1, 1));
    assert_eq!((seen.assignments.legacy, seen.completions.legacy), (1, 1));
    ledger.enter("10%".parse().unwrap());
    // The same user on the other side: no new failure, but another assignment.
    ledger.note(&unit(1, Side::Extracted, "10%"), answered(500, 1), Duration::ZERO, false);
    let seen = stage(&ledger, "10%");
    assert_eq!((seen.extracted.units, seen.extracted.errors), (0, 0));
    assert_eq!((seen.assignments.extracted, seen.completions.extracted), (1, 1));
    // What a step proves of itself: there the same users count, once.
    let by_itself = |weight: &str| stage(&ledger, weight).by_itself;
    assert_eq!((by_itself("5%").legacy.units, by_itself("5%").legacy.errors), (1, 1));
    assert_eq!((by_itself("10%").extracted.units, by_itself("10%").extracted.errors), (1, 1));
}

#[test]
fn where_the_same_users_come_back_each_step_can_still_be_proven() {
    let gates = crate::judge::Gates::by_default();
    let mut ledger = Ledger::new(None);
    for weight in ["25%", "50%"] {
        let weight: Weight = weight.parse().unwrap();
        ledger.enter(weight);
        for key in 0..8_000u64 {
            let side = if key % 10_000 < u64::from(weight.basis_points()) * 8_000 / 10_000 {
                Side::Extracted
            } else {
                Side::Legacy
            };
            let unit = Unit { key, client: key, side, weight };
            ledger.note(&unit, answered(200, 5), Duration::from_secs(key), false);
        }
        let verdict = crate::judge::judge(&gates, &ledger.evidence(weight, None, None));
        assert_eq!(verdict.verdict, crate::judge::Decision::Promote, "{weight}: {}", verdict.why);
    }
}

#[test]
fn who_goes_away_is_assigned_and_completes_nothing() {
    let mut ledger = at("5%");
    ledger.note(&unit(1, Side::Extracted, "5%"), End::Gone, Duration::ZERO, false);
    let seen = stage(&ledger, "5%");
    assert_eq!((seen.assignments.extracted, seen.completions.extracted, seen.extracted.units), (1, 0, 0));
}

#[test]
fn legacy_alone_is_counted_apart_and_its_users_count_again_when_they_are_split() {
    let mut ledger = at("0%");
    for key in 0..100 {
        ledger.note(
            &unit(key, Side::Legacy, "0%"),
            answered(if key < 3 { 503 } else { 200 }, 5),
            Duration::ZERO,
            false,
        );
    }
    assert_eq!((ledger.evidence.before.units, ledger.evidence.before.errors), (100, 3));
    ledger.enter("50%".parse().unwrap());
    for key in 0..100 {
        let side = if key % 2 == 0 { Side::Legacy } else { Side::Extracted };
        ledger.note(&unit(key, side, "50%"), answered(200, 5), Duration::ZERO, false);
    }
    let seen = stage(&ledger, "50%");
    assert_eq!((seen.legacy.units, seen.extracted.units), (50, 50));
}

#[test]
fn times_are_held_against_legacys_own_once_a_thousand_of_them_are_known() {
    let mut ledger = at("0%");
    for key in 0..999 {
        ledger.note(&unit(key, Side::Legacy, "0%"), answered(200, key % 100), Duration::from_secs(key), false);
    }
    ledger.enter("10%".parse().unwrap());
    assert_eq!(ledger.thresholds(), None, "too few");
    ledger.note(&unit(5_000, Side::Extracted, "10%"), answered(200, 80), Duration::from_secs(2_000), false);
    assert_eq!(stage(&ledger, "10%").extracted.timed, 0);
    ledger.note(&unit(5_001, Side::Legacy, "10%"), answered(200, 10), Duration::from_secs(2_000), false);
    let slow = ledger.thresholds().expect("a thousand");
    assert!((47_000..=52_000).contains(&slow.p50_us) && (93_000..=100_000).contains(&slow.p99_us), "{slow:?}");
    for (key, ms, expect) in
        [(6_000, 10, (0, 0, 0)), (6_001, 80, (1, 0, 0)), (6_002, 97, (1, 1, 0)), (6_003, 400, (1, 1, 1))]
    {
        let before = stage(&ledger, "10%").extracted;
        for _ in 0..2 {
            ledger.note(&unit(key, Side::Extracted, "10%"), answered(200, ms), Duration::from_secs(3_000), false);
        }
        let after = stage(&ledger, "10%").extracted;
        let more =
            (after.slow_p50 - before.slow_p50, after.slow_p95 - before.slow_p95, after.slow_p99 - before.slow_p99);
        assert_eq!((more, after.timed - before.timed), (expect, 1), "{ms} ms");
    }
    let before = stage(&ledger, "10%").extracted.slow_p99;
    let failed = End::Failed { is_unconnected: true };
    ledger.note(&unit(7_000, Side::Extracted, "10%"), failed, Duration::from_secs(3_000), false);
    assert_eq!(stage(&ledger, "10%").extracted.slow_p99, before + 1, "no answer is a slow one");
}

#[test]
fn a_refusal_and_a_redirect_are_shifts_of_class_and_a_304_is_none() {
    let mut ledger = at("5%");
    for (key, status) in [(1, 402), (2, 301), (3, 304), (4, 200), (5, 404)] {
        ledger.note(&unit(key, Side::Extracted, "5%"), answered(status, 1), Duration::ZERO, false);
    }
    let seen = stage(&ledger, "5%").extracted;
    assert_eq!((seen.classed, seen.status_3xx, seen.status_4xx, seen.errors), (5, 1, 2, 0));
}

#[test]
fn an_address_adds_sixty_keys_a_minute_and_its_known_ones_go_on() {
    let mut ledger = at("5%");
    let crowd = |key| Unit { client: 7, ..unit(key, Side::Legacy, "5%") };
    for key in 0..1_000 {
        ledger.note(&crowd(key), answered(200, 1), Duration::from_secs(30), false);
    }
    assert_eq!((stage(&ledger, "5%").legacy.units, ledger.refused().crowded), (60, 940));
    ledger.note(&crowd(3), answered(500, 1), Duration::from_secs(31), false);
    assert_eq!(stage(&ledger, "5%").legacy.errors, 1);
    ledger.note(&crowd(5_000), answered(200, 1), Duration::from_secs(60), false);
    assert_eq!(stage(&ledger, "5%").legacy.units, 61);
}

#[test]
fn the_first_moments_are_counted_apart() {
    let mut ledger = at("5%");
    ledger.note(&unit(1, Side::Extracted, "5%"), answered(500, 1), Duration::ZERO, true);
    ledger.note(&unit(2, Side::Extracted, "5%"), answered(500, 1), Duration::ZERO, false);
    let seen = stage(&ledger, "5%");
    assert_eq!((seen.warmup.extracted.errors, seen.extracted.errors), (1, 1));
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        (prop_oneof![Just(200u16), Just(404), Just(500), Just(302)], 0u64..200)
            .prop_map(|(status, ms)| answered(status, ms)),
        any::<bool>().prop_map(|is_unconnected| End::Failed { is_unconnected }),
        Just(End::Gone),
    ]
}

proptest! {
    #[test]
    fn what_is_stored_is_what_was_counted_and_goes_on_without_counting_twice(
        requests in proptest::collection::vec((0u64..40, any::<bool>(), any_end(), 0usize..3), 0..200),
        cut in 0usize..200,
        saves in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let weights = ["0%", "10%", "50%"];
        let mut whole = at("0%");
        let mut stored: (String, Vec<Vec<u8>>) = Default::default();
        let save = |ledger: &mut Ledger, stored: &mut (String, Vec<Vec<u8>>), is_whole| {
            if let Some(saved) = ledger.take_unsaved(is_whole) {
                stored.0 = saved.counts;
                if saved.is_whole {
                    stored.1.clear();
                }
                stored.1.push(saved.keys);
            }
        };
        save(&mut whole, &mut stored, true);
        let note = |ledger: &mut Ledger, (key, is_extracted, end, step): &(u64, bool, End, usize)| {
            let side = if *is_extracted && *step > 0 { Side::Extracted } else { Side::Legacy };
            ledger.enter(weights[*step].parse().unwrap());
            ledger.note(&unit(*key, side, weights[*step]), *end, Duration::ZERO, false);
        };
        let cut = cut.min(requests.len());
        for (at, request) in requests[..cut].iter().enumerate() {
            note(&mut whole, request);
            if saves[at] {
                save(&mut whole, &mut stored, at % 7 == 0);
            }
        }
        save(&mut whole, &mut stored, false);
        let mut again = Ledger::load(&stored.0, stored.1.iter().map(Vec::as_slice)).unwrap();
        prop_assert_eq!(&again.evidence, &whole.evidence);
        for request in &requests[cut..] {
            note(&mut whole, request);
            note(&mut again, request);
        }
        // What came at once is told by a clock that begins with the process.
        for stage in again.evidence.stages.values_mut().chain(whole.evidence.stages.values_mut()) {
            stage.burst = 0;
        }
        prop_assert_eq!(&again.evidence, &whole.evidence);
    }

    #[test]
    fn no_fact_is_counted_more_often_than_there_are_keys(requests in proptest::collection::vec((0u64..20, any::<bool>(), any_end()), 0..300)) {
        let mut ledger = at("50%");
        for (key, is_extracted, end) in &requests {
            let side = if *is_extracted { Side::Extracted } else { Side::Legacy };
            ledger.note(&unit(*key, side, "50%"), *end, Duration::ZERO, false);
        }
        let seen = stage(&ledger, "50%").whole();
        let keys = requests.iter().map(|(key, ..)| key).collect::<std::collections::BTreeSet<_>>().len() as u64;
        prop_assert!(seen.extracted.units + seen.legacy.units <= keys);
        prop_assert!(seen.extracted.errors + seen.legacy.errors <= seen.extracted.units + seen.legacy.units);
    }
}

#[test]
fn while_a_store_is_away_what_waits_for_it_is_bounded_and_nothing_of_it_is_lost() {
    let mut ledger = at("50%");
    let first = ledger.take_unsaved(true).unwrap();
    assert!(first.is_whole);
    let keys = 120_000;
    for key in 0..keys {
        // From everywhere, so that no address has added enough.
        let unit = Unit { key, client: key, side: Side::Legacy, weight: "50%".parse().unwrap() };
        ledger.note(&unit, answered(200, 1), Duration::from_secs(key / 100 * 60), false);
    }
    let saved = ledger.take_unsaved(false).unwrap();
    assert!(saved.is_whole, "more has changed than waits one by one: all of it goes, in the place of what is there");
    assert_eq!(saved.keys.len(), usize::try_from(keys).unwrap() * KEY_BYTES);
    let read = Ledger::load(&saved.counts, [&saved.keys[..]]).unwrap();
    assert_eq!((read.len() as u64, stage(&read, "50%").legacy.units), (keys, keys));
    assert!(ledger.take_unsaved(false).is_none(), "and then nothing waits");
}

#[test]
fn what_was_counted_before_a_persons_word_is_told_from_what_is_counted_after_it() {
    let mut ledger = at("50%");
    ledger.note(&unit(1, Side::Extracted, "50%"), answered(500, 1), Duration::ZERO, false);
    assert_eq!(ledger.epoch(), 0);
    let saved = ledger.take_unsaved(true).unwrap();
    // Killed between the word and the next save: what is stored says that it is of before.
    assert_eq!(Ledger::load(&saved.counts, []).unwrap().epoch(), 0);
    let mut anew = ledger.anew(None, 1);
    assert_eq!((anew.epoch(), anew.evidence.stages.len(), anew.len()), (1, 0, 0));
    let saved = anew.take_unsaved(true).unwrap();
    assert_eq!(Ledger::load(&saved.counts, []).unwrap().epoch(), 1);
}

#[test]
fn what_a_step_has_stood_leaves_its_first_moments_out() {
    let mut ledger = at("50%");
    let weight = "50%".parse().unwrap();
    for key in 0..10 {
        ledger.note(&unit(key, Side::Extracted, "50%"), answered(200, 1), Duration::ZERO, key < 4);
        ledger.note(&unit(100 + key, Side::Legacy, "50%"), answered(200, 1), Duration::ZERO, false);
    }
    ledger.ran(weight, Duration::from_secs(7), false);
    assert_eq!(ledger.stood(weight), Stood { time: Duration::from_secs(7), requests: 6 });
}

#[test]
fn an_alarm_of_a_late_regression_says_what_came_with_it_and_where() {
    let mut ledger = at("50%");
    let weight = "50%".parse().unwrap();
    let mut key = 0;
    let mut second = |ledger: &mut Ledger, is_failing: bool| {
        for _ in 0..20 {
            key += 1;
            let side = if key % 2 == 0 { Side::Extracted } else { Side::Legacy };
            let fails = is_failing && side == Side::Extracted;
            let end = answered(if fails { 500 } else { 200 }, 1);
            ledger.note(&Unit { client: key, ..unit(key, side, "50%") }, end, Duration::from_secs(key * 60), false);
        }
        ledger.ran(weight, Duration::from_secs(1), false);
    };
    for _ in 0..50 {
        second(&mut ledger, false);
    }
    assert_eq!(ledger.late_harm(weight), None);
    for _ in 0..20 {
        second(&mut ledger, true);
    }
    let lately = ledger.late_harm(weight).expect("an alarm");
    assert!(lately.failures >= 5 && lately.is_beyond(0.0, 0.02), "{lately:?}");
    assert_eq!(ledger.late_harm("99%".parse().unwrap()), None, "it was not there");
    let saved = ledger.take_unsaved(true).unwrap();
    assert_eq!(Ledger::load(&saved.counts, []).unwrap().late_harm(weight), Some(lately));
}

/// Extracted fails for so many seconds in a row, ten units a second, after a quarter of a minute without a failure.
fn failing_for(seconds: u64) -> Ledger {
    let mut ledger = at("25%");
    for second in 0..30u64 {
        for number in 0..40u64 {
            let side = if number % 4 == 0 { Side::Extracted } else { Side::Legacy };
            let key = second * 1_000 + number;
            let is_down = side == Side::Extracted && (15..15 + seconds).contains(&second);
            let end = if is_down { End::Failed { is_unconnected: true } } else { answered(200, 5) };
            ledger.note(&unit(key, side, "25%"), end, Duration::from_secs(second), false);
        }
        ledger.ran("25%".parse().unwrap(), Duration::from_secs(1), false);
    }
    ledger
}

#[test]
fn neither_slow_answers_nor_mismatches_of_a_restart_send_it_back() {
    use crate::judge::{Decision, Gates, Reason, judge};
    let verdict = |seconds: u64| {
        let mut ledger = failing_for(seconds);
        for second in 0..30u64 {
            let mismatched = if (15..15 + seconds).contains(&second) { 40 } else { 0 };
            let more = Comparisons { compared: 40, mismatched, burst: 0 };
            ledger.compared(more, Duration::from_secs(second));
        }
        let gates =
            Gates { errors: None, mismatch: Some(crate::judge::gates::MismatchGate::default()), ..Gates::by_default() };
        let verdict = judge(&gates, &ledger.evidence("25%".parse().unwrap(), None, None));
        (verdict.verdict, verdict.reason)
    };
    assert_ne!(verdict(2).0, Decision::RollBack, "{:?}", verdict(2));
    assert_eq!(verdict(8), (Decision::RollBack, Reason::Mismatch));
}

#[test]
fn a_restart_is_one_event_and_what_goes_on_failing_is_not() {
    use crate::judge::{Decision, Gates, Reason, judge};
    let verdict = |seconds| {
        let evidence = failing_for(seconds).evidence("25%".parse().unwrap(), None, None);
        let verdict = judge(&Gates::by_default(), &evidence);
        (verdict.verdict, verdict.reason)
    };
    assert_ne!(verdict(2).0, Decision::RollBack, "{:?}", verdict(2));
    assert_eq!(verdict(8), (Decision::RollBack, Reason::Errors));
    // Nor does it look like a service that has begun to fail; one that goes on does.
    assert_eq!(failing_for(3).evidence.late_alarms, 0);
    let mut ledger = failing_for(0);
    for second in 30..90u64 {
        for number in 0..10 {
            let key = second * 1_000 + number;
            let end = if number == 0 { answered(500, 1) } else { answered(200, 1) };
            ledger.note(&unit(key, Side::Extracted, "25%"), end, Duration::from_secs(second), false);
        }
        ledger.ran("25%".parse().unwrap(), Duration::from_secs(1), false);
    }
    assert!(ledger.evidence.late_alarms > 0);
}
