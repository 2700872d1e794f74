//! The parts of a running process, and the order in which they start and stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strangler_core::redact::Redactor;
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::control::Control;
use crate::admin::{self, AdminState};
use crate::config::watch::{Reloading, first_status};
use crate::live::accepted::LiveAccepted;
use crate::live::{Live, Publish};
use crate::proxy::attached::Attached;
use crate::proxy::listener;
use crate::proxy::pins::Pins;
use crate::proxy::{self, CopyQueue, Proxy};
use crate::rollout::{Condition, Views};
use crate::run::coverage::{self, Desk, Keeper};
use crate::run::discovery;
use crate::run::first::{First, tokens};
use crate::run::hooks::Outside;
use crate::run::keys::Keys;
use crate::run::lock::Lock;
use crate::run::options::Options;
use crate::run::reload::{readiness, reloader, serve_applies};
use crate::run::replay;
use crate::run::report;
use crate::run::rollouts::{self, Rolling};
use crate::run::signals::{End, Signals, Told};
use crate::run::sockets::{Inherited, Listening};
use crate::run::systemd::Manager;
use crate::run::upgrade::{Heir, Upgrader};
use crate::run::verdicts;
use crate::run::workers::Workers;
use crate::run::{Given, RunError, say, system};
use crate::shadow::replay::Replayer;
use crate::shadow::{Parts, Shadow, Target, store_sink};
use crate::store::kill_file::KillFile;
use crate::store::{Late, Loaded, Store, StoreLimits};
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
    replayer: Replayer,
    desk: Desk,
    budget: ByteBudget,
    first: First,
}

impl Process {
    pub(super) fn build(options: Options, keys: &Keys, first: First, control: &Runtime) -> Result<Process, RunError> {
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION")).map_err(RunError::Metrics)?;
        let (store, mut loaded) = control.block_on(open_store(&options));
        let (snapshot, dropped) = Snapshot::new(Arc::clone(&first.start.table), &loaded.runtime);
        let attach = {
            let metrics = Arc::clone(&metrics);
            move |snapshot: &Arc<Snapshot>, before: Option<&Attached>| Attached::new(snapshot, before, &metrics)
        };
        let snapshot = Arc::new(snapshot).resuming(&loaded.pasts, now_unix_s());
        let live = Arc::new(Live::new(snapshot, attach));
        let publish: Arc<dyn Publish> = live.clone();
        let accepted = Arc::new(LiveAccepted::new(loaded.accepted.clone()));
        let hand = Control::new(Arc::clone(&publish), store.clone()).with_keys(keys.signing.clone());
        let hand = Arc::new(hand.with_accepted(Arc::clone(&accepted)));
        {
            let _in_control = control.enter();
            hand.forget(&dropped);
        }
        let (desk, tallies) = Desk::new();
        let settings = proxy::Settings {
            limits: proxy::Limits::from(&options.server.limits),
            server: options.server.clone(),
            keys: keys.signing.clone(),
            caller_seed: u64::from_ne_bytes(keys.redaction.first_chunk().copied().unwrap_or_default()),
            expose_decision: options.expose_decision,
            access_log: options.access_log.is_some(),
            pins: Arc::new(Pins::new(keys.redaction, store.clone(), Arc::clone(&metrics), &loaded.pins)),
            writes: Arc::default(),
            tallies: Some(tallies),
            witnesses: Arc::default(),
            sightings: Arc::default(),
        };
        let proxy = Proxy::new(Arc::clone(&live), Arc::clone(&metrics), settings);
        let budget = ByteBudget::new(SHADOW_BYTES_MAX);
        let find = Arc::clone(&live);
        let (shadow, replayer, _compare) = Shadow::start(Parts {
            find_upstream: Arc::new(move |route, target| {
                let published = find.load();
                let table = published.snapshot.table();
                let name = match target {
                    Target::Side(Side::Legacy) => &table.legacy().name,
                    Target::Side(Side::Extracted) => &route.extracted.name,
                    Target::Elsewhere => &route.shadow.as_ref()?.upstream.as_ref()?.name,
                };
                published.attached.upstream(name).cloned()
            }),
            live: publish,
            metrics: Arc::clone(&metrics),
            budget: budget.clone(),
            redactor: Redactor::new(keys.redaction),
            accepted,
            coverage: Arc::clone(&desk.book),
            sink: store_sink(store.clone()),
            writes: Arc::clone(&proxy.settings.writes),
            witnesses: Arc::clone(&proxy.settings.witnesses),
            begun: proxy.begun,
        })
        .map_err(system("the thread that compares"))?;
        if let Some(late) = loaded.late.take() {
            control.spawn(adopt_late(late, Arc::clone(&hand), Arc::clone(&proxy.settings.pins)));
        }
        Ok(Process { options, live, metrics, control: hand, store, proxy, shadow, replayer, desk, budget, first })
    }

    /// Serves until it is told to end, or has handed over.
    pub(super) fn serve(self, given: Given, lock: Option<Lock>, control: &Runtime) -> Result<(), RunError> {
        let Process { options, live, metrics, control: hand, store, proxy, shadow, replayer, desk, budget, first } =
            self;
        let _in_control = control.enter();
        let Given { mut predecessor, activated } = given;
        let mut signals = Signals::new().map_err(system("signal handlers"))?;
        // Bound before anything is started: an address that is taken ends the start with nothing to undo.
        let handed = predecessor.as_mut().map(|before| std::mem::take(&mut before.sockets)).unwrap_or_default();
        let Listening { data: bound, admin: admin_listener, telemetry: telemetry_listener, kept } =
            Listening::open(&options, Inherited::new(handed, activated))?;
        let pins = Arc::clone(&proxy.settings.pins);
        let upgrader = Upgrader::new(
            options.upgrade_deadline,
            kept,
            lock,
            Arc::clone(&hand),
            Arc::clone(&metrics),
            Arc::clone(&pins),
        );
        let upgrader = Arc::new(upgrader);
        let manager = Manager::of_environment();
        look_up_first(&live, control);

        let status = first_status(&first.start, first.source, first.faults);
        let shared_status = Arc::new(Mutex::new(status.clone()));
        let reloading = reloader(&options, &live, &hand, &metrics, &shared_status, &manager)
            .spawn(first.start, status.clone(), first.refused.as_deref())
            .map_err(system("the thread that reloads"))?;
        if let Some(error) = &reloading.watch_error {
            tracing::warn!(%error, "the routes file's directory cannot be watched; changes are seen within five seconds");
        }
        report::show_config(&metrics, &status);

        if let Some(predecessor) = &mut predecessor {
            predecessor.prepared(&hand, live.as_ref(), &pins, control);
        }
        // Read before the first request may come: a restart must not undo an emergency, not even for a moment.
        let mut kill_file = KillFile::new(&options.state_dir);
        hand.apply_kill_file(kill_file.read());
        let killing = Arc::clone(&hand);
        control.spawn(kill_file.watch(move |lines| {
            killing.apply_kill_file(lines);
            true
        }));
        let ledger = shadow.ledger();
        let (latencies, book, begun) = (shadow.latencies(), Arc::clone(&desk.book), proxy.begun);
        let seen = (Arc::clone(&ledger), Arc::clone(&latencies));
        control.spawn(report::keep_shown(Arc::clone(&live), Arc::clone(&metrics), store.clone(), seen, begun));
        let keeper = Keeper::start(desk, Arc::clone(&live), store.clone(), Arc::clone(&metrics));
        let discovery = discovery::Keeper::start(
            Arc::clone(&proxy.settings.sightings),
            Arc::clone(&live),
            store.clone(),
            Arc::clone(&metrics),
        );
        let verdicts = verdicts::Keeper::start(Arc::clone(&ledger), Arc::clone(&live), store.clone());
        control.spawn(manager.clone().watch(is_well(&proxy)));

        let views = Arc::<Views>::default();
        let condition = Arc::<Condition>::default();
        let admin_bound = admin_listener.local_addr().unwrap_or(options.admin);
        let outside =
            Outside::start(control, live.clone(), &metrics, options.prometheus.clone(), admin_bound, proxy.begun);
        let rolling = Rolling::start(
            rollouts::parts(&proxy, &live, &hand, &store, &views, &book, &outside),
            Arc::clone(&condition),
            predecessor.is_some(),
        )
        .map_err(system("the thread that moves rollouts"))?;

        let (drain, draining) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let (hurry, hurried) = watch::channel(false);
        let listeners = proxy.listen_on(&options.server.listeners, &bound)?;
        control.spawn(listener::keep_fresh(listeners.clone()));
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
        control.spawn(serve_applies(applies, reloading.handle(), Arc::clone(&hand)));
        let (upgrade, upgrades) = mpsc::channel(1);
        let (found, mut heirs) = mpsc::channel(1);
        control.spawn(Arc::clone(&upgrader).serve(upgrades, found));
        let state = AdminState {
            control: Arc::clone(&hand),
            tokens: tokens(&options),
            hosts: options.admin_hosts.clone(),
            metrics: report::renderer(&live, &metrics, &condition),
            readiness: readiness(&shared_status, &draining, &condition),
            numbers: report::numbers(&metrics, &ledger),
            plane: report::plane(&live),
            verdicts: report::verdicts(&ledger),
            rollout: rollouts::shown(&views),
            latencies: report::latencies(&latencies, begun),
            coverage: coverage::reader(&book),
            endpoints: discovery.reader(),
            apply,
            replay: replay::on_a_thread(replayer),
            upgrade: upgrade.clone(),
        };
        let (admin_stop, admin_stopping) = watch::channel(false);
        let admin_address = admin_listener.local_addr().unwrap_or(options.admin);
        let mut planes = Vec::new();
        if let Some(listener) = telemetry_listener {
            let address = listener.local_addr();
            let listener = TcpListener::from_std(listener).map_err(system("the telemetry plane"))?;
            planes.push(control.spawn(admin::serve_telemetry(
                listener,
                state.clone(),
                told_to_stop(admin_stopping.clone()),
            )));
            if let Ok(address) = address {
                say(&format!("telemetry on http://{address}"));
            }
        }
        upgrader.sign();
        if let Some(predecessor) = predecessor {
            predecessor.ready(&hand, live.as_ref(), &pins, control);
            metrics.count_upgrade("taken_over");
            predecessor.obey(Arc::clone(&hand), live.clone(), Arc::clone(&pins), control.handle().clone());
        }
        // Last: as long as another process may still move users, nobody does so here.
        let admin_listener = TcpListener::from_std(admin_listener).map_err(system("the admin plane"))?;
        planes.push(control.spawn(admin::serve(admin_listener, state, told_to_stop(admin_stopping))));
        for listener in listeners {
            say(&format!("listening on {}://{}", listener.scheme(), listener.address()));
        }
        say(&format!("admin on http://{admin_address}"));
        manager.ready();

        let passed_on = Told { reloads: &reloading.handle(), hand: &hand, manager: &manager, upgrade: &upgrade };
        let end = control.block_on(signals.until_the_end(passed_on, &mut heirs));
        let stop_planes = async move {
            let _ = admin_stop.send(true);
            for plane in planes {
                // It ends by itself within its own bound; a panic in it has been logged.
                let _ = plane.await;
            }
        };
        match end {
            End::Signal(cause) => {
                rolling.tell();
                upgrader.abandon();
                manager.stopping();
                let delay = options.server.drain.delay;
                tracing::info!(
                    cause,
                    ?delay,
                    "stopping: draining, not ready any more; after the delay no new connections"
                );
                let _ = drain.send(true);
                let is_hurried = control.block_on(async {
                    tokio::select! {
                        () = tokio::time::sleep(delay) => false,
                        () = signals.another(&hand, None) => true,
                    }
                });
                let _ = stop.send(true);
                control.spawn(hurry_on(signals, hand, None, hurry, is_hurried));
                workers.join();
                control.block_on(stop_planes);
            }
            End::Heir(heir) => {
                tracing::info!(pid = heir.pid, "handed over: no new connections here, requests under way end");
                manager.main_pid(heir.pid);
                let _ = stop.send(true);
                rolling.stop();
                upgrader.release();
                control.block_on(stop_planes);
                control.block_on(store.hand_over());
                heir.last_word(&hand);
                heir.follow(&pins, live.clone());
                control.spawn(hurry_on(signals, hand, Some(heir), hurry, false));
                workers.join();
            }
        }
        control.block_on(async { tokio::join!(keeper.end(), verdicts.end(), discovery.end()) });
        rolling.stop();
        control.block_on(outside.end());
        control.block_on(store.close());
        end_reloading(reloading);
        tracing::info!("stopped");
        Ok(())
    }
}

async fn open_store(options: &Options) -> (Store, Loaded) {
    let limits = StoreLimits::default();
    match &options.store_url_file {
        Some(url_file) => Store::open_server(&options.state_dir, url_file, limits).await,
        None => Store::open(&options.state_dir, limits).await,
    }
}

/// Puts in force what a database says that had not answered when the first request could come.
async fn adopt_late(late: oneshot::Receiver<Late>, hand: Arc<Control>, pins: Arc<Pins>) {
    if let Ok(late) = late.await {
        late.pins.iter().for_each(|pin| pins.learn(pin));
        hand.adopt(&late.runtime, &late.pasts, late.accepted);
    }
}

/// Looks the names of upstreams up before the first request may come, and keeps them fresh.
fn look_up_first(live: &Arc<Live<Attached>>, control: &Runtime) {
    let weak = Arc::downgrade(live);
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
}

/// Whether the data plane's clock has gone on since it was asked last: a core that turns renews it a few times a second.
fn is_well(proxy: &Arc<Proxy>) -> impl Fn() -> bool + Send + 'static {
    let (proxy, seen) = (Arc::clone(proxy), AtomicU64::new(u64::MAX));
    move || {
        let now = proxy.coarse_ms.load(Ordering::Relaxed);
        seen.swap(now, Ordering::Relaxed) != now
    }
}

/// Waits for one more signal; then nothing is waited for any longer.
async fn hurry_on(
    mut signals: Signals,
    hand: Arc<Control>,
    heir: Option<Heir>,
    hurry: watch::Sender<bool>,
    is_hurried: bool,
) {
    if !is_hurried {
        signals.another(&hand, heir.as_ref()).await;
    }
    tracing::warn!("a second signal: not waiting any longer");
    let _ = hurry.send(true);
    // The sender stays: a core that looks for it must not find it gone.
    std::future::pending::<()>().await;
}

/// Joins the reloader's thread.
fn end_reloading(reloading: Reloading) {
    drop(reloading);
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

fn now_unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
