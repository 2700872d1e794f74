//! One entry of `compare.rules:` as written: a place, and one thing that is done there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::day::Day;
use crate::difference::Kind;
use crate::raw::keys;
use crate::raw::leaf::TEXT_BYTES_MAX;
use crate::raw::walk::{Fields, Reader};
use crate::route::{Amount, ArrayOrder, CompareRule, RuleAction, ValueRule};
use crate::tree::Node;

/// Most pairs of a map of values.
const MAPPED_MAX: usize = 1_000;
/// What a rule may do; each rule does one of it.
const ACTIONS: [&str; 9] =
    ["ignore", "array_order", "array_key", "tolerance", "matches", "compare", "as", "expect", "map"];

pub(in crate::raw) fn rule<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<CompareRule> {
    let fields = reader.fields(node, &keys::COMPARE_RULE)?;
    let path = reader.key(&fields, "path", Reader::pointer);
    let within = reader.key(&fields, "within", |reader, node| reader.duration(node, true));
    // All of them are read, so that all faults are said.
    let actions: Vec<Option<RuleAction>> = ACTIONS
        .into_iter()
        .filter(|name| fields.has(name))
        .map(|name| action(reader, &fields, name, within.as_ref().map(|within| within.value)))
        .collect();
    let until = reader.key(&fields, "until", |reader, node| reader.parsed::<Day>(node, "a day, as in `2026-12-01`"));
    let reason = reader.key(&fields, "reason", |reader, node| reader.short_text(node, "the reason"));
    if let Some(span) = within.as_ref().map(|within| within.span)
        && !fields.has("as")
    {
        reader.fault_with_help(
            span,
            "`within` belongs to `as: timestamp`",
            Some("write `as: timestamp` too".to_owned()),
        );
    }
    if actions.len() != 1 {
        let message = if actions.is_empty() { "this rule forgives nothing" } else { "a rule does one thing" };
        let help = format!("write one of {}", ACTIONS.map(|name| format!("`{name}`")).join(", "));
        reader.fault_with_help(fields.span_or(node), message, Some(help));
        return None;
    }
    let action = actions.into_iter().next().flatten()?;
    Some(CompareRule {
        path: path?.value,
        action,
        until: until.map(|until| until.value),
        reason: reason.map(|reason| reason.value),
    })
}

fn action<'a>(
    reader: &mut Reader<'a>,
    fields: &Fields<'a>,
    name: &'static str,
    within: Option<Duration>,
) -> Option<RuleAction> {
    let read = |reader: &mut Reader<'a>, node: &'a Node| match name {
        "ignore" => {
            let is_on = reader.bool(node)?;
            if !is_on {
                reader.fault(node.span, "a rule that forgives nothing; write `ignore: true`, or take it out");
            }
            is_on.then_some(RuleAction::Ignore)
        }
        "array_order" => array_order(reader, node).map(RuleAction::ArrayOrder),
        "array_key" => reader.short_text(node, "the member that elements are paired by").map(RuleAction::ArrayKey),
        "expect" => {
            let kinds = Kind::ALL.map(|kind| (kind.as_str(), kind));
            reader.one_of(node, kinds.get(..Kind::IN_BODIES)?, &[]).map(RuleAction::Expect)
        }
        _ => value_rule(reader, node, name, within).map(RuleAction::Value),
    };
    reader.key(fields, name, read).map(|action| action.value)
}

fn value_rule<'a>(reader: &mut Reader<'a>, node: &'a Node, name: &str, within: Option<Duration>) -> Option<ValueRule> {
    match name {
        "tolerance" => tolerance(reader, node),
        "matches" => expression(reader, node).map(ValueRule::Matches),
        "compare" => reader.one_of(node, &[("type", ())], &[]).map(|()| ValueRule::Type),
        "as" => {
            let rule = reader.one_of(node, &[("timestamp", true), ("uuid", false)], &[])?;
            if !rule && within.is_some() {
                reader.fault(node.span, "`within` belongs to `as: timestamp`; of UUIDs any two are taken");
                return None;
            }
            Some(if rule { ValueRule::Timestamp(within.unwrap_or_default()) } else { ValueRule::Uuid })
        }
        _ => {
            let pairs = reader.named(node, MAPPED_MAX, |reader, entry| {
                let value = reader.text(&entry.value, "what extracted says instead")?;
                Some((Arc::from(&*entry.key), Arc::from(value)))
            })?;
            Some(ValueRule::Map(pairs.into_iter().collect::<BTreeMap<Arc<str>, Arc<str>>>()))
        }
    }
}

fn tolerance<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<ValueRule> {
    let fields = reader.fields(node, &keys::COMPARE_TOLERANCE)?;
    let abs = reader.key(&fields, "abs", amount);
    let rel = reader.key(&fields, "rel", amount);
    if !fields.has("abs") && !fields.has("rel") {
        reader.fault(fields.span_or(node), "a tolerance of nothing; write `abs`, `rel` or both");
        return None;
    }
    let or_none = |amount: Option<crate::raw::walk::Spanned<Amount>>| amount.map_or(Amount::default(), |it| it.value);
    Some(ValueRule::Tolerance { abs: or_none(abs), rel: or_none(rel) })
}

fn amount<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Amount> {
    let text = reader.text(node, "a number, as in `0.01`")?;
    let amount = Amount::parse(text);
    if amount.is_none() {
        reader.fault(node.span, format!("expected a number that is not negative, as in `0.01`; found `{text}`"));
    }
    amount
}

fn expression<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<regex::Regex> {
    let text = reader.text(node, "an expression, as in `^(PENDING|PAID)$`")?;
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        reader.fault(node.span, format!("an expression has 1 to {TEXT_BYTES_MAX} bytes"));
        return None;
    }
    match regex::RegexBuilder::new(text).size_limit(256 << 10).build() {
        Ok(expression) => Some(expression),
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            reader.fault(node.span, format!("`{text}` is no regular expression: {reason}"));
            None
        }
    }
}

pub(in crate::raw) fn array_order<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<ArrayOrder> {
    reader.one_of(node, &[("strict", ArrayOrder::Strict), ("ignore", ArrayOrder::Ignore)], &[])
}
