//! Binary upgrades in a row, under traffic that lasts longer than each of them.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::load::{judged_row, size};
use crate::support::origin;
use crate::support::pauses;
use crate::support::proxy::{Plan, Proxy, strangler};
use crate::support::traffic::{Kind, Plan as Asking, Tally};
use crate::support::wire::Wire;

/// Bytes of the slow upload.
const UPLOAD_PIECES: u64 = 100;

/// A body that is sent in pieces for `lasts`; how much of it arrived.
async fn upload(address: std::net::SocketAddr, piece_bytes: u64, lasts: Duration) -> Result<u64, String> {
    let mut wire = Wire::connect(address).await?;
    let bytes = piece_bytes * UPLOAD_PIECES;
    wire.send(format!("POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n").as_bytes()).await?;
    let piece = vec![b'u'; usize::try_from(piece_bytes).unwrap()];
    for _ in 0..UPLOAD_PIECES {
        wire.send(&piece).await?;
        tokio::time::sleep(lasts / u32::try_from(UPLOAD_PIECES).unwrap()).await;
    }
    let reply = wire.reply().await?;
    let told = String::from_utf8_lossy(&reply.body).parse::<u64>().map_err(|_| format!("answered {}", reply.head))?;
    if told == bytes { Ok(told) } else { Err(format!("{told} of {bytes} bytes arrived")) }
}

async fn upgrade(proxy: &Proxy) -> String {
    let mut command = strangler();
    command.args(["upgrade", "--admin", &format!("http://{}", proxy.admin)]);
    command.arg("--state-dir").arg(proxy.state_dir());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_in_a_row_refuse_and_reset_nobody() {
    let legacy = origin::start().await;
    let routes = format!(
        "version: 1\nlegacy: m\nupstreams: {{m: {{endpoints: ['{}'], max_connections: 2000}}}}\n",
        legacy.url()
    );
    let proxy = Plan::file(&routes).argument("--drain-deadline").argument("40s").start().await;
    let _pauses = pauses::watch(proxy.pid());
    let (upgrades, per_second) = (size(3, 20), size(100, 500));
    let (long_ms, long) = size((1_500, "/wait/1500"), (20_000, "/wait/20000"));
    let traffic = [
        Asking::new(Kind::New, proxy.address, 16, per_second).start(),
        Asking::new(Kind::Kept, proxy.address, 8, per_second / 4).start(),
        Asking::new(Kind::H2, proxy.address, 2, per_second / 4).start(),
        Asking::new(Kind::Post, proxy.address, 4, per_second / 10).start(),
        // Each one lives through several upgrades.
        Asking::new(Kind::New, proxy.address, size(4, 40), size(4, 20)).target(long).start(),
    ];
    let mut uploads: Vec<JoinHandle<Result<u64, String>>> = Vec::new();
    let begun = Instant::now();
    for number in 0..upgrades {
        if number % size(1, 4) == 0 {
            let lasts = Duration::from_millis(long_ms);
            uploads.push(tokio::spawn(upload(proxy.address, size(20 << 10, 1 << 20), lasts)));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let pid = proxy.serving_pid();
        upgrade(&proxy).await;
        assert_ne!(proxy.serving_pid(), pid);
    }
    let took = begun.elapsed();
    tokio::time::sleep(Duration::from_millis(long_ms)).await;

    let mut uploaded = (0, Vec::new());
    for upload in uploads {
        match upload.await.unwrap() {
            Ok(_) => uploaded.0 += 1,
            Err(why) => uploaded.1.push(why),
        }
    }
    let mut all = Tally::default();
    let mut parts = Vec::new();
    for part in traffic {
        let tally = part.stop().await;
        parts.push(tally.good);
        all.add(tally);
    }
    let failed = all.failed + uploaded.1.len() as u64;
    judged_row(
        &format!("{upgrades} upgrades in a row at {per_second} new connections/s, requests of {long_ms} ms, uploads"),
        "0 refused, 0 reset",
        &format!(
            "{failed} failed {:?} {:?}; new/kept/h2/post/long {parts:?}, {} uploads whole, in {took:.1?}",
            all.whys, uploaded.1, uploaded.0
        ),
        failed == 0,
    );
    assert_eq!(failed, 0);
    assert!(parts.iter().all(|good| *good > 0), "{parts:?}");
}
