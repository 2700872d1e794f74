//! More clients than descriptors.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::load::{judged_row, seconds, size};
use crate::support::origin;
use crate::support::pauses;
use crate::support::process::{allow_descriptors, busy_s, descriptors, raise_own_descriptors};
use crate::support::proxy::Plan;
use crate::support::wire::Wire;

const GET: &[u8] = b"GET /r HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_nothing_spins_and_all_is_well_a_second_after_the_clients_have_left() {
    raise_own_descriptors();
    let legacy = origin::start().await;
    let proxy = Plan::file(&format!("version: 1\nlegacy: {}\n", legacy.url())).start().await;
    let _pauses = pauses::watch(proxy.pid());
    let mut first = Wire::connect(proxy.address).await.unwrap();
    assert_eq!(first.ask(b"GET /r HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap().status, 200);
    allow_descriptors(proxy.pid(), descriptors(proxy.pid()) + 100);

    let mut clients = Vec::new();
    for _ in 0..size(300, 2_000) {
        clients.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (begun, before) = (Instant::now(), busy_s(proxy.pid()));
    tokio::time::sleep(seconds(2, 6)).await;
    let busy = (busy_s(proxy.pid()) - before) / begun.elapsed().as_secs_f64();
    // One that was there before is still served: it needs no more than it has.
    let kept = first.ask(b"GET /r HTTP/1.1\r\nhost: a\r\n\r\n").await.map(|reply| reply.status);

    drop(clients);
    let left = Instant::now();
    let mut tries = 0;
    let back = loop {
        tries += 1;
        let asked = async { Wire::connect(proxy.address).await?.ask(GET).await };
        if let Ok(Ok(reply)) = tokio::time::timeout(Duration::from_secs(10), asked).await
            && reply.status == 200
        {
            break left.elapsed();
        }
        assert!(tries < 20, "it never came back");
    };

    judged_row(
        "more clients than descriptors (EMFILE)",
        "no spin (under 0.2 of a core), back in 1 s",
        &format!("busy {busy:.3} of a core, back after {back:.2?} (try {tries}), a kept one meanwhile: {kept:?}"),
        busy < 0.2 && back <= Duration::from_secs(1) && kept == Ok(200),
    );
    assert!(busy < 0.5, "{busy}");
}
