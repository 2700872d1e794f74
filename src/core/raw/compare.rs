//! `compare:` as written.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::day::Day;
use crate::limits::{HELD_BYTES_MAX, PER_REQUEST_MAX, RULES_MAX};
use crate::raw::keys;
use crate::raw::leaf::COUNT_MAX;
use crate::raw::looks::RawLooks;
use crate::raw::policy::Short;
use crate::raw::rule;
use crate::raw::walk::{Reader, Spanned};
use crate::route::{
    ArrayOrder, ComparePolicy, CompareRule, HeaderMode, HeaderPolicy, JsonPolicy, KeepHow, Numeric, PointerPattern,
    Presence, StatusMode, StatusPolicy,
};
use crate::tree::{Kind, Node, Span};

/// Most bytes of stored divergences: what the store keeps in all.
const KEPT_BYTES_MAX: u64 = 1 << 30;
/// Most headers of a list.
const HEADERS_MAX: usize = 4 * PER_REQUEST_MAX;

/// `compare:` as written; what is missing comes from `defaults`, then from [`ComparePolicy::default`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RawCompare {
    status: Option<StatusMode>,
    status_map: Option<Vec<(u16, u16)>>,
    header_mode: Option<HeaderMode>,
    headers: Option<Vec<HeaderName>>,
    volatile: Option<Vec<HeaderName>>,
    presence: Option<Presence>,
    body_bytes_max: Option<u64>,
    array_order: Option<ArrayOrder>,
    numeric: Option<Numeric>,
    allows_extra: Option<bool>,
    null_is_absent: Option<bool>,
    strings_as_numbers: Option<bool>,
    rules: Option<Vec<Spanned<CompareRule>>>,
    keep_values: Option<Vec<PointerPattern>>,
    keep_per_signature: Option<u32>,
    keep_age: Option<Duration>,
    keep_target: Option<Vec<Arc<str>>>,
    keep_how: Option<KeepHow>,
    keep_bytes_max: Option<u64>,
    looks: RawLooks,
    settle: Option<Duration>,
}

impl RawCompare {
    /// Filled up.
    pub(crate) fn filled(&self, defaults: Option<&RawCompare>) -> ComparePolicy {
        let none = RawCompare::default();
        let defaults = defaults.unwrap_or(&none);
        let built_in = ComparePolicy::default();
        // What the route says, else what the defaults say, else what is built in.
        macro_rules! pick {
            ($field:ident, $built_in:expr) => {
                self.$field.as_ref().or(defaults.$field.as_ref()).cloned().unwrap_or($built_in)
            };
        }
        ComparePolicy {
            status: StatusPolicy {
                mode: pick!(status, built_in.status.mode),
                map: pick!(status_map, built_in.status.map),
            },
            headers: HeaderPolicy {
                mode: pick!(header_mode, built_in.headers.mode),
                listed: pick!(headers, built_in.headers.listed),
                volatile: pick!(volatile, built_in.headers.volatile),
                presence: pick!(presence, built_in.headers.presence),
            },
            body_bytes_max: pick!(body_bytes_max, built_in.body_bytes_max),
            json: JsonPolicy {
                array_order: pick!(array_order, built_in.json.array_order),
                numeric: pick!(numeric, built_in.json.numeric),
                allows_extra: pick!(allows_extra, built_in.json.allows_extra),
                null_is_absent: pick!(null_is_absent, built_in.json.null_is_absent),
                strings_as_numbers: pick!(strings_as_numbers, built_in.json.strings_as_numbers),
            },
            rules: pick!(rules, Vec::new()).into_iter().map(|rule| rule.value).collect(),
            keep_values: pick!(keep_values, built_in.keep_values),
            keep_per_signature: pick!(keep_per_signature, built_in.keep_per_signature),
            keep_age: pick!(keep_age, built_in.keep_age),
            keep_target: pick!(keep_target, built_in.keep_target),
            keep_how: pick!(keep_how, built_in.keep_how),
            keep_bytes_max: pick!(keep_bytes_max, built_in.keep_bytes_max),
            looks: self.looks.filled(&defaults.looks),
            settle: pick!(settle, built_in.settle),
            verdict: self.looks.verdict(&defaults.looks),
        }
    }
}

impl RawCompare {
    /// Rules written here whose last day has passed: where, which, and that day.
    pub(crate) fn expired(&self, today: Day) -> impl Iterator<Item = (Span, usize, Day)> + '_ {
        let rules = self.rules.iter().flatten().enumerate().filter(move |(_, rule)| rule.value.is_expired(today));
        rules.filter_map(|(index, rule)| Some((rule.span, index, rule.value.until?)))
    }
}

pub(in crate::raw) fn compare<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<RawCompare>> {
    match &node.kind {
        Kind::Bool { value: false, .. } => Some(Short::Off),
        Kind::Bool { value: true, .. } => Some(Short::On(RawCompare::default())),
        Kind::Map(_) => compare_block(reader, node).map(Short::On),
        Kind::Null | Kind::Number(_) | Kind::String(_) | Kind::Seq(_) => {
            reader.fault(node.span, format!("expected `true`, `false` or a map; found {}", node.describe()));
            None
        }
    }
}

pub(in crate::raw) fn compare_block<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RawCompare> {
    let fields = reader.fields(node, &keys::COMPARE)?;
    let mut raw = RawCompare::default();
    let status = reader.key(&fields, "status", |reader, node| {
        reader.one_of(node, &[("exact", StatusMode::Exact), ("class", StatusMode::Class)], &[])
    });
    raw.status = status.map(|status| status.value);
    let map = reader.key(&fields, "status_map", |reader, node| {
        reader.named(node, PER_REQUEST_MAX, |reader, entry| {
            let Some(legacy) = status_of(&entry.key) else {
                reader.fault(entry.key_span, format!("`{}` is no status from 100 to 599", entry.key));
                return None;
            };
            let extracted = reader.count(&entry.value, 100, 599)?;
            Some((legacy, u16::try_from(extracted).ok()?))
        })
    });
    raw.status_map = map.map(|map| map.value);
    reader.key(&fields, "headers", |reader, node| headers(reader, node, &mut raw));
    reader.key(&fields, "body", |reader, node| {
        let fields = reader.fields(node, &keys::COMPARE_BODY)?;
        let most = reader.key(&fields, "max_bytes", |reader, node| reader.size(node, HELD_BYTES_MAX));
        raw.body_bytes_max = most.map(|most| most.value);
        Some(())
    });
    reader.key(&fields, "json", |reader, node| json(reader, node, &mut raw));
    let rules = reader.key(&fields, "rules", |reader, node| reader.list(node, RULES_MAX, rule::rule));
    raw.rules = rules.map(|rules| rules.value);
    reader.key(&fields, "keep", |reader, node| {
        let fields = reader.fields(node, &keys::COMPARE_KEEP)?;
        let values = reader.key(&fields, "values", |reader, node| reader.list(node, RULES_MAX, Reader::pointer));
        raw.keep_values = values.map(|values| values.value.into_iter().map(|value| value.value).collect());
        let count = reader.key(&fields, "per_signature", |reader, node| reader.count_u32(node, 1, COUNT_MAX));
        raw.keep_per_signature = count.map(|count| count.value);
        let age = reader.key(&fields, "max_age", |reader, node| reader.duration(node, false));
        raw.keep_age = age.map(|age| age.value);
        let target = reader.key(&fields, "target", |reader, node| {
            reader.list(node, RULES_MAX, |reader, node| reader.short_text(node, "the name of a parameter"))
        });
        raw.keep_target = target.map(|names| names.value.into_iter().map(|name| name.value).collect());
        let how = reader.key(&fields, "how", |reader, node| {
            reader.one_of(node, &[("reservoir", KeepHow::Reservoir), ("newest", KeepHow::Newest)], &[])
        });
        raw.keep_how = how.map(|how| how.value);
        let most = reader.key(&fields, "max_bytes", |reader, node| reader.size(node, KEPT_BYTES_MAX));
        raw.keep_bytes_max = most.map(|most| most.value);
        Some(())
    });
    raw.looks = RawLooks::read(reader, &fields);
    raw.settle = reader.key(&fields, "settle", |reader, node| reader.duration(node, true)).map(|read| read.value);
    Some(raw)
}

fn headers<'a>(reader: &mut Reader<'a>, node: &'a Node, raw: &mut RawCompare) -> Option<()> {
    let fields = reader.fields(node, &keys::COMPARE_HEADERS)?;
    let mode = reader.key(&fields, "mode", |reader, node| {
        reader.one_of(node, &[("listed", HeaderMode::Listed), ("all", HeaderMode::All)], &[])
    });
    raw.header_mode = mode.map(|mode| mode.value);
    let listed = reader.key(&fields, "listed", names);
    raw.headers = listed.map(|listed| listed.value);
    let volatile = reader.key(&fields, "volatile", |reader, node| match &node.kind {
        Kind::Seq(_) => names(reader, node),
        Kind::Null | Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) | Kind::Map(_) => {
            reader.one_of(node, &[("default", ())], &[]).map(|()| HeaderPolicy::default().volatile)
        }
    });
    raw.volatile = volatile.map(|volatile| volatile.value);
    let presence = reader.key(&fields, "presence", |reader, node| {
        let words = [("warn", Presence::Warn), ("report", Presence::Report), ("ignore", Presence::Ignore)];
        reader.one_of(node, &words, &[])
    });
    raw.presence = presence.map(|presence| presence.value);
    Some(())
}

fn names<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<HeaderName>> {
    let names = reader.list(node, HEADERS_MAX, Reader::header_name)?;
    Some(names.into_iter().map(|name| name.value).collect())
}

fn json<'a>(reader: &mut Reader<'a>, node: &'a Node, raw: &mut RawCompare) -> Option<()> {
    let fields = reader.fields(node, &keys::COMPARE_JSON)?;
    let order = reader.key(&fields, "array_order", rule::array_order);
    raw.array_order = order.map(|order| order.value);
    let numeric = reader.key(&fields, "numeric", |reader, node| {
        reader.one_of(node, &[("value", Numeric::Value), ("typed", Numeric::Typed)], &[])
    });
    raw.numeric = numeric.map(|numeric| numeric.value);
    let extra = reader
        .key(&fields, "extra_fields", |reader, node| reader.one_of(node, &[("report", false), ("allow", true)], &[]));
    raw.allows_extra = extra.map(|extra| extra.value);
    let null = reader.key(&fields, "null_equals_absent", Reader::bool);
    raw.null_is_absent = null.map(|null| null.value);
    let strings = reader
        .key(&fields, "string_number", |reader, node| reader.one_of(node, &[("strict", false), ("equal", true)], &[]));
    raw.strings_as_numbers = strings.map(|strings| strings.value);
    Some(())
}

fn status_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (100..600).contains(status) && text.len() == 3)
}
