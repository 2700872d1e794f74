//! temporary
use std::sync::Arc;
use std::time::Duration;
use strangler::*;
use strangler_core::{runtime::RuntimeState, snapshot::Snapshot};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let get = |name: &str| args.iter().position(|a| a == name).map(|at| args[at + 1].clone());
    let text = std::fs::read(get("--routes").unwrap()).unwrap();
    let loaded = config::load(&text);
    for fault in &loaded.faults {
        eprintln!("{fault:?}");
    }
    let (snapshot, _) = Snapshot::new(loaded.table.unwrap(), &RuntimeState::default());
    let metrics = telemetry::metrics::Metrics::new("0").unwrap();
    let m = metrics.clone();
    let live = Arc::new(live::Live::new(Arc::new(snapshot), move |s, b| proxy::attached::Attached::new(s, b, &m)));
    let cores = get("--threads").and_then(|t| t.parse().ok()).unwrap_or(1);
    let bound = proxy::listen::bind(get("--listen").unwrap().parse().unwrap(), cores).unwrap();
    eprintln!("listening on http://{}", bound.address);
    let proxy = proxy::Proxy::new(live, metrics, proxy::Settings::default());
    let (_tx, rx) = tokio::sync::watch::channel(false);
    let w = run::workers::Workers::start(
        cores,
        vec![bound],
        move || proxy::Worker { proxy: proxy.clone(), copies: None },
        &rx,
        Duration::from_secs(3),
    )
    .unwrap();
    w.join();
}
