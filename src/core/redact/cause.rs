//! What many differences have in common: 25,000 pairs that differ for one reason are one cause.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::compare::pointer::{Pointer, Step, escape};
use crate::compare::values::is_uuid_text;
use crate::compare::{Difference, Location, Shown, timestamp};
use crate::difference::Kind;
use crate::redact::names;

/// Longest time between two moments for which a rule is suggested.
const WITHIN_S_MAX: u128 = 60;

/// A cause: a place without positions, a kind, and what sort of value each side has there. Holds no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Alike for one cause, unlike for two: all that follows and the route, hashed; 16 hex digits.
    pub signature: String,
    /// `status`, `header:<name>`, `trailer:<name>` or a pointer with `*` for positions and for keys that look like data.
    pub place: String,
    /// As the metric says it.
    pub kind: String,
    /// The sort of legacy's value.
    pub legacy: String,
    /// The sort of extracted's.
    pub extracted: String,
    /// A rule that would take it for no difference, should it be noise. Shown, never applied; never for what is missing, extra, of
    /// another type or length, and never for amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// The release of extracted that has shown it last, where releases name themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

impl Cause {
    /// Of a difference on a route.
    pub fn of(route: &str, difference: Option<&Difference>) -> Cause {
        let Some(difference) = difference else {
            return Cause::new(route, String::new(), "", String::new(), String::new(), None);
        };
        let place = match &difference.path {
            Location::Body(pointer) => pattern(pointer),
            other @ (Location::Status | Location::Header(_) | Location::Trailer(_)) => other.to_string(),
        };
        let (legacy, extracted) = (sort(difference.legacy.as_ref()), sort(difference.extracted.as_ref()));
        let suggestion = match &difference.path {
            Location::Body(_) => suggested(&place, difference),
            Location::Status | Location::Header(_) | Location::Trailer(_) => None,
        };
        Cause::new(route, place, difference.kind.as_str(), legacy, extracted, suggestion)
    }

    fn new(
        route: &str,
        place: String,
        kind: &str,
        legacy: String,
        extracted: String,
        suggestion: Option<String>,
    ) -> Cause {
        let digest = Sha256::digest(format!("{route}\n{kind}\n{place}\n{legacy}\n{extracted}"));
        let signature = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Cause { signature, place, kind: kind.to_owned(), legacy, extracted, suggestion, release: None }
    }
}

/// Keys that look like data are left out like positions, so that one cause has one signature.
fn pattern(pointer: &Pointer) -> String {
    let segments = pointer.0.iter().map(|step| match step {
        Step::Key(key) if names::is_plain(key) => format!("/{}", escape(key)),
        Step::Node { name, .. } if &**name == "text()" || names::is_plain(name) => format!("/{}", escape(name)),
        Step::Key(_) | Step::Data(_) | Step::Index(_) | Step::Item { .. } | Step::Node { .. } => "/*".to_owned(),
    });
    segments.collect()
}

/// The sort of a value: what a programmer would call it. Statuses and failures are their own sorts.
fn sort(shown: Option<&Shown>) -> String {
    match shown {
        None => "nothing".to_owned(),
        Some(Shown::Null) => "null".to_owned(),
        Some(Shown::Bool(_)) => "bool".to_owned(),
        Some(Shown::Number(text)) if text.contains(['.', 'e', 'E']) => "decimal".to_owned(),
        Some(Shown::Number(_)) => "integer".to_owned(),
        Some(Shown::String(text)) => sort_of_text(text).to_owned(),
        Some(Shown::Array { items: 0, .. }) => "empty array".to_owned(),
        Some(Shown::Array { .. }) => "array".to_owned(),
        Some(Shown::Object { .. }) => "object".to_owned(),
        Some(Shown::Bytes { .. }) => "bytes".to_owned(),
        Some(Shown::Status(status)) => status.to_string(),
        Some(Shown::Header(_)) => "header".to_owned(),
        Some(Shown::Failure(failure)) => (*failure).to_owned(),
    }
}

fn sort_of_text(text: &str) -> &'static str {
    let is_all = |is: fn(&u8) -> bool| text.as_bytes().iter().all(is);
    match text {
        "" => "empty text",
        _ if is_uuid_text(text) => "uuid",
        _ if is_all(u8::is_ascii_digit) => "digits",
        _ if timestamp::of_text(text).is_some() => "timestamp",
        _ if text.len() >= 16 && is_all(u8::is_ascii_hexdigit) => "hex",
        _ => "text",
    }
}

fn suggested(place: &str, difference: &Difference) -> Option<String> {
    // As YAML's flow style has it: quoted, for a pointer may hold anything.
    let path = serde_json::Value::from(place).to_string();
    match (difference.kind, difference.legacy.as_ref(), difference.extracted.as_ref()) {
        (Kind::ArrayOrder, ..) => Some(format!("{{path: {path}, array_order: ignore}}")),
        (Kind::Value, Some(Shown::String(left)), Some(Shown::String(right))) => {
            match (sort_of_text(left), sort_of_text(right)) {
                ("uuid", "uuid") => Some(format!("{{path: {path}, as: uuid}}")),
                ("hex", "hex") if left.len() == right.len() => {
                    Some(format!("{{path: {path}, matches: \"^[0-9A-Fa-f]{{{}}}$\"}}", left.len()))
                }
                ("timestamp", "timestamp") => {
                    let apart = timestamp::of_text(left)?.abs_diff(timestamp::of_text(right)?);
                    let seconds =
                        [1, 2, 5, 10, 30, WITHIN_S_MAX].into_iter().find(|most| apart <= most * 1_000_000_000)?;
                    Some(format!("{{path: {path}, as: timestamp, within: {seconds}s}}"))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(pointer: Vec<Step>, kind: Kind, legacy: Option<Shown>, extracted: Option<Shown>) -> Cause {
        let path = Location::Body(Pointer(pointer));
        Cause::of("cart", Some(&Difference { path, kind, legacy, extracted, rule: None, unmatched: None }))
    }

    fn text(text: &str) -> Shown {
        Shown::String(text.to_owned())
    }

    #[test]
    fn one_cause_is_one_whatever_the_place_and_the_values() {
        let at = |index| vec![Step::Key("lines".into()), Step::Index(index), Step::Key("tax".into())];
        let number = |text: &str| Some(Shown::Number(text.to_owned()));
        let first = cause(at(0), Kind::Value, number("1"), number("2"));
        assert_eq!((first.place.as_str(), first.legacy.as_str()), ("/lines/*/tax", "integer"));
        assert_eq!(first, cause(at(7), Kind::Value, number("5"), number("9")));
        for other in [
            cause(at(0), Kind::Type, number("1"), number("2")),
            cause(at(0), Kind::Value, number("1"), number("2.5")),
            cause(vec![Step::Key("tax".into())], Kind::Value, number("1"), number("2")),
        ] {
            assert_ne!(first.signature, other.signature);
        }
        let keyed = |value: &str| vec![Step::Item { key: "id".into(), value: value.into() }];
        assert_eq!(cause(keyed("3"), Kind::Missing, None, None), cause(keyed("4"), Kind::Missing, None, None));
        let node =
            |index| vec![Step::Node { name: "div".into(), index }, Step::Node { name: "@class".into(), index: None }];
        assert_eq!(cause(node(Some(3)), Kind::Value, Some(text("a")), Some(text("b"))).place, "/div/@class");
    }

    #[test]
    fn a_rule_is_suggested_for_noise_and_never_for_what_matters() {
        let at = || vec![Step::Key("a".into())];
        let suggested = |kind, left: Option<Shown>, right: Option<Shown>| cause(at(), kind, left, right).suggestion;
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z");
        let uuid = "7f1c0a52-8c7e-4a53-9a0d-1f1f0b7b3c11";
        for (left, right, expect) in [
            (early, late, Some(r#"{path: "/a", as: timestamp, within: 2s}"#)),
            (early, "2027-01-01T00:00:00Z", None),
            (uuid, uuid, Some(r#"{path: "/a", as: uuid}"#)),
            ("0123456789abcdef", "fedcba9876543210", Some(r#"{path: "/a", matches: "^[0-9A-Fa-f]{16}$"}"#)),
            ("Ada", "Bob", None),
        ] {
            assert_eq!(
                suggested(Kind::Value, Some(text(left)), Some(text(right))).as_deref(),
                expect,
                "{left} {right}"
            );
        }
        assert_eq!(suggested(Kind::ArrayOrder, None, None).as_deref(), Some(r#"{path: "/a", array_order: ignore}"#));
        let number = |text: &str| Some(Shown::Number(text.to_owned()));
        assert_eq!(suggested(Kind::Value, number("97.81"), number("97.82")), None);
        for kind in [Kind::Missing, Kind::Extra, Kind::Type, Kind::ArrayLength, Kind::Format] {
            assert_eq!(suggested(kind, Some(text(uuid)), Some(text(uuid))), None, "{kind}");
        }
    }
}
