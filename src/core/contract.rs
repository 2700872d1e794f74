//! Two documents, or two answers, that are at hand: what `strangler compare` says of them, and a team's contract tests.
//!
//! The same comparison as that of the two sides, with values as they were: nothing here goes through redaction.
//!
//! ```
//! use strangler_core::contract::{Media, compare_documents};
//! use strangler_core::route::{ComparePolicy, CompareRule, RuleAction};
//!
//! let rules = vec![CompareRule::new("/**/updated_at".parse()?, RuleAction::Ignore)];
//! let policy = ComparePolicy { rules, ..ComparePolicy::default() };
//! let legacy = br#"{"id": 7, "price": 10.0, "updated_at": "yesterday"}"#;
//! let extracted = br#"{"id": 7, "price": 10.5, "updated_at": "today"}"#;
//! let verdict = compare_documents(legacy, extracted, Media::Json, &policy, "2026-11-21".parse()?);
//! assert!(!verdict.equal);
//! let found: Vec<String> = verdict.differences.iter().map(|one| one.to_string()).collect();
//! assert_eq!(found, ["/price: value: 10.0 → 10.5"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod media;
mod said;
mod shown;

pub use media::Media;
pub use said::{Said, SaidError};

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::compare::rules::{Idle, idle};
use crate::compare::{Bodies, BodyView, Comparison, ComparisonResult, Location, NotComparable, compare};
use crate::day::Day;
use crate::difference::Kind;
use crate::observation::{Answer, Observation, Outcome};
use crate::route::{ComparePolicy, HeaderMode, HeaderPolicy};

use shown::Documents;

/// What came of comparing two documents or answers.
///
/// As JSON: `{"equal": …, "differences": […]}`; what else there is to say (`not_comparable`, `differences_total`) only where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether nothing differs that is not forgiven or wanted. What cannot be compared is never equal.
    pub equal: bool,
    /// Why the pair says nothing; `None`: it was compared.
    pub not_comparable: Option<NotComparable>,
    /// By place: the status first, then headers, then the body; at most [`crate::compare::DIFFERENCES_MAX`].
    pub differences: Vec<Finding>,
    /// How many there were, those not kept included.
    pub differences_total: u64,
    /// What is worth a word and no difference.
    pub warnings: Vec<Finding>,
    /// Rules, by their place from 0, that forgave nothing here or have run out.
    pub idle_rules: Vec<(usize, Idle)>,
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Verdict", 4)?;
        out.serialize_field("equal", &self.equal)?;
        if let Some(why) = self.not_comparable {
            out.serialize_field("not_comparable", why.as_str())?;
        }
        out.serialize_field("differences", &self.differences)?;
        if self.differences_total > self.differences.len() as u64 {
            out.serialize_field("differences_total", &self.differences_total)?;
        }
        out.end()
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `status`, `header:<name>`, or a JSON pointer (RFC 6901; `/[id=7]/…` below an array that is paired by a key).
    pub path: String,
    /// How.
    pub kind: Kind,
    /// What the left had, as JSON text; `None`: nothing.
    pub left: Option<String>,
    /// What the right had.
    pub right: Option<String>,
    /// The rule, by its place from 0, that was asked about it and did not take it.
    pub rule: Option<usize>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "(nothing)".to_owned());
        write!(f, "{}: {}: {} → {}", self.path, self.kind, side(&self.left), side(&self.right))
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = |side: &Option<String>| side.clone().and_then(|text| RawValue::from_string(text).ok());
        let mut out = serializer.serialize_struct("Finding", 5)?;
        out.serialize_field("path", &self.path)?;
        out.serialize_field("kind", self.kind.as_str())?;
        out.serialize_field("left", &raw(&self.left))?;
        out.serialize_field("right", &raw(&self.right))?;
        out.serialize_field("rule", &self.rule)?;
        out.end()
    }
}

/// Compares two documents of one type. `today`: rules whose last day has passed are no rules.
///
/// Of the policy the status and the headers say nothing here; bodies larger than `body_bytes_max` are not comparable.
pub fn compare_documents(left: &[u8], right: &[u8], media: Media, policy: &ComparePolicy, today: Day) -> Verdict {
    let said = |body: &[u8]| Said {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media.content_type()))]),
        body: Bytes::copy_from_slice(body),
    };
    // Whatever the policy says of headers: there is but the one of ours, and it is the same on both sides.
    let headers = HeaderPolicy { mode: HeaderMode::Listed, listed: Vec::new(), ..HeaderPolicy::default() };
    let policy = ComparePolicy { headers, ..policy.clone() };
    compare_answers(&said(left), &said(right), &policy, today)
}

/// Compares two answers: status, headers and body.
pub fn compare_answers(left: &Said, right: &Said, policy: &ComparePolicy, today: Day) -> Verdict {
    let [legacy, extracted] = [left, right].map(|said| observed(said, policy.body_bytes_max));
    let view = |said: &Said, seen: &'_ Observation| is_cut(seen).then(|| said.body.slice(..kept(said, policy)));
    let (left_cut, right_cut) = (view(left, &legacy), view(right, &extracted));
    let bodies = Bodies {
        legacy: left_cut.as_deref().map_or(BodyView::Whole(&left.body), BodyView::Beginning),
        extracted: right_cut.as_deref().map_or(BodyView::Whole(&right.body), BodyView::Beginning),
    };
    let comparison = compare(&legacy, &extracted, bodies, policy, today);
    verdict(&comparison, &Documents::new(left, right), policy, today)
}

fn kept(said: &Said, policy: &ComparePolicy) -> usize {
    said.body.len().min(usize::try_from(policy.body_bytes_max).unwrap_or(usize::MAX))
}

fn observed(said: &Said, body_bytes_max: u64) -> Observation {
    let body_bytes = said.body.len() as u64;
    let is_truncated = body_bytes > body_bytes_max;
    let answer = Answer {
        status: said.status,
        headers: said.headers.clone(),
        trailers: None,
        body: said.body.clone(),
        body_bytes,
        is_truncated,
    };
    Observation { outcome: Outcome::Answered(answer), first_byte: Duration::ZERO, total: Duration::ZERO }
}

fn is_cut(seen: &Observation) -> bool {
    matches!(&seen.outcome, Outcome::Answered(answer) if answer.is_truncated)
}

fn verdict(comparison: &Comparison, documents: &Documents<'_>, policy: &ComparePolicy, today: Day) -> Verdict {
    let finding = |one: &crate::compare::Difference| {
        let (left, right) = match &one.path {
            Location::Body(pointer) => documents.at(pointer, one.legacy.as_ref(), one.extracted.as_ref()),
            Location::Status | Location::Header(_) | Location::Trailer(_) => {
                (one.legacy.as_ref().map(shown::text), one.extracted.as_ref().map(shown::text))
            }
        };
        Finding { path: one.path.to_string(), kind: one.kind, left, right, rule: one.rule }
    };
    let not_comparable = match comparison.result {
        ComparisonResult::NotComparable(why) => Some(why),
        ComparisonResult::Match
        | ComparisonResult::BothError
        | ComparisonResult::Expected
        | ComparisonResult::Mismatch
        | ComparisonResult::Failed => None,
    };
    let is_equal =
        matches!(comparison.result, ComparisonResult::Match | ComparisonResult::BothError | ComparisonResult::Expected);
    let hits: Vec<u64> = (0..policy.rules.len()).map(|rule| u64::from(comparison.rules_hit.contains(&rule))).collect();
    Verdict {
        equal: is_equal,
        not_comparable,
        differences: comparison.differences.iter().map(finding).collect(),
        differences_total: comparison.total,
        warnings: comparison.warnings.iter().map(finding).collect(),
        idle_rules: idle(&policy.rules, &hits, today),
    }
}

#[cfg(test)]
mod tests;
