//! The rollout of a journey: all of its routes move at once, and the worst verdict wins. And what comes after the last step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use crate::rollout::{PATIENCE, QUICK, cli, plan, route, service, status_says};
use crate::support::backend::Backend;
use crate::support::proxy::{Plan, Proxy};

/// Two routes with a service each, on one journey.
fn checkout(legacy: &Backend, sides: [&Backend; 2], rollout: &str) -> Plan {
    let [cart, pay] = sides;
    let text = format!(
        "version: 1\nlegacy: {}\njourneys: {{checkout: {{sticky_on: ['header:x-user-id'], lease: 0s, together: true, rollout: {rollout}}}}}\nroutes:\n  - {{name: cart, match: 'GET /cart/{{id}}', extracted: {}, journey: checkout, breaker: never}}\n  - {{name: pay, match: 'GET /pay/{{id}}', extracted: {}, journey: checkout, breaker: never, release_header: x-release}}\n",
        legacy.url(),
        cart.url(),
        pay.url()
    );
    Plan::file(&text).argument("--trusted-proxies=127.0.0.0/8")
}

async fn ask(proxy: &Proxy, users: std::ops::Range<u64>, paths: &[&str]) {
    for user in users {
        let (address, name) = (format!("10.2.{}.{}", user >> 8 & 255, user & 255), format!("user-{user}"));
        for path in paths {
            let headers = [("x-user-id", name.as_str()), ("x-forwarded-for", address.as_str())];
            proxy.send(Method::GET, path, &headers, "").await;
        }
    }
}

async fn weights(proxy: &Proxy) -> [String; 2] {
    let mut weights = Vec::new();
    for name in ["cart", "pay"] {
        let answer = proxy.admin(Method::GET, &format!("/api/v1/routes/{name}"), "").await;
        let now: Value = serde_json::from_str(&answer.body).unwrap();
        weights.push(now["weight_in_force"].as_str().unwrap().to_owned());
    }
    weights.try_into().unwrap()
}

/// Lets users come to both until both are there. Looked at one after the other, they are never apart for longer than a moment.
async fn climb(proxy: &Proxy, weight: &str, from: &mut u64) {
    let begun = Instant::now();
    loop {
        ask(proxy, *from..*from + 30, &["/cart/1", "/pay/1"]).await;
        *from += 30;
        let now = weights(proxy).await;
        if now.iter().all(|one| one == weight) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{now:?}");
    }
}

#[tokio::test]
async fn routes_of_a_journey_rise_together_and_one_that_fails_takes_the_others_back() {
    let is_failing = Arc::<AtomicBool>::default();
    let (legacy, cart) = (service(Arc::default()).await, service(Arc::default()).await);
    let pay = service(Arc::clone(&is_failing)).await;
    let proxy = checkout(&legacy, [&cart, &pay], QUICK).start().await;
    let mut users = 1;
    // What only one of them has proven moves none.
    let begun = Instant::now();
    while weights(&proxy).await != ["10%", "10%"] {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ask(&proxy, 1..400, &["/cart/1"]).await;
    users += 400;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(weights(&proxy).await, ["10%", "10%"]);
    status_says(&proxy, "climbs with all of the journey checkout").await;
    status_says(&proxy, "waits for `pay`: ").await;
    climb(&proxy, "50%", &mut users).await;

    is_failing.store(true, Ordering::SeqCst);
    climb(&proxy, "0%", &mut users).await;
    let answer = proxy.admin(Method::GET, "/api/v1/audit?limit=500", "").await.body;
    let audit: Value = serde_json::from_str(&answer).unwrap();
    let back: Vec<&Value> =
        audit["audit"].as_array().unwrap().iter().filter(|entry| entry["what"] == "rollout_back").collect();
    assert_eq!(back.len(), 2, "{answer}");
    assert!(back.iter().all(|entry| entry["reason"].as_str().unwrap().contains("`pay`")), "{back:#?}");
    let (is_well, said) = cli(&proxy, &["resume", "cart", "--reason", "repaired"]);
    assert!(is_well && said.contains("and pay with it"), "{said}");
    is_failing.store(false, Ordering::SeqCst);
    climb(&proxy, "10%", &mut users).await;
}

#[tokio::test]
async fn what_a_person_asks_of_one_route_of_a_journey_all_of_them_do() {
    let (legacy, cart, pay) =
        (service(Arc::default()).await, service(Arc::default()).await, service(Arc::default()).await);
    let approving = QUICK.replace("{steps", "{approve: [50%], four_eyes: true, steps");
    let proxy = checkout(&legacy, [&cart, &pay], &approving).start().await;
    let mut users = 1;
    climb(&proxy, "10%", &mut users).await;
    let asked = async |name: &str, verb: &str, by: &str| {
        let body = format!(r#"{{"reason": "so", "by": "{by}"}}"#);
        proxy.admin(Method::POST, &format!("/api/v1/routes/{name}/rollout/{verb}"), &body).await
    };
    assert_eq!(asked("cart", "hold", "ann").await.status, 200);
    ask(&proxy, users..users + 200, &["/cart/1", "/pay/1"]).await;
    status_says(&proxy, "waits for `resume`: held").await;
    assert_eq!(asked("pay", "resume", "bob").await.status, 200);
    // Whoever has set it by hand at this step does not approve the next one, and neither does who loads its file.
    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();
    proxy.write_routes(&text.replace("min_requests: 5", "min_requests: 6"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    proxy.write_routes(&text);
    let applied = proxy.admin(Method::POST, "/api/v1/config/apply", r#"{"accept_removals": false, "by": "eve"}"#).await;
    assert_eq!(applied.status, 200, "{}", applied.body);
    let mut refused = vec!["ann", "bob"];
    refused.extend(applied.body.contains("\"changed\":true").then_some("eve"));
    for by in refused {
        let answer = asked("cart", "approve", by).await;
        assert!(
            answer.status == 403 && answer.body.contains("somebody else has to approve it"),
            "{by}: {}",
            answer.body
        );
    }
    users += 200;
    assert_eq!(asked("pay", "approve", "dan").await.status, 200);
    climb(&proxy, "50%", &mut users).await;
    let (is_well, said) = cli(&proxy, &["rollback", "pay", "--reason", "wrong totals"]);
    assert!(is_well && said.contains("50% → 0%, and cart with it"), "{said}");
    assert_eq!(weights(&proxy).await, ["0%", "0%"]);
}

#[tokio::test]
async fn a_bake_keeps_a_part_of_users_with_legacy_for_its_time_and_then_none() {
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::default()).await);
    let baking = QUICK.replace("[10%, 50%, 100%]", "[50%, 100%], bake: {for: 4s, holdback: 20%}");
    let proxy = plan(&legacy, &extracted, &baking).start().await;
    let users = crate::rollout::Users::new();
    crate::rollout::climb(&proxy, &users, "80%").await;
    let begun = Instant::now();
    status_says(&proxy, "more of its bake, of 4s").await;
    crate::rollout::climb(&proxy, &users, "100%").await;
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_fails_while_it_bakes_is_sent_back() {
    let is_failing = Arc::<AtomicBool>::default();
    let (legacy, extracted) = (service(Arc::default()).await, service(Arc::clone(&is_failing)).await);
    let baking =
        QUICK.replace("[10%, 50%, 100%]", "[50%, 100%], bake: {for: 1h, holdback: 20%}").replace("50pp", "10pp");
    let proxy = plan(&legacy, &extracted, &baking).start().await;
    let users = crate::rollout::Users::new();
    crate::rollout::climb(&proxy, &users, "80%").await;
    users.ask(&proxy, 400).await;
    is_failing.store(true, Ordering::SeqCst);
    let (all, good) = crate::rollout::climb(&proxy, &users, "0%").await;
    assert_eq!(all, good, "legacy answers for it");
    assert!(!route(&proxy).await["rollout"]["latched"].is_null());
}
