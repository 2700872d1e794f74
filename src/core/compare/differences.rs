//! What is found while comparing, bounded: where, how, and what each side had.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use http::HeaderName;

use crate::compare::pointer::{Pointer, Step};
use crate::compare::rules::{StepRef, forgiving, names_a_position};
use crate::compare::{Comparison, ComparisonResult, NotComparable};
use crate::route::CompareRule;

/// Most differences kept of one pair; all are counted.
pub const DIFFERENCES_MAX: usize = 100;

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
    /// The rule (by index) that has something to say about it.
    pub rule: Option<usize>,
}

/// A place in an answer, in the order of weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// The status, or that there is none. Written `status`.
    Status,
    /// A header. Written `header:<name>`.
    Header(Name),
    /// A place in the body. Written as a JSON pointer; the root is empty.
    Body(Pointer),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Status => f.write_str("status"),
            Location::Header(name) => write!(f, "header:{}", name.0),
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

/// How two answers differ at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two values of one type.
    Value,
    /// Two types.
    Type,
    /// Legacy has it, extracted lacks it.
    Missing,
    /// Extracted has it, legacy lacks it.
    Extra,
    /// The same elements in another order.
    ArrayOrder,
    /// Arrays of different lengths; nothing inside is compared.
    ArrayLength,
    /// Unordered arrays of one length with different elements.
    ArrayContent,
    /// One side is not what its type says.
    Format,
    /// A key is there twice, and not alike on both sides.
    DuplicateKey,
    /// Two statuses.
    Status,
    /// Two values of a header.
    Header,
    /// Two media types or charsets.
    ContentType,
    /// A body was larger than is compared.
    Truncated,
    /// Legacy failed, extracted did not, or not alike.
    LegacyError,
    /// Extracted failed, legacy did not, or not alike.
    ExtractedError,
    /// Extracted gave no answer in time.
    ExtractedTimeout,
    /// 401, 403 or 419 on one side only.
    AuthMismatch,
}

impl Kind {
    /// All of them, in the order above; the labels of a metric.
    pub const ALL: [Kind; 17] = [
        Kind::Value,
        Kind::Type,
        Kind::Missing,
        Kind::Extra,
        Kind::ArrayOrder,
        Kind::ArrayLength,
        Kind::ArrayContent,
        Kind::Format,
        Kind::DuplicateKey,
        Kind::Status,
        Kind::Header,
        Kind::ContentType,
        Kind::Truncated,
        Kind::LegacyError,
        Kind::ExtractedError,
        Kind::ExtractedTimeout,
        Kind::AuthMismatch,
    ];

    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Value => "value",
            Kind::Type => "type",
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::ArrayOrder => "array_order",
            Kind::ArrayLength => "array_length",
            Kind::ArrayContent => "array_content",
            Kind::Format => "format",
            Kind::DuplicateKey => "duplicate_key",
            Kind::Status => "status",
            Kind::Header => "header",
            Kind::ContentType => "content_type",
            Kind::Truncated => "truncated",
            Kind::LegacyError => "legacy_error",
            Kind::ExtractedError => "extracted_error",
            Kind::ExtractedTimeout => "extracted_timeout",
            Kind::AuthMismatch => "auth_mismatch",
        }
    }

    const fn is_failure(self) -> bool {
        matches!(self, Kind::LegacyError | Kind::ExtractedError | Kind::ExtractedTimeout)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
}

/// Everything found in one pair.
pub(crate) struct Differences<'r> {
    rules: &'r [CompareRule],
    has_positions: bool,
    kept: Vec<Difference>,
    total: u64,
    /// In the order of [`Kind::ALL`].
    by_kind: [u64; Kind::ALL.len()],
    forgiven: u64,
    rules_hit: BTreeSet<usize>,
}

impl<'r> Differences<'r> {
    pub(crate) fn new(rules: &'r [CompareRule]) -> Differences<'r> {
        Differences {
            rules,
            has_positions: rules.iter().any(names_a_position),
            kept: Vec::new(),
            total: 0,
            by_kind: [0; Kind::ALL.len()],
            forgiven: 0,
            rules_hit: BTreeSet::new(),
        }
    }

    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Whether nothing is forgiven anywhere.
    pub(crate) const fn is_strict(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule may speak of one position of an array.
    pub(crate) const fn has_positions(&self) -> bool {
        self.has_positions
    }

    /// Whether a difference at `path` would be forgiven.
    pub(crate) fn is_forgiven(&self, path: &[StepRef<'_>]) -> bool {
        forgiving(self.rules, path).is_some()
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
            self.kept.push(Difference { path, kind, legacy, extracted, rule: None });
        }
    }

    /// Notes a difference in the body, unless a rule forgives it. `shown` is asked only when the difference is kept.
    pub(crate) fn push_body(
        &mut self,
        path: &[StepRef<'_>],
        kind: Kind,
        shown: impl FnOnce() -> (Option<Shown>, Option<Shown>),
    ) {
        if let Some(rule) = forgiving(self.rules, path) {
            self.forgiven += 1;
            self.rules_hit.insert(rule);
            return;
        }
        if self.count(kind) {
            let steps = path.iter().map(|step| match step {
                StepRef::Index(index) => Step::Index(*index),
                StepRef::AnyIndex => Step::Key("*".into()),
                StepRef::Key(key) => Step::Key((*key).into()),
            });
            let (legacy, extracted) = shown();
            let path = Location::Body(Pointer(steps.collect()));
            self.kept.push(Difference { path, kind, legacy, extracted, rule: None });
        }
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
        Mark { kept: self.kept.len(), total: self.total, by_kind: self.by_kind, forgiven: self.forgiven }
    }

    /// Forgets what was found since `mark`; rules that were of use stay so.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.kept.truncate(mark.kept);
        self.total = mark.total;
        self.by_kind = mark.by_kind;
        self.forgiven = mark.forgiven;
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
            None if both_failed => ComparisonResult::BothError,
            None => ComparisonResult::Match,
        };
        Comparison {
            result,
            differences: self.kept,
            total: self.total,
            by_kind,
            forgiven: self.forgiven,
            rules_hit: self.rules_hit.into_iter().collect(),
        }
    }
}
