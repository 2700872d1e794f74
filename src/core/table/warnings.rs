//! What is not wrong and probably not meant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fault::{Fault, Faults};
use crate::matching::Precedence;
use crate::raw::{RawConfig, Short};
use crate::route::{Conditions, HostPattern, Route, UnsafeShadow, Upstream};
use crate::side::Side;
use crate::table::build::Places;
use crate::table::upstreams::Upstreams;
use crate::template::{PathPattern, Segment};
use crate::tree::Span;

/// All warnings about a file that is taken.
pub(super) fn say(
    raw: &RawConfig,
    routes: &[Arc<Route>],
    legacy: &Arc<Upstream>,
    upstreams: &Upstreams,
    places: &Places,
    faults: &mut Faults,
) {
    for (name, span) in upstreams.unused() {
        faults.push(Fault::warning(span, format!("upstreams.{name}"), format!("nothing uses the upstream `{name}`")));
    }
    let used: BTreeSet<_> = routes.iter().filter_map(|route| route.journey.as_ref()).collect();
    for (name, span) in places.journeys.iter().filter(|(name, _)| !used.contains(name)) {
        faults.push(Fault::warning(*span, format!("journeys.{name}"), format!("no route is on the journey `{name}`")));
    }
    say_idle_defaults(raw, faults);
    say_expired_rules(raw, faults);
    for (index, route) in routes.iter().enumerate() {
        let place = places.routes.get(index).copied().unwrap_or_default();
        if route.compare.is_some() && route.shadow.is_none() && !route.weight.is_split() && route.rollout.is_none() {
            let message = "nothing is compared: the route has no `shadow`, and its weight gives all to one side";
            let span = raw.routes.get(index).and_then(|raw| raw.compare.as_ref()).map_or(place, |compare| compare.span);
            faults.push(
                Fault::warning(span, format!("routes[{index}].compare"), message).with_help("write `shadow: true`"),
            );
        }
        let reads_back =
            route.shadow.as_ref().is_some_and(|it| matches!(it.unsafe_requests, UnsafeShadow::VerifyRead(_)));
        let may_be_alike = [Side::Legacy, Side::Extracted].into_iter().any(|side| route.data.is_read_back_alike(side));
        if reads_back && !may_be_alike {
            let message = "`verify_read` proves nothing here: legacy never sees what this route writes";
            let help = "it needs `data: shared` or `data: synced`, or `data: legacy` while legacy answers";
            faults.push(Fault::warning(place, format!("routes[{index}].shadow.unsafe"), message).with_help(help));
        }
        if route.extracted == *legacy {
            let message = "`extracted` is the monolith itself, so the weight changes nothing";
            faults.push(Fault::warning(place, format!("routes[{index}].extracted"), message));
        }
    }
    say_unreachable(routes, &places.routes, faults);
}

/// A rule that has run out forgives nothing any more: either the difference is gone, or it shows again.
fn say_expired_rules(raw: &RawConfig, faults: &mut Faults) {
    let Some(today) = raw.today else { return };
    let of_routes = raw.routes.iter().enumerate().filter_map(|(index, route)| match &route.compare.as_ref()?.value {
        Short::On(compare) => Some((format!("routes[{index}]"), compare)),
        Short::Off => None,
    });
    let of_defaults = raw.defaults.compare.iter().map(|compare| ("defaults".to_owned(), &compare.value));
    for (place, compare) in of_routes.chain(of_defaults) {
        for (span, rule, until) in compare.expired(today) {
            let path = format!("{place}.compare.rules[{rule}]");
            let message = format!("this rule ran out on {until}, and forgives nothing any more");
            faults.push(Fault::warning(span, path, message).with_help("take it out, or give it a later day"));
        }
    }
}

fn say_idle_defaults(raw: &RawConfig, faults: &mut Faults) {
    let is_on = |written: usize| written > 0;
    let shadows = raw.routes.iter().filter(|route| matches!(route.shadow, Some(Short::On(_)))).count();
    let compares = raw.routes.iter().filter_map(|route| route.compare.as_ref());
    let compares = compares.filter(|compare| matches!(compare.value, Short::On(_))).count();
    let fallbacks = raw.routes.iter().filter(|route| matches!(route.fallback, Some(Short::On(_)))).count();
    let rollouts = raw.routes.iter().filter(|route| route.rollout.is_some()).count()
        + raw.journeys.iter().filter(|journey| journey.rollout.is_some()).count();
    let blocks: [(&str, Option<Span>, usize); 4] = [
        ("shadow", raw.defaults.shadow.as_ref().map(|read| read.span), shadows),
        ("compare", raw.defaults.compare.as_ref().map(|read| read.span), compares),
        ("fallback", raw.defaults.fallback.as_ref().map(|read| read.span), fallbacks),
        ("rollout", raw.defaults.rollout.as_ref().map(|read| read.span), rollouts),
    ];
    for (key, span, written) in blocks {
        if let (Some(span), false) = (span, is_on(written)) {
            let message = format!("no route writes `{key}`, so this fills nothing; defaults switch nothing on");
            faults.push(Fault::warning(span, format!("defaults.{key}"), message));
        }
    }
}

/// A route with an expression stands behind every template, so one that covers all that it could match hides it.
///
/// Only what can be proven is said: the expression's literal beginning lies below a `{*rest}` of the same host without conditions.
fn say_unreachable(routes: &[Arc<Route>], places: &[Span], faults: &mut Faults) {
    let mut covers: BTreeMap<&HostPattern, Vec<(String, usize)>> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        if let Some(prefix) = open_prefix(&route.conditions) {
            covers.entry(&route.conditions.host).or_default().push((prefix, index));
        }
    }
    for (index, route) in routes.iter().enumerate() {
        let PathPattern::Regex(regex) = &route.conditions.path else { continue };
        let beginning = literal_beginning(regex.as_str());
        let Some(same_host) = covers.get(&route.conditions.host) else { continue };
        let hiding = same_host.iter().find(|(prefix, other)| {
            routes.get(*other).is_some_and(|other| {
                beginning.starts_with(&**prefix)
                    && takes_methods_of(&other.conditions, &route.conditions)
                    && Precedence::of(&other.conditions) < Precedence::of(&route.conditions)
            })
        });
        let Some(other) = hiding.and_then(|(_, other)| routes.get(*other).zip(places.get(*other))) else { continue };
        let message = format!("no request reaches `{}`: `{}` takes all of them first", route.name, other.0.name);
        let fault =
            Fault::warning(places.get(index).copied().unwrap_or_default(), format!("routes[{index}].match"), message);
        faults.push(fault.with_also(*other.1, "this one"));
    }
}

/// `/a/b/` of `/a/b/{*rest}` without conditions: every path that begins so is the route's.
fn open_prefix(conditions: &Conditions) -> Option<String> {
    let PathPattern::Template(template) = &conditions.path else { return None };
    let has_conditions =
        !(conditions.headers.is_empty() && conditions.query.is_empty() && conditions.cookies.is_empty());
    if template.rest.is_none() || has_conditions {
        return None;
    }
    let mut prefix = String::from("/");
    for segment in &template.segments {
        let Segment::Literal(text) = segment else { return None };
        prefix.push_str(text);
        prefix.push('/');
    }
    Some(prefix)
}

fn takes_methods_of(wide: &Conditions, narrow: &Conditions) -> bool {
    wide.methods.is_empty()
        || (!narrow.methods.is_empty() && narrow.methods.iter().all(|method| wide.methods.contains(method)))
}

/// What every match of an anchored expression begins with.
fn literal_beginning(expression: &str) -> &str {
    // One alternative speaks for itself only.
    if expression.contains('|') {
        return "";
    }
    let body = expression.strip_prefix('^').unwrap_or(expression);
    let end = body.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_'))).unwrap_or(body.len());
    let (sure, after) = body.split_at(end);
    // `ab?` may match `a`.
    if after.starts_with(['?', '*', '{']) { sure.get(..sure.len().saturating_sub(1)).unwrap_or_default() } else { sure }
}
