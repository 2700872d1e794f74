//! Tunnels whose other end dies, does not read, or says nothing while everything around it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::{Backend, read_head};
use crate::support::fault::{Fault, Network};
use crate::support::proxy::{PATIENCE, Proxy};

const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Switches, then does as it is told.
async fn switching<R>(then: fn(TcpStream, Arc<AtomicUsize>) -> R, count: Arc<AtomicUsize>) -> Backend
where
    R: Future<Output = ()> + Send + 'static,
{
    Backend::serving(Arc::default(), move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_head(&mut stream).await;
            if stream.write_all(SWITCHED).await.is_ok() {
                then(stream, count).await;
            }
        }
    })
    .await
}

async fn echo(mut stream: TcpStream, _: Arc<AtomicUsize>) {
    let mut piece = [0u8; 1024];
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        let _ = stream.write_all(&piece[..read]).await;
    }
}

async fn flood(mut stream: TcpStream, written: Arc<AtomicUsize>) {
    let piece = vec![b'x'; 64 << 10];
    while stream.write_all(&piece).await.is_ok() {
        written.fetch_add(piece.len(), Ordering::Relaxed);
    }
}

async fn open(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(UPGRADE).await.unwrap();
    let head = tokio::time::timeout(PATIENCE, read_head(&mut stream)).await.unwrap();
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
    stream
}

async fn says(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut back = vec![0u8; text.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, text);
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap().count()
}

#[tokio::test]
async fn a_service_that_is_cut_off_ends_its_tunnels_and_leaves_nothing_open() {
    let service = switching(echo, Arc::default()).await;
    let network = Network::before(service.address).await;
    let proxy = Proxy::between(&network.near, &network.near).start().await;
    drop(open(&proxy).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = descriptors(&proxy);

    let mut tunnels = Vec::new();
    for _ in 0..20 {
        let mut tunnel = open(&proxy).await;
        says(&mut tunnel, b"hello").await;
        tunnels.push(tunnel);
    }
    network.set(Fault { reset_after: Some(1), ..Fault::default() });
    for tunnel in &mut tunnels {
        // The next byte of the service is its connection's last.
        tunnel.write_all(b"x").await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, tunnel.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the client is not told");
    }

    drop(tunnels);
    for _ in 0..PATIENCE.as_millis() / 50 {
        if descriptors(&proxy) <= before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} descriptors, {before} before", descriptors(&proxy));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_the_other_end_of_its_tunnel() {
    let written = Arc::<AtomicUsize>::default();
    let service = switching(flood, Arc::clone(&written)).await;
    let proxy = Proxy::between(&service, &service).start().await;

    let tunnel = open(&proxy).await;
    let mut before = usize::MAX;
    while before != written.load(Ordering::Relaxed) || before == 0 {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    // What the kernel keeps for four sockets, and the proxy's own buffers.
    assert!(before < 64 << 20, "{before} bytes went to a client that reads none");
    drop(tunnel);
}

#[tokio::test]
async fn reloads_close_no_tunnel_however_quiet_it_is() {
    let service = switching(echo, Arc::default()).await;
    let proxy = Proxy::between(&service, &service).start().await;
    let mut tunnels = Vec::new();
    for _ in 0..50 {
        tunnels.push(open(&proxy).await);
    }
    let text = std::fs::read_to_string(proxy.routes_file()).unwrap();

    for number in 1..=10 {
        // Another upstream each time: even the one of the tunnels is replaced.
        proxy.write_routes(&text.replace("endpoints:", &format!("max_in_flight: {}, endpoints:", 1_000 + number)));
        proxy.wait_for_metric(r#"strangler_config_reloads_total{result="accepted"}"#, f64::from(number)).await;
    }

    for tunnel in &mut tunnels {
        says(tunnel, b"still here").await;
    }
}

#[tokio::test]
async fn an_upgrade_of_the_binary_closes_no_tunnel_before_the_drain_is_over() {
    let service = switching(echo, Arc::default()).await;
    let proxy = Proxy::between(&service, &service).argument("--drain-deadline=5s").start().await;
    let mut tunnels = Vec::new();
    for _ in 0..10 {
        tunnels.push(open(&proxy).await);
    }
    let before = proxy.serving_pid();

    proxy.signal("USR2");
    for _ in 0..PATIENCE.as_millis() / 20 {
        if proxy.serving_pid().is_some_and(|pid| Some(pid) != before) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert_ne!(proxy.serving_pid(), before, "nobody took over");
    for tunnel in &mut tunnels {
        says(tunnel, b"carried by the old one").await;
    }
    says(&mut open(&proxy).await, b"and this by the new one").await;
    for tunnel in &mut tunnels {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, tunnel.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the old one goes on for ever");
    }
}
