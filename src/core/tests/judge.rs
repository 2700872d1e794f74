//! The judge against services whose truth is known: how often it is wrong, and how soon it is right.
//!
//! `LOAD=full cargo test --release -p strangler-core --test judge -- --nocapture` runs all of it at the size of the promises and prints a
//! table (minutes); without it the same code runs small.

#![expect(clippy::unwrap_used, reason = "a sample that is wrong stops the test")]

use std::collections::BTreeSet;

use strangler_core::judge::evidence::{SideCounts, Split, StageEvidence};
use strangler_core::judge::gates::ErrorsGate;
use strangler_core::judge::ladder::Ladder;
use strangler_core::judge::ratio::{Events, ln_e_more};
use strangler_core::judge::share::{LN_ALARM, ln_e_imbalance};
use strangler_core::judge::simulate::{Chance, Counted, Ended, Setting, median, rollout};
use strangler_core::judge::words::time;
use strangler_core::judge::{Decision, Evidence, Gates, judge_without_forecast};
use strangler_core::weight::Weight;

const SEED: u64 = 20_261_121;
const HOUR_S: u64 = 3_600;

#[expect(clippy::disallowed_methods, reason = "the size of a test is no decision of the core")]
fn is_full() -> bool {
    std::env::var("LOAD").is_ok_and(|size| size == "full")
}

/// A size: in a test, and in full.
fn size(small: u64, full: u64) -> u64 {
    if is_full() { full } else { small }
}

/// A line of the table. At the small size a share of one percent is one run of a hundred, so that a little more is allowed.
fn at_most(what: &str, most: f64, runs: u64, wrong: u64) {
    let part = share(wrong, runs);
    let allowed = if is_full() { most } else { most + 3.0 * (most / share(runs, 1)).sqrt() };
    eprintln!("load | {what} | at most {:.1} % | {wrong} of {runs}: {:.2} %", most * 100.0, part * 100.0);
    assert!(part <= allowed, "{what}: {wrong} of {runs}");
}

#[expect(clippy::cast_precision_loss, reason = "counts of runs")]
fn share(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

fn weight(text: &str) -> Weight {
    text.parse().unwrap()
}

/// The errors gate with so small a margin that materiality is no help: what is left is the evidence.
fn strict() -> Gates {
    Gates { errors: Some(ErrorsGate { worse_by: Some("0.01pp".parse().unwrap()) }), ..Gates::default() }
}

fn within(points: &str) -> Gates {
    Gates { errors: Some(ErrorsGate { worse_by: Some(points.parse().unwrap()) }), ..Gates::default() }
}

fn is_rolled_back(gates: &Gates, evidence: &Evidence) -> bool {
    judge_without_forecast(gates, evidence).verdict == Decision::RollBack
}

fn arrived(chance: &mut Chance, units: f64, rate: f64) -> SideCounts {
    let errors = chance.poisson(units * rate);
    SideCounts { units: errors + chance.poisson(units * (1.0 - rate)), errors, ..SideCounts::default() }
}

#[test]
fn equal_services_are_not_told_apart_however_often_one_looks() {
    let (paths, events) = (size(100, 2_000), size(2_000, 5_000));
    for at in ["1%", "5%", "50%"] {
        let share = weight(at).ratio();
        let mut wrong = 0;
        for path in 0..paths {
            let mut chance = Chance::new(SEED, path);
            let mut seen = Events { weight: share, extracted: 0.0, legacy: 0.0 };
            // After every single event, and without the materiality that a roll back needs besides.
            let is_wrong = (0..events).any(|_| {
                if chance.happens(share) {
                    seen.extracted += 1.0;
                } else {
                    seen.legacy += 1.0;
                }
                seen.extracted >= 5.0 && ln_e_more(&[seen], 1.0) >= 200f64.ln()
            });
            wrong += u64::from(is_wrong);
        }
        at_most(&format!("null paths of {events} events at {at}"), 0.01, paths, wrong);
    }
}

#[test]
fn a_day_with_its_nights_is_no_difference() {
    let days = size(20, 2_000);
    for at in ["1%", "5%", "50%"] {
        let mut wrong = 0;
        for day in 0..days {
            let mut chance = Chance::new(SEED, day);
            let mut evidence = Evidence::default();
            let mut is_wrong = false;
            for minute in 0..1_440u32 {
                // Ten times the traffic and ten times the failures at noon.
                let noon = (1.0 - (f64::from(minute) / 1_440.0 * std::f64::consts::TAU).cos()) / 2.0;
                let (units, rate) = (60.0 * (1.0 + 9.0 * noon), 0.002 * (1.0 + 9.0 * noon));
                let stage = evidence.stages.entry(weight(at)).or_default();
                stage.extracted.merge(&arrived(&mut chance, units * weight(at).ratio(), rate));
                stage.legacy.merge(&arrived(&mut chance, units * (1.0 - weight(at).ratio()), rate));
                is_wrong |= is_rolled_back(&strict(), &evidence);
            }
            wrong += u64::from(is_wrong);
        }
        at_most(&format!("days with 1,440 looks at {at}"), 0.01, days, wrong);
    }
}

/// Users who come back, each with a bucket of its own; some always fail, on whichever side.
struct Users {
    buckets: Vec<f64>,
    failing: usize,
    counted: BTreeSet<usize>,
}

impl Users {
    fn new(chance: &mut Chance, all: usize, failing: usize) -> Users {
        Users { buckets: (0..all).map(|_| chance.unit()).collect(), failing, counted: BTreeSet::new() }
    }

    /// Requests of a minute. A user's first failure counts, once in all; a user is one unit at each step, unless counted as failed before it.
    fn minute(
        &mut self,
        chance: &mut Chance,
        requests: u64,
        at: Weight,
        met: &mut BTreeSet<usize>,
        stage: &mut StageEvidence,
    ) {
        for _ in 0..requests {
            let user = chance.below(self.buckets.len());
            let is_extracted = self.buckets[user] < at.ratio();
            let side = if is_extracted { &mut stage.extracted } else { &mut stage.legacy };
            if !self.counted.contains(&user) && met.insert(user) {
                side.units += 1;
            }
            if user < self.failing && self.counted.insert(user) {
                side.errors += 1;
            }
        }
    }
}

#[test]
fn users_who_fail_on_either_side_are_no_evidence() {
    let runs = size(30, 2_000);
    for steps in [vec!["1%"], vec!["5%"], vec!["25%"], vec!["1%", "5%", "25%"]] {
        let mut wrong = 0;
        for run in 0..runs {
            let mut chance = Chance::new(SEED, run);
            let mut users = Users::new(&mut chance, 2_000, 10);
            let mut evidence = Evidence::default();
            let minutes = 240 / u32::try_from(steps.len()).unwrap();
            let mut is_wrong = false;
            for step in &steps {
                let mut met = BTreeSet::new();
                for _ in 0..minutes {
                    let stage = evidence.stages.entry(weight(step)).or_default();
                    users.minute(&mut chance, 300, weight(step), &mut met, stage);
                    is_wrong |= is_rolled_back(&strict(), &evidence);
                }
            }
            wrong += u64::from(is_wrong);
        }
        at_most(&format!("2,000 sticky users, 10 of them failing, 4 h at {}", steps.join(", ")), 0.01, runs, wrong);
    }
}

/// Zipf's users: the `n`th of them asks as often as the first divided by `n`.
fn zipf(users: u32) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = (1..=users)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    for one in &mut sums {
        *one /= sum;
    }
    sums
}

#[test]
fn busy_users_are_no_wrong_split_and_evidence_of_three_replicas_is_that_of_one() {
    let runs = size(20, 2_000);
    let ranks = zipf(5_000);
    for at in ["1%", "5%", "50%"] {
        let (mut wrong, mut wrong_of_three) = (0, 0);
        for run in 0..runs {
            let mut chance = Chance::new(SEED, run);
            let users = Users::new(&mut chance, 5_000, 0);
            let mut whole = Evidence::default();
            let mut parts = [Evidence::default(), Evidence::default(), Evidence::default()];
            let (mut met, mut is_wrong, mut is_wrong_of_three) = (BTreeSet::new(), false, false);
            for _ in 0..600 {
                // A hundred requests a minute; only a key's first is counted, on the replica that it happens to reach.
                for _ in 0..100 {
                    let user = ranks.partition_point(|sum| *sum < chance.unit()).min(4_999);
                    if !met.insert(user) {
                        continue;
                    }
                    let is_extracted = users.buckets[user] < weight(at).ratio();
                    let one = Split { extracted: u64::from(is_extracted), legacy: u64::from(!is_extracted) };
                    let replica = chance.below(3);
                    for evidence in [&mut whole, &mut parts[replica]] {
                        evidence.stages.entry(weight(at)).or_default().assignments.merge(&one);
                    }
                }
                let mut merged = Evidence::default();
                for part in &parts {
                    merged.merge(part);
                }
                assert_eq!(merged, whole);
                let alarms = |evidence: &Evidence| {
                    let split = evidence.stages.get(&weight(at)).copied().unwrap_or_default().assignments;
                    ln_e_imbalance(weight(at), split.extracted, split.legacy) >= LN_ALARM
                };
                is_wrong |= alarms(&whole);
                is_wrong_of_three |=
                    judge_without_forecast(&strict(), &merged).assignments.is_some_and(|split| split.is_alarm);
            }
            wrong += u64::from(is_wrong);
            wrong_of_three += u64::from(is_wrong_of_three);
        }
        at_most(&format!("sample ratio, 5,000 zipf users, 10 h at {at}"), 0.01, runs, wrong);
        at_most(&format!("sample ratio, the same from 3 replicas at {at}"), 0.01, runs, wrong_of_three);
    }
}

#[test]
fn failures_of_three_replicas_are_judged_as_one() {
    let runs = size(20, 2_000);
    for at in ["1%", "5%", "50%"] {
        let mut wrong = 0;
        for run in 0..runs {
            let mut chance = Chance::new(SEED + 1, run);
            let mut parts = [Evidence::default(), Evidence::default(), Evidence::default()];
            let mut is_wrong = false;
            for _ in 0..240 {
                for (replica, part) in (1u32..).zip(&mut parts) {
                    let units = 300.0 * f64::from(replica);
                    let stage = part.stages.entry(weight(at)).or_default();
                    stage.extracted.merge(&arrived(&mut chance, units * weight(at).ratio(), 0.005));
                    stage.legacy.merge(&arrived(&mut chance, units * (1.0 - weight(at).ratio()), 0.005));
                }
                let mut merged = Evidence::default();
                for part in &parts {
                    merged.merge(part);
                }
                is_wrong |= is_rolled_back(&strict(), &merged);
            }
            wrong += u64::from(is_wrong);
        }
        at_most(&format!("equal services behind 3 replicas, 4 h at {at}"), 0.01, runs, wrong);
    }
}

#[test]
fn harm_within_what_was_declared_tolerable_is_not_rolled_back() {
    let runs = size(20, 2_000);
    for (more, words) in [(0.001, "0.1"), (0.002_5, "0.25")] {
        for at in ["1%", "5%", "50%"] {
            let mut wrong = 0;
            for run in 0..runs {
                let mut chance = Chance::new(SEED, run);
                let mut evidence = Evidence::default();
                // A look every half minute, for eight hours at the one weight, whatever it says.
                let is_wrong = (0..960).any(|_| {
                    let stage = evidence.stages.entry(weight(at)).or_default();
                    stage.extracted.merge(&arrived(&mut chance, 1_500.0 * weight(at).ratio(), 0.005 + more));
                    stage.legacy.merge(&arrived(&mut chance, 1_500.0 * (1.0 - weight(at).ratio()), 0.005));
                    is_rolled_back(&within("0.5pp"), &evidence)
                });
                wrong += u64::from(is_wrong);
            }
            at_most(&format!("{words} points worse within 0.5, 50 rps, 8 h at {at}"), 0.01, runs, wrong);
        }
    }
}

fn rollouts(setting: &Setting, runs: u64) -> Counted {
    let mut counted = Counted::default();
    (0..runs).for_each(|run| counted.count(rollout(setting, &mut Chance::new(SEED, run))));
    counted
}

#[test]
fn harm_within_what_was_declared_tolerable_is_not_rolled_back_on_the_way_up() {
    let runs = size(20, 2_000);
    for (rate, words) in [(0.006, "0.1"), (0.007_5, "0.25")] {
        let mut setting = Setting::end_to_end(50.0, 0.005, rate).unwrap();
        setting.gates = within("0.5pp");
        let counted = rollouts(&setting, runs);
        let what = format!("{words} points worse within 0.5, 50 rps, 5 to 50 %, a day");
        at_most(&what, 0.01, runs, counted.rolled_back_s.len() as u64);
        eprintln!("load |   promoted, held | | {}, {}", counted.promoted_s.len(), counted.held);
    }
}

fn shown(counted: &Counted) -> String {
    let (promoted, rolled_back) = counted.parts();
    let after = |seconds: &[u64]| median(seconds).map_or_else(String::new, |at| format!(" ({})", time(at)));
    format!(
        "promoted {:.1} %{}, rolled back {:.1} %{}, held {:.1} %",
        promoted * 100.0,
        after(&counted.promoted_s),
        rolled_back * 100.0,
        after(&counted.rolled_back_s),
        share(counted.held, counted.runs()) * 100.0
    )
}

#[test]
fn end_to_end_a_bad_service_is_never_promoted_and_a_good_one_is() {
    let runs = size(8, 3_000);
    for rps in [0.2, 1.0, 2.0, 5.0, 50.0] {
        let healthy = rollouts(&Setting::end_to_end(rps, 0.005, 0.005).unwrap(), runs);
        let bad = rollouts(&Setting::end_to_end(rps, 0.005, 0.03).unwrap(), runs);
        eprintln!("load | 24 h at {rps} rps, {runs} runs, healthy | | {}", shown(&healthy));
        eprintln!("load | 24 h at {rps} rps, {runs} runs, bad (3 %) | promoted 0 | {}", shown(&bad));
        assert_eq!(bad.promoted_s.len(), 0, "{rps} rps");
        if is_full() && rps >= 2.0 {
            let (promoted, rolled_back) = healthy.parts();
            assert!(promoted >= 0.98 && rolled_back <= 0.02, "{rps} rps: {healthy:?}");
        }
    }
}

#[test]
fn power_rises_with_the_harm() {
    let runs = size(6, 3_000);
    for rps in [1.0, 5.0, 50.0] {
        let mut before = 0;
        for ratio in [1.0, 1.2, 1.5, 2.0, 3.0, 6.0] {
            let counted = rollouts(&Setting::end_to_end(rps, 0.005, 0.005 * ratio).unwrap(), runs);
            eprintln!("load | power: {ratio} x legacy's 0.5 %, {rps} rps, {runs} runs | | {}", shown(&counted));
            let rolled_back = counted.rolled_back_s.len();
            assert!(!is_full() || rolled_back + 30 >= before, "{ratio} at {rps} rps");
            before = rolled_back;
        }
    }
}

#[test]
fn a_fixed_weight_finds_harm_beyond_the_margin() {
    // 0.5 percentage points tolerated, legacy 0.5 %, 50 requests a second, 8 hours at one weight.
    let runs = size(10, 3_000);
    for at in ["1%", "5%", "50%"] {
        for ratio in [1.0, 1.2, 1.5, 2.0, 3.0, 6.0] {
            let mut setting = Setting::end_to_end(50.0, 0.005, 0.005 * ratio).unwrap();
            setting.gates = within("0.5pp");
            // Nothing is ever promoted: the time at the step is longer than the horizon.
            setting.ladder = Ladder::new(vec![weight(at)], 24 * HOUR_S, 300).unwrap();
            setting.horizon_s = 8 * HOUR_S;
            let counted = rollouts(&setting, runs);
            eprintln!("load | at {at}, {ratio} x legacy's 0.5 %, 0.5pp, {runs} runs | | {}", shown(&counted));
            if ratio >= 3.0 && is_full() {
                assert!(counted.parts().1 >= 0.99, "{at}, {ratio}");
            }
        }
    }
}

#[test]
fn the_same_seed_is_the_same_table() {
    let setting = Setting::end_to_end(2.0, 0.005, 0.03).unwrap();
    let all: Vec<Ended> = (0..3).map(|run| rollout(&setting, &mut Chance::new(SEED, run))).collect();
    let again: Vec<Ended> = (0..3).map(|run| rollout(&setting, &mut Chance::new(SEED, run))).collect();
    assert_eq!(all, again);
}
