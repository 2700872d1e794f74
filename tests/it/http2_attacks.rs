//! What HTTP/2 makes cheap to send and dear to take: it costs its own connection, and nobody else.
//!
//! More of it: `ATTACK_FRAMES=200000 cargo test --release --test it http2_attacks -- --nocapture`.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http2::{PREFACE, fields, frame, get_fields};
use crate::support::backend::Backend;
use crate::support::load::Load;
use crate::support::proxy::{PATIENCE, Proxy};

/// Frames of each attack.
fn frames() -> u32 {
    std::env::var("ATTACK_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// What the proxy may take more while it is attacked.
const GROWTH_KIB_MAX: u64 = 16 << 10;
/// Requests of one attack that may reach the service.
const UPSTREAM_MAX: usize = 400;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// What comes after the preface: its beginning, then one piece for each number.
type Attack = (&'static str, Vec<u8>, Box<dyn Fn(u32) -> Vec<u8>>);

fn post_fields() -> Vec<u8> {
    fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")])
}

/// A field of 4,000 bytes that goes into the table, which is then named a thousand times in each request.
fn bomb() -> Vec<u8> {
    // The length of a string of 4,000: 127, and 3,873 more in groups of seven bits.
    let entry = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4_000]].concat();
    let mut block = get_fields();
    block.extend(entry);
    block.extend([0xbe; 1_000]);
    block
}

fn attacks() -> Vec<Attack> {
    let open = frame(HEADERS, 4, 1, &post_fields());
    let id = |at: u32| 2 * at + 1;
    vec![
        ("settings", Vec::new(), Box::new(|_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]))),
        ("pings", Vec::new(), Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
        ("priorities", Vec::new(), Box::new(move |at| frame(PRIORITY, 0, id(at), &[0, 0, 0, 0, 16]))),
        ("unknown frames", Vec::new(), Box::new(|_| frame(0x2a, 0, 0, &[0; 64]))),
        ("windows", Vec::new(), Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("empty data", open.clone(), Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("padding", open, Box::new(|_| frame(DATA, 8, 1, &[[255].as_slice(), &[0; 255]].concat()))),
        (
            "resets",
            Vec::new(),
            Box::new(move |at| {
                [frame(HEADERS, 5, id(at), &get_fields()), frame(RST_STREAM, 0, id(at), &[0, 0, 0, 8])].concat()
            }),
        ),
        ("streams", Vec::new(), Box::new(move |at| frame(HEADERS, 5, id(at), &get_fields()))),
        (
            "continuations",
            frame(HEADERS, 1, 1, &get_fields()),
            Box::new(|_| frame(CONTINUATION, 0, 1, &fields(&[("x", "y")]).repeat(100))),
        ),
        ("empty continuations", frame(HEADERS, 1, 1, &get_fields()), Box::new(|_| frame(CONTINUATION, 0, 1, &[]))),
        ("bombs", Vec::new(), Box::new(move |at| frame(HEADERS, 5, id(at), &bomb()))),
    ]
}

/// A number of `/proc/PID/status`.
fn kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How an attack ended for whoever made it.
struct Outcome {
    sent: u32,
    is_over: bool,
}

/// Sends on until the other end has had enough. Who does not read what is answered keeps it waiting.
async fn attack(proxy: &Proxy, attack: &Attack, reads: bool) -> Outcome {
    let (mut reader, mut writer) = TcpStream::connect(proxy.address).await.unwrap().into_split();
    let mut reading = tokio::spawn(async move {
        if reads {
            let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        } else {
            tokio::time::sleep(PATIENCE).await;
        }
        reader
    });
    let (_, begin, piece) = attack;
    let mut is_over = writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), begin].concat()).await.is_err();
    let mut sent = 0;
    while sent < frames() && !is_over {
        let pieces: Vec<u8> = (sent..sent + 20).flat_map(piece).collect();
        // One that is no longer read is held back: that is an end, too.
        is_over = !matches!(tokio::time::timeout(Duration::from_secs(2), writer.write_all(&pieces)).await, Ok(Ok(())));
        sent += 20;
    }
    if reads && !is_over {
        // What was sent may still be on its way there, and the last word on its way back.
        is_over = tokio::time::timeout(Duration::from_secs(1), &mut reading).await.is_ok();
    }
    reading.abort();
    Outcome { sent, is_over }
}

// Of several threads: whoever attacks must not hold up whoever asks beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_flood_costs_its_own_connection_and_neither_memory_nor_the_service() {
    let legacy = Backend::answering(200, "ok").await;
    for reads in [true, false] {
        for one in attacks() {
            let proxy = Proxy::between(&legacy, &legacy).start().await;
            proxy.get("/warm").await;
            let (before, seen, begun) = (kib(proxy.pid(), "VmHWM:"), legacy.seen().len(), Instant::now());
            let load = Load::start(proxy.address, "/beside", 1, |status, _| status == 200);

            let outcome = attack(&proxy, &one, reads).await;

            let took = begun.elapsed();
            // Some end within a moment: the one beside it must have had its turn, on a busy machine as well.
            let patience = Instant::now() + PATIENCE;
            while load.done() == 0 && Instant::now() < patience {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let (done, failed) = load.stop().await;
            let growth = kib(proxy.pid(), "VmHWM:").saturating_sub(before);
            let arrived = legacy.seen()[seen..].iter().filter(|seen| !seen.target.contains("/beside")).count();
            let ended = if outcome.is_over { "ended" } else { "borne" };
            eprintln!(
                "{} (read: {reads}): {ended} after {} frames in {took:.1?}, {growth} KiB more, {arrived} upstream, {done} beside",
                one.0, outcome.sent
            );
            assert!(growth <= GROWTH_KIB_MAX, "{}: {growth} KiB more", one.0);
            assert!(arrived <= UPSTREAM_MAX || one.0 == "streams", "{}: {arrived} requests upstream", one.0);
            assert_eq!((failed, done > 0), (0, true), "{}", one.0);
            assert_eq!(proxy.get("/after").await.status, 200, "{}", one.0);
        }
    }
}

#[tokio::test]
async fn windows_that_stay_shut_hold_little_and_nobody_else() {
    const BYTES: usize = 4 << 20;
    let legacy = Backend::with(|_| http::Response::new(vec![b'x'; BYTES].into())).await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    proxy.get("/warm").await;
    let before = kib(proxy.pid(), "VmHWM:");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        // A window of nothing for each stream.
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
        for at in 0..100 {
            bytes.extend(frame(HEADERS, 5, 2 * at + 1, &get_fields()));
        }
        stream.write_all(&bytes).await.unwrap();
        held.push(stream);
    }
    let mut first = vec![0; 9 << 10];
    for stream in &mut held {
        let _ = tokio::time::timeout(PATIENCE, stream.read(&mut first)).await.expect("heads come");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let growth = kib(proxy.pid(), "VmHWM:").saturating_sub(before);
    eprintln!("200 answers of {BYTES} bytes to windows that stay shut: {growth} KiB more");
    assert!(growth < 200 * 128, "{growth} KiB more");
    assert_eq!(proxy.get("/after").await.status, 200);
}
