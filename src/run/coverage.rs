//! Keeps the book of what legacy is asked: counts of the cores in, three times a minute to the store, and told to whoever asks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strangler_core::coverage::{Book, Counts, MIN_EACH, RouteReport, Tally, day_of_unix_ms, gate, is_counted, report};
use strangler_core::judge::evidence::CoverageResult;
use strangler_core::snapshot::Snapshot;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::ReadCoverage;
use crate::live::Live;
use crate::proxy::attached::Attached;
use crate::proxy::coverage::Tallies;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// Counts of the cores that wait to be taken in. A core that finds no room keeps them.
const WAITING_MAX: usize = 64;
/// Between two saves: as much is lost when the process is killed.
const SAVE_EVERY: Duration = Duration::from_secs(20);
/// Between two looks at what is missing.
const SHOW_EVERY: Duration = Duration::from_secs(2);
/// Rows that are written at once: a kill behind them waits for no more.
const ROWS_AT_ONCE: usize = 512;
/// Longest that the end waits for the store.
const LAST_SAVE_MAX: Duration = Duration::from_secs(2);

/// The way to the book, made before there is anybody to keep it.
pub(super) struct Desk {
    pub(super) book: Arc<Mutex<Book>>,
    waiting: mpsc::Receiver<Vec<Tally>>,
}

impl Desk {
    pub(super) fn new() -> (Desk, Tallies) {
        let (tallies, waiting) = mpsc::channel(WAITING_MAX);
        (Desk { book: Arc::default(), waiting }, tallies)
    }
}

/// Whoever keeps the book.
pub(super) struct Keeper {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Keeper {
    /// Begins, on the current runtime.
    pub(super) fn start(desk: Desk, live: Arc<Live<Attached>>, store: Store, metrics: Arc<Metrics>) -> Keeper {
        let (stop, stopping) = oneshot::channel();
        let keeping = Keeping { book: desk.book, live, store, metrics, is_loaded: false, shown: BTreeSet::new() };
        Keeper { task: tokio::spawn(keeping.run(desk.waiting, stopping)), stop }
    }

    /// Takes in what the cores have left, and saves it; bounded in time.
    pub(super) async fn end(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(LAST_SAVE_MAX, self.task).await;
    }
}

struct Keeping {
    book: Arc<Mutex<Book>>,
    live: Arc<Live<Attached>>,
    store: Store,
    metrics: Arc<Metrics>,
    /// Whether what was stored before is in the book. Nothing is saved before: it would be read back as if another had seen it.
    is_loaded: bool,
    /// Routes with a gauge.
    shown: BTreeSet<String>,
}

impl Keeping {
    async fn run(mut self, mut waiting: mpsc::Receiver<Vec<Tally>>, mut stopping: oneshot::Receiver<()>) {
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut save, mut show) = (every(SAVE_EVERY), every(SHOW_EVERY));
        loop {
            tokio::select! {
                biased;
                _ = &mut stopping => break,
                _ = save.tick() => self.save().await,
                _ = show.tick() => self.show(),
                Some(tallies) = waiting.recv() => self.count(&tallies),
            }
        }
        while let Ok(tallies) = waiting.try_recv() {
            self.count(&tallies);
        }
        self.save().await;
    }

    fn count(&self, tallies: &[Tally]) {
        let today = today();
        // Piece by piece: whoever compares waits for the same lock.
        for tallies in tallies.chunks(64) {
            let mut book = locked(&self.book);
            for (seen, requests) in tallies {
                book.count(seen, Counts { requests: *requests, comparisons: 0 }, today);
            }
        }
    }

    async fn save(&mut self) {
        if !self.is_loaded {
            match self.store.coverage().await {
                Ok(rows) => locked(&self.book).load(rows),
                Err(error) => return tracing::debug!(%error, "what was seen before cannot be read yet"),
            }
            self.is_loaded = true;
        }
        loop {
            let rows = locked(&self.book).take_unsaved(ROWS_AT_ONCE);
            if rows.is_empty() {
                break;
            }
            match self.store.add_coverage(rows.clone()).await {
                Ok(()) => {}
                // Perhaps they are written. Saved once more they would count twice, and more would seem compared than was.
                Err(StoreError::TimedOut(_) | StoreError::Closed) => break,
                Err(StoreError::Unhealthy(_) | StoreError::Behind(_) | StoreError::QueueFull | StoreError::Read(_)) => {
                    locked(&self.book).put_back(&rows);
                    break;
                }
            }
        }
        locked(&self.book).tidy(today());
    }

    /// How much is missing, on routes that compare.
    fn show(&mut self) {
        let snapshot = Arc::clone(&self.live.load().snapshot);
        let (today, mut gone) = (today(), std::mem::take(&mut self.shown));
        for route in snapshot.table().routes().iter().filter(|route| route.compare.is_some()) {
            let name = route.name.as_str();
            let coverage = locked(&self.book).coverage(name, today);
            self.metrics.show_coverage_missing(name, gate(&coverage, MIN_EACH).missing.len());
            gone.remove(name);
            self.shown.insert(name.to_owned());
        }
        for name in &gone {
            self.metrics.forget_coverage(name);
        }
    }
}

/// For `strangler coverage`.
pub(super) fn reader(book: &Arc<Mutex<Book>>) -> ReadCoverage {
    let book = Arc::clone(book);
    Arc::new(move |snapshot, index| told(&book, snapshot, index))
}

/// What the gate of a rollout says.
pub(super) fn gated(book: &Mutex<Book>, route: &str, min_each: u32) -> CoverageResult {
    let coverage = locked(book).coverage(route, today());
    let found = gate(&coverage, u64::from(min_each));
    CoverageResult { passed: found.passed, missing: found.missing.len() as u64 }
}

fn told(book: &Mutex<Book>, snapshot: &Snapshot, index: usize) -> Option<RouteReport> {
    let route = snapshot.table().routes().get(index)?;
    let weight = snapshot.state(index).map_or(route.weight, |state| state.weight);
    let coverage = locked(book).coverage(route.name.as_str(), today());
    let (path, methods) = (route.conditions.path.to_string(), &route.conditions.methods);
    Some(report(route.name.as_str(), path, methods, is_counted(route, weight), &coverage))
}

fn locked(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn today() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    day_of_unix_ms(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
