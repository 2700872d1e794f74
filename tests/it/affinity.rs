//! Forms: what is sent back goes to the side that made them.

use bytes::Bytes;
use http::{HeaderValue, Method, Response};

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::proxy::{PATIENCE, Plan, Proxy};

async fn pages(name: &'static str) -> Backend {
    Backend::with(move |seen| {
        let mut answer = Response::new(Bytes::from_static(name.as_bytes()));
        if seen.method != Method::POST {
            answer.headers_mut().insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
        }
        answer
    })
    .await
}

fn routes(legacy: &Backend, extracted: &Backend, weight: &str) -> String {
    format!(
        "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: [\"{}\"]}}}}\njourneys: {{j: {{sticky_on: [\"header:x-user\"], salt: s}}}}\n\
         routes:\n  - {{name: login, journey: j, match: '/login', extracted: extracted, weight: {weight}, affinity: {{form: true}}}}\n",
        legacy.url(),
        extracted.url()
    )
}

async fn move_to(proxy: &Proxy, text: &str, weight: f64) {
    proxy.write_routes(text);
    let until = std::time::Instant::now() + PATIENCE;
    while (proxy.metric(r#"strangler_route_weight_ratio{route="login"}"#).await - weight).abs() > 1e-9 {
        assert!(std::time::Instant::now() < until, "the weight never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_form_goes_back_to_the_side_that_made_it_and_a_rollback_holds_at_once() {
    let (legacy, extracted) = (pages("legacy").await, pages("extracted").await);
    let proxy = Plan::file(&routes(&legacy, &extracted, "0%")).start().await;
    let mut browser = Browser::default();
    let form = browser.get(&proxy, "/login").await;
    assert_eq!((form.body.as_str(), form.header("cache-control")), ("legacy", Some("private")));
    let cookie = form.header("set-cookie").unwrap();
    assert!(cookie.starts_with("strangler_form_") && cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");

    move_to(&proxy, &routes(&legacy, &extracted, "100%"), 1.0).await;
    let sent = browser.post(&proxy, "/login").await;
    assert_eq!((sent.body.as_str(), sent.header("set-cookie")), ("legacy", None), "what was promoted meanwhile");
    assert_eq!(Browser::default().post(&proxy, "/login").await.body, "extracted", "a form of nobody's");
    assert_eq!(browser.get(&proxy, "/login").await.body, "extracted", "a new form is the weight's");
    assert_eq!(browser.post(&proxy, "/login").await.body, "extracted");

    move_to(&proxy, &routes(&legacy, &extracted, "0%"), 0.0).await;
    assert_eq!(browser.post(&proxy, "/login").await.body, "legacy", "after a rollback");
    assert_eq!(proxy.count(r#"strangler_decisions_total{reason="leased",route="login",side="legacy"}"#).await, 2);
}

#[tokio::test]
async fn a_form_that_legacy_made_in_a_fallback_goes_back_to_legacy() {
    let (legacy, extracted) = (
        pages("legacy").await,
        Backend::with(|seen| {
            let mut answer = Response::new(Bytes::from_static(b"extracted"));
            if seen.method == Method::GET {
                *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            }
            answer
        })
        .await,
    );
    let proxy = Plan::file(&routes(&legacy, &extracted, "100%")).start().await;
    let mut browser = Browser::default();
    assert_eq!(browser.get(&proxy, "/login").await.body, "legacy");
    assert_eq!(browser.post(&proxy, "/login").await.body, "legacy");
    assert_eq!(Browser::default().post(&proxy, "/login").await.body, "extracted");
}

#[tokio::test]
async fn the_form_and_what_it_sends_may_be_two_routes() {
    let (legacy, extracted) = (pages("legacy").await, pages("extracted").await);
    let routes = |weight: &str| {
        format!(
            "version: 1\nlegacy: {}\nupstreams: {{extracted: {{endpoints: [\"{}\"]}}}}\nroutes:\n\
             \x20 - {{name: show, match: 'GET /login', extracted: extracted, weight: {weight}, affinity: {{form: true}}}}\n\
             \x20 - {{name: login, match: 'POST /login', extracted: extracted, weight: {weight}, affinity: {{form: true}}}}\n",
            legacy.url(),
            extracted.url()
        )
    };
    let proxy = Plan::file(&routes("50%")).start().await;
    for _ in 0..20 {
        let mut browser = Browser::default();
        let form = browser.get(&proxy, "/login").await;
        assert_eq!(browser.post(&proxy, "/login").await.body, form.body);
    }
    let mut browser = Browser::default();
    while browser.get(&proxy, "/login").await.body != "legacy" {
        browser = Browser::default();
    }
    move_to(&proxy, &routes("100%"), 1.0).await;
    assert_eq!(browser.post(&proxy, "/login").await.body, "legacy");
}
