//! Texts by line, and lines that are JSON each.

use std::borrow::Cow;

use crate::json::{Json, JsonError, parse};

/// A body as text. Where it is no UTF-8, bytes beyond ASCII become characters that no text has, each its own: different bytes
/// stay different.
pub(crate) fn text_of(body: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(body.iter().map(|byte| char_of(*byte)).collect()),
    }
}

fn char_of(byte: u8) -> char {
    const PRIVATE: u32 = 0xf700;
    if byte.is_ascii() {
        char::from(byte)
    } else {
        char::from_u32(PRIVATE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

/// A text as a list of its lines. What ends a line is part of it but for the line feed, so nothing is lost.
pub(crate) fn lines(text: &str) -> Json<'_> {
    Json::Array(text.split('\n').map(|line| Json::String(Cow::Borrowed(line))).collect())
}

/// A list of documents, one a line; empty lines are none.
pub(crate) fn documents(body: &[u8]) -> Result<Json<'_>, JsonError> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(parse).collect::<Result<Vec<_>, _>>().map(Json::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_word_in_two_charsets_stays_two() {
        assert_ne!(text_of("é".as_bytes()), text_of(b"\xe9"));
        assert_eq!(text_of(b"a\xe9"), "a\u{f7e9}");
    }

    proptest! {
        #[test]
        fn different_bytes_are_different_texts(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(a == b, text_of(&a) == text_of(&b));
        }
    }
}
