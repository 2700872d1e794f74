//! An entry of `routes:` as written.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::limits::BODY_BYTES_MAX;
use crate::name::{JourneyName, RouteName};
use crate::rate_limit::RateLimit;
use crate::raw::compare::{RawCompare, compare};
use crate::raw::conditions::{conditions, cookie_name};
use crate::raw::keys;
use crate::raw::leaf::Target;
use crate::raw::policy::{
    RawFallback, Short, affinity, breaker, fallback, header_edits, idempotency, locate, override_header, success,
};
use crate::raw::rewrite::{rate_limit, rewrite, upgrades};
use crate::raw::rollout::{RawRollout, rollout};
use crate::raw::shadow::{RawShadow, shadow};
use crate::raw::walk::{Reader, Spanned};
use crate::rewrite::Rewrite;
use crate::route::{BreakerPolicy, Conditions, Data, HeaderEdits, IdempotencyPolicy, KeySource, Locate, StatusSet};
use crate::tree::{Kind, Node, Span};
use crate::weight::Weight;

/// An entry of `routes:`.
#[derive(Debug)]
pub(crate) struct RawRoute {
    /// Its place in the list.
    pub(crate) index: usize,
    /// Where it begins.
    pub(crate) span: Span,
    pub(crate) name: Option<Spanned<RouteName>>,
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) journey: Option<Spanned<JourneyName>>,
    pub(crate) conditions: Option<Spanned<Conditions>>,
    /// Which of [`MATCH_KEYS`](crate::raw::conditions::MATCH_KEYS) were written.
    pub(crate) match_keys: [bool; 5],
    pub(crate) extracted: Option<Spanned<Target>>,
    pub(crate) rewrite: Option<Spanned<Rewrite>>,
    pub(crate) upgrades: Vec<Arc<str>>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) data: Option<Data>,
    pub(crate) weight: Option<Spanned<Weight>>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) override_header: Option<HeaderName>,
    pub(crate) request_headers: HeaderEdits,
    pub(crate) response_headers: HeaderEdits,
    pub(crate) fallback: Option<Short<RawFallback>>,
    pub(crate) breaker: Option<Short<BreakerPolicy>>,
    pub(crate) success: StatusSet,
    pub(crate) max_body: Option<u64>,
    pub(crate) shadow: Option<Short<RawShadow>>,
    pub(crate) compare: Option<Spanned<Short<RawCompare>>>,
    pub(crate) locate: Option<Spanned<Locate>>,
    /// Whether forms keep their side.
    pub(crate) form: Option<Spanned<bool>>,
    pub(crate) idempotency: Option<IdempotencyPolicy>,
    pub(crate) rollout: Option<Spanned<RawRollout>>,
    pub(crate) release_header: Option<Spanned<HeaderName>>,
}

pub(in crate::raw) fn route<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RawRoute> {
    let fields = reader.fields(node, &keys::ROUTE)?;
    let conditions = reader.key(&fields, "match", conditions);
    let match_keys = conditions.as_ref().map_or([false; 5], |read| read.value.1);
    let extracted = reader.key(&fields, "extracted", extracted).map(|read| {
        let (target, rewrite) = read.value;
        (Spanned { value: target, span: read.span }, rewrite)
    });
    let rewrite = extracted.as_ref().and_then(|read| read.1.clone());
    let header_edits_of = |reader: &mut Reader<'a>, key| {
        reader.key(&fields, key, header_edits).map(|read| read.value).unwrap_or_default()
    };
    Some(RawRoute {
        index: reader.index(),
        span: fields.span,
        name: reader.key(&fields, "name", |reader, node| reader.parsed(node, "a name")),
        owner: reader.key(&fields, "owner", |reader, node| reader.short_text(node, "an owner")).map(|read| read.value),
        journey: reader.key(&fields, "journey", |reader, node| reader.parsed(node, "the name of a journey")),
        conditions: conditions.map(|read| Spanned { value: read.value.0, span: read.span }),
        match_keys,
        extracted: extracted.map(|read| read.0),
        rewrite,
        upgrades: reader.key(&fields, "upgrade", upgrades).map(|read| read.value).unwrap_or_default(),
        rate_limit: reader.key(&fields, "rate_limit", rate_limit).map(|read| read.value),
        data: reader.key(&fields, "data", data).map(|read| read.value),
        weight: reader.key(&fields, "weight", Reader::weight),
        deadline: reader.key(&fields, "deadline", |reader, node| reader.duration(node, true)).map(|read| read.value),
        override_header: reader.key(&fields, "override", override_header).map(|read| read.value),
        request_headers: header_edits_of(reader, "request_headers"),
        response_headers: header_edits_of(reader, "response_headers"),
        fallback: reader.key(&fields, "fallback", fallback).map(|read| read.value),
        breaker: reader.key(&fields, "breaker", breaker).map(|read| read.value),
        success: reader.key(&fields, "success", success).map(|read| read.value).unwrap_or_default(),
        max_body: reader
            .key(&fields, "max_body", |reader, node| reader.size(node, BODY_BYTES_MAX))
            .map(|read| read.value),
        shadow: reader.key(&fields, "shadow", shadow).map(|read| read.value),
        compare: reader.key(&fields, "compare", compare),
        locate: reader.key(&fields, "locate", locate).map(|read| read.value),
        form: reader.key(&fields, "affinity", affinity).map(|read| read.value),
        idempotency: reader.key(&fields, "idempotency", idempotency).map(|read| read.value),
        rollout: reader.key(&fields, "rollout", rollout),
        release_header: reader.key(&fields, "release_header", Reader::header_name),
    })
}

fn extracted<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<(Target, Option<Spanned<Rewrite>>)> {
    if !matches!(node.kind, Kind::Map(_)) {
        return reader.target(node).map(|target| (target, None));
    }
    let fields = reader.fields(node, &keys::EXTRACTED)?;
    let rewrite = reader.key(&fields, "rewrite", rewrite);
    reader.key(&fields, "upstream", Reader::target).map(|read| (read.value, rewrite))
}

fn data<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Data> {
    let all = [Data::Legacy, Data::Shared, Data::Synced, Data::Extracted];
    reader.one_of(node, &all.map(|data| (data.as_str(), data)), &[])
}

/// `header:x-user-id`, `cookie:SHOPSID`.
pub(in crate::raw) fn key_source<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<KeySource> {
    let text = reader.text(node, "`header:NAME` or `cookie:NAME`")?;
    let source = match text.split_once(':') {
        Some(("header", name)) => HeaderName::try_from(name).ok().map(KeySource::Header),
        Some(("cookie", name)) => cookie_name(name).map(KeySource::Cookie),
        _ => None,
    };
    if source.is_none() {
        let help = "as in `header:x-user-id` or `cookie:SHOPSID`".to_owned();
        reader.fault_with_help(node.span, format!("`{text}` names no place for a key"), Some(help));
    }
    source
}
