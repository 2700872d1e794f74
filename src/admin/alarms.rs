//! What someone should look at, in words.

use std::collections::BTreeMap;

use strangler_core::snapshot::Snapshot;

use crate::admin::{Readiness, UpstreamStatus};
use crate::store::StoreHealth;

/// Names in an alarm, and alarms of a kind.
pub(super) const NAMED_MAX: usize = 10;

/// All of it: of the whole first, then of routes.
pub(super) fn alarms(
    snapshot: &Snapshot,
    readiness: &Readiness,
    (kind, store): (&str, &StoreHealth),
    breakers: &BTreeMap<String, &'static str>,
    upstreams: &[UpstreamStatus],
) -> Vec<String> {
    let mut alarms = Vec::new();
    if !breakers.is_empty() {
        let named: Vec<&str> = breakers.keys().take(NAMED_MAX).map(String::as_str).collect();
        let more = if breakers.len() > NAMED_MAX { ", …" } else { "" };
        alarms.push(format!("the breaker is not closed, so legacy answers: {}{more}", named.join(", ")));
    }
    let all = upstreams.iter().flat_map(|upstream| upstream.endpoints.iter().map(move |endpoint| (upstream, endpoint)));
    let unreached = all.filter_map(|(upstream, endpoint)| Some((upstream, endpoint, endpoint.unreached.as_ref()?)));
    for (upstream, endpoint, why) in unreached.take(NAMED_MAX) {
        let (name, place, times) = (&upstream.name, &endpoint.endpoint, endpoint.unreached_times);
        alarms.push(format!("no connection to {place} of {name} ({times} in a row): {why}"));
    }
    if readiness.config_stale {
        alarms.push("the routes file was refused at start: the last good text is in force".to_owned());
    }
    if let Some(refused) = &readiness.config_refused {
        alarms.push(format!("the routes file on disk is not in force: {refused}"));
    }
    alarms.extend(readiness.rollouts_stopped.iter().cloned());
    if let Some(why) = &store.why {
        let kept = if kind == "postgres" {
            "and are kept in the state directory until the database is back"
        } else {
            "but a restart would forget them"
        };
        alarms.push(format!("the store failed ({why}): kills and lower weights work, {kept}; raises are refused"));
    }
    if let Some(lost) = &store.lost {
        alarms.push(format!(
            "kills and moved weights from before the start are lost ({lost}): the file's weights are in force"
        ));
    }
    let mut spared: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for route in snapshot.table().routes() {
        for kill in snapshot.runtime().kills_sparing(route) {
            let names = spared.entry((kill.scope.as_str(), kill.source.as_str())).or_default();
            if names.len() < NAMED_MAX {
                names.push(route.name.as_str());
            }
        }
    }
    let sentence = |((scope, source), names): (&(&str, &str), &Vec<&str>)| {
        let names = names.join(", ");
        format!(
            "the kill of `{scope}` ({source}) leaves {names} where it is: the extracted service owns the data; \
             kill it by name with --accept-stale"
        )
    };
    alarms.extend(spared.iter().take(NAMED_MAX).map(sentence));
    alarms
}
