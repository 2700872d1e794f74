//! The thread that compares: decodes both bodies, asks the core, counts, and lets go of what differed in redacted form only.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header};
use strangler_core::compare::{Bodies, Comparison, ComparisonResult, NotComparable, compare, is_same_wire};
use strangler_core::coverage::{Book, Counts, MethodKind, Seen, day_of_unix_ms};
use strangler_core::day::Day;
use strangler_core::latency::{Latencies, Took, is_paired};
use strangler_core::noise::ledger::{Ledger, Of};
use strangler_core::noise::{FieldKey, Tag, tag};
use strangler_core::observation::{Failure, Observation, Outcome};
use strangler_core::redact::maps::Maps;
use strangler_core::redact::{Circumstances, Phase, Redactor};
use strangler_core::route::{ComparePolicy, Route};
use strangler_core::runtime::Release;
use strangler_core::shadow::is_baseline_stale;
use strangler_core::shadow::settle::Writes;
use strangler_core::side::Side;
use strangler_core::snapshot::Snapshot;
use strangler_core::weight::Weight;
use tokio::sync::mpsc;

use crate::live::Publish;
use crate::live::accepted::LiveAccepted;
use crate::live::witness::Witnesses;
use crate::shadow::decode::{Decoded, decode};
use crate::shadow::gates::{Ask, Gates};
use crate::shadow::look::{Look, Looked, Unfinished};
use crate::shadow::rules::RuleWatch;
use crate::shadow::{Job, Parts, Sink};
use crate::telemetry::metrics::Metrics;
use crate::upstream::budget::Held;

/// What the thread is given.
pub(crate) enum Work {
    /// Two answers, or three.
    Pair(Box<Pair>),
    /// What a second look saw.
    Looked(Box<Looked>),
}

/// Two answers to one request.
pub(crate) struct Pair {
    /// The request; its headers are there while it may be asked again.
    pub(crate) job: Job,
    pub(crate) policy: Arc<ComparePolicy>,
    /// What is noted of the request's headers.
    pub(crate) request_headers: HeaderMap,
    pub(crate) trace_id: Option<String>,
    /// What the user got.
    pub(crate) user: Observation,
    /// What the other side said.
    pub(crate) copied: Observation,
    /// What legacy said when it was asked once more, before anything was known of the other two.
    pub(crate) second: Option<Observation>,
    /// The way back, should it be worth a second look; `None`: it must not be asked again.
    pub(crate) looks: Option<mpsc::Sender<Look>>,
    /// Whether it is a request of ours, after a write: a write of the caller's just before it does not count.
    pub(crate) is_read_back: bool,
    /// The bytes of the three bodies until they are compared, and those of the request.
    pub(crate) held: [Held; 4],
}

impl Pair {
    const fn sides(&self) -> (&Observation, &Observation) {
        match self.job.answered_by {
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
    writes: Arc<Writes>,
    begun: Instant,
    gates: Arc<Gates>,
    books: Books,
    coverage: Arc<Mutex<Book>>,
    witnesses: Arc<Witnesses>,
}

/// What is learned, shared with those who tell it.
pub(super) struct Books {
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) latencies: Arc<Mutex<Latencies>>,
    /// Shared with whoever asks again.
    pub(super) maps: Arc<Mutex<Maps>>,
}

impl Worker {
    pub(super) fn new(parts: Parts, gates: Arc<Gates>, books: Books) -> Worker {
        let Parts { live, metrics, redactor, accepted, coverage, sink, writes, witnesses, begun, .. } = parts;
        let rules = RuleWatch::default();
        Worker { live, metrics, redactor, accepted, sink, rules, writes, begun, gates, books, coverage, witnesses }
    }

    /// Compares until nobody can send anything.
    pub(crate) fn run(mut self, work: &Receiver<Work>) {
        while let Ok(work) = work.recv() {
            // A pair that breaks the comparer costs itself, never the pairs behind it. Its bytes are not in the message.
            match work {
                Work::Pair(pair) => {
                    let route = Arc::clone(&pair.job.route);
                    if catch_unwind(AssertUnwindSafe(|| self.work(*pair))).is_err() {
                        tracing::error!(route = %route.name, "a comparison panicked");
                        self.count(&route, &Comparison::not_comparable(NotComparable::Internal));
                    }
                }
                Work::Looked(looked) => {
                    if catch_unwind(AssertUnwindSafe(|| self.looked(*looked))).is_err() {
                        tracing::error!("a comparison panicked");
                    }
                }
            }
        }
    }

    /// Which release of extracted has answered; `None`: it named none, or is not asked for its name.
    fn note_release(&self, pair: &Pair) -> Option<Release> {
        let route = &pair.job.route;
        let (_, extracted) = pair.sides();
        if route.release_header.is_none() || !matches!(extracted.outcome, Outcome::Answered(_)) {
            return None;
        }
        let named = release_of(route, extracted);
        // Of a route in the shadow nothing else tells; what users are answered is noted where it passes.
        if pair.job.target == Side::Extracted {
            self.witnesses.push_release(&Arc::from(route.name.as_str()), named.clone());
        }
        if self.ledger().note_release(&route.name, named.clone()) {
            self.gates.gate(&route.name).unsettle();
            tracing::info!(route = %route.name, release = named.as_ref().map(Release::as_str), "another release answers: what is known of its answers begins anew");
        }
        named
    }

    fn work(&mut self, pair: Pair) {
        let release = self.note_release(&pair);
        let at_unix_ms = now_unix_ms();
        let today = Day::of_unix_ms(at_unix_ms);
        let mut comparison = self.compared(&pair, today);
        self.accepted.load().apply(pair.job.route.name.as_str(), &mut comparison, today);
        self.count_kinds(&pair.job.route, &comparison);
        self.rules.saw(&pair.job.route.name, &pair.policy, &comparison, today);
        self.note(&pair, &comparison, today);
        self.note_coverage(&pair, comparison.result, at_unix_ms);
        self.note_latency(&pair, comparison.result);
        match comparison.result {
            ComparisonResult::Mismatch | ComparisonResult::Failed => {}
            ComparisonResult::Match | ComparisonResult::BothError | ComparisonResult::Expected => {
                return self.count_result(&pair.job.route, &comparison);
            }
            ComparisonResult::NotComparable(reason) => {
                tracing::debug!(route = %pair.job.route.name, reason = reason.as_str(), "a pair cannot be compared");
                return self.count_result(&pair.job.route, &comparison);
            }
        }
        let (legacy, extracted) = pair.sides();
        let snapshot = self.live.snapshot();
        let about = Circumstances {
            id: &id(at_unix_ms),
            at_unix_ms,
            route: &pair.job.route,
            phase: phase(&snapshot, &pair.job),
            answered_by: pair.job.answered_by,
            method: &pair.job.method,
            path_and_query: pair.job.path_and_query.as_str(),
            request_headers: &pair.request_headers,
            request_bytes: pair.job.body.len() as u64,
            caller: pair.job.caller,
            trace_id: pair.trace_id.as_deref(),
            revision: snapshot.table().revision(),
            release: release.as_ref(),
        };
        let record = self.redactor.divergence(&about, &comparison, legacy, extracted, &pair.policy);
        let (metrics, sink) = (Arc::clone(&self.metrics), Arc::clone(&self.sink));
        let unfinished = Unfinished::new(record, comparison.result, Arc::clone(&pair.policy), metrics, sink);
        self.look_again(pair, &comparison, unfinished);
    }

    /// Sends a pair that differed back to its core to be asked again, as far as that may be. A record that is dropped on the way is kept.
    fn look_again(&self, pair: Pair, comparison: &Comparison, unfinished: Unfinished) {
        let Some(looks) = pair.looks else { return unfinished.untagged() };
        let policy = pair.policy.looks;
        let gate = self.gates.gate(&pair.job.route.name);
        let pass = self.gates.enter_look();
        let pass = pass.filter(|_| gate.may_ask(policy.max_rps, policy.legacy_asks(), Ask::Look, self.begun.elapsed()));
        let Some(pass) = pass else {
            self.metrics.count_queue_dropped("second_looks");
            let of = Of { route: &pair.job.route.name, method: &pair.job.method, policy: &pair.policy };
            self.ledger().tagged(of, Tag::Unconfirmed, &BTreeSet::new());
            return drop(unfinished);
        };
        let found = comparison.differences.iter().map(FieldKey::of).collect();
        let [.., held] = pair.held;
        let look = Look { job: pair.job, policy: pair.policy, found, unfinished, held, pass };
        if looks.try_send(look).is_err() {
            self.metrics.count_queue_dropped("second_looks");
        }
    }

    /// Puts a pair into the book of its endpoint.
    fn note(&self, pair: &Pair, comparison: &Comparison, today: Day) {
        let of = Of { route: &pair.job.route.name, method: &pair.job.method, policy: &pair.policy };
        let a_a = pair.second.as_ref().filter(|_| !matches!(comparison.result, ComparisonResult::NotComparable(_)));
        let a_a = a_a.map(|second| self.compare(&pair.job.route, [pair.sides().0, second], &pair.policy, today));
        let mut ledger = self.ledger();
        ledger.pair(of, comparison);
        if let Some(a_a) = a_a {
            let is_settled = ledger.triple(of, comparison, &a_a);
            self.gates.gate(&pair.job.route.name).set_settled(&pair.job.method, is_settled);
        }
    }

    /// Counts what legacy was asked, where the copy went there; and that it was compared. What is read back after a write is a request of
    /// ours.
    fn note_coverage(&self, pair: &Pair, result: ComparisonResult, at_unix_ms: u64) {
        let (job, legacy) = (&pair.job, pair.sides().0);
        if pair.is_read_back {
            return;
        }
        let (route, method) = (job.route.name.clone(), MethodKind::of(&job.method));
        let query = job.path_and_query.query().unwrap_or_default();
        let seen = match &legacy.outcome {
            Outcome::Answered(answer) => {
                let content_type = answer.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
                Seen::new(route, method, answer.status.as_u16(), query, content_type)
            }
            Outcome::Failed(Failure::Status(status)) => Seen::without_answer(route, method, *status, query),
            Outcome::Failed(_) => return,
        };
        let counts = Counts {
            requests: u64::from(job.answered_by == Side::Extracted),
            comparisons: u64::from(!matches!(result, ComparisonResult::NotComparable(_))),
        };
        let mut book = self.coverage.lock().unwrap_or_else(PoisonError::into_inner);
        book.count(&seen, counts, day_of_unix_ms(at_unix_ms));
    }

    /// Both were asked for the same: how long each took.
    fn note_latency(&self, pair: &Pair, result: ComparisonResult) {
        let job = &pair.job;
        let is_elsewhere = job.answered_by == Side::Legacy
            && job.route.shadow.as_ref().is_some_and(|shadow| shadow.upstream.is_some());
        if pair.is_read_back || is_elsewhere || !is_paired(job.manner, result) {
            return;
        }
        let (legacy, extracted) = pair.sides();
        let mut latencies = self.books.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.add(&job.route.name, Took::of(legacy), Took::of(extracted), self.begun.elapsed());
    }

    fn looked(&self, looked: Looked) {
        let Looked { look: Look { job, policy, found, unfinished, held, pass }, rounds, a_a, _held } = looked;
        let today = Day::of_unix_ms(now_unix_ms());
        let all: BTreeSet<FieldKey> = found.iter().cloned().collect();
        let keys = |[left, right]: &[Observation; 2]| {
            let comparison = self.compare(&job.route, [left, right], &policy, today);
            let keys = FieldKey::all_of(&comparison);
            let route = &job.route.name;
            match comparison.result {
                ComparisonResult::NotComparable(reason) => {
                    tracing::debug!(%route, reason = reason.as_str(), "a second look cannot be compared");
                    None
                }
                // A side that fails only now says nothing of what differed before.
                ComparisonResult::Failed if keys.is_disjoint(&all) => {
                    tracing::debug!(%route, ?keys, "a side failed at a second look");
                    None
                }
                ComparisonResult::Match
                | ComparisonResult::BothError
                | ComparisonResult::Expected
                | ComparisonResult::Mismatch
                | ComparisonResult::Failed => Some(keys),
            }
        };
        let rechecks: Option<Vec<BTreeSet<FieldKey>>> = rounds.iter().map(keys).collect();
        let a_a = a_a.as_ref().and_then(keys);
        // What could not be compared says nothing.
        let tagged = rechecks.map(|rechecks| tag(&all, &rechecks, a_a.as_ref()));
        let (tag, left) = tagged.unwrap_or((Tag::Unconfirmed, BTreeSet::new()));
        let of = Of { route: &job.route.name, method: &job.method, policy: &policy };
        self.ledger().tagged(of, tag, &left);
        unfinished.tagged(tag, &found, a_a.as_ref());
        drop((held, pass));
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.books.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, route: &Route, comparison: &Comparison) {
        self.count_kinds(route, comparison);
        self.count_result(route, comparison);
    }

    fn count_result(&self, route: &Route, comparison: &Comparison) {
        self.metrics.count_comparison(route.name.as_str(), comparison.result.as_str());
    }

    fn count_kinds(&self, route: &Route, comparison: &Comparison) {
        for (kind, _) in &comparison.by_kind {
            // Once per pair and kind: a list of a thousand elements is not a thousand times as wrong.
            self.metrics.count_difference(route.name.as_str(), kind.as_str());
        }
    }

    fn compared(&self, pair: &Pair, today: Day) -> Comparison {
        let job = &pair.job;
        if is_baseline_stale(&job.route, job.answered_by) {
            return Comparison::not_comparable(NotComparable::BaselineStale);
        }
        let is_settling = |caller| self.writes.is_settling(caller, job.begun, pair.policy.settle);
        // What has side effects of its own is not overtaken by itself.
        if !pair.is_read_back && !job.manner.is_unsafe() && job.caller.is_some_and(is_settling) {
            return Comparison::not_comparable(NotComparable::Settling);
        }
        let (legacy, extracted) = pair.sides();
        self.compare(&job.route, [legacy, extracted], &pair.policy, today)
    }

    /// Compares, and hides keys that are data: before anything is named anywhere, and alike each time that a request is asked.
    fn compare(&self, route: &Route, sides: [&Observation; 2], policy: &ComparePolicy, today: Day) -> Comparison {
        let mut comparison = compare_two(sides[0], sides[1], policy, today);
        let mut maps = self.books.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.veil(route.name.as_str(), &mut comparison.differences, policy);
        comparison
    }
}

/// What an answer of extracted names.
pub(super) fn release_of(route: &Route, extracted: &Observation) -> Option<Release> {
    let header = route.release_header.as_ref()?;
    let Outcome::Answered(answer) = &extracted.outcome else { return None };
    answer.headers.get(header).and_then(|value| Release::new(value.to_str().ok()?))
}

/// Decodes both bodies and compares.
pub(super) fn compare_two(
    legacy: &Observation,
    extracted: &Observation,
    policy: &ComparePolicy,
    today: Day,
) -> Comparison {
    let nothing = || Decoded::Whole(Cow::Borrowed(&[]));
    let (left, right) = match (&legacy.outcome, &extracted.outcome) {
        (Outcome::Answered(left), Outcome::Answered(right)) if !is_same_wire(left, right) => {
            (decode(left, policy.body_bytes_max), decode(right, policy.body_bytes_max))
        }
        _ => (nothing(), nothing()),
    };
    compare(legacy, extracted, Bodies { legacy: left.view(), extracted: right.view() }, policy, today)
}

fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// What the route is doing by now. A user on extracted proves a canary, whatever has been moved since.
fn phase(snapshot: &Snapshot, job: &Job) -> Phase {
    let routes = snapshot.table().routes();
    let is_it = |index: &usize| routes.get(*index).is_some_and(|route| route.name == job.route.name);
    let index = Some(job.route_index).filter(is_it).or_else(|| routes.iter().position(|r| r.name == job.route.name));
    let weight = index.and_then(|index| snapshot.state(index)).map_or(job.route.weight, |state| state.weight);
    if job.answered_by == Side::Legacy && weight == Weight::NONE { Phase::Shadow } else { Phase::Canary }
}

/// Sorts by time; the rest is random.
fn id(at_unix_ms: u64) -> String {
    let mut random = [0u8; 10];
    // Without randomness from the system, two of one millisecond would be one: the store keeps the later.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{at_unix_ms:012x}{random}")
}
