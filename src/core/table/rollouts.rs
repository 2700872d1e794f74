//! `rollout:` of a route, filled up and put beside what else the file says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::facts::is_safe;
use crate::fault::{Fault, Faults, did_you_mean};
use crate::name::RouteName;
use crate::raw::{RawDefaults, RawRollout, RawRoute, Short, Spanned};
use crate::route::{RolloutPolicy, ShadowPolicy, Step, UnsafeShadow};

/// How a route climbs; `None`: its weight is the file's.
pub(super) fn rollout(
    route: &RawRoute,
    is_together: bool,
    shadow: Option<&ShadowPolicy>,
    defaults: &RawDefaults,
    faults: &mut Faults,
) -> Option<Arc<RolloutPolicy>> {
    let written = route.rollout.as_ref()?;
    let place = format!("routes[{}].rollout", route.index);
    let is_compared = route.compare.as_ref().is_some_and(|compare| matches!(compare.value, Short::On(_)))
        && shadow.is_some_and(|shadow| is_any_copied(route, shadow));
    if route.weight.is_some() {
        let message = "a rollout moves the weight, so the file cannot own it too";
        faults.push(Fault::error(written.span, place.clone(), message).with_help("take `weight` out"));
    }
    if route.locate.is_some() {
        let message = "`locate` decides the side of this route, so there is no weight to move";
        faults.push(Fault::error(written.span, place.clone(), message).with_help("take one of the two out"));
    }
    if route.data.is_some_and(|data| !data.may_go_back()) {
        // Were its state lost, it would begin at 0 %: users would be sent to a monolith that does not know what they wrote.
        let message = "`rollout` where the extracted service owns the data is not supported yet";
        let help = "write the weight that it has come to, as in `weight: 100%`";
        faults.push(Fault::error(written.span, place.clone(), message).with_help(help));
    }
    if is_together {
        let message = "`rollout` of one route of a journey whose routes move together is not supported yet";
        faults.push(Fault::error(written.span, place.clone(), message));
    }
    let defaults = defaults.rollout.as_ref().map(|defaults| &defaults.value);
    let policy = written.value.filled(defaults, is_compared);
    if let Some(steps) = written.value.steps().or_else(|| defaults.and_then(RawRollout::steps)) {
        for step in steps.iter().filter(|step| step.value == Step::Shadow && !is_compared) {
            let message =
                "at the step `shadow` answers are compared, and nothing of this route is both copied and compared";
            let help = "write `shadow: true` and `compare: true`, or take the step out";
            faults.push(Fault::error(step.span, format!("{place}.steps"), message).with_help(help));
        }
    }
    for step in written.value.approve().or_else(|| defaults.and_then(RawRollout::approve)).unwrap_or_default() {
        if !policy.steps.contains(&step.value) {
            let steps: Vec<String> = policy.steps.iter().map(Step::to_string).collect();
            let message = format!("`{}` is no step of this rollout", step.value);
            let fault = Fault::error(step.span, format!("{place}.approve"), message);
            faults.push(fault.with_help(format!("its steps are {}", steps.join(", "))));
        }
    }
    Some(Arc::new(policy))
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
    defaults: &RawDefaults,
    names: &BTreeMap<&RouteName, &RawRoute>,
    faults: &mut Faults,
) {
    let of_defaults = defaults.rollout.as_ref().and_then(|rollout| rollout.value.needs());
    let needs_of = |route: &RawRoute| -> Vec<RouteName> {
        let own = route.rollout.as_ref().map(|rollout| rollout.value.needs().or(of_defaults).unwrap_or_default());
        own.unwrap_or_default().iter().map(|need| need.value.route.clone()).collect()
    };
    let written = routes.iter().filter_map(|route| {
        Some((format!("routes[{}].rollout.needs", route.index), route.rollout.as_ref()?.value.needs()?))
    });
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
        let (Some(name), Some(rollout)) = (&route.name, &route.rollout) else { continue };
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
