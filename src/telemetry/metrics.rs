//! Every metric. Labels are our own names and enums, never text from a request: their number has a bound.
//!
//! What is counted for a route is looked up once, when a table is published; a request then touches atomics only.

mod compare;
pub mod read;
mod rollout;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use strangler_core::breaker::BreakerState;
use strangler_core::decide::Reason;
use strangler_core::observation::Failure;
use strangler_core::side::Side;

use crate::telemetry::metrics::rollout::{LAST_TRANSITION, LOG_E, ROLLOUT_VERDICT, Rollouts, TRANSITIONS};

/// Requests by route, side (`none`: an answer of our own) and exact status.
pub const REQUESTS: &str = "strangler_requests_total";
/// Decisions by route, side and reason.
pub const DECISIONS: &str = "strangler_decisions_total";
/// Requests refused at the door, by reason.
pub const REJECTED: &str = "strangler_rejected_total";
/// Whole requests, in seconds.
pub const REQUEST_DURATION: &str = "strangler_request_duration_seconds";
/// From the request's dispatch to the upstream's last byte, in seconds.
pub const UPSTREAM_DURATION: &str = "strangler_upstream_request_duration_seconds";
/// What the proxy itself adds before the upstream's head has come, in seconds.
pub const OVERHEAD: &str = "strangler_proxy_overhead_seconds";
/// Requests under way by side.
pub const IN_FLIGHT: &str = "strangler_requests_in_flight";
/// Open connections by listener.
pub const CONNECTIONS: &str = "strangler_connections";
/// Open connections by upstream.
pub const UPSTREAM_CONNECTIONS: &str = "strangler_upstream_connections";
/// Fallbacks by route and cause.
pub const FALLBACKS: &str = "strangler_fallbacks_total";
/// Failures by route, side and cause, whoever answered in the end.
pub const FAILURES: &str = "strangler_failures_total";
/// Retries by route.
pub const RETRIES: &str = "strangler_retries_total";
/// 1 while an endpoint gets requests: checks call it well, and it is not left out for failing.
pub const UPSTREAM_HEALTHY: &str = "strangler_upstream_healthy";
/// 1 for the state a route's breaker is in.
pub const BREAKER: &str = "strangler_breaker_state";
/// Weight in force, 0..=1.
pub const WEIGHT: &str = "strangler_route_weight_ratio";
/// 1 while killed.
pub const KILLED: &str = "strangler_route_killed";
/// 1 for the stage a route is in.
pub const STAGE: &str = "strangler_route_stage";
/// Copies by route and outcome.
pub const SHADOW: &str = "strangler_shadow_total";
/// Comparisons by route and result.
pub const COMPARISONS: &str = "strangler_comparisons_total";
/// What second looks made of pairs that differed, by route and tag.
pub const SECOND_LOOKS: &str = "strangler_second_looks_total";
/// 1 for what is known by comparing the answers of a route.
pub const VERDICT: &str = "strangler_verdict";
/// Templates that were found in what no route covers.
pub const DISCOVERED: &str = "strangler_discovered_templates";
/// Things that legacy is asked and that are compared too seldom, by route: what the `coverage` gate would wait for.
pub const COVERAGE_MISSING: &str = "strangler_coverage_missing";
/// Differences by route and kind.
pub const DIFFERENCES: &str = "strangler_differences_total";
/// When legacy last answered for a route, in Unix seconds.
pub const LEGACY_LAST: &str = "strangler_legacy_last_request_timestamp_seconds";
/// 1 for the revision in force.
pub const CONFIG_INFO: &str = "strangler_config_info";
/// 1 when the last reload was taken.
pub const CONFIG_OK: &str = "strangler_config_last_reload_successful";
/// 1 while an older text than the file's is in force.
pub const CONFIG_STALE: &str = "strangler_config_stale";
/// Reloads by result.
pub const CONFIG_RELOADS: &str = "strangler_config_reloads_total";
/// New binaries that were started, by result: taken_over (counted by the new process), failed, timed_out.
pub const UPGRADES: &str = "strangler_upgrades_total";
/// 1, with the version.
pub const BUILD_INFO: &str = "strangler_build_info";
/// 1 while a store works.
pub const STORE_HEALTHY: &str = "strangler_store_healthy";
/// When a listener's certificate ends, in Unix seconds, by its file.
pub const CERTIFICATE_EXPIRY: &str = "strangler_certificate_expiry_timestamp_seconds";
/// 1 while the files of a listener's certificates cannot be used and older ones are in force.
pub const CERTIFICATES_STALE: &str = "strangler_certificates_stale";
/// Records dropped because a queue was full, by queue.
pub const QUEUE_DROPPED: &str = "strangler_queue_dropped_total";

/// Upper bounds of every duration's buckets, in seconds.
const BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const OVERHEAD_BUCKETS: &[f64] = &[0.000_01, 0.000_025, 0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.01, 0.1];

/// Statuses whose counters a request finds without a look-up.
const COMMON: [u16; 16] = [200, 201, 202, 204, 206, 301, 302, 303, 304, 400, 401, 403, 404, 409, 500, 503];

/// Stages, as in the `stage` label.
pub const STAGES: [&str; 5] = ["legacy", "shadow", "canary", "extracted", "retired"];

/// Every metric of the process, in a registry of its own.
#[derive(Debug)]
pub struct Metrics {
    families: Arc<Families>,
    routes: Mutex<BTreeMap<String, Arc<RouteMetrics>>>,
}

impl std::ops::Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.families
    }
}

/// The families that the counters are taken from.
#[derive(Debug)]
pub struct Families {
    registry: Registry,
    requests: IntCounterVec,
    decisions: IntCounterVec,
    rejected: IntCounterVec,
    request_duration: HistogramVec,
    upstream_duration: HistogramVec,
    /// See [`OVERHEAD`].
    pub overhead: Histogram,
    in_flight: IntGaugeVec,
    connections: IntGaugeVec,
    upstream_connections: IntGaugeVec,
    fallbacks: IntCounterVec,
    failures: IntCounterVec,
    retries: IntCounterVec,
    upstream_healthy: IntGaugeVec,
    breaker: IntGaugeVec,
    weight: GaugeVec,
    killed: IntGaugeVec,
    stage: IntGaugeVec,
    shadow: IntCounterVec,
    comparisons: IntCounterVec,
    second_looks: IntCounterVec,
    verdict: IntGaugeVec,
    rollout_verdict: IntGaugeVec,
    transitions: IntCounterVec,
    last_transition: IntGaugeVec,
    hooks: IntCounterVec,
    log_e: GaugeVec,
    rollouts: Rollouts,
    coverage_missing: IntGaugeVec,
    discovered: IntGauge,
    differences: IntCounterVec,
    legacy_last: IntGaugeVec,
    config_info: IntGaugeVec,
    config_ok: IntGauge,
    config_stale: IntGauge,
    config_reloads: IntCounterVec,
    upgrades: IntCounterVec,
    store_healthy: IntGaugeVec,
    certificate_expiry: IntGaugeVec,
    certificates_stale: IntGaugeVec,
    queue_dropped: IntCounterVec,
}

/// The counters of one route, found without a look-up.
#[derive(Debug)]
pub struct RouteMetrics {
    name: String,
    families: Arc<Families>,
    sides: [SideMetrics; 3],
    legacy_last: OnceLock<IntGauge>,
    retries: OnceLock<IntCounter>,
}

#[derive(Debug, Default)]
struct SideMetrics {
    common: [OnceLock<IntCounter>; COMMON.len()],
    reasons: [OnceLock<IntCounter>; Reason::ALL.len()],
    duration: OnceLock<Histogram>,
    upstream_duration: OnceLock<Histogram>,
}

/// Who answered: a side, or the proxy itself.
pub fn side_label(side: Option<Side>) -> &'static str {
    side.map_or("none", Side::as_str)
}

const fn side_place(side: Option<Side>) -> usize {
    match side {
        Some(Side::Legacy) => 0,
        Some(Side::Extracted) => 1,
        None => 2,
    }
}

struct Maker(Registry);

impl Maker {
    fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> prometheus::Result<C> {
        let made = made?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels))
    }
}

impl Metrics {
    /// All of them, at zero.
    ///
    /// # Errors
    /// When two metrics have one name: a mistake in this file.
    pub fn new(version: &str) -> prometheus::Result<Arc<Metrics>> {
        let make = Maker(Registry::new());
        let build = make.gauge(BUILD_INFO, "1, labelled with the version", &["version"])?;
        build.with_label_values(&[version]).set(1);
        let families = Arc::new(Families {
            requests: make.counter(REQUESTS, "Requests answered", &["route", "side", "code"])?,
            decisions: make.counter(DECISIONS, "Sides chosen, and why", &["route", "side", "reason"])?,
            rejected: make.counter(REJECTED, "Requests refused at the door", &["reason"])?,
            request_duration: make.histogram(
                REQUEST_DURATION,
                "From a request's head to its answer's last byte",
                &["route", "side"],
            )?,
            upstream_duration: make.histogram(
                UPSTREAM_DURATION,
                "From the dispatch to the upstream's head",
                &["route", "side"],
            )?,
            overhead: make.keep(Histogram::with_opts(
                HistogramOpts::new(OVERHEAD, "Time until the answer's head that was not the upstream's")
                    .buckets(OVERHEAD_BUCKETS.to_vec()),
            ))?,
            in_flight: make.gauge(IN_FLIGHT, "Requests under way", &["side"])?,
            connections: make.gauge(CONNECTIONS, "Open connections of clients", &["listener"])?,
            upstream_connections: make.gauge(UPSTREAM_CONNECTIONS, "Open connections to upstreams", &["upstream"])?,
            fallbacks: make.counter(
                FALLBACKS,
                "Requests that legacy answered because extracted failed",
                &["route", "cause"],
            )?,
            failures: make.counter(
                FAILURES,
                "Failures of a side, whoever answered in the end",
                &["route", "side", "cause"],
            )?,
            retries: make.counter(RETRIES, "Further tries on the same side", &["route"])?,
            upstream_healthy: make.gauge(
                UPSTREAM_HEALTHY,
                "1 while an endpoint gets requests",
                &["upstream", "endpoint"],
            )?,
            breaker: make.gauge(BREAKER, "1 for the state a route's breaker is in", &["route", "state"])?,
            weight: make.keep(GaugeVec::new(Opts::new(WEIGHT, "Part of users on extracted, in force"), &["route"]))?,
            killed: make.gauge(KILLED, "1 while all traffic is on legacy by a kill", &["route"])?,
            stage: make.gauge(STAGE, "1 for the stage a route is in", &["route", "stage"])?,
            shadow: make.counter(SHADOW, "Copies", &["route", "outcome"])?,
            comparisons: make.counter(COMPARISONS, "Pairs of answers compared", &["route", "result"])?,
            second_looks: make.counter(
                SECOND_LOOKS,
                "Pairs that differed and were asked again, by what came of it",
                &["route", "tag"],
            )?,
            verdict: make.gauge(
                VERDICT,
                "1 for what is known by comparing the answers of a route",
                &["route", "verdict"],
            )?,
            rollout_verdict: make.gauge(
                ROLLOUT_VERDICT,
                "1 for what the judge says of a route's rollout",
                &["route", "verdict"],
            )?,
            hooks: make.counter(rollout::HOOKS, "Messages to hooks of rollouts", &["route", "hook", "outcome"])?,
            transitions: make.counter(TRANSITIONS, "Moves of rollouts", &["route", "action", "actor"])?,
            last_transition: make.gauge(
                LAST_TRANSITION,
                "When a route's rollout last moved, in Unix seconds",
                &["route"],
            )?,
            rollouts: Rollouts::new(&make)?,
            log_e: make.keep(GaugeVec::new(
                Opts::new(LOG_E, "Natural logarithm of the evidence of harm"),
                &["route", "gate"],
            ))?,
            coverage_missing: make.gauge(
                COVERAGE_MISSING,
                "Things that legacy is asked and that are compared too seldom",
                &["route"],
            )?,
            discovered: make
                .keep(IntGauge::new(DISCOVERED, "Templates, with their methods, of what no route covers"))?,
            differences: make.counter(DIFFERENCES, "Differences found", &["route", "kind"])?,
            legacy_last: make.gauge(LEGACY_LAST, "When legacy last answered, in Unix seconds", &["route"])?,
            config_info: make.gauge(CONFIG_INFO, "1 for the revision in force", &["revision"])?,
            config_ok: make.keep(IntGauge::new(CONFIG_OK, "1 when the last reload was taken"))?,
            config_stale: make
                .keep(IntGauge::new(CONFIG_STALE, "1 while an older text than the file's is in force"))?,
            config_reloads: make.counter(CONFIG_RELOADS, "Reloads", &["result"])?,
            upgrades: make.counter(UPGRADES, "New binaries started", &["result"])?,
            store_healthy: make.gauge(STORE_HEALTHY, "1 while a store works", &["store"])?,
            certificate_expiry: make.gauge(
                CERTIFICATE_EXPIRY,
                "When a listener's certificate ends, in Unix seconds",
                &["name"],
            )?,
            certificates_stale: make.gauge(
                CERTIFICATES_STALE,
                "1 while a listener's certificates on disk cannot be used and older ones are in force",
                &["listener"],
            )?,
            queue_dropped: make.counter(QUEUE_DROPPED, "Records dropped because a queue was full", &["queue"])?,
            registry: make.0,
        });
        for result in ["taken_over", "failed", "timed_out"] {
            families.upgrades.with_label_values(&[result]);
        }
        Ok(Arc::new(Metrics { families, routes: Mutex::default() }))
    }

    /// The counters of a route (or of [`strangler_core::name::FALL_THROUGH`]); the same ones for the same name, so that counts
    /// go on over a reload.
    pub fn route(self: &Arc<Self>, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = routes.get(name) {
            return Arc::clone(known);
        }
        let route = Arc::new(RouteMetrics {
            name: name.to_owned(),
            families: Arc::clone(&self.families),
            sides: Default::default(),
            legacy_last: OnceLock::new(),
            retries: OnceLock::new(),
        });
        routes.insert(name.to_owned(), Arc::clone(&route));
        route
    }

    /// Makes the label sets that ratios are computed of, so that they begin at zero and not in the middle.
    pub fn prepare_route(&self, name: &str) {
        for side in ["legacy", "extracted"] {
            self.requests.with_label_values(&[name, side, "200"]);
            self.requests.with_label_values(&[name, side, "500"]);
        }
        for outcome in ["sent", "dropped", "refused_unsafe", "timeout", "error", "cancelled", "breaker_open"] {
            self.shadow.with_label_values(&[name, outcome]);
        }
        for result in ["match", "mismatch", "noise", "transient", "expected", "failed", "not_comparable"] {
            self.comparisons.with_label_values(&[name, result]);
        }
    }

    /// Shows where a route stands.
    pub fn show_route(&self, name: &str, weight: f64, killed: bool, stage: &str) {
        self.weight.with_label_values(&[name]).set(weight);
        self.killed.with_label_values(&[name]).set(i64::from(killed));
        for known in STAGES {
            self.stage.with_label_values(&[name, known]).set(i64::from(known == stage));
        }
    }

    /// Takes the gauges of a route that is gone away; its counters stay, as Prometheus wants it.
    pub fn forget_route(&self, name: &str) {
        // A label set that was never made is no fault.
        let _ = self.weight.remove_label_values(&[name]);
        let _ = self.killed.remove_label_values(&[name]);
        self.forget_breaker(name);
        self.forget_verdict(name);
        self.forget_rollout(name);
        for stage in STAGES {
            let _ = self.stage.remove_label_values(&[name, stage]);
        }
    }

    /// A request was refused at the door.
    pub fn count_rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Requests under way on a side.
    pub fn in_flight(&self, side: Option<Side>) -> IntGauge {
        self.in_flight.with_label_values(&[side_label(side)])
    }

    /// Open connections of a listener.
    pub fn connections(&self, listener: &str) -> IntGauge {
        self.connections.with_label_values(&[listener])
    }

    /// Shows the open connections of an upstream.
    pub fn show_upstream_connections(&self, upstream: &str, open: u32) {
        self.upstream_connections.with_label_values(&[upstream]).set(i64::from(open));
    }

    /// Shows whether an endpoint gets requests.
    pub fn show_endpoint(&self, upstream: &str, endpoint: &str, is_up: bool) {
        self.upstream_healthy.with_label_values(&[upstream, endpoint]).set(i64::from(is_up));
    }

    /// Shows how a route's breaker stands.
    pub fn show_breaker(&self, route: &str, state: BreakerState) {
        for known in BreakerState::ALL {
            self.breaker.with_label_values(&[route, known.as_str()]).set(i64::from(known == state));
        }
    }

    /// Takes the gauges of a breaker that is gone away.
    pub fn forget_breaker(&self, route: &str) {
        for state in BreakerState::ALL {
            // A label set that was never made is no fault.
            let _ = self.breaker.remove_label_values(&[route, state.as_str()]);
        }
    }

    /// Takes the gauge of an endpoint that is gone away.
    pub fn forget_endpoint(&self, upstream: &str, endpoint: &str) {
        let _ = self.upstream_healthy.remove_label_values(&[upstream, endpoint]);
    }

    /// A copy's outcome: sent, dropped, refused_unsafe, timeout, error, cancelled.
    pub fn count_shadow(&self, route: &str, outcome: &str) {
        self.shadow.with_label_values(&[route, outcome]).inc();
    }

    /// A reload's result, the revision in force and whether it is stale.
    pub fn show_config(&self, revision: &str, is_last_taken: bool, is_stale: bool) {
        self.config_info.reset();
        self.config_info.with_label_values(&[revision]).set(1);
        self.config_ok.set(i64::from(is_last_taken));
        self.config_stale.set(i64::from(is_stale));
    }

    /// A reload's result: taken, refused, unchanged.
    pub fn count_reload(&self, result: &str) {
        self.config_reloads.with_label_values(&[result]).inc();
    }

    /// What came of a new binary: taken_over, failed, timed_out.
    pub fn count_upgrade(&self, result: &str) {
        self.upgrades.with_label_values(&[result]).inc();
    }

    /// Whether a store works.
    pub fn show_store(&self, store: &str, is_healthy: bool) {
        self.store_healthy.with_label_values(&[store]).set(i64::from(is_healthy));
    }

    /// When a certificate ends, by its file.
    pub fn show_certificate_expiry(&self, name: &str, unix_s: i64) {
        self.certificate_expiry.with_label_values(&[name]).set(unix_s);
    }

    /// Whether a listener's certificates on disk cannot be used.
    pub fn show_certificates_stale(&self, listener: &str, is_stale: bool) {
        self.certificates_stale.with_label_values(&[listener]).set(i64::from(is_stale));
    }

    /// A record was dropped because a queue was full.
    pub fn count_queue_dropped(&self, queue: &str) {
        self.queue_dropped.with_label_values(&[queue]).inc();
    }

    /// Everything, in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut out = Vec::with_capacity(64 << 10);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "cannot write the metrics");
        }
        String::from_utf8(out).unwrap_or_default()
    }
}

impl RouteMetrics {
    fn side(&self, side: Option<Side>) -> Option<&SideMetrics> {
        self.sides.get(side_place(side))
    }

    /// A request was answered.
    pub fn count_request(&self, side: Option<Side>, status: u16) {
        let metrics = &self.families;
        let make = || metrics.requests.with_label_values(&[&self.name, side_label(side), &status.to_string()]);
        let common = COMMON.binary_search(&status).ok().and_then(|place| self.side(side)?.common.get(place));
        match common {
            Some(counter) => counter.get_or_init(make).inc(),
            None => make().inc(),
        }
    }

    /// A side was chosen.
    pub fn count_decision(&self, side: Side, reason: Reason) {
        let metrics = &self.families;
        let make = || metrics.decisions.with_label_values(&[self.name.as_str(), side.as_str(), reason.as_str()]);
        if let Some(counter) = self.side(Some(side)).and_then(|side| side.reasons.get(reason as usize)) {
            counter.get_or_init(make).inc();
        }
    }

    /// Legacy answered because extracted failed.
    pub fn count_fallback(&self, cause: Failure) {
        let metrics = &self.families;
        metrics.fallbacks.with_label_values(&[self.name.as_str(), cause.as_str()]).inc();
        let reason = if cause == Failure::BreakerOpen { "breaker" } else { "fallback" };
        metrics.decisions.with_label_values(&[self.name.as_str(), "legacy", reason]).inc();
    }

    /// A side failed: with its last try, or in the middle of its answer.
    pub fn count_failure(&self, side: Side, cause: Failure) {
        self.families.failures.with_label_values(&[self.name.as_str(), side.as_str(), cause.as_str()]).inc();
    }

    /// A try was repeated on the same side.
    pub fn count_retry(&self) {
        let metrics = &self.families;
        self.retries.get_or_init(|| metrics.retries.with_label_values(&[&self.name])).inc();
    }

    /// How long the whole request took.
    pub fn observe_request(&self, side: Option<Side>, took: Duration) {
        let metrics = &self.families;
        let make = || metrics.request_duration.with_label_values(&[self.name.as_str(), side_label(side)]);
        if let Some(side) = self.side(side) {
            side.duration.get_or_init(make).observe(took.as_secs_f64());
        }
    }

    /// How long the upstream took to answer.
    pub fn observe_upstream(&self, side: Side, took: Duration) {
        let metrics = &self.families;
        let make = || metrics.upstream_duration.with_label_values(&[self.name.as_str(), side.as_str()]);
        if let Some(side) = self.side(Some(side)) {
            side.upstream_duration.get_or_init(make).observe(took.as_secs_f64());
        }
    }

    /// Legacy answered at `unix_s`.
    pub fn note_legacy(&self, unix_s: i64) {
        let metrics = &self.families;
        self.legacy_last.get_or_init(|| metrics.legacy_last.with_label_values(&[&self.name])).set(unix_s);
    }
}

/// A condition on a label.
type Condition<'a> = (&'a str, &'a dyn Fn(&str) -> bool);

/// The sum over all label sets that meet every condition. Looks at each of them: not for requests.
fn sum(family: &IntCounterVec, conditions: &[Condition<'_>]) -> u64 {
    let mut sum = 0.0;
    for metric in family.collect().iter().flat_map(prometheus::proto::MetricFamily::get_metric) {
        let holds = |(name, is_met): &Condition<'_>| {
            metric.get_label().iter().any(|pair| pair.name() == *name && is_met(pair.value()))
        };
        if conditions.iter().all(holds) {
            sum += metric.get_counter().get_value();
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
    let sum = sum as u64;
    sum
}

/// A plain gauge, handed out so that nobody else need name the library.
pub type SideGauge = IntGauge;
