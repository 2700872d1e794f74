//! What reaches the upstream and what comes back.

use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::proxy::{PATIENCE, Proxy, strangler};

#[tokio::test]
async fn what_no_route_covers_falls_through_to_the_monolith() {
    let legacy = Backend::answering(200, "from the monolith").await;
    let extracted = Backend::answering(200, "from the service").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: orders, match: '/orders/{id}', extracted: extracted, weight: 100%}")
        .start()
        .await;

    let covered = proxy.get("/orders/7?x=1").await;
    let other = proxy.get("/carts//7/").await;

    assert_eq!((covered.status, covered.body.as_str()), (200, "from the service"));
    assert_eq!(extracted.seen()[0].target, "/orders/7?x=1");
    assert_eq!((other.status, other.body.as_str()), (200, "from the monolith"));
    assert_eq!(legacy.seen()[0].target, "/carts//7/");
    assert_eq!(proxy.count(r#"strangler_requests_total{code="200",route="fall-through",side="legacy"}"#).await, 1);
    assert_eq!(proxy.count(r#"strangler_requests_total{code="200",route="orders",side="extracted"}"#).await, 1);
}

#[tokio::test]
async fn what_belongs_to_one_connection_stays_on_it() {
    let legacy = Backend::with(|_| {
        let response =
            Response::builder().header("connection", "x-private").header("x-private", "1").header("keep-alive", "5");
        response.header("x-public", "1").body("ok".into()).unwrap()
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    let headers = [("connection", "x-own"), ("x-own", "1"), ("te", "trailers"), ("upgrade", "h2c"), ("x-kept", "1")];
    let answer = proxy.send(Method::GET, "/", &headers, "").await;

    let seen = &legacy.seen()[0].headers;
    for gone in ["connection", "x-own", "te", "upgrade"] {
        assert!(!seen.contains_key(gone), "{gone} was forwarded");
    }
    assert_eq!(seen["x-kept"], "1");
    assert_eq!(seen["host"], "shop.example.com");
    assert_eq!((answer.header("x-private"), answer.header("keep-alive")), (None, None));
    assert_eq!(answer.header("x-public"), Some("1"));
    assert_eq!(answer.header("via"), Some("1.1 strangler"));
}

#[tokio::test]
async fn nobody_but_a_trusted_peer_says_who_the_client_is() {
    let spoofed = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("strangler-shadow", "1"),
        ("x-strangler-route", "pay"),
        ("X_Forwarded_For", "203.0.113.9"),
        ("x-forwarded-prefix", "/evil"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let legacy = Backend::answering(200, "ok").await;
    let strict = Proxy::between(&legacy, &legacy).start().await;
    let trusting = Proxy::between(&legacy, &legacy).argument("--trusted-proxies=127.0.0.0/8").start().await;

    strict.send(Method::GET, "/", &spoofed, "").await;
    trusting.send(Method::GET, "/", &spoofed, "").await;

    let [strict, trusting] = [0, 1].map(|at| legacy.seen()[at].headers.clone());
    assert_eq!(
        (&strict["x-forwarded-for"], &strict["x-forwarded-proto"]),
        (&"127.0.0.1".parse().unwrap(), &"http".parse().unwrap())
    );
    for gone in
        ["x-real-ip", "forwarded", "strangler-shadow", "x-strangler-route", "x_forwarded_for", "x-forwarded-prefix"]
    {
        assert!(!strict.contains_key(gone), "{gone} was believed");
    }
    assert!(!strict["traceparent"].to_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(trusting["x-forwarded-for"], "203.0.113.9, 127.0.0.1");
    assert_eq!(trusting["x-forwarded-proto"], "https");
    assert!(trusting["traceparent"].to_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert!(!trusting.contains_key("x-strangler-route"));
}

#[tokio::test]
async fn no_encoding_of_a_path_reaches_a_service_past_its_route() {
    let legacy = Backend::answering(200, "from the monolith").await;
    let extracted = Backend::answering(200, "from the service").await;
    let proxy = Proxy::between(&legacy, &extracted)
        .route("{name: admin, match: '/admin/{*rest}', extracted: extracted, weight: 100%}")
        .start()
        .await;

    assert_eq!(proxy.get("/%61dmin/x").await.body, "from the service");
    assert_eq!(extracted.seen()[0].target, "/admin/x");
    assert_eq!(proxy.get("/admin%2Fx").await.body, "from the monolith");
    for refused in ["/x/../admin", "/%2e%2e/admin", "/admin/%2E/x"] {
        let answer = proxy.get(refused).await;
        assert_eq!((answer.status, answer.header("strangler-error")), (400, Some("dot_segment")), "{refused}");
    }
}

#[tokio::test]
async fn a_body_streams_both_ways_and_its_bound_holds() {
    let legacy = Backend::with(|seen| Response::new(seen.body.clone())).await;
    let proxy = Proxy::between(&legacy, &legacy)
        .route("{name: small, match: 'POST /small', extracted: extracted, weight: 100%, max_body: 4}")
        .start()
        .await;

    assert_eq!(proxy.post("/echo", "what goes in comes out").await.body, "what goes in comes out");
    assert_eq!(proxy.post("/small", "four").await.status, 200);
    let refused = proxy.post("/small", "fives").await;
    assert_eq!((refused.status, refused.header("strangler-error")), (413, Some("body_too_large")));
    assert_eq!(legacy.seen().len(), 2);
}

#[tokio::test]
async fn an_answer_of_a_split_route_is_kept_out_of_shared_caches() {
    let both =
        Backend::with(|_| Response::builder().header("cache-control", "public, max-age=60").body("ok".into()).unwrap())
            .await;
    let proxy = Proxy::between(&both, &both)
        .route("{name: split, match: '/split', extracted: extracted, weight: 50%}")
        .route("{name: whole, match: '/whole', extracted: extracted, weight: 100%}")
        .start()
        .await;

    let split = proxy.get("/split").await;
    let whole = proxy.get("/whole").await;

    assert_eq!(split.header("cache-control"), Some("private, max-age=60"));
    assert!(
        split
            .header("set-cookie")
            .is_some_and(|cookie| cookie.starts_with("strangler_id=") && cookie.contains("HttpOnly"))
    );
    assert_eq!(whole.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(whole.header("set-cookie"), None);
}

#[tokio::test]
async fn the_routes_own_header_changes_are_applied() {
    let extracted = Backend::with(|_| Response::builder().header("server", "svc/1").body("ok".into()).unwrap()).await;
    let proxy = Proxy::between(&extracted, &extracted)
        .route(
            "{name: r, match: '/r', extracted: extracted, weight: 100%, \
             request_headers: {set: {x-added: yes}, remove: [x-secret]}, response_headers: {set: {x-team: pricing}, remove: [server]}}",
        )
        .start()
        .await;

    let answer = proxy.send(Method::GET, "/r", &[("x-secret", "1")], "").await;

    let seen = &extracted.seen()[0].headers;
    assert_eq!(seen["x-added"], "yes");
    assert!(!seen.contains_key("x-secret"));
    assert_eq!((answer.header("x-team"), answer.header("server")), (Some("pricing"), None));
}

/// The answer's bytes as they stand, to one request over a connection of its own.
async fn raw(proxy: &Proxy, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_does_not_cut_the_answer() {
    let legacy = Backend::raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nc\r\nfar too long\r\n0\r\n\r\n",
    )
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;

    assert_eq!(proxy.get("/").await.body, "far too long");
}

#[tokio::test]
async fn a_chunked_body_of_a_read_that_is_too_large_to_keep_still_arrives() {
    let legacy = Backend::with(|seen| Response::new(seen.body.len().to_string().into())).await;
    let proxy = Proxy::between(&legacy, &legacy)
        .route("{name: r, match: '/r', extracted: extracted, weight: 100%, fallback: {max_body: 4}}")
        .start()
        .await;

    let request = "GET /r HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n";
    let answer = raw(&proxy, request).await;

    assert!(answer.ends_with("10"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_speaks_http_1_0_gets_every_body_whole() {
    let legacy = Backend::serving(std::sync::Arc::default(), |mut stream| async move {
        // Keeps the connection, as old servers do, and says how many bytes of a chunked or measured body came.
        loop {
            let head = String::from_utf8(read_head(&mut stream).await).unwrap().to_ascii_lowercase();
            if head.is_empty() {
                return;
            }
            let mut got = 0;
            if head.contains("transfer-encoding: chunked") {
                let mut body = Vec::new();
                while !body.ends_with(b"0\r\n\r\n") {
                    body.push(stream.read_u8().await.unwrap());
                }
                got = body.len();
            }
            let text = format!(
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: {}\r\n\r\n{got}",
                got.to_string().len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    proxy.get("/").await;

    let request =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    let answer = raw(&proxy, request).await;

    assert!(answer.starts_with("HTTP/1.1 200") && !answer.ends_with("\r\n\r\n0"), "{answer}");
}

#[tokio::test]
async fn a_broken_answer_never_looks_whole_to_a_client_of_http_1_0() {
    let broken = Backend::raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nonly \r\n").await;
    let sound = Backend::raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n").await;
    for (backend, expect) in [(broken, "502"), (sound, "200")] {
        let proxy = Proxy::between(&backend, &backend).start().await;
        let answer = raw(&proxy, "GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
        assert_eq!(answer.get(9..12), Some(expect), "{answer}");
    }
}

#[tokio::test]
async fn what_an_override_forces_is_one_persons_and_its_token_stays_here() {
    let extracted =
        Backend::with(|_| Response::builder().header("cache-control", "public").body("extracted".into()).unwrap())
            .await;
    let proxy = Proxy::between(&extracted, &extracted)
        .route("{name: r, match: '/r', extracted: extracted, override: {header: x-side}}")
        .start()
        .await;
    let mut command = strangler();
    command.args([
        "override-token",
        "--host",
        "shop.example.com",
        "--route",
        "r",
        "--side",
        "extracted",
        "--keys-file",
    ]);
    let output = command.arg(proxy.state_dir().join("keys")).output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap();

    let forced = proxy.send(Method::GET, "/r", &[("x-side", token.trim())], "").await;

    assert_eq!(forced.header("cache-control"), Some("private"));
    assert!(!extracted.seen()[0].headers.contains_key("x-side"));
}
