//! Documents in one spelling: equal ones alike, different ones differently, for hashing and for showing.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use crate::compare::differences::Shown;
use crate::compare::json::Walk;
use crate::compare::rules::{Pairing, StepRef};
use crate::json::Json;
use crate::json::number::Number;
use crate::route::Numeric;

/// What is noted of a value: itself, or the size and digest of a container.
pub(crate) fn shown(value: &Json<'_>) -> Shown {
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
    let mut out = Vec::new();
    spell(value, &mut out);
    Sha256::digest(&out).into()
}

fn text(tag: u8, text: &str, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&text.len().to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// By no rule at all.
fn spell(value: &Json<'_>, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.push(b'z'),
        Json::Bool(value) => out.push(if *value { b't' } else { b'f' }),
        Json::Number(number) => text(b'n', &number.canonical().to_string(), out),
        Json::String(string) => text(b's', string, out),
        Json::Array(items) => {
            out.push(b'[');
            for item in items {
                spell(item, out);
            }
            out.push(b']');
        }
        Json::Object(object) => {
            out.push(b'{');
            for (key, member) in object.sorted() {
                text(b'k', key, out);
                spell(member, out);
            }
            out.push(b'}');
        }
    }
}

impl<'r, 'a> Walk<'_, 'r, 'a>
where
    'r: 'a,
{
    /// Hash of an element, wherever it stands, of everything that is not left out; `None`: too much work.
    ///
    /// Equal hashes are taken for equal elements. Different ones prove a difference only where
    /// [`no rule takes for the same what differs`](Walk::is_spelled).
    pub(super) fn hash_of_element(&mut self, value: &'a Json<'_>) -> Option<u128> {
        let mut out = Vec::new();
        self.path.push(StepRef::AnyIndex);
        let done = self.spell_by_rules(value, &mut out);
        self.path.pop();
        done.map(|()| xxh3_128(&out))
    }

    /// Whether equal values, and only they, are spelled alike.
    pub(super) fn is_spelled(&self) -> bool {
        self.found.rules.is_spelled() && !self.json.allows_extra
    }

    fn is_left_out(&mut self) -> Option<bool> {
        self.work_left = self.work_left.checked_sub(1)?;
        Some(!self.found.rules.leaves_nothing_out() && self.found.rules.ignoring(&self.path).is_some())
    }

    fn spell_by_rules(&mut self, value: &'a Json<'_>, out: &mut Vec<u8>) -> Option<()> {
        if self.is_left_out()? {
            // An element still takes its place.
            out.push(b'-');
            return Some(());
        }
        match value {
            Json::Null => out.push(b'z'),
            Json::Bool(value) => out.push(if *value { b't' } else { b'f' }),
            Json::Number(number) => self.spell_number(number, out),
            Json::String(string) => match Number::of_text(string) {
                Some(number) if self.json.strings_as_numbers => self.spell_number(&number, out),
                _ => text(b's', string, out),
            },
            Json::Array(items) => {
                out.push(b'[');
                let (pairing, _) = self.found.rules.pairing(&self.path, self.json);
                self.spell_items(items, pairing, out)?;
                out.push(b']');
            }
            Json::Object(object) => {
                out.push(b'{');
                for (key, member) in object.sorted() {
                    let is_absent = self.json.null_is_absent && matches!(member, Json::Null);
                    self.path.push(StepRef::Key(key));
                    // What is left out may be absent, too.
                    let done = if is_absent || self.is_left_out()? {
                        Some(())
                    } else {
                        text(b'k', key, out);
                        self.spell_by_rules(member, out)
                    };
                    self.path.pop();
                    done?;
                }
                out.push(b'}');
            }
        }
        Some(())
    }

    fn spell_items(&mut self, items: &'a [Json<'_>], pairing: Pairing<'r>, out: &mut Vec<u8>) -> Option<()> {
        if pairing == Pairing::Position {
            for (index, item) in items.iter().enumerate() {
                self.path.push(StepRef::Index(index));
                let done = self.spell_by_rules(item, out);
                self.path.pop();
                done?;
            }
            return Some(());
        }
        let mut hashes = items.iter().map(|item| self.hash_of_element(item)).collect::<Option<Vec<u128>>>()?;
        hashes.sort_unstable();
        for hash in hashes {
            out.extend_from_slice(&hash.to_le_bytes());
        }
        Some(())
    }

    fn spell_number(&self, number: &Number<'_>, out: &mut Vec<u8>) {
        let tag = if self.json.numeric == Numeric::Typed && number.is_float() { b'd' } else { b'n' };
        text(tag, &number.canonical().to_string(), out);
    }
}
