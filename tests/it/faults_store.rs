//! The store is full, slow, corrupt or cut off in the middle, and the traffic goes on.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::backend::Backend;
use crate::support::load::Load;
use crate::support::proxy::{PATIENCE, Plan, Proxy};

const COMPARED: &str = "{name: total, match: '/total/{id}', extracted: extracted, weight: 0%, \
                        shadow: {max_rps: 10000}, compare: {keep: {values: [/a, /b]}}}";

/// Sides whose answers differ, so that there is something to store.
async fn different() -> (Backend, Backend) {
    let json =
        |body: String| Response::builder().header("content-type", "application/json").body(Bytes::from(body)).unwrap();
    let legacy = Backend::with(move |_| json(r#"{"a": 1, "b": 1}"#.to_owned())).await;
    let extracted = Backend::with(move |seen| {
        let id: u64 = seen.target.rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or(0);
        // Of many kinds, so that no bound on one kind ends the storing.
        json(format!("{{\"a\": {id}, \"b\": 2, \"k{}\": \"{}\"}}", id % 97, "x".repeat(2_000)))
    })
    .await;
    (legacy, extracted)
}

async fn ask(proxy: &Proxy, ids: std::ops::Range<u32>) {
    for id in ids {
        assert_eq!(proxy.get(&format!("/total/{id}")).await.status, 200, "{id}");
    }
}

async fn healthy(proxy: &Proxy, expect: f64) {
    let mut value = f64::NAN;
    for _ in 0..PATIENCE.as_millis() / 50 {
        value = proxy.metric(r#"strangler_store_healthy{store="sqlite"}"#).await;
        if (value - expect).abs() < 0.5 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("strangler_store_healthy is {value}, not {expect}");
}

/// How large a file of the process may be from now on; its own limit, as a full disk would be.
pub(crate) fn bound_files(proxy: &Proxy, most: Option<u64>) {
    let pid = i32::try_from(proxy.pid()).ok().and_then(rustix::process::Pid::from_raw);
    let own = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    let limit = rustix::process::Rlimit { current: most.or(own.maximum), ..own };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
}

/// The binary, started so that a file that may not grow is an error and not its end.
pub(crate) fn ignoring_the_signal(dir: &Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let script = dir.join("strangler.sh");
    let text = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_strangler"));
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[tokio::test]
async fn a_full_disk_costs_no_request_is_told_and_is_over_when_there_is_room() {
    let (legacy, extracted) = different().await;
    let plan = Proxy::between(&legacy, &extracted).route(COMPARED);
    let script = ignoring_the_signal(plan.routes_file().parent().unwrap());
    let proxy = plan.program(script).start().await;
    ask(&proxy, 0..20).await;
    healthy(&proxy, 1.0).await;

    bound_files(&proxy, Some(16 << 10));
    let load = Load::start(proxy.address, "/total/1", 2, |status, _| status == 200);
    ask(&proxy, 20..60).await;
    healthy(&proxy, 0.0).await;
    let killed = proxy.admin(Method::POST, "/api/v1/routes/total/kill", r#"{"reason": "test"}"#).await;
    assert_eq!(killed.status, 200, "what makes it safer is never refused: {}", killed.body);
    assert_eq!(proxy.get("/total/1").await.status, 200);
    let status = proxy.admin(Method::GET, "/api/v1/status", "").await.body;
    assert!(status.contains("the store failed"), "{status}");

    bound_files(&proxy, None);
    healthy(&proxy, 1.0).await;
    let (done, failed) = load.stop().await;
    assert!(done > 20 && failed == 0, "{done} done, {failed} failed");
}

#[tokio::test]
async fn a_store_that_is_garbage_is_moved_aside_and_the_start_goes_on() {
    let (legacy, extracted) = different().await;
    for garbage in [&b"this is no database, however long it is. "[..], b"SQLite format 3\0\x10\0\x01\x01\0 cut off"] {
        let plan = Proxy::between(&legacy, &extracted).route(COMPARED);
        std::fs::create_dir_all(plan.state_dir()).unwrap();
        std::fs::write(plan.state_dir().join("strangler.db"), garbage.repeat(300)).unwrap();
        let proxy = plan.start().await;

        ask(&proxy, 0..5).await;

        healthy(&proxy, 1.0).await;
        let status = proxy.admin(Method::GET, "/api/v1/status", "").await.body;
        assert!(status.contains("corrupt"), "{status}");
        let names = std::fs::read_dir(proxy.state_dir()).unwrap();
        let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().any(|name| name.starts_with("strangler.db.corrupt-")), "{names:?}");
    }
}

#[tokio::test]
async fn a_store_that_stands_still_holds_up_nobody() {
    let (legacy, extracted) = different().await;
    let proxy = Proxy::between(&legacy, &extracted).route(COMPARED).start().await;
    ask(&proxy, 0..5).await;
    healthy(&proxy, 1.0).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(proxy.state_dir().join("strangler.db"));
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();

    let load = Load::start(proxy.address, "/total/1", 2, |status, _| status == 200);
    ask(&proxy, 5..60).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (done, failed) = load.stop().await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();

    assert!(done > 100 && failed == 0, "{done} done, {failed} failed");
    healthy(&proxy, 1.0).await;
    ask(&proxy, 60..65).await;
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_stores_leaves_whole_records_only() {
    let (legacy, extracted) = different().await;
    let mut proxy = Proxy::between(&legacy, &extracted).route(COMPARED).start().await;
    for round in 0..8u32 {
        ask(&proxy, round * 100..round * 100 + 10 + round).await;
        if round == 2 {
            let killed = proxy.admin(Method::POST, "/api/v1/routes/total/kill", r#"{"reason": "test"}"#).await;
            assert_eq!(killed.status, 200, "{}", killed.body);
        }
        proxy.signal("KILL");
        proxy.wait();

        let again = Plan::file(&std::fs::read_to_string(proxy.routes_file()).unwrap());
        std::fs::create_dir_all(again.state_dir()).unwrap();
        for entry in std::fs::read_dir(proxy.state_dir()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), again.state_dir().join(entry.file_name())).unwrap();
        }
        proxy = again.start().await;

        healthy(&proxy, 1.0).await;
        let status = proxy.admin(Method::GET, "/api/v1/status", "").await.body;
        assert!(!status.contains("corrupt"), "{round}: {status}");
        let listed = proxy.admin(Method::GET, "/api/v1/divergences?route=total&limit=500", "").await;
        assert_eq!(listed.status, 200, "{round}: {}", listed.body);
        let listed: serde_json::Value = serde_json::from_str(&listed.body).expect("JSON");
        let records = listed["divergences"].as_array().unwrap_or_else(|| panic!("{listed}"));
        assert!(records.iter().all(|record| record["route"] == "total" && record.is_object()), "{round}: {listed}");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!(status.to_string().contains("\"killed\":true"), round >= 2, "{round}: {status}");
    }
}
