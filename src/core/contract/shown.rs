//! Values as JSON text, spelled as they were.

use std::cell::OnceCell;
use std::fmt::Write as _;

use crate::compare::Shown;
use crate::compare::pointer::{Pointer, Step};
use crate::compare::values::text_of;
use crate::contract::Said;
use crate::json::{Json, parse};

/// Longest list or object that is shown as it is, in bytes of JSON; a longer one by its size.
const SHOWN_BYTES_MAX: usize = 16 << 10;

/// Both bodies, read anew when a list or an object of theirs is to be shown.
pub(super) struct Documents<'a> {
    bodies: [&'a [u8]; 2],
    read: [OnceCell<Option<Json<'a>>>; 2],
}

impl<'a> Documents<'a> {
    pub(super) fn new(left: &'a Said, right: &'a Said) -> Documents<'a> {
        Documents { bodies: [&left.body, &right.body], read: [OnceCell::new(), OnceCell::new()] }
    }

    /// What each side had there.
    pub(super) fn at(
        &self,
        pointer: &Pointer,
        left: Option<&Shown>,
        right: Option<&Shown>,
    ) -> (Option<String>, Option<String>) {
        (left.map(|it| self.side(0, pointer, it)), right.map(|it| self.side(1, pointer, it)))
    }

    fn side(&self, side: usize, pointer: &Pointer, shown: &Shown) -> String {
        let is_whole = matches!(shown, Shown::Array { .. } | Shown::Object { .. });
        let whole = is_whole.then(|| self.find(side, pointer).map(write)).flatten();
        whole.filter(|whole| whole.len() <= SHOWN_BYTES_MAX).unwrap_or_else(|| text(shown))
    }

    fn find(&self, side: usize, pointer: &Pointer) -> Option<&Json<'a>> {
        let body: &'a [u8] = self.bodies.get(side)?;
        let root = self.read.get(side)?.get_or_init(|| parse(body).ok()).as_ref()?;
        pointer.0.iter().try_fold(root, |at, step| match (step, at) {
            (Step::Index(index), Json::Array(items)) => items.get(*index),
            (Step::Key(key), Json::Object(object)) => {
                object.members.iter().find(|(name, _)| **name == **key).map(|(_, at)| at)
            }
            (Step::Item { key, value }, Json::Array(items)) => items.iter().find(|item| {
                let Json::Object(object) = item else { return false };
                let member = object.members.iter().find(|(name, _)| **name == **key);
                member.and_then(|(_, at)| text_of(at)).is_some_and(|text| *text == **value)
            }),
            _ => None,
        })
    }
}

/// A value as JSON text; of what is not at hand its size.
pub(super) fn text(shown: &Shown) -> String {
    let hex = |digest: &[u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match shown {
        Shown::Null => "null".to_owned(),
        Shown::Bool(value) => value.to_string(),
        Shown::Number(text) => text.clone(),
        Shown::String(text) => quoted(text),
        Shown::Array { items, digest } => format!("{{\"items\":{items},\"sha256\":\"{}\"}}", hex(digest)),
        Shown::Object { members, digest } => format!("{{\"members\":{members},\"sha256\":\"{}\"}}", hex(digest)),
        Shown::Bytes { bytes, digest } => format!("{{\"bytes\":{bytes},\"sha256\":\"{}\"}}", hex(digest)),
        Shown::Status(status) => status.to_string(),
        Shown::Failure(failure) => quoted(failure),
        Shown::Header(value) => quoted(&String::from_utf8_lossy(value)),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A document as text, numbers as they were written.
pub(super) fn write(value: &Json<'_>) -> String {
    let mut out = String::new();
    write_to(value, &mut out);
    out
}

/// Nested no deeper than the reader has let it be.
fn write_to(value: &Json<'_>, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        Json::Number(number) => out.push_str(number.as_str()),
        Json::String(text) => out.push_str(&quoted(text)),
        Json::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_to(item, out);
            }
            out.push(']');
        }
        Json::Object(object) => {
            out.push('{');
            for (place, (key, member)) in object.members.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(key));
                out.push(':');
                write_to(member, out);
            }
            out.push('}');
        }
    }
}
