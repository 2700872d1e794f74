//! Upstreams at run time: their endpoints' addresses, what is under way, and the connections of each core.
//!
//! One [`UpstreamState`] per upstream and process, shared by all cores; it outlives reloads that leave the upstream as it is,
//! and with it the pools. The pools themselves ([`pool`]) belong to a thread each, so that a request takes no lock.

pub mod body;
pub mod budget;
pub(crate) mod chance;
pub mod cork;
mod drive;
pub mod pool;
pub mod resolve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use strangler_core::route::{Balance, Endpoint, Upstream};
use tokio::sync::Semaphore;

/// An upstream with everything that changes while it runs.
#[derive(Debug)]
pub struct UpstreamState {
    /// As the file says.
    pub config: Arc<Upstream>,
    /// Unlike any other of this process; names the pools of each thread.
    pub(crate) id: u64,
    endpoints: Vec<EndpointState>,
    next: AtomicUsize,
    in_flight: AtomicU32,
    fallbacks_in_flight: AtomicU32,
    pub(crate) connections: Arc<Semaphore>,
    connections_open: AtomicU32,
    /// How many requests wait for a connection because all are taken: idle ones must then be given up.
    pub(crate) waiting: AtomicU32,
    pub(crate) waiters: pool::Waiters,
    budget: RetryBudget,
}

/// An endpoint and where it lives now.
#[derive(Debug)]
pub struct EndpointState {
    /// As the file says.
    pub endpoint: Endpoint,
    /// What `Host` says under `host: upstream`.
    pub authority: HeaderValue,
    addresses: ArcSwapOption<Vec<SocketAddr>>,
    in_flight: AtomicU32,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl UpstreamState {
    /// With empty pools. Endpoints given as addresses are known at once; names are looked up in the background, or by the first
    /// connection that needs one.
    pub fn new(config: Arc<Upstream>) -> UpstreamState {
        let endpoints = config.endpoints.iter().map(EndpointState::new).collect();
        UpstreamState {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            endpoints,
            next: AtomicUsize::new(0),
            in_flight: AtomicU32::new(0),
            fallbacks_in_flight: AtomicU32::new(0),
            connections: Arc::new(Semaphore::new(config.max_connections as usize)),
            connections_open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            waiters: pool::Waiters::default(),
            budget: RetryBudget::default(),
            config,
        }
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

    /// Chooses an endpoint for the next try. `chance` is any random number.
    pub(crate) fn choose(&self, chance: u64) -> usize {
        let count = self.endpoints.len();
        if count < 2 {
            return 0;
        }
        match self.config.balance {
            Balance::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % count,
            Balance::LeastRequests => {
                // Two different ones at random; the less busy is taken (Mitzenmacher, 2001).
                let low = usize::try_from(chance & 0xffff_ffff).unwrap_or_default();
                let high = usize::try_from(chance >> 32).unwrap_or_default();
                let (one, step) = (low % count, 1 + high % (count - 1));
                let other = (one + step) % count;
                let load = |at: usize| self.endpoints.get(at).map_or(u32::MAX, EndpointState::in_flight);
                if load(other) < load(one) { other } else { one }
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

impl EndpointState {
    fn new(endpoint: &Endpoint) -> EndpointState {
        let address = endpoint.host.parse().ok().map(|ip| Arc::new(vec![SocketAddr::new(ip, endpoint.port)]));
        EndpointState {
            authority: HeaderValue::from_str(&endpoint.authority()).unwrap_or_else(|_| HeaderValue::from_static("")),
            addresses: ArcSwapOption::new(address),
            in_flight: AtomicU32::new(0),
            endpoint: endpoint.clone(),
        }
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Where it lives, if that is known.
    pub fn addresses(&self) -> Option<Arc<Vec<SocketAddr>>> {
        self.addresses.load_full()
    }

    /// Whether it was given as a name.
    pub fn is_named(&self) -> bool {
        self.endpoint.host.parse::<std::net::IpAddr>().is_err()
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Some(Arc::new(addresses)));
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
