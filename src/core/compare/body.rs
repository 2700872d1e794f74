//! Bodies: which comparer speaks for which type. Further types (HTML, XML, forms, text) are further arms of [`compare`].

use http::header;
use sha2::{Digest, Sha256};

use crate::compare::NotComparable;
use crate::compare::differences::{Differences, Kind, Shown};
use crate::compare::headers::media_type;
use crate::compare::json::compare_json;
use crate::json::parse;
use crate::observation::Answer;

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
    /// The answer does not say: JSON if it reads as JSON on both sides, else bytes.
    Unsaid,
    Bytes,
}

impl BodyType {
    fn of(answer: &Answer) -> BodyType {
        match media_type(&answer.headers) {
            None => BodyType::Unsaid,
            Some(media) if media.ends_with("/json") || media.ends_with("+json") => BodyType::Json,
            Some(_) => BodyType::Bytes,
        }
    }
}

type Side<'a> = (&'a Answer, BodyView<'a>);

/// Compares two bodies; `Some` when that could not be done.
pub(crate) fn compare(legacy: Side<'_>, extracted: Side<'_>, found: &mut Differences<'_>) -> Option<NotComparable> {
    if is_same_wire(legacy.0, extracted.0) {
        return None;
    }
    match (legacy.1, extracted.1) {
        (BodyView::Whole(left), BodyView::Whole(right)) => compare_whole((legacy.0, left), (extracted.0, right), found),
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
            // Two spellings of one JSON document differ in their bytes; only of plain bytes is that a proof.
            let is_bytes = BodyType::of(legacy.0) == BodyType::Bytes && BodyType::of(extracted.0) == BodyType::Bytes;
            let is_proven = is_bytes && differs_in_what_is_known((legacy, left), (extracted, right));
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
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    let ((legacy, left), (extracted, right)) = (legacy, extracted);
    if left == right {
        return None;
    }
    let sides = ((legacy, BodyView::Whole(left)), (extracted, BodyView::Whole(right)));
    if left.is_empty() || right.is_empty() {
        push_root(if right.is_empty() { Kind::Missing } else { Kind::Extra }, sides.0, sides.1, found);
        return None;
    }
    let types = (BodyType::of(legacy), BodyType::of(extracted));
    if types.0 == BodyType::Bytes || types.1 == BodyType::Bytes {
        // That the types differ is the header's difference, if that header is listed; else it is said here.
        let is_typed = types.0 != types.1 && !found.has_kind(Kind::ContentType);
        push_root(if is_typed { Kind::ContentType } else { Kind::Value }, sides.0, sides.1, found);
        return None;
    }
    match (parse(left), parse(right)) {
        (Ok(left), Ok(right)) => compare_json(&left, &right, found),
        (Err(error), _) | (_, Err(error)) if error.is_limit() => return Some(NotComparable::Unreadable),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) if types != (BodyType::Unsaid, BodyType::Unsaid) => {
            push_root(Kind::Format, sides.0, sides.1, found);
        }
        _ => push_root(Kind::Value, sides.0, sides.1, found),
    }
    None
}

fn push_root(kind: Kind, legacy: Side<'_>, extracted: Side<'_>, found: &mut Differences<'_>) {
    found.push_body(&[], kind, || (shown(legacy), shown(extracted)));
}

fn shown((answer, view): Side<'_>) -> Option<Shown> {
    let (bytes, known): (u64, &[u8]) = match view {
        BodyView::Whole([]) => return None,
        BodyView::Whole(bytes) => (u64::try_from(bytes.len()).unwrap_or(u64::MAX), bytes),
        BodyView::Beginning(_) | BodyView::Unreadable(_) => (answer.body_bytes, &answer.body),
    };
    Some(Shown::Bytes { bytes, digest: Sha256::digest(known).into() })
}
