use std::collections::BTreeSet;
use std::time::Duration;

use strangler_core::fixture::{route, table};
use strangler_core::route::{Data, Route};
use strangler_core::runtime::KillScope;
use strangler_core::weight::Weight;
use tempfile::TempDir;

use super::*;
use crate::live::Live;
use crate::store::{Listing, Loaded, StoreLimits};

fn shop(cart: &str) -> Arc<RoutingTable> {
    let pay = Route { data: Data::Extracted, ..route("pay", "/pay", "100%") };
    table(vec![route("cart", "/cart/{id}", cart), pay])
}

async fn control(state_dir: &std::path::Path, cart: &str) -> Control {
    let limits = StoreLimits {
        probe_every: Duration::from_millis(50),
        save_timeout: Duration::from_secs(20),
        ..StoreLimits::default()
    };
    let (store, Loaded { runtime, .. }) = Store::open(state_dir, limits).await;
    let (first, dropped) = Snapshot::new(shop(cart), &runtime);
    let control = Control::new(Arc::new(Live::new(Arc::new(first), |_, _: Option<&()>| ())), store);
    control.forget(&dropped);
    control
}

fn name(text: &str) -> RouteName {
    text.parse().unwrap()
}

fn ask(text: &str) -> WeightAsk {
    text.parse().unwrap()
}

fn weight(control: &Control) -> Weight {
    control.snapshot().state(0).unwrap().weight
}

fn is_killed(control: &Control) -> bool {
    control.snapshot().state(0).unwrap().killed
}

fn no_store() -> (TempDir, std::path::PathBuf) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("not-a-directory");
    std::fs::write(&file, "").unwrap();
    (dir, file)
}

#[tokio::test]
async fn what_was_moved_is_in_force_after_a_restart_and_in_the_audit() {
    let dir = TempDir::new().unwrap();
    let control_1 = control(dir.path(), "5%").await;
    let outcome = control_1.set_weight("ops", &name("cart"), ask("10%"), false, "it looks good").await.unwrap();
    assert_eq!((outcome.from.as_str(), outcome.to.as_str(), outcome.record.stored), ("5%", "10%", true));
    control_1.kill("ops", KillScope::Route(name("cart")), false, "incident").await.unwrap();
    control_1.store().close().await;

    let control_2 = control(dir.path(), "5%").await;
    assert_eq!((weight(&control_2), is_killed(&control_2)), ("10%".parse().unwrap(), true));
    let outcome = control_2.unkill("ops", KillScope::Route(name("cart")), "it is over").await.unwrap();
    assert_eq!(outcome.killed_routes, 0);
    control_2.store().close().await;

    let control_3 = control(dir.path(), "7%").await;
    assert_eq!((weight(&control_3), is_killed(&control_3)), ("7%".parse().unwrap(), false), "the file moved on");
    let entries = control_3.store().audit(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    let whats: Vec<&str> = entries.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(whats, ["raise_dropped", "unkill", "kill", "weight"]);
    assert!(entries.iter().all(|entry| entry.accepted));
    control_3.store().close().await;
}

#[tokio::test]
async fn without_a_sound_store_users_can_be_sent_to_legacy_but_not_away_from_it() {
    let (_dir, file) = no_store();
    let control = control(&file, "25%").await;
    let refused = control.set_weight("ops", &name("cart"), ask("50%"), false, "more").await;
    assert!(matches!(refused, Err(ControlError::NotRecorded(_))), "{refused:?}");
    assert_eq!(weight(&control), "25%".parse().unwrap());
    let lowered = control.set_weight("ops", &name("cart"), ask("1%"), false, "less").await.unwrap();
    assert!(!lowered.record.stored && lowered.record.warning.is_some());
    assert_eq!(weight(&control), "1%".parse().unwrap());
    let lifted = control.set_weight("ops", &name("cart"), ask("file"), false, "as the file says").await;
    assert!(matches!(lifted, Err(ControlError::NotRecorded(_))));
    let killed = control.kill("ops", KillScope::All, false, "incident").await.unwrap();
    assert!(!killed.record.stored);
    assert_eq!(killed.not_moved, ["pay"]);
    assert!(is_killed(&control));
    let unkilled = control.unkill("ops", KillScope::All, "over").await;
    assert!(matches!(unkilled, Err(ControlError::NotRecorded(_))));
    assert!(is_killed(&control));
    assert!(control.store().changes_unsaved() >= 2);
    let entries = control.store().audit(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    let seen: Vec<(&str, bool)> = entries.iter().rev().map(|entry| (entry.what.as_str(), entry.accepted)).collect();
    assert_eq!(seen, [("weight", false), ("weight", true), ("weight", false), ("kill", true), ("unkill", false)]);
}

#[tokio::test]
async fn what_moved_while_the_file_was_gone_is_on_record_once_it_is_back() {
    let dir = TempDir::new().unwrap();
    let control_1 = control(dir.path(), "25%").await;
    std::fs::remove_file(dir.path().join("strangler.db")).unwrap();
    control_1.kill("ops", KillScope::Route(name("cart")), false, "incident").await.unwrap();
    let path = dir.path().join("strangler.db");
    for _ in 0..400 {
        if path.exists() && control_1.store().health_now().healthy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    control_1.store().close().await;
    let control_2 = control(dir.path(), "25%").await;
    assert!(is_killed(&control_2));
    control_2.store().close().await;
}

#[tokio::test]
async fn a_signal_kills_all_and_only_a_person_lifts_it() {
    let dir = TempDir::new().unwrap();
    let control_1 = control(dir.path(), "25%").await;
    let not_moved = control_1.kill_all_by_signal();
    assert!(is_killed(&control_1));
    assert_eq!(not_moved, [name("pay")]);
    control_1.store().close().await;
    let control_2 = control(dir.path(), "25%").await;
    assert!(is_killed(&control_2), "a restart does not lift it");
    control_2.unkill("ops", KillScope::All, "over").await.unwrap();
    assert!(!is_killed(&control_2));
    control_2.store().close().await;
}

#[tokio::test]
async fn the_kill_file_is_lifted_by_its_line_alone() {
    let dir = TempDir::new().unwrap();
    let control = control(dir.path(), "25%").await;
    let lines = BTreeSet::from([KillScope::Route(name("cart")), KillScope::Route(name("pay"))]);
    assert_eq!(control.apply_kill_file(&lines), [name("pay")]);
    assert_eq!(control.apply_kill_file(&lines), [name("pay")], "twice is once");
    assert!(is_killed(&control));
    let refused = control.unkill("ops", KillScope::Route(name("cart")), "over").await;
    assert!(matches!(refused, Err(ControlError::Refused(Refusal::KilledByFile(_)))));
    control.apply_kill_file(&BTreeSet::new());
    assert!(!is_killed(&control));
    let entries = control.store().audit(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    let whats: Vec<(&str, bool)> = entries.iter().map(|entry| (entry.what.as_str(), entry.accepted)).collect();
    assert_eq!(whats, [("unkill", true), ("unkill", true), ("unkill", false), ("kill", true), ("kill", true)]);
    control.store().close().await;
}

#[tokio::test]
async fn a_reload_keeps_what_people_moved_and_ends_the_raises_it_contradicts() {
    let dir = TempDir::new().unwrap();
    let control = control(dir.path(), "5%").await;
    control.set_weight("ops", &name("cart"), ask("10%"), false, "more").await.unwrap();
    assert!(control.with_table(&shop("5%")).is_empty());
    assert_eq!(weight(&control), "10%".parse().unwrap());
    assert_eq!(control.with_table(&shop("6%")).len(), 1);
    assert_eq!(weight(&control), "6%".parse().unwrap());
    control.set_weight("ops", &name("cart"), ask("2%"), false, "less").await.unwrap();
    control.with_table(&shop("60%"));
    assert_eq!(weight(&control), "2%".parse().unwrap());
    control.with_table(&table(vec![]));
    let lifted = control.set_weight("ops", &name("cart"), ask("file"), false, "gone").await.unwrap();
    assert!(lifted.lifted_ceiling && lifted.file_weight.is_none());
    control.with_table(&shop("60%"));
    assert_eq!(weight(&control), "60%".parse().unwrap());
    control.store().close().await;
}

#[tokio::test]
async fn moves_at_the_same_time_end_on_record_as_they_are_in_force() {
    let dir = TempDir::new().unwrap();
    let control_1 = Arc::new(control(dir.path(), "50%").await);
    let asks = ["60%", "10%", "90%", "5%", "70%", "file", "20%", "51%"];
    let tasks: Vec<_> = asks
        .into_iter()
        .map(|text| {
            let control = Arc::clone(&control_1);
            tokio::spawn(
                async move { control.set_weight("ops", &name("cart"), ask(text), false, "race").await.is_ok() },
            )
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let in_force = weight(&control_1);
    control_1.store().close().await;
    let control_2 = control(dir.path(), "50%").await;
    assert_eq!(weight(&control_2), in_force);
    control_2.store().close().await;
}
