//! What no route covers, as a user is told it.

use http::Method;
use serde_json::Value;

use crate::idempotency::restarted;
use crate::support::backend::Backend;
use crate::support::proxy::{Plan, Proxy, strangler};

fn ask(proxy: &Proxy, arguments: &[&str]) -> (bool, String) {
    let mut command = strangler();
    let admin = format!("http://{}", proxy.admin);
    command.arg("endpoints").args(arguments).args(["--admin", &admin, "--state-dir"]);
    let output = command.arg(proxy.state_dir()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
}

/// Method, path, state and count of each, once so many requests have been learned from.
async fn found(proxy: &Proxy, requests: u64) -> Vec<(String, String, u64)> {
    for _ in 0..200 {
        let answer: Value = serde_json::from_str(&ask(proxy, &["--format", "json"]).1).unwrap();
        let all = answer["endpoints"].as_array().unwrap();
        let of = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
        if answer["requests"].as_u64().unwrap() >= requests {
            let told = all.iter().map(|one| {
                let endpoint = format!("{} {}", of(one, "method"), of(one, "template"));
                (endpoint, of(one, "state"), one["requests"].as_u64().unwrap())
            });
            return told.collect();
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("not learned: {}", ask(proxy, &[]).1);
}

async fn monolith() -> Backend {
    Backend::with(|request| {
        let is_there = !request.target.starts_with("/wp-");
        http::Response::builder().status(if is_there { 200 } else { 404 }).body(bytes::Bytes::new()).unwrap()
    })
    .await
}

fn expected(all: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
    all.iter().map(|(endpoint, state, requests)| ((*endpoint).to_owned(), (*state).to_owned(), *requests)).collect()
}

#[tokio::test]
async fn what_no_route_covers_is_found_as_templates_and_covered_by_what_is_printed() {
    let legacy = monolith().await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: cart, match: 'GET /cart/{id}', extracted: extracted, weight: 0%}")
        .start()
        .await;
    for id in 0..30 {
        proxy.get(&format!("/api/v1/users/{id}?expand=1&token=s3cr3t-{id}")).await;
        proxy.get(&format!("/wp-{id}/login.php")).await;
        proxy.get(&format!("/cart/{id}")).await;
    }
    proxy.post("/api/v1/users", "{}").await;
    let all = found(&proxy, 31).await;
    assert_eq!(all, expected(&[("GET /api/v1/users/{user_id}", "live", 30), ("POST /api/v1/users", "live", 1)]));
    proxy.wait_for_metric("strangler_discovered_templates", 2.0).await;

    let (_, table) = ask(&proxy, &[]);
    assert!(table.contains("/api/v1/users/{user_id}") && table.contains("30 to paths that are not there"), "{table}");
    assert!(!table.contains("s3cr3t") && !ask(&proxy, &["--format", "json"]).1.contains("s3cr3t"));
    let (is_good, refused) = ask(&proxy, &["--cover", "GET /nothing"]);
    assert!(!is_good && refused.contains("strangler endpoints"), "{refused}");

    // What is printed can be put into the file as it is, and covers what it says.
    let (_, route) = ask(&proxy, &["--cover", "GET /api/v1/users/{user_id}"]);
    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    proxy.write_routes(&format!("{}\n{route}", text.trim_end()));
    proxy.wait_for_metric(r#"strangler_config_reloads_total{result="accepted"}"#, 1.0).await;
    proxy.get("/api/v1/users/1").await;
    proxy.wait_for_metric(r#"strangler_requests_total{code="200",route="users-one",side="legacy"}"#, 1.0).await;

    // It is kept.
    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    let proxy = restarted(proxy, &text).await;
    let again = found(&proxy, 31).await;
    assert_eq!(again, all);
}

#[tokio::test]
async fn what_is_declared_and_never_asked_is_named_and_so_is_what_nobody_declared() {
    let legacy = monolith().await;
    let file = |more: &str| format!("version: 1\nlegacy: '{}'\n{more}", legacy.url());
    let proxy = Plan::file(&file("fall_through: {declared: ['GET /users/{id}', 'POST /newsletter']}\n")).start().await;
    for id in 0..3 {
        proxy.get(&format!("/users/{id}")).await;
    }
    proxy.get("/reports/daily.csv").await;
    assert_eq!(
        found(&proxy, 4).await,
        expected(&[
            ("GET /users/{id}", "live", 3),
            ("GET /reports/daily.csv", "undeclared", 1),
            ("POST /newsletter", "never_asked", 0)
        ])
    );
    // Switched off, nothing more is learned.
    proxy.write_routes(&file("fall_through: {discover: false}\n"));
    proxy.wait_for_metric(r#"strangler_config_reloads_total{result="accepted"}"#, 1.0).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for _ in 0..5 {
        assert_eq!(proxy.send(Method::GET, "/another", &[], "").await.status, 200);
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(found(&proxy, 0).await.iter().all(|(endpoint, ..)| endpoint != "GET /another"));
}
