//! Learns templates from what no route covers: requests from the cores in, a few times a minute to the store, and told to whoever asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strangler_core::chain::chain;
use strangler_core::coverage::Seen;
use strangler_core::discovery::{Book, Declared, SavedEndpoint, Sighting};
use strangler_core::name::RouteName;
use strangler_core::route::FallThrough;
use strangler_core::template::normal_path;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use xxhash_rust::xxh3::xxh3_64;

use crate::admin::ReadEndpoints;
use crate::live::Live;
use crate::live::sightings::{self, Sightings};
use crate::proxy::attached::Attached;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// Between two looks at the queue.
const TAKE_EVERY: Duration = Duration::from_millis(200);
/// Between two saves: as much is lost when the process is killed.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// Endpoints that are written at once: a kill behind them waits for no more.
const ROWS_AT_ONCE: usize = 512;
/// Requests that are learned from before somebody else may have the thread.
const SIGHTINGS_AT_ONCE: usize = 256;
/// Longest that the end waits for the store.
const LAST_SAVE_MAX: Duration = Duration::from_secs(2);

/// Whoever learns.
pub(super) struct Keeper {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    book: Arc<Mutex<Book>>,
}

impl Keeper {
    /// Begins, on the current runtime.
    pub(super) fn start(
        sightings: Arc<Sightings>,
        live: Arc<Live<Attached>>,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Keeper {
        let (stop, stopping) = oneshot::channel();
        let policy = live.load().snapshot.table().fall_through().clone();
        let book = Arc::new(Mutex::new(Book::new(policy.templates_max as usize)));
        let mut keeping = Keeping {
            book: Arc::clone(&book),
            sightings,
            live,
            store,
            metrics,
            policy,
            saved: BTreeMap::new(),
            is_loaded: false,
        };
        keeping.follow();
        Keeper { task: tokio::spawn(keeping.run(stopping)), stop, book }
    }

    /// For `strangler endpoints`.
    pub(super) fn reader(&self) -> ReadEndpoints {
        let book = Arc::clone(&self.book);
        Arc::new(move || {
            let book = locked(&book);
            (book.totals(), book.found(now_s()))
        })
    }

    /// Takes in what the cores have left, and saves it; bounded in time.
    pub(super) async fn end(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(LAST_SAVE_MAX, self.task).await;
    }
}

struct Keeping {
    book: Arc<Mutex<Book>>,
    sightings: Arc<Sightings>,
    live: Arc<Live<Attached>>,
    store: Store,
    metrics: Arc<Metrics>,
    /// What the book goes by.
    policy: FallThrough,
    /// What is on record: a hash of each endpoint's counts, by its key.
    saved: BTreeMap<u64, u64>,
    /// Whether what was found before is in the book. Nothing is saved before.
    is_loaded: bool,
}

impl Keeping {
    async fn run(mut self, mut stopping: oneshot::Receiver<()>) {
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut save, mut take) = (every(SAVE_EVERY), every(TAKE_EVERY));
        loop {
            tokio::select! {
                biased;
                _ = &mut stopping => break,
                _ = save.tick() => self.save().await,
                _ = take.tick() => self.take().await,
            }
        }
        self.take().await;
        self.save().await;
    }

    /// Goes by what the file says now.
    fn follow(&mut self) {
        let snapshot = Arc::clone(&self.live.load().snapshot);
        let policy = snapshot.table().fall_through();
        self.sightings.want(policy.is_discovered);
        let mut book = locked(&self.book);
        if policy.declared != self.policy.declared || book.declared().next().is_none() {
            book.declare(policy.declared.iter().map(Declared::from));
        }
        book.set_templates_max(policy.templates_max as usize);
        drop(book);
        self.policy = policy.clone();
    }

    async fn take(&mut self) {
        if *self.live.load().snapshot.table().fall_through() != self.policy {
            self.follow();
        }
        // No more than were there: a busy data plane must not keep this busy for ever.
        let mut left = self.sightings.len();
        let at_s = now_s();
        while left > 0 {
            {
                let mut book = locked(&self.book);
                for _ in 0..left.min(SIGHTINGS_AT_ONCE) {
                    let Some(one) = self.sightings.pop() else { break };
                    learn(&mut book, &one, at_s);
                }
            }
            left = left.saturating_sub(SIGHTINGS_AT_ONCE);
            tokio::task::yield_now().await;
        }
        (0..self.sightings.take_dropped()).for_each(|_| self.metrics.count_queue_dropped("discovery"));
        self.metrics.show_discovered(locked(&self.book).totals().templates);
    }

    async fn save(&mut self) {
        if !self.is_loaded {
            match self.store.endpoints().await {
                Ok(saved) => {
                    self.saved = saved.iter().map(|one| (one.key, xxh3_64(one.counts.as_bytes()))).collect();
                    for error in locked(&self.book).load(&saved).iter().take(3) {
                        tracing::warn!(error = chain(error), "a template that was found before is left out");
                    }
                }
                Err(error) => return tracing::debug!(%error, "what was found before cannot be read yet"),
            }
            self.is_loaded = true;
        }
        let all = locked(&self.book).save();
        let now: BTreeMap<u64, u64> = all.iter().map(|one| (one.key, xxh3_64(one.counts.as_bytes()))).collect();
        let gone: Vec<u64> =
            self.saved.keys().filter(|key| !now.contains_key(key)).copied().take(ROWS_AT_ONCE).collect();
        let changed: Vec<_> = all.into_iter().filter(|one| self.saved.get(&one.key) != now.get(&one.key)).collect();
        let pieces = changed.chunks(ROWS_AT_ONCE).map(|piece| (piece.to_vec(), Vec::new()));
        for (changed, gone) in std::iter::once((Vec::new(), gone)).chain(pieces) {
            if !self.write(changed, gone).await {
                return;
            }
        }
    }

    async fn write(&mut self, changed: Vec<SavedEndpoint>, gone: Vec<u64>) -> bool {
        if changed.is_empty() && gone.is_empty() {
            return true;
        }
        if let Err(error) = self.store.save_endpoints(changed.clone(), gone.clone()).await {
            tracing::debug!(%error, "what was found is not on record yet");
            return false;
        }
        for key in gone {
            self.saved.remove(&key);
        }
        self.saved.extend(changed.iter().map(|one| (one.key, xxh3_64(one.counts.as_bytes()))));
        true
    }
}

fn learn(book: &mut Book, one: &sightings::Sighting, at_s: u64) {
    let (path, query) = one.target().split_once('?').unwrap_or((one.target(), ""));
    // It was found good at the door.
    let Ok(path) = normal_path(path) else { return };
    let seen = Seen::new(RouteName::fall_through(), one.method, one.status.as_u16(), query, one.content_type());
    book.saw(&Sighting {
        seen: &seen,
        path: &path,
        agent: one.agent(),
        took_us: u64::try_from(one.took.as_micros()).unwrap_or(u64::MAX),
        bytes: one.bytes,
        at_s,
    });
}

fn locked(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
