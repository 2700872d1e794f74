//! What is found while comparing, bounded: where, how, and what each side had.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use http::HeaderName;

use crate::compare::pointer::Pointer;
use crate::compare::rules::{Rules, StepRef};
use crate::compare::{Comparison, ComparisonResult, NotComparable};
use crate::day::Day;
use crate::difference::Kind;
use crate::route::CompareRule;

/// Most differences kept of one pair; all are counted.
pub const DIFFERENCES_MAX: usize = 100;
/// Most warnings kept of one pair.
pub const WARNINGS_MAX: usize = 20;

/// One difference of one pair. Holds values as they were: never stored or shown before it went through `redact`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: Location,
    /// How.
    pub kind: Kind,
    /// What legacy had; `None`: nothing.
    pub legacy: Option<Shown>,
    /// What extracted had; `None`: nothing.
    pub extracted: Option<Shown>,
    /// The rule (by index) that was asked about it and did not take it.
    pub rule: Option<usize>,
    /// Of two arrays: what each has that the other has not, whatever its place.
    pub unmatched: Option<Box<Unmatched>>,
}

/// Elements that only one of two arrays has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// Only legacy's; at most [`Unmatched::MAX`] of them.
    pub legacy: Vec<Shown>,
    /// Only extracted's; likewise.
    pub extracted: Vec<Shown>,
}

impl Unmatched {
    /// Most elements shown of each side.
    pub const MAX: usize = 8;
}

/// A place in an answer, in the order of weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// The status, or that there is none. Written `status`.
    Status,
    /// A header. Written `header:<name>`.
    Header(Name),
    /// A trailer. Written `trailer:<name>`.
    Trailer(Name),
    /// A place in the body. Written as a JSON pointer; the root is empty.
    Body(Pointer),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Status => f.write_str("status"),
            Location::Header(name) => write!(f, "header:{}", name.0),
            Location::Trailer(name) => write!(f, "trailer:{}", name.0),
            Location::Body(pointer) => pointer.fmt(f),
        }
    }
}

/// A header's name, ordered as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub HeaderName);

impl Ord for Name {
    fn cmp(&self, other: &Name) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What one side had at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// A string.
    String(String),
    /// An array.
    Array {
        /// Its length.
        items: usize,
        /// SHA-256 of its canonical form: equal arrays have equal ones, however they were written.
        digest: [u8; 32],
    },
    /// An object.
    Object {
        /// How many members.
        members: usize,
        /// As for an array.
        digest: [u8; 32],
    },
    /// A whole body that is no JSON, or the kept beginning of one.
    Bytes {
        /// Bytes of the whole, as far as is known.
        bytes: u64,
        /// SHA-256 of what is there of it.
        digest: [u8; 32],
    },
    /// A status.
    Status(u16),
    /// A header's values, comma-joined.
    Header(Bytes),
    /// No answer, and why.
    Failure(&'static str),
}

/// Where the walk stood when something was found, to be taken back to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    kept: usize,
    total: u64,
    by_kind: [u64; Kind::ALL.len()],
    forgiven: u64,
    expected: u64,
}

/// Everything found in one pair.
pub(crate) struct Differences<'r> {
    pub(crate) rules: Rules<'r>,
    kept: Vec<Difference>,
    total: u64,
    /// In the order of [`Kind::ALL`].
    by_kind: [u64; Kind::ALL.len()],
    forgiven: u64,
    expected: u64,
    warnings: Vec<Difference>,
    rules_hit: BTreeSet<usize>,
}

impl<'r> Differences<'r> {
    pub(crate) fn new(rules: &'r [CompareRule], today: Day) -> Differences<'r> {
        Differences {
            rules: Rules::new(rules, today),
            kept: Vec::new(),
            total: 0,
            by_kind: [0; Kind::ALL.len()],
            forgiven: 0,
            expected: 0,
            warnings: Vec::new(),
            rules_hit: BTreeSet::new(),
        }
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn has_kind(&self, kind: Kind) -> bool {
        self.count_of(kind) > 0
    }

    fn count_of(&self, kind: Kind) -> u64 {
        self.by_kind.get(kind as usize).copied().unwrap_or_default()
    }

    /// Notes a difference outside the body.
    pub(crate) fn push(&mut self, path: Location, kind: Kind, legacy: Option<Shown>, extracted: Option<Shown>) {
        if self.count(kind) {
            self.kept.push(Difference { path, kind, legacy, extracted, rule: None, unmatched: None });
        }
    }

    /// Notes what is shown beside differences and is none.
    pub(crate) fn warn(&mut self, path: Location, kind: Kind, legacy: Option<Shown>, extracted: Option<Shown>) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(Difference { path, kind, legacy, extracted, rule: None, unmatched: None });
        }
    }

    /// Notes a difference in the body, unless a rule forgives or wants it. `shown` is asked only when the difference is kept.
    pub(crate) fn push_body(
        &mut self,
        path: &[StepRef<'_>],
        kind: Kind,
        asked: Option<usize>,
        shown: impl FnOnce() -> (Option<Shown>, Option<Shown>, Option<Box<Unmatched>>),
    ) {
        if let Some(rule) = self.rules.ignoring(path) {
            return self.forgive(rule);
        }
        if let Some(rule) = self.rules.expecting(path, kind) {
            self.expected += 1;
            self.rules_hit.insert(rule);
            return;
        }
        if self.count(kind) {
            let (legacy, extracted, unmatched) = shown();
            let path = Location::Body(Pointer(path.iter().map(|step| step.to_step()).collect()));
            self.kept.push(Difference { path, kind, legacy, extracted, rule: asked, unmatched });
        }
    }

    /// Notes that a rule took a difference for none.
    pub(crate) fn forgive(&mut self, rule: usize) {
        self.forgiven += 1;
        self.rules_hit.insert(rule);
    }

    /// Notes that a rule was of use without a difference.
    pub(crate) fn used(&mut self, rule: usize) {
        self.rules_hit.insert(rule);
    }

    /// Counts one; whether there is room to keep it.
    fn count(&mut self, kind: Kind) -> bool {
        self.total += 1;
        if let Some(count) = self.by_kind.get_mut(kind as usize) {
            *count += 1;
        }
        self.kept.len() < DIFFERENCES_MAX
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            kept: self.kept.len(),
            total: self.total,
            by_kind: self.by_kind,
            forgiven: self.forgiven,
            expected: self.expected,
        }
    }

    /// Forgets what was found since `mark`; rules that were of use stay so.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.kept.truncate(mark.kept);
        self.total = mark.total;
        self.by_kind = mark.by_kind;
        self.forgiven = mark.forgiven;
        self.expected = mark.expected;
    }

    /// The rules that were of use so far; to be put back after a mere trial.
    pub(crate) fn rules_hit(&mut self) -> &mut BTreeSet<usize> {
        &mut self.rules_hit
    }

    pub(crate) fn finish(mut self, unknown: Option<NotComparable>, both_failed: bool) -> Comparison {
        self.kept.sort_by(|a, b| a.path.cmp(&b.path).then(a.kind.cmp(&b.kind)));
        // A body that was cut off is said to be so, but proves a difference only where nothing is unknown.
        let cut = if unknown.is_some() { self.count_of(Kind::Truncated) } else { 0 };
        let by_kind: Vec<(Kind, u64)> =
            Kind::ALL.into_iter().zip(self.by_kind).filter(|(_, count)| *count > 0).collect();
        let result = match unknown {
            _ if by_kind.iter().any(|(kind, _)| kind.is_failure()) => ComparisonResult::Failed,
            _ if self.total > cut => ComparisonResult::Mismatch,
            Some(reason) => ComparisonResult::NotComparable(reason),
            None if self.expected > 0 => ComparisonResult::Expected,
            None if both_failed => ComparisonResult::BothError,
            None => ComparisonResult::Match,
        };
        Comparison {
            result,
            differences: self.kept,
            total: self.total,
            by_kind,
            forgiven: self.forgiven,
            expected: self.expected,
            warnings: self.warnings,
            rules_hit: self.rules_hit.into_iter().collect(),
        }
    }
}
