//! Builds all parts, hands each one end of a bounded channel, and owns start and stop.

pub mod keys;
pub mod options;
pub mod report;
pub mod verbs;
pub mod workers;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strangler_core::fault::Fault;
use strangler_core::redact::Redactor;
use strangler_core::reload::{AttemptOutcome, ConfigStatus, Source};
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;
use strangler_core::table::RoutingTable;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin::control::Control;
use crate::admin::token::AdminTokens;
use crate::admin::{self, AdminState, ApplyOutcome, ApplyRequest, Readiness};
use crate::args::RunArgs;
use crate::config::last_good::{Start, StartOutcome};
use crate::config::watch::{ReloadHandle, Reloader, Reloading, first_status, publish_to};
use crate::config::{last_good, render};
use crate::live::{Live, Publish};
use crate::proxy::attached::Attached;
use crate::proxy::listen::{ListenError, bind};
use crate::proxy::pins::Pins;
use crate::proxy::{self, CopyQueue, Proxy};
use crate::run::keys::{Keys, KeysError};
use crate::run::options::Options;
use crate::run::workers::Workers;
use crate::shadow::{Parts, Shadow, store_sink};
use crate::store::kill_file::KillFile;
use crate::store::{Store, StoreLimits};
use crate::telemetry::logs;
use crate::telemetry::metrics::Metrics;
use crate::upstream::budget::ByteBudget;
use crate::upstream::resolve;

/// Bytes that copies and the answers kept for them may hold, all cores together.
const SHADOW_BYTES_MAX: u64 = 64 << 20;

/// Copies that wait to be sent, per core.
const COPIES_WAITING_MAX: usize = 1_024;

/// How long the control plane's last tasks are waited for.
const CONTROL_END_MAX: Duration = Duration::from_secs(2);

/// How long the names of upstreams are waited for before the first request may come.
const FIRST_LOOKUP_MAX: Duration = Duration::from_secs(1);

/// Why the process did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The routes file was refused, and nothing else was there to start from.
    #[error("{shown}strangler: {} was refused, and no last good text is kept: nothing to start from", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// All faults, for people.
        shown: String,
    },
    /// The keys cannot be used.
    #[error("cannot start without keys")]
    Keys(#[from] KeysError),
    /// An address is taken, or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin or telemetry address cannot be served.
    #[error("cannot serve the {plane} plane on {address}")]
    Admin {
        /// `admin` or `telemetry`.
        plane: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Others could overhear the token.
    #[error(transparent)]
    AdminAddress(#[from] admin::AdminError),
    /// The system refused a thread, a runtime or a signal.
    #[error("cannot set the process up: {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A mistake of ours.
    #[error("two metrics have one name")]
    Metrics(#[source] prometheus::Error),
}

impl RunError {
    /// 78 when the configuration was refused (sysexits' `EX_CONFIG`), else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Refused { .. } => 78,
            RunError::Keys(_)
            | RunError::Listen(_)
            | RunError::Admin { .. }
            | RunError::AdminAddress(_)
            | RunError::System { .. }
            | RunError::Metrics(_) => 1,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Serves until a signal ends it, as the command line says.
pub fn start(args: RunArgs) -> Result<(), RunError> {
    let options = Options::from(args);
    let _logs = logs::start(options.access_log);
    run(options)
}

/// Serves until a signal ends it.
pub fn run(options: Options) -> Result<(), RunError> {
    admin::check_address(options.admin)?;
    // For its owner only: it holds keys, a token and what was learned of users.
    if let Err(error) = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.state_dir) {
        // The store, the keys and the token each say what they lose by it.
        tracing::error!(state_dir = %options.state_dir.display(), %error, "cannot make the state directory");
    }
    let keys = load_keys(&options)?;
    let first = first_routes(&options)?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("a runtime for the control plane"))?;
    let outcome = Process::build(options, &keys, first, &control).and_then(|process| process.serve(&control));
    // What still runs there (a look-up that hangs) must not hold the end up.
    control.shutdown_timeout(CONTROL_END_MAX);
    outcome
}

fn load_keys(options: &Options) -> Result<Keys, RunError> {
    let path = options.keys_file.clone().unwrap_or_else(|| options.state_dir.join(keys::FILE_NAME));
    let (keys, unwritten) = keys::load_or_make(&path)?;
    if let Some(error) = unwritten {
        tracing::error!(file = %path.display(), %error, "cannot keep the keys: overrides signed now end with this process");
    }
    Ok(keys)
}

/// What the first snapshot is made of.
struct First {
    start: Start,
    source: Source,
    faults: Vec<Fault>,
    refused: Option<Vec<u8>>,
}

fn first_routes(options: &Options) -> Result<First, RunError> {
    let origin = options.routes.display().to_string();
    let show = |faults: &[Fault], text: &[u8]| render::text(faults, &origin, text, io::stderr().is_terminal());
    match last_good::start(&options.routes, &options.state_dir, options.strict) {
        StartOutcome::Fresh(start) => {
            let faults = start.warnings.clone();
            if !faults.is_empty() {
                tracing::warn!("the routes file has warnings:\n{}", show(&faults, &start.text));
            }
            Ok(First { start, source: Source::File, faults, refused: None })
        }
        StartOutcome::FromLastGood { start, faults, refused } => {
            let shown = show(&faults, refused.as_deref().unwrap_or_default());
            tracing::error!("the routes file was refused; the last good text is in force until it is mended:\n{shown}");
            Ok(First { start, source: Source::LastGood, faults, refused })
        }
        StartOutcome::Refused { faults, refused } => {
            let shown = show(&faults, refused.as_deref().unwrap_or_default());
            Err(RunError::Refused { path: options.routes.clone(), shown })
        }
    }
}

/// The parts of a running process.
struct Process {
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
    fn build(options: Options, keys: &Keys, first: First, control: &Runtime) -> Result<Process, RunError> {
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION")).map_err(RunError::Metrics)?;
        let (store, loaded) = control.block_on(Store::open(&options.state_dir, StoreLimits::default()));
        let (snapshot, dropped) = Snapshot::new(Arc::clone(&first.start.table), &loaded.runtime);
        let attach = {
            let metrics = Arc::clone(&metrics);
            move |snapshot: &Arc<Snapshot>, before: Option<&Attached>| Attached::new(snapshot, before, &metrics)
        };
        let snapshot = Arc::new(snapshot).resuming(&loaded.pasts, now_unix_s());
        let live = Arc::new(Live::new(snapshot, attach));
        let publish: Arc<dyn Publish> = live.clone();
        let hand = Arc::new(Control::new(Arc::clone(&publish), store.clone()).with_keys(keys.signing.clone()));
        {
            let _in_control = control.enter();
            hand.forget(&dropped);
        }
        let settings = proxy::Settings {
            trusted: options.trusted.clone(),
            keys: keys.signing.clone(),
            caller_seed: u64::from_ne_bytes(keys.redaction.first_chunk().copied().unwrap_or_default()),
            expose_decision: options.expose_decision,
            access_log: options.access_log.is_some(),
            limits: proxy::Limits::default(),
            pins: Arc::new(Pins::new(keys.redaction, store.clone(), Arc::clone(&metrics), &loaded.pins)),
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

    fn serve(self, control: &Runtime) -> Result<(), RunError> {
        let Process { options, live, metrics, control: hand, store, proxy, shadow, budget, first } = self;
        let _in_control = control.enter();
        let mut signals = Signals::new().map_err(system("signal handlers"))?;
        // Bound before anything is started: an address that is taken ends the start with nothing to undo.
        let bound: Vec<_> =
            options.listen.iter().map(|address| bind(*address, options.threads)).collect::<Result<_, _>>()?;
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
            options.drain_deadline,
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

fn now_unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Joins the reloader's thread.
fn end(reloading: Reloading) {
    drop(reloading);
}

/// A plain line for whoever started the process, whatever the log's level.
fn say(line: &str) {
    use std::io::Write as _;
    // Nobody reads it: nothing to do about it.
    let _ = writeln!(io::stderr().lock(), "{line}");
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

fn tokens(options: &Options) -> Option<AdminTokens> {
    let read = match &options.admin_token_file {
        Some(path) => AdminTokens::read(path).map(|tokens| (tokens, path.clone(), false)),
        None => AdminTokens::read_or_make(&options.state_dir),
    };
    match read {
        Ok((tokens, path, is_made)) => {
            if is_made {
                say(&format!("admin token made in {}", path.display()));
            }
            Some(tokens)
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "no admin token: changes are only possible by the kill file and signals");
            None
        }
    }
}

fn reloader(
    options: &Options,
    live: &Arc<Live<Attached>>,
    hand: &Arc<Control>,
    metrics: &Arc<Metrics>,
    status: &Arc<Mutex<ConfigStatus>>,
) -> Reloader {
    let publish: Arc<dyn Publish> = Arc::clone(live) as Arc<dyn Publish>;
    let (hand, metrics, status) = (Arc::clone(hand), Arc::clone(metrics), Arc::clone(status));
    let path = options.routes.clone();
    let handle = tokio::runtime::Handle::current();
    let make = move |current: &Arc<Snapshot>, table: Arc<RoutingTable>| {
        let (next, dropped) = current.with_table(table);
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

fn readiness(status: &Arc<Mutex<ConfigStatus>>, stopping: &watch::Receiver<bool>) -> admin::ReadReadiness {
    let (status, stopping) = (Arc::clone(status), stopping.clone());
    Arc::new(move || {
        let status = status.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = *stopping.borrow();
        let refused = (!status.last.outcome.is_success())
            .then(|| status.last.faults.first().map_or_else(String::new, |fault| fault.message.clone()));
        Readiness {
            ready: !draining,
            draining,
            revision: status.revision.to_string(),
            config_stale: status.is_stale(),
            config_refused: refused,
        }
    })
}

async fn serve_applies(mut applies: mpsc::Receiver<ApplyRequest>, reloads: ReloadHandle) {
    while let Some(ApplyRequest { accept_removals, by, reply }) = applies.recv().await {
        tracing::info!(by, accept_removals, "asked to load the routes file");
        let outcome = match reloads.reload(accept_removals).await {
            Ok(status) => {
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

struct Signals {
    hangup: Signal,
    user_1: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for another signal to end.
    async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Works signals off until one ends the process; answers which.
    async fn until_the_end(&mut self, reloads: &ReloadHandle, hand: &Control) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.user_1.recv() => drop(hand.kill_all_by_signal()),
                _ = self.hangup.recv() => {
                    if let Err(error) = reloads.nudge() {
                        tracing::error!(%error, "SIGHUP: the routes file is not loaded again");
                    }
                }
            }
        }
    }
}
