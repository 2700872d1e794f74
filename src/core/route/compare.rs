//! How a route's two answers are compared, and what is forgiven.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::day::Day;
use crate::difference::Kind;
use crate::route::looks::{LookPolicy, VerdictPolicy};

/// How the two answers are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparePolicy {
    /// Which statuses count as the same. Default: only the same one.
    pub status: StatusPolicy,
    /// Which headers are compared, and how strictly.
    pub headers: HeaderPolicy,
    /// Largest body compared by content, in bytes, before and after decoding; a larger one is compared by hash and said to be truncated. Default: 1 MiB.
    pub body_bytes_max: u64,
    /// What is equal in JSON bodies.
    pub json: JsonPolicy,
    /// What is forgiven, in order; of each sort, the first rule whose path matches decides.
    pub rules: Vec<CompareRule>,
    /// Pointers (whole-segment patterns) whose values may be stored as they are; every other value is stored as type, length and keyed hash.
    pub keep_values: Vec<PointerPattern>,
    /// Parameters of the path and of the query whose values may be stored as they are; `*`: all of them.
    pub keep_target: Vec<Arc<str>>,
    /// Stored divergences per route and signature. Default: 20.
    pub keep_per_signature: u32,
    /// Age at which a stored divergence goes. Default: 24 h.
    pub keep_age: Duration,
    /// Which stay when there are more. Default: a reservoir.
    pub keep_how: KeepHow,
    /// Bytes of stored divergences of the route; the oldest go. Default: 1 GiB.
    pub keep_bytes_max: u64,
    /// How legacy's own noise is learned, and what is asked again when answers differ.
    pub looks: LookPolicy,
    /// How long nothing is said of a caller's answers after a write of theirs: copies of data lag behind. Default: 3 s.
    pub settle: Duration,
    /// When evidence suffices.
    pub verdict: VerdictPolicy,
}

impl ComparePolicy {
    /// A mark that two policies share where [`ComparePolicy::measures_as`] holds, for counts that outlive the process. Another version of
    /// the program may mark otherwise: what it has counted begins anew, which is safe.
    pub fn measure_mark(&self) -> u64 {
        let measured = (&self.status, &self.headers, self.body_bytes_max, &self.json, &self.rules, &self.verdict);
        xxhash_rust::xxh3::xxh3_64(format!("{measured:?}").as_bytes())
    }

    /// Whether what was counted by the one may be added to what the other counts.
    pub fn measures_as(&self, other: &ComparePolicy) -> bool {
        self.status == other.status
            && self.headers == other.headers
            && self.body_bytes_max == other.body_bytes_max
            && self.json == other.json
            && self.rules == other.rules
            && self.verdict == other.verdict
    }
}

/// Which records of one cause are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepHow {
    /// Some of now and some of before, fewer the longer ago.
    #[default]
    Reservoir,
    /// The newest.
    Newest,
}

impl Default for ComparePolicy {
    fn default() -> ComparePolicy {
        ComparePolicy {
            status: StatusPolicy::default(),
            headers: HeaderPolicy::default(),
            body_bytes_max: 1 << 20,
            json: JsonPolicy::default(),
            rules: Vec::new(),
            keep_values: Vec::new(),
            keep_target: Vec::new(),
            keep_per_signature: 20,
            keep_age: Duration::from_hours(24),
            keep_how: KeepHow::default(),
            keep_bytes_max: 1 << 30,
            looks: LookPolicy::default(),
            settle: Duration::from_secs(3),
            verdict: VerdictPolicy::default(),
        }
    }
}

/// Which statuses count as the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPolicy {
    /// How closely they must agree. Default: exactly.
    pub mode: StatusMode,
    /// Statuses of legacy that extracted says otherwise: `(201, 200)`. Default: none.
    pub map: Vec<(u16, u16)>,
}

/// How closely two statuses must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusMode {
    /// To the last digit.
    #[default]
    Exact,
    /// In their first digit.
    Class,
}

/// Which headers are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPolicy {
    /// Only the listed ones, or all but the volatile ones. Default: the listed ones.
    pub mode: HeaderMode,
    /// Names, lower-case. Default: content-type, location, cache-control, vary, www-authenticate, allow, retry-after, link.
    pub listed: Vec<HeaderName>,
    /// Headers whose values differ by nature: only whether they are there is looked at. Default: [`HeaderPolicy::VOLATILE`].
    pub volatile: Vec<HeaderName>,
    /// What a volatile header on one side only counts for. Default: a warning.
    pub presence: Presence,
}

impl HeaderPolicy {
    /// Headers compared unless others are written.
    pub const LISTED: [&str; 8] =
        ["content-type", "location", "cache-control", "vary", "www-authenticate", "allow", "retry-after", "link"];

    /// Headers that differ from answer to answer, or from server to server, and mean nothing by it. Names are whole: what only
    /// looks alike is compared.
    pub const VOLATILE: [&str; 30] = [
        "age",
        "alt-svc",
        "content-encoding",
        "date",
        "etag",
        "expires",
        "last-modified",
        "nel",
        "report-to",
        "reporting-endpoints",
        "request-id",
        "server",
        "server-timing",
        "traceparent",
        "traceresponse",
        "tracestate",
        "via",
        "x-amz-cf-id",
        "x-amz-request-id",
        "x-amzn-requestid",
        "x-amzn-trace-id",
        "x-b3-spanid",
        "x-b3-traceid",
        "x-cache",
        "x-correlation-id",
        "x-powered-by",
        "x-request-id",
        "x-response-time",
        "x-runtime",
        "x-trace-id",
    ];
}

impl Default for HeaderPolicy {
    fn default() -> HeaderPolicy {
        HeaderPolicy {
            mode: HeaderMode::default(),
            listed: HeaderPolicy::LISTED.into_iter().map(HeaderName::from_static).collect(),
            volatile: HeaderPolicy::VOLATILE.into_iter().map(HeaderName::from_static).collect(),
            presence: Presence::default(),
        }
    }
}

/// Which headers are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMode {
    /// The listed ones.
    #[default]
    Listed,
    /// All, but those that frame a message on its connection.
    All,
}

/// What a volatile header on one side only counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Shown beside differences, never one by itself.
    #[default]
    Warn,
    /// A difference.
    Report,
    /// Nothing.
    Ignore,
}

/// What is equal in JSON bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonPolicy {
    /// Whether order is part of an array, where no rule says otherwise. Default: it is.
    pub array_order: ArrayOrder,
    /// When two numbers are equal. Default: when their values are.
    pub numeric: Numeric,
    /// Whether members that only extracted has are allowed. Default: they are differences.
    pub allows_extra: bool,
    /// Whether a member that is `null` equals one that is not there. Default: it does not.
    pub null_is_absent: bool,
    /// Whether `"1"` equals `1`. Default: it does not.
    pub strings_as_numbers: bool,
}

/// Whether order is part of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArrayOrder {
    /// It is.
    #[default]
    Strict,
    /// Elements are paired wherever they stand; each counts once.
    Ignore,
}

/// When two numbers are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numeric {
    /// `1` equals `1.0`: by decimal value.
    #[default]
    Value,
    /// `1` and `1.0` are of two types.
    Typed,
}

/// One thing forgiven at one place.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareRule {
    /// Where.
    pub path: PointerPattern,
    /// What.
    pub action: RuleAction,
    /// The last day on which the rule holds. Default: no end.
    pub until: Option<Day>,
    /// Why it is there; shown, never acted on.
    pub reason: Option<Arc<str>>,
}

impl CompareRule {
    /// One without an end and a reason.
    pub const fn new(path: PointerPattern, action: RuleAction) -> CompareRule {
        CompareRule { path, action, until: None, reason: None }
    }

    /// Whether its last day has passed.
    pub fn is_expired(&self, today: Day) -> bool {
        self.until.is_some_and(|until| until < today)
    }
}

/// What a rule does. Rules of one sort compete, and the first whose path matches decides; those of different sorts do not.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleAction {
    /// The whole subtree is left out.
    Ignore,
    /// Whether order counts in this array and in all below it.
    ArrayOrder(ArrayOrder),
    /// Elements of this array are paired by this member.
    ArrayKey(Arc<str>),
    /// Two values that differ may yet be taken for the same.
    Value(ValueRule),
    /// A difference of this kind at this place is wanted.
    Expect(Kind),
}

/// When two values that differ are the same all the same.
#[derive(Clone, Debug)]
pub enum ValueRule {
    /// Numbers at most this far apart: in value, or as a part of the larger one.
    Tolerance {
        /// In value. Default: 0.
        abs: Amount,
        /// As a part of the larger one. Default: 0.
        rel: Amount,
    },
    /// Both match the expression.
    Matches(regex::Regex),
    /// Both are of one type.
    Type,
    /// Both are moments at most this far apart.
    Timestamp(Duration),
    /// Both are UUIDs.
    Uuid,
    /// Legacy's value is a key here, and extracted's what stands under it.
    Map(BTreeMap<Arc<str>, Arc<str>>),
}

impl PartialEq for ValueRule {
    fn eq(&self, other: &ValueRule) -> bool {
        match (self, other) {
            (ValueRule::Tolerance { abs, rel }, ValueRule::Tolerance { abs: other_abs, rel: other_rel }) => {
                abs == other_abs && rel == other_rel
            }
            (ValueRule::Matches(a), ValueRule::Matches(b)) => a.as_str() == b.as_str(),
            (ValueRule::Timestamp(a), ValueRule::Timestamp(b)) => a == b,
            (ValueRule::Map(a), ValueRule::Map(b)) => a == b,
            (ValueRule::Type, ValueRule::Type) | (ValueRule::Uuid, ValueRule::Uuid) => true,
            _ => false,
        }
    }
}

/// A decimal number that is not negative, exactly as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// All digits as one number.
    pub digits: u64,
    /// How many of them stand behind the point.
    pub scale: u8,
}

impl Amount {
    /// Of `0.01`: at most 18 digits, no sign, no exponent.
    pub fn parse(text: &str) -> Option<Amount> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_written_well = !whole.is_empty() && !text.ends_with('.') && whole.len() + fraction.len() <= 18;
        if !is_written_well || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Amount { digits, scale: u8::try_from(fraction.len()).ok()? })
    }
}

/// A JSON pointer (RFC 6901) in which `*` stands for one segment and `**` for any number; whole segments, anchored at both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointerPattern {
    /// Unescaped segments.
    pub segments: Vec<PointerSegment>,
}

impl PointerPattern {
    /// Longest pattern, in bytes.
    pub const BYTES_MAX: usize = 1_024;
}

/// Why a text is no [`PointerPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// Longer than [`PointerPattern::BYTES_MAX`].
    #[error("a pointer has at most 1,024 bytes")]
    TooLong,
    /// It does not begin at the root.
    #[error("a pointer begins with `/`")]
    NoRoot,
    /// A `~` that escapes nothing.
    #[error("`~` is followed by `0` (a `~`) or `1` (a `/`)")]
    Escape,
}

impl FromStr for PointerPattern {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<PointerPattern, PointerError> {
        if text.len() > PointerPattern::BYTES_MAX {
            return Err(PointerError::TooLong);
        }
        if text.is_empty() {
            return Ok(PointerPattern { segments: Vec::new() });
        }
        let body = text.strip_prefix('/').ok_or(PointerError::NoRoot)?;
        let segments = body.split('/').map(|segment| match segment {
            "*" => Ok(PointerSegment::One),
            "**" => Ok(PointerSegment::Many),
            _ => unescape(segment).map(|text| PointerSegment::Literal(Arc::from(text))),
        });
        segments.collect::<Result<Vec<_>, _>>().map(|segments| PointerPattern { segments })
    }
}

fn unescape(segment: &str) -> Result<String, PointerError> {
    let mut out = String::with_capacity(segment.len());
    let mut chars = segment.chars();
    while let Some(letter) = chars.next() {
        if letter != '~' {
            out.push(letter);
            continue;
        }
        out.push(match chars.next() {
            Some('0') => '~',
            Some('1') => '/',
            _ => return Err(PointerError::Escape),
        });
    }
    Ok(out)
}

/// One segment of a [`PointerPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointerSegment {
    /// This key or index.
    Literal(Arc<str>),
    /// `*`: any one.
    One,
    /// `**`: any number, none included.
    Many,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_what_was_written() {
        assert_eq!(Amount::parse("0.010"), Some(Amount { digits: 10, scale: 3 }));
        assert_eq!(Amount::parse("5"), Some(Amount { digits: 5, scale: 0 }));
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000000000000000001", "1_0"] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_lower_case_and_sorted() {
        let names = HeaderPolicy::default();
        assert_eq!(names.volatile.len(), HeaderPolicy::VOLATILE.len());
        assert!(HeaderPolicy::VOLATILE.is_sorted());
    }
}
