//! Forms (`application/x-www-form-urlencoded`): names with one value or several; names have no order, values of one name do.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::compare::texts::text_of;
use crate::json::{Json, Object};

/// Most fields.
const FIELDS_MAX: usize = 100_000;

/// A form as a document: a string for a name with one value, a list for one with several; `None`: too many fields.
pub(crate) fn read(body: &[u8]) -> Option<Json<'static>> {
    let mut fields: BTreeMap<String, Vec<Json<'static>>> = BTreeMap::new();
    for (count, pair) in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).enumerate() {
        if count >= FIELDS_MAX {
            return None;
        }
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
            None => (pair, &b""[..]),
        };
        fields.entry(decoded(name)).or_default().push(Json::String(Cow::Owned(decoded(value))));
    }
    let member = |(name, mut values): (String, Vec<Json<'static>>)| {
        let value = if values.len() == 1 { values.pop() } else { None };
        (Cow::Owned(name), value.unwrap_or(Json::Array(values)))
    };
    Some(Json::Object(Object { members: fields.into_iter().map(member).collect(), has_duplicates: false }))
}

/// Blanks from `+`, bytes from `%41`.
fn decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = after;
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', ..) => out.push(b' '),
            (other, ..) => out.push(*other),
        }
    }
    text_of(&out).into_owned()
}
