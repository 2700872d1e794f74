//! What is known of every endpoint, by route and method: counted by whoever compares, read by people and programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde::Serialize;

use crate::compare::{Comparison, ComparisonResult};
use crate::name::RouteName;
use crate::noise::mcnemar::{lower_rate_difference, real};
use crate::noise::{Endpoint, Field, FieldKey, FieldVerdict, Tag, VerdictPolicy};
use crate::redact::Cause;
use crate::release::Recent;
use crate::route::ComparePolicy;
use crate::runtime::Release;

mod saved;

pub use saved::SavedRoute;

/// Most routes that are kept book of; more are counted and left out.
pub const ROUTES_MAX: usize = 10_000;
/// Most fields of all endpoints together.
pub const FIELDS_MAX: usize = 100_000;
/// Most methods of a route.
const METHODS_MAX: usize = 8;
/// Fields of an endpoint that are shown, the worst first.
pub const SHOWN_MAX: usize = 200;

/// The book of all endpoints.
#[derive(Debug, Default)]
pub struct Ledger {
    routes: BTreeMap<RouteName, RouteBook>,
    fields: usize,
    /// Endpoints that found no room.
    pub left_out: u64,
}

/// What is known of one route.
#[derive(Debug, Default)]
struct RouteBook {
    methods: Vec<Kept>,
    /// What extracted's last answers named.
    recent: Recent,
    /// Whose answers were compared; `None`: they named none.
    release: Option<Release>,
    /// Whether something has changed since it was saved.
    is_unsaved: bool,
}

#[derive(Debug)]
struct Kept {
    method: Method,
    policy: Arc<ComparePolicy>,
    endpoint: Endpoint,
    results: [u64; 4],
    tags: [u64; Tag::ALL.len()],
    suggestions: BTreeMap<FieldKey, String>,
}

/// Places of [`Kept::results`].
const EQUAL: usize = 0;
const DIFFERENT: usize = 1;
const FAILED: usize = 2;
const AUTH: usize = 3;

/// Whose answers are counted, and how they were compared.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// The route.
    pub route: &'a RouteName,
    /// The request's method.
    pub method: &'a Method,
    /// By which the two were compared.
    pub policy: &'a Arc<ComparePolicy>,
}

impl Ledger {
    /// Counts a pair.
    pub fn pair(&mut self, of: Of<'_>, comparison: &Comparison) {
        let Some(kept) = self.of(of) else { return };
        let place = match comparison.result {
            ComparisonResult::Match | ComparisonResult::BothError => EQUAL,
            ComparisonResult::Mismatch if comparison.by_kind.iter().any(|(kind, _)| kind.is_auth()) => AUTH,
            ComparisonResult::Mismatch => DIFFERENT,
            ComparisonResult::Failed => FAILED,
            ComparisonResult::Expected => return kept.endpoint.expected += 1,
            ComparisonResult::NotComparable(_) => return kept.endpoint.not_comparable += 1,
        };
        if let Some(count) = kept.results.get_mut(place) {
            *count += 1;
        }
    }

    /// Counts a triple that was drawn before anything was known of it; `a_a` compares two answers of legacy. Says whether more of them
    /// would hardly tell more.
    pub fn triple(&mut self, of: Of<'_>, found: &Comparison, a_a: &Comparison) -> bool {
        let is_known = |one: &Comparison| !matches!(one.result, ComparisonResult::NotComparable(_));
        let room = FIELDS_MAX.saturating_sub(self.fields);
        let Some(kept) = self.of(of) else { return true };
        if is_known(found) && is_known(a_a) {
            let before = kept.endpoint.fields_count();
            kept.endpoint.fields_max = Some(before.saturating_add(room));
            let [in_found, in_a_a] = [found, a_a].map(FieldKey::all_of);
            kept.endpoint.observe(&in_found, &in_a_a, &kept.policy.verdict);
            let more = kept.endpoint.fields_count() - before;
            // What legacy itself says otherwise each time is what a rule may forgive.
            for difference in &a_a.differences {
                if let Some(rule) = Cause::of("", Some(difference)).suggestion {
                    kept.suggestions.insert(FieldKey::of(difference), rule);
                }
            }
            let is_settled = kept.endpoint.is_settled(&kept.policy.verdict);
            self.fields += more;
            return is_settled;
        }
        kept.endpoint.is_settled(&kept.policy.verdict)
    }

    /// Counts a record that was looked at again, and what stayed of it.
    pub fn tagged(&mut self, of: Of<'_>, tag: Tag, left: &std::collections::BTreeSet<FieldKey>) {
        let room = FIELDS_MAX.saturating_sub(self.fields);
        let Some(kept) = self.of(of) else { return };
        if let Some(count) = kept.tags.get_mut(tag as usize) {
            *count += 1;
        }
        if tag == Tag::Confirmed {
            let before = kept.endpoint.fields_count();
            kept.endpoint.fields_max = Some(before.saturating_add(room));
            kept.endpoint.confirm(left);
            let more = kept.endpoint.fields_count() - before;
            self.fields += more;
        }
    }

    /// Takes what an answer of extracted names. Another release begins anew: what is known is of the one before, and a field that
    /// was mended must not stay divergent for ever. Says whether it did.
    pub fn note_release(&mut self, route: &RouteName, named: Option<Release>) -> bool {
        let Some(book) = self.book(route) else { return false };
        book.recent.note(named);
        let Some(now) = book.recent.release().filter(|now| book.release.as_ref() != Some(*now)).cloned() else {
            return false;
        };
        // One that was there from the first answer on is no other one.
        let is_other = book.release.is_some() || !book.recent.is_begun_with(&now);
        book.release = Some(now);
        book.is_unsaved = true;
        is_other && self.forget(route)
    }

    /// Begins anew with a route; says whether anything was known of it.
    pub fn forget(&mut self, route: &RouteName) -> bool {
        let Some(book) = self.routes.get_mut(route) else { return false };
        let forgotten = std::mem::take(&mut book.methods);
        let fields: usize = forgotten.iter().map(|kept| kept.endpoint.fields_count()).sum();
        self.fields = self.fields.saturating_sub(fields);
        book.is_unsaved |= !forgotten.is_empty();
        !forgotten.is_empty()
    }

    fn book(&mut self, route: &RouteName) -> Option<&mut RouteBook> {
        if !self.routes.contains_key(route) {
            if self.routes.len() >= ROUTES_MAX {
                self.left_out += 1;
                return None;
            }
            self.routes.insert(route.clone(), RouteBook::default());
        }
        self.routes.get_mut(route)
    }

    /// Begins anew where the two are compared otherwise than before.
    fn of(&mut self, of: Of<'_>) -> Option<&mut Kept> {
        self.book(of.route)?.is_unsaved = true;
        let methods = &mut self.routes.get_mut(of.route)?.methods;
        let place = methods.iter().position(|kept| kept.method == *of.method);
        let kept = match place {
            Some(place) => methods.get_mut(place)?,
            None if methods.len() >= METHODS_MAX => {
                self.left_out += 1;
                return None;
            }
            None => {
                methods.push(Kept::new(of));
                methods.last_mut()?
            }
        };
        if !Arc::ptr_eq(&kept.policy, of.policy) {
            if kept.policy.measures_as(of.policy) {
                kept.policy = Arc::clone(of.policy);
            } else {
                self.fields = self.fields.saturating_sub(kept.endpoint.fields_count());
                *kept = Kept::new(of);
            }
        }
        Some(kept)
    }

    /// Forgets the routes that are no more.
    pub fn retain(&mut self, is_there: impl Fn(&RouteName) -> bool) {
        self.routes.retain(|route, _| is_there(route));
        self.fields =
            self.routes.values().flat_map(|book| &book.methods).map(|kept| kept.endpoint.fields_count()).sum();
    }

    /// The worst verdict of each route's endpoints.
    pub fn verdicts(&self) -> impl Iterator<Item = (&RouteName, FieldVerdict)> {
        self.routes.iter().map(|(route, book)| {
            let worst = book.methods.iter().map(|kept| kept.endpoint.verdict(&kept.policy.verdict)).max();
            (route, worst.unwrap_or(FieldVerdict::Unknown))
        })
    }

    /// The verdict of one route; `None`: nothing was compared.
    pub fn verdict_of(&self, route: &str) -> Option<FieldVerdict> {
        self.routes.get(route)?.methods.iter().map(|kept| kept.endpoint.verdict(&kept.policy.verdict)).max()
    }

    /// Everything about one route, or about all; at most `most` endpoints.
    pub fn report(&self, route: Option<&str>, most: usize) -> Vec<EndpointReport> {
        let wanted = self.routes.iter().filter(|(name, _)| route.is_none_or(|route| name.as_str() == route));
        let reports = |(name, book): (&RouteName, &'_ RouteBook)| {
            let release = book.release.as_ref();
            book.methods.iter().map(|kept| kept.report(name, release)).collect::<Vec<_>>()
        };
        wanted.flat_map(reports).take(most).collect()
    }
}

impl Kept {
    fn new(of: Of<'_>) -> Kept {
        Kept {
            method: of.method.clone(),
            policy: Arc::clone(of.policy),
            endpoint: Endpoint::default(),
            results: [0; 4],
            tags: [0; Tag::ALL.len()],
            suggestions: BTreeMap::new(),
        }
    }

    fn report(&self, route: &RouteName, release: Option<&Release>) -> EndpointReport {
        let policy = &self.policy.verdict;
        let mut fields: Vec<FieldReport> =
            self.endpoint.fields(policy).map(|(key, field, verdict)| self.field(key, field, verdict)).collect();
        fields.sort_by(|a, b| {
            let weight = |it: &FieldReport| (it.rank, it.confirmed, it.only_extracted + it.only_legacy + it.both);
            weight(b).cmp(&weight(a)).then_with(|| a.place.cmp(&b.place))
        });
        let left_out = fields.len().saturating_sub(SHOWN_MAX);
        fields.truncate(SHOWN_MAX);
        let [equal, different, failed, auth_mismatch] = self.results;
        let [unconfirmed, transient, noise, confirmed] = self.tags;
        EndpointReport {
            route: route.as_str().to_owned(),
            method: self.method.as_str().to_owned(),
            release: release.map(ToString::to_string),
            verdict: self.endpoint.verdict(policy).as_str(),
            why: why(&self.endpoint, policy),
            equal,
            different,
            failed,
            auth_mismatch,
            expected: self.endpoint.expected,
            not_comparable: self.endpoint.not_comparable,
            looks: Looks { confirmed, noise, transient, unconfirmed },
            triples: self.endpoint.triples,
            next_look_at: self.endpoint.next_look(),
            unseen_rate_max: self.endpoint.unseen_rate_max(),
            fields,
            fields_left_out: left_out,
            fields_not_counted: self.endpoint.overflow,
        }
    }

    fn field(&self, key: &FieldKey, field: &Field, verdict: FieldVerdict) -> FieldReport {
        let triples = self.endpoint.triples;
        let is_blind = self.endpoint.is_blind(field, &self.policy.verdict);
        let suggestion = self.suggestions.get(key).cloned();
        let rate = |count: u64| if triples == 0 { 0.0 } else { real(count) / real(triples) };
        FieldReport {
            place: key.place.clone(),
            kind: key.kind.as_str(),
            verdict: verdict.as_str(),
            rank: verdict,
            only_extracted: field.only_extracted,
            only_legacy: field.only_legacy,
            both: field.both,
            confirmed: field.confirmed,
            noise_rate: rate(field.noise()),
            noise_rate_max: (field.noise() == 0).then(|| self.endpoint.unseen_rate_max()).flatten(),
            rise: rate(field.only_extracted) - rate(field.only_legacy),
            rise_least: lower_rate_difference(field.only_extracted, field.only_legacy, triples),
            rise_most: -lower_rate_difference(field.only_legacy, field.only_extracted, triples),
            p_value: field.p_value,
            is_blind,
            advice: is_blind.then_some(match &suggestion {
                Some(_) => "A/A cannot test this field, add a normaliser: the suggested rule, if it says what is meant",
                None => "A/A cannot test this field, add a normaliser",
            }),
            suggestion: suggestion.filter(|_| field.noise() > 0),
        }
    }
}

/// In a sentence what stands behind an endpoint's verdict.
fn why(endpoint: &Endpoint, policy: &VerdictPolicy) -> String {
    let triples = endpoint.triples;
    match endpoint.verdict(policy) {
        FieldVerdict::Equal => {
            format!("no difference in {triples} samples (so at most {:.2} %)", 300.0 / real(triples.max(1)))
        }
        FieldVerdict::Expected => "differs only as a rule wants".to_owned(),
        FieldVerdict::Noisy => format!("differs no more than legacy from itself, in {triples} samples"),
        FieldVerdict::Unknown if endpoint.overflow > 0 => "more fields differ than are counted".to_owned(),
        FieldVerdict::Unknown => format!("{triples} of {} samples: too few to say anything", policy.min_pairs),
        FieldVerdict::NotComparable => format!("none of {} pairs could be compared", endpoint.not_comparable),
        FieldVerdict::Suspect => {
            format!("has differed where legacy agreed with itself; {triples} samples are too few to be sure")
        }
        FieldVerdict::Divergent => format!("differs more than legacy from itself, in {triples} samples"),
    }
}

/// What is known of an endpoint, as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointReport {
    /// The route's name.
    pub route: String,
    /// The method.
    pub method: String,
    /// The release of extracted whose answers were compared; `None`: they name none.
    pub release: Option<String>,
    /// The worst of its fields.
    pub verdict: &'static str,
    /// The same as a sentence.
    pub why: String,
    /// Pairs that were equal.
    pub equal: u64,
    /// Pairs that differed.
    pub different: u64,
    /// Pairs in which a side failed.
    pub failed: u64,
    /// Pairs in which one side alone said 401, 403 or 419.
    pub auth_mismatch: u64,
    /// Pairs that differed only as a rule wants.
    pub expected: u64,
    /// Pairs of which nothing could be said.
    pub not_comparable: u64,
    /// What second looks made of pairs that differed.
    pub looks: Looks,
    /// Requests asked of legacy twice, before anything was known.
    pub triples: u64,
    /// At how many of them is looked next.
    pub next_look_at: u64,
    /// A difference that was never seen has at most this rate (95 %).
    pub unseen_rate_max: Option<f64>,
    /// Those that ever differed, the worst first; at most [`SHOWN_MAX`].
    pub fields: Vec<FieldReport>,
    /// Fields beyond those.
    pub fields_left_out: usize,
    /// Times that a field was not counted because there were too many.
    pub fields_not_counted: u64,
}

/// What second looks made of pairs that differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Looks {
    /// Something stayed that does not differ between two answers of legacy.
    pub confirmed: u64,
    /// All of it differs between two answers of legacy, too.
    pub noise: u64,
    /// The difference was gone.
    pub transient: u64,
    /// Nothing came of it.
    pub unconfirmed: u64,
}

/// What is known of a field, as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldReport {
    /// As in [`Cause::place`].
    pub place: String,
    /// How it differs.
    pub kind: &'static str,
    /// What is known.
    pub verdict: &'static str,
    #[serde(skip)]
    rank: FieldVerdict,
    /// Samples in which only extracted differed.
    pub only_extracted: u64,
    /// Samples in which only legacy differed from itself.
    pub only_legacy: u64,
    /// Samples in which both did.
    pub both: u64,
    /// Records that were looked at again, and in which it stayed.
    pub confirmed: u64,
    /// How often legacy differs from itself, 0 to 1.
    pub noise_rate: f64,
    /// At most so often (95 %), where it was never seen to.
    pub noise_rate_max: Option<f64>,
    /// How much more often extracted differs.
    pub rise: f64,
    /// Lower end of its 95 % interval.
    pub rise_least: f64,
    /// Upper end.
    pub rise_most: f64,
    /// Chance of such counts without a regression, at the last look.
    pub p_value: Option<f64>,
    /// Legacy differs from itself so often that no sample can tell.
    pub is_blind: bool,
    /// What to do about that.
    pub advice: Option<&'static str>,
    /// A rule that would take the noise for no difference. Never applied by itself.
    pub suggestion: Option<String>,
}

#[cfg(test)]
mod tests;
