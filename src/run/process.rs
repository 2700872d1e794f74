//! The parts of a running process, and the order in which they start and stop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strangler_core::redact::Redactor;
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::admin::control::Control;
use crate::admin::{self, AdminState};
use crate::config::watch::{Reloading, first_status};
use crate::live::{Live, Publish};
use crate::proxy::attached::Attached;
use crate::proxy::listen::bind;
use crate::proxy::{self, CopyQueue, Proxy};
use crate::run::first::{First, tokens};
use crate::run::keys::Keys;
use crate::run::options::Options;
use crate::run::reload::{readiness, reloader, serve_applies};
use crate::run::report;
use crate::run::signals::Signals;
use crate::run::workers::Workers;
use crate::run::{RunError, say, system};
use crate::shadow::{Parts, Shadow, store_sink};
use crate::store::kill_file::KillFile;
use crate::store::{Store, StoreLimits};
use crate::telemetry::metrics::Metrics;
use crate::upstream::budget::ByteBudget;
use crate::upstream::resolve;

/// Bytes that copies and the answers kept for them may hold, all cores together.
const SHADOW_BYTES_MAX: u64 = 64 << 20;

/// Copies that wait to be sent, per core.
const COPIES_WAITING_MAX: usize = 1_024;

/// How long the names of upstreams are waited for before the first request may come.
const FIRST_LOOKUP_MAX: Duration = Duration::from_secs(1);

/// The parts of a running process.
pub(super) struct Process {
    options: Options,
    live: Arc<Live<Attached>>,
    metrics: Arc<Metrics>,
    control: Arc<Control>,
    store: Store,
    proxy: Arc<Proxy>,
    shadow: Arc<Shadow>,
    budget: ByteBudget,
    first: First,
}

impl Process {
    pub(super) fn build(options: Options, keys: &Keys, first: First, control: &Runtime) -> Result<Process, RunError> {
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION")).map_err(RunError::Metrics)?;
        let (store, loaded) = control.block_on(Store::open(&options.state_dir, StoreLimits::default()));
        let (snapshot, dropped) = Snapshot::new(Arc::clone(&first.start.table), &loaded.runtime);
        let attach = {
            let metrics = Arc::clone(&metrics);
            move |snapshot: &Arc<Snapshot>, before: Option<&Attached>| Attached::new(snapshot, before, &metrics)
        };
        let live = Arc::new(Live::new(Arc::new(snapshot), attach));
        let publish: Arc<dyn Publish> = live.clone();
        let hand = Arc::new(Control::new(Arc::clone(&publish), store.clone()));
        {
            let _in_control = control.enter();
            hand.forget(&dropped);
        }
        let settings = proxy::Settings {
            limits: proxy::Limits::from(&options.server.limits),
            server: options.server.clone(),
            keys: keys.signing.clone(),
            caller_seed: u64::from_ne_bytes(keys.redaction.first_chunk().copied().unwrap_or_default()),
            expose_decision: options.expose_decision,
            access_log: options.access_log.is_some(),
        };
        let proxy = Proxy::new(Arc::clone(&live), Arc::clone(&metrics), settings);
        let budget = ByteBudget::new(SHADOW_BYTES_MAX);
        let find = Arc::clone(&live);
        let (shadow, _compare) = Shadow::start(Parts {
            find_upstream: Arc::new(move |route, side| {
                let published = find.load();
                let table = published.snapshot.table();
                let name = match side {
                    Side::Legacy => &table.legacy().name,
                    Side::Extracted => &route.extracted.name,
                };
                published.attached.upstream(name).cloned()
            }),
            live: publish,
            metrics: Arc::clone(&metrics),
            budget: budget.clone(),
            redactor: Redactor::new(keys.redaction),
            sink: store_sink(store.clone()),
        })
        .map_err(system("the thread that compares"))?;
        Ok(Process { options, live, metrics, control: hand, store, proxy, shadow, budget, first })
    }

    pub(super) fn serve(self, control: &Runtime) -> Result<(), RunError> {
        let Process { options, live, metrics, control: hand, store, proxy, shadow, budget, first } = self;
        let _in_control = control.enter();
        let mut signals = Signals::new().map_err(system("signal handlers"))?;
        // Bound before anything is started: an address that is taken ends the start with nothing to undo.
        let bound: Vec<_> = options
            .server
            .listeners
            .iter()
            .map(|listener| bind(listener.address, options.threads))
            .collect::<Result<_, _>>()?;
        let admin_listener = control.block_on(listen("admin", options.admin))?;
        let telemetry_listener =
            options.telemetry.map(|address| control.block_on(listen("telemetry", address))).transpose()?;

        let weak = Arc::downgrade(&live);
        let upstreams = move || weak.upgrade().map(|live| live.load().attached.upstreams_weak()).unwrap_or_default();
        control.block_on(async {
            let first = upstreams();
            let looked_up = async {
                for upstream in first.iter().filter_map(std::sync::Weak::upgrade) {
                    resolve::refresh(&upstream).await;
                }
            };
            // A name that is slow to come is looked up again by the first request that needs it.
            let _ = tokio::time::timeout(FIRST_LOOKUP_MAX, looked_up).await;
        });
        control.spawn(resolve::keep_fresh(upstreams));

        let status = first_status(&first.start, first.source, first.faults);
        let shared_status = Arc::new(Mutex::new(status.clone()));
        let reloading = reloader(&options, &live, &hand, &metrics, &shared_status)
            .spawn(first.start, status.clone(), first.refused.as_deref())
            .map_err(system("the thread that reloads"))?;
        if let Some(error) = &reloading.watch_error {
            tracing::warn!(%error, "the routes file's directory cannot be watched; changes are seen within five seconds");
        }
        report::show_config(&metrics, &status);

        // Read before the first request may come: a restart must not undo an emergency, not even for a moment.
        let mut kill_file = KillFile::new(&options.state_dir);
        hand.apply_kill_file(kill_file.read());
        let killing = Arc::clone(&hand);
        control.spawn(kill_file.watch(move |lines| {
            killing.apply_kill_file(lines);
            true
        }));
        control.spawn(report::keep_shown(Arc::clone(&live), Arc::clone(&metrics), store.clone(), Arc::clone(&proxy)));

        let (stop, stopping) = watch::channel(false);
        let (hurry, hurried) = watch::channel(false);
        let told: Vec<SocketAddr> = bound.iter().map(|bound| bound.address).collect();
        let workers = Workers::start(
            options.threads,
            bound,
            core_part(proxy, shadow, budget),
            &stopping,
            &hurried,
            options.server.drain.deadline,
        )
        .map_err(system("the threads of the data plane"))?;

        let (apply, applies) = mpsc::channel(4);
        control.spawn(serve_applies(applies, reloading.handle()));
        let state = AdminState {
            control: Arc::clone(&hand),
            tokens: tokens(&options),
            hosts: options.admin_hosts.clone(),
            metrics: report::renderer(&live, &metrics),
            readiness: readiness(&shared_status, &stopping),
            numbers: report::numbers(&metrics),
            apply,
            upgrade: mpsc::channel(1).0,
        };
        let (admin_stop, admin_stopping) = watch::channel(false);
        let admin_address = admin_listener.local_addr().unwrap_or(options.admin);
        let mut planes =
            vec![control.spawn(admin::serve(admin_listener, state.clone(), told_to_stop(admin_stopping.clone())))];
        if let Some(listener) = telemetry_listener {
            let address = listener.local_addr();
            planes.push(control.spawn(admin::serve_telemetry(listener, state, told_to_stop(admin_stopping))));
            if let Ok(address) = address {
                say(&format!("telemetry on http://{address}"));
            }
        }
        for address in told {
            say(&format!("listening on http://{address}"));
        }
        say(&format!("admin on http://{admin_address}"));

        let cause = control.block_on(signals.until_the_end(&reloading.handle(), &hand));
        tracing::info!(cause, "stopping: no new connections, requests under way end");
        let _ = stop.send(true);
        control.spawn(async move {
            signals.second().await;
            tracing::warn!("a second signal: not waiting any longer");
            let _ = hurry.send(true);
        });
        workers.join();
        let _ = admin_stop.send(true);
        control.block_on(async {
            for plane in planes {
                // It ends by itself within its own bound; a panic in it has been logged.
                let _ = plane.await;
            }
            store.close().await;
        });
        end(reloading);
        tracing::info!("stopped");
        Ok(())
    }
}

/// Joins the reloader's thread.
fn end(reloading: Reloading) {
    drop(reloading);
}

async fn listen(plane: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Admin { plane, address, source })
}

async fn told_to_stop(mut stopping: watch::Receiver<bool>) {
    // Without a sender the process is on its way out, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Makes a core's part inside its runtime: its way to the shadow, and the shadow's task on that core.
fn core_part(
    proxy: Arc<Proxy>,
    shadow: Arc<Shadow>,
    budget: ByteBudget,
) -> impl Fn() -> proxy::Worker + Clone + Send + 'static {
    move || {
        let (sender, jobs) = mpsc::channel(COPIES_WAITING_MAX);
        tokio::spawn(Arc::clone(&shadow).run(jobs));
        proxy::Worker { proxy: Arc::clone(&proxy), copies: Some(CopyQueue { sender, budget: budget.clone() }) }
    }
}
