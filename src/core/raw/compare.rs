//! `compare:` as written.

use std::time::Duration;

use http::HeaderName;

use crate::limits::{HELD_BYTES_MAX, PER_REQUEST_MAX, RULES_MAX};
use crate::raw::keys;
use crate::raw::leaf::COUNT_MAX;
use crate::raw::policy::Short;
use crate::raw::walk::Reader;
use crate::route::{ComparePolicy, CompareRule, PointerPattern, RuleAction};
use crate::tree::{Kind, Node};

/// `compare:` as written; what is missing comes from `defaults`, then from [`ComparePolicy::default`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RawCompare {
    headers: Option<Vec<HeaderName>>,
    body_bytes_max: Option<u64>,
    rules: Option<Vec<CompareRule>>,
    keep_values: Option<Vec<PointerPattern>>,
    keep_per_signature: Option<u32>,
    keep_age: Option<Duration>,
}

impl RawCompare {
    /// Filled up.
    pub(crate) fn filled(&self, defaults: Option<&RawCompare>) -> ComparePolicy {
        let none = RawCompare::default();
        let defaults = defaults.unwrap_or(&none);
        let built_in = ComparePolicy::default();
        ComparePolicy {
            headers: self.headers.clone().or_else(|| defaults.headers.clone()).unwrap_or(built_in.headers),
            body_bytes_max: self.body_bytes_max.or(defaults.body_bytes_max).unwrap_or(built_in.body_bytes_max),
            rules: self.rules.clone().or_else(|| defaults.rules.clone()).unwrap_or(built_in.rules),
            keep_values: self
                .keep_values
                .clone()
                .or_else(|| defaults.keep_values.clone())
                .unwrap_or(built_in.keep_values),
            keep_per_signature: self
                .keep_per_signature
                .or(defaults.keep_per_signature)
                .unwrap_or(built_in.keep_per_signature),
            keep_age: self.keep_age.or(defaults.keep_age).unwrap_or(built_in.keep_age),
        }
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
    reader.key(&fields, "headers", |reader, node| {
        let fields = reader.fields(node, &keys::COMPARE_HEADERS)?;
        let listed = reader
            .key(&fields, "listed", |reader, node| reader.list(node, 4 * PER_REQUEST_MAX, Reader::header_name))?;
        raw.headers = Some(listed.value.into_iter().map(|name| name.value).collect());
        Some(())
    });
    reader.key(&fields, "body", |reader, node| {
        let fields = reader.fields(node, &keys::COMPARE_BODY)?;
        let most = reader.key(&fields, "max_bytes", |reader, node| reader.size(node, HELD_BYTES_MAX));
        raw.body_bytes_max = most.map(|most| most.value);
        Some(())
    });
    reader.key(&fields, "json", |reader, node| reader.fields(node, &keys::COMPARE_JSON).map(|_| ()));
    let rules = reader.key(&fields, "rules", |reader, node| reader.list(node, RULES_MAX, rule));
    raw.rules = rules.map(|rules| rules.value.into_iter().map(|rule| rule.value).collect());
    reader.key(&fields, "keep", |reader, node| {
        let fields = reader.fields(node, &keys::COMPARE_KEEP)?;
        let values = reader.key(&fields, "values", |reader, node| reader.list(node, RULES_MAX, Reader::pointer));
        raw.keep_values = values.map(|values| values.value.into_iter().map(|value| value.value).collect());
        let count = reader.key(&fields, "per_signature", |reader, node| reader.count_u32(node, 1, COUNT_MAX));
        raw.keep_per_signature = count.map(|count| count.value);
        let age = reader.key(&fields, "max_age", |reader, node| reader.duration(node, false));
        raw.keep_age = age.map(|age| age.value);
        Some(())
    });
    Some(raw)
}

fn rule<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<CompareRule> {
    let fields = reader.fields(node, &keys::COMPARE_RULE)?;
    let path = reader.key(&fields, "path", Reader::pointer);
    let ignore = reader.key(&fields, "ignore", Reader::bool);
    match &ignore {
        Some(ignore) if !ignore.value => {
            reader.fault(ignore.span, "a rule that forgives nothing; write `ignore: true`, or take it out");
            return None;
        }
        None if !fields.has("ignore") => {
            let help = "write `ignore: true`".to_owned();
            reader.fault_with_help(fields.span_or(node), "this rule forgives nothing", Some(help));
            return None;
        }
        _ => {}
    }
    Some(CompareRule { path: path?.value, action: RuleAction::Ignore })
}
