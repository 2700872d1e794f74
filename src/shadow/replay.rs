//! Both sides asked again for what is on record: by a person, for a safe method, over the shadow's own lane.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use strangler_core::compare::{Comparison, NotComparable};
use strangler_core::day::Day;
use strangler_core::observation::{CopyJob, Observation};
use strangler_core::redact::maps::Maps;
use strangler_core::redact::{Circumstances, Divergence, Phase, Redactor};
use strangler_core::route::{Route, ShadowPolicy};
use strangler_core::shadow::{Manner, is_never};
use strangler_core::side::Side;
use tokio::sync::oneshot;

use crate::live::Publish;
use crate::live::accepted::LiveAccepted;
use crate::shadow::ask::ask;
use crate::shadow::worker::{compare_two, release_of};
use crate::shadow::{FindUpstream, Parts, Target};
use crate::upstream::budget::ByteBudget;

/// Longest wait for a side on a route that says nothing.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why both sides were not asked again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The route has gone.
    #[error("the routes file has no route `{0}` any more")]
    NoRoute(String),
    /// A side has none.
    #[error("the {0} side of the route has no upstream any more")]
    NoUpstream(Side),
    /// The record makes no sense.
    #[error("the target on record is none")]
    Target,
    /// The route says that it must not be.
    #[error("the route's `shadow.never` names this path: it is not asked for by us")]
    Never,
    /// As many bytes are held as may be.
    #[error("copies hold all the memory that they may; ask again")]
    Busy,
}

/// What is asked for once more.
struct Asked<'a> {
    route: &'a Arc<Route>,
    route_index: usize,
    method: &'a Method,
    target: &'a PathAndQuery,
    rewritten: Option<&'a PathAndQuery>,
}

/// Asks again.
#[derive(Clone)]
pub struct Replayer {
    find_upstream: FindUpstream,
    live: Arc<dyn Publish>,
    budget: ByteBudget,
    redactor: Redactor,
    accepted: Arc<LiveAccepted>,
    maps: Arc<Mutex<Maps>>,
}

impl Replayer {
    /// Of the same parts as the shadow, with what it has learned of names.
    pub(super) fn new(parts: &Parts, maps: Arc<Mutex<Maps>>) -> Replayer {
        Replayer {
            find_upstream: Arc::clone(&parts.find_upstream),
            live: Arc::clone(&parts.live),
            budget: parts.budget.clone(),
            redactor: parts.redactor.clone(),
            accepted: Arc::clone(&parts.accepted),
            maps,
        }
    }

    /// Asks both sides and compares; answers what differs now, redacted. `given`: headers beside those on record.
    ///
    /// # Errors
    /// When the request cannot be made any more.
    pub async fn replay(&self, record: &Divergence, given: &HeaderMap) -> Result<Divergence, ReplayError> {
        let snapshot = self.live.snapshot();
        let no_route = || ReplayError::NoRoute(record.route.clone());
        let (route_index, route) = snapshot.route(&record.route).ok_or_else(no_route)?;
        let policy = route.compare.clone().unwrap_or_default();
        let method: Method = record.method.parse().map_err(|_| ReplayError::Target)?;
        let target: PathAndQuery = record.target.parse().map_err(|_| ReplayError::Target)?;
        let rewritten: Option<PathAndQuery> = route.rewritten(target.as_str()).and_then(|text| text.parse().ok());
        let headers = headers(record, given);
        if route.shadow.as_ref().is_some_and(|shadow| is_never(shadow, target.path())) {
            return Err(ReplayError::Never);
        }
        let asked = Asked { route, route_index, method: &method, target: &target, rewritten: rewritten.as_ref() };
        let (legacy, extracted) = tokio::join!(
            self.ask(&asked, Side::Legacy, headers.clone()),
            self.ask(&asked, Side::Extracted, headers.clone())
        );
        let (legacy, extracted) = (legacy?, extracted?);

        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let today = Day::of_unix_ms(at_unix_ms);
        // It is another thread's to lose, so a panic of the comparer must not be.
        let mut comparison: Comparison =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compare_two(&legacy, &extracted, &policy, today)))
                .unwrap_or_else(|_| Comparison::not_comparable(NotComparable::Internal));
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).veil(
            &record.route,
            &mut comparison.differences,
            &policy,
        );
        self.accepted.load().apply(&record.route, &mut comparison, today);
        let release = release_of(route, &extracted);
        let about = Circumstances {
            id: &record.id,
            at_unix_ms,
            route,
            phase: if record.phase == Phase::Canary.as_str() { Phase::Canary } else { Phase::Shadow },
            answered_by: Side::Legacy,
            method: &method,
            path_and_query: target.as_str(),
            request_headers: &headers,
            request_bytes: 0,
            caller: None,
            trace_id: None,
            revision: snapshot.table().revision(),
            release: release.as_ref(),
        };
        Ok(self.redactor.divergence(&about, &comparison, &legacy, &extracted, &policy))
    }

    async fn ask(&self, asked: &Asked<'_>, side: Side, mut headers: HeaderMap) -> Result<Observation, ReplayError> {
        let route = asked.route;
        let target = Target::of(route, Side::Legacy, side);
        let upstream = (self.find_upstream)(route, target).ok_or(ReplayError::NoUpstream(side))?;
        // A host that is not on record: the side's own.
        if let Some(endpoint) = upstream.endpoints().first()
            && !headers.contains_key(header::HOST)
        {
            headers.insert(header::HOST, endpoint.authority.clone());
        }
        let policy = route.compare.clone().unwrap_or_default();
        let timeout = route.shadow.as_ref().map_or(TIMEOUT, |shadow: &ShadowPolicy| shadow.timeout);
        let (_nobody, answer) = oneshot::channel();
        let job = Box::new(CopyJob {
            route: Arc::clone(route),
            route_index: asked.route_index,
            answered_by: side.other(),
            target: side,
            method: asked.method.clone(),
            path_and_query: asked.target.clone(),
            rewritten: asked.rewritten.cloned(),
            begun: Duration::ZERO,
            manner: Manner::Plain,
            may_repeat: false,
            headers,
            body: Bytes::new(),
            caller: None,
            answer,
        });
        let mut held = self.budget.hold(0).ok_or(ReplayError::Busy)?;
        Ok(ask(job, &upstream, timeout, policy.body_bytes_max, &mut held).await)
    }
}

/// Those on record that are not hidden, and what the asker gives; theirs go first.
fn headers(record: &Divergence, given: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let told = record.request_headers.iter().filter(|(_, value)| !value.starts_with('<'));
    for (name, value) in told {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    for name in given.keys() {
        headers.remove(name);
        for value in given.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}
