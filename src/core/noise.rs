//! Telling a regression from noise: what differs between two answers of legacy itself cannot be held against extracted.
//!
//! A field is a place without positions together with a kind of difference: that a value changes from answer to answer
//! excuses no missing field. Statistics rest only on triples drawn before anything was known of them (legacy, legacy again,
//! extracted); pairs that were looked at again *because* they differed are evidence of one record each, and never counted here.

pub mod ledger;
pub mod mcnemar;

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::{Comparison, Difference};
use crate::difference::Kind;
use crate::noise::mcnemar::{at_least, lower_rate_difference};
use crate::redact::Cause;
pub use crate::route::VerdictPolicy;

/// Most fields of an endpoint; more are counted and said to be unknown.
pub const FIELDS_MAX: usize = 1_000;
/// Triples from which on all of a route's `max_rps` are no longer spent on an endpoint, whatever is still open: looks are rare by then.
const SPENT_MAX: u64 = 25_600;
/// Triples before the first look; each later look comes at twice as many.
const FIRST_LOOK: u64 = 200;

/// A place without positions, and how answers differ there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldKey {
    /// As in [`Cause::place`].
    pub place: String,
    /// How.
    pub kind: Kind,
}

impl FieldKey {
    /// Of one difference.
    pub fn of(difference: &Difference) -> FieldKey {
        FieldKey { place: Cause::of("", Some(difference)).place, kind: difference.kind }
    }

    /// Of all differences of a pair.
    pub fn all_of(comparison: &Comparison) -> BTreeSet<FieldKey> {
        comparison.differences.iter().map(FieldKey::of).collect()
    }
}

/// What a second look made of one pair that differed. A tag: the record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Nobody looked again: the request must not be repeated, or nothing came of it.
    Unconfirmed,
    /// Asked again, both sides agreed: one of them lagged behind.
    Transient,
    /// Everything that differed differs between two answers of legacy, too.
    Noise,
    /// Something differs that does not differ between two answers of legacy.
    Confirmed,
}

impl Tag {
    /// All of them, in the order above; labels of a metric.
    pub const ALL: [Tag; 4] = [Tag::Unconfirmed, Tag::Transient, Tag::Noise, Tag::Confirmed];

    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tag::Unconfirmed => "unconfirmed",
            Tag::Transient => "transient",
            Tag::Noise => "noise",
            Tag::Confirmed => "confirmed",
        }
    }
}

/// What is left of a pair's differences once those that did not stay and legacy's own are taken away, and what the pair is thereby.
///
/// `rechecks`: what differed each time both were asked again; `a_a`: what differs between two answers of legacy. `None`: not asked, or
/// nothing came of it.
pub fn tag(
    found: &BTreeSet<FieldKey>,
    rechecks: &[BTreeSet<FieldKey>],
    a_a: Option<&BTreeSet<FieldKey>>,
) -> (Tag, BTreeSet<FieldKey>) {
    let stayed = |key: &&FieldKey| rechecks.iter().all(|recheck| recheck.contains(*key));
    let stayed: BTreeSet<FieldKey> = found.iter().filter(stayed).cloned().collect();
    if stayed.is_empty() || rechecks.iter().any(BTreeSet::is_empty) {
        return (Tag::Transient, BTreeSet::new());
    }
    // Without a second answer of legacy, what differs twice may still be what differs always.
    let Some(a_a) = a_a else { return (Tag::Unconfirmed, stayed) };
    let left: BTreeSet<FieldKey> = stayed.difference(a_a).cloned().collect();
    (if left.is_empty() { Tag::Noise } else { Tag::Confirmed }, left)
}

/// What is known of a field, an endpoint or a route; the worst comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldVerdict {
    /// No difference in enough triples.
    Equal,
    /// Only differences that a rule wants.
    Expected,
    /// It differs no more than legacy from itself.
    Noisy,
    /// Too few triples: never green.
    Unknown,
    /// Nothing could be compared.
    NotComparable,
    /// It has differed where legacy agreed with itself; not often enough to be sure.
    Suspect,
    /// It differs more than legacy from itself.
    Divergent,
}

impl FieldVerdict {
    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            FieldVerdict::Equal => "equal",
            FieldVerdict::Expected => "expected",
            FieldVerdict::Noisy => "noisy",
            FieldVerdict::Unknown => "unknown",
            FieldVerdict::NotComparable => "not_comparable",
            FieldVerdict::Suspect => "suspect",
            FieldVerdict::Divergent => "divergent",
        }
    }
}

/// The counts of one field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Field {
    /// Triples in which only extracted differed.
    pub only_extracted: u64,
    /// Triples in which only legacy differed from itself.
    pub only_legacy: u64,
    /// Triples in which both did.
    pub both: u64,
    /// Records that were looked at again, and in which it stayed.
    pub confirmed: u64,
    /// Chance of such counts without a regression, at the last look.
    pub p_value: Option<f64>,
    /// Set by a look, and never taken back: a look more would be a chance more for it to go away.
    pub is_divergent: bool,
}

impl Field {
    /// Triples in which legacy differed from itself.
    pub const fn noise(&self) -> u64 {
        self.only_legacy + self.both
    }
}

/// All that is known of one endpoint (a route and a method).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// Triples so far.
    pub triples: u64,
    /// Pairs of which nothing could be said.
    pub not_comparable: u64,
    /// Pairs that differed only as a rule wants.
    pub expected: u64,
    /// Times that a field was not counted because there were too many.
    pub overflow: u64,
    /// Most fields, where there is less room than for [`FIELDS_MAX`].
    pub fields_max: Option<usize>,
    fields: BTreeMap<FieldKey, Field>,
}

impl Endpoint {
    /// Counts a triple that was drawn before anything was known of it: what differs between legacy and extracted, and what
    /// between two answers of legacy.
    pub fn observe(&mut self, found: &BTreeSet<FieldKey>, a_a: &BTreeSet<FieldKey>, policy: &VerdictPolicy) {
        self.triples += 1;
        for key in found.union(a_a) {
            let Some(field) = self.field(key) else { continue };
            match (found.contains(key), a_a.contains(key)) {
                (true, true) => field.both += 1,
                (true, false) => field.only_extracted += 1,
                (false, _) => field.only_legacy += 1,
            }
        }
        if let Some(look) = look(self.triples) {
            self.look(look, policy);
        }
    }

    /// Counts a record that was looked at again, by what stayed of it.
    pub fn confirm(&mut self, left: &BTreeSet<FieldKey>) {
        for key in left {
            if let Some(field) = self.field(key) {
                field.confirmed += 1;
            }
        }
    }

    fn field(&mut self, key: &FieldKey) -> Option<&mut Field> {
        if !self.fields.contains_key(key) {
            if self.fields.len() >= self.fields_max.unwrap_or(FIELDS_MAX).min(FIELDS_MAX) {
                self.overflow += 1;
                return None;
            }
            self.fields.insert(key.clone(), Field::default());
        }
        self.fields.get_mut(key)
    }

    /// The `number`th look, from 1: half the chance of the one before is spent on it, so that all of them together spend less than `alpha`.
    fn look(&mut self, number: i32, policy: &VerdictPolicy) {
        let threshold = policy.alpha / 2f64.powi(number);
        let mut chances: Vec<f64> = Vec::with_capacity(self.fields.len());
        for field in self.fields.values_mut() {
            let p = at_least(field.only_extracted, field.only_extracted + field.only_legacy);
            field.p_value = Some(p);
            chances.push(p);
        }
        let most = mcnemar::most_by_false_discovery(&mut chances, policy.fdr);
        for field in self.fields.values_mut() {
            let is_large = || {
                let least = lower_rate_difference(field.only_extracted, field.only_legacy, self.triples);
                least > policy.min_effect
            };
            field.is_divergent |= field.p_value.is_some_and(|p| p <= threshold && p <= most) && is_large();
        }
    }

    /// Fields that ever differed, and what is known of each.
    pub fn fields(&self, policy: &VerdictPolicy) -> impl Iterator<Item = (&FieldKey, &Field, FieldVerdict)> {
        let policy = *policy;
        self.fields.iter().map(move |(key, field)| (key, field, self.verdict_of(field, &policy)))
    }

    /// How many there are.
    pub fn fields_count(&self) -> usize {
        self.fields.len()
    }

    fn verdict_of(&self, field: &Field, policy: &VerdictPolicy) -> FieldVerdict {
        let has_enough = self.triples >= policy.min_pairs;
        if field.is_divergent {
            FieldVerdict::Divergent
        } else if field.noise() > 0 && has_enough {
            FieldVerdict::Noisy
        } else if field.confirmed > 0 || field.only_extracted > 0 {
            FieldVerdict::Suspect
        } else if has_enough {
            FieldVerdict::Equal
        } else {
            FieldVerdict::Unknown
        }
    }

    /// Whether legacy differs from itself so often that no triple can tell: only a rule can.
    pub fn is_blind(&self, field: &Field, policy: &VerdictPolicy) -> bool {
        self.triples >= policy.min_pairs && field.noise() * 2 > self.triples
    }

    /// Whether more triples would hardly tell more: every field has a verdict.
    pub fn is_settled(&self, policy: &VerdictPolicy) -> bool {
        let is_open = |verdict| matches!(verdict, FieldVerdict::Suspect | FieldVerdict::Unknown);
        self.triples >= SPENT_MAX
            || (self.triples >= policy.min_pairs.max(FIRST_LOOK) && !self.fields(policy).any(|(.., it)| is_open(it)))
    }

    /// Triples at which the next look comes.
    pub fn next_look(&self) -> u64 {
        let mut at = FIRST_LOOK;
        while at <= self.triples {
            at = at.saturating_mul(2);
        }
        at
    }

    /// Upper bound (95 %) of the rate of a difference that was never seen; `None`: nothing was seen at all.
    pub fn unseen_rate_max(&self) -> Option<f64> {
        (self.triples > 0).then(|| 3.0 / mcnemar::real(self.triples))
    }

    /// The worst of its fields, and what is known beside them.
    pub fn verdict(&self, policy: &VerdictPolicy) -> FieldVerdict {
        let worst = self.fields(policy).map(|(.., verdict)| verdict).max();
        let rest = match self.triples {
            0 if self.not_comparable > 0 => FieldVerdict::NotComparable,
            triples if triples < policy.min_pairs || self.overflow > 0 => FieldVerdict::Unknown,
            _ if self.expected > 0 => FieldVerdict::Expected,
            _ => FieldVerdict::Equal,
        };
        worst.map_or(rest, |worst| worst.max(rest))
    }
}

/// The worst of a route's endpoints; one without any is unknown.
pub fn route_verdict<'e>(endpoints: impl IntoIterator<Item = &'e Endpoint>, policy: &VerdictPolicy) -> FieldVerdict {
    endpoints.into_iter().map(|endpoint| endpoint.verdict(policy)).max().unwrap_or(FieldVerdict::Unknown)
}

/// Which look comes at so many triples, from 1: at 200, 400, 800, …
fn look(triples: u64) -> Option<i32> {
    let times = triples / FIRST_LOOK;
    (triples.is_multiple_of(FIRST_LOOK) && times.is_power_of_two())
        .then(|| i32::try_from(times.trailing_zeros() + 1).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests;
