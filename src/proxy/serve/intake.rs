//! A request's body: read ahead, or streamed.

use std::collections::VecDeque;
use std::sync::Arc;

use http::request::Parts;
use hyper::body::Body as _;

use crate::proxy::Worker;
use crate::proxy::connection::Busy;
use crate::proxy::request_body::RequestBody;
use crate::proxy::serve::Decided;
use crate::proxy::upload::{Pacer, ReadAhead, Upload, UploadBounds, UploadFault, read_ahead};
use crate::upstream::body::{BodyError, OutBody, length};
use crate::upstream::budget::Held;
use crate::upstream::pool::UploadProgress;

/// A request's body on its way to a side.
pub(super) struct Uploading {
    pub(super) body: OutBody,
    pub(super) progress: Option<Arc<UploadProgress>>,
    pub(super) fault: Option<Arc<UploadFault>>,
    /// The bytes read ahead, until the request is over.
    pub(super) held: Held,
}

/// Bytes of a small body with side effects that are read before a connection is taken: a client that trickles them holds none.
const SMALL_BODY: u64 = 64 << 10;

/// A safe request's body is read ahead, so that it can be sent twice, and so is a small one whose length is known; any other streams.
pub(super) async fn take_body(
    worker: &Worker,
    parts: &Parts,
    mut incoming: RequestBody,
    decided: &Decided,
    busy: &Arc<Busy>,
) -> Result<Uploading, BodyError> {
    let (idle, min_rate) = (worker.proxy.settings.limits.body_idle, worker.proxy.settings.limits.body_min_rate);
    let mut pace = Pacer::new(idle, min_rate);
    let bytes_max = decided.route.as_ref().map_or(u64::MAX, |route| route.max_body);
    let mut held = worker.proxy.read_ahead.hold(0).unwrap_or_default();
    if incoming.size_hint().lower() > bytes_max {
        return Err(BodyError::TooLarge);
    }
    let is_small = incoming.size_hint().exact().is_some_and(|bytes| bytes <= SMALL_BODY);
    let mut head = VecDeque::new();
    if is_small || strangler_core::facts::is_safe(&parts.method) {
        let kept_max =
            decided.route.as_ref().and_then(|route| route.fallback).map_or(1 << 20, |fallback| fallback.max_body);
        let kept_max = if is_small { SMALL_BODY } else { kept_max };
        match read_ahead(&mut incoming, kept_max.min(bytes_max), &mut pace, &mut held).await? {
            ReadAhead::Whole(pieces) => {
                return Ok(Uploading { body: OutBody::pieces(pieces), progress: None, fault: None, held });
            }
            ReadAhead::Part(pieces) if length(&pieces) > bytes_max => return Err(BodyError::TooLarge),
            ReadAhead::Part(pieces) => head = pieces,
        }
    }
    let (progress, fault) = (UploadProgress::new(), Arc::<UploadFault>::default());
    let bounds = UploadBounds { bytes_max, pace };
    let body = Upload::stream(head, incoming, bounds, Arc::clone(&progress), Arc::clone(&fault), Arc::clone(busy));
    Ok(Uploading { body, progress: Some(progress), fault: Some(fault), held })
}
