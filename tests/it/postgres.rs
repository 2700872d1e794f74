//! The built binary with `store: {url_file}`: a real server that comes, goes and is not there at all, while users are served.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use serde_json::Value;

use crate::life::upgrade;
use crate::support::backend::Backend;
use crate::support::origin;
use crate::support::postgres::{PASSWORD, Postgres};
use crate::support::proxy::{PATIENCE, Plan, Proxy};
use crate::support::secure::Authority;
use crate::support::traffic::{Kind, Plan as Requests};

const HEALTHY: &str = r#"strangler_store_healthy{store="postgres"}"#;
const COMPARED: &str = "{name: total, match: '/total/{id}', extracted: extracted, weight: 0%, shadow: {max_rps: 10000}, \
                        compare: {a_a: {mode: never}, recheck: {times: 0}}}";
const MOVED: &str = "{name: r, match: /r, extracted: extracted, weight: 100%}";

/// Sides that answer all of `/total` differently, and nothing else.
async fn sides() -> (Backend, Backend) {
    let json = |text: &str| {
        Response::builder().header("content-type", "application/json").body(text.to_owned().into()).unwrap()
    };
    let legacy = Backend::with(move |_| -> Response<Bytes> { json(r#"{"total": 1}"#) }).await;
    (legacy, Backend::with(move |_| -> Response<Bytes> { json(r#"{"total": 2}"#) }).await)
}

/// A proxy whose store is at this address, which stands in a file beside its `strangler.yaml`.
fn plan(legacy: &Backend, extracted: &Backend, url: &str) -> Plan {
    let plan = Proxy::between(legacy, extracted).route(COMPARED).route(MOVED);
    std::fs::write(plan.routes_file().with_file_name("store-url"), url).unwrap();
    plan.config("store: {url_file: store-url}\n")
}

async fn becomes(proxy: &Proxy, sample: &str, expect: f64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let value = proxy.metric(sample).await;
        if (value - expect).abs() < 0.5 {
            return;
        }
        assert!(Instant::now() < until, "{sample} is {value}, not {expect}: {}", status(proxy).await["store"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn status(proxy: &Proxy) -> Value {
    serde_json::from_str(&proxy.admin(Method::GET, "/api/v1/status", "").await.body).unwrap()
}

async fn listed(proxy: &Proxy, least: usize) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = proxy.admin(Method::GET, "/api/v1/divergences?route=total&limit=500", "").await;
        let found: Value = serde_json::from_str(&answer.body).unwrap();
        if found["divergences"].as_array().is_some_and(|all| all.len() >= least) {
            return found;
        }
        assert!(Instant::now() < until, "{least} divergences were never listed: {found}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// All that the process says to anybody.
async fn said(proxy: &Proxy) -> String {
    let mut said = proxy.log_so_far();
    for target in ["/metrics", "/readyz", "/api/v1/status", "/api/v1/divergences", "/api/v1/audit"] {
        said += &proxy.admin(Method::GET, target, "").await.body;
    }
    said
}

async fn kill(proxy: &Proxy, route: &str) -> String {
    let killed = proxy.admin(Method::POST, &format!("/api/v1/routes/{route}/kill"), r#"{"reason": "test"}"#).await;
    assert_eq!(killed.status, 200, "{}", killed.body);
    killed.body
}

#[tokio::test]
async fn what_differs_and_who_did_what_is_kept_and_a_kill_outlives_the_state_directory() {
    let Some(server) = Postgres::start() else { return };
    let (legacy, extracted) = sides().await;
    let proxy = plan(&legacy, &extracted, &server.url()).start().await;
    becomes(&proxy, HEALTHY, 1.0).await;
    for id in 0..5 {
        assert_eq!(proxy.get(&format!("/total/{id}")).await.status, 200);
    }
    let found = listed(&proxy, 1).await;
    assert_eq!(found["causes"][0]["route"], "total", "{found}");
    assert!(kill(&proxy, "r").await.contains(r#""stored":true"#));
    let audit = proxy.admin(Method::GET, "/api/v1/audit", "").await.body;
    assert!(audit.contains(r#""what":"kill""#), "{audit}");
    assert_eq!(server.sql("SELECT scope, source FROM strangler.kills"), "r|api");
    assert_ne!(server.sql("SELECT count(*) FROM strangler.divergences"), "0");
    let everything = said(&proxy).await;
    assert!(!everything.contains(PASSWORD), "{everything}");
    proxy.signal("KILL");

    // Another machine, with a state directory of its own.
    let other = plan(&legacy, &extracted, &server.url()).start().await;
    assert_eq!(other.get("/r").await.body, r#"{"total": 1}"#, "killed: legacy answers");
    becomes(&other, HEALTHY, 1.0).await;
    becomes(&other, r#"strangler_route_killed{route="r"}"#, 1.0).await;
    assert!(listed(&other, 1).await["divergences"].is_array());
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_costs_no_request_and_is_used_again_when_it_is_back() {
    let Some(mut server) = Postgres::start() else { return };
    let (legacy, extracted) = (origin::start().await, sides().await.1);
    let proxy = plan(&legacy, &extracted, &server.url()).start().await;
    kill(&proxy, "r").await;
    becomes(&proxy, HEALTHY, 1.0).await;
    let load = Requests::new(Kind::Kept, proxy.address, 8, 200).start();
    let differing = async |count: u32| {
        for id in 0..count {
            assert_eq!(proxy.get(&format!("/total/{id}")).await.status, 200);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    differing(60).await;
    listed(&proxy, 1).await;

    server.kill();
    let killed_at = Instant::now();
    becomes(&proxy, HEALTHY, 0.0).await;
    let told_after = killed_at.elapsed();
    differing(60).await;
    let killed = kill(&proxy, "total").await;
    assert!(killed.contains(r#""stored":false"#), "{killed}");
    let dropped = status(&proxy).await["divergences_dropped"].as_u64().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.again();
    let back_at = Instant::now();
    becomes(&proxy, HEALTHY, 1.0).await;
    let back_after = back_at.elapsed();
    tokio::time::sleep(Duration::from_millis(500)).await;

    let tally = load.stop().await;
    eprintln!(
        "store killed under load: {} good, {} failed, p99 {:.1} ms; told after {told_after:?}, used again after {back_after:?}, {dropped} divergences dropped",
        tally.good,
        tally.failed,
        tally.within_ms(990)
    );
    assert_eq!((tally.failed, tally.good > 200), (0, true), "{:?}", tally.whys);
    assert!(dropped > 0, "what was not stored is counted");
    assert_eq!(server.sql("SELECT scope FROM strangler.kills ORDER BY scope").replace('\n', " "), "r total");
    let everything = said(&proxy).await;
    assert!(!everything.contains(PASSWORD), "{everything}");
}

#[tokio::test]
async fn a_database_that_cannot_be_had_holds_up_no_start_and_costs_no_request() {
    let (legacy, extracted) = sides().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Postgres::start();
    let mut addresses = vec![
        ("refused", format!("postgres://app:{PASSWORD}@127.0.0.1:{closed}/shop"), "refused"),
        ("silent", format!("postgres://app:{PASSWORD}@{}/shop", silent.local_addr().unwrap()), "in time"),
        ("no route", format!("postgres://app:{PASSWORD}@192.0.2.1/shop"), "192.0.2.1"),
        ("no name", format!("postgres://app:{PASSWORD}@name.invalid/shop"), "name.invalid"),
        ("no address", format!("{PASSWORD}, not an address"), "does not hold the address"),
    ];
    if let Some(server) = &server {
        let wrong = server.url().replace(PASSWORD, &format!("{PASSWORD}-but-wrong"));
        addresses.push(("wrong password", wrong, "password authentication failed"));
    }
    let begun = Instant::now();
    drop(Proxy::between(&legacy, &extracted).route(MOVED).start().await);
    let plain = begun.elapsed();
    for (what, url, why) in addresses {
        let begun = Instant::now();
        let proxy = plan(&legacy, &extracted, &url).start().await;
        let started = begun.elapsed();
        assert_eq!(proxy.get("/r").await.status, 200);
        let answered = begun.elapsed();
        let until = Instant::now() + PATIENCE;
        while !status(&proxy).await["store"]["why"].as_str().is_some_and(|told| told.contains(why)) {
            assert!(Instant::now() < until, "{what}: {}", status(&proxy).await["store"]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        becomes(&proxy, HEALTHY, 0.0).await;
        eprintln!("{what}: started after {started:?} ({plain:?} without), first answer after {answered:?}");
        let killed = kill(&proxy, "r").await;
        assert!(killed.contains(r#""stored":false"#), "{killed}");
        assert_eq!(proxy.get("/r").await.body, r#"{"total": 1}"#);
        let raised = r#"{"weight": "1%", "reason": "test"}"#;
        let refused = proxy.admin(Method::POST, "/api/v1/routes/total/weight", raised).await;
        assert!(refused.status >= 400, "a raise that a restart would forget: {}", refused.body);
        let everything = said(&proxy).await;
        assert!(!everything.contains(PASSWORD), "{what}: {everything}");
    }
}

#[tokio::test]
async fn an_upgrade_with_both_processes_on_one_database_loses_no_kill() {
    let Some(server) = Postgres::start() else { return };
    let (legacy, extracted) = sides().await;
    let proxy = plan(&legacy, &extracted, &server.url()).start().await;
    becomes(&proxy, HEALTHY, 1.0).await;
    kill(&proxy, "r").await;
    let done = upgrade(&proxy).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(proxy.get("/r").await.body, r#"{"total": 1}"#);
    becomes(&proxy, HEALTHY, 1.0).await;
    kill(&proxy, "total").await;
    let lifted = proxy.admin(Method::DELETE, "/api/v1/routes/r/kill", r#"{"reason": "test"}"#).await;
    let lifted = if lifted.status == 405 || lifted.status == 404 {
        proxy.admin(Method::POST, "/api/v1/routes/r/unkill", r#"{"reason": "test"}"#).await
    } else {
        lifted
    };
    assert_eq!(lifted.status, 200, "{}", lifted.body);
    let again = upgrade(&proxy).await;
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(server.sql("SELECT scope FROM strangler.kills"), "total");
    assert_eq!(proxy.get("/r").await.body, r#"{"total": 2}"#);
    becomes(&proxy, r#"strangler_route_killed{route="total"}"#, 1.0).await;
}

#[tokio::test]
async fn a_database_is_spoken_to_over_tls_and_refused_when_it_is_another() {
    let Some(mut server) = Postgres::start() else { return };
    let (legacy, extracted) = sides().await;
    let (ours, others) = (Authority::new(), Authority::new());
    let identity = ours.identity(&["localhost"]);
    for (file, text) in [("server.crt", &identity.cert), ("server.key", &identity.key)] {
        let lines =
            format!("SELECT unnest(string_to_array('{}', ' '))", text.trim().replace(' ', "_").replace('\n', " "));
        server.sql(&format!("COPY ({lines}) TO PROGRAM 'umask 077; tr _ \" \" >{file}'"));
    }
    server.sql("ALTER SYSTEM SET ssl = on");
    server.kill();
    server.again();
    for (authority, host, is_good) in
        [(&ours, "localhost", true), (&others, "localhost", false), (&ours, "127.0.0.1", false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, &authority.pem).unwrap();
        let url = server.url().replace("127.0.0.1", host);
        let url = format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display());
        let proxy = plan(&legacy, &extracted, &url).start().await;
        assert_eq!(proxy.get("/r").await.status, 200);
        if is_good {
            becomes(&proxy, HEALTHY, 1.0).await;
            let is_tls = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'strangler'";
            assert_eq!(server.sql(is_tls), "t");
        } else {
            let until = Instant::now() + PATIENCE;
            while !status(&proxy).await["store"]["why"].as_str().is_some_and(|told| told.contains("certificate")) {
                assert!(Instant::now() < until, "{}", status(&proxy).await["store"]);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            becomes(&proxy, HEALTHY, 0.0).await;
        }
    }
}

#[test]
fn check_reads_the_file_with_the_address_and_tells_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("strangler.yaml");
    std::fs::write(&config, "store: {url_file: store-url}\n").unwrap();
    let check = || {
        let output = crate::support::proxy::strangler().arg("check").arg("--config").arg(&config).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (is_good, said) = check();
    assert!(!is_good && said.contains("cannot read the database's address"), "{said}");
    std::fs::write(dir.path().join("store-url"), format!("postgres://app:{PASSWORD}/3@db/shop")).unwrap();
    let (is_good, said) = check();
    assert!(!is_good && said.contains("strangler.yaml:1:19") && !said.contains(PASSWORD), "{said}");
    std::fs::write(dir.path().join("store-url"), format!("postgres://app:{PASSWORD}@db/shop\n")).unwrap();
    let (is_good, said) = check();
    assert!(is_good && !said.contains(PASSWORD), "{said}");
}
