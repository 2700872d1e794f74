//! Two JSON documents, structurally: members by key, elements by position.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::compare::differences::{Differences, Kind, Shown};
use crate::compare::rules::StepRef;
use crate::json::{Json, Member, Object};

/// Most differing elements among which a new order is looked for.
const REORDERED_MAX: usize = 10_000;
/// Most values hashed for that in one pair; beyond, elements are reported one by one.
const HASHED_MAX: u64 = 4_000_000;

/// Notes every difference between two documents.
pub(crate) fn compare_json(legacy: &Json<'_>, extracted: &Json<'_>, found: &mut Differences<'_>) {
    Walk { path: Vec::new(), hashes_left: HASHED_MAX, found }.values(legacy, extracted);
}

/// Calls itself for what is inside, as deep as the reader went at most.
struct Walk<'w, 'r, 'a> {
    path: Vec<StepRef<'a>>,
    hashes_left: u64,
    found: &'w mut Differences<'r>,
}

impl<'a> Walk<'_, '_, 'a> {
    fn values(&mut self, legacy: &'a Json<'_>, extracted: &'a Json<'_>) {
        match (legacy, extracted) {
            (Json::Null, Json::Null) => {}
            (Json::Bool(left), Json::Bool(right)) if left == right => {}
            (Json::Number(left), Json::Number(right)) if left == right => {}
            (Json::String(left), Json::String(right)) if left == right => {}
            (Json::Array(left), Json::Array(right)) => self.arrays(left, right, legacy, extracted),
            (Json::Object(left), Json::Object(right)) => self.objects(left, right),
            (left, right) if left.type_name() == right.type_name() => self.push(Kind::Value, Some(left), Some(right)),
            (left, right) => self.push(Kind::Type, Some(left), Some(right)),
        }
    }

    fn push(&mut self, kind: Kind, legacy: Option<&Json<'_>>, extracted: Option<&Json<'_>>) {
        self.found.push_body(&self.path, kind, || (legacy.map(shown), extracted.map(shown)));
    }

    fn push_member(&mut self, kind: Kind, key: &'a str, legacy: Option<&Json<'_>>, extracted: Option<&Json<'_>>) {
        self.path.push(StepRef::Key(key));
        self.push(kind, legacy, extracted);
        self.path.pop();
    }

    fn arrays(&mut self, left: &'a [Json<'_>], right: &'a [Json<'_>], legacy: &Json<'_>, extracted: &Json<'_>) {
        if left.len() != right.len() {
            self.push(Kind::ArrayLength, Some(legacy), Some(extracted));
            return;
        }
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
        }
        if differing.is_empty() {
            return;
        }
        if self.found.has_positions() {
            // A rule for one position must not hide that the elements of all positions are the same ones.
            differing = left.iter().zip(right).collect();
        }
        if (2..=REORDERED_MAX).contains(&differing.len()) && self.is_reordered(&differing) {
            self.found.rewind(mark);
            self.push(Kind::ArrayOrder, Some(legacy), Some(extracted));
        }
    }

    /// Whether both sides have the same elements, wherever they stand.
    fn is_reordered(&mut self, pairs: &[(&'a Json<'_>, &'a Json<'_>)]) -> bool {
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        self.path.push(StepRef::AnyIndex);
        for (left, right) in pairs {
            let (Some(left), Some(right)) = (self.hash(left), self.hash(right)) else { break };
            lefts.push(left);
            rights.push(right);
        }
        self.path.pop();
        lefts.sort_unstable();
        rights.sort_unstable();
        lefts.len() == pairs.len() && lefts == rights
    }

    /// Of everything that is not forgiven. That a hash is no proof does no harm: what it finds alike is still reported.
    fn hash(&mut self, value: &'a Json<'_>) -> Option<u128> {
        let mut hasher = Xxh3::new();
        let is_strict = self.found.is_strict();
        let mut left = self.hashes_left;
        let found = &*self.found;
        let is_done = spell(
            None,
            value,
            &mut self.path,
            &mut |path| {
                left = left.checked_sub(1)?;
                Some(!is_strict && found.is_forgiven(path))
            },
            &mut |bytes| hasher.update(bytes),
        )
        .is_some();
        self.hashes_left = left;
        is_done.then(|| hasher.digest128())
    }

    fn objects(&mut self, left: &'a Object<'_>, right: &'a Object<'_>) {
        let is_lockstep = !left.has_duplicates
            && !right.has_duplicates
            && left.members.len() == right.members.len()
            && left.members.iter().zip(&right.members).all(|(left, right)| left.0 == right.0);
        if is_lockstep {
            for ((key, left), (_, right)) in left.members.iter().zip(&right.members) {
                self.member(key, left, right);
            }
            return;
        }
        let (lefts, rights) = (left.sorted(), right.sorted());
        let (mut lefts, mut rights) = (&lefts[..], &rights[..]);
        // Merges the two sorted lists, a run of equal keys at a time.
        while let Some(key) = smaller(lefts.first(), rights.first()) {
            let (left, lefts_after) = run(lefts, key);
            let (right, rights_after) = run(rights, key);
            (lefts, rights) = (lefts_after, rights_after);
            match (left, right) {
                ([left], [right]) => self.member(key, &left.1, &right.1),
                ([left], []) => self.push_member(Kind::Missing, key, Some(&left.1), None),
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

fn shown(value: &Json<'_>) -> Shown {
    match value {
        Json::Null => Shown::Null,
        Json::Bool(value) => Shown::Bool(*value),
        Json::Number(number) => Shown::Number(number.as_str().to_owned()),
        Json::String(text) => Shown::String(text.to_string()),
        Json::Array(items) => Shown::Array { items: items.len(), digest: digest(value) },
        Json::Object(object) => Shown::Object { members: object.members.len(), digest: digest(value) },
    }
}

fn digest(value: &Json<'_>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    spell(None, value, &mut Vec::new(), &mut |_| Some(false), &mut |bytes| hasher.update(bytes));
    hasher.finalize().into()
}

/// Writes a value (and its key, if it is a member) in one spelling: equal values alike, different ones differently.
///
/// `is_left_out` is asked for each value, and stops it all with `None`.
fn spell<'a>(
    key: Option<&str>,
    value: &'a Json<'_>,
    path: &mut Vec<StepRef<'a>>,
    is_left_out: &mut impl FnMut(&[StepRef<'_>]) -> Option<bool>,
    write: &mut impl FnMut(&[u8]),
) -> Option<()> {
    if is_left_out(path)? {
        // A member that is forgiven may be absent, too; an element still takes its place.
        if key.is_none() {
            write(b"-");
        }
        return Some(());
    }
    let text = |tag: u8, text: &str, write: &mut dyn FnMut(&[u8])| {
        write(&[tag]);
        write(&text.len().to_le_bytes());
        write(text.as_bytes());
    };
    if let Some(key) = key {
        text(b'k', key, write);
    }
    match value {
        Json::Null => write(b"z"),
        Json::Bool(value) => write(if *value { b"t" } else { b"f" }),
        Json::Number(number) => text(b'n', &number.canonical().to_string(), write),
        Json::String(string) => text(b's', string, write),
        Json::Array(items) => {
            write(b"[");
            for (index, item) in items.iter().enumerate() {
                path.push(StepRef::Index(index));
                let done = spell(None, item, path, is_left_out, write);
                path.pop();
                done?;
            }
            write(b"]");
        }
        Json::Object(object) => {
            write(b"{");
            for (key, member) in object.sorted() {
                path.push(StepRef::Key(key));
                let done = spell(Some(key), member, path, is_left_out, write);
                path.pop();
                done?;
            }
            write(b"}");
        }
    }
    Some(())
}
