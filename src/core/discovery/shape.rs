//! What a segment of a path looks like: a word that a programmer wrote, or data.

use crate::redact::names::is_plain;

/// Longest segment that may be a word; what is longer is data.
const WORD_BYTES_MAX: usize = 40;
/// Files whose names may be data: the ending tells more of them than the name.
const ENDINGS: [&str; 24] = [
    "avif", "css", "csv", "doc", "docx", "gif", "html", "ico", "jpeg", "jpg", "js", "json", "map", "pdf", "php", "png",
    "svg", "txt", "webp", "woff2", "xls", "xlsx", "xml", "zip",
];

/// What stands in the place of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Digits.
    Number,
    /// A UUID in its usual spelling (RFC 9562 §4).
    Uuid,
    /// A day: `2026-11-22`, and whatever follows it.
    Date,
    /// Sixteen hexadecimal digits or more.
    Hash,
    /// Letters and digits that are a name of something: `SKU-0042`, `ord_8f3a`.
    Code,
    /// A word of which there are too many: found by counting, not by its looks.
    Slug,
    /// Anything else that no programmer writes: tokens, addresses, other scripts.
    Opaque,
}

impl Shape {
    /// All of them, in the order above.
    pub const ALL: [Shape; 7] =
        [Shape::Number, Shape::Uuid, Shape::Date, Shape::Hash, Shape::Code, Shape::Slug, Shape::Opaque];

    /// As written where it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Shape::Number => "number",
            Shape::Uuid => "uuid",
            Shape::Date => "date",
            Shape::Hash => "hash",
            Shape::Code => "code",
            Shape::Slug => "slug",
            Shape::Opaque => "opaque",
        }
    }

    /// The one that is written so.
    pub fn of_word(text: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.as_str() == text)
    }
}

/// A segment, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A word.
    Word(&'a str),
    /// Data, and the ending of a file's name behind it.
    Data(Shape, Option<&'a str>),
}

impl<'a> Piece<'a> {
    /// Reads a segment. What looks like data is never a word: a template names nobody.
    pub(super) fn of(segment: &'a str) -> Piece<'a> {
        let (stem, ending) = match segment.rsplit_once('.') {
            Some((stem, ending)) if !stem.is_empty() && is_ending(ending) => (stem, Some(ending)),
            _ => (segment, None),
        };
        if is_word(stem) { Piece::Word(segment) } else { Piece::Data(shape(stem), ending) }
    }
}

fn is_ending(text: &str) -> bool {
    ENDINGS.iter().any(|ending| ending.eq_ignore_ascii_case(text))
}

fn is_word(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    // `v1`, `oauth2`, `daily.csv`; not `order-1042` and not `2026`. The empty one is the end of `/a/`.
    let is_short = segment.len() <= WORD_BYTES_MAX && digits <= 2;
    let letters = segment.bytes().filter(u8::is_ascii_alphabetic).count();
    segment.is_empty() || (is_short && letters >= digits && !segment.contains(' ') && is_plain(segment))
}

fn shape(stem: &str) -> Shape {
    let bytes = stem.as_bytes();
    let all = |is_it: fn(&u8) -> bool| !bytes.is_empty() && bytes.iter().all(is_it);
    let has = |is_it: fn(&u8) -> bool| bytes.iter().any(is_it);
    if all(u8::is_ascii_digit) {
        Shape::Number
    } else if is_uuid(bytes) {
        Shape::Uuid
    } else if is_date(bytes) {
        Shape::Date
    } else if bytes.len() >= 16 && all(u8::is_ascii_hexdigit) {
        Shape::Hash
    } else if bytes.len() <= WORD_BYTES_MAX
        && has(u8::is_ascii_digit)
        && all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
    {
        Shape::Code
    } else {
        Shape::Opaque
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    let is_place = |(index, byte): (usize, &u8)| {
        if matches!(index, 8 | 13 | 18 | 23) { *byte == b'-' } else { byte.is_ascii_hexdigit() }
    };
    bytes.len() == 36 && bytes.iter().enumerate().all(is_place)
}

fn is_date(bytes: &[u8]) -> bool {
    let Some((day, rest)) = bytes.split_at_checked(10) else { return false };
    let is_place = |(index, byte): (usize, &u8)| {
        if matches!(index, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() }
    };
    day.iter().enumerate().all(is_place) && rest.first().is_none_or(|byte| matches!(byte, b'T' | b't' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_data_by_their_looks() {
        for word in
            ["", "api", "v1", "oauth2", "products", "products.xml", "OrderService", "daily.csv", "line-items", "__bugs"]
        {
            assert_eq!(Piece::of(word), Piece::Word(word));
        }
        for (segment, shape, ending) in [
            ("1042", Shape::Number, None),
            ("10023.pdf", Shape::Number, Some("pdf")),
            ("2026-11-22", Shape::Date, None),
            ("2026-11-22T10:00:00Z", Shape::Date, None),
            ("7f1c0a52-8c7e-4a53-9a0d-1f1f0b7b3c11", Shape::Uuid, None),
            ("7f1c0a528c7e4a539a0d1f1f0b7b3c11", Shape::Hash, None),
            ("SKU-0042", Shape::Code, None),
            ("ord_8f3a21", Shape::Code, None),
            ("01JD8Z0Q6V6T4W2M9K3N5P7R8S", Shape::Code, None),
            ("anna.meier@example.com", Shape::Opaque, None),
            ("%C3%BCber", Shape::Opaque, None),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", Shape::Opaque, None),
        ] {
            assert_eq!(Piece::of(segment), Piece::Data(shape, ending), "{segment}");
        }
    }
}
