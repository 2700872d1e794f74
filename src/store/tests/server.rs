//! The store on a server: that comes, goes, is slow, is new, says nonsense, and is used by others.

#[path = "../../../tests/it/support/postgres.rs"]
pub(super) mod fixture;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;

use fixture::PASSWORD;

use super::*;

/// A process of its own, as far as the store goes: its own state directory.
async fn replica(ground: &Ground, dir: &TempDir) -> (Store, Loaded) {
    let url_file = ground.server.as_ref().unwrap().url_file(dir.path());
    let opened = Store::open_server(dir.path(), &url_file, limits()).await;
    until(&opened.0, |health| health.healthy).await;
    waited_for(opened).await
}

fn killed(loaded: &Loaded) -> Vec<&str> {
    loaded.runtime.kills().map(|kill| kill.scope.as_str()).collect()
}

fn scopes(server: &Postgres) -> String {
    server.sql("SELECT scope FROM strangler.kills ORDER BY scope").replace('\n', " ")
}

#[tokio::test]
async fn tables_are_made_once_by_many_that_start_at_once() {
    let Some(ground) = Ground::server() else { return };
    let dirs: Vec<TempDir> = (0..6).map(|_| TempDir::new().unwrap()).collect();
    let mut starts = tokio::task::JoinSet::new();
    for dir in &dirs {
        let (path, url_file) = (dir.path().to_owned(), ground.server.as_ref().unwrap().url_file(dir.path()));
        starts.spawn(async move { Store::open_server(&path, &url_file, limits()).await });
    }
    for (store, _) in starts.join_all().await {
        until(&store, |health| health.healthy).await;
        store.close().await;
    }
    let server = ground.server.as_ref().unwrap();
    assert_eq!(server.sql("SELECT value FROM strangler.meta WHERE key = 'version'"), "4");
    let identity = server.sql("SELECT value FROM strangler.meta WHERE key = 'identity'");
    let (store, _) = ground.open(limits()).await;
    store.close().await;
    assert_eq!(
        server.sql("SELECT value FROM strangler.meta WHERE key = 'identity'"),
        identity,
        "nothing is done twice"
    );
}

#[tokio::test]
async fn a_kill_of_a_time_without_the_server_is_told_and_those_of_others_stay() {
    let Some(mut ground) = Ground::server() else { return };
    let dirs = [(); 2].map(|()| TempDir::new().unwrap());
    let (one, _) = replica(&ground, &dirs[0]).await;
    let (other, _) = replica(&ground, &dirs[1]).await;
    one.save(vec![kill("pay"), kill("cart")], vec![]).await.unwrap();
    other.save(vec![kill("search")], vec![]).await.unwrap();

    ground.server.as_mut().unwrap().kill();
    until(&one, |health| !health.healthy).await;
    let saved = one.save(vec![kill("login")], vec![audit("kill")]).await;
    assert!(matches!(saved, Err(StoreError::Unhealthy(_))), "{saved:?}");
    assert!(one.save_or_forget(vec![kill("never")], vec![]).await.is_err(), "what must be on record is not");
    assert!(!one.record_divergence(divergence("lost", "pay", 1), KEEP) || one.health_now().why.is_some());
    until(&other, |health| !health.healthy).await;
    ground.server.as_mut().unwrap().again();

    until(&one, |health| health.healthy).await;
    until(&other, |health| health.healthy).await;
    // Lifted by one of them, and not brought back by the other, which still knew it.
    let lifted = Change::Kill("cart".parse().unwrap(), KillSource::Api, None);
    other.save_or_forget(vec![lifted], vec![]).await.unwrap();
    assert_eq!(scopes(ground.server.as_ref().unwrap()), "login pay search");
    let entries = one.audit(Listing { limit: 10, ..Listing::default() }).await.unwrap();
    assert_eq!(entries.first().map(|entry| entry.what.as_str()), Some("kill"));
    one.close().await;
    other.close().await;
    let (store, loaded) = replica(&ground, &dirs[0]).await;
    assert_eq!(killed(&loaded), ["login", "pay", "search"]);
    store.close().await;
}

#[tokio::test]
async fn a_start_without_the_server_knows_the_kills_and_hears_the_rest_later() {
    let Some(mut ground) = Ground::server() else { return };
    let dirs = [(); 2].map(|()| TempDir::new().unwrap());
    let (store, _) = replica(&ground, &dirs[0]).await;
    store.save(vec![kill("pay")], vec![]).await.unwrap();
    store.close().await;
    let (other, _) = replica(&ground, &dirs[1]).await;
    other.save(vec![kill("search"), Change::Move(name("cart"), Some(lowered("1%")))], vec![]).await.unwrap();
    other.close().await;
    ground.server.as_mut().unwrap().kill();

    let url_file = ground.server.as_ref().unwrap().url_file(dirs[0].path());
    let (store, mut loaded) = Store::open_server(dirs[0].path(), &url_file, limits()).await;
    assert_eq!(killed(&loaded), ["pay"], "by the copy");
    assert!(!store.health_now().healthy);
    assert!(store.save(vec![kill("login")], vec![]).await.is_err());
    store.close().await;
    // Once more, so that what was killed meanwhile has to outlive an end, too.
    let (store, again) = Store::open_server(dirs[0].path(), &url_file, limits()).await;
    assert_eq!(killed(&again), ["login", "pay"]);
    loaded = again;
    ground.server.as_mut().unwrap().again();

    let late = loaded.late.take().unwrap().await.unwrap();
    let told: Vec<&str> = late.runtime.kills().map(|kill| kill.scope.as_str()).collect();
    assert_eq!((told, late.runtime.moves().get("cart")), (vec!["login", "pay", "search"], Some(&lowered("1%"))));
    until(&store, |health| health.healthy).await;
    assert_eq!(scopes(ground.server.as_ref().unwrap()), "login pay search");
    store.close().await;
}

#[tokio::test]
async fn a_database_that_was_made_anew_learns_what_is_in_force() {
    let Some(ground) = Ground::server() else { return };
    let server = ground.server.as_ref().unwrap();
    let (store, _) = ground.open(limits()).await;
    store.save(vec![kill("pay"), Change::Move(name("cart"), Some(lowered("1%")))], vec![]).await.unwrap();
    server.sql("DROP SCHEMA strangler CASCADE");
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'strangler'");
    eventually(async || server.sql("SELECT to_regclass('strangler.kills')").contains("kills").then_some(())).await;
    until(&store, |health| health.healthy).await;
    eventually(async || (scopes(server) == "pay").then_some(())).await;
    store.close().await;
    let (store, loaded) = ground.open(limits()).await;
    assert_eq!((killed(&loaded), loaded.runtime.moves().get("cart")), (vec!["pay"], Some(&lowered("1%"))));
    store.close().await;
}

#[tokio::test]
async fn moving_from_a_file_to_a_database_takes_what_is_in_force_along() {
    let Some(ground) = Ground::server() else { return };
    let (store, _) = Store::open(ground.dir.path(), limits()).await;
    store.save(vec![kill("pay")], vec![]).await.unwrap();
    store.close().await;
    let (store, loaded) = ground.open(limits()).await;
    assert_eq!(killed(&loaded), ["pay"]);
    store.close().await;
    assert_eq!(scopes(ground.server.as_ref().unwrap()), "pay");
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let Some(ground) = Ground::server() else { return };
    let server = ground.server.as_ref().unwrap();
    let (store, _) = ground.open(limits()).await;
    store.save(vec![kill("pay")], vec![]).await.unwrap();
    store.close().await;
    server.sql("UPDATE strangler.meta SET value = '99' WHERE key = 'version'");
    let url_file = server.url_file(ground.dir.path());
    let (store, loaded) = Store::open_server(ground.dir.path(), &url_file, limits()).await;
    until(&store, |health| health.why.as_ref().is_some_and(|why| why.contains("newer version"))).await;
    assert_eq!(killed(&loaded), ["pay"], "by the copy");
    store.close().await;
}

#[tokio::test]
async fn a_server_that_is_slow_or_writes_nothing_is_told_and_over_when_it_is() {
    let Some(ground) = Ground::server() else { return };
    let server = ground.server.as_ref().unwrap();
    let (store, _) = ground.open(limits()).await;
    let sleep = "BEGIN; LOCK TABLE strangler.kills IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
    let mut locked = server.sql_beside(sleep);
    let is_locked =
        "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'strangler.kills'::regclass";
    eventually(async || (server.sql(is_locked) == "1").then_some(())).await;
    let saved = store.save(vec![kill("pay")], vec![]).await;
    assert!(saved.is_err());
    assert!(!store.health_now().healthy);
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()");
    let _ = locked.wait();
    until(&store, |health| health.healthy).await;
    eventually(async || (scopes(server) == "pay").then_some(())).await;

    // As a standby, or a full disk: it reads and does not write.
    server.sql("ALTER DATABASE shop SET default_transaction_read_only = on");
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'strangler'");
    until(&store, |health| health.why.as_ref().is_some_and(|why| why.contains("read-only"))).await;
    assert!(store.save(vec![kill("cart")], vec![]).await.is_err());
    server.sql("BEGIN READ WRITE; ALTER DATABASE shop SET default_transaction_read_only = off; COMMIT");
    until(&store, |health| health.healthy).await;
    eventually(async || (scopes(server) == "cart pay").then_some(())).await;
    store.close().await;
}

#[tokio::test]
async fn rows_that_make_no_sense_change_nothing() {
    let Some(ground) = Ground::server() else { return };
    let server = ground.server.as_ref().unwrap();
    let (store, _) = ground.open(limits()).await;
    store.save(vec![kill("pay")], vec![]).await.unwrap();
    store.close().await;
    server.sql("INSERT INTO strangler.kills VALUES ('a b', 'nobody', 7, '', -1, '')");
    let url_file = server.url_file(ground.dir.path());
    let (store, loaded) = Store::open_server(ground.dir.path(), &url_file, limits()).await;
    until(&store, |health| health.why.as_ref().is_some_and(|why| why.contains("makes no sense"))).await;
    assert_eq!(killed(&loaded), ["pay"], "by the copy");
    server.sql("DELETE FROM strangler.kills WHERE source = 'nobody'");
    until(&store, |health| health.healthy).await;
    store.close().await;
}

/// Opens a store at an address that will not do, and answers what it says of it.
async fn told_of(dir: &Path, url: &str, why: &str) -> String {
    let url_file = dir.join("store-url");
    std::fs::write(&url_file, url).unwrap();
    let (store, _) = Store::open_server(dir, &url_file, limits()).await;
    let health = until(&store, |health| health.why.as_ref().is_some_and(|told| told.contains(why))).await;
    let saved = store.save(vec![kill("pay")], vec![]).await.unwrap_err();
    store.close().await;
    format!("{health:?} {saved} {saved:?}")
}

#[tokio::test]
async fn an_address_that_will_not_do_is_told_without_its_password() {
    let dir = TempDir::new().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let babbling = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (silent_port, babbling_port) = (port(&silent), port(&babbling));
    std::thread::spawn(move || {
        for stream in babbling.incoming().map_while(std::result::Result::ok) {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let closed = { port(&TcpListener::bind("127.0.0.1:0").unwrap()) };
    for (place, why) in [
        (format!("127.0.0.1:{closed}/shop"), "refused"),
        (format!("127.0.0.1:{silent_port}/shop"), "did not answer in time"),
        (format!("127.0.0.1:{babbling_port}/shop"), "cannot reach PostgreSQL at"),
        ("name.invalid/shop".to_owned(), "cannot reach PostgreSQL at name.invalid:5432"),
        ("127.0.0.1:port/shop".to_owned(), "has no meaning"),
        (format!("127.0.0.1/{PASSWORD}@"), "written as %"),
    ] {
        let told = told_of(dir.path(), &format!("postgres://app:{PASSWORD}@{place}"), why).await;
        assert!(!told.contains(PASSWORD), "{told}");
    }
    let (store, _) = Store::open_server(dir.path(), &dir.path().join("nowhere"), limits()).await;
    until(&store, |health| health.why.as_ref().is_some_and(|told| told.contains("cannot read"))).await;
    store.close().await;
}

#[tokio::test]
async fn another_password_is_taken_as_soon_as_it_is_in_the_file() {
    let Some(ground) = Ground::server() else { return };
    let server = ground.server.as_ref().unwrap();
    let url_file = ground.dir.path().join("store-url");
    std::fs::write(&url_file, server.url().replace(PASSWORD, "an-old-one")).unwrap();
    let (store, _) = Store::open_server(ground.dir.path(), &url_file, limits()).await;
    let why = |health: &StoreHealth| health.why.as_ref().is_some_and(|told| told.contains("password authentication"));
    let told = until(&store, why).await;
    assert!(!format!("{told:?}").contains("an-old-one"), "{told:?}");
    server.url_file(ground.dir.path());
    until(&store, |health| health.healthy).await;
    store.close().await;
}
