//! `shadow:` as written.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::limits::{HELD_BYTES_MAX, RULES_MAX};
use crate::raw::keys;
use crate::raw::leaf::Target;
use crate::raw::policy::{Short, breaker_block};
use crate::raw::walk::{Reader, Spanned};
use crate::route::{BreakerPolicy, PointerSegment, ReadTemplate, SafePost, ShadowPolicy, UnsafeShadow};
use crate::tree::{Kind, Node};
use crate::weight::Weight;

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
    safe_posts: Option<Vec<SafePost>>,
    unsafe_requests: Option<Spanned<UnsafeShadow>>,
    upstream: Option<Spanned<Target>>,
    breaker: Option<Short<BreakerPolicy>>,
}

impl RawShadow {
    /// The upstream written here.
    pub(crate) const fn upstream(&self) -> Option<&Spanned<Target>> {
        self.upstream.as_ref()
    }

    /// What is written here about requests with side effects.
    pub(crate) const fn unsafe_requests(&self) -> Option<&Spanned<UnsafeShadow>> {
        self.unsafe_requests.as_ref()
    }

    /// Filled up, but for the upstream: what it stands for is known elsewhere.
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
            safe_posts: self.safe_posts.clone().or_else(|| defaults.safe_posts.clone()).unwrap_or_default(),
            unsafe_requests: self
                .unsafe_requests
                .as_ref()
                .or(defaults.unsafe_requests.as_ref())
                .map_or(built_in.unsafe_requests, |read| read.value.clone()),
            upstream: None,
            breaker: match self.breaker.as_ref().or(defaults.breaker.as_ref()) {
                None => built_in.breaker,
                Some(Short::Off) => None,
                Some(Short::On(policy)) => Some(*policy),
            },
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
    let safe_posts = reader.key(&fields, "safe_posts", |reader, node| {
        let list = reader.list(node, RULES_MAX, safe_post)?;
        Some(list.into_iter().map(|item| item.value).collect())
    });
    let unsafe_requests = reader.key(&fields, "unsafe", unsafe_requests);
    let upstream = reader.key(&fields, "upstream", Reader::target);
    let breaker = reader.key(&fields, "breaker", |reader, node| match &node.kind {
        Kind::Map(_) => {
            breaker_block(reader, node, &keys::SHADOW_BREAKER, ShadowPolicy::default_breaker()).map(Short::On)
        }
        Kind::Null | Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) | Kind::Seq(_) => {
            reader.one_of(node, &[("never", ())], &[]).map(|()| Short::Off)
        }
    });
    Some(RawShadow {
        sample: sample.map(|read| read.value),
        methods: methods.map(|read| read.value),
        max_in_flight: max_in_flight.map(|read| read.value),
        max_rps: max_rps.map(|read| read.value),
        timeout: timeout.map(|read| read.value),
        max_request_body: max_request_body.map(|read| read.value),
        never: never.map(|read| read.value),
        safe_posts: safe_posts.map(|read| read.value),
        unsafe_requests,
        upstream,
        breaker: breaker.map(|read| read.value),
    })
}

/// `{path: /search}`, `{path: /graphql, graphql: query}`.
fn safe_post<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<SafePost> {
    let fields = reader.fields(node, &keys::SAFE_POST)?;
    let path = reader.key(&fields, "path", never_path);
    let graphql = reader.key(&fields, "graphql", |reader, node| reader.one_of(node, &[("query", true)], &[]));
    Some(SafePost { path: path?.value, graphql: graphql.is_some() })
}

/// `refuse`, `sandbox`, `dry_run`, or `{verify_read: {get: …}}`.
fn unsafe_requests<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<UnsafeShadow> {
    if !matches!(node.kind, Kind::Map(_)) {
        if node.text() == Some("verify_read") {
            let help = "as in `{verify_read: {get: \"/orders/{json:/order_no}\"}}`".to_owned();
            reader.fault_with_help(node.span, "`verify_read` needs to know what to read", Some(help));
            return None;
        }
        let words = [("refuse", 0usize), ("sandbox", 1), ("dry_run", 2)];
        return Some(match reader.one_of(node, &words, &[])? {
            0 => UnsafeShadow::Refuse,
            1 => UnsafeShadow::Sandbox,
            _ => UnsafeShadow::DryRun,
        });
    }
    let fields = reader.fields(node, &keys::UNSAFE)?;
    let read = reader.key(&fields, "verify_read", |reader, node| {
        let fields = reader.fields(node, &keys::VERIFY_READ)?;
        reader.key(&fields, "get", |reader, node| {
            let text = reader.short_text(node, "a path, as in `/orders/{json:/order_no}`")?;
            match text.parse::<ReadTemplate>() {
                Ok(template) => Some(template),
                Err(error) => {
                    reader.fault(node.span, format!("`{text}`: {error}"));
                    None
                }
            }
        })
    });
    Some(UnsafeShadow::VerifyRead(read?.value.value))
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
