//! Of whom a request is evidence.

use http::HeaderMap;
use http::header::USER_AGENT;
use strangler_core::decide::{Decision, KeyOrigin, caller_key};
use strangler_core::facts::RequestFacts;
use strangler_core::route::Route;
use strangler_core::snapshot::Snapshot;
use strangler_core::unit::{Unit, assigned, client_of};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::proxy::Worker;
use crate::proxy::headers::Peer;

/// `None`: the route has no rollout, or it proves nothing.
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
