use std::os::unix::fs::PermissionsExt;

use sqlx::Connection;
use strangler_core::coverage::Row;
use strangler_core::discovery::SavedEndpoint;
use strangler_core::noise::ledger::SavedRoute;
use strangler_core::runtime::{MoveKind, Note};
use tempfile::TempDir;

use super::*;

mod server;

use server::fixture::Postgres;

/// Where a test's store is: a file, or a database.
struct Ground {
    dir: TempDir,
    server: Option<Postgres>,
}

impl Ground {
    fn file() -> Ground {
        Ground { dir: TempDir::new().unwrap(), server: None }
    }

    /// `None` where the machine has no server; that is said.
    fn server() -> Option<Ground> {
        let server = Postgres::start()?;
        Some(Ground { server: Some(server), ..Ground::file() })
    }

    async fn open(&self, limits: StoreLimits) -> (Store, Loaded) {
        let Some(server) = &self.server else { return Store::open(self.dir.path(), limits).await };
        let opened = Store::open_server(self.dir.path(), &server::url_file(server, self.dir.path()), limits).await;
        until(&opened.0, |health| health.healthy).await;
        waited_for(opened).await
    }
}

/// With what came late on a machine that is busy.
async fn waited_for((store, mut loaded): (Store, Loaded)) -> (Store, Loaded) {
    if let Some(late) = loaded.late.take() {
        let Late { runtime, pasts, accepted, pins } = late.await.expect("the store was not closed");
        loaded = Loaded { runtime, pasts, accepted, pins, ..loaded };
    }
    (store, loaded)
}

macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::Ground::file()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                if let Some(ground) = super::Ground::server() {
                    super::$test(&ground).await;
                }
            })*
        }
    };
}

on_both!(
    what_is_handed_over_is_written_by_one_process_alone,
    what_is_saved_is_there_after_a_restart,
    of_one_signature_the_newest_stay_and_the_old_go,
    all_divergences_together_have_a_bound,
    divergences_of_one_route_have_a_bound,
    a_store_that_stands_still_drops_divergences_instead_of_waiting,
    pins_and_the_weights_of_before_outlive_a_restart_up_to_a_bound,
    of_one_signature_those_that_are_worth_most_stay_and_one_can_be_looked_up,
    an_accepted_cause_outlives_a_restart,
    a_text_with_a_nul_costs_nothing_else,
    what_was_seen_is_added_up_and_read_back,
    what_is_known_of_endpoints_is_replaced_and_read_back,
);

fn limits() -> StoreLimits {
    let quick = Duration::from_millis(30);
    StoreLimits {
        probe_every: quick,
        sweep_every: quick,
        save_timeout: Duration::from_secs(20),
        ..StoreLimits::default()
    }
}

fn note(reason: &str) -> Note {
    Note::new("ops", 1_700_000_000_000, reason).unwrap()
}

fn name(text: &str) -> RouteName {
    text.parse().unwrap()
}

fn lowered(to: &str) -> Move {
    Move {
        weight: to.parse().unwrap(),
        file_weight: "5%".parse().unwrap(),
        kind: MoveKind::Ceiling,
        note: note("too slow"),
    }
}

fn kill(scope: &str) -> Change {
    let (scope, source): (KillScope, _) = (scope.parse().unwrap(), KillSource::Api);
    Change::Kill(scope.clone(), source, Some(Kill { scope, source, accept_stale: false, note: note("incident") }))
}

fn audit(what: &str) -> AuditEntry {
    AuditEntry { what: what.to_owned(), who: "ops".to_owned(), at_unix_ms: 7, accepted: true, ..AuditEntry::default() }
}

fn divergence(id: &str, route: &str, at_unix_ms: u64) -> StoredDivergence {
    StoredDivergence {
        id: id.to_owned(),
        at_unix_ms,
        route: route.to_owned(),
        signature: "value /total_cents".to_owned(),
        cause: r#"{"place":"/total_cents"}"#.to_owned(),
        json: "{}".to_owned(),
    }
}

const KEEP: Keep = Keep { per_signature: 3, score_ms: 0, age: Duration::from_secs(3_600), route_bytes_max: 1 << 30 };

async fn until(store: &Store, holds: impl FnMut(&StoreHealth) -> bool) -> StoreHealth {
    let waited =
        tokio::time::timeout(Duration::from_secs(20), async { store.health().wait_for(holds).await.unwrap().clone() });
    waited.await.expect("the store's health did not come to be")
}

async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it did not come to be")
}

async fn what_is_handed_over_is_written_by_one_process_alone(ground: &Ground) {
    let (old, _) = ground.open(limits()).await;
    assert_eq!(old.save(vec![kill("cart")], vec![]).await, Ok(()));
    let (new, _) = ground.open(limits()).await;

    assert!(old.save_soon(vec![kill("pay")], vec![audit("before")]));
    old.hand_over().await;
    let lifted = Change::Kill("cart".parse().unwrap(), KillSource::Api, None);
    assert_eq!(new.save(vec![lifted, Change::Move(name("cart"), Some(lowered("1%")))], vec![]).await, Ok(()));
    // Of no effect: it would bring back what the other one has lifted.
    assert_eq!(old.save(vec![kill("cart"), Change::Move(name("cart"), None)], vec![audit("after")]).await, Ok(()));
    old.record_divergence(divergence("late", "cart", 1 << 42), KEEP);
    old.close().await;

    let kept = new.audit(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    assert_eq!(kept.iter().map(|entry| entry.what.as_str()).collect::<Vec<_>>(), ["after", "before"]);
    assert_eq!(new.divergences(Listing { limit: 10, ..Listing::default() }).await.unwrap().len(), 1);
    new.close().await;
    let (_, loaded) = ground.open(limits()).await;
    let killed: Vec<&str> = loaded.runtime.kills().map(|kill| kill.scope.as_str()).collect();
    assert_eq!((killed, loaded.runtime.moves().get(&name("cart"))), (vec!["pay"], Some(&lowered("1%"))));
}

async fn what_is_saved_is_there_after_a_restart(ground: &Ground) {
    let (store, loaded) = ground.open(limits()).await;
    assert_eq!(loaded.runtime, RuntimeState::default());
    let changes = vec![Change::Move(name("cart"), Some(lowered("1%"))), kill("*"), kill("pay")];
    store.save(changes, vec![audit("weight"), audit("kill")]).await.unwrap();
    store.close().await;
    assert_eq!(store.save(vec![], vec![]).await, Err(StoreError::Closed));

    let (store, loaded) = ground.open(limits()).await;
    assert_eq!(loaded.runtime.moves().get("cart"), Some(&lowered("1%")));
    assert_eq!(loaded.runtime.kills().map(|kill| kill.scope.as_str()).collect::<Vec<_>>(), ["*", "pay"]);
    let entries = store.audit(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    assert_eq!(
        entries.iter().map(|entry| (entry.seq, entry.what.as_str())).collect::<Vec<_>>(),
        [(2, "kill"), (1, "weight")]
    );

    let lifted = Change::Kill(KillScope::All, KillSource::Api, None);
    store.save(vec![Change::Move(name("cart"), None), lifted], vec![]).await.unwrap();
    store.close().await;
    let (store, loaded) = ground.open(limits()).await;
    assert!(loaded.runtime.moves().is_empty());
    assert_eq!(loaded.runtime.kills().count(), 1);
    store.close().await;
}

#[tokio::test]
async fn only_the_owner_may_read_it() {
    let dir = TempDir::new().unwrap();
    let state_dir = dir.path().join("deep/state");
    let (store, loaded) = Store::open(&state_dir, limits()).await;
    store.save(vec![], vec![audit("weight")]).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state_dir), 0o700);
    assert_eq!(mode(&loaded.path), 0o600);
    assert_eq!(mode(&state_dir.join("strangler.db-wal")), 0o600);
    store.close().await;
}

#[tokio::test]
async fn a_corrupt_file_is_moved_aside_and_said() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), "this is no database, however long it is. ".repeat(100)).unwrap();
    let (store, loaded) = Store::open(dir.path(), limits()).await;
    assert_eq!(loaded.runtime, RuntimeState::default());
    let health = store.health_now();
    assert!(health.healthy, "{health:?}");
    assert!(health.lost.unwrap().contains("corrupt"));
    store.save(vec![kill("pay")], vec![]).await.unwrap();
    let entries = store.audit(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    assert_eq!(entries.first().map(|entry| entry.what.as_str()), Some("state_lost"));
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("strangler.db.corrupt-")).count(), 1);
    store.close().await;
}

#[tokio::test]
async fn without_a_state_directory_all_is_kept_in_memory_and_said() {
    let dir = TempDir::new().unwrap();
    let not_a_dir = dir.path().join("file");
    std::fs::write(&not_a_dir, "").unwrap();
    let (store, _) = Store::open(&not_a_dir, limits()).await;
    let health = store.health_now();
    assert!(!health.healthy && health.why.is_some() && health.lost.is_none(), "{health:?}");
    let saved = store.save(vec![kill("pay")], vec![audit("kill")]).await;
    assert!(matches!(saved, Err(StoreError::Unhealthy(_))), "{saved:?}");
    assert!(store.record_divergence(divergence("a", "pay", 1 << 42), KEEP));
    let listing = Listing { limit: 10, ..Listing::default() };
    eventually(async || store.divergences(listing.clone()).await.unwrap().pop()).await;
    assert_eq!(store.audit(listing).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn what_began_in_memory_moves_into_the_file_once_there_can_be_one() {
    let dir = TempDir::new().unwrap();
    let state_dir = dir.path().join("state");
    std::fs::write(&state_dir, "in the way").unwrap();
    let (store, _) = Store::open(&state_dir, limits()).await;
    assert!(store.save(vec![kill("pay")], vec![audit("kill")]).await.is_err());
    std::fs::remove_file(&state_dir).unwrap();
    until(&store, |health| health.healthy).await;
    store.close().await;
    let (store, loaded) = Store::open(&state_dir, limits()).await;
    assert_eq!(loaded.runtime.kills().count(), 1);
    assert_eq!(store.audit(Listing { limit: 10, ..Listing::default() }).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_state_that_was_not_read_at_start_is_not_written_over() {
    let dir = TempDir::new().unwrap();
    let (other, _) = Store::open(&dir.path().join("other"), limits()).await;
    other.save(vec![kill("cart")], vec![]).await.unwrap();
    other.close().await;
    let state_dir = dir.path().join("state");
    std::fs::write(&state_dir, "in the way").unwrap();
    let (store, _) = Store::open(&state_dir, limits()).await;
    assert!(store.save(vec![kill("pay")], vec![]).await.is_err());
    std::fs::remove_file(&state_dir).unwrap();
    std::fs::rename(dir.path().join("other"), &state_dir).unwrap();
    tokio::time::sleep(limits().probe_every * 5).await;
    store.close().await;
    let (store, loaded) = Store::open(&state_dir, limits()).await;
    assert_eq!(loaded.runtime.kills().map(|kill| kill.scope.as_str()).collect::<Vec<_>>(), ["cart"]);
    store.close().await;
}

#[tokio::test]
async fn tables_of_a_newer_version_are_not_touched() {
    let dir = TempDir::new().unwrap();
    let (store, loaded) = Store::open(dir.path(), limits()).await;
    store.save(vec![kill("pay")], vec![]).await.unwrap();
    store.close().await;
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", loaded.path.display())).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut other).await.unwrap();
    other.close().await.unwrap();

    let (store, loaded) = Store::open(dir.path(), limits()).await;
    let health = store.health_now();
    assert!(health.why.unwrap().contains("newer version"));
    assert_eq!(loaded.runtime.kills().count(), 1, "what can be read is in force");
    store.close().await;
}

#[tokio::test]
async fn a_deleted_file_is_noticed_and_made_anew_with_what_is_in_force() {
    let dir = TempDir::new().unwrap();
    let (store, loaded) = Store::open(dir.path(), limits()).await;
    store.save(vec![kill("pay")], vec![]).await.unwrap();
    std::fs::remove_file(&loaded.path).unwrap();
    eventually(async || loaded.path.exists().then_some(())).await;
    until(&store, |health| health.healthy).await;
    store.close().await;
    let (store, loaded) = Store::open(dir.path(), limits()).await;
    assert_eq!(loaded.runtime.kills().count(), 1);
    store.close().await;
}

async fn of_one_signature_the_newest_stay_and_the_old_go(ground: &Ground) {
    let (store, _) = ground.open(limits()).await;
    let now = now_unix_ms();
    for n in 0..10 {
        assert!(store.record_divergence(divergence(&format!("id-{n}"), "cart", now + n), KEEP));
    }
    assert!(store.record_divergence(divergence("old", "pay", now - 7_200_000), KEEP));
    assert!(store.record_divergence(divergence("other", "pay", now + 100), KEEP));
    let listing = Listing { limit: 500, ..Listing::default() };
    let ids = eventually(async || {
        let ids: Vec<String> =
            store.divergences(listing.clone()).await.unwrap().into_iter().map(|one| one.id).collect();
        (ids.len() == 4 && ids.contains(&"other".to_owned()) && !ids.contains(&"old".to_owned())).then_some(ids)
    })
    .await;
    assert_eq!(ids, ["other", "id-9", "id-8", "id-7"]);
    let of_route = Listing { route: Some("cart".to_owned()), since_unix_ms: now + 8, limit: 1 };
    assert_eq!(store.divergences(of_route).await.unwrap().len(), 1);
    let causes = store.causes(listing).await.unwrap();
    let counted: Vec<(&str, u64, u64, u64)> =
        causes.iter().map(|one| (&*one.route, one.pairs, one.first_unix_ms, one.last_unix_ms)).collect();
    // Those that are no longer kept have been seen all the same.
    assert_eq!(counted, [("cart", 10, now, now + 9), ("pay", 2, now - 7_200_000, now + 100)]);
    assert_eq!(causes[0].json, r#"{"place":"/total_cents"}"#);
    store.close().await;
}

async fn all_divergences_together_have_a_bound(ground: &Ground) {
    let bounded = StoreLimits { divergence_bytes_max: 10_000, divergence_json_bytes_max: 2_000, ..limits() };
    let (store, _) = ground.open(bounded).await;
    let keep = Keep { per_signature: 1_000, ..KEEP };
    let now = now_unix_ms();
    for n in 0..50 {
        let big = StoredDivergence { json: "x".repeat(1_000), ..divergence(&format!("id-{n:02}"), "cart", now + n) };
        assert!(store.record_divergence(big, keep));
    }
    let too_large = StoredDivergence { json: "x".repeat(2_001), ..divergence("large", "cart", now) };
    assert!(!store.record_divergence(too_large, keep));
    assert_eq!(store.divergences_dropped(), 1);
    let listing = Listing { limit: 500, ..Listing::default() };
    let left = eventually(async || {
        let left = store.divergences(listing.clone()).await.unwrap();
        (left.first()?.id == "id-49" && left.len() <= 10).then_some(left)
    })
    .await;
    assert!(left.len() >= 9, "the newest stay: {}", left.len());
    store.close().await;
}

async fn a_store_that_stands_still_drops_divergences_instead_of_waiting(ground: &Ground) {
    let bounded = StoreLimits { queued_bytes_max: 10, ..limits() };
    let (store, _) = ground.open(bounded).await;
    let sent = (0..8).filter(|n| store.record_divergence(divergence(&n.to_string(), "cart", 1 << 42), KEEP)).count();
    assert_eq!(sent, 5, "the task cannot run in between on this runtime");
    assert_eq!(store.divergences_dropped(), 3);
    store.close().await;
}

async fn pins_and_the_weights_of_before_outlive_a_restart_up_to_a_bound(ground: &Ground) {
    let bounded = StoreLimits { pins_max: 100, ..limits() };
    let (store, loaded) = ground.open(bounded).await;
    assert!(loaded.pins.is_empty() && loaded.pasts.is_empty());
    let now_s = now_unix_ms() / 1_000;
    let pin = |number: u64, side, ago_s| {
        let mut key = [0u8; 16];
        key[..8].copy_from_slice(&number.to_be_bytes());
        StoredPin { key, side, seen_s: now_s - ago_s }
    };
    for number in 0..300 {
        assert!(store.record_pin(pin(number, Some(Side::Extracted), 300 - number)));
    }
    store.record_pin(pin(299, Some(Side::Legacy), 300 - 299));
    store.record_pin(pin(298, None, 300 - 298));
    store.record_pin(pin(1_000, Some(Side::Legacy), strangler_core::idempotency::PIN_LIFE_S));
    let past = RoutePast { weight: "5%".parse().unwrap(), pasts: Vec::new() };
    let past = RoutePast { pasts: past.followed_by("10%".parse().unwrap(), now_s), weight: "10%".parse().unwrap() };
    store.save(vec![Change::Past(name("pay"), Some(past.clone()))], vec![]).await.unwrap();
    store.close().await;

    let (store, loaded) = ground.open(bounded).await;

    assert_eq!(loaded.pasts.get(&name("pay")), Some(&past));
    assert!((98..=100).contains(&loaded.pins.len()), "the newest of them, not {}", loaded.pins.len());
    assert_eq!(loaded.pins.last(), Some(&pin(299, Some(Side::Legacy), 1)));
    assert!(loaded.pins.is_sorted_by_key(|pin| pin.seen_s));
    assert!(!loaded.pins.iter().any(|one| one.key == pin(298, None, 2).key), "forgotten");
    store.save(vec![Change::Past(name("pay"), None)], vec![]).await.unwrap();
    store.close().await;
    assert!(ground.open(bounded).await.1.pasts.is_empty());
}

#[tokio::test]
async fn pins_that_cannot_be_written_are_counted_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state"), "not a directory").unwrap();
    let (store, _) = Store::open(&dir.path().join("state"), limits()).await;
    store.record_pin(StoredPin { key: [1; 16], side: Some(Side::Legacy), seen_s: 1 });
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while store.pins_unsaved() == 0 {
        assert!(std::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.close().await;
}

fn scored(id: &str, at_unix_ms: u64, score_ms: i64) -> (StoredDivergence, Keep) {
    let one = StoredDivergence {
        id: id.to_owned(),
        at_unix_ms,
        route: "prices".to_owned(),
        signature: "one".to_owned(),
        cause: "{}".to_owned(),
        json: "x".repeat(1_000),
    };
    (one, Keep { per_signature: 2, score_ms, ..KEEP })
}

async fn of_one_signature_those_that_are_worth_most_stay_and_one_can_be_looked_up(ground: &Ground) {
    let (store, _) = ground.open(limits()).await;
    let now = now_unix_ms();
    for (one, keep) in [scored("old", now - 9_000, 90), scored("new", now, 1), scored("middle", now - 5_000, 50)] {
        assert!(store.record_divergence(one, keep));
    }
    store.close().await;

    let (store, _) = ground.open(limits()).await;
    let listed = store.divergences(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    let ids: Vec<&str> = listed.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["middle", "old"]);
    assert_eq!(store.divergence("old".to_owned()).await.unwrap().unwrap().at_unix_ms, now - 9_000);
    assert_eq!(store.divergence("new".to_owned()).await.unwrap(), None);
    let key = AcceptedKey { route: "prices".to_owned(), signature: "one".to_owned() };
    assert_eq!(store.cause(key).await.unwrap().unwrap().pairs, 3);
}

#[tokio::test]
async fn an_accepted_cause_outlives_a_restart_and_a_file_that_was_deleted() {
    let dir = TempDir::new().unwrap();
    let (store, loaded) = Store::open(dir.path(), limits()).await;
    assert_eq!(loaded.accepted, Accepted::default());
    let key = AcceptedKey { route: "prices".to_owned(), signature: "one".to_owned() };
    let cause = strangler_core::redact::Cause::of("prices", None);
    let acceptance = Acceptance { note: note("intended"), until: "2999-12-31".parse().ok(), cause };
    let accept = Change::Accept(key.clone(), Some(acceptance.clone()));
    store.save_or_forget(vec![accept], vec![]).await.unwrap();
    std::fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.close().await;

    let (store, loaded) = Store::open(dir.path(), limits()).await;
    assert_eq!(loaded.accepted.0, BTreeMap::from([(key.clone(), acceptance)]));
    store.save(vec![Change::Accept(key, None)], vec![]).await.unwrap();
    store.close().await;
    assert_eq!(Store::open(dir.path(), limits()).await.1.accepted, Accepted::default());
}

async fn an_accepted_cause_outlives_a_restart(ground: &Ground) {
    let (store, _) = ground.open(limits()).await;
    let key = AcceptedKey { route: "prices".to_owned(), signature: "one".to_owned() };
    let cause = strangler_core::redact::Cause::of("prices", None);
    for until in ["2999-12-30", "2999-12-31"] {
        let acceptance = Acceptance { note: note("intended"), until: until.parse().ok(), cause: cause.clone() };
        store.save_or_forget(vec![Change::Accept(key.clone(), Some(acceptance))], vec![]).await.unwrap();
    }
    store.close().await;

    let (store, loaded) = ground.open(limits()).await;
    let days: Vec<_> = loaded.accepted.0.values().map(|one| one.until.unwrap().to_string()).collect();
    assert_eq!(days, ["2999-12-31"]);
    store.save(vec![Change::Accept(key, None)], vec![]).await.unwrap();
    store.close().await;
    assert_eq!(ground.open(limits()).await.1.accepted, Accepted::default());
}

async fn divergences_of_one_route_have_a_bound(ground: &Ground) {
    let (store, _) = ground.open(limits()).await;
    let keep = Keep { per_signature: 1_000, route_bytes_max: 5_000, ..KEEP };
    let now = now_unix_ms();
    for n in 0..20 {
        let big = StoredDivergence { json: "x".repeat(1_000), ..divergence(&format!("id-{n:02}"), "cart", now + n) };
        assert!(store.record_divergence(big, keep));
    }
    assert!(store.record_divergence(divergence("other", "pay", now), keep));
    let listing = Listing { limit: 500, ..Listing::default() };
    let left = eventually(async || {
        let left = store.divergences(listing.clone()).await.unwrap();
        (left.first()?.id == "id-19" && left.len() <= 6).then_some(left)
    })
    .await;
    assert!(left.len() >= 5 && left.iter().any(|one| one.id == "other"), "{left:?}");
    store.close().await;
}

async fn a_text_with_a_nul_costs_nothing_else(ground: &Ground) {
    let (store, _) = ground.open(limits()).await;
    let odd = AuditEntry { reason: "a\0b".to_owned(), ..audit("odd") };
    assert_eq!(store.save(vec![kill("pay")], vec![odd]).await, Ok(()));
    assert!(store.record_divergence(StoredDivergence { json: "\0".into(), ..divergence("a", "pay", 1 << 42) }, KEEP));
    let listing = Listing { limit: 10, ..Listing::default() };
    eventually(async || store.divergences(listing.clone()).await.unwrap().pop()).await;
    assert_eq!(store.audit(listing).await.unwrap().len(), 1);
    store.close().await;
}

async fn what_is_known_of_endpoints_is_replaced_and_read_back(ground: &Ground) {
    let (store, _) = ground.open(limits()).await;
    let saved = |route, counts: &str| SavedRoute { route: name(route), counts: counts.to_owned() };
    store.save_verdicts(vec![saved("cart", "1"), saved("pay", "2")]).await.unwrap();
    store.save_verdicts(vec![saved("cart", "3")]).await.unwrap();
    store.close().await;
    let (store, _) = ground.open(limits()).await;
    let mut found = store.verdicts().await.unwrap();
    found.sort_by(|a, b| a.route.cmp(&b.route));
    assert_eq!(found, [saved("cart", "3"), saved("pay", "2")]);
    let found = |key, counts: &str| SavedEndpoint { key, counts: counts.to_owned() };
    store.save_endpoints(vec![found(1, "a"), found(u64::MAX, "b")], vec![]).await.unwrap();
    store.save_endpoints(vec![found(u64::MAX, "c")], vec![1]).await.unwrap();
    assert_eq!(store.endpoints().await.unwrap(), [found(u64::MAX, "c")]);
    // Another process owns them by now.
    store.hand_over().await;
    assert!(store.save_verdicts(vec![saved("cart", "4")]).await.is_err());
    store.close().await;
}

async fn what_was_seen_is_added_up_and_read_back(ground: &Ground) {
    use strangler_core::coverage::{Counts, Sort, day_of_unix_ms};
    let (store, _) = ground.open(limits()).await;
    let day = day_of_unix_ms(now_unix_ms());
    let row = |day, requests| Row {
        route: name("cart"),
        day,
        sort: Sort::Method,
        name: "GET".into(),
        counts: Counts { requests, comparisons: 1 },
    };
    for requests in [3, 4] {
        store.add_coverage(vec![row(day, requests), row(day - 100, 1)]).await.unwrap();
    }
    store.close().await;
    let (store, _) = ground.open(limits()).await;
    let summed = Row { counts: Counts { requests: 7, comparisons: 2 }, ..row(day, 7) };
    assert_eq!(store.coverage().await.unwrap(), [summed]);
    store.close().await;
}
