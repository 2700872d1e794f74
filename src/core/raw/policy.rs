//! `fallback:`, `breaker:`, `success:`, `locate:` and the changes to headers, as written.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, header};

use crate::limits::{HELD_BYTES_MAX, PER_REQUEST_MAX, RULES_MAX};
use crate::raw::keys;
use crate::raw::leaf::COUNT_MAX;
use crate::raw::walk::{Reader, Spanned};
use crate::route::{
    BreakerPolicy, FallbackPolicy, HeaderEdits, IdempotencyPolicy, Locate, LocateRule, OnKill, StatusSet,
    UnsafeFallback,
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
    breaker_block(reader, node, &keys::BREAKER, BreakerPolicy::default()).map(Short::On)
}

/// The keys of a breaker; what is missing comes from `built_in`.
pub(in crate::raw) fn breaker_block<'a>(
    reader: &mut Reader<'a>,
    node: &'a Node,
    block: &'static keys::Block,
    built_in: BreakerPolicy,
) -> Option<BreakerPolicy> {
    let fields = reader.fields(node, block)?;
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
    Some(BreakerPolicy {
        error_ratio: error_ratio.map_or(built_in.error_ratio, |read| read.value),
        min_requests: min_requests.map_or(built_in.min_requests, |read| read.value),
        window: window.map_or(built_in.window, |read| read.value),
        open_for: open_for.map_or(built_in.open_for, |read| read.value),
    })
}

/// Shortest window of a breaker.
const WINDOW_MIN: Duration = Duration::from_secs(1);

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
