//! What must be proven before a weight rises.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::judge::points::Points;
use crate::web::WebUrl;
use crate::weight::Weight;

/// One of the gates, as written in `gates:`, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// Failures.
    Errors,
    /// Slow answers.
    Latency,
    /// Answers that differ.
    Mismatch,
    /// What has been compared at all.
    Coverage,
    /// What another system says.
    Prometheus,
    /// An objective of its own, for when legacy is gone.
    Slo,
}

impl GateName {
    /// All of them.
    pub const ALL: [GateName; 6] = [
        GateName::Errors,
        GateName::Latency,
        GateName::Mismatch,
        GateName::Coverage,
        GateName::Prometheus,
        GateName::Slo,
    ];

    /// As written in YAML, labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            GateName::Errors => "errors",
            GateName::Latency => "latency",
            GateName::Mismatch => "mismatch",
            GateName::Coverage => "coverage",
            GateName::Prometheus => "prometheus",
            GateName::Slo => "slo",
        }
    }

    /// The evidence of harm at which it fails, and the evidence of none at which it passes (E, not its logarithm); `None`: it is not
    /// judged by evidence of that kind. What else they take, [`judge`](crate::judge::judge) knows.
    pub const fn thresholds(self) -> Option<(f64, f64)> {
        match self {
            GateName::Errors | GateName::Slo => Some((200.0, 40.0)),
            GateName::Latency => Some((1.0 / 0.003, 40.0)),
            GateName::Mismatch => Some((500.0, 20.0)),
            GateName::Coverage | GateName::Prometheus => None,
        }
    }
}

/// The gates of a rollout: those that are demanded, and those that this route cannot have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates {
    /// Failures of extracted against those of legacy.
    pub errors: Option<ErrorsGate>,
    /// Slow answers likewise.
    pub latency: Option<LatencyGate>,
    /// Mismatches among comparisons.
    pub mismatch: Option<MismatchGate>,
    /// What has been compared.
    pub coverage: Option<CoverageGate>,
    /// Queries that may veto.
    pub prometheus: Vec<Query>,
    /// An objective that holds without legacy.
    pub slo: Option<Slo>,
    /// Gates that this route cannot have, each with the reason in words: not demanded, and said.
    pub not_applicable: BTreeMap<GateName, String>,
}

impl Gates {
    /// Those of a rollout that writes none: failures, by the schedule.
    pub fn by_default() -> Gates {
        Gates { errors: Some(ErrorsGate::default()), ..Gates::default() }
    }

    /// Whether a gate is demanded or said to be not applicable.
    pub fn names(&self, name: GateName) -> bool {
        self.not_applicable.contains_key(&name)
            || match name {
                GateName::Errors => self.errors.is_some(),
                GateName::Latency => self.latency.is_some(),
                GateName::Mismatch => self.mismatch.is_some(),
                GateName::Coverage => self.coverage.is_some(),
                GateName::Prometheus => !self.prometheus.is_empty(),
                GateName::Slo => self.slo.is_some(),
            }
    }

    /// As written in YAML.
    pub fn written(&self) -> Value {
        let mut out = Map::new();
        if let Some(errors) = &self.errors {
            let worse_by = errors.worse_by.map(|points| json!({"worse_by": points.to_string()}));
            out.insert("errors".to_owned(), worse_by.unwrap_or_else(|| json!({})));
        }
        if let Some(latency) = &self.latency {
            out.insert("latency".to_owned(), json!({"more_slow_by": latency.more_slow_by.to_string()}));
        }
        if let Some(mismatch) = &self.mismatch {
            out.insert("mismatch".to_owned(), json!({"at_most": mismatch.at_most.to_string()}));
        }
        if let Some(coverage) = &self.coverage {
            out.insert("coverage".to_owned(), json!({"min_each": coverage.min_each}));
        }
        if !self.prometheus.is_empty() {
            let one = |query: &Query| {
                let mut one = json!({"query": query.query, "no_data": query.no_data.as_str()});
                for (name, limit) in [("max", query.max), ("min", query.min)] {
                    if let (Some(limit), Value::Object(one)) = (limit, &mut one) {
                        one.insert(name.to_owned(), json!(limit));
                    }
                }
                one
            };
            out.insert("prometheus".to_owned(), self.prometheus.iter().map(one).collect());
        }
        if let Some(slo) = &self.slo {
            out.insert("slo".to_owned(), json!({"success": slo.success.to_string()}));
        }
        Value::Object(out)
    }
}

/// How much more often extracted may fail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorsGate {
    /// Percentage points. Default: by the weight, [`Points::by_schedule`].
    pub worse_by: Option<Points>,
}

impl ErrorsGate {
    /// What is tolerated at a weight.
    pub fn margin(&self, weight: Weight) -> Points {
        self.worse_by.unwrap_or(Points::by_schedule(weight))
    }
}

/// How much more often extracted may be slower than legacy's own quantiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyGate {
    /// Relative rise of the part of answers above legacy's frozen p50, p95 and p99. Default: 25 %.
    pub more_slow_by: Weight,
}

impl LatencyGate {
    /// The largest ratio that is tolerated.
    pub fn ratio(&self) -> f64 {
        1.0 + self.more_slow_by.ratio()
    }
}

impl Default for LatencyGate {
    fn default() -> LatencyGate {
        LatencyGate { more_slow_by: Weight::from_basis_points(2_500).unwrap_or_default() }
    }
}

/// How many comparisons may end in a mismatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MismatchGate {
    /// Part of the comparisons. Default: 0.1 %; never none, which nothing could prove.
    pub at_most: Weight,
}

impl Default for MismatchGate {
    fn default() -> MismatchGate {
        MismatchGate { at_most: Weight::from_basis_points(10).unwrap_or_default() }
    }
}

/// What must have been compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoverageGate {
    /// Comparisons of each thing that matters. Default: 20.
    pub min_each: u32,
}

impl Default for CoverageGate {
    fn default() -> CoverageGate {
        CoverageGate { min_each: 20 }
    }
}

/// A query whose answer may veto a promotion.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// In PromQL.
    pub query: String,
    /// The largest value that lets a promotion through.
    pub max: Option<f64>,
    /// The smallest one.
    pub min: Option<f64>,
    /// What no answer means.
    pub no_data: NoData,
    /// The server; `None`: the one that `strangler.yaml` names.
    pub url: Option<WebUrl>,
    /// How often it is asked. Default: 30 s.
    pub every: Duration,
    /// Longest wait for an answer. Default: 10 s.
    pub timeout: Duration,
}

impl Query {
    /// Without limits, and with the defaults.
    pub fn of(query: &str) -> Query {
        Query {
            query: query.to_owned(),
            max: None,
            min: None,
            no_data: NoData::Hold,
            url: None,
            every: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
        }
    }
}

/// What a query means that says nothing: no data, not a number, several series, no server that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoData {
    /// Nothing rises.
    #[default]
    Hold,
    /// It is as if it were within its limits.
    Pass,
}

impl NoData {
    /// As written.
    pub const fn as_str(self) -> &'static str {
        match self {
            NoData::Hold => "hold",
            NoData::Pass => "pass",
        }
    }
}

/// What extracted must keep where there is no legacy to hold it against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// Part of the units that must not fail.
    pub success: Weight,
}

impl Slo {
    /// The part that may fail.
    pub fn budget(&self) -> f64 {
        1.0 - self.success.ratio()
    }
}
