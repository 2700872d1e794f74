//! What a route and an upstream are once they have been read: every value here is right.
//!
//! Built only by `table`; read by everything that decides.

mod compare;
mod fall_through;
mod hook;
mod keep;
mod looks;
mod rollout;
mod shadow;
mod upstream;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::name::{JourneyName, RouteName};
use crate::rate_limit::RateLimit;
use crate::rewrite::Rewrite;
pub use crate::route::compare::{
    Amount, ArrayOrder, ComparePolicy, CompareRule, HeaderMode, HeaderPolicy, JsonPolicy, KeepHow, Numeric,
    PointerError, PointerPattern, PointerSegment, Presence, RuleAction, StatusMode, StatusPolicy, ValueRule,
};
pub use crate::route::fall_through::{DeclaredEndpoint, FallThrough};
pub use crate::route::hook::{Hook, HookFormat, HookTo, When};
pub use crate::route::keep::{FORM_LIFE, IdempotencyPolicy, LeasePolicy, OnKill};
pub use crate::route::looks::{LookPolicy, Sampling, VerdictPolicy};
pub use crate::route::rollout::{Bake, Need, NeedError, RollBackTo, RolloutPolicy, Step, StepError};
pub use crate::route::shadow::{ReadTemplate, ReadTemplateError, SafePost, ShadowPolicy, UnsafeShadow};
use crate::side::Side;
use crate::template::PathPattern;
use crate::weight::Weight;

pub use upstream::{
    Balance, ClientCertificate, Endpoint, HealthCheck, HostPolicy, OutlierDetection, Retry, Scheme, Timeouts, Tls,
    Upstream,
};

/// A covered path.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique; the `route` label everywhere.
    pub name: RouteName,
    /// Whom to ask; shown, never acted on.
    pub owner: Option<Arc<str>>,
    /// The journey whose assignment it shares.
    pub journey: Option<JourneyName>,
    /// What is hashed before the caller's key: the journey's salt, else the route's name.
    pub salt: Arc<str>,
    /// Where the caller's key is looked for, in order; empty: the proxy's own cookie.
    pub sticky_on: Arc<[KeySource]>,
    /// What a request must look like.
    pub conditions: Conditions,
    /// The service taken out.
    pub extracted: Arc<Upstream>,
    /// Changes on the way to it and back; `None`: none.
    pub rewrite: Option<Arc<Rewrite>>,
    /// Protocols that a connection may be switched to, lower-case. Default: none.
    pub upgrades: Vec<Arc<str>>,
    /// Requests of one client in a time; `None`: no bound.
    pub rate_limit: Option<RateLimit>,
    /// Who owns what this route writes; decides what may go back to legacy by itself.
    pub data: Data,
    /// The part of users that the file gives to extracted. Default: 0 %.
    pub weight: Weight,
    /// Bound on the whole request, retries and fallback included. Default: 60 s; `None`: no bound.
    pub deadline: Option<Duration>,
    /// The header whose signed value names a side. Default: none.
    pub override_header: Option<HeaderName>,
    /// Changes to the request's headers on the way to either side.
    pub request_headers: HeaderEdits,
    /// Changes to the answer's headers on the way to the client.
    pub response_headers: HeaderEdits,
    /// What happens when extracted fails; `None`: its failure is the answer.
    pub fallback: Option<FallbackPolicy>,
    /// When extracted is left alone for a while; `None`: never.
    pub breaker: Option<BreakerPolicy>,
    /// Statuses that are no failure.
    pub success: StatusSet,
    /// Largest request body, in bytes. Default: 10 MiB.
    pub max_body: u64,
    /// Copies to the other side; `None`: none.
    pub shadow: Option<ShadowPolicy>,
    /// Comparison of the two answers; `None`: the copy's answer is read and dropped.
    pub compare: Option<Arc<ComparePolicy>>,
    /// Data decides the side, not the weight.
    pub locate: Option<Locate>,
    /// Keeps users on the sides where their journey began; `None`: every request is dealt by its key. Default: 30 min where the
    /// journey's `sticky_on` names more than one key, else none.
    pub lease: Option<Arc<LeasePolicy>>,
    /// The side that served a form gets what is sent back. Default: no.
    pub form: Option<Arc<LeasePolicy>>,
    /// The weight moves by evidence; `weight` is 0 % then. Default: it does not.
    pub rollout: Option<Arc<RolloutPolicy>>,
    /// The header in which extracted names its release; with a `rollout` only. Default: none.
    pub release_header: Option<HeaderName>,
    /// A repeated key goes to the side that saw it first. Default: none.
    pub idempotency: Option<IdempotencyPolicy>,
}

/// Where a caller's key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `header:x-user-id`: the header's first value, as bytes.
    Header(HeaderName),
    /// `cookie:SHOPSID`: the cookie's first value, as bytes.
    Cookie(Arc<str>),
}

/// What a request must look like to be this route's.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// Default: any.
    pub host: HostPattern,
    /// The path, as it is forwarded.
    pub path: PathPattern,
    /// Empty: all. `GET` does not bring `HEAD`.
    pub methods: Vec<Method>,
    /// All must hold.
    pub headers: Vec<(HeaderName, TextCondition)>,
    /// All must hold, on the percent-decoded first value.
    pub query: Vec<(Arc<str>, TextCondition)>,
    /// All must hold, on the first cookie of that name.
    pub cookies: Vec<(Arc<str>, TextCondition)>,
}

/// Which hosts a route is for; lower-case, without port.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// `shop.example.com`.
    Exact(Arc<str>),
    /// `*.example.com`, held as `.example.com`: one label or more in front.
    Wildcard(Arc<str>),
    /// Any.
    #[default]
    Any,
}

/// What a header, a query value or a cookie must be.
#[derive(Clone, Debug)]
pub enum TextCondition {
    /// Equal, byte by byte.
    Exact(Arc<str>),
    /// Contains.
    Contains(Arc<str>),
    /// Begins with.
    Prefix(Arc<str>),
    /// Matches (unanchored, as written).
    Regex(regex::bytes::Regex),
    /// Is there (`true`) or is not (`false`), whatever it says.
    Present(bool),
}

impl PartialEq for TextCondition {
    fn eq(&self, other: &TextCondition) -> bool {
        match (self, other) {
            (TextCondition::Exact(a), TextCondition::Exact(b))
            | (TextCondition::Contains(a), TextCondition::Contains(b))
            | (TextCondition::Prefix(a), TextCondition::Prefix(b)) => a == b,
            (TextCondition::Regex(a), TextCondition::Regex(b)) => a.as_str() == b.as_str(),
            (TextCondition::Present(a), TextCondition::Present(b)) => a == b,
            _ => false,
        }
    }
}

/// Who owns what a route writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// The monolith's store; extracted reads it or its copy.
    #[default]
    Legacy,
    /// One store for both.
    Shared,
    /// Two stores kept alike.
    Synced,
    /// The extracted service's own store: nothing goes back to legacy by itself.
    Extracted,
}

impl Data {
    /// As written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Data::Legacy => "legacy",
            Data::Shared => "shared",
            Data::Synced => "synced",
            Data::Extracted => "extracted",
        }
    }

    /// Whether both sides must say the same of what the one that answered has just written: legacy has it, and extracted reads what
    /// legacy has.
    pub const fn is_read_back_alike(self, answered_by: Side) -> bool {
        match (self, answered_by) {
            (Data::Shared | Data::Synced, _) | (Data::Legacy, Side::Legacy) => true,
            (Data::Legacy, Side::Extracted) | (Data::Extracted, _) => false,
        }
    }

    /// Whether anything automatic may send this route's traffic to legacy.
    pub const fn may_go_back(self) -> bool {
        !matches!(self, Data::Extracted)
    }
}

/// Changes to headers: first removed, then set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names taken out.
    pub remove: Vec<HeaderName>,
    /// Values put in place of what was there.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }
}

/// What happens when extracted fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackPolicy {
    /// No connection could be made, or extracted is full. Default: yes.
    pub on_connect_failure: bool,
    /// No answer in time. Default: yes.
    pub on_timeout: bool,
    /// It answered 5xx (outside `success`), broke off before its head ended, or answered garbage. Default: yes.
    pub on_5xx: bool,
    /// The route's breaker is open, so extracted is not asked. Default: yes.
    pub on_breaker_open: bool,
    /// What requests with side effects may do. Default: only what is provably unsent.
    pub unsafe_requests: UnsafeFallback,
    /// Largest request body kept for a second try, in bytes. Default: 1 MiB.
    pub max_body: u64,
}

/// What requests with side effects may do when extracted fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnsafeFallback {
    /// Fall back only when provably nothing of them was sent.
    #[default]
    Unsent,
    /// Never fall back.
    Never,
}

impl Default for FallbackPolicy {
    fn default() -> FallbackPolicy {
        FallbackPolicy {
            on_connect_failure: true,
            on_timeout: true,
            on_5xx: true,
            on_breaker_open: true,
            unsafe_requests: UnsafeFallback::Unsent,
            max_body: 1 << 20,
        }
    }
}

/// When a route's extracted side is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// It opens when this part of the requests of a window failed, or more. Default: 50 %.
    pub error_ratio: Weight,
    /// Fewer requests in a window prove nothing. Default: 20.
    pub min_requests: NonZeroU32,
    /// How far back is looked. Default: 10 s. Least: 1 s.
    pub window: Duration,
    /// How long it stays open before one request tries. Default: 5 s.
    pub open_for: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> BreakerPolicy {
        BreakerPolicy {
            error_ratio: Weight::from_basis_points(5_000).unwrap_or(Weight::ALL),
            min_requests: NonZeroU32::MIN.saturating_add(19),
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
        }
    }
}

/// A set of statuses: classes and single ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet {
    /// `2xx` as 2, and so on; 1..=5.
    pub classes: BTreeSet<u8>,
    /// Single ones, 100..=599.
    pub statuses: BTreeSet<u16>,
}

impl Default for StatusSet {
    /// All but 5xx.
    fn default() -> StatusSet {
        StatusSet { classes: BTreeSet::from([1, 2, 3, 4]), statuses: BTreeSet::new() }
    }
}

impl StatusSet {
    /// Whether `status` is in it.
    pub fn contains(&self, status: u16) -> bool {
        self.statuses.contains(&status) || u8::try_from(status / 100).is_ok_and(|class| self.classes.contains(&class))
    }
}

impl Route {
    /// The path and query that the extracted service is asked for instead of `target`; `None`: the same.
    pub fn rewritten(&self, target: &str) -> Option<String> {
        let rewrite = self.rewrite.as_ref()?;
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = rewrite.path_for(&self.conditions.path, path)?;
        Some(query.map_or_else(|| path.clone(), |query| format!("{path}?{query}")))
    }
}

/// Data decides the side, not the weight: the first rule that holds for the path parameter's value, else `otherwise`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locate {
    /// A parameter of the route's path template.
    pub param: Arc<str>,
    /// In order.
    pub rules: Vec<LocateRule>,
    /// When no rule holds, or the value is no number.
    pub otherwise: crate::side::Side,
}

/// Values from `min` to `max`, both included, live on `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocateRule {
    /// Smallest value; default 0.
    pub min: u64,
    /// Largest value; default the largest there is.
    pub max: u64,
    /// Where they live.
    pub to: crate::side::Side,
}
