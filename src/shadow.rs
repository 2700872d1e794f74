//! Copies to the other side, and what is made of their answers.
//!
//! Each core has a task that takes copies from its bounded queue and sends them over connections of their own ([`copy`]); once
//! both answers are there, the pair goes to one thread that decodes, compares and redacts ([`worker`]). What differed is asked again on
//! the core that it came from ([`look`]), and goes the same way. Nothing here is waited
//! for by a user: every queue is bounded, and what finds one full is dropped and counted.

mod ask;
pub mod copy;
pub mod decode;
pub mod gates;
mod look;
pub mod replay;
mod rules;
pub mod worker;

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strangler_core::coverage::Book;
use strangler_core::latency::Latencies;
use strangler_core::noise::ledger::Ledger;
use strangler_core::observation::{CopyJob, Observation};
use strangler_core::redact::keep::score_ms;
use strangler_core::redact::{Divergence, Redactor};
use strangler_core::route::{ComparePolicy, Route};
use strangler_core::shadow::settle::Writes;
use strangler_core::side::Side;
use tokio::sync::{mpsc, oneshot};

use crate::live::Publish;
use crate::live::accepted::LiveAccepted;
use crate::live::witness::Witnesses;
use crate::shadow::copy::CopyOutcome;
use crate::shadow::gates::Gates;
use crate::shadow::look::Look;
use crate::shadow::replay::Replayer;
use crate::shadow::worker::{Books, Work, Worker};
use crate::store::{Keep, Store, StoredDivergence};
use crate::telemetry::metrics::Metrics;
use crate::upstream::UpstreamState;
use crate::upstream::budget::ByteBudget;

/// A copy to be made, and where the user's answer will arrive.
pub type Job = Box<CopyJob<oneshot::Receiver<Observation>>>;

/// Where a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A side of the route.
    Side(Side),
    /// What the route's `shadow.upstream` names, in place of extracted.
    Elsewhere,
}

impl Target {
    /// Where a request of ours to `side` goes.
    fn of(route: &Route, answered_by: Side, side: Side) -> Target {
        let is_elsewhere = side == Side::Extracted
            && answered_by == Side::Legacy
            && route.shadow.as_ref().is_some_and(|shadow| shadow.upstream.is_some());
        if is_elsewhere { Target::Elsewhere } else { Target::Side(side) }
    }
}

/// Finds the upstream that stands for a target of a route, in what is in force now.
pub type FindUpstream = Arc<dyn Fn(&Route, Target) -> Option<Arc<UpstreamState>> + Send + Sync>;

/// Where divergences go. Must not wait; answers whether it was taken.
pub type Sink = Arc<dyn Fn(&Divergence, &ComparePolicy) -> bool + Send + Sync>;

/// Most pairs that wait to be compared, all cores together; more are dropped and counted.
pub const PAIRS_WAITING_MAX: usize = 512;

/// What the shadow is made of.
pub struct Parts {
    /// Which upstream a copy goes to.
    pub find_upstream: FindUpstream,
    /// What is in force: the revision and the weights that go on record.
    pub live: Arc<dyn Publish>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bytes that copies and kept answers may hold, all cores together; the proxy's own.
    pub budget: ByteBudget,
    /// Hides values.
    pub redactor: Redactor,
    /// Causes that are intended changes.
    pub accepted: Arc<LiveAccepted>,
    /// What legacy was asked, and how much of it was compared.
    pub coverage: Arc<Mutex<Book>>,
    /// Where divergences go.
    pub sink: Sink,
    /// Who has just written; noted by the proxy.
    pub writes: Arc<Writes>,
    /// To whom releases are told.
    pub witnesses: Arc<Witnesses>,
    /// What times are counted from, the proxy's too.
    pub begun: Instant,
}

/// The shadow of the process, shared by its cores.
pub struct Shadow {
    find_upstream: FindUpstream,
    metrics: Arc<Metrics>,
    budget: ByteBudget,
    gates: Arc<Gates>,
    work: SyncSender<Work>,
    ledger: Arc<Mutex<Ledger>>,
    latencies: Arc<Mutex<Latencies>>,
    begun: Instant,
}

/// Second looks that wait to be begun, per core.
const LOOKS_WAITING_MAX: usize = 64;

impl Shadow {
    /// Starts the thread that compares; it ends when the last clone of the answer is gone.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(parts: Parts) -> io::Result<(Arc<Shadow>, Replayer, JoinHandle<()>)> {
        let (shadow, work) = Shadow::new(&parts);
        let maps = Arc::default();
        let replayer = Replayer::new(&parts, Arc::clone(&maps));
        let books = Books { ledger: Arc::clone(&shadow.ledger), latencies: Arc::clone(&shadow.latencies), maps };
        let worker = Worker::new(parts, Arc::clone(&shadow.gates), books);
        let thread = std::thread::Builder::new().name("compare".to_owned()).spawn(move || worker.run(&work))?;
        Ok((shadow, replayer, thread))
    }

    /// Without the thread; for tests of what comes before it.
    fn new(parts: &Parts) -> (Arc<Shadow>, Receiver<Work>) {
        let (sender, receiver) = sync_channel(PAIRS_WAITING_MAX);
        let shadow = Shadow {
            find_upstream: Arc::clone(&parts.find_upstream),
            metrics: Arc::clone(&parts.metrics),
            budget: parts.budget.clone(),
            gates: Arc::default(),
            work: sender,
            ledger: Arc::default(),
            latencies: Arc::default(),
            begun: parts.begun,
        };
        (Arc::new(shadow), receiver)
    }

    /// What is known of every endpoint. Not to be locked where users are served.
    pub fn ledger(&self) -> Arc<Mutex<Ledger>> {
        Arc::clone(&self.ledger)
    }

    /// How long the sides took. Likewise.
    pub fn latencies(&self) -> Arc<Mutex<Latencies>> {
        Arc::clone(&self.latencies)
    }

    /// One core's part: makes the copies that arrive, each in a task of its own, until the queue is closed. Copies under way then
    /// go on until they end or the runtime does.
    pub async fn run(self: Arc<Shadow>, mut jobs: mpsc::Receiver<Job>) {
        let (looks, mut to_look) = mpsc::channel::<Look>(LOOKS_WAITING_MAX);
        loop {
            let job = tokio::select! {
                job = jobs.recv() => job,
                Some(look) = to_look.recv() => {
                    let shadow = Arc::clone(&self);
                    tokio::spawn(Box::pin(async move { shadow.look(look).await }));
                    continue;
                }
            };
            let Some(job) = job else { return };
            let policy = job.route.shadow.as_ref();
            let pass = policy.and_then(|policy| self.gates.enter(&job.route.name, policy, self.now()));
            let Some(pass) = pass else {
                self.count(&job.route, CopyOutcome::Dropped);
                continue;
            };
            let (shadow, looks) = (Arc::clone(&self), looks.clone());
            // Boxed before it is handed over: what is spawned is moved several times.
            tokio::spawn(Box::pin(async move { shadow.copy(job, &pass, looks).await }));
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Where a request of ours to a side goes. What legacy answers may be copied elsewhere; then that is what it is compared with.
    fn upstream(&self, job: &Job, side: Side) -> Option<Arc<UpstreamState>> {
        (self.find_upstream)(&job.route, Target::of(&job.route, job.answered_by, side))
    }

    fn count(&self, route: &Route, outcome: CopyOutcome) {
        self.metrics.count_shadow(route.name.as_str(), outcome.as_str());
    }

    /// Hands work to the thread that compares.
    fn hand_over(&self, work: Work) {
        match self.work.try_send(work) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.count_queue_dropped("comparisons");
            }
        }
    }
}

/// Puts divergences into the store.
pub fn store_sink(store: Store) -> Sink {
    Arc::new(move |divergence, policy| {
        let (Ok(json), Ok(cause)) = (serde_json::to_string(divergence), serde_json::to_string(&divergence.cause))
        else {
            return false;
        };
        let stored = StoredDivergence {
            id: divergence.id.clone(),
            at_unix_ms: divergence.at_unix_ms,
            route: divergence.route.clone(),
            signature: divergence.cause.signature.clone(),
            cause,
            json,
        };
        let keep = Keep {
            per_signature: policy.keep_per_signature,
            score_ms: score_ms(policy.keep_how, policy.keep_age, divergence.at_unix_ms, &divergence.id),
            age: policy.keep_age,
            route_bytes_max: policy.keep_bytes_max,
        };
        store.record_divergence(stored, keep)
    })
}

#[cfg(test)]
mod tests;
