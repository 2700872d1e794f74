//! What outlives a restart: moved weights, kills, the audit and the stored divergences, in `<state-dir>/strangler.db`, or in a
//! PostgreSQL database; then what is in force is kept in that file, too.
//!
//! One task owns the one connection; everyone else holds a [`Store`], the sending end of two bounded queues. What is lost when the
//! disk is full or read-only is counted and shown ([`StoreHealth`]); it is never an error of the proxy: without a file the same
//! tables live in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strangler_core::audit::Verifier;
use strangler_core::chain::chain;
use strangler_core::idempotency::PinKey;
use strangler_core::name::RouteName;
use strangler_core::past::RoutePast;
use strangler_core::redact::accept::{Acceptance, Accepted, AcceptedKey};
use strangler_core::runtime::{Kill, KillScope, KillSource, Move, Progress, RuntimeState};
use strangler_core::side::Side;
use tokio::sync::{mpsc, oneshot, watch};

mod counts;
mod database;
mod link;
mod merge;
mod open_server;
mod schema;
mod sqlite;
mod writer;
pub mod kill_file;
pub mod postgres;

use crate::store::database::DatabaseError;
use crate::store::merge::Known;
use crate::store::sqlite::Opened;
use crate::store::writer::{Command, Record, Writer};

/// Most rows that one listing answers.
pub const LIST_ROWS_MAX: u32 = 500;
/// Most idempotency keys that are remembered; the oldest go first.
pub const PINS_MAX: u64 = 500_000;
/// Pins that wait to be written.
const PINS_QUEUED_MAX: usize = 16_384;
/// Name of the file in the state directory.
pub const FILE_NAME: &str = "strangler.db";

/// Bounds of the store.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Audit entries kept, newest first. Default: 1,000,000.
    pub audit_rows_max: u64,
    /// Bytes of stored divergences in all. Default: 1 GiB; 64 MiB while there is no file.
    pub divergence_bytes_max: u64,
    /// Divergences of one route. Default: 10,000.
    pub divergences_per_route_max: u64,
    /// Bytes of one divergence; a larger one is dropped and counted. Default: 256 KiB.
    pub divergence_json_bytes_max: usize,
    /// Bytes of divergences that wait to be written; more are dropped and counted. Default: 16 MiB.
    pub queued_bytes_max: usize,
    /// Idempotency keys remembered. Default: [`PINS_MAX`].
    pub pins_max: u64,
    /// How long a change waits to be on record. Default: 2 s.
    pub save_timeout: Duration,
    /// Between two tries to get back to a file that failed. Default: 2 s.
    pub probe_every: Duration,
    /// Between two sweeps of what is too old or too much. Default: 60 s.
    pub sweep_every: Duration,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits {
            audit_rows_max: 1_000_000,
            divergence_bytes_max: 1 << 30,
            divergences_per_route_max: 10_000,
            divergence_json_bytes_max: 256 << 10,
            queued_bytes_max: 16 << 20,
            pins_max: PINS_MAX,
            save_timeout: Duration::from_secs(2),
            probe_every: Duration::from_secs(2),
            sweep_every: Duration::from_secs(60),
        }
    }
}

/// A redacted pair of answers that differed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDivergence {
    /// Unique; what `replay` and deletion name it by.
    pub id: String,
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The route.
    pub route: String,
    /// What is alike in divergences of one cause: the kinds and paths of their differences.
    pub signature: String,
    /// That cause, as JSON, for people.
    pub cause: String,
    /// The record itself, already redacted.
    pub json: String,
}

/// What many divergences are due to. Counts all of them, those that are no longer kept included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCause {
    /// The route.
    pub route: String,
    /// As the divergences have it.
    pub signature: String,
    /// How many pairs differed for it.
    pub pairs: u64,
    /// When the first of them was seen, milliseconds since 1970.
    pub first_unix_ms: u64,
    /// And the last.
    pub last_unix_ms: u64,
    /// What it is, as JSON: place, kind, sorts of values.
    pub json: String,
}

/// How long and how many of a kind a divergence is kept; from the route's `compare`.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Of the same route and signature, so many stay: those with the greatest `score_ms`.
    pub per_signature: u32,
    /// What it is worth beside others of its signature.
    pub score_ms: i64,
    /// Age at which it goes.
    pub age: Duration,
    /// Bytes of all divergences of the route; the oldest go.
    pub route_bytes_max: u64,
}

/// Something that is kept beyond a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A route's moved weight; `None`: the file's is in force again.
    Move(RouteName, Option<Move>),
    /// A kill from the API or a signal; `None`: lifted. (Kills of the kill file are kept by that file.)
    Kill(KillScope, KillSource, Option<Kill>),
    /// The weights of a route's last minutes; `None`: the route is gone, or no longer remembers keys.
    Past(RouteName, Option<RoutePast>),
    /// A cause accepted as an intended change; `None`: taken back.
    Accept(AcceptedKey, Option<Acceptance>),
    /// How far a rollout has come; `None`: the route has none any more.
    Rollout(RouteName, Option<Progress>),
}

/// What a rollout has counted, as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLedger {
    /// The route.
    pub route: RouteName,
    /// The counts, as JSON.
    pub counts: String,
    /// The keys that they were counted for, in the order in which they were written.
    pub keys: Vec<Vec<u8>>,
}

/// Which side has seen an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPin {
    /// What stands for the key.
    pub key: PinKey,
    /// `None`: forgotten.
    pub side: Option<Side>,
    /// When it was seen first, in Unix seconds.
    pub seen_s: u64,
}

/// One line of the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number; 0 until stored.
    #[serde(default)]
    pub seq: u64,
    /// When, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Who asked, with the source's address where there is one.
    pub who: String,
    /// `weight`, `kill`, `unkill`, `kill_file`, `apply`, `raise_dropped`, `state_lost`, `login_failed`, …
    pub what: String,
    /// A route's name, `*`, or nothing.
    pub route: Option<String>,
    /// What was in force.
    pub from: Option<String>,
    /// What was asked for.
    pub to: Option<String>,
    /// Why; for a refusal, why it was refused.
    pub reason: String,
    /// Whether it was done.
    pub accepted: bool,
    /// What links it to the one before; empty until stored, and of entries that are older than the chain.
    #[serde(default)]
    pub link: String,
}

/// Which divergences or audit entries are asked for.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Of this route only.
    pub route: Option<String>,
    /// Not older than this, milliseconds since 1970.
    pub since_unix_ms: u64,
    /// At most so many, newest first; never more than [`LIST_ROWS_MAX`].
    pub limit: u32,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreHealth {
    /// Whether what is saved now outlives a restart.
    pub healthy: bool,
    /// Why not.
    pub why: Option<String>,
    /// What of an earlier life could not be read at start: kills and moved weights from before are then not in force.
    pub lost: Option<String>,
}

/// Why something was not put on record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store has no sound file.
    #[error("the store is not healthy: {0}")]
    Unhealthy(String),
    /// It is kept in the state directory, and not in the database yet.
    #[error("the database was not told: {0}")]
    Behind(String),
    /// It did not answer in time.
    #[error("the store did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// Too much is waiting.
    #[error("the store's queue is full")]
    QueueFull,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// A question failed.
    #[error("cannot read from the store: {0}")]
    Read(String),
}

/// What was found at start.
#[derive(Debug)]
pub struct Loaded {
    /// Moves and kills of before; empty when they are lost or there were none.
    pub runtime: RuntimeState,
    /// Weights of before, of routes that remember keys.
    pub pasts: BTreeMap<RouteName, RoutePast>,
    /// Causes that were accepted.
    pub accepted: Accepted,
    /// Idempotency keys seen in the last day, oldest first.
    pub pins: Vec<StoredPin>,
    /// Where the store lies: its file, or the one that names its database.
    pub path: PathBuf,
    /// What a database says that did not answer at once; `None`: it did, or there is none.
    pub late: Option<oneshot::Receiver<Late>>,
}

/// What a database said after the start. What was moved and killed here meanwhile is in it.
#[derive(Debug)]
pub struct Late {
    /// Moves and kills.
    pub runtime: RuntimeState,
    /// Weights of before, of routes that remember keys.
    pub pasts: BTreeMap<RouteName, RoutePast>,
    /// Causes that were accepted.
    pub accepted: Accepted,
    /// Idempotency keys seen in the last day, oldest first.
    pub pins: Vec<StoredPin>,
}

/// What was dropped since the start.
#[derive(Debug, Default)]
struct Counters {
    divergences_dropped: AtomicU64,
    changes_unsaved: AtomicU64,
    pins_unsaved: AtomicU64,
    queued_bytes: AtomicUsize,
}

/// A handle on the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    records: mpsc::Sender<Record>,
    pins: mpsc::Sender<StoredPin>,
    health: watch::Receiver<StoreHealth>,
    counters: Arc<Counters>,
    limits: StoreLimits,
    kind: &'static str,
}

impl Store {
    /// Opens the store of a state directory, which is made if it is missing, and starts its task on the current runtime.
    ///
    /// Never fails: what cannot be opened is replaced by tables in memory, and [`StoreHealth`] says so. A corrupt file is moved aside.
    pub async fn open(state_dir: &Path, limits: StoreLimits) -> (Store, Loaded) {
        let path = state_dir.join(FILE_NAME);
        let mut opened: Opened = sqlite::open(state_dir, &path).await;
        let pins = opened.pins(limits.pins_max).await;
        let health = StoreHealth { healthy: opened.why.is_none(), why: opened.why.clone(), lost: opened.lost.clone() };
        if let Some(why) = &health.why {
            tracing::error!(store = %path.display(), why, "the store is not healthy; moves are kept in memory only");
        }
        if let Some(lost) = &health.lost {
            tracing::error!(store = %path.display(), lost, "earlier kills and moved weights are lost; the file's weights are in force");
        }
        let loaded = Loaded::of(opened.state.clone().into(), pins, path.clone());
        (
            Store::start("sqlite", health, limits, |health, counters| {
                Writer::new(opened, path, limits, health, counters)
            }),
            loaded,
        )
    }

    fn start(
        kind: &'static str,
        health: StoreHealth,
        limits: StoreLimits,
        writer: impl FnOnce(watch::Sender<StoreHealth>, Arc<Counters>) -> Writer,
    ) -> Store {
        let (health_tx, health) = watch::channel(health);
        let (commands, command_rx) = mpsc::channel(256);
        let (records, record_rx) = mpsc::channel(1_024);
        let (pins, pin_rx) = mpsc::channel(PINS_QUEUED_MAX);
        let counters = Arc::new(Counters::default());
        tokio::spawn(writer(health_tx, Arc::clone(&counters)).run(command_rx, record_rx, pin_rx));
        Store { commands, records, pins, health, counters, limits, kind }
    }

    /// `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// How it is, now and at every change.
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.clone()
    }

    /// How it is now.
    pub fn health_now(&self) -> StoreHealth {
        self.health.borrow().clone()
    }

    /// Divergences that were dropped since the start: queue full, too large, or not written.
    pub fn divergences_dropped(&self) -> u64 {
        self.counters.divergences_dropped.load(Ordering::Relaxed)
    }

    /// Changes that are in force but not on record since the start.
    pub fn changes_unsaved(&self) -> u64 {
        self.counters.changes_unsaved.load(Ordering::Relaxed)
    }

    /// Puts changes that are in force and their audit on record, together; answers when they are on the disk.
    ///
    /// # Errors
    /// When they are not, or it cannot be told in time. They are then kept in memory and written once the file is sound again.
    pub async fn save(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Save { changes, audit, or_forget: false, reply: Some(reply) })?;
        self.answer(answer).await?
    }

    /// The same for changes that are not in force yet, and will not be if this fails.
    ///
    /// # Errors
    /// When they are not on the disk: they are then forgotten. After [`StoreError::TimedOut`] they may still be written late; save
    /// what is in force to correct that.
    pub async fn save_or_forget(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Save { changes, audit, or_forget: true, reply: Some(reply) })?;
        self.answer(answer).await?
    }

    /// The same without waiting; answers whether it was queued.
    pub fn save_soon(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> bool {
        self.send(Command::Save { changes, audit, or_forget: false, reply: None }).is_ok()
    }

    /// Keeps a divergence, or drops and counts it. Never waits; answers whether it was queued.
    pub fn record_divergence(&self, divergence: StoredDivergence, keep: Keep) -> bool {
        let bytes = divergence.json.len();
        let queued = &self.counters.queued_bytes;
        let has_room = bytes <= self.limits.divergence_json_bytes_max
            && queued.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limits.queued_bytes_max;
        if bytes > self.limits.divergence_json_bytes_max {
            self.counters.divergences_dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let is_queued = has_room && self.records.try_send(Record { divergence, keep }).is_ok();
        if !is_queued {
            queued.fetch_sub(bytes, Ordering::Relaxed);
            self.counters.divergences_dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_queued
    }

    /// Keeps a pin beyond a restart, soon; answers whether it was queued. Never waits.
    ///
    /// A process that is killed loses the pins of its last moments, usually of less than 10 ms. Their keys are then unknown, and go
    /// where their users go: to the same side, unless a weight has moved meanwhile (then they are in doubt) or legacy had done
    /// the write for an extracted side that could not be reached.
    pub fn record_pin(&self, pin: StoredPin) -> bool {
        self.pins.try_send(pin).is_ok()
    }

    /// Pins that were not written because the file failed, since the start. They are in force until the process ends.
    pub fn pins_unsaved(&self) -> u64 {
        self.counters.pins_unsaved.load(Ordering::Relaxed)
    }

    /// One stored divergence; `None`: there is none of that id, or no longer.
    pub async fn divergence(&self, id: String) -> Result<Option<StoredDivergence>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Divergence { id, reply })?;
        self.answer(answer).await?
    }

    /// What one cause is, as JSON; `None`: there is none of that signature.
    pub async fn cause(&self, key: AcceptedKey) -> Result<Option<StoredCause>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Cause { key, reply })?;
        self.answer(answer).await?
    }

    /// Stored divergences, newest first.
    pub async fn divergences(&self, listing: Listing) -> Result<Vec<StoredDivergence>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Divergences { listing, reply })?;
        self.answer(answer).await?
    }

    /// What divergences are due to, the most frequent first.
    pub async fn causes(&self, listing: Listing) -> Result<Vec<StoredCause>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Causes { listing, reply })?;
        self.answer(answer).await?
    }

    /// Audit entries, newest first.
    pub async fn audit(&self, listing: Listing) -> Result<Vec<AuditEntry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Audit { listing, reply })?;
        self.answer(answer).await?
    }

    /// Follows the chain of the audit a page further; answers the number of the last entry seen, and whether there may be more.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn follow_audit(&self, verifier: Verifier, after: u64) -> Result<(Verifier, u64, bool), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::FollowAudit { verifier, after, reply })?;
        self.answer(answer).await?
    }

    /// Weights and kills are another process's from now on: what was asked for before is on record when this answers (after 5 s at
    /// the latest), and none of them is written afterwards. Divergences and the audit still are, until the store is closed.
    pub async fn hand_over(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send_timeout(Command::HandOver { reply }, Duration::from_secs(1)).await.is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(5), answer).await;
        }
    }

    /// Writes what is queued and closes the file. Answers after 5 s at the latest.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        let is_asked = self.commands.send_timeout(Command::Close { reply }, Duration::from_secs(1)).await.is_ok();
        if is_asked {
            let _ = tokio::time::timeout(Duration::from_secs(5), answer).await;
        }
    }

    fn send(&self, command: Command) -> Result<(), StoreError> {
        self.commands.try_send(command).map_err(|refused| {
            if let mpsc::error::TrySendError::Full(Command::Save { changes, .. }) = &refused {
                self.counters.changes_unsaved.fetch_add(changes.len() as u64, Ordering::Relaxed);
            }
            match refused {
                mpsc::error::TrySendError::Full(_) => StoreError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
            }
        })
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.limits.save_timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::TimedOut(self.limits.save_timeout)),
        }
    }
}

impl Loaded {
    fn of(known: Known, pins: Vec<StoredPin>, path: PathBuf) -> Loaded {
        let Known { moves, kills, pasts, accepted, rollouts } = known;
        let runtime = RuntimeState::restore(moves, kills.into_values(), rollouts);
        Loaded { runtime, pasts, accepted: Accepted(accepted), pins, path, late: None }
    }
}

impl From<&DatabaseError> for StoreError {
    fn from(error: &DatabaseError) -> StoreError {
        StoreError::Read(chain(&error))
    }
}

/// Milliseconds since 1970, by the wall clock.
pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
