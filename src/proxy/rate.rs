//! A route's bound on the requests of one client, kept by governor's generic cell rate algorithm.

use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderValue, Response};
use strangler_core::facts::RequestFacts;
use strangler_core::rate_limit::{CLIENTS_MAX, RateKey, RateLimit, whole_seconds};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64_with_seed};

use crate::proxy::answer;
use crate::proxy::body::ClientBody;
use crate::upstream::chance;

/// Buckets that newcomers share while the table is full.
const SHARED: u64 = 1 << 12;

/// The buckets of one route, of all cores.
pub(crate) struct Limiter {
    pub(crate) limit: RateLimit,
    buckets: RateLimiter<u64, DashMapStateStore<u64, Hasher>, DefaultClock>,
    clock: DefaultClock,
    /// Of the keys' hash: nobody outside can find two that collide.
    seed: u64,
    is_full: AtomicBool,
}

type Hasher = BuildHasherDefault<Xxh3Default>;

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Limiter {
    /// With every bucket full.
    pub(crate) fn new(limit: RateLimit) -> Limiter {
        let quota = Quota::with_period(limit.each()).unwrap_or_else(|| Quota::per_second(limit.rate));
        let clock = DefaultClock::default();
        let store = DashMapStateStore::with_hasher(Hasher::default());
        let buckets = RateLimiter::new(quota.allow_burst(limit.burst), store, clock.clone());
        Limiter { limit, buckets, clock, seed: chance::next_u64(), is_full: AtomicBool::new(false) }
    }

    /// Takes a request out of its client's bucket.
    ///
    /// # Errors
    /// How long to wait when it is empty.
    pub(crate) fn take(&self, facts: &RequestFacts<'_>, client: IpAddr) -> Result<(), Duration> {
        let text = match &self.limit.key {
            RateKey::Client => None,
            RateKey::Header(name) => facts.header(name),
            RateKey::Cookie(name) => facts.cookie(name),
        };
        let mut key = match (text, client) {
            (Some(text), _) => xxh3_64_with_seed(text, self.seed),
            (None, IpAddr::V4(address)) => xxh3_64_with_seed(&address.octets(), !self.seed),
            (None, IpAddr::V6(address)) => {
                xxh3_64_with_seed(address.octets().first_chunk::<8>().unwrap_or(&[0; 8]), !self.seed)
            }
        };
        if self.is_full.load(Ordering::Relaxed) {
            key %= SHARED;
        }
        let taken = self.buckets.check_key(&key);
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Forgets clients whose buckets are full again. Run twice a second beside the data plane: it walks a full table, and holds a
    /// part of it at a time.
    pub(crate) fn tidy(&self) {
        if self.buckets.len() > CLIENTS_MAX / 2 {
            self.buckets.retain_recent();
        }
        self.is_full.store(self.buckets.len() > CLIENTS_MAX, Ordering::Relaxed);
    }

    /// What a client is told that has to wait.
    pub(crate) fn refused(&self, wait: Duration) -> Response<ClientBody> {
        let mut response = answer::rate_limited();
        let headers = response.headers_mut();
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        for (name, text) in [("ratelimit-policy", self.limit.policy()), ("ratelimit", RateLimit::state(wait))] {
            if let Ok(text) = HeaderValue::from_str(&text) {
                headers.insert(name, text);
            }
        }
        response
    }
}
