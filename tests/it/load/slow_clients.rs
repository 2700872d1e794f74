//! Clients that send next to nothing, by the thousand, beside good ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::load::{MIB, is_full, judged_row, seconds, size};
use crate::support::origin;
use crate::support::pauses;
use crate::support::process::{busy_s, memory, raise_own_descriptors};
use crate::support::proxy::{Plan, Proxy};
use crate::support::traffic::{Kind, Plan as Asking, Tally, Traffic};
use crate::support::wire::connect_from;

/// Begun by a client that then dribbles: a field that never ends.
const BEGUN: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ";
/// Connections begun in a second.
const PER_SECOND: u32 = 2_000;
/// How many connections are begun at once.
const AT_ONCE: u32 = 200;

/// Stays until it is closed: every other one says nothing, the rest send a head byte by byte. How long it was let.
async fn slow(number: u32, address: SocketAddr, opened: tokio::sync::mpsc::Sender<()>) -> Result<Duration, String> {
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, u8::try_from(2 + number % 50).unwrap()));
    let stream = connect_from(source, address).await;
    let begun = Instant::now();
    let _ = opened.send(()).await;
    let stream = stream.map_err(|error| format!("connect: {error}"))?;
    let (mut reader, mut writer) = stream.into_split();
    let is_silent = number.is_multiple_of(2);
    if !is_silent {
        writer.write_all(BEGUN).await.map_err(|error| format!("write: {error}"))?;
    }
    let mut answer = [0u8; 2048];
    loop {
        match tokio::time::timeout(Duration::from_secs(1), reader.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return Ok(pauses::awake(begun, Instant::now())),
            Ok(Ok(_)) => {}
            Err(_) if is_silent => {}
            Err(_) => {
                let _ = writer.write_all(b"x").await;
            }
        }
        if pauses::awake(begun, Instant::now()) > Duration::from_secs(40) {
            return Err("it was never closed".into());
        }
    }
}

fn good_ones(proxy: &Proxy) -> [Traffic; 3] {
    [
        Asking::new(Kind::Kept, proxy.address, 20, size(100, 400)).start(),
        Asking::new(Kind::New, proxy.address, 10, size(50, 100)).start(),
        Asking::new(Kind::H2, proxy.address, 2, size(50, 100)).start(),
    ]
}

async fn end(traffic: [Traffic; 3]) -> Tally {
    let mut all = Tally::default();
    for part in traffic {
        all.add(part.stop().await);
    }
    all
}

/// Lets `count` of them come; answers them, and how long that took.
async fn crowd(count: u32, address: SocketAddr) -> (JoinSet<Result<Duration, String>>, Duration) {
    let (opened, mut openings) = tokio::sync::mpsc::channel(AT_ONCE as usize);
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    for number in 0..count {
        // As fast as they may come, but not as fast as this machine can make them: that would be measured instead.
        tokio::time::sleep_until((begun + Duration::from_secs(1) * number / PER_SECOND).into()).await;
        clients.spawn(slow(number, address, opened.clone()));
        if number >= AT_ONCE {
            openings.recv().await;
        }
    }
    for _ in 0..count.min(AT_ONCE) {
        openings.recv().await;
    }
    (clients, begun.elapsed())
}

async fn start(legacy: &str) -> Proxy {
    Plan::file(&format!("version: 1\nlegacy: {legacy}\n")).start().await
}

/// Good traffic while as many slow clients do the same to a proxy beside it: what they cost this machine, whoever they trouble.
async fn beside_a_crowd_elsewhere(proxy: &Proxy, legacy: &str, count: u32) -> Tally {
    let other = start(legacy).await;
    let traffic = good_ones(proxy);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (clients, _) = crowd(count, other.address).await;
    clients.join_all().await;
    end(traffic).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_gone_soon_small_and_in_nobodys_way() {
    let own = raise_own_descriptors();
    let legacy = origin::start().await;
    let proxy = start(&legacy.url()).await;
    // Half of its descriptors are kept for upstreams; good clients need some, too.
    let room = u32::try_from((own / 2).saturating_sub(200)).unwrap_or(u32::MAX);
    let count = size(150, 10_000).min(room);
    let _pauses = pauses::watch(proxy.pid());
    let open = format!("strangler_connections{{listener=\"{}\"}}", proxy.address);

    // The first ones of every kind take what is taken once.
    let warm = good_ones(&proxy);
    tokio::time::sleep(Duration::from_secs(1)).await;
    end(warm).await;
    let alone = good_ones(&proxy);
    tokio::time::sleep(seconds(2, 12)).await;
    let alone = end(alone).await;
    let elsewhere =
        if is_full() { beside_a_crowd_elsewhere(&proxy, &legacy.url(), count).await } else { alone.clone() };

    let beside = good_ones(&proxy);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (before, busy_before) = (memory(proxy.pid(), "VmRSS"), busy_s(proxy.pid()));
    let begun = Instant::now();
    let (mut clients, opening) = crowd(count, proxy.address).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // All are there, and none has been closed yet.
    let peak = memory(proxy.pid(), "VmRSS");
    let there = proxy.metric(&open).await;
    let mut lasted = Vec::new();
    let mut failed = Vec::new();
    while let Some(ended) = clients.join_next().await {
        match ended.unwrap() {
            Ok(time) => lasted.push(time),
            Err(why) => failed.push(why),
        }
    }
    let took = begun.elapsed();
    let busy = (busy_s(proxy.pid()) - busy_before) / took.as_secs_f64();
    let beside = end(beside).await;
    let longest = lasted.iter().max().copied().unwrap_or_default();
    let each = peak.saturating_sub(before) as f64 / 1024.0 / f64::from(count);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = memory(proxy.pid(), "VmRSS");

    judged_row(
        &format!("{count} slow clients (silent, dribbling heads)"),
        "gone in 12 s, at most 26 KiB each",
        &format!(
            "the last after {longest:.1?}, {there} there at once (opened in {opening:.1?}), {each:.1} KiB each, {} failed {:?}; {:.1} MiB before, {:.1} at most, {:.1} after; busy {busy:.2} cores",
            failed.len(),
            failed.first(),
            before as f64 / MIB,
            peak as f64 / MIB,
            after as f64 / MIB,
        ),
        failed.is_empty() && longest < Duration::from_secs(12) && each <= 26.0,
    );
    judged_row(
        "good traffic beside them",
        "100 % served, p99 at most twice what it is with the crowd at another proxy",
        &format!(
            "{} of {} failed {:?}; p50 {:.2} ms alone, {:.2} with the crowd elsewhere, {:.2} with it here; p99 {:.2} ms, {:.2}, {:.2}",
            beside.failed,
            beside.good + beside.failed,
            beside.whys,
            alone.within_ms(500),
            elsewhere.within_ms(500),
            beside.within_ms(500),
            alone.within_ms(990),
            elsewhere.within_ms(990),
            beside.within_ms(990)
        ),
        beside.failed == 0 && beside.within_ms(990) <= 2.0 * elsewhere.within_ms(990),
    );
    assert_eq!((failed.len(), beside.failed, alone.failed), (0, 0, 0), "{:?}", beside.whys);
    assert!(beside.good > 0);
}
