//! Copies to the other side: planned by the core, handed to the shadow, never waited for.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, header};
use strangler_core::decide::{Decision, Reason, caller_key};
use strangler_core::facts::RequestFacts;
use strangler_core::observation::CopyJob;
use strangler_core::route::Route;
use strangler_core::shadow::graphql::is_query;
use strangler_core::shadow::{Asked, MARK, Manner, ShadowPlan, plan_shadow};
use strangler_core::side::Side;
use tokio::sync::oneshot;

use crate::proxy::Worker;
use crate::proxy::headers::Peer;
use crate::proxy::tee::Tee;
use crate::upstream::body::OutBody;
use crate::upstream::chance;

/// A copy that is to be made of this request.
pub(crate) struct CopyPlan {
    route: Arc<Route>,
    index: usize,
    answered_by: Side,
    caller: Option<u64>,
    plan: ShadowPlan,
}

impl CopyPlan {
    /// As the core plans it; `None`: no copy.
    pub(crate) fn of(
        worker: &Worker,
        peer: &Peer,
        route: &Arc<Route>,
        index: usize,
        decision: &Decision,
        caller: Option<u64>,
        facts: &RequestFacts<'_>,
    ) -> Option<CopyPlan> {
        worker.copies.as_ref()?;
        route.shadow.as_ref()?;
        let drawn = chance::next_u64().to_ne_bytes();
        let asked = Asked {
            method: facts.method,
            path: facts.path,
            answered_by: decision.side,
            is_forced: decision.reason == Reason::Forced,
            is_marked: peer.may_mark && facts.headers.contains_key(MARK),
            is_upgrade: facts.headers.contains_key(header::UPGRADE),
            body_bytes: None,
            has_idempotency_key: has_idempotency_key(route, facts.headers),
            key: caller_key(route, facts).map_or(&drawn[..], |(key, _)| key),
        };
        match plan_shadow(route, &asked) {
            Ok(plan) => Some(CopyPlan { route: Arc::clone(route), index, answered_by: decision.side, caller, plan }),
            Err(refusal) => {
                if refusal.is_unsafe() {
                    worker.proxy.metrics.count_shadow(route.name.as_str(), "refused_unsafe");
                }
                None
            }
        }
    }

    /// Hands the copy to the shadow. A body that is not at hand whole is not copied.
    pub(crate) fn dispatch(
        self,
        worker: &Worker,
        parts: &Parts,
        target: &PathAndQuery,
        rewritten: Option<&PathAndQuery>,
        body: &OutBody,
    ) -> Option<Tee> {
        let queue = worker.copies.as_ref()?;
        let metrics = &worker.proxy.metrics;
        let body = match self.plan.manner {
            Manner::VerifyRead => Bytes::new(),
            Manner::Plain | Manner::GraphqlQuery | Manner::Sandbox | Manner::DryRun => body.to_bytes()?,
        };
        if body.len() as u64 > self.plan.body_bytes_max {
            return None;
        }
        if self.plan.manner == Manner::GraphqlQuery && !is_query(&body) {
            metrics.count_shadow(self.route.name.as_str(), "refused_unsafe");
            if let Some(caller) = self.caller {
                // A mutation after all.
                worker.proxy.settings.writes.note(caller, worker.proxy.begun.elapsed());
            }
            return None;
        }
        let name = self.route.name.clone();
        let (to, answer) = oneshot::channel();
        let job = Box::new(CopyJob {
            route_index: self.index,
            answered_by: self.answered_by,
            target: self.plan.target,
            method: parts.method.clone(),
            path_and_query: target.clone(),
            rewritten: rewritten.cloned(),
            begun: worker.proxy.begun.elapsed(),
            // That it is a query is known by now.
            manner: if self.plan.manner == Manner::GraphqlQuery { Manner::Plain } else { self.plan.manner },
            may_repeat: self.plan.may_repeat,
            headers: parts.headers.clone(),
            body,
            caller: self.caller,
            route: self.route,
            answer,
        });
        if queue.sender.try_send(job).is_err() {
            metrics.count_shadow(name.as_str(), "dropped");
            return None;
        }
        Some(Tee::new(to, Instant::now(), self.plan.kept_bytes_max, queue.budget.clone()))
    }
}

/// Whether a second request would be answered with what the first one was.
fn has_idempotency_key(route: &Route, headers: &HeaderMap) -> bool {
    let own = route.idempotency.as_ref().is_some_and(|policy| headers.contains_key(&policy.header));
    own || headers.contains_key("idempotency-key")
}
