//! What binds the reloader to the rest: what a new table does, what is said of an attempt, and who may ask for one.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use strangler_core::fault::Fault;
use strangler_core::reload::{AttemptOutcome, ConfigStatus};
use strangler_core::snapshot::Snapshot;
use strangler_core::table::RoutingTable;
use tokio::sync::{mpsc, watch};

use crate::admin::control::Control;
use crate::admin::{self, ApplyOutcome, ApplyRequest, Readiness};
use crate::config::render;
use crate::config::watch::{ReloadHandle, Reloader, publish_to};
use crate::live::{Live, Publish};
use crate::proxy::attached::Attached;
use crate::rollout::Condition;
use crate::run::options::Options;
use crate::run::report;
use crate::run::systemd::Manager;
use crate::store::now_unix_ms;
use crate::telemetry::metrics::Metrics;

/// What watches the routes file.
pub(super) fn reloader(
    options: &Options,
    live: &Arc<Live<Attached>>,
    hand: &Arc<Control>,
    metrics: &Arc<Metrics>,
    status: &Arc<Mutex<ConfigStatus>>,
    manager: &Manager,
) -> Reloader {
    let publish: Arc<dyn Publish> = Arc::clone(live) as Arc<dyn Publish>;
    let (hand, metrics, status) = (Arc::clone(hand), Arc::clone(metrics), Arc::clone(status));
    let manager = manager.clone();
    let path = options.routes.clone();
    let handle = tokio::runtime::Handle::current();
    let make = move |current: &Arc<Snapshot>, table: Arc<RoutingTable>| {
        let (next, dropped) = current.with_table(table, now_unix_ms());
        let _in_control = handle.enter();
        hand.forget(&dropped);
        Arc::new(next)
    };
    Reloader {
        path: options.routes.clone(),
        state_dir: Some(options.state_dir.clone()),
        put_in_force: publish_to(publish, make),
        on_attempt: Box::new(move |now| {
            report::show_config(&metrics, now);
            metrics.count_reload(now.last.outcome.as_str());
            log_attempt(&path, now);
            manager.reloaded();
            *status.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
        }),
    }
}

fn log_attempt(path: &Path, status: &ConfigStatus) {
    let origin = path.display().to_string();
    // By the same door as the loader: what it refuses (a pipe, a file without end) must not be read for its picture either.
    let text = crate::config::read(path).unwrap_or_default();
    let shown = render::text(&status.last.faults, &origin, &text, false);
    if let Some(error) = &status.not_kept {
        tracing::error!(error, "the routes in force cannot be kept for the next start");
    }
    match status.last.outcome {
        AttemptOutcome::Accepted => {
            tracing::info!(revision = %status.revision, "new routes are in force");
            if !shown.is_empty() {
                tracing::warn!("the routes file has warnings:\n{shown}");
            }
        }
        AttemptOutcome::Unchanged => {
            tracing::info!(revision = %status.revision, "the routes file says what is in force");
        }
        AttemptOutcome::Refused | AttemptOutcome::RefusedRemoval => {
            tracing::error!(revision = %status.revision, "the routes file was refused; what was in force stays:\n{shown}");
        }
    }
}

/// For `/readyz`.
pub(super) fn readiness(
    status: &Arc<Mutex<ConfigStatus>>,
    draining: &watch::Receiver<bool>,
    rollouts: &Arc<Condition>,
) -> admin::ReadReadiness {
    let (status, draining, rollouts) = (Arc::clone(status), draining.clone(), Arc::clone(rollouts));
    Arc::new(move || {
        let status = status.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = *draining.borrow();
        let refused = (!status.last.outcome.is_success())
            .then(|| status.last.faults.first().map_or_else(String::new, |fault| fault.message.clone()));
        Readiness {
            ready: !draining,
            draining,
            revision: status.revision.to_string(),
            config_stale: status.is_stale(),
            config_refused: refused,
            rollouts_stopped: rollouts.down(),
        }
    })
}

/// For the dashboard.
pub(super) fn routes_file(path: &Path, status: &Arc<Mutex<ConfigStatus>>) -> admin::ReadConfig {
    let (path, status) = (path.to_owned(), Arc::clone(status));
    Arc::new(move || {
        let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // By the same door as the loader.
        let read = || crate::config::read(&path).map(|text| String::from_utf8_lossy(&text).into_owned());
        let text = if status.last.faults.is_empty() { String::new() } else { read().unwrap_or_default() };
        admin::ConfigSeen { path: path.display().to_string(), status: Some(status), text }
    })
}

/// Loads the routes file whenever someone asks.
pub(super) async fn serve_applies(
    mut applies: mpsc::Receiver<ApplyRequest>,
    reloads: ReloadHandle,
    hand: Arc<Control>,
) {
    while let Some(ApplyRequest { accept_removals, by, reply }) = applies.recv().await {
        tracing::info!(by, accept_removals, "asked to load the routes file");
        let outcome = match reloads.reload(accept_removals).await {
            Ok(status) => {
                if status.last.outcome == AttemptOutcome::Accepted {
                    hand.touched_by(&by);
                }
                let is_error = |fault: &&Fault| fault.severity == strangler_core::fault::Severity::Error;
                let told = |fault: &Fault| report::fault_line(fault);
                let faults = &status.last.faults;
                ApplyOutcome {
                    accepted: status.last.outcome.is_success(),
                    changed: status.last.outcome == AttemptOutcome::Accepted,
                    revision: status.revision.to_string(),
                    faults: faults.iter().filter(is_error).map(told).collect(),
                    warnings: faults.iter().filter(|fault| !is_error(fault)).map(told).collect(),
                    dropped_raises: Vec::new(),
                }
            }
            Err(error) => ApplyOutcome { faults: vec![error.to_string()], ..ApplyOutcome::default() },
        };
        // Whoever asked may have gone.
        let _ = reply.send(outcome);
    }
}
