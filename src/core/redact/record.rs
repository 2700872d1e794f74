//! A divergence: the record of a pair that differed, as it is stored, listed and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compare::{self, Comparison};
use crate::observation::{Observation, Outcome};
use crate::redact::{Cause, Circumstances, Redactor};
use crate::route::{ComparePolicy, PointerPattern};

/// A stored, redacted pair that differed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Unlike any other's.
    pub id: String,
    /// Unix milliseconds.
    pub at_unix_ms: u64,
    /// The route's name.
    pub route: String,
    /// `shadow` or `canary`.
    pub phase: String,
    /// `legacy->extracted`: the user was answered by the first, the copy went to the second.
    pub direction: String,
    /// The request's method.
    pub method: String,
    /// The route's path pattern, as written.
    pub template: String,
    /// The request's target, redacted.
    pub target: String,
    /// Names of the parameters whose values are hidden in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<String>,
    /// Those of its headers that decide what is answered, redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<(String, String)>,
    /// Bytes of its body.
    #[serde(default)]
    pub request_bytes: u64,
    /// Keyed hash of the caller's key, 16 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The user's trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Content hash of the routes file in force.
    pub revision: String,
    /// The release of extracted that answered, where it names itself (`release_header`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// `mismatch` or `failed`, as the metric says it.
    pub result: String,
    /// What a second look made of it: `confirmed`, `noise`, `transient` or `unconfirmed`; `None`: it must not be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What legacy answered.
    pub legacy: SideRecord,
    /// What extracted answered.
    pub extracted: SideRecord,
    /// Where and how they differ; the weightiest first.
    pub differences: Vec<Difference>,
    /// How many there were, those not kept included.
    pub differences_total: u64,
    /// What is worth a word beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Difference>,
    /// What the weightiest difference is a case of.
    pub cause: Cause,
}

/// One side's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideRecord {
    /// Its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Bytes of its body on the wire.
    pub bytes: u64,
    /// Keyed hash of that body (what was kept of it), 32 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_hash: Option<String>,
    /// Whether the body was larger than was kept.
    pub is_truncated: bool,
    /// To the answer's head, in milliseconds.
    pub ttfb_ms: f64,
    /// To the answer's last byte, in milliseconds.
    pub total_ms: f64,
}

/// One difference, redacted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `status`, `header:<name>` or a JSON pointer.
    pub path: String,
    /// As the metric says it.
    pub kind: String,
    /// What legacy had: JSON where the place may be kept, else a shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<String>,
    /// What extracted had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extracted: Option<String>,
    /// Of two arrays: elements that only legacy's has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_legacy: Vec<String>,
    /// Elements that only extracted's has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only_extracted: Vec<String>,
    /// The rule (by its place in `rules`, from 0) that was asked and did not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Whether it differs between two answers of legacy, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub noise: bool,
}

impl Redactor {
    /// Makes the record of a pair that differed. `policy`: what of it may be stored as it is.
    pub fn divergence(
        &self,
        about: &Circumstances<'_>,
        comparison: &Comparison,
        legacy: &Observation,
        extracted: &Observation,
        policy: &ComparePolicy,
    ) -> Divergence {
        let keep = &policy.keep_values[..];
        let target = self.target(about.route, about.path_and_query, &policy.keep_target);
        let all = |found: &[compare::Difference]| found.iter().map(|one| self.difference(one, keep)).collect();
        Divergence {
            id: about.id.to_owned(),
            at_unix_ms: about.at_unix_ms,
            route: about.route.name.as_str().to_owned(),
            phase: about.phase.as_str().to_owned(),
            direction: format!("{}->{}", about.answered_by, about.answered_by.other()),
            method: about.method.as_str().to_owned(),
            template: about.route.conditions.path.to_string(),
            target: target.text,
            hidden: target.hidden,
            request_headers: self.request_headers(about.route, about.request_headers),
            request_bytes: about.request_bytes,
            caller: about.caller.map(|caller| format!("{caller:016x}")),
            trace_id: about.trace_id.map(str::to_owned),
            revision: about.revision.as_str().to_owned(),
            release: about.release.map(ToString::to_string),
            result: comparison.result.as_str().to_owned(),
            tag: None,
            legacy: self.side(legacy),
            extracted: self.side(extracted),
            differences: all(&comparison.differences),
            differences_total: comparison.total,
            warnings: all(&comparison.warnings),
            cause: Cause {
                release: about.release.map(ToString::to_string),
                ..Cause::of(about.route.name.as_str(), comparison.differences.first())
            },
        }
    }

    fn difference(&self, one: &compare::Difference, keep: &[PointerPattern]) -> Difference {
        let shown = |shown: &compare::Shown| self.shown(&one.path, shown, keep);
        let unmatched = one.unmatched.as_deref();
        let only = |elements: Option<&Vec<compare::Shown>>| elements.into_iter().flatten().map(shown).collect();
        Difference {
            path: self.path(&one.path),
            kind: one.kind.as_str().to_owned(),
            legacy: one.legacy.as_ref().map(shown),
            extracted: one.extracted.as_ref().map(shown),
            only_legacy: only(unmatched.map(|it| &it.legacy)),
            only_extracted: only(unmatched.map(|it| &it.extracted)),
            rule: one.rule,
            noise: false,
        }
    }

    fn side(&self, seen: &Observation) -> SideRecord {
        let (status, failure, answer) = match &seen.outcome {
            Outcome::Answered(answer) => (Some(answer.status.as_u16()), None, Some(answer)),
            Outcome::Failed(failure @ crate::observation::Failure::Status(status)) => {
                (Some(*status), Some(failure), None)
            }
            Outcome::Failed(failure) => (None, Some(failure), None),
        };
        SideRecord {
            status,
            failure: failure.map(|failure| failure.as_str().to_owned()),
            bytes: answer.map_or(0, |answer| answer.body_bytes),
            body_hash: answer.map(|answer| self.body(&answer.body)),
            is_truncated: answer.is_some_and(|answer| answer.is_truncated),
            ttfb_ms: milliseconds(seen.first_byte),
            total_ms: milliseconds(seen.total),
        }
    }
}

/// Whole microseconds, so that the JSON is short.
fn milliseconds(time: Duration) -> f64 {
    f64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)) / 1_000.0
}
