//! A service is asked by its own paths, and nobody outside sees its names.

use http::{HeaderValue, Method, Response};

use crate::support::backend::Backend;
use crate::support::proxy::{Plan, Proxy, strangler};

#[tokio::test]
async fn a_service_is_asked_by_its_own_path_and_legacy_by_the_public_one() {
    let legacy = Backend::answering(200, "from the monolith").await;
    let extracted = Backend::with(|seen| {
        let status = if seen.target.contains("/8/") { 500 } else { 200 };
        Response::builder().status(status).body("from the service".into()).unwrap()
    })
    .await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: total, match: '/carts/{id}/total', extracted: {upstream: extracted, rewrite: {path: '/v1/quotes/{id}/now'}}, weight: 100%}")
        .start()
        .await;

    let good = proxy.get("/carts/7/total?x=%2F").await;
    let failed = proxy.get("/carts/8/total?y").await;

    assert_eq!(good.body, "from the service");
    assert_eq!(extracted.seen()[0].target, "/v1/quotes/7/now?x=%2F");
    assert_eq!(failed.body, "from the monolith");
    assert_eq!(
        (extracted.seen()[1].target.as_str(), legacy.seen()[0].target.as_str()),
        ("/v1/quotes/8/now?y", "/carts/8/total?y")
    );
    assert_eq!(legacy.seen()[0].headers["host"], "shop.example.com");
}

#[tokio::test]
async fn a_copy_goes_to_the_path_of_its_side() {
    let legacy = Backend::answering(200, "same").await;
    let extracted = Backend::answering(200, "same").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: a, match: '/a/{*rest}', extracted: {upstream: extracted, rewrite: {path: '/inner/{*rest}'}}, shadow: true}")
        .route("{name: b, match: '/b/{*rest}', extracted: {upstream: extracted, rewrite: {path: '/inner/{*rest}'}}, weight: 100%, shadow: true}")
        .start()
        .await;

    proxy.get("/a/x").await;
    proxy.wait_for_metric(r#"strangler_shadow_total{outcome="sent",route="a"}"#, 1.0).await;
    proxy.get("/b/y").await;
    proxy.wait_for_metric(r#"strangler_shadow_total{outcome="sent",route="b"}"#, 1.0).await;

    let targets = |backend: &Backend| backend.seen().iter().map(|seen| seen.target.clone()).collect::<Vec<_>>();
    assert_eq!(targets(&extracted), ["/inner/x", "/inner/y"]);
    assert_eq!(targets(&legacy), ["/a/x", "/b/y"]);
}

#[tokio::test]
async fn what_a_monolith_calls_itself_inside_never_reaches_the_browser() {
    let legacy = Backend::with(|seen| {
        let location = [b"http://", seen.headers["x-own"].as_bytes(), b"/account"].concat();
        Response::builder()
            .status(303)
            .header("location", HeaderValue::from_bytes(&location).unwrap())
            .header("content-location", "http://legacy.internal:8000//login")
            .header("refresh", "5; url=http://legacy.internal:8000/later")
            .header("set-cookie", "SHOPSID=1; Path=/shop; Domain=legacy.internal; HttpOnly")
            .header("set-cookie", "other=1; Path=/")
            .header("set-cookie", HeaderValue::from_bytes(b"caf\xe9=1; Path=/shop").unwrap())
            .header("link", "<http://legacy.internal:8000/next>; rel=next, <https://cdn.example/x.css>; rel=preload")
            .body("".into())
            .unwrap()
    })
    .await;
    let routes = format!(
        "version: 1\nlegacy: monolith\nupstreams:\n  monolith:\n    endpoints: [\"{}\"]\n    own_names: {{hosts: [\"legacy.internal:8000\"], cookie_path: \"/shop=/\", cookie_domain: \"legacy.internal=\"}}\n",
        legacy.url()
    );
    let proxy = Plan::file(&routes).start().await;

    let internal = proxy.send(Method::POST, "/login", &[("x-own", "legacy.internal:8000")], "").await;
    let endpoint = proxy.send(Method::POST, "/login", &[("x-own", &legacy.address.to_string())], "").await;
    let elsewhere = proxy.send(Method::POST, "/login", &[("x-own", "bank.example")], "").await;

    assert_eq!(internal.header("location"), Some("/account"));
    assert_eq!(internal.header("content-location"), Some("/.//login"));
    assert_eq!(internal.header("refresh"), Some("5; url=/later"));
    let cookies: Vec<_> = internal.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies[..2], ["SHOPSID=1; Path=/; HttpOnly", "other=1; Path=/"]);
    assert_eq!(cookies[2].as_bytes(), b"caf\xe9=1; Path=/", "a byte that is not ASCII hides nothing");
    assert_eq!(internal.header("link"), Some("</next>; rel=next, <https://cdn.example/x.css>; rel=preload"));
    for own in ["user@legacy.internal:8000", "Legacy.Internal.:8000", "/legacy.internal:8000"] {
        let answer = proxy.send(Method::POST, "/login", &[("x-own", own)], "").await;
        assert_eq!(answer.header("location"), Some("/account"), "{own}");
    }
    let umlaut = proxy.send(Method::POST, "/login", &[("x-own", "legacy.internal:8000/caf\u{e9}")], "").await;
    assert_eq!(umlaut.headers["location"].as_bytes(), "/caf\u{e9}/account".as_bytes());
    assert_eq!(endpoint.header("location"), Some("/account"));
    assert_eq!(elsewhere.header("location"), Some("http://bank.example/account"));
}

#[tokio::test]
async fn a_redirect_of_a_service_is_mapped_back_to_the_public_path() {
    let extracted = Backend::with(|seen| {
        let to = if seen.target.ends_with("new") { "/v1/orders/9" } else { "/help" };
        Response::builder()
            .status(201)
            .header("location", to)
            .header("set-cookie", "a=1; Path=/v1")
            .body("".into())
            .unwrap()
    })
    .await;
    let proxy = Proxy::between(&extracted, &extracted)
        .route("{name: orders, match: '/shop/{lang}/orders/{no}', extracted: {upstream: extracted, rewrite: {path: '/v1/orders/{no}', location: true, cookie_path: '/v1=/shop'}}, weight: 100%}")
        .start()
        .await;

    let made = proxy.post("/shop/de/orders/new", "").await;
    let other = proxy.post("/shop/de/orders/1", "").await;

    assert_eq!(made.header("location"), Some("/shop/de/orders/9"));
    assert_eq!(made.header("set-cookie"), Some("a=1; Path=/shop"));
    assert_eq!(other.header("location"), Some("/help"));
}

#[tokio::test]
async fn faults_of_a_rewrite_are_told_at_load_and_explain_shows_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("routes.yaml");
    let with = |rewrite: &str| {
        format!(
            "version: 1\nlegacy: http://127.0.0.1:1\nroutes:\n  - {{name: r, match: '/a/{{id}}/{{*rest}}', extracted: {{upstream: 'http://127.0.0.1:2', rewrite: {rewrite}}}, weight: 100%}}\n"
        )
    };
    for (rewrite, told) in [
        ("{path: '/b/{idd}'}", "`idd` is no parameter of the route's path"),
        ("{path: '/b/{rest}'}", "so it is written `{*rest}`"),
        ("{path: 'b'}", "a path starts with `/`"),
        ("{path: '/b?c'}", "cannot be in a path"),
        ("{cookie_path: '/a'}", "is no change, as in `/shop=/`"),
        ("{cookie_path: 'a=b'}", "both sides of `=` are paths"),
        ("{cookie_domain: '=b'}", "are names of hosts"),
        ("{location: yes}", "expected `true` or `false`"),
        ("{locations: true}", "unknown key `locations`"),
    ] {
        std::fs::write(&file, with(rewrite)).unwrap();
        let output = strangler().arg("check").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{rewrite}: {said}");
        assert!(said.contains(told), "{rewrite}: {said}");
    }
    std::fs::write(&file, with("{path: '/b/{id}/{*rest}'}")).unwrap();
    let output = strangler().args(["explain", "GET", "/a/7/x/y", "--routes"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("extracted is asked for /b/7/x/y"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
