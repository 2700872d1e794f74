//! What is shown of the process: gauges that follow what is in force, and numbers for the admin plane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strangler_core::fault::Fault;
use strangler_core::latency::Latencies;
use strangler_core::name::RouteName;
use strangler_core::noise::FieldVerdict;
use strangler_core::noise::ledger::Ledger;
use strangler_core::past::RoutePast;
use strangler_core::reload::ConfigStatus;
use strangler_core::snapshot::{Snapshot, Stage};

use crate::admin::{
    EndpointStatus, PlaneStatus, ProcessStatus, ReadCounts, ReadLatencies, ReadNumbers, ReadPlane, ReadProcess,
    ReadVerdict, ReadVerdicts, RenderMetrics, RouteNumbers, UpstreamStatus,
};
use crate::live::Live;
use crate::proxy::attached::Attached;
use crate::rollout::Condition;
use crate::store::{Change, Store};
use crate::telemetry::metrics::Metrics;
use crate::upstream::UpstreamState;

const EVERY: Duration = Duration::from_millis(500);

/// Shows what is known of the routes file.
pub(super) fn show_config(metrics: &Metrics, status: &ConfigStatus) {
    metrics.show_config(status.revision.as_str(), status.last.outcome.is_success(), status.is_stale());
}

/// A fault on one line: place, message, help.
pub(super) fn fault_line(fault: &Fault) -> String {
    let place =
        if fault.span.line > 0 { format!("{}:{}: ", fault.span.line, fault.span.column) } else { String::new() };
    let help = fault.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{place}{}{help}", fault.message)
}

/// Keeps gauges at what is in force.
pub(super) async fn keep_shown(
    live: Arc<Live<Attached>>,
    metrics: Arc<Metrics>,
    store: Store,
    (ledger, latencies): (Arc<Mutex<Ledger>>, Arc<Mutex<Latencies>>),
    begun: Instant,
) {
    let mut shown: Option<Arc<Snapshot>> = None;
    let mut verdicts: BTreeMap<RouteName, FieldVerdict> = BTreeMap::new();
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let snapshot = Arc::clone(&live.load().snapshot);
        if !shown.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &snapshot)) {
            show_routes(&metrics, shown.as_deref(), &snapshot);
            keep_pasts(&store, shown.as_deref(), &snapshot);
            let names: BTreeSet<&RouteName> = snapshot.table().routes().iter().map(|route| &route.name).collect();
            locked(&ledger).retain(|route| names.contains(route));
            locked(&latencies).retain(|route| names.contains(route));
            verdicts.retain(|route, _| names.contains(route));
            shown = Some(snapshot);
        }
        show_verdicts(&metrics, &ledger, &mut verdicts);
        show_upstreams(&live, &metrics);
        live.load().attached.tidy();
        locked(&latencies).tidy(begun.elapsed());
        metrics.show_store(store.kind(), store.health_now().healthy);
    }
}

fn locked<T>(book: &Mutex<T>) -> MutexGuard<'_, T> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those that have changed since they were shown.
fn show_verdicts(metrics: &Metrics, ledger: &Mutex<Ledger>, shown: &mut BTreeMap<RouteName, FieldVerdict>) {
    let ledger = locked(ledger);
    let news: Vec<(RouteName, FieldVerdict)> = ledger
        .verdicts()
        .filter(|(route, verdict)| shown.get(*route) != Some(verdict))
        .map(|(route, verdict)| (route.clone(), verdict))
        .collect();
    drop(ledger);
    for (route, verdict) in news {
        metrics.show_verdict(route.as_str(), verdict.as_str());
        shown.insert(route, verdict);
    }
}

/// For `strangler verdicts`.
pub(super) fn verdicts(ledger: &Arc<Mutex<Ledger>>) -> ReadVerdicts {
    let ledger = Arc::clone(ledger);
    Arc::new(move |route, most| locked(&ledger).report(route, most))
}

/// For the same.
pub(super) fn latencies(latencies: &Arc<Mutex<Latencies>>, begun: Instant) -> ReadLatencies {
    let latencies = Arc::clone(latencies);
    Arc::new(move |route, most| locked(&latencies).report(route, most, begun.elapsed()))
}

fn show_routes(metrics: &Metrics, before: Option<&Snapshot>, now: &Snapshot) {
    let names = |snapshot: &Snapshot| -> BTreeSet<String> {
        snapshot.table().routes().iter().map(|route| route.name.as_str().to_owned()).collect()
    };
    for gone in before.map(names).unwrap_or_default().difference(&names(now)) {
        metrics.forget_route(gone);
    }
    for (index, route) in now.table().routes().iter().enumerate() {
        if let Some(state) = now.state(index) {
            let stage = Stage::of(route, state.weight).as_str();
            metrics.show_route(route.name.as_str(), state.weight.ratio(), state.killed, stage);
        }
    }
}

/// Puts on record at which weights routes that remember keys have run. Lost half a second before a kill, it is told at the next
/// start by the weight that was stored last.
fn keep_pasts(store: &Store, before: Option<&Snapshot>, now: &Snapshot) {
    let known: BTreeMap<RouteName, RoutePast> = before.into_iter().flat_map(Snapshot::pasts).collect();
    let current: BTreeMap<RouteName, RoutePast> = now.pasts().collect();
    let gone =
        known.keys().filter(|route| !current.contains_key(*route)).map(|route| Change::Past(route.clone(), None));
    let changed = current.iter().filter(|(route, past)| known.get(*route) != Some(*past));
    let changed = changed.map(|(route, past)| Change::Past(route.clone(), Some(past.clone())));
    let changes: Vec<Change> = gone.chain(changed).collect();
    if !changes.is_empty() && !store.save_soon(changes, Vec::new()) {
        tracing::warn!("the weights of before could not be put on record");
    }
}

fn show_upstreams(live: &Live<Attached>, metrics: &Metrics) {
    for upstream in live.load().attached.upstreams() {
        metrics.show_upstream_connections(upstream.config.name.as_str(), upstream.connections_open());
    }
    live.load().attached.show(metrics);
}

/// For `/metrics`: what changes by itself is brought up to date first.
pub(super) fn renderer(live: &Arc<Live<Attached>>, metrics: &Arc<Metrics>, rollouts: &Arc<Condition>) -> RenderMetrics {
    let (live, metrics, rollouts) = (Arc::clone(live), Arc::clone(metrics), Arc::clone(rollouts));
    Arc::new(move || {
        show_upstreams(&live, &metrics);
        metrics.show_rollouts(rollouts.down().is_none(), rollouts.restarts());
        metrics.render()
    })
}

/// For the status.
pub(super) fn numbers(metrics: &Arc<Metrics>, ledger: &Arc<Mutex<Ledger>>) -> ReadNumbers {
    let (metrics, ledger) = (Arc::clone(metrics), Arc::clone(ledger));
    Arc::new(move |route| {
        let (requests_legacy, requests_extracted) =
            (metrics.requests_of(route, "legacy"), metrics.requests_of(route, "extracted"));
        Some(RouteNumbers {
            requests_legacy,
            requests_extracted,
            failures_legacy: metrics.failures_of(route, "legacy"),
            failures_extracted: metrics.failures_of(route, "extracted"),
            fallbacks: metrics.fallbacks_of(route),
            copies: metrics.copies_of(route),
            compared: metrics.compared_of(route),
            mismatches: metrics.mismatches_of(route),
            verdict: locked(&ledger).verdict_of(route).map(|verdict| verdict.as_str().to_owned()),
        })
    })
}

/// For the dashboard: all at once.
pub(super) fn counts(metrics: &Arc<Metrics>) -> ReadCounts {
    let metrics = Arc::clone(metrics);
    Arc::new(move || metrics.counts())
}

/// For the same.
pub(super) fn compare_verdict(ledger: &Arc<Mutex<Ledger>>) -> ReadVerdict {
    let ledger = Arc::clone(ledger);
    Arc::new(move |route| locked(&ledger).verdict_of(route).map(FieldVerdict::as_str))
}

/// For the same.
pub(super) fn process(metrics: &Arc<Metrics>) -> ReadProcess {
    let (metrics, begun) = (Arc::clone(metrics), Instant::now());
    Arc::new(move || {
        let (refused, dropped) = metrics.refused();
        ProcessStatus {
            overhead: metrics.overhead_times(),
            in_flight: metrics.in_flight_now(),
            refused,
            dropped,
            up_s: begun.elapsed().as_secs(),
        }
    })
}

/// For the status, too.
pub(super) fn plane(live: &Arc<Live<Attached>>) -> ReadPlane {
    let live = Arc::clone(live);
    Arc::new(move || {
        let published = live.load();
        let attached = &published.attached;
        PlaneStatus {
            breakers: attached.open_breakers(),
            upstreams: attached.upstreams().map(|upstream| upstream_status(upstream)).collect(),
        }
    })
}

fn upstream_status(upstream: &UpstreamState) -> UpstreamStatus {
    let states = upstream.endpoints().iter().zip(upstream.up());
    let endpoints = states.map(|(state, (endpoint, up))| {
        let unreached = state.unreached();
        EndpointStatus {
            endpoint: endpoint.to_string(),
            up,
            in_flight: state.in_flight(),
            unreached_at_unix_ms: unreached.as_ref().map(|last| last.at_unix_ms),
            unreached_times: unreached.as_ref().map_or(0, |last| last.times),
            unreached: unreached.map(|last| last.why),
        }
    });
    UpstreamStatus {
        name: upstream.config.name.as_str().to_owned(),
        in_flight: upstream.in_flight(),
        connections: upstream.connections_open(),
        endpoints: endpoints.collect(),
    }
}
