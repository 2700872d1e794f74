//! Whether a request is copied to the other side, and what the copy looks like.
//!
//! Only what may be sent twice without being asked for: the rest is refused here, so that nothing behind has to think of it.

pub mod graphql;
pub mod pace;
pub mod settle;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::facts::is_safe;
use crate::route::{Data, Route, SafePost, ShadowPolicy, UnsafeShadow};
use crate::side::Side;
use crate::split::Bucket;
use crate::weight::Weight;

/// Marks a copy, so that the service may know and no proxy copies it again.
pub const MARK: HeaderName = HeaderName::from_static("strangler-shadow");
/// Marks a copy of a request with side effects: the service must answer as it would, and change nothing.
pub const DRY_RUN: HeaderName = HeaderName::from_static("strangler-dry-run");
/// The trace id of the request that a copy was made of.
pub const LINKED_TRACE: HeaderName = HeaderName::from_static("strangler-linked-trace");

/// What of a request matters for a copy of it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it is matched, without query.
    pub path: &'a str,
    /// The side that answers the user.
    pub answered_by: Side,
    /// An override chose the side: kept out of all evidence.
    pub is_forced: bool,
    /// It is itself a copy, marked by somebody who is trusted.
    pub is_marked: bool,
    /// It asks for another protocol.
    pub is_upgrade: bool,
    /// Bytes of its body, if that is known.
    pub body_bytes: Option<u64>,
    /// It has a key by which a second one would be answered with what the first one was.
    pub has_idempotency_key: bool,
    /// The caller's key, or what was drawn in its place.
    pub key: &'a [u8],
}

/// A copy to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowPlan {
    /// Where it goes: the side that does not answer.
    pub target: Side,
    /// What sort of copy it is.
    pub manner: Manner,
    /// Whether the request may be asked again, of either side, once more is to be known.
    pub may_repeat: bool,
    /// Largest request body that is copied; one that turns out larger ends the plan.
    pub body_bytes_max: u64,
    /// Bytes of each answer's body that are worth keeping: one more than is compared, so that a larger one is known; 0 when nothing is compared.
    pub kept_bytes_max: u64,
}

/// What sort of copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Of a request that may be sent twice.
    Plain,
    /// Likewise, if its body turns out to be a GraphQL query.
    GraphqlQuery,
    /// Of a request with side effects, to an instance whose store is nobody else's.
    Sandbox,
    /// Of a request with side effects, to a service that was told to change nothing.
    DryRun,
    /// None: what the request wrote is read from both sides afterwards.
    VerifyRead,
}

impl Manner {
    /// Whether the request has side effects: its copy is sent once, on a connection of its own, or not at all.
    pub const fn is_unsafe(self) -> bool {
        matches!(self, Manner::Sandbox | Manner::DryRun | Manner::VerifyRead)
    }
}

/// Why there is no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The route does not ask for copies.
    Off,
    /// The method may have side effects.
    Unsafe,
    /// The path is one that must never be copied.
    Never,
    /// The method is safe, and not one that the route copies.
    MethodNotListed,
    /// It is a copy.
    Marked,
    /// An override chose the side.
    Forced,
    /// It asks for another protocol.
    Upgrade,
    /// Its body is larger than is copied.
    BodyTooLarge,
    /// The caller is not in the sample.
    NotSampled,
    /// The data lives on one side (`locate`): the other one can only say that it has not got it.
    Located,
}

impl Refusal {
    /// As written in logs and explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::Off => "off",
            Refusal::Unsafe => "refused_unsafe",
            Refusal::Never => "never",
            Refusal::MethodNotListed => "method_not_listed",
            Refusal::Marked => "marked",
            Refusal::Forced => "forced",
            Refusal::Upgrade => "upgrade",
            Refusal::BodyTooLarge => "body_too_large",
            Refusal::NotSampled => "not_sampled",
            Refusal::Located => "located",
        }
    }

    /// Whether it is counted as `refused_unsafe`: a copy was wanted, and would not have been safe.
    pub const fn is_unsafe(self) -> bool {
        matches!(self, Refusal::Unsafe | Refusal::Never)
    }
}

/// Whether a path is one that must never be asked for by us.
pub fn is_never(policy: &ShadowPolicy, path: &str) -> bool {
    policy.never.iter().any(|pattern| is_on(pattern, path))
}

/// Decides whether a request of `route` is copied.
pub fn plan_shadow(route: &Route, asked: &Asked<'_>) -> Result<ShadowPlan, Refusal> {
    let policy = route.shadow.as_ref().ok_or(Refusal::Off)?;
    if asked.is_marked {
        return Err(Refusal::Marked);
    }
    if route.locate.is_some() {
        return Err(Refusal::Located);
    }
    if asked.is_forced {
        return Err(Refusal::Forced);
    }
    if asked.is_upgrade {
        return Err(Refusal::Upgrade);
    }
    let manner = manner(policy, asked)?;
    if manner == Manner::Plain && is_safe(asked.method) && !policy.methods.contains(asked.method) {
        return Err(Refusal::MethodNotListed);
    }
    if is_never(policy, asked.path) {
        return Err(Refusal::Never);
    }
    // Of what is not copied the body does not matter.
    if manner != Manner::VerifyRead && asked.body_bytes.is_some_and(|bytes| bytes > policy.max_request_body) {
        return Err(Refusal::BodyTooLarge);
    }
    if !is_sampled(policy, &route.salt, asked.key) {
        return Err(Refusal::NotSampled);
    }
    Ok(ShadowPlan {
        target: asked.answered_by.other(),
        manner,
        may_repeat: !manner.is_unsafe() && !asked.has_idempotency_key,
        body_bytes_max: policy.max_request_body,
        kept_bytes_max: route.compare.as_ref().map_or(0, |compare| compare.body_bytes_max.saturating_add(1)),
    })
}

/// By the method, and by what the route says of those that may have side effects. Never towards legacy with such a one: its store is
/// the users', or one that will be.
fn manner(policy: &ShadowPolicy, asked: &Asked<'_>) -> Result<Manner, Refusal> {
    if is_safe(asked.method) {
        return Ok(Manner::Plain);
    }
    if let Some(post) = safe_post(policy, asked.method, asked.path) {
        return Ok(if post.graphql { Manner::GraphqlQuery } else { Manner::Plain });
    }
    match (&policy.unsafe_requests, asked.answered_by) {
        (UnsafeShadow::VerifyRead(_), _) => Ok(Manner::VerifyRead),
        (UnsafeShadow::Sandbox, Side::Legacy) if policy.upstream.is_some() => Ok(Manner::Sandbox),
        (UnsafeShadow::DryRun, Side::Legacy) => Ok(Manner::DryRun),
        (UnsafeShadow::Refuse | UnsafeShadow::Sandbox | UnsafeShadow::DryRun, _) => Err(Refusal::Unsafe),
    }
}

fn safe_post<'p>(policy: &'p ShadowPolicy, method: &Method, path: &str) -> Option<&'p SafePost> {
    policy.safe_posts.iter().filter(|_| *method == Method::POST).find(|post| is_on(&post.path, path))
}

/// Whether a request may change what its caller sees afterwards.
pub fn is_write(route: Option<&Route>, method: &Method, path: &str) -> bool {
    let policy = route.and_then(|route| route.shadow.as_ref());
    !is_safe(method) && policy.and_then(|policy| safe_post(policy, method, path)).is_none()
}

/// A draw of its own: who is in the sample says nothing about who is on extracted.
fn is_sampled(policy: &ShadowPolicy, salt: &str, key: &[u8]) -> bool {
    if policy.sample == Weight::ALL {
        return true;
    }
    // Together with the separator that the bucket puts in front: salt ‖ "\0shadow\0" ‖ key.
    let key = [b"shadow\0", key].concat();
    Bucket::of(salt, &key).number() < policy.sample.basis_points()
}

/// `/auth/**` covers `/auth` and all below; a slash at the end makes no other page of it.
fn is_on(pattern: &str, path: &str) -> bool {
    let mut segments = path.trim_end_matches('/').split('/');
    for part in pattern.trim_end_matches('/').split('/') {
        match (part, segments.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (literal, Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// Why the answer of legacy would be no baseline for the one that the user got; `None`: it is one.
///
/// Towards extracted the user's answer is legacy's own. The other way round legacy must see what extracted writes: one store, or two
/// kept alike; or nothing is written on this route.
pub fn is_baseline_stale(route: &Route, answered_by: Side) -> bool {
    let writes_nothing = !route.conditions.methods.is_empty() && route.conditions.methods.iter().all(is_safe);
    match (answered_by, route.data) {
        (Side::Legacy, _) | (Side::Extracted, Data::Shared | Data::Synced) => false,
        (Side::Extracted, Data::Legacy) => !writes_nothing,
        (Side::Extracted, Data::Extracted) => true,
    }
}

/// The fields of a copy, made of those that were forwarded.
///
/// Validators and ranges belong to one side's tags and are left out, as is what would have the other side remember the request
/// as done; `traceparent` is the copy's own, and the user's trace is named beside it.
///
/// A copy with side effects of its own (to a sandbox, or as a dry run) keeps its idempotency key: there it does no harm, and a service may
/// demand one.
pub fn copy_headers(forwarded: HeaderMap, traceparent: HeaderValue, manner: Manner) -> HeaderMap {
    const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    // One look at each name: the usual request has none of these.
    let is_left_out = |name: &HeaderName| {
        matches!(
            name.as_str(),
            "if-match"
                | "if-none-match"
                | "if-modified-since"
                | "if-unmodified-since"
                | "if-range"
                | "range"
                | "expect"
                | "tracestate"
        ) || (name.as_str() == "idempotency-key" && !manner.is_unsafe())
            || *name == LINKED_TRACE
    };
    let mut headers = forwarded;
    if headers.keys().any(is_left_out) {
        let left_out: Vec<HeaderName> = headers.keys().filter(|name| is_left_out(name)).cloned().collect();
        for name in left_out {
            headers.remove(name);
        }
    }
    if let Some(trace_id) = headers.insert(TRACEPARENT, traceparent).as_ref().and_then(trace_id)
        && let Ok(trace_id) = HeaderValue::from_str(trace_id)
    {
        headers.insert(LINKED_TRACE, trace_id);
    }
    headers.insert(MARK, HeaderValue::from_static("1"));
    if manner == Manner::DryRun {
        headers.insert(DRY_RUN, HeaderValue::from_static("1"));
    }
    headers
}

/// Fields that speak of a body: a read after a write has none.
pub fn without_body(headers: &mut HeaderMap) {
    for name in [
        http::header::CONTENT_LENGTH,
        http::header::CONTENT_TYPE,
        http::header::CONTENT_ENCODING,
        http::header::TRANSFER_ENCODING,
        http::header::TRAILER,
    ] {
        headers.remove(name);
    }
}

/// The trace id of a `traceparent` (W3C Trace Context §3.2): 32 hex digits between the first two dashes.
pub fn trace_id(traceparent: &HeaderValue) -> Option<&str> {
    let text = traceparent.as_bytes();
    let id = text.get(3..35)?;
    let is_whole = text.get(2) == Some(&b'-') && text.get(35).is_none_or(|after| *after == b'-');
    if is_whole && id.iter().all(u8::is_ascii_hexdigit) { std::str::from_utf8(id).ok() } else { None }
}

#[cfg(test)]
pub(crate) mod tests;
