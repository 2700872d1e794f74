//! How two answers differ: the words of rules, records, metrics and verdicts.

use std::fmt;

/// How two answers differ at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two values of one type.
    Value,
    /// Two types.
    Type,
    /// Legacy has it, extracted lacks it.
    Missing,
    /// Extracted has it, legacy lacks it.
    Extra,
    /// The same elements in another order.
    ArrayOrder,
    /// Arrays of different lengths; nothing inside is compared.
    ArrayLength,
    /// Unordered arrays of one length with different elements.
    ArrayContent,
    /// One side is not what its type says.
    Format,
    /// A key is there twice, and not alike on both sides.
    DuplicateKey,
    /// Two statuses.
    Status,
    /// Two values of a header.
    Header,
    /// Two media types or charsets.
    ContentType,
    /// A body was larger than is compared.
    Truncated,
    /// Legacy failed, extracted did not, or not alike.
    LegacyError,
    /// Extracted failed, legacy did not, or not alike.
    ExtractedError,
    /// Extracted gave no answer in time.
    ExtractedTimeout,
    /// 401, 403 or 419 on one side only.
    AuthMismatch,
}

impl Kind {
    /// How many of them, from the first on, are differences of one place in a body: those that a rule may want.
    pub const IN_BODIES: usize = 9;

    /// All of them, in the order above; the labels of a metric.
    pub const ALL: [Kind; 17] = [
        Kind::Value,
        Kind::Type,
        Kind::Missing,
        Kind::Extra,
        Kind::ArrayOrder,
        Kind::ArrayLength,
        Kind::ArrayContent,
        Kind::Format,
        Kind::DuplicateKey,
        Kind::Status,
        Kind::Header,
        Kind::ContentType,
        Kind::Truncated,
        Kind::LegacyError,
        Kind::ExtractedError,
        Kind::ExtractedTimeout,
        Kind::AuthMismatch,
    ];

    /// The one that is written so.
    pub fn of(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Value => "value",
            Kind::Type => "type",
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::ArrayOrder => "array_order",
            Kind::ArrayLength => "array_length",
            Kind::ArrayContent => "array_content",
            Kind::Format => "format",
            Kind::DuplicateKey => "duplicate_key",
            Kind::Status => "status",
            Kind::Header => "header",
            Kind::ContentType => "content_type",
            Kind::Truncated => "truncated",
            Kind::LegacyError => "legacy_error",
            Kind::ExtractedError => "extracted_error",
            Kind::ExtractedTimeout => "extracted_timeout",
            Kind::AuthMismatch => "auth_mismatch",
        }
    }

    /// Whether a side gave no usable answer.
    pub const fn is_failure(self) -> bool {
        matches!(self, Kind::LegacyError | Kind::ExtractedError | Kind::ExtractedTimeout)
    }

    /// Whether one side alone would not let the caller in: a matter of sessions more often than of the service.
    pub const fn is_auth(self) -> bool {
        matches!(self, Kind::AuthMismatch)
    }

    /// As it is written; `None`: no such kind.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_stands_at_its_own_place_in_the_list_of_all() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind}");
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
    }
}
