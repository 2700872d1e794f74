//! Compares the two answers to one request: every difference, each with its place and its kind.
//!
//! Pure, and before any redaction: equal means equal in the values themselves. What cannot be compared is said to be so, with
//! the reason; it is never "equal". The parts: [`status`](status), [`headers`](headers), and bodies by their type
//! ([`body`](body) chooses): what has the shape of JSON goes through [`json`](json), what is marked up through [`markup`](markup),
//! anything else is bytes. What is forgiven is decided in one place ([`rules`]).

mod arrays;
mod body;
mod differences;
mod events;
mod forms;
mod grpc;
mod headers;
mod html;
mod json;
mod markup;
mod matching;
pub mod pointer;
pub mod rules;
mod spelling;
mod status;
mod texts;
pub(crate) mod timestamp;
pub(crate) mod values;
mod xml;

pub use crate::difference::Kind;
pub use body::{BodyView, Unreadable, is_same_wire};
pub use differences::{DIFFERENCES_MAX, Difference, Location, Shown, Unmatched, WARNINGS_MAX};

use crate::day::Day;
use crate::observation::{Answer, Failure, Observation, Outcome};
use crate::route::ComparePolicy;

use differences::Differences;
use status::StatusFinding;

/// The bodies of both sides as the shell could read them: decoded, bounded.
#[derive(Clone, Copy, Debug)]
pub struct Bodies<'a> {
    /// Of legacy's answer.
    pub legacy: BodyView<'a>,
    /// Of extracted's answer.
    pub extracted: BodyView<'a>,
}

/// What came of comparing one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The result in a word.
    pub result: ComparisonResult,
    /// At most [`DIFFERENCES_MAX`], by place: the status first, then headers, then the body.
    pub differences: Vec<Difference>,
    /// How many there were, those not kept included.
    pub total: u64,
    /// The same by kind; kinds without any are left out.
    pub by_kind: Vec<(Kind, u64)>,
    /// Differences that a rule forgave.
    pub forgiven: u64,
    /// Differences that a rule wants.
    pub expected: u64,
    /// What is worth a word and no difference; at most [`WARNINGS_MAX`].
    pub warnings: Vec<Difference>,
    /// Rules (by index) that were of use in this pair, ascending.
    pub rules_hit: Vec<usize>,
}

impl Comparison {
    /// One that ended before anything was looked at.
    pub fn not_comparable(reason: NotComparable) -> Comparison {
        Comparison {
            result: ComparisonResult::NotComparable(reason),
            differences: Vec::new(),
            total: 0,
            by_kind: Vec::new(),
            forgiven: 0,
            expected: 0,
            warnings: Vec::new(),
            rules_hit: Vec::new(),
        }
    }
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonResult {
    /// Nothing differs that is not forgiven.
    Match,
    /// Both sides failed, and alike: a match that says little.
    BothError,
    /// Nothing differs but what a rule wants to.
    Expected,
    /// Something differs.
    Mismatch,
    /// One side failed, or each in its own way. No green: a gate on mismatches must count those that extracted is charged with
    /// ([`Kind::ExtractedError`], [`Kind::ExtractedTimeout`]).
    Failed,
    /// The pair says nothing about the two sides.
    NotComparable(NotComparable),
}

impl ComparisonResult {
    /// As the metric's label says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ComparisonResult::Match | ComparisonResult::BothError => "match",
            ComparisonResult::Expected => "expected",
            ComparisonResult::Mismatch => "mismatch",
            ComparisonResult::Failed => "failed",
            ComparisonResult::NotComparable(_) => "not_comparable",
        }
    }
}

/// Why a pair says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotComparable {
    /// The user's request was conditional (304, 412) and the copy was not.
    Conditional,
    /// The user asked for a part (206, 416) and the copy did not.
    Range,
    /// A body was larger than is compared, and what was kept of it proves nothing.
    Truncated,
    /// A body could not be decoded, or is nested or filled beyond what is read.
    Unreadable,
    /// To find out which elements of two arrays belong together is too much work.
    TooComplex,
    /// The user was answered by extracted, and legacy does not see what extracted writes.
    BaselineStale,
    /// The caller has just written, and copies of data lag behind.
    Settling,
    /// One side was not asked: its upstream was full.
    NotAsked,
    /// The comparison itself failed.
    Internal,
}

impl NotComparable {
    /// As written in logs and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            NotComparable::Conditional => "conditional_request",
            NotComparable::Range => "range_request",
            NotComparable::Truncated => "truncated",
            NotComparable::Unreadable => "unreadable",
            NotComparable::TooComplex => "too_complex",
            NotComparable::BaselineStale => "baseline_stale",
            NotComparable::Settling => "settling",
            NotComparable::NotAsked => "not_asked",
            NotComparable::Internal => "internal",
        }
    }
}

/// Compares the two answers to one request. `today`: rules whose last day has passed are no rules.
pub fn compare(
    legacy: &Observation,
    extracted: &Observation,
    bodies: Bodies<'_>,
    policy: &ComparePolicy,
    today: Day,
) -> Comparison {
    let mut found = Differences::new(&policy.rules, today);
    let unknown = match (&legacy.outcome, &extracted.outcome) {
        (Outcome::Answered(legacy), Outcome::Answered(extracted)) => {
            compare_answers(legacy, extracted, bodies, policy, &mut found)
        }
        (legacy, extracted) => compare_failures(legacy, extracted, policy, &mut found),
    };
    let both_failed = is_failure(&legacy.outcome) && is_failure(&extracted.outcome);
    found.finish(unknown, both_failed)
}

fn compare_answers(
    legacy: &Answer,
    extracted: &Answer,
    bodies: Bodies<'_>,
    policy: &ComparePolicy,
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    match status::compare(legacy.status.as_u16(), extracted.status.as_u16(), &policy.status, found) {
        StatusFinding::GoOn => {}
        // What else differs follows from it and would bury it.
        StatusFinding::Enough => return None,
        StatusFinding::NotComparable(reason) => return Some(reason),
    }
    headers::compare(&legacy.headers, &extracted.headers, &policy.headers, found);
    grpc::compare_trailers(legacy, extracted, found);
    body::compare((legacy, bodies.legacy), (extracted, bodies.extracted), policy.json, found)
}

/// At least one side gave no answer.
fn compare_failures(
    legacy: &Outcome,
    extracted: &Outcome,
    policy: &ComparePolicy,
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    let [legacy, extracted] = [legacy, extracted].map(Ending::of);
    if [legacy, extracted].iter().any(|ending| matches!(ending, Ending::Failed(Failure::Full | Failure::BreakerOpen))) {
        return Some(NotComparable::NotAsked);
    }
    if let (Ending::Status(legacy), Ending::Status(extracted)) = (legacy, extracted) {
        // One of them is known by its status alone; its headers and body are gone.
        return match status::compare(legacy, extracted, &policy.status, found) {
            StatusFinding::NotComparable(reason) => Some(reason),
            StatusFinding::GoOn if legacy < 500 => Some(NotComparable::Truncated),
            StatusFinding::GoOn | StatusFinding::Enough => None,
        };
    }
    if legacy == extracted {
        return None;
    }
    let mut kinds = Vec::with_capacity(2);
    if let Ending::Failed(_) = legacy {
        kinds.push(Kind::LegacyError);
    }
    match extracted {
        Ending::Failed(Failure::Timeout | Failure::ConnectTimeout) => kinds.push(Kind::ExtractedTimeout),
        Ending::Failed(_) => kinds.push(Kind::ExtractedError),
        Ending::Status(_) => {}
    }
    for kind in kinds {
        found.push(Location::Status, kind, Some(legacy.shown()), Some(extracted.shown()));
    }
    None
}

/// How a side's answer ended, without the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Status(u16),
    Failed(Failure),
}

impl Ending {
    const fn of(outcome: &Outcome) -> Ending {
        match outcome {
            Outcome::Answered(answer) => Ending::Status(answer.status.as_u16()),
            Outcome::Failed(Failure::Status(status)) => Ending::Status(*status),
            Outcome::Failed(failure) => Ending::Failed(*failure),
        }
    }

    fn shown(self) -> Shown {
        match self {
            Ending::Status(status) => Shown::Status(status),
            Ending::Failed(failure) => Shown::Failure(failure.as_str()),
        }
    }
}

fn is_failure(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered(answer) => answer.status.is_server_error(),
        Outcome::Failed(_) => true,
    }
}

#[cfg(test)]
mod tests;
