//! Copies to the other side: planned by the core, handed to the shadow, never waited for.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::uri::PathAndQuery;
use strangler_core::decide::Decision;
use strangler_core::facts::RequestFacts;
use strangler_core::observation::CopyJob;
use strangler_core::route::Route;
use tokio::sync::oneshot;

use crate::proxy::Worker;
use crate::proxy::headers::Prepared;
use crate::proxy::tee::Tee;
use crate::upstream::body::OutBody;

/// A copy that is to be made of this request.
pub(crate) struct CopyPlan {
    route: Arc<Route>,
    index: usize,
    decision: Decision,
    caller: Option<u64>,
}

impl CopyPlan {
    /// As the core plans it; `None`: no copy.
    pub(crate) fn of(
        worker: &Worker,
        route: &Arc<Route>,
        index: usize,
        decision: &Decision,
        caller: Option<u64>,
        _facts: &RequestFacts<'_>,
    ) -> Option<CopyPlan> {
        worker.copies.as_ref()?;
        route.shadow.as_ref()?;
        Some(CopyPlan { route: Arc::clone(route), index, decision: decision.clone(), caller })
    }

    /// Hands the copy to the shadow. A body that is not at hand whole is not copied.
    pub(crate) fn dispatch(
        self,
        worker: &Worker,
        parts: &Parts,
        target: &PathAndQuery,
        body: &OutBody,
        prepared: &Prepared,
    ) -> Option<Tee> {
        let queue = worker.copies.as_ref()?;
        let metrics = &worker.proxy.metrics;
        let body = match body {
            OutBody::Empty => bytes::Bytes::new(),
            OutBody::Full(bytes) => bytes.clone(),
            OutBody::Stream(_) => return None,
        };
        if prepared.is_copy {
            return None;
        }
        let kept_max = self.route.compare.as_ref().map_or(0, |compare| compare.body_bytes_max);
        let name = self.route.name.clone();
        let (to, answer) = oneshot::channel();
        let job = CopyJob {
            route_index: self.index,
            answered_by: self.decision.side,
            target: self.decision.side.other(),
            method: parts.method.clone(),
            path_and_query: Arc::from(target.as_str()),
            headers: parts.headers.clone(),
            body,
            caller: self.caller,
            route: self.route,
            answer,
        };
        if queue.sender.try_send(job).is_err() {
            metrics.count_shadow(name.as_str(), "dropped");
            return None;
        }
        Some(Tee::new(to, Instant::now(), kept_max, queue.budget.clone()))
    }
}
