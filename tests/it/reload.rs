//! Reloads: seen soon, under load, whole; a bad file changes nothing.

use std::time::{Duration, Instant};

use http::Method;

use crate::support::backend::Backend;
use crate::support::invalid_routes::{self, Invalid};
use crate::support::load::Load;
use crate::support::proxy::{PATIENCE, Plan, Proxy, strangler};

fn routes(legacy: &Backend, extracted: &Backend, tag: &str) -> String {
    format!(
        "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: [\"{}\"]}}}}\nroutes:\n  - {{name: r, match: '/r', extracted: extracted, weight: 50%, response_headers: {{set: {{x-tag: {tag}}}}}}}\n",
        legacy.url(),
        extracted.url()
    )
}

/// `RELOADS=200` asks for more than the usual.
fn reloads() -> usize {
    std::env::var("RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

async fn tag(proxy: &Proxy) -> String {
    proxy.get("/r").await.header("x-tag").unwrap_or_default().to_owned()
}

#[tokio::test]
async fn reloads_under_load_fail_no_request() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Plan::file(&routes(&legacy, &extracted, "v0")).start().await;
    let load = Load::start(proxy.address, "/r", 8, |status, body| status == 200 && !body.is_empty());
    let mut waits = Vec::new();

    for number in 1..=reloads() {
        let written = Instant::now();
        let wanted = format!("v{number}");
        proxy.write_routes(&routes(&legacy, &extracted, &wanted));
        while tag(&proxy).await != wanted {
            assert!(written.elapsed() < PATIENCE, "{wanted} was never seen");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        waits.push(written.elapsed());
        tokio::time::sleep(Duration::from_millis(100).saturating_sub(written.elapsed())).await;
    }

    let (done, failed) = load.stop().await;
    waits.sort_unstable();
    eprintln!(
        "{} reloads, {done} requests, {failed} failed; seen after {:?} at most, {:?} in the median",
        waits.len(),
        waits[waits.len() - 1],
        waits[waits.len() / 2]
    );
    assert!(done > 0);
    assert_eq!(failed, 0);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_told() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Plan::file(&routes(&legacy, &extracted, "good")).start().await;
    let load = Load::start(proxy.address, "/r", 4, |status, _| status == 200);

    let mut refused = 0;
    for Invalid { what, bytes } in invalid_routes::all(&legacy.url()) {
        std::fs::write(proxy.routes_file().with_extension("new"), &bytes).unwrap();
        std::fs::rename(proxy.routes_file().with_extension("new"), proxy.routes_file()).unwrap();
        let answer =
            proxy.admin(Method::POST, "/api/v1/config/apply", r#"{"accept_removals": false, "by": "test"}"#).await;
        assert_ne!(answer.status, 200, "{what}: {}", answer.body);
        assert_eq!(tag(&proxy).await, "good", "{what}");
        refused += 1;
    }
    eprintln!("{refused} invalid files, all refused");

    assert!(refused >= 50, "{refused}");
    assert_eq!(proxy.count("strangler_config_last_reload_successful").await, 0);
    let ready = proxy.admin(Method::GET, "/readyz", "").await;
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("config_refused"), "{}", ready.body);
    let (_, failed) = load.stop().await;
    assert_eq!(failed, 0);

    proxy.write_routes(&routes(&legacy, &extracted, "mended"));
    proxy.wait_for_metric("strangler_config_last_reload_successful", 1.0).await;
    assert_eq!(tag(&proxy).await, "mended");
}

/// YAML cut at a line end is still YAML: no cut of the shipped file may move a user unnoticed.
#[tokio::test]
async fn a_file_cut_at_any_line_moves_nobody_unnoticed() {
    let shipped = include_str!("../../routes.yaml");
    let proxy = Plan::file(shipped).start().await;
    let carried = async || {
        let status = proxy.admin(Method::GET, "/api/v1/status", "").await.body;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let routes = status["routes"].as_array().unwrap().clone();
        let mut carried: Vec<String> = routes
            .iter()
            .filter(|route| route["weight_in_force"] != "0%")
            .map(|route| format!("{} {} {}", route["name"], route["weight_in_force"], route["sticky_on"]))
            .collect();
        carried.sort();
        carried
    };
    let before = carried().await;
    assert!(before.len() >= 2, "{before:?}");

    let ends = shipped.match_indices('\n').map(|(at, _)| at + 1);
    let (mut refused, mut taken) = (0, 0);
    for end in ends.filter(|end| *end < shipped.len()) {
        std::fs::write(proxy.routes_file(), &shipped[..end]).unwrap();
        let answer =
            proxy.admin(Method::POST, "/api/v1/config/apply", r#"{"accept_removals": false, "by": "test"}"#).await;
        assert_eq!(carried().await, before, "cut at byte {end}: {}", answer.body);
        if answer.status == 200 { taken += 1 } else { refused += 1 }
    }
    eprintln!("{refused} cuts refused, {taken} taken because nobody was moved");
    assert!(refused > taken);
}

#[tokio::test]
async fn a_route_that_carried_weight_goes_only_when_it_is_said() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Plan::file(&routes(&legacy, &extracted, "here")).start().await;
    let without = format!("version: 1\nlegacy: {}\n", legacy.url());
    let apply = async |accept: &str| {
        let body = format!(r#"{{"accept_removals": {accept}, "by": "test"}}"#);
        proxy.admin(Method::POST, "/api/v1/config/apply", &body).await
    };

    proxy.write_routes(&without);
    let refused = apply("false").await;
    assert_ne!(refused.status, 200);
    assert!(refused.body.contains("removed"), "{}", refused.body);
    assert_eq!(tag(&proxy).await, "here");

    assert_eq!(apply("true").await.status, 200);
    assert_eq!(proxy.get("/r").await.body, "legacy");

    proxy.write_routes(&routes(&legacy, &extracted, "again"));
    assert_eq!(apply("false").await.status, 200);
    proxy.write_routes(&format!("{without}removed: [r]\n"));
    assert_eq!(apply("false").await.status, 200);
}

#[tokio::test]
async fn a_bad_file_at_start_is_survived_with_the_last_good_one_and_told() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let mut first = Plan::file(&routes(&legacy, &extracted, "kept")).start().await;
    let kept = first.state_dir().join("routes.last-good.yaml");
    let until = Instant::now() + PATIENCE;
    while !kept.exists() {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first.signal("TERM");
    assert!(first.wait().success());

    let second = Plan::file("");
    std::fs::write(second.routes_file(), "version: 1\nlegacy: nowhere\n").unwrap();
    std::fs::create_dir_all(second.state_dir()).unwrap();
    std::fs::copy(&kept, second.state_dir().join("routes.last-good.yaml")).unwrap();
    let strict = second.command().arg("--strict").output().unwrap();
    assert_eq!(strict.status.code(), Some(78));
    let second = second.start_as_is();

    assert_eq!(tag(&second).await, "kept");
    assert_eq!(second.count("strangler_config_stale").await, 1);
}

#[tokio::test]
async fn a_route_that_owns_its_data_does_not_go_back_by_a_restart() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let cut = format!("version: 1\nlegacy: {}\n", legacy.url());
    let route = format!(
        "routes:\n  - {{name: owned, match: /owned, extracted: \"{}\", weight: 100%, data: extracted}}\n",
        extracted.url()
    );
    let plan = Plan::file("");
    std::fs::write(plan.routes_file(), &cut).unwrap();
    std::fs::create_dir_all(plan.state_dir()).unwrap();
    std::fs::write(plan.state_dir().join("routes.last-good.yaml"), cut + &route).unwrap();
    let proxy = plan.start_as_is();

    assert_eq!(proxy.get("/owned").await.body, "extracted");
    assert_eq!(proxy.count("strangler_config_stale").await, 1);

    // Said in words it goes, and the file is in force.
    let said = proxy.admin(Method::POST, "/api/v1/config/apply", r#"{"accept_removals": true, "by": "test"}"#).await;
    assert_eq!(said.status, 200, "{}", said.body);
    assert_eq!(proxy.get("/owned").await.body, "legacy");
    assert_eq!(proxy.count("strangler_config_stale").await, 0);
}

#[test]
fn nothing_to_start_from_is_exit_78_with_every_fault() {
    let plan = Plan::file("");
    let text = "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {name: A, match: /a, extracted: b, weight: 101%}\n  - {name: b, mach: /b}\n";
    std::fs::write(plan.routes_file(), text).unwrap();

    let output = plan.command().output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    for part in [":4:", ":5:", "101%", "did you mean `match`", "^"] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
}

#[test]
fn check_says_all_that_is_wrong_and_exits_78() {
    let dir = tempfile::tempdir().unwrap();
    for Invalid { what, bytes } in invalid_routes::all("http://127.0.0.1:1") {
        let file = dir.path().join("routes.yaml");
        std::fs::write(&file, &bytes).unwrap();
        let output = strangler().arg("check").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{what}");
    }
    let shipped = strangler().args(["check", concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml")]).output().unwrap();
    assert_eq!(shipped.status.code(), Some(0), "{}", String::from_utf8_lossy(&shipped.stdout));
}
