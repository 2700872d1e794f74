//! The two sides.

use std::fmt;

/// Which side answers: the monolith or the extracted service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The monolith.
    Legacy,
    /// The service taken out of it.
    Extracted,
}

impl Side {
    /// As written in labels, logs and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Side::Legacy => "legacy",
            Side::Extracted => "extracted",
        }
    }

    /// The one that a copy goes to.
    pub const fn other(self) -> Side {
        match self {
            Side::Legacy => Side::Extracted,
            Side::Extracted => Side::Legacy,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
