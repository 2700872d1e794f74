//! What the judge says: a verdict, its reason, and every number it rests on.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::judge::evidence::Evidence;
use crate::judge::gates::{GateName, Gates};

/// Which formulas made a verdict; rises when one of them changes.
pub const FORMULA_VERSION: u32 = 2;

/// Up, stay, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// All that is demanded is proven.
    Promote,
    /// Something is not proven, or something is in the way.
    Hold,
    /// Harm is proven.
    RollBack,
}

impl Decision {
    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Decision::Promote => "promote",
            Decision::Hold => "hold",
            Decision::RollBack => "roll_back",
        }
    }
}

/// Why. The judge itself says those down to `Starved`; the rest is for the rollout that asks it, so that there is one list. Of several
/// open gates the one whose reason comes first is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Promote: every gate is passed.
    Proven,
    /// Promote: no gate applies to this step.
    NothingDemanded,
    /// Roll back: extracted fails more.
    Errors,
    /// Roll back: extracted is slower.
    Latency,
    /// Roll back: answers differ.
    Mismatch,
    /// Roll back: extracted misses its own objective.
    Slo,
    /// Units were not split as the weight says.
    Srm,
    /// Legacy has become worse since users were moved.
    Contaminated,
    /// Failures have begun to come more often from extracted.
    LateRegression,
    /// A query exceeds its limit.
    ExternalVeto,
    /// A query said nothing.
    ExternalNoData,
    /// Extracted is worse, by less than what is tolerated.
    WithinMargin,
    /// Too little has been compared.
    Coverage,
    /// Not enough is known yet.
    Insufficient,
    /// At this traffic not enough will be known in a week.
    Starved,
    /// Roll back: the hard breaker has tripped.
    HardBreaker,
    /// Outside of the window for raises.
    Window,
    /// Raises are frozen.
    Frozen,
    /// Another route has to come first.
    Needs,
    /// Not long enough at this weight.
    Soak,
    /// A roll back holds until somebody resumes, or another release comes.
    Latched,
    /// A person has to say yes.
    AwaitingApproval,
    /// A hook has not let it pass.
    Hook,
    /// A person holds it.
    Held,
    /// It is killed.
    Killed,
    /// What was known is lost, and nothing rises on less.
    StateLost,
    /// Extracted owns the data: nothing goes back by itself.
    DataOwnedByExtracted,
}

impl Reason {
    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Proven => "proven",
            Reason::NothingDemanded => "nothing_demanded",
            Reason::Errors => "errors",
            Reason::Latency => "latency",
            Reason::Mismatch => "mismatch",
            Reason::Slo => "slo",
            Reason::Srm => "srm",
            Reason::Contaminated => "contaminated",
            Reason::LateRegression => "late_regression",
            Reason::WithinMargin => "within_margin",
            Reason::Coverage => "coverage",
            Reason::Insufficient => "insufficient",
            Reason::Starved => "starved",
            Reason::ExternalVeto => "external_veto",
            Reason::ExternalNoData => "external_no_data",
            Reason::HardBreaker => "hard_breaker",
            Reason::Window => "window",
            Reason::Frozen => "frozen",
            Reason::Needs => "needs",
            Reason::Soak => "soak",
            Reason::Latched => "latched",
            Reason::AwaitingApproval => "awaiting_approval",
            Reason::Hook => "hook",
            Reason::Held => "held",
            Reason::Killed => "killed",
            Reason::StateLost => "state_lost",
            Reason::DataOwnedByExtracted => "data_owned_by_extracted",
        }
    }
}

/// How a gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Neither proven nor disproven.
    Open,
    /// Proven.
    Passed,
    /// Harm is proven.
    Failed,
    /// Not demanded here.
    NotApplicable,
}

impl State {
    /// As written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Passed => "passed",
            State::Failed => "failed",
            State::NotApplicable => "not_applicable",
        }
    }
}

/// How one gate stands, and by which numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateReport {
    /// How it stands.
    pub state: State,
    /// In words: what it waits for, or what decided.
    pub why: String,
    /// Natural logarithm of the evidence of harm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_e_harm: Option<f64>,
    /// Natural logarithm of the evidence that it is harmless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_e_pass: Option<f64>,
    /// Further requests of extracted (comparisons for `mismatch`) until it passes, if extracted is like legacy from now on; absent: it is
    /// not open, or no number would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_requests: Option<u64>,
    /// The same in seconds, at the traffic so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
    /// What else it rests on, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<&'static str, f64>,
    /// What a hold for this gate is called.
    #[serde(skip)]
    pub(in crate::judge) reason: Reason,
}

impl GateReport {
    pub(in crate::judge) fn new(state: State, why: impl Into<String>) -> GateReport {
        GateReport {
            state,
            why: why.into(),
            log_e_harm: None,
            log_e_pass: None,
            needs_requests: None,
            eta_s: None,
            numbers: BTreeMap::new(),
            reason: Reason::Insufficient,
        }
    }

    pub(in crate::judge) fn evidence(mut self, harm: f64, pass: f64) -> GateReport {
        (self.log_e_harm, self.log_e_pass) = (Some(harm), Some(pass));
        self
    }

    pub(in crate::judge) fn because(mut self, reason: Reason) -> GateReport {
        self.reason = reason;
        self
    }

    pub(in crate::judge) fn number(mut self, name: &'static str, value: impl Into<Option<f64>>) -> GateReport {
        if let Some(value) = value.into().filter(|value| value.is_finite()) {
            self.numbers.insert(name, value);
        }
        self
    }
}

/// How the split of units stands; an alarm holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// Natural logarithm of the evidence that the split is not that of the weight: the largest of all steps.
    pub log_e: f64,
    /// The chance of such a split at any moment, if it were.
    pub p: f64,
    /// Whether it is an alarm.
    pub is_alarm: bool,
}

/// The verdict, and what it rests on: a record from which it can be found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Up, stay, or back.
    pub verdict: Decision,
    /// Why.
    pub reason: Reason,
    /// In words.
    pub why: String,
    /// Every gate that is demanded, or said not to be.
    pub gates: BTreeMap<GateName, GateReport>,
    /// Of `assignments`; `None`: none were given.
    pub assignments: Option<SplitReport>,
    /// Of `completions`; `None`: none were given.
    pub completions: Option<SplitReport>,
    /// Which formulas.
    pub formula_version: u32,
    /// The gates it was judged by.
    pub by: Gates,
    /// What it was judged on.
    pub on: Evidence,
}

impl Verdict {
    /// What `strangler judge` takes to find the same verdict.
    pub fn inputs(&self) -> Value {
        let mut inputs = serde_json::to_value(&self.on).unwrap_or_default();
        if let Value::Object(inputs) = &mut inputs {
            inputs.insert("gates".to_owned(), self.by.written());
            if !self.by.not_applicable.is_empty() {
                let not_applicable = serde_json::to_value(&self.by.not_applicable).unwrap_or_default();
                inputs.insert("not_applicable".to_owned(), not_applicable);
            }
        }
        inputs
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut out = serializer.serialize_struct("Verdict", 8)?;
        out.serialize_field("verdict", &self.verdict)?;
        out.serialize_field("reason", &self.reason)?;
        out.serialize_field("why", &self.why)?;
        out.serialize_field("gates", &self.gates)?;
        if let Some(assignments) = &self.assignments {
            out.serialize_field("assignments", assignments)?;
        }
        if let Some(completions) = &self.completions {
            out.serialize_field("completions", completions)?;
        }
        out.serialize_field("formula_version", &self.formula_version)?;
        out.serialize_field("inputs", &self.inputs())?;
        out.end()
    }
}
