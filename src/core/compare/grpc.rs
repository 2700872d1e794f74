//! gRPC: the status that ends an answer, and its messages by their bytes.

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use crate::compare::NotComparable;
use crate::compare::differences::{Differences, Location, Name, Shown};
use crate::compare::rules::StepRef;
use crate::difference::Kind;
use crate::grpc::is_call;
use crate::observation::Answer;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Compares what ends an answer, where one side at least speaks gRPC. An answer of trailers only has it among its headers.
pub(crate) fn compare_trailers(legacy: &Answer, extracted: &Answer, found: &mut Differences<'_>) {
    if !is_call(&legacy.headers) && !is_call(&extracted.headers) {
        return;
    }
    let [left, right] = [legacy, extracted].map(status);
    let kind = match (&left, &right) {
        (left, right) if left == right => return,
        (Some(left), Some(right)) if is_refusal(left) != is_refusal(right) => Kind::AuthMismatch,
        (Some(_), Some(_)) => Kind::Status,
        (Some(_), None) => Kind::Missing,
        (None, _) => Kind::Extra,
    };
    let shown = |status: Option<Vec<u8>>| status.map(|status| Shown::Header(status.into()));
    found.push(Location::Trailer(Name(STATUS)), kind, shown(left), shown(right));
}

fn status(answer: &Answer) -> Option<Vec<u8>> {
    let of = |fields: &HeaderMap| fields.get(STATUS).map(|value| value.as_bytes().trim_ascii().to_vec());
    answer.trailers.as_deref().and_then(of).or_else(|| of(&answer.headers))
}

/// PERMISSION_DENIED or UNAUTHENTICATED.
fn is_refusal(status: &[u8]) -> bool {
    matches!(status, b"7" | b"16")
}

/// Compares messages one by one. A compressed one that differs says nothing: the same message may be compressed in many ways.
pub(crate) fn compare_messages(legacy: &[u8], extracted: &[u8], found: &mut Differences<'_>) -> Option<NotComparable> {
    let (Some(left), Some(right)) = (messages(legacy), messages(extracted)) else {
        return Some(NotComparable::Unreadable);
    };
    if left.len() != right.len() {
        let list = |messages: &[Message<'_>], body: &[u8]| {
            Some(Shown::Array { items: messages.len(), digest: Sha256::digest(body).into() })
        };
        let shown = || (list(&left, legacy), list(&right, extracted), None);
        found.push_body(&[], Kind::ArrayLength, None, shown);
        return None;
    }
    let mut unknown = None;
    for (index, (left, right)) in left.iter().zip(&right).enumerate().filter(|(_, (left, right))| left != right) {
        if left.is_compressed || right.is_compressed {
            unknown = Some(NotComparable::Unreadable);
            continue;
        }
        let bytes = |message: &Message<'_>| {
            let bytes = u64::try_from(message.bytes.len()).unwrap_or(u64::MAX);
            Some(Shown::Bytes { bytes, digest: Sha256::digest(message.bytes).into() })
        };
        found.push_body(&[StepRef::Index(index)], Kind::Value, None, || (bytes(left), bytes(right), None));
    }
    unknown
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message<'a> {
    is_compressed: bool,
    bytes: &'a [u8],
}

/// A flag, four bytes of length, and so many of message; `None`: it is not made so.
fn messages(mut body: &[u8]) -> Option<Vec<Message<'_>>> {
    let mut out = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let [flag, length @ ..] = *head;
        let (bytes, after) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(length)).ok()?)?;
        out.push(Message { is_compressed: flag != 0, bytes });
        body = after;
    }
    body.is_empty().then_some(out)
}
