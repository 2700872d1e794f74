use std::path::Path;

use strangler_core::fixture::{route, table};
use strangler_core::route::{Data, Route};
use strangler_core::snapshot::Snapshot;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::live::Live;
use crate::store::{Keep, Store, StoreLimits, StoredDivergence, now_unix_ms};

struct Plane {
    _dir: TempDir,
    address: SocketAddr,
    token: String,
    store: Store,
    applied: mpsc::Receiver<ApplyRequest>,
    readiness: watch::Sender<Readiness>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<Result<(), AdminError>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn code(&self) -> String {
        self.json().get("code").and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

async fn state(dir: &Path) -> (AdminState, Store, mpsc::Receiver<ApplyRequest>, watch::Sender<Readiness>) {
    let limits = StoreLimits { save_timeout: Duration::from_secs(20), ..StoreLimits::default() };
    let (store, loaded) = Store::open(dir, limits).await;
    let pay = Route { data: Data::Extracted, ..route("pay", "/pay", "100%") };
    let (first, _) = Snapshot::new(table(vec![route("cart", "/cart/{id}", "5%"), pay]), &loaded.runtime);
    let live = Arc::new(Live::new(Arc::new(first), |_, _: Option<&()>| ()));
    let (apply, applied) = mpsc::channel(1);
    let ready = Readiness { ready: true, revision: "abc".to_owned(), ..Readiness::default() };
    let (readiness, read) = watch::channel(ready);
    let (tokens, ..) = AdminTokens::read_or_make(dir).unwrap();
    let state = AdminState {
        control: Arc::new(Control::new(live, store.clone())),
        tokens: Some(tokens),
        hosts: vec!["admin.example.com".to_owned()],
        metrics: Arc::new(|| "strangler_build_info 1\n".to_owned()),
        readiness: Arc::new(move || read.borrow().clone()),
        numbers: Arc::new(|name| {
            (name == "cart").then(|| RouteNumbers { requests_legacy: 7, ..RouteNumbers::default() })
        }),
        verdicts: Arc::new(|_, _| Vec::new()),
        rollout: Arc::new(|_| None),
        latencies: Arc::new(|_, _| Vec::new()),
        coverage: Arc::new(|_, _| None),
        endpoints: Arc::new(Default::default),
        plane: Arc::new(PlaneStatus::default),
        apply,
        replay: Arc::new(|_| Box::pin(async { Err("nobody is there".to_owned()) })),
        upgrade: mpsc::channel(1).0,
    };
    (state, store, applied, readiness)
}

impl Plane {
    async fn start() -> Plane {
        let dir = TempDir::new().unwrap();
        let (state, store, applied, readiness) = state(dir.path()).await;
        let token = token::first_token(&dir.path().join(token::FILE_NAME)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, state, async move { drop(stopped.await) }));
        Plane { _dir: dir, address, token, store, applied, readiness, stop, served }
    }

    async fn raw(&self, request: String) -> Answer {
        raw(self.address, request).await
    }

    async fn get(&self, path: &str) -> Answer {
        let Plane { address, token, .. } = self;
        self.raw(format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let bearer = format!("authorization: Bearer {}", self.token);
        self.post_as(path, &[&bearer, "content-type: application/json"], body).await
    }

    async fn post_as(&self, path: &str, headers: &[&str], body: &str) -> Answer {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let (address, length) = (self.address, body.len());
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n");
        self.raw(format!("{head}{headers}\r\n{body}")).await
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
        self.store.close().await;
    }
}

async fn raw(address: SocketAddr, request: String) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A refusal may come, and the connection go, before all of a large body was taken.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

#[tokio::test]
async fn the_probes_say_how_it_is() {
    let plane = Plane::start().await;
    assert_eq!(plane.get("/livez").await.status, 200);
    let ready = plane.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["revision"].as_str()), (200, Some("abc")));
    assert_eq!(ready.json()["store"]["healthy"], true);
    plane.readiness.send_modify(|readiness| readiness.draining = true);
    assert_eq!(plane.get("/readyz").await.status, 503);
    plane.readiness.send_modify(|readiness| *readiness = Readiness::default());
    assert_eq!(plane.get("/readyz").await.status, 503);
    assert_eq!(plane.get("/livez").await.status, 200);
    let metrics = plane.get("/metrics").await;
    assert!(metrics.head.contains("text/plain; version=0.0.4") && metrics.body.contains("strangler_build_info 1"));
    plane.end().await;
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let plane = Plane::start().await;
    for path in ["/livez", "/api/v1/status", "/none", "/api/v1/routes/none"] {
        let head = plane.get(path).await.head.to_ascii_lowercase();
        for header in [
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "content-security-policy: default-src 'none'",
        ] {
            assert!(head.contains(header), "{path} {head}");
        }
        assert!(!head.contains("access-control-"), "no site may read this");
    }
    assert_eq!(plane.get("/none").await.code(), "not_found");
    assert_eq!(plane.post("/api/v1/status", "{}").await.code(), "method");
    plane.end().await;
}

#[tokio::test]
async fn a_weight_is_moved_and_shown_as_drift() {
    let plane = Plane::start().await;
    let moved =
        plane.post("/api/v1/routes/cart/weight", r#"{"weight":"10%","reason":"it looks good","by":"alice"}"#).await;
    assert_eq!((moved.status, moved.json()["stored"].as_bool()), (200, Some(true)), "{}", moved.body);
    let status = plane.get("/api/v1/status").await.json();
    let cart = &status["routes"][0];
    assert_eq!((cart["weight"].as_str(), cart["stage"].as_str()), (Some("10%"), Some("canary")));
    let drift = cart["drift"].as_str().unwrap();
    assert!(drift.starts_with("file 5% · running 10% since "), "{drift}");
    assert!(drift.ends_with(" by alice (api, 127.0.0.1) because it looks good"), "{drift}");
    assert_eq!(cart["numbers"]["requests_legacy"], 7);
    assert_eq!(plane.get("/api/v1/routes/cart").await.json()["weight"], "10%");
    let audit = plane.get("/api/v1/audit").await.json();
    assert_eq!((audit["audit"][0]["what"].as_str(), audit["audit"][0]["to"].as_str()), (Some("weight"), Some("10%")));
    plane.end().await;
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_refused_with_a_problem() {
    let plane = Plane::start().await;
    for (path, body, status, code) in [
        ("/api/v1/routes/none/weight", r#"{"weight":"10%","reason":"r"}"#, 404, "unknown_route"),
        ("/api/v1/routes/NO%20NAME/kill", r#"{"reason":"r"}"#, 404, "unknown_route"),
        ("/api/v1/routes/cart/weight", r#"{"weight":"10","reason":"r"}"#, 422, "bad_weight"),
        ("/api/v1/routes/cart/weight", r#"{"weight":"10%","reason":" "}"#, 422, "bad_note"),
        ("/api/v1/routes/cart/weight", r#"{"weight":"10%"}"#, 422, "bad_body"),
        ("/api/v1/routes/cart/weight", r#"{"weight":"10%","reason":"r","force":true}"#, 422, "bad_body"),
        ("/api/v1/routes/cart/weight", "not json", 422, "bad_body"),
        ("/api/v1/routes/pay/weight", r#"{"weight":"10%","reason":"r"}"#, 409, "would_serve_stale"),
        ("/api/v1/routes/pay/kill", r#"{"reason":"r"}"#, 409, "would_serve_stale"),
        ("/api/v1/routes/cart/unkill", r#"{"reason":"r"}"#, 409, "not_killed"),
        ("/api/v1/explain", r#"{"method":"GET","url":"/a/../b"}"#, 422, "bad_request"),
    ] {
        let answer = plane.post(path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {body}");
        assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
    }
    let huge = format!(r#"{{"weight":"10%","reason":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    assert_eq!(plane.post("/api/v1/routes/cart/weight", &huge).await.status, 413);
    plane.end().await;
}

#[tokio::test]
async fn a_kill_and_its_lifting_go_by_the_api() {
    let plane = Plane::start().await;
    let killed = plane.post("/api/v1/kill", r#"{"reason":"incident"}"#).await.json();
    assert_eq!((killed["killed_routes"].as_u64(), killed["not_moved"][0].as_str()), (Some(1), Some("pay")));
    let status = plane.get("/api/v1/status").await.json();
    assert_eq!(status["routes"][0]["stage"], "killed");
    assert_eq!(status["routes"][0]["weight_in_force"], "0%");
    assert!(status["alarms"][0].as_str().unwrap().contains("leaves pay where it is"));
    let stale = plane.post("/api/v1/routes/pay/kill", r#"{"reason":"incident","accept_stale":true}"#).await.json();
    assert_eq!(stale["killed_routes"], 2);
    let lifted = plane.post("/api/v1/unkill", r#"{"reason":"over"}"#).await.json();
    assert_eq!((lifted["killed_routes"].as_u64(), lifted["remaining"][0]["scope"].as_str()), (Some(1), Some("pay")));
    plane.end().await;
}

#[tokio::test]
async fn numbers_are_open_but_changes_and_divergences_need_the_token() {
    let plane = Plane::start().await;
    let open = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost:9900\r\nconnection: close\r\n\r\n");
    assert_eq!(plane.raw(open("/api/v1/status")).await.status, 200);
    for path in ["/api/v1/divergences", "/api/v1/audit"] {
        let refused = plane.raw(open(path)).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "token"), "{path}");
        assert!(refused.head.contains("www-authenticate: Bearer"));
    }
    let json = "content-type: application/json";
    for wrong in ["authorization: Bearer wrong", "authorization: Basic abc", "authorization: B", "x-nothing: at all"] {
        assert_eq!(plane.post_as("/api/v1/kill", &[json, wrong], r#"{"reason":"r"}"#).await.status, 401, "{wrong}");
    }
    for expect in [401, 401, 401, 401, 429, 429] {
        assert_eq!(plane.raw(open("/api/v1/audit")).await.status, expect);
    }
    assert_eq!(plane.post("/api/v1/kill", r#"{"reason":"r"}"#).await.status, 200, "whoever has the token may");
    let audit = plane.get("/api/v1/audit?limit=500").await.json();
    let failed = audit["audit"].as_array().unwrap().iter().filter(|entry| entry["what"] == "login_failed").count();
    assert_eq!(failed, 10, "those answered 429 are not written down one by one");
    plane.end().await;
}

#[tokio::test]
async fn a_web_page_can_neither_read_nor_change() {
    let plane = Plane::start().await;
    for (host, expect) in [
        ("evil.example.com", 421),
        ("", 421),
        ("127.0.0.1.evil.example.com:9900", 421),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:9900", 200),
        ("admin.example.com", 200),
    ] {
        let answer =
            plane.raw(format!("GET /api/v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, expect, "{host:?}");
    }
    let bearer = format!("authorization: Bearer {}", plane.token);
    let own = format!("origin: http://{}", plane.address);
    for (header, expect) in [
        ("sec-fetch-site: cross-site", 403),
        ("sec-fetch-site: same-site", 403),
        ("sec-fetch-site: same-origin", 200),
        ("origin: http://evil.example.com", 403),
        ("origin: null", 403),
        (own.as_str(), 200),
    ] {
        let headers = [bearer.as_str(), "content-type: application/json", header];
        let answer = plane.post_as("/api/v1/kill", &headers, r#"{"reason":"r"}"#).await;
        assert_eq!(answer.status, expect, "{header}");
    }
    let form = plane.post_as("/api/v1/kill", &[&bearer, "content-type: text/plain"], r#"{"reason":"r"}"#).await;
    assert_eq!(form.status, 415);
    plane.end().await;
}

#[tokio::test]
async fn divergences_are_listed_with_their_record() {
    let plane = Plane::start().await;
    let one = StoredDivergence {
        cause: r#"{"place":"/total_cents"}"#.to_owned(),
        id: "d-1".to_owned(),
        at_unix_ms: now_unix_ms(),
        route: "cart".to_owned(),
        signature: "value /total_cents".to_owned(),
        json: r#"{"differences":[{"path":"/total_cents"}]}"#.to_owned(),
    };
    plane.store.record_divergence(
        one,
        Keep { per_signature: 5, score_ms: 0, age: Duration::from_secs(60), route_bytes_max: 1 << 30 },
    );
    let mut listed = serde_json::Value::Null;
    for _ in 0..400 {
        listed = plane.get("/api/v1/divergences?route=cart&limit=5").await.json();
        if listed["divergences"][0].is_object() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(listed["divergences"][0]["record"]["differences"][0]["path"], "/total_cents");
    assert_eq!(
        (&listed["causes"][0]["pairs"], &listed["causes"][0]["cause"]["place"]),
        (&serde_json::json!(1), &serde_json::json!("/total_cents"))
    );
    assert_eq!(plane.get("/api/v1/divergences?route=none").await.code(), "unknown_route");
    assert_eq!(plane.get("/api/v1/divergences?limit=x").await.code(), "bad_query");
    plane.end().await;
}

#[tokio::test]
async fn the_file_is_loaded_on_request_and_all_faults_come_back() {
    let mut plane = Plane::start().await;
    let mut applied = std::mem::replace(&mut plane.applied, mpsc::channel(1).1);
    let loader = tokio::spawn(async move {
        let first = applied.recv().await.unwrap();
        let seen = (first.accept_removals, first.by.clone());
        let faults = vec!["routes.yaml:3:5: no".to_owned(), "routes.yaml:9:1: no".to_owned()];
        first.reply.send(ApplyOutcome { faults, revision: "abc".to_owned(), ..ApplyOutcome::default() }).unwrap();
        let second = applied.recv().await.unwrap();
        second.reply.send(ApplyOutcome { accepted: true, changed: true, ..ApplyOutcome::default() }).unwrap();
        seen
    });
    let refused = plane.post("/api/v1/config/apply", r#"{"accept_removals":true,"by":"alice"}"#).await;
    assert_eq!((refused.status, refused.code().as_str()), (422, "refused"));
    assert_eq!(refused.json()["faults"].as_array().map(Vec::len), Some(2));
    assert_eq!(plane.post("/api/v1/config/apply", "{}").await.json()["accepted"], true);
    assert_eq!(loader.await.unwrap(), (true, "alice (api, 127.0.0.1)".to_owned()));
    assert_eq!(plane.post("/api/v1/config/apply", "{}").await.code(), "busy", "nobody loads any more");
    let audit = plane.get("/api/v1/audit").await.json();
    assert_eq!(audit["audit"][1]["accepted"], false);
    plane.end().await;
}

#[tokio::test]
async fn a_request_is_explained() {
    let plane = Plane::start().await;
    let body = r#"{"method":"GET","url":"http://shop/cart/7","headers":["cookie: strangler_id=0123456789abcdef0123456789abcdef"]}"#;
    let answer = plane.post_as("/api/v1/explain", &["content-type: application/json"], body).await.json();
    assert_eq!((answer["route"].as_str(), answer["key"].as_str()), (Some("cart"), Some("cookie:strangler_id")));
    plane.end().await;
}

#[tokio::test]
async fn telemetry_is_read_only_and_nothing_more() {
    let dir = TempDir::new().unwrap();
    let (state, store, _applied, _readiness) = state(dir.path()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve_telemetry(listener, state, async move { drop(stopped.await) }));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: 10.1.2.3:9901\r\nconnection: close\r\n\r\n");
    for (path, expect) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/api/v1/status", 404), ("/", 404)] {
        assert_eq!(raw(address, get(path)).await.status, expect, "{path}");
    }
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
    store.close().await;
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused() {
    for (address, is_taken) in [
        ("127.0.0.1:9900", true),
        ("[::1]:9900", true),
        ("127.9.9.9:1", true),
        ("0.0.0.0:9900", false),
        ("10.0.0.1:1", false),
    ] {
        assert_eq!(check_address(address.parse().unwrap()).is_ok(), is_taken, "{address}");
    }
    let dir = TempDir::new().unwrap();
    let (state, store, ..) = state(dir.path()).await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    assert!(matches!(serve(listener, state, std::future::ready(())).await, Err(AdminError::NotLoopback(_))));
    store.close().await;
}

#[tokio::test]
async fn an_open_connection_does_not_hold_up_the_end() {
    let plane = Plane::start().await;
    let mut idle = TcpStream::connect(plane.address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", plane.address);
    idle.write_all(head.as_bytes()).await.unwrap();
    let mut piece = [0u8; 1_024];
    assert!(idle.read(&mut piece).await.unwrap() > 0);
    plane.end().await;
}
