//! Bodies: which comparer speaks for which type.

use http::header;
use sha2::{Digest, Sha256};

use crate::compare::differences::{Differences, Shown};
use crate::compare::headers::media_type;
use crate::compare::json::{compare_json, compare_texts};
use crate::compare::markup::compare_markup;
use crate::compare::texts::text_of;
use crate::compare::xml::XmlError;
use crate::compare::{NotComparable, events, forms, grpc, html, texts, xml};
use crate::difference::Kind;
use crate::grpc::is_call;
use crate::json::{Json, JsonError, parse};
use crate::observation::Answer;
use crate::route::JsonPolicy;

/// A body as the shell could read it.
#[derive(Clone, Copy, Debug)]
pub enum BodyView<'a> {
    /// All of it, decoded.
    Whole(&'a [u8]),
    /// Its beginning, decoded: the rest is beyond what is kept.
    Beginning(&'a [u8]),
    /// Not decoded.
    Unreadable(Unreadable),
}

/// Why a body was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A content coding that is not known here.
    UnknownCoding,
    /// It is not what its content coding says.
    Corrupt,
}

/// What a body is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyType {
    Json,
    /// Lines that are JSON each.
    Lines,
    Html,
    Xml,
    Form,
    Text,
    Events,
    Grpc,
    /// The answer does not say: JSON if it reads as JSON on both sides, else bytes.
    Unsaid,
    Bytes,
}

impl BodyType {
    fn of(answer: &Answer) -> BodyType {
        let Some(media) = media_type(&answer.headers) else { return BodyType::Unsaid };
        match media.as_str() {
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines" => BodyType::Lines,
            "text/html" => BodyType::Html,
            "application/x-www-form-urlencoded" => BodyType::Form,
            "text/event-stream" => BodyType::Events,
            "application/javascript" => BodyType::Text,
            media if media.ends_with("/json") || media.ends_with("+json") => BodyType::Json,
            media if media.ends_with("/xml") || media.ends_with("+xml") => BodyType::Xml,
            media if media.starts_with("text/") => BodyType::Text,
            _ if is_call(&answer.headers) => BodyType::Grpc,
            _ => BodyType::Bytes,
        }
    }

    /// The one type of two bodies; `None`: they have two.
    fn of_both(legacy: &Answer, extracted: &Answer) -> Option<BodyType> {
        match (BodyType::of(legacy), BodyType::of(extracted)) {
            (BodyType::Unsaid, said) | (said, BodyType::Unsaid) => Some(said),
            (left, right) => (left == right).then_some(left),
        }
    }
}

type Side<'a> = (&'a Answer, BodyView<'a>);

/// Compares two bodies; `Some` when that could not be done.
pub(crate) fn compare(
    legacy: Side<'_>,
    extracted: Side<'_>,
    json: JsonPolicy,
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    if is_same_wire(legacy.0, extracted.0) {
        return None;
    }
    match (legacy.1, extracted.1) {
        (BodyView::Whole(left), BodyView::Whole(right)) => {
            compare_whole((legacy.0, left), (extracted.0, right), json, found)
        }
        (BodyView::Unreadable(Unreadable::UnknownCoding), _)
        | (_, BodyView::Unreadable(Unreadable::UnknownCoding))
        | (BodyView::Unreadable(_), BodyView::Unreadable(_)) => Some(NotComparable::Unreadable),
        (BodyView::Unreadable(Unreadable::Corrupt), _) | (_, BodyView::Unreadable(Unreadable::Corrupt)) => {
            push_root(Kind::Format, legacy, extracted, found);
            None
        }
        (BodyView::Beginning(left), BodyView::Whole(right) | BodyView::Beginning(right))
        | (BodyView::Whole(left), BodyView::Beginning(right)) => {
            push_root(Kind::Truncated, legacy, extracted, found);
            let is_proven = match BodyType::of_both(legacy.0, extracted.0) {
                // Two spellings of one document differ in their bytes; only of plain bytes is that a proof.
                Some(BodyType::Bytes) => differs_in_what_is_known((legacy, left), (extracted, right)),
                Some(BodyType::Text) if found.rules.forgives_nothing() => {
                    differs_in_what_is_known((legacy, left), (extracted, right))
                }
                Some(BodyType::Events) => {
                    let before = found.total();
                    compare_events(left, right, false, found);
                    found.total() != before
                }
                _ => false,
            };
            (!is_proven).then_some(NotComparable::Truncated)
        }
    }
}

/// Whether both bodies are the same bytes in the same coding, and whole: then they are equal, whatever they are, and need not
/// even be decoded. So it is with most pairs.
pub fn is_same_wire(legacy: &Answer, extracted: &Answer) -> bool {
    let coding = |answer: &Answer| answer.headers.get(header::CONTENT_ENCODING).cloned();
    !legacy.is_truncated
        && !extracted.is_truncated
        && legacy.body == extracted.body
        && (legacy.body.is_empty() || coding(legacy) == coding(extracted))
}

fn differs_in_what_is_known(left: (Side<'_>, &[u8]), right: (Side<'_>, &[u8])) -> bool {
    let ((left_side, left), (right_side, right)) = (left, right);
    let common = left.len().min(right.len());
    if left.get(..common) != right.get(..common) {
        return true;
    }
    // One of them ended where the other goes on.
    match (left_side.1, right_side.1) {
        (BodyView::Whole(_), BodyView::Beginning(_)) => right.len() > left.len(),
        (BodyView::Beginning(_), BodyView::Whole(_)) => left.len() > right.len(),
        (BodyView::Beginning(_), BodyView::Beginning(_)) => {
            // Of a body that was cut off, only its own length field knows how long it is.
            let length = |answer: &Answer| {
                let is_plain = !answer.headers.contains_key(header::CONTENT_ENCODING);
                answer.headers.get(header::CONTENT_LENGTH).filter(|_| is_plain).cloned()
            };
            matches!((length(left_side.0), length(right_side.0)), (Some(left), Some(right)) if left != right)
        }
        _ => false,
    }
}

fn compare_whole(
    legacy: (&Answer, &[u8]),
    extracted: (&Answer, &[u8]),
    json: JsonPolicy,
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    let ((legacy, left), (extracted, right)) = (legacy, extracted);
    if left == right {
        return None;
    }
    let sides = ((legacy, BodyView::Whole(left)), (extracted, BodyView::Whole(right)));
    let push = |kind, found: &mut Differences<'_>| {
        push_root(kind, sides.0, sides.1, found);
        None
    };
    if left.is_empty() || right.is_empty() {
        return push(if right.is_empty() { Kind::Missing } else { Kind::Extra }, found);
    }
    match BodyType::of_both(legacy, extracted) {
        // That the types differ is the header's difference, if that header is listed; else it is said here.
        None if !found.has_kind(Kind::ContentType) => push(Kind::ContentType, found),
        None | Some(BodyType::Bytes) => push(Kind::Value, found),
        Some(BodyType::Json) => compare_documents((parse(left), parse(right)), json, found, push),
        Some(BodyType::Lines) => {
            compare_documents((texts::documents(left), texts::documents(right)), json, found, push)
        }
        Some(BodyType::Unsaid) => match (parse(left), parse(right)) {
            (Ok(left), Ok(right)) => compare_json(&left, &right, json, found),
            (Err(error), _) | (_, Err(error)) if error.is_limit() => Some(NotComparable::Unreadable),
            _ => push(Kind::Value, found),
        },
        Some(BodyType::Html) => match (html::read(&text_of(left)), html::read(&text_of(right))) {
            (Ok(left), Ok(right)) => compare_markup(&left, &right, found),
            _ => Some(NotComparable::Unreadable),
        },
        Some(BodyType::Xml) => match (xml::read(&text_of(left)), xml::read(&text_of(right))) {
            (Ok(left), Ok(right)) => compare_markup(&left, &right, found),
            (Err(XmlError::BeyondLimits), _) | (_, Err(XmlError::BeyondLimits)) => Some(NotComparable::Unreadable),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => push(Kind::Format, found),
            (Err(_), Err(_)) => push(Kind::Value, found),
        },
        Some(BodyType::Form) => match (forms::read(left), forms::read(right)) {
            (Some(left), Some(right)) => compare_texts(&left, &right, found),
            _ => Some(NotComparable::Unreadable),
        },
        Some(BodyType::Text) => compare_lines(&text_of(left), &text_of(right), found),
        Some(BodyType::Events) => compare_events(left, right, true, found),
        Some(BodyType::Grpc) => grpc::compare_messages(left, right, found),
    }
}

fn compare_documents(
    documents: (Result<Json<'_>, JsonError>, Result<Json<'_>, JsonError>),
    json: JsonPolicy,
    found: &mut Differences<'_>,
    mut push: impl FnMut(Kind, &mut Differences<'_>) -> Option<NotComparable>,
) -> Option<NotComparable> {
    match documents {
        (Ok(left), Ok(right)) => compare_json(&left, &right, json, found),
        (Err(error), _) | (_, Err(error)) if error.is_limit() => Some(NotComparable::Unreadable),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => push(Kind::Format, found),
        (Err(_), Err(_)) => push(Kind::Value, found),
    }
}

/// A text of one line is a value; one of several is a list of them.
fn compare_lines(left: &str, right: &str, found: &mut Differences<'_>) -> Option<NotComparable> {
    if !left.contains('\n') && !right.contains('\n') {
        let [left, right] = [left, right].map(|text| Json::String(text.into()));
        return compare_texts(&left, &right, found);
    }
    compare_texts(&texts::lines(left), &texts::lines(right), found)
}

/// `is_whole`: whether both ends are there. Otherwise only what both have begun with is compared.
fn compare_events(left: &[u8], right: &[u8], is_whole: bool, found: &mut Differences<'_>) -> Option<NotComparable> {
    let (left, right) = (text_of(left), text_of(right));
    let (left, right) = (events::read(&left, is_whole), events::read(&right, is_whole));
    let most = if is_whole { events::EVENTS_MAX } else { left.count().min(right.count()) };
    let unknown = compare_json(&left.document(most), &right.document(most), JsonPolicy::default(), found);
    if is_whole && left.rest != right.rest {
        let shown = |rest: &str| Some(shown_bytes(rest.len() as u64, rest.as_bytes()));
        found.push_body(&[], Kind::ArrayContent, None, || (shown(left.rest), shown(right.rest), None));
    }
    unknown
}

fn push_root(kind: Kind, legacy: Side<'_>, extracted: Side<'_>, found: &mut Differences<'_>) {
    found.push_body(&[], kind, None, || (shown(legacy), shown(extracted), None));
}

fn shown((answer, view): Side<'_>) -> Option<Shown> {
    match view {
        BodyView::Whole([]) => None,
        BodyView::Whole(bytes) => Some(shown_bytes(bytes.len() as u64, bytes)),
        BodyView::Beginning(_) | BodyView::Unreadable(_) => Some(shown_bytes(answer.body_bytes, &answer.body)),
    }
}

fn shown_bytes(bytes: u64, known: &[u8]) -> Shown {
    Shown::Bytes { bytes, digest: Sha256::digest(known).into() }
}
