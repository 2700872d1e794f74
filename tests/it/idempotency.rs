//! Writes that are tried again: the same key goes to the side that saw it first, over moves, kills, failures and restarts.

use http::Method;

use crate::support::backend::Backend;
use crate::support::proxy::{Answer, PATIENCE, Plan, Proxy};

fn routes(legacy: &Backend, extracted: &Backend, weight: &str, more: &str) -> String {
    format!(
        "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: [\"{}\"]}}}}\nroutes:\n\
         \x20 - {{name: pay, match: '/pay', extracted: extracted, weight: {weight}, idempotency: {{header: Idempotency-Key{more}}}}}\n",
        legacy.url(),
        extracted.url()
    )
}

async fn pay(proxy: &Proxy, key: &str) -> Answer {
    proxy.send(Method::POST, "/pay", &[("idempotency-key", key)], "money").await
}

async fn weight_becomes(proxy: &Proxy, weight: f64) {
    let until = std::time::Instant::now() + PATIENCE;
    while (proxy.metric(r#"strangler_route_weight_ratio{route="pay"}"#).await - weight).abs() > 1e-9 {
        assert!(std::time::Instant::now() < until, "the weight never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Another process with what this one has kept.
pub(crate) async fn restarted(mut proxy: Proxy, routes: &str) -> Proxy {
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    let plan = Plan::file(routes);
    std::fs::create_dir_all(plan.state_dir()).unwrap();
    for entry in std::fs::read_dir(proxy.state_dir()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), plan.state_dir().join(entry.file_name())).unwrap();
    }
    plan.start().await
}

fn assert_in_doubt(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.header("strangler-error")),
        (409, Some("idempotency_in_doubt")),
        "{}",
        answer.body
    );
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=900).contains(&retry_after), "{retry_after}");
}

#[tokio::test]
async fn a_key_stays_with_the_side_that_saw_it_and_an_unknown_one_is_in_doubt_after_a_move_also_after_restarts() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let at = |weight| routes(&legacy, &extracted, weight, "");
    let proxy = Plan::file(&at("0%")).start().await;
    assert_eq!(pay(&proxy, "a").await.body, "legacy");

    proxy.write_routes(&at("100%"));
    weight_becomes(&proxy, 1.0).await;
    assert_eq!(pay(&proxy, "a").await.body, "legacy", "seen there first");
    assert_in_doubt(&pay(&proxy, "b").await);
    assert_eq!(proxy.post("/pay", "money").await.body, "extracted", "without a key nothing is remembered");
    assert_eq!(proxy.send(Method::GET, "/pay", &[("idempotency-key", "b")], "").await.body, "extracted");
    assert_eq!(proxy.count(r#"strangler_decisions_total{reason="pinned",route="pay",side="legacy"}"#).await, 1);
    assert_eq!(proxy.count(r#"strangler_rejected_total{reason="idempotency_in_doubt"}"#).await, 1);

    let proxy = restarted(proxy, &at("100%")).await;
    assert_eq!(pay(&proxy, "a").await.body, "legacy", "after a restart");
    assert_in_doubt(&pay(&proxy, "b").await);
    assert!(
        !legacy.seen().is_empty()
            && extracted
                .seen()
                .iter()
                .all(|seen| seen.method == Method::GET || !seen.headers.contains_key("idempotency-key"))
    );
}

#[tokio::test]
async fn a_weight_that_moved_while_nobody_ran_puts_keys_in_doubt_too() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let at = |weight| routes(&legacy, &extracted, weight, "");
    let proxy = Plan::file(&at("100%")).start().await;
    assert_eq!(pay(&proxy, "a").await.body, "extracted");
    let same = restarted(proxy, &at("100%")).await;
    assert_eq!(pay(&same, "b").await.body, "extracted", "nothing moved");
    let body = r#"{"weight": "50%", "reason": "test"}"#;
    assert_eq!(same.admin(Method::POST, "/api/v1/routes/pay/weight", body).await.status, 200);
    let mut statuses = std::collections::BTreeMap::new();
    for number in 0..40 {
        *statuses.entry(pay(&same, &format!("n{number}")).await.status).or_insert(0) += 1;
    }
    assert!(
        statuses.len() == 2 && statuses[&200] > 0 && statuses[&409] > 0,
        "only who moved is in doubt: {statuses:?}"
    );
    let moved = restarted(same, &at("0%")).await;
    assert_in_doubt(&pay(&moved, "c").await);
    assert_eq!(pay(&moved, "a").await.body, "extracted");
    assert_eq!(pay(&moved, "b").await.body, "extracted");
}

#[tokio::test]
async fn what_extracted_has_seen_waits_while_it_is_killed_unless_legacy_may_do_it_again() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    for (more, status) in [("", 503), (", on_kill: reexecute", 200)] {
        let proxy = Plan::file(&routes(&legacy, &extracted, "100%", more)).start().await;
        assert_eq!(pay(&proxy, "a").await.body, "extracted");
        let killed = proxy.admin(Method::POST, "/api/v1/routes/pay/kill", r#"{"reason": "test"}"#).await;
        assert_eq!(killed.status, 200, "{}", killed.body);

        let again = pay(&proxy, "a").await;
        assert_eq!(again.status, status, "{more}");
        if status == 503 {
            assert_eq!(
                (again.header("strangler-error"), again.header("retry-after")),
                (Some("idempotency_killed"), Some("30"))
            );
        } else {
            assert_eq!(again.body, "legacy");
        }
        assert_eq!(pay(&proxy, "b").await.body, "legacy", "a new write is served");

        let lifted = proxy.admin(Method::POST, "/api/v1/routes/pay/unkill", r#"{"reason": "over"}"#).await;
        assert_eq!(lifted.status, 200, "{}", lifted.body);
        let expect = if status == 503 { "extracted" } else { "legacy" };
        assert_eq!(pay(&proxy, "a").await.body, expect, "{more}");
        assert_eq!(pay(&proxy, "b").await.body, "legacy", "done there");
    }
}

#[tokio::test]
async fn the_pin_names_the_side_that_did_it_and_a_second_try_falls_back_nowhere() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let refusing = Backend::refusing().await;
    let broken = routes(&legacy, &refusing, "100%", "");
    let sound = routes(&legacy, &extracted, "100%", "");
    let proxy = Plan::file(&broken).start().await;
    let revision_changes = async |text: &str| {
        proxy.write_routes(text);
        let table = strangler_core::table::Revision::of(text.as_bytes());
        proxy.wait_for_metric(&format!(r#"strangler_config_info{{revision="{table}"}}"#), 1.0).await;
    };
    assert_eq!(pay(&proxy, "a").await.body, "legacy", "unsent to extracted, so legacy may be tried");

    revision_changes(&sound).await;
    assert_eq!(pay(&proxy, "a").await.body, "legacy", "it was done there");
    assert_eq!(pay(&proxy, "b").await.body, "extracted");

    revision_changes(&broken).await;
    let before = legacy.seen().len();
    assert_eq!(pay(&proxy, "b").await.status, 502, "extracted may have done it");
    assert_eq!(legacy.seen().len(), before);
    assert_eq!(pay(&proxy, "c").await.body, "legacy", "a new one may fall back");
}
