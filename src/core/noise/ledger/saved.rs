//! What outlives the process of the book of endpoints: its counts, as JSON, a piece for each route.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::difference::Kind;
use crate::name::RouteName;
use crate::noise::ledger::{FIELDS_MAX, Kept, Ledger, METHODS_MAX, Of, RouteBook};
use crate::noise::{Endpoint, Field, FieldKey, Tag};
use crate::route::ComparePolicy;
use crate::runtime::Release;

/// What is known of one route, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRoute {
    /// The route.
    pub route: RouteName,
    /// Its counts. Nothing but this module reads them.
    pub counts: String,
}

#[derive(Serialize, Deserialize)]
struct Counts {
    release: Option<String>,
    methods: Vec<OfMethod>,
}

#[derive(Serialize, Deserialize)]
struct OfMethod {
    method: String,
    /// How the two were compared, see [`ComparePolicy::measure_mark`].
    mark: u64,
    triples: u64,
    not_comparable: u64,
    expected: u64,
    overflow: u64,
    results: [u64; 4],
    tags: [u64; Tag::ALL.len()],
    fields: Vec<OfField>,
}

#[derive(Serialize, Deserialize)]
struct OfField {
    place: String,
    kind: String,
    only_extracted: u64,
    only_legacy: u64,
    both: u64,
    confirmed: u64,
    p_value: Option<f64>,
    is_divergent: bool,
    suggestion: Option<String>,
}

impl Ledger {
    /// What has changed since the last call, at most `most` routes of it.
    pub fn take_unsaved(&mut self, most: usize) -> Vec<SavedRoute> {
        let changed = self.routes.iter_mut().filter(|(_, book)| book.is_unsaved).take(most);
        let saved = changed.map(|(route, book)| {
            book.is_unsaved = false;
            SavedRoute { route: route.clone(), counts: book.to_json() }
        });
        saved.collect()
    }

    /// Says that it was not written.
    pub fn put_back(&mut self, unsaved: &[SavedRoute]) {
        for saved in unsaved {
            if let Some(book) = self.routes.get_mut(&saved.route) {
                book.is_unsaved = true;
            }
        }
    }

    /// Adds what an earlier process knew of a route, as far as it compared as `policy` does. What cannot be read is left out: it proves
    /// nothing. Of another release than the one that answers by now, nothing is taken.
    pub fn load(&mut self, saved: &SavedRoute, policy: &Arc<ComparePolicy>) {
        let Ok(counts) = serde_json::from_str::<Counts>(&saved.counts) else { return };
        let mark = policy.measure_mark();
        let release = counts.release.as_deref().and_then(Release::new);
        {
            let Some(book) = self.book(&saved.route) else { return };
            if book.release.is_some() && book.release != release {
                return;
            }
            book.release = release;
        }
        for one in counts.methods.into_iter().take(METHODS_MAX).filter(|one| one.mark == mark) {
            let Ok(method) = one.method.parse::<Method>() else { continue };
            let room = FIELDS_MAX.saturating_sub(self.fields);
            let Some(kept) = self.of(Of { route: &saved.route, method: &method, policy }) else { continue };
            let before = kept.endpoint.fields_count();
            kept.endpoint.fields_max = Some(before.saturating_add(room));
            kept.add(one);
            let more = kept.endpoint.fields_count() - before;
            self.fields += more;
        }
    }
}

impl RouteBook {
    fn to_json(&self) -> String {
        let release = self.release.as_ref().map(ToString::to_string);
        let counts = Counts { release, methods: self.methods.iter().map(Kept::saved).collect() };
        // Of numbers and text alone: there is nothing in it that JSON has no form for.
        serde_json::to_string(&counts).unwrap_or_default()
    }
}

impl Kept {
    fn saved(&self) -> OfMethod {
        let Endpoint { triples, not_comparable, expected, overflow, fields_max: _, ref fields } = self.endpoint;
        OfMethod {
            method: self.method.as_str().to_owned(),
            mark: self.policy.measure_mark(),
            triples,
            not_comparable,
            expected,
            overflow,
            results: self.results,
            tags: self.tags,
            fields: fields.iter().map(|(key, field)| of_field(key, field, &self.suggestions)).collect(),
        }
    }

    /// Sums: each pair was counted by one process.
    fn add(&mut self, saved: OfMethod) {
        let endpoint = &mut self.endpoint;
        endpoint.triples = endpoint.triples.saturating_add(saved.triples);
        endpoint.not_comparable = endpoint.not_comparable.saturating_add(saved.not_comparable);
        endpoint.expected = endpoint.expected.saturating_add(saved.expected);
        endpoint.overflow = endpoint.overflow.saturating_add(saved.overflow);
        let sums = self.results.iter_mut().zip(saved.results).chain(self.tags.iter_mut().zip(saved.tags));
        sums.for_each(|(sum, count)| *sum = sum.saturating_add(count));
        for one in saved.fields {
            let Some(kind) = Kind::of(&one.kind) else { continue };
            let key = FieldKey { place: one.place, kind };
            let Some(field) = self.endpoint.field(&key) else { continue };
            field.only_extracted = field.only_extracted.saturating_add(one.only_extracted);
            field.only_legacy = field.only_legacy.saturating_add(one.only_legacy);
            field.both = field.both.saturating_add(one.both);
            field.confirmed = field.confirmed.saturating_add(one.confirmed);
            field.p_value = one.p_value.or(field.p_value);
            field.is_divergent |= one.is_divergent;
            if let Some(suggestion) = one.suggestion {
                self.suggestions.entry(key).or_insert(suggestion);
            }
        }
    }
}

fn of_field(key: &FieldKey, field: &Field, suggestions: &BTreeMap<FieldKey, String>) -> OfField {
    let Field { only_extracted, only_legacy, both, confirmed, p_value, is_divergent } = *field;
    OfField {
        place: key.place.clone(),
        kind: key.kind.as_str().to_owned(),
        only_extracted,
        only_legacy,
        both,
        confirmed,
        p_value: p_value.filter(|p| p.is_finite()),
        is_divergent,
        suggestion: suggestions.get(key).cloned(),
    }
}
