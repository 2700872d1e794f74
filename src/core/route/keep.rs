//! What keeps users and their writes on the side where they began.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::name::JourneyName;
use crate::route::{Conditions, HostPattern};

/// By which cookie users stay on a side, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// The cookie's name.
    pub cookie: Arc<str>,
    /// What its signature is bound to: a lease of another journey, or of another salt, is none.
    pub scope: Arc<str>,
    /// From the beginning to the end.
    pub life: Duration,
}

/// How long the side that served a form is remembered.
pub const FORM_LIFE: Duration = Duration::from_mins(30);

impl LeasePolicy {
    /// Of a journey.
    pub fn journey(name: &JourneyName, salt: &str, life: Duration) -> LeasePolicy {
        LeasePolicy {
            cookie: format!("strangler_lease_{name}").into(),
            scope: format!("journey\n{name}\n{salt}").into(),
            life,
        }
    }

    /// Of the forms at a path: those of two routes (`GET` and `POST`) with the same host and path are the same.
    pub fn form(conditions: &Conditions) -> LeasePolicy {
        let host = match &conditions.host {
            HostPattern::Exact(host) => host,
            HostPattern::Wildcard(suffix) => suffix,
            HostPattern::Any => "",
        };
        let scope = format!("form\n{host}\n{}", conditions.path);
        let place = xxhash_rust::xxh3::xxh3_64(scope.as_bytes());
        LeasePolicy { cookie: format!("strangler_form_{place:016x}").into(), scope: scope.into(), life: FORM_LIFE }
    }
}

/// A repeated key goes to the side that saw it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyPolicy {
    /// Where the key is. Default: `idempotency-key`.
    pub header: HeaderName,
    /// What becomes of a key that extracted has seen while the route is killed. Default: refuse.
    pub on_kill: OnKill,
}

/// What becomes of a key that extracted has seen while the route is killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnKill {
    /// 503 and `Retry-After`: the write may have been done.
    #[default]
    Refuse,
    /// Legacy does it, perhaps again.
    Reexecute,
}
