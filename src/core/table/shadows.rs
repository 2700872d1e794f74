//! `shadow:` of a route, filled up and put beside what else the route says.

use std::sync::Arc;

use crate::fault::{Fault, Faults};
use crate::raw::{RawDefaults, RawRoute, Short};
use crate::route::{ShadowPolicy, UnsafeShadow, Upstream};
use crate::table::upstreams::Upstreams;

/// What is copied of a route; `None`: nothing.
pub(super) fn shadow(
    route: &RawRoute,
    defaults: &RawDefaults,
    legacy: Option<&Arc<Upstream>>,
    extracted: &Arc<Upstream>,
    upstreams: &mut Upstreams,
    faults: &mut Faults,
) -> Option<ShadowPolicy> {
    let Some(Short::On(written)) = &route.shadow else { return None };
    let defaults = defaults.shadow.as_ref().map(|defaults| &defaults.value);
    let mut policy = written.filled(defaults);
    let place = format!("routes[{}].shadow", route.index);
    let target = written.upstream().or_else(|| defaults.and_then(|defaults| defaults.upstream()));
    policy.upstream = target.and_then(|target| upstreams.resolve(target, &format!("{place}.upstream"), faults));
    let asked = written.unsafe_requests().or_else(|| defaults.and_then(|defaults| defaults.unsafe_requests()));
    let Some(asked) = asked else { return Some(policy) };
    let mut refuse = |message: &str, help: &str| {
        faults.push(Fault::error(asked.span, format!("{place}.unsafe"), message).with_help(help));
    };
    match &asked.value {
        UnsafeShadow::Refuse | UnsafeShadow::DryRun => {}
        UnsafeShadow::Sandbox if target.is_none() => refuse(
            "`sandbox` needs an `upstream`: an instance of the extracted service with a store of its own",
            "write `upstream:` beside it",
        ),
        UnsafeShadow::Sandbox => {
            let shares = |other: &Arc<Upstream>| {
                let endpoints = policy.upstream.iter().flat_map(|upstream| &upstream.endpoints);
                endpoints.into_iter().any(|endpoint| other.endpoints.contains(endpoint))
            };
            if shares(extracted) || legacy.is_some_and(shares) {
                refuse(
                    "this `upstream` is one that users are served by: every write would be done twice there",
                    "a sandbox is an instance with a store of its own",
                );
            }
        }
        UnsafeShadow::VerifyRead(_) => {
            if route.rewrite.as_ref().is_some_and(|rewrite| rewrite.value.path.is_some()) {
                refuse(
                    "`verify_read` beside `rewrite.path` is not supported yet",
                    "the path is asked of both sides as it is written",
                );
            }
            if !matches!(&route.compare, Some(compare) if matches!(compare.value, Short::On(_))) {
                refuse("`verify_read` compares, and the route has no `compare`", "write `compare: true`");
            }
        }
    }
    Some(policy)
}
