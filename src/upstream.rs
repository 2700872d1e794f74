//! Upstreams at run time: their endpoints' addresses, what is under way, and the connections of each core.
//!
//! One [`UpstreamState`] per upstream and process, shared by all cores; it outlives reloads that leave the upstream as it is,
//! and with it the pools. The pools themselves ([`pool`]) belong to a thread each, so that a request takes no lock.

pub mod body;
pub mod budget;
pub(crate) mod chance;
mod check;
pub mod cork;
mod dial;
mod drive;
pub mod endpoint;
mod last_word;
pub mod pool;
pub mod progress;
pub mod resolve;
mod shared;
pub mod tls;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use strangler_core::balance::{self, Candidate};
use strangler_core::observation::Failure;
use strangler_core::outlier::{self, Ejections};
use strangler_core::route::{Endpoint, OutlierDetection, Upstream};
use tokio::sync::Semaphore;

use crate::upstream::endpoint::EndpointState;
use crate::upstream::tls::TlsClient;

/// An upstream with everything that changes while it runs.
#[derive(Debug)]
pub struct UpstreamState {
    /// As the file says.
    pub config: Arc<Upstream>,
    /// Unlike any other of this process; names the pools of each thread.
    pub(crate) id: u64,
    endpoints: Vec<EndpointState>,
    has_shared: bool,
    next: AtomicUsize,
    in_flight: AtomicU32,
    fallbacks_in_flight: AtomicU32,
    pub(crate) connections: Arc<Semaphore>,
    connections_open: AtomicU32,
    /// How many requests wait for a connection because all are taken: idle ones must then be given up.
    pub(crate) waiting: AtomicU32,
    pub(crate) waiters: pool::Waiters,
    /// How many cores wait to open a shared connection: busy ones of other cores then end, too, with their last stream.
    pub(crate) waiting_shared: AtomicU32,
    budget: RetryBudget,
    ejections: Mutex<Ejections>,
    /// `None`: no endpoint needs it, or its files cannot be used.
    pub(crate) tls: ArcSwapOption<TlsClient>,
}

/// An endpoint that there is not.
const NOBODY: Candidate = Candidate { is_up: false, share: 0, in_flight: u32::MAX };

/// What times are counted from.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Since the process began.
pub(crate) fn since_begun(at: Instant) -> Duration {
    at.saturating_duration_since(*BEGUN)
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl UpstreamState {
    /// With empty pools. Endpoints given as addresses are known at once; names are looked up in the background, or by the first
    /// connection that needs one.
    pub fn new(config: Arc<Upstream>) -> UpstreamState {
        LazyLock::force(&BEGUN);
        let endpoints = config.endpoints.iter().map(|endpoint| EndpointState::new(endpoint, &config.tls)).collect();
        let state = UpstreamState {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            endpoints,
            has_shared: config.endpoints.iter().any(|endpoint| endpoint.scheme.is_h2()),
            next: AtomicUsize::new(0),
            in_flight: AtomicU32::new(0),
            fallbacks_in_flight: AtomicU32::new(0),
            connections: Arc::new(Semaphore::new(config.max_connections as usize)),
            connections_open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            waiters: pool::Waiters::default(),
            waiting_shared: AtomicU32::new(0),
            budget: RetryBudget::default(),
            ejections: Mutex::new(Ejections::of(config.endpoints.len())),
            tls: ArcSwapOption::empty(),
            config,
        };
        state.read_tls();
        state
    }

    /// Whether some endpoint speaks HTTP/2, which can say of a request that it was not looked at.
    pub(crate) fn has_shared(&self) -> bool {
        self.has_shared
    }

    /// In the order of the file.
    pub fn endpoints(&self) -> &[EndpointState] {
        &self.endpoints
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Connections open, idle ones included.
    pub fn connections_open(&self) -> u32 {
        self.connections_open.load(Ordering::Relaxed)
    }

    /// Counts a request in; `None` when the upstream is full, or has no room for another fallback.
    pub fn admit(self: &Arc<Self>, is_fallback: bool) -> Option<Admission> {
        let max = self.config.max_in_flight;
        if is_fallback {
            let share = u32::try_from(self.config.fallback_share.of(u64::from(max))).unwrap_or(u32::MAX);
            if self.fallbacks_in_flight.fetch_add(1, Ordering::Relaxed) >= share {
                self.fallbacks_in_flight.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
        }
        // Made first, so that its drop undoes both counts.
        let admission = Admission { upstream: Arc::clone(self), is_fallback };
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(admission)
    }

    /// Chooses an endpoint for a copy: one that is up, if any is.
    pub(crate) fn choose(&self, chance: u64) -> usize {
        self.pick(chance, Instant::now(), None).unwrap_or_default()
    }

    /// Chooses an endpoint for the next try; `None` when none is up. `chance` is any random number; `tried` has failed already.
    pub(crate) fn pick(&self, chance: u64, now: Instant, tried: Option<usize>) -> Option<usize> {
        let count = self.endpoints.len();
        if count < 2 && self.config.health_check.is_none() {
            return Some(0);
        }
        let now = since_begun(now);
        let candidate = |at: usize| self.endpoints.get(at).map_or(NOBODY, |endpoint| endpoint.candidate(now));
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        balance::choose(self.config.balance, count, candidate, turn, chance, tried)
    }

    /// A try at an endpoint has ended, well (`None`) or not. Costs a look at the configuration where nothing is to be learned.
    pub(crate) fn note(&self, endpoint: usize, failure: Option<Failure>, now: Instant) {
        let Some(policy) = &self.config.outlier_detection else { return };
        let Some(state) = self.endpoints.get(endpoint) else { return };
        match failure {
            None => {
                if state.streak.load(Ordering::Relaxed) != 0 {
                    state.streak.store(0, Ordering::Relaxed);
                }
            }
            Some(failure) if outlier::is_charged(failure) => {
                let streak = state.streak.fetch_add(1, Ordering::Relaxed) + 1;
                if streak >= policy.consecutive_failures.get() {
                    self.eject(endpoint, state, policy, since_begun(now));
                }
            }
            Some(_) => {}
        }
    }

    fn eject(&self, endpoint: usize, state: &EndpointState, policy: &OutlierDetection, now: Duration) {
        let is_healthy = |at: usize| self.endpoints.get(at).is_some_and(EndpointState::is_healthy);
        let mut ejections = self.ejections.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = ejections.eject(endpoint, policy, is_healthy, now) else { return };
        state.eject(until);
        drop(ejections);
        let seconds = until.saturating_sub(now).as_secs();
        tracing::warn!(upstream = %self.config.name, endpoint = %state.endpoint, seconds, "an endpoint failed too often in a row and is left out");
    }

    /// Endpoints that get requests now, in the order of the file.
    pub fn up(&self) -> impl Iterator<Item = (&Endpoint, bool)> {
        let now = since_begun(Instant::now());
        self.endpoints.iter().map(move |endpoint| (&endpoint.endpoint, endpoint.is_up(now)))
    }

    /// Reads the files of `tls` where they are needed. What cannot be used leaves what was: no connection is made without.
    pub(crate) fn read_tls(&self) {
        if !self.config.endpoints.iter().any(|endpoint| endpoint.scheme.is_tls()) {
            return;
        }
        match TlsClient::read(&self.config.tls) {
            Ok(client) => self.tls.store(Some(Arc::new(client))),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(upstream = %self.config.name, key = error.key(), %error, cause, "a file of `tls` cannot be used");
            }
        }
    }

    /// Counts a request towards the retry budget.
    pub fn note_request(&self) {
        self.budget.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the budget has a retry left. `now` is since the process began.
    pub fn has_retry(&self, now: Duration) -> bool {
        self.budget.has_retry(self.config.retry.budget, now)
    }

    /// Takes a retry from the budget.
    pub fn take_retry(&self) {
        self.budget.retries.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request counted in; counted out when dropped.
#[derive(Debug)]
pub struct Admission {
    upstream: Arc<UpstreamState>,
    is_fallback: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.upstream.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_fallback {
            self.upstream.fallbacks_in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// An open connection counted in; counted out when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionCount(Arc<UpstreamState>);

impl ConnectionCount {
    pub(crate) fn new(upstream: &Arc<UpstreamState>) -> ConnectionCount {
        upstream.connections_open.fetch_add(1, Ordering::Relaxed);
        ConnectionCount(Arc::clone(upstream))
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Retries as a part of requests in the current and the last window, so that retries cannot multiply an outage. Approximate:
/// cores count without a lock, and a window may be reset twice; it errs by a few requests.
#[derive(Debug, Default)]
struct RetryBudget {
    window: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
}

impl RetryBudget {
    const WINDOW_S: u64 = 10;
    /// Retries a second that are always allowed: a quiet route may retry, too.
    const FLOOR_PER_S: u64 = 3;

    fn roll(&self, now: Duration) {
        let window = now.as_secs() / RetryBudget::WINDOW_S;
        if self.window.swap(window, Ordering::Relaxed) != window {
            self.requests.store(0, Ordering::Relaxed);
            self.retries.store(0, Ordering::Relaxed);
        }
    }

    fn has_retry(&self, share: strangler_core::weight::Weight, now: Duration) -> bool {
        self.roll(now);
        let allowed =
            share.of(self.requests.load(Ordering::Relaxed)).max(RetryBudget::FLOOR_PER_S * RetryBudget::WINDOW_S);
        if share == strangler_core::weight::Weight::NONE {
            return false;
        }
        self.retries.load(Ordering::Relaxed) < allowed
    }
}
