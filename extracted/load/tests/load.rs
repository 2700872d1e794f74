//! The load against a small server that counts.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use estate_chassis::service::{Running, start};
use estate_load::run::{Plan, Summary, run};
use estate_load::target::Connections;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[derive(Clone, Default)]
struct Seen {
    paths: Arc<Mutex<Vec<String>>>,
    keys: Arc<Mutex<HashMap<String, u32>>>,
    users: Arc<Mutex<HashMap<String, u32>>>,
    running: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

/// One request that runs, also if its caller hangs up.
struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn count(State(seen): State<Seen>, request: Request) -> StatusCode {
    let now = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_at_once.fetch_max(now, Ordering::SeqCst);
    let _inside = Inside(Arc::clone(&seen.running));
    let (head, _) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    seen.paths.lock().expect("a list").push(format!("{} {}", head.method, head.uri));
    *seen.users.lock().expect("a map").entry(header("x-user-id")).or_default() += 1;
    let key = header("idempotency-key");
    if !key.is_empty() {
        *seen.keys.lock().expect("a map").entry(key).or_default() += 1;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    StatusCode::CREATED
}

async fn counting() -> (Running, Seen) {
    let seen = Seen::default();
    let router = Router::new().fallback(count).with_state(seen.clone());
    // A fallback of its own under a path, as the service's own fallback answers 404.
    let router = Router::new().nest("/api/v1", router.clone());
    (start((Ipv4Addr::LOCALHOST, 0).into(), router).await.expect("a server"), seen)
}

fn plan(per_second: u32, lasting_ms: u64, concurrency: u32) -> Plan {
    let lasting = Some(Duration::from_millis(lasting_ms));
    Plan { per_second, lasting, users: 300, seed: 1, concurrency, run: 1 }
}

async fn shop(address: SocketAddr, plan: Plan, stop: impl Future<Output = ()>) -> Summary {
    let target = format!("http://{address}").parse().expect("a target");
    run(Connections::to(target), plan, stop, Duration::from_secs(5), |_| ()).await
}

/// Ready when the server has seen so many requests, however long that takes.
async fn enough(seen: Seen, requests: usize) {
    while seen.paths.lock().expect("a list").len() < requests {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn shoppers_come_no_more_often_than_told_and_no_more_at_once_than_allowed() {
    let (server, seen) = counting().await;

    let summary = shop(server.address(), plan(1_000, 1_000, 8), std::future::pending()).await;

    assert_eq!((summary.tally.failed, summary.failure), (0, None));
    assert!((1..=1_002).contains(&summary.tally.requests()), "{:?}", summary.tally);
    // One who leaves frees its place at once; the server may still be at it.
    assert!(seen.most_at_once.load(Ordering::SeqCst) <= 16);
    server.stop().await;
}

#[tokio::test]
async fn shoppers_do_all_that_shoppers_do_and_some_click_twice_with_the_same_key() {
    let (server, seen) = counting().await;

    let summary = shop(server.address(), plan(5_000, 60_000, 64), enough(seen.clone(), 6_000)).await;

    assert_eq!((summary.tally.failed, summary.failure), (0, None));
    assert!(summary.tally.aborted > 0 && summary.tally.aborted * 20 < summary.tally.requests());
    let paths = seen.paths.lock().expect("a list").clone();
    let worked = "GET /carts/1042/total?coupon=SAVE10&country=DE";
    for wanted in [worked, "GET /products/", "GET /carts/1", "POST /carts/", "POST /payments", "POST /checkout"] {
        assert!(paths.iter().any(|path| path.starts_with(wanted)), "{wanted}");
    }
    assert!(seen.users.lock().expect("a map").len() > 200);
    let keys = seen.keys.lock().expect("a map").clone();
    let twice = keys.values().filter(|times| **times == 2).count();
    assert!(twice > 0 && twice * 10 < keys.len(), "{twice} of {}", keys.len());
    assert!(keys.values().all(|times| *times <= 2));
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_load_ends_though_answers_are_missing() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });

    let summary = shop(address, plan(200, 300, 4), std::future::pending()).await;

    assert_eq!((summary.tally.ok, summary.tally.failed), (0, 0));
    assert!(summary.tally.aborted >= 4);
    silent.abort();
}

#[tokio::test]
async fn a_truncated_answer_and_a_refused_connection_are_failures() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let cutting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        }
    });

    let cut = shop(address, plan(200, 300, 4), std::future::pending()).await;
    cutting.abort();
    let _ = cutting.await;
    let refused = shop(address, plan(200, 300, 4), std::future::pending()).await;

    assert!(cut.tally.ok == 0 && cut.tally.failed > 0);
    assert!(cut.failure.is_some_and(|why| why.contains("the answer broke off")));
    assert!(refused.tally.ok == 0 && refused.tally.failed > 0);
    assert!(refused.failure.is_some_and(|why| why.contains("cannot connect")));
}

#[tokio::test]
async fn a_server_that_closes_its_kept_connections_costs_no_request() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let closing = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            });
        }
    });

    // Slow enough that each close has arrived before the connection would be used again.
    let summary = shop(address, plan(50, 600, 1), std::future::pending()).await;

    assert_eq!(summary.tally.failed, 0, "{:?}", summary.failure);
    assert!(summary.tally.ok > 5);
    closing.abort();
}
