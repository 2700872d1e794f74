//! Telling objects, whose members programmers named, from maps, whose keys are data: a list of users by their names has keys that
//! read like any other name, and no look at one of them tells. What tells is how many of them there are at one place.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::compare::pointer::Step;
use crate::compare::rules::{StepRef, matches};
use crate::compare::{Difference, Location};
use crate::redact::names;
use crate::route::{ComparePolicy, PointerSegment};

/// Most names at one place of a route that are taken for names; with one more, all keys there are data.
pub const NAMES_MAX: usize = 32;
/// So many keys that are no names (numbers, addresses, tokens) make all keys of the place data.
const ODD_MAX: usize = 3;
/// Most places remembered, all routes together; what comes up at further ones is data.
const PLACES_MAX: usize = 20_000;

/// What keys have come up where differences were, of all routes. Bounded; begins anew with the process.
#[derive(Debug, Default)]
pub struct Maps {
    places: BTreeMap<u64, Place>,
}

#[derive(Debug, Default)]
struct Place {
    names: BTreeSet<u64>,
    odd: BTreeSet<u64>,
    is_map: bool,
}

impl Maps {
    /// Learns from the differences of a pair, and turns the keys that are data into [`Step::Data`]: they are hashed in records and left
    /// out of causes. A name that the route's own rules or allow-list write, or a place that the allow-list permits, stays.
    pub fn veil(&mut self, route: &str, differences: &mut [Difference], policy: &ComparePolicy) {
        let known = Known::of(policy);
        for difference in &*differences {
            if let Location::Body(pointer) = &difference.path {
                self.walk(route, &pointer.0, &known, true);
            }
        }
        for difference in differences {
            let Location::Body(pointer) = &mut difference.path else { continue };
            let data = self.walk(route, &pointer.0, &known, false);
            for index in data {
                if let Some(step) = pointer.0.get_mut(index)
                    && let Step::Key(key) = step
                {
                    *step = Step::Data(std::mem::take(key));
                }
            }
        }
    }

    /// From the root down; answers which steps are data. `is_learning`: what comes up is noted.
    fn walk(&mut self, route: &str, steps: &[Step], known: &Known<'_>, is_learning: bool) -> Vec<usize> {
        let mut data = Vec::new();
        let mut place = format!("{route}\n");
        let mut path: Vec<StepRef<'_>> = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            path.push(StepRef::from(step));
            place.push('/');
            match step {
                Step::Key(key) => {
                    let is_data = !known.has(key, &path) && self.is_data(&place, key, is_learning);
                    if is_data {
                        data.push(index);
                        place.push('*');
                    } else {
                        place.push_str(key);
                    }
                }
                Step::Node { name, .. } => place.push_str(name),
                Step::Index(_) | Step::Item { .. } | Step::Data(_) => place.push('*'),
            }
        }
        data
    }

    fn is_data(&mut self, place: &str, key: &str, is_learning: bool) -> bool {
        let at = xxh3_64(place.as_bytes());
        if !self.places.contains_key(&at) && (!is_learning || self.places.len() >= PLACES_MAX) {
            return true;
        }
        let place = self.places.entry(at).or_default();
        if place.is_map {
            return true;
        }
        let is_plain = names::is_plain(key);
        if is_learning {
            let seen = if is_plain { &mut place.names } else { &mut place.odd };
            seen.insert(xxh3_64(key.as_bytes()));
            if place.names.len() > NAMES_MAX || place.odd.len() >= ODD_MAX {
                *place = Place { is_map: true, ..Place::default() };
                return true;
            }
        }
        !is_plain
    }
}

/// What the route's own file says of names and places.
struct Known<'a> {
    policy: &'a ComparePolicy,
    names: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(policy: &'a ComparePolicy) -> Known<'a> {
        let patterns = policy.rules.iter().map(|rule| &rule.path).chain(&policy.keep_values);
        let literal = |segment: &'a PointerSegment| match segment {
            PointerSegment::Literal(text) => Some(&**text),
            PointerSegment::One | PointerSegment::Many => None,
        };
        Known { policy, names: patterns.flat_map(|pattern| &pattern.segments).filter_map(literal).collect() }
    }

    fn has(&self, key: &str, path: &[StepRef<'_>]) -> bool {
        names::is_plain(key)
            && (self.names.contains(key) || self.policy.keep_values.iter().any(|pattern| matches(pattern, path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Kind;
    use crate::compare::pointer::Pointer;
    use crate::redact::{Cause, Redactor};

    fn at(path: &str) -> Difference {
        let steps = path.split('/').skip(1).map(|step| match step.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Key(step.into()),
        });
        let path = Location::Body(Pointer(steps.collect()));
        Difference { path, kind: Kind::Value, legacy: None, extracted: None, rule: None, unmatched: None }
    }

    fn shown(maps: &mut Maps, path: &str, policy: &ComparePolicy) -> (String, String) {
        let mut differences = [at(path)];
        maps.veil("cart", &mut differences, policy);
        (Redactor::new([7; 32]).path(&differences[0].path), Cause::of("cart", differences.first()).place)
    }

    /// Letters only, and no two alike.
    fn user(number: usize) -> String {
        let letter = |digit: usize| char::from(b'a' + u8::try_from(digit % 20).unwrap_or_default());
        format!("an{}{}", letter(number / 20), letter(number))
    }

    #[test]
    fn members_of_an_object_are_named_and_keys_of_a_map_are_hidden_once_there_are_many() {
        let (mut maps, policy) = (Maps::default(), ComparePolicy::default());
        for number in 0..NAMES_MAX {
            let path = format!("/users/{}/age", user(number));
            assert_eq!(shown(&mut maps, &path, &policy), (path.clone(), path));
        }
        let (path, place) = shown(&mut maps, &format!("/users/{}/age", user(NAMES_MAX)), &policy);
        assert!(path.starts_with("/users/<key len=4 #") && path.ends_with(">/age"), "{path}");
        assert_eq!(place, "/users/*/age");
        // Those of before, too; beside it nothing has changed.
        assert_eq!(shown(&mut maps, &format!("/users/{}/age", user(0)), &policy).1, "/users/*/age");
        assert_eq!(shown(&mut maps, "/total", &policy).1, "/total");
    }

    #[test]
    fn keys_that_are_no_names_give_their_neighbours_away() {
        let (mut maps, policy) = (Maps::default(), ComparePolicy::default());
        let paths = ["/ages/alice", "/ages/bob4711x", "/ages/ada@example.com", "/ages/J\u{f6}rg", "/name"];
        let mut differences = paths.map(at);
        maps.veil("cart", &mut differences, &policy);
        let places = differences.each_ref().map(|one| Cause::of("cart", Some(one)).place);
        assert_eq!(places, ["/ages/*", "/ages/*", "/ages/*", "/ages/*", "/name"]);
    }

    #[test]
    fn what_the_routes_own_file_names_stays_named() {
        let pattern = |text: &str| text.parse().expect("a pointer");
        let keep_values = vec![pattern("/users/anab/age"), pattern("/rates/*")];
        let policy = ComparePolicy { keep_values, ..ComparePolicy::default() };
        let mut maps = Maps::default();
        for number in 0..2 * NAMES_MAX {
            shown(&mut maps, &format!("/users/{}/age", user(number)), &policy);
            shown(&mut maps, &format!("/rates/{}", user(number)), &policy);
        }
        assert_eq!(shown(&mut maps, "/users/anab/age", &policy).1, "/users/anab/age");
        assert_eq!(shown(&mut maps, "/users/anac/age", &policy).1, "/users/*/age");
        assert_eq!(shown(&mut maps, "/rates/anac", &policy).1, "/rates/anac");
    }

    #[test]
    fn what_comes_up_at_more_places_than_are_remembered_is_data() {
        let (mut maps, policy) = (Maps::default(), ComparePolicy::default());
        for place in 0..PLACES_MAX as u64 {
            maps.places.insert(place, Place::default());
        }
        assert_eq!(shown(&mut maps, "/total", &policy).1, "/*");
    }
}
