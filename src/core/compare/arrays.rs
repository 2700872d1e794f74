//! Two arrays: by position, wherever elements fit, or by a key of theirs.

use std::collections::BTreeMap;

use crate::compare::differences::Unmatched;
use crate::compare::json::Walk;
use crate::compare::matching::perfect;
use crate::compare::rules::{Pairing, StepRef};
use crate::compare::spelling::shown;
use crate::compare::values::text_of;
use crate::difference::Kind;
use crate::json::Json;

/// Most elements that are put into another order, or paired wherever they stand.
pub(crate) const ITEMS_MAX: usize = 10_000;

/// What pairs elements: the kind of value and the value in one spelling.
type Key = (&'static str, String);

impl<'r, 'a> Walk<'_, 'r, 'a>
where
    'r: 'a,
{
    pub(super) fn arrays(
        &mut self,
        left: &'a [Json<'_>],
        right: &'a [Json<'_>],
        legacy: &'a Json<'_>,
        extracted: &'a Json<'_>,
    ) {
        let (pairing, rule) = self.found.rules.pairing(&self.path, self.json);
        if let Some(rule) = rule {
            self.found.used(rule);
        }
        match pairing {
            Pairing::Key(key) => self.keyed(key, left, right, legacy, extracted),
            _ if left.len() != right.len() => {
                let unmatched = self.unmatched(left, right);
                self.push_arrays(Kind::ArrayLength, legacy, extracted, unmatched);
            }
            Pairing::Position => self.in_order(left, right, legacy, extracted),
            Pairing::Any => self.in_any_order(left, right, legacy, extracted),
        }
    }

    fn in_order(&mut self, left: &'a [Json<'_>], right: &'a [Json<'_>], legacy: &'a Json<'_>, extracted: &'a Json<'_>) {
        let mark = self.found.mark();
        let mut differing = Vec::new();
        for (index, (left, right)) in left.iter().zip(right).enumerate() {
            let before = self.found.total();
            self.path.push(StepRef::Index(index));
            self.values(left, right);
            self.path.pop();
            if self.found.total() != before {
                differing.push((left, right));
            }
            if self.is_settled() {
                return;
            }
        }
        if differing.is_empty() {
            return;
        }
        if self.found.rules.has_positions() {
            // A rule for one position must not hide that the elements of all positions are the same ones.
            differing = left.iter().zip(right).collect();
        }
        if (2..=ITEMS_MAX).contains(&differing.len()) && self.is_reordered(&differing) {
            self.found.rewind(mark);
            self.push(Kind::ArrayOrder, None, Some(legacy), Some(extracted));
        }
    }

    /// Whether both sides have the same elements, wherever they stand. That a hash is no proof does no harm: what it finds alike is still reported.
    fn is_reordered(&mut self, pairs: &[(&'a Json<'_>, &'a Json<'_>)]) -> bool {
        let mut hashes = || {
            let mut lefts = Vec::with_capacity(pairs.len());
            let mut rights = Vec::with_capacity(pairs.len());
            for (left, right) in pairs {
                lefts.push(self.hash_of_element(left)?);
                rights.push(self.hash_of_element(right)?);
            }
            Some((lefts, rights))
        };
        let Some((mut lefts, mut rights)) = hashes() else { return false };
        lefts.sort_unstable();
        rights.sort_unstable();
        lefts == rights
    }

    fn in_any_order(
        &mut self,
        left: &'a [Json<'_>],
        right: &'a [Json<'_>],
        legacy: &'a Json<'_>,
        extracted: &'a Json<'_>,
    ) {
        let (Some(lefts), Some(rights)) = (self.hashes(left), self.hashes(right)) else {
            self.is_undecided = true;
            return;
        };
        let pairs = match by_hash(&lefts, &rights) {
            Some(pairs) => Some(pairs),
            None if self.is_spelled() => None,
            None if left.len() > ITEMS_MAX => {
                self.is_undecided = true;
                return;
            }
            None => {
                let Some(fits) = self.fits(left, right, &lefts, &rights) else {
                    self.is_undecided = true;
                    return;
                };
                perfect(&fits, right.len())
            }
        };
        let Some(pairs) = pairs else {
            let unmatched = unmatched(left, right, &lefts, &rights);
            return self.push_arrays(Kind::ArrayContent, legacy, extracted, unmatched);
        };
        // What was forgiven on the way is noted, now that it is known which belong together.
        if self.trial.is_none() {
            self.path.push(StepRef::AnyIndex);
            for (left, place) in left.iter().zip(pairs) {
                if let Some(right) = right.get(place as usize) {
                    self.values(left, right);
                }
            }
            self.path.pop();
        }
    }

    fn hashes(&mut self, items: &'a [Json<'_>]) -> Option<Vec<u128>> {
        items.iter().map(|item| self.hash_of_element(item)).collect()
    }

    /// Of each left element, the right ones that it equals; `None`: too much work.
    fn fits(
        &mut self,
        left: &'a [Json<'_>],
        right: &'a [Json<'_>],
        lefts: &[u128],
        rights: &[u128],
    ) -> Option<Vec<Vec<u32>>> {
        let mut fits = Vec::with_capacity(left.len());
        for (left, left_hash) in left.iter().zip(lefts) {
            let mut row = Vec::new();
            for (place, (right, right_hash)) in (0u32..).zip(right.iter().zip(rights)) {
                if left_hash == right_hash || self.is_same(left, right)? {
                    row.push(place);
                }
            }
            if row.is_empty() {
                // One without a partner settles it.
                return Some(vec![row]);
            }
            fits.push(row);
        }
        Some(fits)
    }

    /// Whether two elements would be found equal; leaves no trace. `None`: not found out.
    fn is_same(&mut self, left: &'a Json<'_>, right: &'a Json<'_>) -> Option<bool> {
        let mark = self.found.mark();
        let outer = self.trial.replace(self.found.total());
        let hits = self.found.rules_hit().clone();
        let was_undecided = std::mem::take(&mut self.is_undecided);
        self.path.push(StepRef::AnyIndex);
        self.values(left, right);
        self.path.pop();
        let is_same = Some(self.found.total()) == self.trial;
        let is_open = (is_same && self.is_undecided) || self.work_left == 0;
        self.is_undecided = was_undecided;
        *self.found.rules_hit() = hits;
        self.trial = outer;
        self.found.rewind(mark);
        (!is_open).then_some(is_same)
    }

    /// What only one side has, for show: by hash, and nothing when that is too much work.
    fn unmatched(&mut self, left: &'a [Json<'_>], right: &'a [Json<'_>]) -> Unmatched {
        if self.trial.is_some() || left.len().max(right.len()) > ITEMS_MAX {
            return Unmatched::default();
        }
        match (self.hashes(left), self.hashes(right)) {
            (Some(lefts), Some(rights)) => unmatched(left, right, &lefts, &rights),
            _ => Unmatched::default(),
        }
    }

    /// By a member of each element. Those of one key are compared, wherever they stand; a key on one side only is missing or extra.
    fn keyed(
        &mut self,
        name: &'r str,
        left: &'a [Json<'_>],
        right: &'a [Json<'_>],
        legacy: &'a Json<'_>,
        extracted: &'a Json<'_>,
    ) {
        let (Some(lefts), Some(rights)) = (by_key(name, left), by_key(name, right)) else {
            // An element without the key cannot be paired: that is no array of the kind that the rule speaks of.
            if left.len() == right.len() {
                return self.in_order(left, right, legacy, extracted);
            }
            let unmatched = self.unmatched(left, right);
            return self.push_arrays(Kind::ArrayLength, legacy, extracted, unmatched);
        };
        let none = Vec::new();
        let keys: std::collections::BTreeSet<&Key> = lefts.keys().chain(rights.keys()).collect();
        for key in keys {
            let (left, right) = (lefts.get(key).unwrap_or(&none), rights.get(key).unwrap_or(&none));
            let Some(value) = left.first().or(right.first()).map(|(value, _)| *value) else { continue };
            self.path.push(StepRef::Item { key: name, value });
            match (&left[..], &right[..]) {
                ([(_, left)], [(_, right)]) => self.values(left, right),
                ([(_, left)], []) => self.push(Kind::Missing, None, Some(left), None),
                ([], [(_, right)]) => self.push(Kind::Extra, None, None, Some(right)),
                (left, right) => self.of_one_key(left, right),
            }
            self.path.pop();
            if self.is_settled() {
                return;
            }
        }
    }

    /// A key that is there more than once pairs nothing: only the same elements in the same order are equal.
    fn of_one_key(&mut self, left: &[(&'a str, &'a Json<'a>)], right: &[(&'a str, &'a Json<'a>)]) {
        let mark = self.found.mark();
        let before = self.found.total();
        if left.len() == right.len() {
            for ((_, left), (_, right)) in left.iter().zip(right) {
                self.values(left, right);
            }
            if self.found.total() == before {
                return;
            }
        }
        self.found.rewind(mark);
        let [left, right] = [left, right].map(|items| items.last().map(|(_, item)| *item));
        self.push(Kind::DuplicateKey, None, left, right);
    }
}

type Keyed<'a> = BTreeMap<Key, Vec<(&'a str, &'a Json<'a>)>>;

/// Elements by what their member says; `None`: one has no such member, or no single one, or it is no single value.
fn by_key<'a>(name: &str, items: &'a [Json<'_>]) -> Option<Keyed<'a>> {
    let mut out = Keyed::new();
    for item in items {
        let Json::Object(object) = item else { return None };
        let mut members = object.members.iter().filter(|(key, _)| key == name);
        let (Some((_, value)), None) = (members.next(), members.next()) else { return None };
        let written: &'a str = match value {
            Json::Number(number) => number.as_str(),
            Json::String(text) => text,
            Json::Bool(true) => "true",
            Json::Bool(false) => "false",
            Json::Null | Json::Array(_) | Json::Object(_) => return None,
        };
        let spelled = if let Json::Number(number) = value {
            number.canonical().to_string()
        } else {
            text_of(value)?.into_owned()
        };
        out.entry((value.type_name(), spelled)).or_default().push((written, item));
    }
    Some(out)
}

/// The right partner of each left element, where both sides have the same hashes equally often.
fn by_hash(lefts: &[u128], rights: &[u128]) -> Option<Vec<u32>> {
    let (left_order, right_order) = (sorted(lefts), sorted(rights));
    let mut pairs = vec![0; lefts.len()];
    for ((left_hash, left), (right_hash, right)) in left_order.iter().zip(&right_order) {
        if left_hash != right_hash {
            return None;
        }
        *pairs.get_mut(*left as usize)? = *right;
    }
    Some(pairs)
}

fn sorted(hashes: &[u128]) -> Vec<(u128, u32)> {
    let mut order: Vec<(u128, u32)> = hashes.iter().copied().zip(0..).collect();
    order.sort_unstable();
    order
}

/// Elements whose hash the other side has less often.
fn unmatched(left: &[Json<'_>], right: &[Json<'_>], lefts: &[u128], rights: &[u128]) -> Unmatched {
    let only = |items: &[Json<'_>], own: &[u128], others: &[u128]| {
        let mut others = sorted(others);
        let mut out = Vec::new();
        for (item, hash) in items.iter().zip(own) {
            // Each of the other side's is a partner once; those given away are marked by their place.
            let at = others.partition_point(|(other, _)| other < hash);
            let run = others.get_mut(at..).unwrap_or_default().iter_mut().take_while(|(other, _)| other == hash);
            match run.into_iter().find(|(_, place)| *place != u32::MAX) {
                Some(partner) => partner.1 = u32::MAX,
                None if out.len() < Unmatched::MAX => out.push(shown(item)),
                None => {}
            }
        }
        out
    };
    Unmatched { legacy: only(left, lefts, rights), extracted: only(right, rights, lefts) }
}
