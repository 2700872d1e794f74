//! TLS towards upstreams: verified always, with an authority and a certificate of their own where the file says so.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::Backend;
use crate::support::proxy::{Answer, PATIENCE, Plan, Proxy, strangler};
use crate::support::secure::{self, Authority};

/// A proxy whose monolith is `scheme://127.0.0.1:PORT` with these keys of `tls`.
fn plan(scheme: &str, backend: &Backend, tls: &str) -> Plan {
    let port = backend.address.port();
    Plan::file(&format!(
        "version: 1\nlegacy: m\nupstreams:\n  m: {{endpoints: [\"{scheme}://127.0.0.1:{port}\"], tls: {{{tls}}}}}\n"
    ))
}

fn dir_of(plan: &Plan) -> std::path::PathBuf {
    plan.routes_file().parent().unwrap().to_owned()
}

#[tokio::test]
async fn requests_go_over_tls_in_either_version() {
    let authority = Authority::new();
    let server = authority.identity(&["127.0.0.1"]);
    for (scheme, version) in [("https", None), ("h2", Some("2"))] {
        let backend = secure::backend(&server, None, &["h2", "http/1.1"]).await;
        let plan = plan(scheme, &backend, "ca: ca.pem");
        std::fs::write(dir_of(&plan).join("ca.pem"), &authority.pem).unwrap();
        let proxy = plan.start().await;

        let answers = [proxy.get("/a?b=c").await, proxy.post("/d", "body").await];

        assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 200], "{scheme}: {answers:?}");
        assert_eq!(answers.each_ref().map(|answer| answer.header("x-version")), [version, version], "{scheme}");
        assert_eq!(backend.seen()[0].target.rsplit('/').next(), Some("a?b=c"));
        // Whatever speaks to it, the client's host is kept.
        let seen = &backend.seen()[0];
        let host = seen.headers.get("host").map_or(seen.target.as_str(), |host| host.to_str().unwrap());
        assert!(host.contains("shop.example.com"), "{scheme}: {host}");
    }
}

#[tokio::test]
async fn no_session_key_is_written_to_a_file_whatever_the_environment_says() {
    let authority = Authority::new();
    let identity = authority.identity(&["127.0.0.1", "shop.example.com"]);
    let backend = secure::backend(&identity, None, &["http/1.1"]).await;
    let plan = plan("https", &backend, "ca: ca.pem").without("--listen");
    let dir = dir_of(&plan);
    std::fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    identity.write(&dir, "shop");
    let listeners = "listeners:\n  - {address: 127.0.0.1:0}\n  - {address: 127.0.0.1:0, tls: {certificates: [{cert: shop.pem, key: shop.key}]}}\n";
    std::fs::write(dir.join("strangler.yaml"), listeners).unwrap();
    let keys = dir.join("keys.log");
    let proxy = plan
        .variable("STRANGLER_CONFIG", &dir.join("strangler.yaml").to_string_lossy())
        .variable("SSLKEYLOGFILE", &keys.to_string_lossy())
        .start()
        .await;

    let mut stream = authority.connect(proxy.tls.unwrap(), "shop.example.com", &["http/1.1"]).await;
    let request = b"GET / HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();

    assert!(answer.ends_with("over TLS"), "{answer}");
    assert!(!keys.exists());
}

#[tokio::test]
async fn who_cannot_be_verified_is_not_spoken_to() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (right, wrong) = (authority.identity(&["127.0.0.1"]), authority.identity(&["other.example"]));
    let cases = [
        (&right, "ca: ca.pem", 200),
        (&wrong, "ca: ca.pem", 502),
        (&wrong, "ca: ca.pem, server_name: other.example", 200),
        (&right, "ca: ca.pem, server_name: other.example", 502),
        (&right, "ca: other.pem", 502),
        (&right, "server_name: 127.0.0.1", 502),
    ];
    for (identity, tls, status) in cases {
        let backend = secure::backend(identity, None, &["http/1.1"]).await;
        let plan = plan("https", &backend, tls);
        std::fs::write(dir_of(&plan).join("ca.pem"), &authority.pem).unwrap();
        std::fs::write(dir_of(&plan).join("other.pem"), &other.pem).unwrap();
        let proxy = plan.start().await;

        let answer: Answer = proxy.get("/").await;

        assert_eq!(answer.status, status, "{tls}: {}", answer.body);
        assert_eq!(backend.seen().len(), usize::from(status == 200), "{tls}");
    }
}

#[tokio::test]
async fn a_server_that_asks_who_we_are_is_told() {
    let authority = Authority::new();
    let (server, client) = (authority.identity(&["127.0.0.1"]), authority.identity(&["strangler.example"]));
    for (tls, status) in [("ca: ca.pem, client_cert: we.pem, client_key: we.key", 200), ("ca: ca.pem", 502)] {
        let backend = secure::backend(&server, Some(&authority), &["http/1.1"]).await;
        let plan = plan("https", &backend, tls);
        std::fs::write(dir_of(&plan).join("ca.pem"), &authority.pem).unwrap();
        client.write(&dir_of(&plan), "we");
        let proxy = plan.start().await;

        assert_eq!(proxy.get("/").await.status, status, "{tls}");
    }
}

#[tokio::test]
async fn a_changed_file_is_taken_into_use_without_a_restart() {
    let (first, second) = (Authority::new(), Authority::new());
    let backend = secure::backend(&second.identity(&["127.0.0.1"]), None, &["http/1.1"]).await;
    let plan = plan("https", &backend, "ca: ca.pem");
    let ca = dir_of(&plan).join("ca.pem");
    std::fs::write(&ca, &first.pem).unwrap();
    let proxy = plan.start().await;
    assert_eq!(proxy.get("/").await.status, 502);

    // Half of it first: what cannot be used is left alone.
    std::fs::write(&ca, &second.pem[..second.pem.len() / 2]).unwrap();
    std::fs::write(&ca, &second.pem).unwrap();

    let until = std::time::Instant::now() + PATIENCE;
    while proxy.get("/").await.status != 200 {
        assert!(std::time::Instant::now() < until, "the new authority was never believed");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_refuses_the_routes_and_says_where() {
    let backend = Backend::answering(200, "").await;
    let plan = plan("https", &backend, "ca: ca.pem, client_cert: we.pem, client_key: we.key");
    let dir = dir_of(&plan);
    let (authority, other) = (Authority::new(), Authority::new());
    authority.identity(&["a.example"]).write(&dir, "we");
    std::fs::write(dir.join("routes.yaml"), plan.text()).unwrap();
    let check = || {
        let output = strangler().arg("check").arg(dir.join("routes.yaml")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    let (code, said) = check();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("upstreams.m.tls.ca") && said.contains("cannot read"), "{said}");

    std::fs::write(dir.join("ca.pem"), "no PEM").unwrap();
    let (code, said) = check();
    assert!(code == Some(78) && said.contains("holds no certificate in PEM"), "{said}");

    std::fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    std::fs::write(dir.join("we.key"), &other.identity(&["a.example"]).key).unwrap();
    let (code, said) = check();
    assert!(code == Some(78) && said.contains("upstreams.m.tls.client_key"), "{said}");
}

#[tokio::test]
async fn a_server_without_http2_is_no_h2_endpoint() {
    let authority = Authority::new();
    let backend = secure::backend(&authority.identity(&["127.0.0.1"]), None, &["http/1.1"]).await;
    let plan = plan("h2", &backend, "ca: ca.pem");
    std::fs::write(dir_of(&plan).join("ca.pem"), &authority.pem).unwrap();
    let proxy: Proxy = plan.start().await;

    assert_eq!(proxy.get("/").await.status, 502);
    assert_eq!(backend.seen().len(), 0);
}
