//! The dashboard by plain HTTP, as a browser without scripts asks for it.

use std::time::Duration;

use strangler_core::redact::Divergence;

use crate::admin::tests::{Answer, Plane};
use crate::store::{Keep, StoredDivergence, now_unix_ms};

const FORM: &str = "content-type: application/x-www-form-urlencoded";
const OWN: &str = "sec-fetch-site: same-origin";

/// A browser: what it keeps, and what it says of itself.
struct Browser<'a> {
    plane: &'a Plane,
    cookie: String,
    csrf: String,
}

impl Browser<'_> {
    /// Logs in and reads its token off a page.
    async fn of(plane: &Plane) -> Browser<'_> {
        let body = format!("token={}&name=ann&next=/audit", plane.token);
        let answer = plane.post_as("/login", &[FORM, OWN], &body).await;
        assert_eq!((answer.status, header(&answer, "location")), (303, Some("/audit".to_owned())), "{}", answer.body);
        let set = header(&answer, "set-cookie").unwrap();
        assert!(set.contains("; HttpOnly; SameSite=Strict;") && set.starts_with("strangler_"), "{set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        let mut browser = Browser { plane, cookie, csrf: String::new() };
        browser.csrf = between(&browser.get("/").await.body, "name=\"csrf\" value=\"", "\"").unwrap();
        browser
    }

    async fn get(&self, path: &str) -> Answer {
        let (address, cookie) = (self.plane.address, &self.cookie);
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
        self.plane.raw(request).await
    }

    async fn submit(&self, path: &str, fields: &str) -> Answer {
        let cookie = format!("cookie: {}", self.cookie);
        self.plane.post_as(path, &[FORM, OWN, &cookie], &format!("csrf={}&{fields}", self.csrf)).await
    }
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found.to_owned())
}

/// Nothing on a page runs or styles but what comes from our own address.
fn demand_clean(path: &str, page: &Answer) {
    let policy = header(page, "content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{path}: {policy}");
    assert!(
        !policy.contains("unsafe")
            && policy.contains("form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'")
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(header(page, name).as_deref(), Some(value), "{path} {name}");
    }
    let text = page.body.to_lowercase();
    for tag in text.split('<').skip(1) {
        let inside = tag.split('>').next().unwrap_or_default();
        assert!(!inside.contains(" style=") && !inside.starts_with("style"), "{path}: <{inside}>");
        assert!(!inside.starts_with("script") || inside == "script src=\"/room.js\" defer", "{path}: <{inside}>");
        assert!(!inside.contains(" on") || !inside.contains("=\"javascript"), "{path}: <{inside}>");
        let has_handler = inside.split_whitespace().any(|word| word.starts_with("on") && word.contains('='));
        assert!(!has_handler && !inside.contains("http://") && !inside.contains("https://"), "{path}: <{inside}>");
    }
}

#[tokio::test]
async fn every_page_is_there_and_nothing_on_it_is_from_elsewhere() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane).await;
    for path in [
        "/",
        "/?q=cart&stage=canary",
        "/routes/cart",
        "/routes/cart?hours=24",
        "/routes/cart/plan?act=weight&weight=20",
        "/routes/pay/plan?act=kill",
        "/divergences",
        "/divergences?route=cart",
        "/audit",
        "/endpoints",
        "/proxy",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path} {}", page.body);
        assert!(page.body.starts_with("<!doctype html>") && page.body.contains("<main id=\"main\""), "{path}");
        demand_clean(path, &page);
    }
    for asset in ["/room.css", "/room.js", "/icon.svg"] {
        assert_eq!(browser.get(asset).await.status, 200, "{asset}");
    }
    let missing = browser.get("/routes/none").await;
    assert_eq!(missing.status, 404);
    demand_clean("/routes/none", &missing);
    let overview = browser.get("/").await.body;
    assert!(overview.contains("data-k=\"r.cart.rps\""), "{overview}");
    assert!(!browser.get("/?q=nothing").await.body.contains("r.cart.rps"));
    plane.end().await;
}

#[tokio::test]
async fn numbers_are_open_and_the_rest_asks_for_a_login() {
    let plane = Plane::start().await;
    let open = async |path: &str| {
        plane.raw(format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", plane.address)).await
    };
    for path in ["/", "/routes/cart", "/proxy"] {
        let page = open(path).await;
        assert_eq!((page.status, page.body.contains("Log out")), (200, false), "{path}");
        assert!(!page.body.contains("csrf"), "{path}");
    }
    for path in ["/divergences", "/divergences/d-1", "/audit", "/endpoints", "/routes/cart/plan?act=kill"] {
        let sent = open(path).await;
        let location = header(&sent, "location").unwrap_or_default();
        assert!(sent.status == 303 && location.starts_with("/login?next=/"), "{path} {location}");
    }
    plane.end().await;
}

#[tokio::test]
async fn a_weight_is_moved_by_a_form_without_script() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane).await;
    let plan = browser.get("/routes/cart/plan?act=weight&weight=20").await.body;
    assert!(plan.contains("15 of 100 users go from legacy to extracted"), "{plan}");
    let version = between(&plan, "name=\"version\" value=\"", "\"").unwrap();
    let fields = format!("act=weight&weight=20&version={version}&reason=it+looks+good");
    let done = browser.submit("/routes/cart/do", &fields).await;
    assert_eq!(
        (done.status, header(&done, "location").as_deref()),
        (303, Some("/routes/cart?done=stored")),
        "{}",
        done.body
    );
    let route = browser.get("/routes/cart?done=stored").await.body;
    assert!(route.contains("Done: in force, and on record.") && route.contains("ann (api, 127.0.0.1)"), "{route}");
    let again = browser.submit("/routes/cart/do", &fields).await;
    assert_eq!(again.status, 412, "what was planned is no longer what would happen");
    assert!(browser.get("/audit").await.body.contains("it looks good"));
    let killed = browser.submit("/routes/cart/do", "act=kill&reason=incident").await;
    assert_eq!(killed.status, 303, "a kill asks for no newest state");
    assert!(browser.get("/").await.body.contains("killed: all to legacy"));
    let owned = browser.submit("/routes/pay/do", "act=kill&reason=incident").await;
    assert!(owned.status == 409 && owned.body.contains("owns the data"), "{}", owned.body);
    plane.end().await;
}

#[tokio::test]
async fn a_change_by_another_sites_page_is_refused() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane).await;
    let cookie = format!("cookie: {}", browser.cookie);
    let right = format!("csrf={}&act=kill&reason=r", browser.csrf);
    let own = format!("origin: http://{}", plane.address);
    for (body, headers, expect) in [
        (right.as_str(), vec!["sec-fetch-site: cross-site"], 403),
        (right.as_str(), vec!["sec-fetch-site: same-site"], 403),
        (right.as_str(), vec!["origin: http://evil.example.com"], 403),
        (right.as_str(), vec!["origin: null"], 403),
        (right.as_str(), vec![], 403),
        ("csrf=&act=kill&reason=r", vec![OWN], 403),
        ("csrf=wrong&act=kill&reason=r", vec![OWN], 403),
        (right.as_str(), vec![own.as_str()], 303),
    ] {
        let mut all = vec![FORM, cookie.as_str()];
        all.extend(&headers);
        let answer = plane.post_as("/routes/cart/do", &all, body).await;
        assert_eq!(answer.status, expect, "{headers:?} {body}");
    }
    let json = "content-type: application/json";
    let csrf = format!("strangler-csrf: {}", browser.csrf);
    let body = r#"{"reason":"r"}"#;
    assert_eq!(plane.post_as("/api/v1/unkill", &[json, &cookie, OWN], body).await.code(), "csrf");
    assert_eq!(plane.post_as("/api/v1/routes/cart/unkill", &[json, &cookie, OWN, &csrf], body).await.status, 200);
    let out = plane.post_as("/logout", &[FORM, OWN, &cookie], &format!("csrf={}", browser.csrf)).await;
    assert!(header(&out, "set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(browser.get("/audit").await.status, 303, "the cookie is worth nothing any more");
    plane.end().await;
}

#[tokio::test]
async fn a_wrong_token_is_said_counted_and_put_on_record() {
    let plane = Plane::start().await;
    for turn in 1..=12 {
        let answer = plane.post_as("/login", &[FORM, OWN], "token=guess&name=x").await;
        assert_eq!(answer.status, if turn <= 10 { 401 } else { 429 }, "{turn}");
        assert!(header(&answer, "set-cookie").is_none());
    }
    Browser::of(&plane).await;
    let audit = plane.get("/api/v1/audit?limit=500").await.json();
    let count = |what: &str| audit["audit"].as_array().unwrap().iter().filter(|entry| entry["what"] == what).count();
    assert_eq!((count("login_failed"), count("login")), (10, 1));
    plane.end().await;
}

#[tokio::test]
async fn a_change_that_rests_on_an_old_state_is_refused() {
    let plane = Plane::start().await;
    let etag = header(&plane.get("/api/v1/routes/cart").await, "etag").unwrap();
    let all = header(&plane.get("/api/v1/status").await, "etag").unwrap();
    let bearer = format!("authorization: Bearer {}", plane.token);
    let weight = async |etag: &str, dry: bool| {
        let body = format!(r#"{{"weight":"7%","reason":"r","dry_run":{dry}}}"#);
        let headers = [bearer.as_str(), "content-type: application/json", &format!("if-match: {etag}")];
        plane.post_as("/api/v1/routes/cart/weight", &headers, &body).await
    };
    let planned = weight(&etag, true).await;
    assert_eq!((planned.status, planned.json()["moved_points"].as_i64()), (200, Some(200)), "{}", planned.body);
    assert_eq!(weight(&etag, false).await.status, 200, "a dry run changes nothing");
    let stale = weight(&etag, false).await;
    assert_eq!((stale.status, stale.code().as_str()), (412, "stale"));
    assert_eq!(weight("*", false).await.status, 200);
    let headers = [bearer.as_str(), "content-type: application/json", &format!("if-match: {all}")];
    assert_eq!(plane.post_as("/api/v1/kill", &headers, r#"{"reason":"r"}"#).await.status, 412);
    plane.end().await;
}

#[tokio::test]
async fn captured_bytes_are_shown_as_what_they_are() {
    let plane = Plane::start().await;
    let browser = Browser::of(&plane).await;
    let evil = "<img src=x onerror=alert(1)>\u{202e}'\"";
    let value = serde_json::json!({
        "id": "d-1", "at_unix_ms": now_unix_ms(), "route": "cart", "phase": "shadow", "direction": "legacy->extracted", "method": "GET",
        "template": "/cart/{id}", "target": format!("/cart/{evil}"), "request_headers": [["accept", evil]], "revision": "abc",
        "result": "mismatch", "legacy": {"status": 200, "bytes": 1, "is_truncated": false, "ttfb_ms": 1.0, "total_ms": 2.0},
        "extracted": {"status": 200, "bytes": 1, "is_truncated": false, "ttfb_ms": 1.0, "total_ms": 2.0},
        "differences": [{"path": format!("/{evil}"), "kind": "value", "legacy": evil, "extracted": format!("{evil}<script>alert(2)</script>")}],
        "differences_total": 1,
        "cause": {"signature": "s", "place": format!("/{evil}"), "kind": "value", "legacy": "text", "extracted": "text"},
    });
    let record: Divergence = serde_json::from_value(value.clone()).unwrap();
    let one = StoredDivergence {
        cause: serde_json::to_string(&record.cause).unwrap(),
        id: "d-1".to_owned(),
        at_unix_ms: now_unix_ms(),
        route: "cart".to_owned(),
        signature: "s".to_owned(),
        json: value.to_string(),
    };
    let keep = Keep { per_signature: 5, score_ms: 0, age: Duration::from_secs(60), route_bytes_max: 1 << 30 };
    plane.store.record_divergence(one, keep);
    let mut page = browser.get("/divergences/d-1").await;
    for _ in 0..400 {
        if page.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        page = browser.get("/divergences/d-1").await;
    }
    for (path, page) in
        [("pair", page), ("list", browser.get("/divergences").await), ("overview", browser.get("/").await)]
    {
        demand_clean(path, &page);
        let text = &page.body;
        assert!(!text.contains("<img") && !text.contains("<script>") && !text.contains('\u{202e}'), "{path}: {text}");
        assert!(text.contains("onerror=alert(1)") && text.contains("\\u{202e}"), "{path}: {text}");
    }
    let accepted = browser.submit("/divergences/accept", "route=cart&signature=s&reason=wanted&until=").await;
    assert_eq!(accepted.status, 303, "{}", accepted.body);
    assert!(browser.get("/divergences").await.body.contains("Accepted as intended"));
    plane.end().await;
}

#[tokio::test]
async fn numbers_come_by_themselves_and_listeners_are_bounded() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    let plane = Plane::start().await;
    let listen = async || {
        let mut stream = TcpStream::connect(plane.address).await.unwrap();
        let request = format!("GET /api/v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", plane.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut text, mut buffer) = (String::new(), [0u8; 4_096]);
        while !text.contains("r.cart.stage") && !text.contains("\"status\":503") {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap()));
        }
        (stream, text)
    };
    let (first, text) = listen().await;
    assert!(
        text.contains("content-type: text/event-stream") && text.contains("event: numbers\ndata: {\"revision\""),
        "{text}"
    );
    let mut all = vec![first];
    while all.len() < super::events::LISTENERS_MAX {
        all.push(listen().await.0);
    }
    assert!(listen().await.1.contains("\"code\":\"busy\""), "one too many");
    drop(all);
    for _ in 0..400 {
        if listen().await.1.contains("text/event-stream") {
            plane.end().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("those who went have left no room");
}
