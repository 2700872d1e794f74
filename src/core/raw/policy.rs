//! `fallback:`, `shadow:`, `success:`, `locate:` and the changes to headers, as written.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, header};

use crate::limits::{HELD_BYTES_MAX, PER_REQUEST_MAX, RULES_MAX};
use crate::raw::keys;
use crate::raw::leaf::COUNT_MAX;
use crate::raw::walk::{Reader, Spanned};
use crate::route::{
    BreakerPolicy, FallbackPolicy, HeaderEdits, IdempotencyPolicy, Locate, LocateRule, OnKill, PointerSegment,
    ShadowPolicy, StatusSet, UnsafeFallback,
};
use crate::side::Side;
use crate::tree::{Kind, Node, Span};
use crate::weight::Weight;

/// A block that may also be switched on or off in a word.
#[derive(Clone, Debug)]
pub(crate) enum Short<T> {
    /// Not at all.
    Off,
    /// With these keys.
    On(T),
}

/// `fallback:` as written; what is missing comes from `defaults`, then from [`FallbackPolicy::default`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RawFallback {
    when: Option<[bool; 4]>,
    unsafe_requests: Option<UnsafeFallback>,
    max_body: Option<u64>,
}

impl RawFallback {
    /// Filled up.
    pub(crate) fn filled(&self, defaults: Option<&RawFallback>) -> FallbackPolicy {
        let built_in = FallbackPolicy::default();
        let [on_connect_failure, on_timeout, on_5xx, on_breaker_open] = self
            .when
            .or(defaults.and_then(|d| d.when))
            .unwrap_or([built_in.on_connect_failure, built_in.on_timeout, built_in.on_5xx, built_in.on_breaker_open]);
        FallbackPolicy {
            on_connect_failure,
            on_timeout,
            on_5xx,
            on_breaker_open,
            unsafe_requests: self
                .unsafe_requests
                .or(defaults.and_then(|d| d.unsafe_requests))
                .unwrap_or(built_in.unsafe_requests),
            max_body: self.max_body.or(defaults.and_then(|d| d.max_body)).unwrap_or(built_in.max_body),
        }
    }
}

pub(in crate::raw) fn fallback<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<RawFallback>> {
    if matches!(node.kind, Kind::Map(_)) {
        return fallback_block(reader, node).map(Short::On);
    }
    let is_on = reader.one_of(node, &[("unsent", true), ("never", false)], &[])?;
    let unsent = RawFallback { unsafe_requests: Some(UnsafeFallback::Unsent), ..RawFallback::default() };
    Some(if is_on { Short::On(unsent) } else { Short::Off })
}

pub(in crate::raw) fn fallback_block<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RawFallback> {
    let fields = reader.fields(node, &keys::FALLBACK)?;
    let words = [("connect_failure", 0usize), ("timeout", 1), ("5xx", 2), ("breaker_open", 3)];
    let when = reader
        .key(&fields, "when", |reader, node| reader.list(node, 8, |reader, item| reader.one_of(item, &words, &[])));
    let unsafe_requests = reader.key(&fields, "unsafe", |reader, node| {
        let words = [("unsent", UnsafeFallback::Unsent), ("never", UnsafeFallback::Never)];
        reader.one_of(node, &words, &[])
    });
    let max_body = reader.key(&fields, "max_body", |reader, node| reader.size(node, HELD_BYTES_MAX));
    Some(RawFallback {
        when: when.map(|list| [0, 1, 2, 3].map(|index| list.value.iter().any(|item| item.value == index))),
        unsafe_requests: unsafe_requests.map(|read| read.value),
        max_body: max_body.map(|read| read.value),
    })
}

/// `breaker:` as written, filled up.
pub(in crate::raw) fn breaker<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<BreakerPolicy>> {
    if !matches!(node.kind, Kind::Map(_)) {
        return reader.one_of(node, &[("never", ())], &[]).map(|()| Short::Off);
    }
    let fields = reader.fields(node, &keys::BREAKER)?;
    let built_in = BreakerPolicy::default();
    let error_ratio = reader.key(&fields, "error_ratio", |reader, node| {
        let ratio = reader.weight(node)?;
        if ratio == Weight::NONE {
            reader.fault(node.span, "`0%` would open it without a failure; write `never` to switch it off");
            return None;
        }
        Some(ratio)
    });
    let min_requests = reader
        .key(&fields, "min_requests", |reader, node| reader.count_u32(node, 1, COUNT_MAX).and_then(NonZeroU32::new));
    let window = reader.key(&fields, "window", |reader, node| {
        let window = reader.duration(node, false)?;
        if window < WINDOW_MIN {
            reader.fault(node.span, "a window is at least `1s`");
            return None;
        }
        Some(window)
    });
    let open_for = reader.key(&fields, "open_for", |reader, node| reader.duration(node, false));
    Some(Short::On(BreakerPolicy {
        error_ratio: error_ratio.map_or(built_in.error_ratio, |read| read.value),
        min_requests: min_requests.map_or(built_in.min_requests, |read| read.value),
        window: window.map_or(built_in.window, |read| read.value),
        open_for: open_for.map_or(built_in.open_for, |read| read.value),
    }))
}

/// Shortest window of a breaker.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// `shadow:` as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawShadow {
    sample: Option<Weight>,
    methods: Option<Vec<Method>>,
    max_in_flight: Option<u32>,
    max_rps: Option<u32>,
    timeout: Option<Duration>,
    max_request_body: Option<u64>,
    never: Option<Vec<Arc<str>>>,
}

impl RawShadow {
    /// Filled up.
    pub(crate) fn filled(&self, defaults: Option<&RawShadow>) -> ShadowPolicy {
        let none = RawShadow::default();
        let defaults = defaults.unwrap_or(&none);
        let built_in = ShadowPolicy::default();
        ShadowPolicy {
            sample: self.sample.or(defaults.sample).unwrap_or(built_in.sample),
            methods: self.methods.clone().or_else(|| defaults.methods.clone()).unwrap_or(built_in.methods),
            max_in_flight: self.max_in_flight.or(defaults.max_in_flight).unwrap_or(built_in.max_in_flight),
            max_rps: self.max_rps.or(defaults.max_rps).unwrap_or(built_in.max_rps),
            timeout: self.timeout.or(defaults.timeout).unwrap_or(built_in.timeout),
            max_request_body: self.max_request_body.or(defaults.max_request_body).unwrap_or(built_in.max_request_body),
            never: self.never.clone().or_else(|| defaults.never.clone()).unwrap_or(built_in.never),
        }
    }
}

pub(in crate::raw) fn shadow<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<RawShadow>> {
    match &node.kind {
        Kind::Bool { value: false, .. } => Some(Short::Off),
        Kind::Bool { value: true, .. } => Some(Short::On(RawShadow::default())),
        Kind::Map(_) => shadow_block(reader, node).map(Short::On),
        Kind::String(text) if text.ends_with('%') => {
            let sample = reader.weight(node)?;
            Some(Short::On(RawShadow { sample: Some(sample), ..RawShadow::default() }))
        }
        Kind::Null | Kind::Number(_) | Kind::String(_) | Kind::Seq(_) => {
            let message = format!("expected `true`, `false`, a part as in `25%`, or a map; found {}", node.describe());
            reader.fault(node.span, message);
            None
        }
    }
}

pub(in crate::raw) fn shadow_block<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RawShadow> {
    let fields = reader.fields(node, &keys::SHADOW)?;
    let sample = reader.key(&fields, "sample", Reader::weight);
    let methods = reader.key(&fields, "methods", |reader, node| {
        let words = [("GET", 0usize), ("HEAD", 1), ("OPTIONS", 2)];
        let list = reader.list(node, words.len(), |reader, item| reader.one_of(item, &words, &[]))?;
        let has = |index: &usize| list.iter().any(|item| item.value == *index);
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS];
        Some(safe.into_iter().enumerate().filter(|(index, _)| has(index)).map(|(_, method)| method).collect())
    });
    let max_in_flight = reader.key(&fields, "max_in_flight", |reader, node| reader.count_u32(node, 1, 10_000));
    let max_rps = reader.key(&fields, "max_rps", |reader, node| reader.count_u32(node, 1, 1_000_000));
    let timeout = reader.key(&fields, "timeout", |reader, node| reader.duration(node, false));
    let max_request_body = reader.key(&fields, "max_request_body", |reader, node| reader.size(node, HELD_BYTES_MAX));
    let never = reader.key(&fields, "never", |reader, node| {
        let list = reader.list(node, RULES_MAX, never_path)?;
        Some(list.into_iter().map(|item| item.value).collect())
    });
    Some(RawShadow {
        sample: sample.map(|read| read.value),
        methods: methods.map(|read| read.value),
        max_in_flight: max_in_flight.map(|read| read.value),
        max_rps: max_rps.map(|read| read.value),
        timeout: timeout.map(|read| read.value),
        max_request_body: max_request_body.map(|read| read.value),
        never: never.map(|read| read.value),
    })
}

/// `/logout`, `/auth/**`: whole segments, in the spelling that is matched.
fn never_path<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Arc<str>> {
    let text = reader.short_text(node, "a path, as in `/auth/**`")?;
    let pattern = reader.pointer(node)?;
    let is_partial = |segment: &PointerSegment| matches!(segment, PointerSegment::Literal(text) if text.contains('*'));
    if pattern.segments.iter().any(is_partial) {
        reader.fault(node.span, format!("`{text}`: `*` and `**` stand for whole segments"));
        return None;
    }
    let many = pattern.segments.iter().position(|segment| *segment == PointerSegment::Many);
    if many.is_some_and(|at| at + 1 != pattern.segments.len()) {
        reader.fault(node.span, format!("`{text}`: `**` takes the rest of the path and must be last"));
        return None;
    }
    match crate::template::normal_path(&text) {
        Ok(path) => Some(Arc::from(path)),
        Err(error) => {
            reader.fault(node.span, format!("`{text}`: {error}"));
            None
        }
    }
}

/// Headers that are the proxy's own business: those of one connection, those that frame a message, and ours.
fn is_ours(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 9] = [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::HOST,
        header::CONTENT_LENGTH,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ];
    let text = name.as_str();
    FRAMING.contains(name)
        || matches!(text, "keep-alive" | "proxy-connection" | "http2-settings")
        || text.starts_with("strangler-")
        || text.starts_with("x-strangler-")
}

fn refuse_ours(reader: &mut Reader<'_>, span: Span, name: &HeaderName) -> bool {
    let is_ours = is_ours(name);
    if is_ours {
        let help = (*name == header::HOST).then(|| "an upstream has `host:` for this".to_owned());
        reader.fault_with_help(span, format!("`{name}` is not to be changed"), help);
    }
    is_ours
}

pub(in crate::raw) fn header_edits<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<HeaderEdits> {
    let fields = reader.fields(node, &keys::HEADER_EDITS)?;
    let mut edits = HeaderEdits::default();
    let remove = reader.key(&fields, "remove", |reader, node| {
        reader.list(node, PER_REQUEST_MAX, |reader, item| {
            let name = reader.header_name(item)?;
            (!refuse_ours(reader, item.span, &name)).then_some(name)
        })
    });
    edits.remove.extend(remove.into_iter().flat_map(|list| list.value).map(|name| name.value));
    let set = reader.key(&fields, "set", |reader, node| {
        reader.named(node, PER_REQUEST_MAX, |reader, entry| {
            let name = HeaderName::try_from(&*entry.key).ok();
            match &name {
                None => reader.fault(entry.key_span, format!("{:?} is no name of a header", entry.key)),
                Some(name) if refuse_ours(reader, entry.key_span, name) => return None,
                Some(_) => {}
            }
            let value = reader.header_value(&entry.value)?;
            Some((entry.key_span, name?, value))
        })
    });
    for (span, name, value) in set.into_iter().flat_map(|list| list.value) {
        if edits.set.iter().any(|(known, _)| *known == name) {
            reader.fault(span, format!("`{name}` is set twice; headers know no case"));
        } else {
            edits.set.push((name, value));
        }
    }
    Some(edits)
}

pub(in crate::raw) fn override_header<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<HeaderName> {
    let fields = reader.fields(node, &keys::OVERRIDE)?;
    let name = reader.key(&fields, "header", Reader::header_name)?;
    let text = name.value.as_str();
    let is_framing = is_ours(&name.value) && !text.starts_with("strangler-") && !text.starts_with("x-strangler-");
    if is_framing || matches!(name.value, header::COOKIE | header::AUTHORIZATION) {
        reader.fault(name.span, format!("`{text}` says something else already"));
        return None;
    }
    Some(name.value)
}

/// Whether forms keep their side.
pub(in crate::raw) fn affinity<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Spanned<bool>> {
    let fields = reader.fields(node, &keys::AFFINITY)?;
    reader.key(&fields, "form", Reader::bool)
}

pub(in crate::raw) fn idempotency<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<IdempotencyPolicy> {
    let fields = reader.fields(node, &keys::IDEMPOTENCY)?;
    let header = reader.key(&fields, "header", |reader, node| {
        let name = reader.header_name(node)?;
        if is_ours(&name) || matches!(name, header::COOKIE | header::AUTHORIZATION) {
            reader.fault(node.span, format!("`{name}` says something else already"));
            return None;
        }
        Some(name)
    });
    let on_kill = reader.key(&fields, "on_kill", |reader, node| {
        reader.one_of(node, &[("refuse", OnKill::Refuse), ("reexecute", OnKill::Reexecute)], &[])
    });
    Some(IdempotencyPolicy {
        header: header.map_or(HeaderName::from_static("idempotency-key"), |read| read.value),
        on_kill: on_kill.map(|read| read.value).unwrap_or_default(),
    })
}

pub(in crate::raw) fn success<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<StatusSet> {
    let fields = reader.fields(node, &keys::SUCCESS)?;
    let list = reader.key(&fields, "status", |reader, node| reader.list(node, 500, status))?;
    // What is written is added: the key says what is no failure *beyond* the default.
    let mut set = StatusSet::default();
    for item in list.value {
        match item.value {
            Status::Class(class) => set.classes.insert(class),
            Status::Single(status) => set.statuses.insert(status),
        };
    }
    Some(set)
}

enum Status {
    Class(u8),
    Single(u16),
}

fn status<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Status> {
    let text = reader.text(node, "a status, as in `404` or `2xx`")?;
    let class =
        text.strip_suffix("xx").and_then(|digit| digit.parse::<u8>().ok()).filter(|class| (1..=5).contains(class));
    let single = text.parse::<u16>().ok().filter(|status| text.len() == 3 && (100..=599).contains(status));
    let status = class.filter(|_| text.len() == 3).map(Status::Class).or(single.map(Status::Single));
    if status.is_none() {
        reader.fault(node.span, format!("`{text}` is no status: 100 to 599, or `1xx` to `5xx`"));
    }
    status
}

/// What decides the side, and where its parameter is named.
pub(in crate::raw) fn locate<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Spanned<Locate>> {
    let fields = reader.fields(node, &keys::LOCATE)?;
    let sides = [("legacy", Side::Legacy), ("extracted", Side::Extracted)];
    let param = reader.key(&fields, "param", |reader, node| reader.short_text(node, "a parameter"));
    let rules = reader.key(&fields, "rules", |reader, node| {
        let list = reader.list(node, RULES_MAX, |reader, item| {
            let fields = reader.fields(item, &keys::LOCATE_RULE)?;
            let min = reader.key(&fields, "min", |reader, node| reader.count(node, 0, u64::MAX));
            let max = reader.key(&fields, "max", |reader, node| reader.count(node, 0, u64::MAX));
            let to = reader.key(&fields, "to", |reader, node| reader.one_of(node, &sides, &[]));
            let (min, max) = (min.map_or(0, |min| min.value), max.map_or(u64::MAX, |max| max.value));
            if min > max {
                reader.fault(fields.span, format!("`min` ({min}) is more than `max` ({max})"));
                return None;
            }
            Some(LocateRule { min, max, to: to?.value })
        })?;
        Some(list.into_iter().map(|rule| rule.value).collect::<Vec<_>>())
    });
    let otherwise = reader.key(&fields, "else", |reader, node| reader.one_of(node, &sides, &[]));
    let (param, rules, otherwise) = (param?, rules?, otherwise?);
    let locate = Locate { param: param.value, rules: rules.value, otherwise: otherwise.value };
    Some(Spanned { value: locate, span: param.span })
}
