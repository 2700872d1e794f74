use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::fixture::{route, table};
use crate::route::{Data, Locate};
use crate::side::Side;
use crate::snapshot::{Snapshot, Stage};

fn note() -> Note {
    Note::new("ops", 1_763_721_595_000, "it is slow").unwrap()
}

fn weight(text: &str) -> Weight {
    text.parse().unwrap()
}

fn shop(cart: &str) -> Arc<RoutingTable> {
    let pay = Route { data: Data::Extracted, ..route("pay", "/pay", "100%") };
    table(vec![route("cart", "/cart/{id}", cart), pay])
}

fn asked(snapshot: &Snapshot, name: &str, ask: &str, accept_stale: bool) -> Result<(Snapshot, WeightChange), Refusal> {
    let (_, route) = snapshot.route(name).unwrap();
    let (next, change) = snapshot.runtime().with_weight(route, ask.parse().unwrap(), accept_stale, note())?;
    Ok((snapshot.with_runtime(&next), change))
}

fn killed(
    snapshot: &Snapshot,
    scope: &str,
    source: KillSource,
    accept_stale: bool,
) -> Result<(Snapshot, Vec<RouteName>), Refusal> {
    let scope = scope.parse().unwrap();
    let (next, spared) = snapshot.runtime().with_kill(snapshot.table(), scope, source, accept_stale, note())?;
    Ok((snapshot.with_runtime(&next), spared))
}

fn fresh(cart: &str) -> Snapshot {
    Snapshot::new(shop(cart), &RuntimeState::default()).0
}

/// Weight in force and whether killed, by route.
fn states(snapshot: &Snapshot) -> Vec<(String, bool)> {
    (0..2).map(|index| snapshot.state(index).map(|s| (s.weight.to_string(), s.killed)).unwrap()).collect()
}

#[test]
fn a_raise_is_in_force_until_the_file_says_another_weight() {
    let (raised, change) = asked(&fresh("5%"), "cart", "10%", false).unwrap();
    assert!(change.is_raise());
    assert_eq!(raised.state(0).unwrap().weight, weight("10%"));
    assert_eq!(
        raised.status(0).unwrap().drift.unwrap(),
        "file 5% · running 10% since 2025-11-21T10:39:55Z by ops because it is slow"
    );
    let (same, dropped) = raised.with_table(shop("5%"), 1);
    assert!(dropped.is_empty());
    assert_eq!(same.state(0).unwrap().weight, weight("10%"));
    let (other, dropped) = raised.with_table(shop("7%"), 1);
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0].to_string().contains("the file said 5% then and says 7% now"), "{}", dropped[0]);
    assert_eq!(other.state(0).unwrap().weight, weight("7%"));
    let (back, _) = other.with_table(shop("5%"), 1);
    assert_eq!(back.state(0).unwrap().weight, weight("5%"), "a dropped raise does not come back");
}

#[test]
fn a_raise_of_a_route_that_is_gone_is_dropped() {
    let (raised, _) = asked(&fresh("5%"), "cart", "10%", false).unwrap();
    let (_, dropped) = raised.with_table(table(vec![]), 1);
    assert_eq!(dropped[0].file_weight, None);
}

#[test]
fn a_lowering_holds_against_the_file_until_it_is_lifted_by_name() {
    let (lowered, change) = asked(&fresh("25%"), "cart", "10%", false).unwrap();
    assert!(!change.is_raise());
    for (file, expect) in [("25%", "10%"), ("100%", "10%"), ("5%", "5%"), ("0%", "0%"), ("60%", "10%")] {
        let (reloaded, dropped) = lowered.with_table(shop(file), 1);
        assert!(dropped.is_empty());
        assert_eq!(reloaded.state(0).unwrap().weight, weight(expect), "file {file}");
    }
    let (merged, _) = lowered.with_table(shop("5%"), 1);
    assert!(merged.status(0).unwrap().drift.unwrap().starts_with("file 5% · held at 10% or less since"));
    for lift in ["25%", "30%", "file"] {
        let (lifted, change) = asked(&lowered, "cart", lift, false).unwrap();
        assert!(change.lifts_ceiling() && change.is_raise(), "{lift}");
        let expect = if lift == "file" { "25%" } else { lift };
        assert_eq!(lifted.state(0).unwrap().weight, weight(expect));
    }
    let (higher, change) = asked(&lowered, "cart", "20%", false).unwrap();
    assert!(change.is_raise() && !change.lifts_ceiling(), "below the file's it is a ceiling still");
    assert_eq!(higher.with_table(shop("100%"), 1).0.state(0).unwrap().weight, weight("20%"));
}

#[test]
fn a_kill_of_all_spares_data_that_legacy_does_not_know() {
    for source in [KillSource::Api, KillSource::Signal] {
        let (snapshot, spared) = killed(&fresh("5%"), "*", source, false).unwrap();
        assert_eq!(states(&snapshot), [("5%".to_owned(), true), ("100%".to_owned(), false)]);
        assert_eq!(spared.iter().map(RouteName::as_str).collect::<Vec<_>>(), ["pay"]);
        assert_eq!(snapshot.stage(0), Some(Stage::Killed));
        assert_eq!(snapshot.status(1).unwrap().kills_not_applied.len(), 1);
    }
    let (snapshot, spared) = killed(&fresh("5%"), "*", KillSource::Api, true).unwrap();
    assert!(spared.is_empty() && snapshot.state(1).unwrap().killed);
}

#[test]
fn the_kill_file_spares_data_that_legacy_does_not_know_even_by_name() {
    let lines = ["pay".parse().unwrap(), "cart".parse().unwrap(), "no-such-route".parse().unwrap()];
    let state = RuntimeState::default().with_kill_file(&lines, &note());
    let (snapshot, _) = Snapshot::new(shop("5%"), &state);
    assert_eq!(states(&snapshot), [("5%".to_owned(), true), ("100%".to_owned(), false)]);
    let lifted = Snapshot::new(shop("5%"), &state.with_kill_file([], &note())).0;
    assert_eq!(states(&lifted), [("5%".to_owned(), false), ("100%".to_owned(), false)]);
}

#[test]
fn a_person_may_send_users_to_a_stale_legacy_knowing_it() {
    let snapshot = fresh("5%");
    let stale = Refusal::WouldServeStale("pay".parse().unwrap());
    assert_eq!(killed(&snapshot, "pay", KillSource::Api, false).unwrap_err(), stale);
    assert_eq!(asked(&snapshot, "pay", "50%", false).unwrap_err(), stale);
    assert!(stale.to_string().contains("--accept-stale"));
    let (dead, _) = killed(&snapshot, "pay", KillSource::Api, true).unwrap();
    assert!(dead.state(1).unwrap().killed);
    assert_eq!(asked(&snapshot, "pay", "50%", true).unwrap().0.state(1).unwrap().weight, weight("50%"));
}

#[test]
fn a_route_killed_by_name_stays_killed_when_the_file_gives_its_data_away() {
    let (dead, _) = killed(&fresh("5%"), "cart", KillSource::Api, false).unwrap();
    let owned = table(vec![Route { data: Data::Extracted, ..route("cart", "/cart/{id}", "100%") }]);
    assert!(dead.with_table(owned, 1).0.state(0).unwrap().killed);
}

#[test]
fn a_kill_is_lifted_the_way_it_came() {
    let (dead, _) = killed(&fresh("5%"), "cart", KillSource::Api, false).unwrap();
    let (dead, _) = killed(&dead, "*", KillSource::Signal, false).unwrap();
    let by_name = dead.runtime().without_kill(&"cart".parse().unwrap()).unwrap();
    assert!(dead.with_runtime(&by_name).state(0).unwrap().killed, "the kill of all holds");
    let lifted = by_name.without_kill(&KillScope::All).unwrap();
    assert!(!dead.with_runtime(&lifted).state(0).unwrap().killed);
    assert_eq!(lifted.without_kill(&KillScope::All), Err(Refusal::NotKilled(KillScope::All)));
    let by_file = lifted.with_kill_file(&[KillScope::All], &note());
    assert_eq!(by_file.without_kill(&KillScope::All), Err(Refusal::KilledByFile(KillScope::All)));
    assert!(killed(&dead, "nobody", KillSource::Api, false).is_err_and(|r| matches!(r, Refusal::UnknownRoute(_))));
}

#[test]
fn a_located_route_has_no_weight_to_move() {
    let locate = Locate { param: "id".into(), rules: Vec::new(), otherwise: Side::Legacy };
    let located = table(vec![Route { locate: Some(locate), ..route("order", "/order/{id}", "0%") }]);
    let snapshot = Snapshot::new(located, &RuntimeState::default()).0;
    assert!(matches!(asked(&snapshot, "order", "5%", false), Err(Refusal::Located(_))));
    assert_eq!(snapshot.stage(0), Some(Stage::Canary));
}

#[test]
fn a_note_says_who_and_why_on_one_line() {
    assert_eq!(Note::new("ops", 0, "  \n"), Err(NoteError::NoReason));
    assert_eq!(Note::new("", 0, "because"), Err(NoteError::By));
    assert_eq!(Note::new("ops", 0, &"x".repeat(2_000)), Err(NoteError::ReasonTooLong(2_000)));
    assert_eq!(Note::new("ops", 0, "a\u{1b}[2Jb\nc").unwrap().reason(), "a [2Jb c");
}

#[test]
fn a_moment_is_shown_in_utc() {
    for (unix_ms, expect) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (1_763_721_595_999, "2025-11-21T10:39:55Z"),
        (4_107_542_399_000, "2100-02-28T23:59:59Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00Z"),
    ] {
        assert_eq!(utc(unix_ms), expect);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u16),
    Reload(u16),
    Kill(bool),
    Lift,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u16..=10_000).prop_map(Step::Ask),
        (0u16..=10_000).prop_map(Step::Reload),
        any::<bool>().prop_map(Step::Kill),
        Just(Step::Lift),
    ];
    prop::collection::vec(step, 0..20)
}

fn percent(points: u16) -> String {
    Weight::from_basis_points(points).unwrap().to_string()
}

proptest! {
    #[test]
    fn no_reload_exceeds_a_ceiling_and_no_reload_lifts_a_kill(steps in steps()) {
        let mut snapshot = fresh("5%");
        let mut ceiling: Option<Weight> = None;
        let mut is_killed = false;
        for step in steps {
            match step {
                Step::Ask(points) => {
                    let (next, change) = asked(&snapshot, "cart", &percent(points), false).unwrap();
                    ceiling = change.after.filter(|after| after.kind == MoveKind::Ceiling).map(|after| after.weight);
                    prop_assert_eq!(next.state(0).unwrap().weight, weight(&percent(points)));
                    snapshot = next;
                }
                Step::Reload(points) => snapshot = snapshot.with_table(shop(&percent(points)), 1).0,
                Step::Kill(all) => {
                    snapshot = killed(&snapshot, if all { "*" } else { "cart" }, KillSource::Api, false).unwrap().0;
                    is_killed = true;
                }
                Step::Lift => {
                    let mut state = snapshot.runtime().clone();
                    for scope in [KillScope::All, KillScope::Route("cart".parse().unwrap())] {
                        state = state.without_kill(&scope).unwrap_or(state);
                    }
                    snapshot = snapshot.with_runtime(&state);
                    is_killed = false;
                }
            }
            let now = snapshot.state(0).unwrap();
            prop_assert!(ceiling.is_none_or(|ceiling| now.weight <= ceiling));
            prop_assert_eq!(now.killed, is_killed);
            prop_assert!(!snapshot.state(1).unwrap().killed, "the data of pay is not legacy's");
        }
    }

    #[test]
    fn applying_a_state_twice_is_applying_it_once(steps in steps(), file in 0u16..=10_000) {
        let mut snapshot = fresh("5%");
        for step in steps {
            if let Step::Ask(points) = step {
                snapshot = asked(&snapshot, "cart", &percent(points), false).unwrap().0;
            }
        }
        let (once, _) = Snapshot::new(shop(&percent(file)), snapshot.runtime());
        let (twice, dropped) = Snapshot::new(shop(&percent(file)), once.runtime());
        prop_assert!(dropped.is_empty());
        prop_assert_eq!(states(&once), states(&twice));
        prop_assert_eq!(once.runtime(), twice.runtime());
    }
}
