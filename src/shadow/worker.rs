//! The thread that compares: decodes both bodies, asks the core, counts, and lets go of what differed in redacted form only.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use strangler_core::compare::{Bodies, Comparison, ComparisonResult, NotComparable, compare, is_same_wire};
use strangler_core::day::Day;
use strangler_core::observation::{Observation, Outcome};
use strangler_core::redact::maps::Maps;
use strangler_core::redact::{Circumstances, Phase, Redactor};
use strangler_core::route::{ComparePolicy, Route};
use strangler_core::shadow::is_baseline_stale;
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;
use strangler_core::weight::Weight;

use crate::live::Publish;
use crate::live::accepted::LiveAccepted;
use crate::shadow::decode::{Decoded, decode};
use crate::shadow::rules::RuleWatch;
use crate::shadow::{Parts, Sink};
use crate::telemetry::metrics::Metrics;
use crate::upstream::budget::Held;

/// Two answers to one request.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) route: Arc<Route>,
    pub(crate) route_index: usize,
    pub(crate) policy: Arc<ComparePolicy>,
    pub(crate) answered_by: Side,
    pub(crate) method: Method,
    pub(crate) path_and_query: PathAndQuery,
    /// What is noted of the request's headers.
    pub(crate) request_headers: HeaderMap,
    /// Bytes of its body.
    pub(crate) request_bytes: u64,
    pub(crate) caller: Option<u64>,
    pub(crate) trace_id: Option<String>,
    /// What the user got.
    pub(crate) user: Observation,
    /// What the other side said.
    pub(crate) copied: Observation,
    /// The bytes of both bodies, until they are compared.
    pub(crate) _held: [Held; 2],
}

impl Pair {
    const fn sides(&self) -> (&Observation, &Observation) {
        match self.answered_by {
            Side::Legacy => (&self.user, &self.copied),
            Side::Extracted => (&self.copied, &self.user),
        }
    }
}

/// What the thread works with.
pub(crate) struct Worker {
    live: Arc<dyn Publish>,
    metrics: Arc<Metrics>,
    redactor: Redactor,
    accepted: Arc<LiveAccepted>,
    sink: Sink,
    rules: RuleWatch,
    /// Shared with whoever asks again.
    maps: Arc<Mutex<Maps>>,
}

impl Worker {
    pub(crate) fn new(parts: Parts, maps: Arc<Mutex<Maps>>) -> Worker {
        let Parts { live, metrics, redactor, accepted, sink, .. } = parts;
        Worker { live, metrics, redactor, accepted, sink, rules: RuleWatch::default(), maps }
    }

    /// Compares pairs until nobody can send one.
    pub(crate) fn run(mut self, pairs: &Receiver<Pair>) {
        while let Ok(pair) = pairs.recv() {
            // A pair that breaks the comparer costs itself, never the pairs behind it. Its bytes are not in the message.
            if catch_unwind(AssertUnwindSafe(|| self.work(&pair))).is_err() {
                tracing::error!(route = %pair.route.name, "a comparison panicked");
                self.count(&pair.route, &Comparison::not_comparable(NotComparable::Internal));
            }
        }
    }

    fn work(&mut self, pair: &Pair) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let today = Day::of_unix_ms(at_unix_ms);
        let mut comparison = compared(pair, today);
        // Before anything is named anywhere: which keys are names, and which causes are intended.
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).veil(
            pair.route.name.as_str(),
            &mut comparison.differences,
            &pair.policy,
        );
        self.accepted.load().apply(pair.route.name.as_str(), &mut comparison, today);
        self.count(&pair.route, &comparison);
        self.rules.saw(&pair.route.name, &pair.policy, &comparison, today);
        match comparison.result {
            ComparisonResult::Mismatch | ComparisonResult::Failed => {}
            ComparisonResult::Match | ComparisonResult::BothError | ComparisonResult::Expected => return,
            ComparisonResult::NotComparable(reason) => {
                tracing::debug!(route = %pair.route.name, reason = reason.as_str(), "a pair cannot be compared");
                return;
            }
        }
        let (legacy, extracted) = pair.sides();
        let snapshot = self.live.snapshot();
        let about = Circumstances {
            id: &id(at_unix_ms),
            at_unix_ms,
            route: &pair.route,
            phase: phase(&snapshot, pair),
            answered_by: pair.answered_by,
            method: &pair.method,
            path_and_query: pair.path_and_query.as_str(),
            request_headers: &pair.request_headers,
            request_bytes: pair.request_bytes,
            caller: pair.caller,
            trace_id: pair.trace_id.as_deref(),
            revision: snapshot.table().revision(),
        };
        let record = self.redactor.divergence(&about, &comparison, legacy, extracted, &pair.policy);
        if !(self.sink)(&record, &pair.policy) {
            self.metrics.count_queue_dropped("divergences");
        }
    }

    fn count(&self, route: &Route, comparison: &Comparison) {
        let name = route.name.as_str();
        self.metrics.count_comparison(name, comparison.result.as_str());
        for (kind, _) in &comparison.by_kind {
            // Once per pair and kind: a list of a thousand elements is not a thousand times as wrong.
            self.metrics.count_difference(name, kind.as_str());
        }
    }
}

pub(super) fn compared(pair: &Pair, today: Day) -> Comparison {
    if is_baseline_stale(&pair.route, pair.answered_by) {
        return Comparison::not_comparable(NotComparable::BaselineStale);
    }
    let (legacy, extracted) = pair.sides();
    let nothing = || Decoded::Whole(Cow::Borrowed(&[]));
    let (left, right) = match (&legacy.outcome, &extracted.outcome) {
        (Outcome::Answered(left), Outcome::Answered(right)) if !is_same_wire(left, right) => {
            (decode(left, pair.policy.body_bytes_max), decode(right, pair.policy.body_bytes_max))
        }
        _ => (nothing(), nothing()),
    };
    compare(legacy, extracted, Bodies { legacy: left.view(), extracted: right.view() }, &pair.policy, today)
}

/// What the route is doing by now. A user on extracted proves a canary, whatever has been moved since.
fn phase(snapshot: &Snapshot, pair: &Pair) -> Phase {
    let routes = snapshot.table().routes();
    let is_it = |index: &usize| routes.get(*index).is_some_and(|route| route.name == pair.route.name);
    let index = Some(pair.route_index).filter(is_it).or_else(|| routes.iter().position(|r| r.name == pair.route.name));
    let weight = index.and_then(|index| snapshot.state(index)).map_or(pair.route.weight, |state| state.weight);
    if pair.answered_by == Side::Legacy && weight == Weight::NONE { Phase::Shadow } else { Phase::Canary }
}

/// Sorts by time; the rest is random.
fn id(at_unix_ms: u64) -> String {
    let mut random = [0u8; 10];
    // Without randomness from the system, two of one millisecond would be one: the store keeps the later.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{at_unix_ms:012x}{random}")
}
