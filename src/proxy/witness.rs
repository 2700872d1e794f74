//! What requests on routes with a rollout prove, on its way from the data plane to whoever counts it.
//!
//! A bounded queue without locks that is emptied a few times a second: a request pays a push, and never waits. What does not fit is
//! dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use http::HeaderMap;
use http::header::USER_AGENT;
use strangler_core::decide::{Decision, KeyOrigin, caller_key};
use strangler_core::facts::RequestFacts;
use strangler_core::route::Route;
use strangler_core::snapshot::Snapshot;
use strangler_core::unit::{End, Unit, assigned, client_of};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::proxy::Worker;
use crate::proxy::attached::RouteRuntime;
use crate::proxy::headers::Peer;

/// Requests that may wait to be counted: what 100,000 requests a second bring between two looks, and 6 MB.
const WAITING_MAX: usize = 1 << 16;

/// What one request proves.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) route: Arc<RouteRuntime>,
    pub(crate) unit: Unit,
    pub(crate) end: End,
    /// Since the process began.
    pub(crate) at: Duration,
}

/// From the data plane to whoever counts.
#[derive(Debug)]
pub struct Witnesses {
    queue: ArrayQueue<Seen>,
    dropped: AtomicU64,
}

impl Default for Witnesses {
    fn default() -> Witnesses {
        Witnesses { queue: ArrayQueue::new(WAITING_MAX), dropped: AtomicU64::new(0) }
    }
}

impl Witnesses {
    pub(crate) fn push(&self, seen: Seen) {
        if self.queue.push(seen).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn pop(&self) -> Option<Seen> {
        self.queue.pop()
    }

    /// What was dropped since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// Of whom this request is evidence; `None`: the route has no rollout, or it proves nothing.
pub(crate) fn unit_of(
    worker: &Worker,
    snapshot: &Snapshot,
    (index, route): (usize, &Route),
    decision: &Decision,
    peer: &Peer,
    facts: &RequestFacts<'_>,
) -> Option<Box<Unit>> {
    route.rollout.as_ref()?;
    let weight = snapshot.state(index)?.weight;
    let side = assigned(decision, weight, facts)?;
    let settings = &worker.proxy.settings;
    let address = client_of(peer.client(facts.headers, &settings.server.trusted_proxies));
    let seed = settings.caller_seed;
    let client = xxh3_64_with_seed(&address, seed);
    let key = match (caller_key(route, facts), &decision.cookie) {
        (Some((key, _)), _) => xxh3_64_with_seed(key, seed),
        // It comes back with this cookie, if it takes cookies.
        (None, Some(id)) => xxh3_64_with_seed(id, seed),
        (None, None) if decision.key == KeyOrigin::Fresh && weight.is_split() => {
            // Dealt anew with every request.
            decision.bucket.map_or(client, |bucket| xxh3_64_with_seed(&bucket.number().to_ne_bytes(), client))
        }
        (None, None) => xxh3_64_with_seed(agent_of(facts.headers), client),
    };
    Some(Box::new(Unit { key, client, side, weight }))
}

fn agent_of(headers: &HeaderMap) -> &[u8] {
    headers.get(USER_AGENT).map(http::HeaderValue::as_bytes).unwrap_or_default()
}
