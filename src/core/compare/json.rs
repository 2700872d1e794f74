//! Two documents, structurally: members by key, elements by position, by a key of theirs, or wherever they fit.
//!
//! What is read into the shape of JSON (forms, texts, events) goes the same way, as do the values of marked-up pages.

use crate::compare::NotComparable;
use crate::compare::differences::{Differences, Unmatched};
use crate::compare::rules::StepRef;
use crate::compare::spelling::shown;
use crate::compare::values::{asked, is_same, kind_of};
use crate::difference::Kind;
use crate::json::{Json, Member, Object};
use crate::route::JsonPolicy;

/// Most values hashed in one pair, to find out which elements belong together.
const WORK_MAX: u64 = 2_000_000;
/// What comparing two values on trial costs of that.
const TRIAL_WORK: u64 = 8;

/// Notes every difference between two documents; `Some` when it could not be found out whether there are any.
pub(crate) fn compare_json(
    legacy: &Json<'_>,
    extracted: &Json<'_>,
    json: JsonPolicy,
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    let mut walk = Walk::new(json, true, found);
    walk.values(legacy, extracted);
    walk.gave_up()
}

/// As [`compare_json`], for what has texts only and no options of its own.
pub(crate) fn compare_texts(
    legacy: &Json<'_>,
    extracted: &Json<'_>,
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    let mut walk = Walk::new(JsonPolicy::default(), false, found);
    walk.values(legacy, extracted);
    walk.gave_up()
}

/// Calls itself for what is inside, as deep as the reader went at most.
pub(crate) struct Walk<'w, 'r, 'a> {
    pub(super) path: Vec<StepRef<'a>>,
    pub(super) json: JsonPolicy,
    /// Whether `"1"` is something else than `1`.
    has_types: bool,
    pub(super) work_left: u64,
    /// Set when something was left undecided.
    pub(super) is_undecided: bool,
    /// While it is only asked whether two values are the same: what had been found before.
    pub(super) trial: Option<u64>,
    pub(super) found: &'w mut Differences<'r>,
}

impl<'w, 'r, 'a> Walk<'w, 'r, 'a>
where
    'r: 'a,
{
    pub(super) fn new(json: JsonPolicy, has_types: bool, found: &'w mut Differences<'r>) -> Walk<'w, 'r, 'a> {
        Walk { path: Vec::new(), json, has_types, work_left: WORK_MAX, is_undecided: false, trial: None, found }
    }

    pub(super) const fn gave_up(&self) -> Option<NotComparable> {
        if self.is_undecided { Some(NotComparable::TooComplex) } else { None }
    }

    pub(super) fn values(&mut self, legacy: &'a Json<'_>, extracted: &'a Json<'_>) {
        if self.trial.is_some() {
            self.work_left = self.work_left.saturating_sub(TRIAL_WORK);
        }
        match (legacy, extracted) {
            (Json::Array(left), Json::Array(right)) => self.arrays(left, right, legacy, extracted),
            (Json::Object(left), Json::Object(right)) => self.objects(left, right),
            (Json::Array(_) | Json::Object(_), _) | (_, Json::Array(_) | Json::Object(_)) => {
                self.push(Kind::Type, None, Some(legacy), Some(extracted));
            }
            (left, right) if is_same(left, right, self.json) => {}
            (left, right) => self.differing(left, right),
        }
    }

    fn differing(&mut self, legacy: &Json<'_>, extracted: &Json<'_>) {
        let kind = kind_of(legacy, extracted, self.json);
        let Some((index, rule)) = self.found.rules.value(&self.path) else {
            return self.push(kind, None, Some(legacy), Some(extracted));
        };
        match asked(rule, legacy, extracted, kind, self.has_types) {
            None => self.found.forgive(index),
            Some(kind) => self.push(kind, Some(index), Some(legacy), Some(extracted)),
        }
    }

    pub(super) fn push(
        &mut self,
        kind: Kind,
        asked: Option<usize>,
        legacy: Option<&Json<'_>>,
        extracted: Option<&Json<'_>>,
    ) {
        self.found.push_body(&self.path, kind, asked, || (legacy.map(shown), extracted.map(shown), None));
    }

    /// As [`Walk::push`], for two arrays of which it is known what only one has.
    pub(super) fn push_arrays(&mut self, kind: Kind, legacy: &Json<'_>, extracted: &Json<'_>, unmatched: Unmatched) {
        self.found.push_body(&self.path, kind, None, || {
            (Some(shown(legacy)), Some(shown(extracted)), Some(Box::new(unmatched)))
        });
    }

    /// Whether it is already known that two values are not the same, and nothing more is asked.
    pub(super) fn is_settled(&self) -> bool {
        self.trial.is_some_and(|before| self.found.total() != before || self.work_left == 0)
    }

    fn push_member(&mut self, kind: Kind, key: &'a str, legacy: Option<&Json<'_>>, extracted: Option<&Json<'_>>) {
        self.path.push(StepRef::Key(key));
        self.push(kind, None, legacy, extracted);
        self.path.pop();
    }

    fn objects(&mut self, left: &'a Object<'_>, right: &'a Object<'_>) {
        let is_lockstep = !left.has_duplicates
            && !right.has_duplicates
            && left.members.len() == right.members.len()
            && left.members.iter().zip(&right.members).all(|(left, right)| left.0 == right.0);
        if is_lockstep {
            for ((key, left), (_, right)) in left.members.iter().zip(&right.members) {
                self.member(key, left, right);
                if self.is_settled() {
                    return;
                }
            }
            return;
        }
        let (lefts, rights) = (left.sorted(), right.sorted());
        let (mut lefts, mut rights) = (&lefts[..], &rights[..]);
        // Merges the two sorted lists, a run of equal keys at a time.
        while let Some(key) = smaller(lefts.first(), rights.first()) {
            if self.is_settled() {
                return;
            }
            let (left, lefts_after) = run(lefts, key);
            let (right, rights_after) = run(rights, key);
            (lefts, rights) = (lefts_after, rights_after);
            match (left, right) {
                ([left], [right]) => self.member(key, &left.1, &right.1),
                ([one], []) | ([], [one]) if self.json.null_is_absent && matches!(one.1, Json::Null) => {}
                ([left], []) => self.push_member(Kind::Missing, key, Some(&left.1), None),
                ([], _) if self.json.allows_extra => {}
                ([], [right]) => self.push_member(Kind::Extra, key, None, Some(&right.1)),
                (left, right) => self.duplicates(key, left, right),
            }
        }
    }

    fn member(&mut self, key: &'a str, left: &'a Json<'_>, right: &'a Json<'_>) {
        self.path.push(StepRef::Key(key));
        self.values(left, right);
        self.path.pop();
    }

    /// Which of two values a reader takes is its own affair; so only the same ones in the same order are equal.
    fn duplicates(&mut self, key: &'a str, left: &[&'a Member<'_>], right: &[&'a Member<'_>]) {
        let mark = self.found.mark();
        let before = self.found.total();
        if left.len() == right.len() {
            for (left, right) in left.iter().zip(right) {
                self.member(key, &left.1, &right.1);
            }
            if self.found.total() == before {
                return;
            }
        }
        self.found.rewind(mark);
        let [left, right] = [left, right].map(|members| members.last().map(|member| &member.1));
        self.push_member(Kind::DuplicateKey, key, left, right);
    }
}

fn smaller<'a>(left: Option<&&'a Member<'_>>, right: Option<&&'a Member<'_>>) -> Option<&'a str> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.0.as_ref().min(right.0.as_ref())),
        (Some(one), None) | (None, Some(one)) => Some(one.0.as_ref()),
        (None, None) => None,
    }
}

/// Those in front with that key, and the others.
fn run<'s, 'a, 'j>(members: &'s [&'a Member<'j>], key: &str) -> (&'s [&'a Member<'j>], &'s [&'a Member<'j>]) {
    let length = members.iter().take_while(|member| member.0 == key).count();
    members.split_at(length)
}
