//! `rollout:` of a route, filled up and put beside what else the file says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::facts::is_safe;
use crate::fault::{Fault, Faults, did_you_mean};
use crate::name::{JourneyName, RouteName};
use crate::raw::{RawConfig, RawDefaults, RawJourney, RawRollout, RawRoute, Short, Spanned};
use crate::route::{RolloutPolicy, Route, ShadowPolicy, Step, UnsafeShadow};
use crate::tree::Span;
use crate::weight::Weight;

/// The journey of a route, as far as rollouts are concerned.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// Its name.
    pub(super) name: &'a JourneyName,
    /// Whether its routes have one weight.
    pub(super) is_together: bool,
    /// Moves all of them.
    pub(super) rollout: Option<&'a Spanned<RawRollout>>,
}

const NO_FROM: &str = "where legacy knows what was written, a rollout of which nothing is known begins at 0%";
const NO_FROM_HELP: &str = "take it out; it is for `data: extracted`";

/// How a route climbs; `None`: its weight is the file's.
pub(super) fn rollout(
    route: &RawRoute,
    around: Option<Around<'_>>,
    shadow: Option<&ShadowPolicy>,
    defaults: &RawDefaults,
    faults: &mut Faults,
) -> Option<Arc<RolloutPolicy>> {
    let of_journey = around.and_then(|around| Some((around.name, around.rollout?)));
    let written = route.rollout.as_ref().or(of_journey.map(|(_, rollout)| rollout))?;
    let place = of_journey.map_or_else(
        || format!("routes[{}].rollout", route.index),
        |(journey, _)| format!("journeys.{journey}.rollout"),
    );
    let is_compared = route.compare.as_ref().is_some_and(|compare| matches!(compare.value, Short::On(_)))
        && shadow.is_some_and(|shadow| is_any_copied(route, shadow));
    say_between_keys(route, around, &place, written.span, faults);
    let may_go_back = route.data.unwrap_or_default().may_go_back();
    match written.value.from() {
        None if !may_go_back => {
            let message = "the extracted service owns the data, so nobody may begin anew with legacy: say what users get where nothing is \
                           known of how far the rollout has come";
            let help = "write `from`, as in `rollout: {from: 25%}`, and raise it as the rollout rises";
            faults.push(Fault::error(written.span, place.clone(), message).with_help(help));
        }
        Some(from) if may_go_back && of_journey.is_none() => {
            faults.push(Fault::error(from.span, format!("{place}.from"), NO_FROM).with_help(NO_FROM_HELP));
        }
        _ => {}
    }
    let defaults = defaults.rollout.as_ref().map(|defaults| &defaults.value);
    let mut policy = written.value.filled(defaults, is_compared, may_go_back);
    policy.journey = of_journey.map(|(name, _)| name.clone());
    if may_go_back {
        policy.from = Weight::NONE;
    }
    let steps = written.value.steps().or_else(|| defaults.and_then(RawRollout::steps));
    if let Some(steps) = steps.filter(|_| of_journey.is_none() && !is_compared) {
        say_no_shadow(steps, &place, faults);
    }
    for step in written.value.approve().or_else(|| defaults.and_then(RawRollout::approve)).unwrap_or_default() {
        // Whether a journey begins at `shadow` by itself is known when all its routes are.
        let may_be = of_journey.is_some() && steps.is_none() && step.value == Step::Shadow;
        if !policy.steps.contains(&step.value) && !may_be {
            let steps: Vec<String> = policy.steps.iter().map(Step::to_string).collect();
            let message = format!("`{}` is no step of this rollout", step.value);
            let fault = Fault::error(step.span, format!("{place}.approve"), message);
            faults.push_once(fault.with_help(format!("its steps are {}", steps.join(", "))));
        }
    }
    if let Some(bake) = written.value.bake().or_else(|| defaults.and_then(RawRollout::bake)) {
        let span = bake.value.holdback.map_or(bake.span, |holdback| holdback.span);
        if let Err(why) = with_bake(&mut policy, may_go_back) {
            faults.push_once(Fault::error(span, format!("{place}.bake"), why));
        }
    }
    Some(Arc::new(policy))
}

/// What moves a weight, and what else does.
fn say_between_keys(route: &RawRoute, around: Option<Around<'_>>, place: &str, span: Span, faults: &mut Faults) {
    let own = format!("routes[{}]", route.index);
    let of_journey = around.filter(|around| around.rollout.is_some());
    if let (Some(around), Some(rollout)) = (of_journey, &route.rollout) {
        let message = format!("the rollout of the journey `{}` moves all of its routes", around.name);
        let fault = Fault::error(rollout.span, format!("{own}.rollout"), message);
        faults.push(fault.with_also(span, "it").with_help("take one of the two out"));
    }
    if let Some(weight) = &route.weight {
        let (span, place) =
            if of_journey.is_some() { (weight.span, format!("{own}.weight")) } else { (span, place.to_owned()) };
        let message = "a rollout moves the weight, so the file cannot own it too";
        faults.push(Fault::error(span, place, message).with_help("take `weight` out"));
    }
    if let Some(locate) = &route.locate {
        let (span, place) =
            if of_journey.is_some() { (locate.span, format!("{own}.locate")) } else { (span, place.to_owned()) };
        let message = "`locate` decides the side of this route, so there is no weight to move";
        faults.push(Fault::error(span, place, message).with_help("take one of the two out"));
    }
    if let Some(around) = around.filter(|around| around.is_together && around.rollout.is_none()) {
        let message = format!("the routes of `{}` move together, and this would move one of them", around.name);
        let help = format!("write `rollout` under `journeys.{}`", around.name);
        faults.push(Fault::error(span, place.to_owned(), message).with_help(help));
    }
}

fn say_no_shadow(steps: &[Spanned<Step>], place: &str, faults: &mut Faults) {
    for step in steps.iter().filter(|step| step.value == Step::Shadow) {
        let message =
            "at the step `shadow` answers are compared, and nothing of this route is both copied and compared";
        let help = "write `shadow: true` and `compare: true`, or take the step out";
        faults.push(Fault::error(step.span, format!("{place}.steps"), message).with_help(help));
    }
}

/// Puts the step in at which legacy is kept warm.
fn with_bake(policy: &mut RolloutPolicy, may_go_back: bool) -> Result<(), String> {
    let Some(bake) = policy.bake else { return Ok(()) };
    let all = Arc::clone(&policy.steps);
    let Some((last, steps)) = all.split_last() else { return Ok(()) };
    if last.weight() != Weight::ALL {
        return Err(
            "it begins when everybody has been moved, and the last step of this rollout is not `100%`".to_owned()
        );
    }
    let Some(step) = bake.step() else { return Ok(()) };
    if !may_go_back {
        return Err("a holdback asks legacy, which does not know what users have written since: the extracted service owns the data; \
                    write `holdback: 0%`"
            .to_owned());
    }
    if let Some(above) = steps.iter().find(|own| **own >= step) {
        return Err(format!("a holdback of {} leaves {step}, and the step {above} is not below that", bake.holdback));
    }
    policy.steps = steps.iter().copied().chain([step, *last]).collect();
    // Nearly everybody is moved when the bake begins: that is what a person agrees to.
    policy.approve = policy.approve.iter().map(|asked| if asked == last { step } else { *asked }).collect();
    Ok(())
}

/// A journey begins at `shadow` as soon as one of its routes can be compared; told when all of them are known.
pub(super) fn settle_journeys(raw: &RawConfig, routes: &mut [Arc<Route>], faults: &mut Faults) {
    let of_defaults = raw.defaults.rollout.as_ref().and_then(|defaults| defaults.value.steps());
    for journey in &raw.journeys {
        let Some(written) = &journey.rollout else { continue };
        let is_of = |route: &Route| {
            route.rollout.as_ref().is_some_and(|policy| policy.journey.as_ref() == Some(&journey.name.value))
        };
        let is_compared = |route: &Route| route.rollout.as_ref().is_some_and(|policy| policy.is_compared);
        let is_any = routes.iter().any(|route| is_of(route) && is_compared(route));
        let is_owner = |route: &Route| is_of(route) && !route.data.may_go_back();
        if let Some(from) = written.value.from().filter(|_| !routes.iter().any(|route| is_owner(route))) {
            faults.push(
                Fault::error(from.span, format!("journeys.{}.rollout.from", journey.name.value), NO_FROM)
                    .with_help(NO_FROM_HELP),
            );
        }
        let steps = written.value.steps().or(of_defaults);
        match steps {
            Some(steps) if !is_any => {
                say_no_shadow(steps, &format!("journeys.{}.rollout", journey.name.value), faults);
            }
            None if is_any => {
                for route in routes.iter_mut().filter(|route| is_of(route) && !is_compared(route)) {
                    let Some(policy) = &route.rollout else { continue };
                    let mut policy = RolloutPolicy::clone(policy);
                    let rest = policy.steps.iter().copied().filter(|step| *step != Step::Shadow);
                    policy.steps = [Step::Shadow].into_iter().chain(rest).collect();
                    Arc::make_mut(route).rollout = Some(Arc::new(policy));
                }
            }
            _ => {}
        }
    }
}

/// Whether any request of the route may be copied.
fn is_any_copied(route: &RawRoute, shadow: &ShadowPolicy) -> bool {
    let methods = route.conditions.as_ref().map(|conditions| &conditions.value.methods);
    let has_safe = methods.is_none_or(|methods| methods.is_empty() || methods.iter().any(is_safe));
    has_safe || !shadow.safe_posts.is_empty() || shadow.unsafe_requests != UnsafeShadow::Refuse
}

/// What rollouts wait for must exist, and must not wait for them.
pub(super) fn check_needs(
    routes: &[RawRoute],
    journeys: &[RawJourney],
    defaults: &RawDefaults,
    names: &BTreeMap<&RouteName, &RawRoute>,
    faults: &mut Faults,
) {
    let of_defaults = defaults.rollout.as_ref().and_then(|rollout| rollout.value.needs());
    let rollouts: BTreeMap<&JourneyName, &Spanned<RawRollout>> =
        journeys.iter().filter_map(|journey| Some((&journey.name.value, journey.rollout.as_ref()?))).collect();
    let rollout_of = |route: &RawRoute| rollouts.get(&route.journey.as_ref()?.value).copied();
    let needs_of = |route: &RawRoute| -> Vec<RouteName> {
        let own = route.rollout.as_ref().or_else(|| rollout_of(route));
        let own = own.map(|rollout| rollout.value.needs().or(of_defaults).unwrap_or_default());
        own.unwrap_or_default().iter().map(|need| need.value.route.clone()).collect()
    };
    let written = routes.iter().filter_map(|route| {
        Some((format!("routes[{}].rollout.needs", route.index), route.rollout.as_ref()?.value.needs()?))
    });
    let of_journeys = rollouts
        .iter()
        .filter_map(|(name, rollout)| Some((format!("journeys.{name}.rollout.needs"), rollout.value.needs()?)));
    let written = written.chain(of_journeys);
    for (place, needs) in written.chain(of_defaults.map(|needs| ("defaults.rollout.needs".to_owned(), needs))) {
        for Spanned { value: need, span } in needs {
            if !names.contains_key(&need.route) {
                let help = did_you_mean(need.route.as_str(), names.keys().map(|name| name.as_str()));
                let message = format!("there is no route `{}`", need.route);
                faults.push(Fault::error(*span, place.clone(), message).with_maybe_help(help));
            }
        }
    }
    for route in routes {
        let Some(rollout) = route.rollout.as_ref().or_else(|| rollout_of(route)) else { continue };
        let Some(name) = &route.name else { continue };
        let mut waits_for: BTreeSet<RouteName> = BTreeSet::new();
        let mut next = needs_of(route);
        while let Some(other) = next.pop() {
            if waits_for.insert(other.clone()) {
                next.extend(names.get(&other).map(|other| needs_of(other)).unwrap_or_default());
            }
        }
        if waits_for.contains(&name.value) {
            let message = format!("`{}` waits for itself, so it would never rise", name.value);
            faults.push(Fault::error(rollout.span, format!("routes[{}].rollout.needs", route.index), message));
        }
    }
}
