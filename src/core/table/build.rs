//! From what was written to what holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::{Fault, Faults, Hints, did_you_mean};
use crate::matching::Matcher;
use crate::name::{JourneyName, RouteName};
use crate::raw::{RawConfig, RawDefaults, RawRoute, Short, Spanned};
use crate::route::{BreakerPolicy, Data, FallbackPolicy, LeasePolicy, Route};
use crate::table::journeys;
use crate::table::rollouts::{self, Around};
use crate::table::shadows;
use crate::table::upstreams::Upstreams;
use crate::table::{Journey, Revision, RoutingTable, Written, warnings};
use crate::template::PathPattern;
use crate::tree::Span;
use crate::weight::Weight;

/// How long a whole request may take when nothing is written.
const DEADLINE: Duration = Duration::from_mins(1);
/// Largest request body when nothing is written.
const BODY_BYTES: u64 = 10 << 20;

/// Where things were written, for what is found wrong between them.
pub(super) struct Places {
    pub(super) routes: Vec<Span>,
    /// A route's place in the file, where routes that are wrong count, too.
    pub(super) indexes: Vec<usize>,
    pub(super) journeys: BTreeMap<JourneyName, Span>,
}

pub(super) fn build(mut raw: RawConfig, revision: Revision) -> (Option<RoutingTable>, Vec<Fault>) {
    let mut faults = std::mem::take(&mut raw.faults);
    let mut upstreams = Upstreams::collect(&mut raw, &mut faults);
    let mut journeys = journeys::read(&raw.journeys, &mut faults);
    let legacy = raw.legacy.as_ref().and_then(|legacy| upstreams.resolve(legacy, "legacy", &mut faults));

    let names = names(&raw.routes, &mut faults);
    removed_and_there(&raw.removed, &names, &mut faults);
    rollouts::check_needs(&raw.routes, &raw.journeys, &raw.defaults, &names, &mut faults);
    let mut routes = Vec::with_capacity(raw.routes.len());
    let mut written = Vec::with_capacity(raw.routes.len());
    let mut places = Places {
        routes: Vec::with_capacity(raw.routes.len()),
        indexes: Vec::with_capacity(raw.routes.len()),
        journeys: raw.journeys.iter().map(|journey| (journey.name.value.clone(), journey.name.span)).collect(),
    };
    let stand_in = legacy.clone().or_else(|| upstreams.any());
    let mut hints = Hints::default();
    for raw_route in &raw.routes {
        let journey = journey_of(raw_route, &journeys, &mut hints, &mut faults);
        let extracted = raw_route.extracted.as_ref().and_then(|target| {
            upstreams.resolve(target, &format!("routes[{}].extracted", raw_route.index), &mut faults)
        });
        check_between_keys(raw_route, &mut faults);
        say_unasked_release(raw_route, &raw, &mut faults);
        let (Some(name), Some(conditions)) = (&raw_route.name, &raw_route.conditions) else { continue };
        // Without its service there will be no table, and the route can still be seen to tie.
        let Some(extracted) = extracted.or_else(|| stand_in.clone()) else { continue };
        let data = raw_route.data.unwrap_or_default();
        let shadow =
            shadows::shadow(raw_route, &raw.defaults, legacy.as_ref(), &extracted, &mut upstreams, &mut faults);
        let rollout =
            rollouts::rollout(raw_route, around(&raw, raw_route, journey), shadow.as_ref(), &raw.defaults, &mut faults);
        routes.push(Arc::new(Route {
            name: name.value.clone(),
            owner: raw_route.owner.clone(),
            journey: raw_route.journey.as_ref().map(|journey| journey.value.clone()),
            salt: journey.map_or_else(|| Arc::from(name.value.as_str()), |journey| Arc::clone(&journey.salt)),
            sticky_on: journey.map_or_else(|| Arc::from([]), |journey| Arc::clone(&journey.sticky_on)),
            conditions: conditions.value.clone(),
            extracted,
            rewrite: raw_route.rewrite.as_ref().map(|rewrite| Arc::new(rewrite.value.clone())),
            upgrades: raw_route.upgrades.clone(),
            rate_limit: raw_route.rate_limit.clone(),
            data,
            weight: raw_route.weight.map_or(Weight::NONE, |weight| weight.value),
            deadline: Some(raw_route.deadline.unwrap_or(DEADLINE)).filter(|deadline| !deadline.is_zero()),
            override_header: raw_route.override_header.clone(),
            request_headers: raw_route.request_headers.clone(),
            response_headers: raw_route.response_headers.clone(),
            fallback: fallback(raw_route, &raw.defaults, data),
            breaker: match &raw_route.breaker {
                None => Some(BreakerPolicy::default()),
                Some(Short::Off) => None,
                Some(Short::On(policy)) => Some(*policy),
            },
            success: raw_route.success.clone(),
            max_body: raw_route.max_body.unwrap_or(BODY_BYTES),
            shadow,
            compare: raw_route.compare.as_ref().and_then(|compare| match &compare.value {
                Short::Off => None,
                Short::On(compare) => {
                    Some(Arc::new(compare.filled(raw.defaults.compare.as_ref().map(|defaults| &defaults.value))))
                }
            }),
            locate: raw_route.locate.as_ref().map(|locate| locate.value.clone()),
            lease: journey.zip(raw_route.journey.as_ref()).and_then(|(journey, name)| {
                Some(Arc::new(LeasePolicy::journey(&name.value, &journey.salt, journey.lease?)))
            }),
            form: raw_route
                .form
                .as_ref()
                .filter(|form| form.value)
                .map(|_| Arc::new(LeasePolicy::form(&conditions.value))),
            rollout,
            release_header: raw_route.release_header.as_ref().map(|name| name.value.clone()),
            idempotency: raw_route.idempotency.clone(),
        }));
        written.push(Written {
            weight: raw_route.weight.is_some(),
            data: raw_route.data.is_some(),
            match_keys: raw_route.match_keys,
        });
        places.routes.push(name.span);
        places.indexes.push(raw_route.index);
    }

    rollouts::settle_journeys(&raw, &mut routes, &mut faults);
    journeys::gather(&raw, &routes, &places, &mut journeys, &mut faults);
    let matcher = match Matcher::new(&routes) {
        Ok(matcher) => matcher,
        Err(ties) => {
            for tie in ties {
                say_tie(&routes, &places, tie.first, tie.second, &mut faults);
            }
            Matcher::default()
        }
    };
    let Some(legacy) = legacy.filter(|_| !faults.has_errors()) else {
        return (None, faults.into_sorted());
    };
    warnings::say(&raw, &routes, &legacy, &upstreams, &places, &mut faults);
    let table = RoutingTable {
        revision,
        upstreams: upstreams.into_all(),
        legacy,
        routes,
        fall_through: raw.fall_through,
        removed: raw.removed.into_iter().map(|name| name.value).collect(),
        matcher,
        journeys,
        written,
    };
    (Some(table), faults.into_sorted())
}

fn journey_of<'a>(
    route: &RawRoute,
    journeys: &'a BTreeMap<JourneyName, Journey>,
    hints: &mut Hints,
    faults: &mut Faults,
) -> Option<&'a Journey> {
    let wanted = route.journey.as_ref()?;
    let journey = journeys.get(&wanted.value);
    if journey.is_none() {
        let help = hints.did_you_mean(wanted.value.as_str(), journeys.keys().map(JourneyName::as_str));
        let message = format!("there is no journey `{}`", wanted.value);
        let path = format!("routes[{}].journey", route.index);
        faults.push(Fault::error(wanted.span, path, message).with_maybe_help(help));
    }
    journey
}

/// Every name once.
fn names<'a>(routes: &'a [RawRoute], faults: &mut Faults) -> BTreeMap<&'a RouteName, &'a RawRoute> {
    let mut names: BTreeMap<&RouteName, &RawRoute> = BTreeMap::new();
    for route in routes {
        let Some(name) = &route.name else { continue };
        match names.get(&name.value) {
            None => {
                names.insert(&name.value, route);
            }
            Some(first) => {
                let message = format!("the name `{}` is taken; every route needs its own", name.value);
                let fault = Fault::error(name.span, format!("routes[{}].name", route.index), message);
                faults.push(fault.with_also(first.name.as_ref().map_or(first.span, |name| name.span), "taken here"));
            }
        }
    }
    names
}

fn removed_and_there(removed: &[Spanned<RouteName>], names: &BTreeMap<&RouteName, &RawRoute>, faults: &mut Faults) {
    for (index, name) in removed.iter().enumerate() {
        if let Some(route) = names.get(&name.value) {
            let message = format!("the route `{}` is said to be removed and is still there", name.value);
            let fault = Fault::error(name.span, format!("removed[{index}]"), message);
            faults.push(fault.with_also(route.name.as_ref().map_or(route.span, |name| name.span), "here"));
        }
    }
}

/// Keys that contradict each other.
fn check_between_keys(route: &RawRoute, faults: &mut Faults) {
    if let (Some(weight), Some(_)) = (&route.weight, &route.locate) {
        let path = format!("routes[{}].weight", route.index);
        let message = "`locate` decides the side of this route, so a weight would do nothing";
        faults.push(Fault::error(weight.span, path, message).with_help("take one of the two out"));
    }
    if let (Some(form), Some(_)) = (route.form.as_ref().filter(|form| form.value), &route.locate) {
        let path = format!("routes[{}].affinity.form", route.index);
        let message = "`locate` decides the side of this route, form or not, so this would do nothing";
        faults.push(Fault::error(form.span, path, message).with_help("take one of the two out"));
    }
    if let (Some(Data::Extracted), Some(Short::On(_))) = (route.data, &route.fallback) {
        let path = format!("routes[{}].fallback", route.index);
        let message = "with `data: extracted` nothing goes back to legacy by itself, so a fallback would do nothing";
        faults.push(Fault::error(route.span, path, message).with_help("write `fallback: never`, or take it out"));
    }
    if let (Some(rewrite), Some(conditions)) = (&route.rewrite, &route.conditions)
        && let Some(inner) = &rewrite.value.path
    {
        let known = conditions.value.path.parameters();
        let rest = match &conditions.value.path {
            PathPattern::Template(template) => template.rest.as_deref(),
            PathPattern::Regex(_) => None,
        };
        let path = format!("routes[{}].extracted.rewrite.path", route.index);
        for name in inner.parameters() {
            let message = if !known.contains(&name) {
                format!("`{name}` is no parameter of the route's path")
            } else if rest == Some(name) && inner.rest.as_deref() != Some(name) {
                format!("`{name}` is the rest of the route's path, so it is written `{{*{name}}}`")
            } else {
                continue;
            };
            let help = did_you_mean(name, known.iter().copied());
            faults.push(Fault::error(rewrite.span, path.clone(), message).with_maybe_help(help));
        }
    }
    if let (Some(locate), Some(conditions)) = (&route.locate, &route.conditions) {
        let known = conditions.value.path.parameters();
        if !known.contains(&&*locate.value.param) {
            let help = did_you_mean(&locate.value.param, known.iter().copied()).or_else(|| match known.as_slice() {
                [] => Some("the path has no parameter".to_owned()),
                names => Some(format!("the path has: {}", names.join(", "))),
            });
            let path = format!("routes[{}].locate.param", route.index);
            let message = format!("`{}` is no parameter of the path", locate.value.param);
            faults.push(Fault::error(locate.span, path, message).with_maybe_help(help));
        }
    }
}

fn fallback(route: &RawRoute, defaults: &RawDefaults, data: Data) -> Option<FallbackPolicy> {
    match &route.fallback {
        _ if !data.may_go_back() => None,
        None => Some(FallbackPolicy::default()),
        Some(Short::Off) => None,
        Some(Short::On(written)) => Some(written.filled(defaults.fallback.as_ref().map(|defaults| &defaults.value))),
    }
}

fn say_tie(routes: &[Arc<Route>], places: &Places, first: usize, second: usize, faults: &mut Faults) {
    let (Some(a), Some(b)) = (routes.get(first), routes.get(second)) else { return };
    let (Some(place_a), Some(place_b)) = (places.routes.get(first), places.routes.get(second)) else { return };
    let index = places.indexes.get(second).copied().unwrap_or(second);
    let message =
        format!("the routes `{}` and `{}` tie: one request could be both, and neither is narrower", a.name, b.name);
    let fault = Fault::error(*place_b, format!("routes[{index}].match"), message)
        .with_help("give one of them a method, a host or a condition that the other one has not")
        .with_also(*place_a, "the other one");
    faults.push(fault);
}

/// What a rollout has to know of the journey of its route.
fn around<'a>(raw: &'a RawConfig, route: &'a RawRoute, journey: Option<&Journey>) -> Option<Around<'a>> {
    let name = &route.journey.as_ref()?.value;
    let written = raw.journeys.iter().find(|journey| journey.name.value == *name)?;
    Some(Around {
        name,
        is_together: journey.is_some_and(|journey| journey.is_together),
        rollout: written.rollout.as_ref(),
    })
}

fn say_unasked_release(route: &RawRoute, raw: &RawConfig, faults: &mut Faults) {
    let of_journey = route
        .journey
        .as_ref()
        .and_then(|name| raw.journeys.iter().find(|journey| journey.name.value == name.value)?.rollout.as_ref());
    let compares = route.compare.as_ref().is_some_and(|compare| matches!(compare.value, Short::On(_)));
    if let (Some(header), None, false) = (&route.release_header, route.rollout.as_ref().or(of_journey), compares) {
        let path = format!("routes[{}].release_header", route.index);
        let message = "only a rollout or a comparison asks which release answers, and this route has neither";
        let help = "write `rollout:` or `compare:`, or take this out";
        faults.push(Fault::error(header.span, path, message).with_help(help));
    }
}
