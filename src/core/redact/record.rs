//! A divergence: the record of a pair that differed, as it is stored, listed and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::compare::pointer::Step;
use crate::compare::{self, Comparison, Location};
use crate::observation::{Observation, Outcome};
use crate::redact::{Circumstances, Redactor, names};
use crate::route::PointerPattern;

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
    /// Keyed hash of the caller's key, 16 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The user's trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Content hash of the routes file in force.
    pub revision: String,
    /// `mismatch` or `failed`, as the metric says it.
    pub result: String,
    /// What legacy answered.
    pub legacy: SideRecord,
    /// What extracted answered.
    pub extracted: SideRecord,
    /// Where and how they differ; the weightiest first.
    pub differences: Vec<Difference>,
    /// How many there were, those not kept included.
    pub differences_total: u64,
    /// Alike for divergences of one cause: route, kind and place (positions left out) of the weightiest difference, hashed; 16 hex digits.
    pub signature: String,
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
}

impl Redactor {
    /// Makes the record of a pair that differed. `keep`: places whose values may be stored as they are.
    pub fn divergence(
        &self,
        about: &Circumstances<'_>,
        comparison: &Comparison,
        legacy: &Observation,
        extracted: &Observation,
        keep: &[PointerPattern],
    ) -> Divergence {
        let differences = comparison.differences.iter().map(|difference| {
            let shown =
                |shown: &Option<compare::Shown>| shown.as_ref().map(|shown| self.shown(&difference.path, shown, keep));
            Difference {
                path: self.path(&difference.path),
                kind: difference.kind.as_str().to_owned(),
                legacy: shown(&difference.legacy),
                extracted: shown(&difference.extracted),
            }
        });
        Divergence {
            id: about.id.to_owned(),
            at_unix_ms: about.at_unix_ms,
            route: about.route.name.as_str().to_owned(),
            phase: about.phase.as_str().to_owned(),
            direction: format!("{}->{}", about.answered_by, about.answered_by.other()),
            method: about.method.as_str().to_owned(),
            template: about.route.conditions.path.to_string(),
            target: self.target(about.route, about.path_and_query),
            caller: about.caller.map(|caller| format!("{caller:016x}")),
            trace_id: about.trace_id.map(str::to_owned),
            revision: about.revision.as_str().to_owned(),
            result: comparison.result.as_str().to_owned(),
            legacy: self.side(legacy),
            extracted: self.side(extracted),
            differences: differences.collect(),
            differences_total: comparison.total,
            signature: signature(about.route.name.as_str(), comparison.differences.first()),
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

/// Keys that look like data are left out like positions, so that one cause has one signature.
fn signature(route: &str, difference: Option<&compare::Difference>) -> String {
    let (kind, place) = difference.map_or(("", String::new()), |difference| {
        let place = match &difference.path {
            Location::Body(pointer) => {
                let segments = pointer.0.iter().map(|step| match step {
                    Step::Key(key) if names::is_plain(key) => format!("/{key}"),
                    Step::Key(_) | Step::Index(_) => "/*".to_owned(),
                });
                segments.collect()
            }
            other @ (Location::Status | Location::Header(_)) => other.to_string(),
        };
        (difference.kind.as_str(), place)
    });
    Sha256::digest(format!("{route}\n{kind}\n{place}")).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whole microseconds, so that the JSON is short.
fn milliseconds(time: Duration) -> f64 {
    f64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)) / 1_000.0
}
