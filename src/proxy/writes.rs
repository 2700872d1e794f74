//! Who writes: noted, so that for a while nothing is said of what they read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strangler_core::decide::STICKY_COOKIE;
use strangler_core::facts::RequestFacts;
use strangler_core::route::{KeySource, Route};
use strangler_core::shadow::is_write;
use strangler_core::shadow::settle::Writes;
use strangler_core::snapshot::Snapshot;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Where the callers of compared routes are known by. Any of it may be on a request of another route, which writes.
#[derive(Debug, Default)]
pub(crate) struct Principals {
    sources: Vec<KeySource>,
    has_own_cookie: bool,
}

impl Principals {
    pub(crate) fn of(snapshot: &Snapshot) -> Principals {
        let mut principals = Principals::default();
        for route in snapshot.table().routes() {
            let is_compared = route.shadow.is_some() && route.compare.as_ref().is_some_and(|it| !it.settle.is_zero());
            if !is_compared {
                continue;
            }
            principals.has_own_cookie |= route.sticky_on.is_empty();
            for source in route.sticky_on.iter() {
                if principals.sources.len() < SOURCES_MAX && !principals.sources.contains(source) {
                    principals.sources.push(source.clone());
                }
            }
        }
        principals
    }

    const fn is_empty(&self) -> bool {
        self.sources.is_empty() && !self.has_own_cookie
    }
}

/// Most places that are looked at; more would cost every write.
const SOURCES_MAX: usize = 16;

/// A write under way: its caller, by every key.
pub(crate) struct Write {
    writes: Arc<Writes>,
    callers: Vec<u64>,
}

impl Write {
    /// Notes that a request begins to write; `None`: it does not, or nobody would compare what its caller reads. `since`: what times are
    /// counted from; a request that only reads costs no look at the clock.
    pub(crate) fn begin(
        principals: &Principals,
        writes: &Arc<Writes>,
        route: Option<&Route>,
        facts: &RequestFacts<'_>,
        seed: u64,
        since: Instant,
    ) -> Option<Write> {
        if principals.is_empty() || !is_write(route, facts.method, facts.path) {
            return None;
        }
        let values = principals.sources.iter().filter_map(|source| match source {
            KeySource::Header(name) => facts.header(name),
            KeySource::Cookie(name) => facts.cookie(name),
        });
        let own = principals.has_own_cookie.then(|| facts.cookie(STICKY_COOKIE)).flatten();
        let values = values.chain(own).filter(|value| !value.is_empty());
        let write =
            Write { writes: Arc::clone(writes), callers: values.map(|it| xxh3_64_with_seed(it, seed)).collect() };
        write.note(since.elapsed());
        (!write.callers.is_empty()).then_some(write)
    }

    /// The time in which nothing is said begins anew: it is being answered.
    pub(crate) fn note(&self, now: Duration) {
        for caller in &self.callers {
            self.writes.note(*caller, now);
        }
    }
}
