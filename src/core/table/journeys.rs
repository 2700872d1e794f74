//! Journeys: what was written, and what their routes say together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::{Fault, Faults};
use crate::limits::{JOURNEYS_MAX, LEASE_S_MAX, LEASED_ROUTES_MAX};
use crate::name::JourneyName;
use crate::raw::{RawConfig, RawJourney};
use crate::route::{KeySource, Route};
use crate::table::Journey;
use crate::table::build::Places;
use crate::tree::Span;

/// The lease of a journey with more than one key when nothing is written.
const LEASE: Duration = Duration::from_mins(30);

/// Each by itself; its routes are not known yet.
pub(super) fn read(raw: &[RawJourney], faults: &mut Faults) -> BTreeMap<JourneyName, Journey> {
    let mut by_salt: BTreeMap<Arc<str>, Span> = BTreeMap::new();
    let mut journeys = BTreeMap::new();
    debug_assert!(raw.len() <= JOURNEYS_MAX);
    for journey in raw {
        let name = &journey.name;
        let salt = journey.salt.as_ref().map_or_else(|| Arc::from(name.value.as_str()), |salt| Arc::clone(&salt.value));
        if let Some(other) = by_salt.insert(Arc::clone(&salt), name.span) {
            let message = "two journeys have the same salt, so they deal the same users to the same side";
            faults.push(
                Fault::warning(name.span, format!("journeys.{}", name.value), message)
                    .with_also(other, "the other one"),
            );
        }
        let mut sticky_on: Vec<KeySource> = Vec::new();
        for source in journey.sticky_on.iter().flatten() {
            if sticky_on.contains(&source.value) {
                let path = format!("journeys.{}.sticky_on", name.value);
                faults.push(Fault::error(source.span, path, "this place is there twice"));
            } else {
                sticky_on.push(source.value.clone());
            }
        }
        // A login moves a user from one key to the next, and in the middle of something.
        let lease = journey.lease.map_or(if sticky_on.len() > 1 { LEASE } else { Duration::ZERO }, |lease| lease.value);
        if let Some(written) = journey.lease.filter(|lease| lease.value > Duration::from_secs(LEASE_S_MAX)) {
            let path = format!("journeys.{}.lease", name.value);
            let message = "a lease lasts a day at most: until its end no promotion reaches its user";
            faults.push(Fault::error(written.span, path, message));
        }
        let value = Journey {
            salt,
            sticky_on: Arc::from(sticky_on),
            lease: Some(lease).filter(|lease| !lease.is_zero()),
            is_together: journey.together.is_some_and(|together| together.value),
            routes: Vec::new(),
            is_salt_written: journey.salt.is_some(),
            is_lease_written: journey.lease.is_some(),
        };
        journeys.insert(name.value.clone(), value);
    }
    journeys
}

/// Tells each journey its routes, and says which of them do not go together.
pub(super) fn gather(
    raw: &RawConfig,
    routes: &[Arc<Route>],
    places: &Places,
    journeys: &mut BTreeMap<JourneyName, Journey>,
    faults: &mut Faults,
) {
    for (index, route) in routes.iter().enumerate() {
        if let Some(journey) = route.journey.as_ref().and_then(|name| journeys.get_mut(name)) {
            journey.routes.push(index);
        }
    }
    for (name, journey) in journeys.iter() {
        let span = places.journeys.get(name).copied().unwrap_or_default();
        if journey.lease.is_some() && journey.routes.len() > LEASED_ROUTES_MAX {
            let message =
                format!("{} routes, more than the {LEASED_ROUTES_MAX} that share a lease", journey.routes.len());
            let fault = Fault::error(span, format!("journeys.{name}"), message);
            faults.push(fault.with_help("write `lease: 0s`, or part the journey"));
        }
        if journey.is_together {
            say_apart(raw, routes, places, (name, span), journey, faults);
        }
    }
}

fn say_apart(
    raw: &RawConfig,
    routes: &[Arc<Route>],
    places: &Places,
    (name, span): (&JourneyName, Span),
    journey: &Journey,
    faults: &mut Faults,
) {
    let of = |index: &usize| Some((*index, routes.get(*index)?, *places.routes.get(*index)?));
    let mut all = journey.routes.iter().filter_map(of);
    let Some((_, first, first_place)) = all.next() else { return };
    let mut refuse = |index: usize, place: Span, message: String| {
        let place_in_file = places.indexes.get(index).copied().unwrap_or(index);
        let written = raw.routes.iter().find(|route| route.index == place_in_file);
        let span_of_weight = written.and_then(|route| route.weight.as_ref()).map_or(place, |weight| weight.span);
        let path = format!("routes[{place_in_file}].weight");
        let fault = Fault::error(span_of_weight, path, message).with_also(first_place, "the first of them");
        faults.push(fault.with_help(format!("`journeys.{name}` says `together: true` (line {})", span.line)));
    };
    for (index, route, place) in journey.routes.iter().filter_map(of).filter(|(_, route, _)| route.locate.is_some()) {
        refuse(
            index,
            place,
            format!("`locate` decides the side of `{}`, so it cannot move together with `{name}`", route.name),
        );
    }
    for (index, route, place) in all.filter(|(_, route, _)| route.weight != first.weight) {
        refuse(
            index,
            place,
            format!(
                "the routes of `{name}` move together, and `{}` has {} where `{}` has {}",
                route.name, route.weight, first.name, first.weight
            ),
        );
    }
}
