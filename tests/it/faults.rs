//! What the process does when its surroundings fail: a state directory that cannot be written, a corrupt store, signals.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::load::Client;
use crate::support::proxy::{Plan, Proxy, strangler};

#[tokio::test]
async fn a_state_directory_that_is_a_file_costs_no_request_and_is_told() {
    let legacy = Backend::answering(200, "ok").await;
    let plan = Proxy::between(&legacy, &legacy).route("{name: r, match: /r, extracted: extracted, weight: 100%}");
    // A plain file where the directory should be: nothing can be written, even by root.
    std::fs::write(plan.state_dir(), "not a directory").unwrap();
    let proxy = plan.start().await;

    assert_eq!(proxy.get("/r").await.status, 200);
    proxy.wait_for_metric("strangler_build_info{version=\"0.1.0\"}", 1.0).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(proxy.count(r#"strangler_store_healthy{store="sqlite"}"#).await, 0);
    let ready = proxy.admin(Method::GET, "/readyz", "").await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    // No token could be made; a signal still kills.
    proxy.signal("USR1");
    proxy.wait_for_metric(r#"strangler_route_killed{route="r"}"#, 1.0).await;
}

#[tokio::test]
async fn a_corrupt_store_is_moved_aside_and_told() {
    let legacy = Backend::answering(200, "ok").await;
    let plan = Proxy::between(&legacy, &legacy).route("{name: r, match: /r, extracted: extracted, weight: 5%}");
    std::fs::create_dir_all(plan.state_dir()).unwrap();
    std::fs::write(plan.state_dir().join("strangler.db"), vec![b'x'; 8192]).unwrap();
    let proxy = plan.start().await;

    assert_eq!(proxy.get("/r").await.status, 200);
    let names: Vec<_> = std::fs::read_dir(proxy.state_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().starts_with("strangler.db.corrupt")), "{names:?}");
}

#[tokio::test]
async fn moved_weights_and_kills_outlive_a_kill_9() {
    let legacy = Backend::answering(200, "legacy").await;
    let extracted = Backend::answering(200, "extracted").await;
    let plan = Proxy::between(&legacy, &extracted)
        .route("{name: up, match: /up, extracted: extracted, weight: 0%}")
        .route("{name: down, match: /down, extracted: extracted, weight: 100%}");
    let proxy = plan.start().await;
    let raised = proxy.admin(Method::POST, "/api/v1/routes/up/weight", r#"{"weight": "100%", "reason": "test"}"#).await;
    let killed = proxy.admin(Method::POST, "/api/v1/routes/down/kill", r#"{"reason": "test"}"#).await;
    assert_eq!((raised.status, killed.status), (200, 200), "{} {}", raised.body, killed.body);
    proxy.signal("KILL");

    let again = Plan::file(&std::fs::read_to_string(proxy.routes_file()).unwrap());
    for entry in std::fs::read_dir(proxy.state_dir()).unwrap() {
        let entry = entry.unwrap();
        std::fs::create_dir_all(again.state_dir()).unwrap();
        std::fs::copy(entry.path(), again.state_dir().join(entry.file_name())).unwrap();
    }
    let again = again.start().await;

    assert_eq!((again.get("/up").await.body.as_str(), again.get("/down").await.body.as_str()), ("extracted", "legacy"));
    let status = again.admin(Method::GET, "/api/v1/status", "").await.body;
    assert!(status.contains("file 0% · running 100%"), "{status}");
}

#[tokio::test]
async fn what_is_secret_is_readable_by_its_owner_only() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    for name in ["admin-token", "keys", "strangler.db"] {
        let mode = std::fs::metadata(proxy.state_dir().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is {mode:o}");
    }
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_and_ends() {
    let legacy = Backend::serving(std::sync::Arc::default(), |mut stream| async move {
        crate::support::backend::read_head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await;
    })
    .await;
    let mut proxy = Proxy::between(&legacy, &legacy).start().await;

    let (answer, ()) = tokio::join!(proxy.get("/slow"), async {
        while legacy.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.signal("TERM");
    });

    assert_eq!(answer.body, "late");
    assert!(proxy.wait().success());
    assert!(TcpStream::connect(proxy.address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_told_to_close_while_the_process_stops() {
    let legacy = Backend::answering(200, "ok").await;
    let mut proxy = Proxy::between(&legacy, &legacy).start().await;
    let mut client = Client::connect(proxy.address).await;
    client.get("/", "u").await.unwrap();

    proxy.signal("TERM");
    proxy.wait_for_log("stopping");
    let (status, _) = client.get("/", "u").await.unwrap();

    assert_eq!(status, 200);
    assert!(proxy.wait().success());
}

#[tokio::test]
async fn an_address_that_is_taken_ends_the_start() {
    let legacy = Backend::answering(200, "ok").await;
    let first = Proxy::between(&legacy, &legacy).start().await;
    let second = Proxy::between(&legacy, &legacy).argument("--listen").argument(&legacy.address.to_string());
    std::fs::write(second.routes_file(), "version: 1\nlegacy: http://127.0.0.1:1\n").unwrap();

    let output = second.command().output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot listen on") && told.contains("in use"), "{told}");
    drop(first);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_and_counted() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    for (raw, expect) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400"),
        (b"TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        (b"GET nothing HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", "400"),
        (b"no request\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(raw).await.unwrap();
        let mut answer = [0u8; 12];
        stream.read_exact(&mut answer).await.unwrap_or_else(|error| panic!("{raw:?}: {error}"));
        assert_eq!(std::str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {expect}"), "{raw:?}");
    }
    assert_eq!(legacy.seen().len(), 0);
    assert!(proxy.count(r#"strangler_rejected_total{reason="bad_host"}"#).await >= 2);
    assert!(proxy.count(r#"strangler_rejected_total{reason="bad_framing"}"#).await >= 1);
    assert!(proxy.count(r#"strangler_rejected_total{reason="bad_request_line"}"#).await >= 1);
}

#[tokio::test]
async fn verbs_say_what_to_do_when_no_proxy_answers() {
    let nobody = Backend::refusing().await;
    let mut command = strangler();
    let output = command.args(["status", "--admin", &nobody.url()]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("strangler run"), "{told}");
}

#[tokio::test]
async fn a_second_signal_ends_the_wait() {
    let legacy = Backend::hanging().await;
    let mut proxy = Proxy::between(&legacy, &legacy).argument("--drain-deadline=600s").start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while legacy.connections() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    proxy.signal("TERM");
    proxy.wait_for_log("stopping");
    proxy.signal("TERM");

    assert!(proxy.wait().success());
}

#[tokio::test]
async fn a_pipe_in_place_of_the_routes_file_hangs_nobody() {
    let legacy = Backend::answering(200, "ok").await;
    let mut proxy = Proxy::between(&legacy, &legacy).start().await;
    let good = std::fs::read_to_string(proxy.routes_file()).unwrap();
    let pipe = proxy.dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, proxy.routes_file()).unwrap();
    proxy.wait_for_log("was refused");

    proxy.write_routes(&format!("{good}# mended\n"));
    proxy.wait_for_metric("strangler_config_last_reload_successful", 1.0).await;

    proxy.signal("TERM");
    assert!(proxy.wait().success());
}

#[tokio::test]
async fn a_second_process_on_the_same_address_is_told_so() {
    let legacy = Backend::answering(200, "ok").await;
    let first = Proxy::between(&legacy, &legacy).start().await;
    let second = Proxy::between(&legacy, &legacy).argument("--listen").argument(&first.address.to_string());
    std::fs::write(second.routes_file(), "version: 1\nlegacy: http://127.0.0.1:1\n").unwrap();

    let output = second.command().output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot listen on"), "{told}");
}

#[tokio::test]
async fn a_body_that_is_not_framed_is_the_clients_fault() {
    let legacy = Backend::answering(200, "ok").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n").await.unwrap();
    let mut answer = [0u8; 12];
    stream.read_exact(&mut answer).await.unwrap();

    assert_eq!(&answer, b"HTTP/1.1 400");
    assert_eq!(legacy.seen().len(), 0);
}
