//! Who is on which side: exact shares, for ever, the same on every replica.

use std::collections::BTreeMap;

use http::Method;
use strangler_core::side::Side;
use strangler_core::split::{Bucket, choose_side};

use crate::support::backend::Backend;
use crate::support::load::Client;
use crate::support::proxy::{PATIENCE, Plan, Proxy, strangler};

const USERS: usize = 2_000;
const WORKERS: usize = 8;

/// `SHARE_REQUESTS=100000` asks for more than the usual ten a user.
fn requests() -> usize {
    std::env::var("SHARE_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10 * USERS)
}

fn routes(legacy: &Backend, extracted: &Backend, weight: &str) -> String {
    format!(
        "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: [\"{}\"]}}}}\njourneys: {{j: {{sticky_on: [\"header:x-user-id\"], salt: s}}}}\n\
         routes:\n  - {{name: r, journey: j, match: '/r', extracted: extracted, weight: {weight}}}\n",
        legacy.url(),
        extracted.url()
    )
}

/// Asks for every user in turn until `requests` are done; answers each user's side, and panics when one changes it.
async fn sides(proxy: &Proxy, requests: usize) -> BTreeMap<usize, Side> {
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        let address = proxy.address;
        workers.push(tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut found: BTreeMap<usize, Side> = BTreeMap::new();
            for number in (worker..requests).step_by(WORKERS) {
                let user = number % USERS;
                let (status, body) = client.get("/r", &format!("user-{user}")).await.unwrap();
                assert_eq!(status, 200);
                let side = if &body[..] == b"extracted" { Side::Extracted } else { Side::Legacy };
                assert_eq!(*found.entry(user).or_insert(side), side, "user {user} changed sides");
            }
            found
        }));
    }
    let mut all: BTreeMap<usize, Side> = BTreeMap::new();
    for worker in workers {
        for (user, side) in worker.await.unwrap() {
            assert_eq!(*all.entry(user).or_insert(side), side, "user {user} is on two sides");
        }
    }
    all
}

#[tokio::test]
async fn shares_are_exact_sticky_monotone_and_the_same_on_two_proxies() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let one = Plan::file(&routes(&legacy, &extracted, "5%")).start().await;
    let other = Plan::file(&routes(&legacy, &extracted, "5%")).start().await;

    let at_5 = sides(&one, requests()).await;
    let elsewhere = sides(&other, USERS).await;
    one.write_routes(&routes(&legacy, &extracted, "10%"));
    one.wait_for_metric(r#"strangler_route_weight_ratio{route="r"}"#, 0.1).await;
    let at_10 = sides(&one, USERS).await;

    let on_extracted = at_5.values().filter(|side| **side == Side::Extracted).count();
    eprintln!("{} requests of {USERS} users at 5 %: {on_extracted} users on extracted", requests());
    assert!((70..=130).contains(&on_extracted), "{on_extracted} of {USERS} users at 5 %");
    assert_eq!(at_5, elsewhere);
    let sent_back = at_5.iter().filter(|(user, side)| **side == Side::Extracted && at_10[user] == Side::Legacy).count();
    assert_eq!(sent_back, 0, "from 5 % to 10 %");
    for (user, side) in &at_5 {
        let bucket = Bucket::of("s", format!("user-{user}").as_bytes());
        assert_eq!(*side, choose_side(bucket, "5%".parse().unwrap()), "user {user}");
    }
}

#[tokio::test]
async fn the_own_cookie_keeps_a_browser_on_its_side() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: r, match: '/r', extracted: extracted, weight: 50%}")
        .start()
        .await;
    for _ in 0..20 {
        let first = proxy.get("/r").await;
        let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        for _ in 0..3 {
            let again = proxy.send(Method::GET, "/r", &[("cookie", &cookie)], "").await;
            assert_eq!(again.body, first.body);
            assert_eq!(again.header("set-cookie"), None);
        }
    }
}

#[tokio::test]
async fn a_signed_override_is_obeyed_and_anything_else_is_not() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: r, match: '/r', extracted: extracted, weight: 0%, override: {header: strangler-side}}")
        .start()
        .await;
    let token = |route: &str| {
        let mut command = strangler();
        command.args([
            "override-token",
            "--host",
            "shop.example.com",
            "--route",
            route,
            "--side",
            "extracted",
            "--keys-file",
        ]);
        let output = command.arg(proxy.state_dir().join("keys")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };

    let good = proxy.send(Method::GET, "/r", &[("strangler-side", &token("r"))], "").await;
    let others = proxy.send(Method::GET, "/r", &[("strangler-side", &token("other"))], "").await;
    let plain = proxy.send(Method::GET, "/r", &[("strangler-side", "extracted")], "").await;

    assert_eq!((good.body.as_str(), others.body.as_str(), plain.body.as_str()), ("extracted", "legacy", "legacy"));
    assert!(!extracted.seen()[0].headers.contains_key("strangler-side"));
    assert_eq!(proxy.count(r#"strangler_decisions_total{reason="forced",route="r",side="extracted"}"#).await, 1);
}

#[tokio::test]
async fn data_decides_where_the_route_says_so() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route(
            "{name: orders, match: 'GET /orders/{no}', extracted: extracted, \
             locate: {param: no, rules: [{min: 10000000, to: extracted}], else: legacy}}",
        )
        .start()
        .await;
    for (order, expect) in [("9999999", "legacy"), ("10000000", "extracted"), ("x", "legacy")] {
        assert_eq!(proxy.get(&format!("/orders/{order}")).await.body, expect, "{order}");
    }
}

#[tokio::test]
async fn a_kill_by_file_by_signal_and_by_api_holds_until_it_is_lifted() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: r, match: '/r', extracted: extracted, weight: 100%}")
        .route("{name: owned, match: '/owned', extracted: extracted, weight: 100%, data: extracted}")
        .start()
        .await;
    let becomes = async |expect: &str, how: &str| {
        let until = std::time::Instant::now() + PATIENCE;
        while proxy.get("/r").await.body != expect {
            assert!(std::time::Instant::now() < until, "{how}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let kill_file = proxy.state_dir().join("kill");
    becomes("extracted", "at first").await;

    std::fs::write(&kill_file, "r # broken\n").unwrap();
    becomes("legacy", "by the file").await;
    std::fs::remove_file(&kill_file).unwrap();
    becomes("extracted", "by the file's end").await;

    proxy.signal("USR1");
    becomes("legacy", "by the signal").await;
    // Nothing automatic sends what the new store owns to legacy.
    assert_eq!(proxy.get("/owned").await.body, "extracted");
    let lifted = proxy.admin(Method::POST, "/api/v1/unkill", r#"{"reason": "over"}"#).await;
    assert_eq!(lifted.status, 200, "{}", lifted.body);
    becomes("extracted", "by unkill").await;

    let killed = proxy.admin(Method::POST, "/api/v1/routes/r/kill", r#"{"reason": "test"}"#).await;
    assert_eq!(killed.status, 200, "{}", killed.body);
    becomes("legacy", "by the API").await;
}
