//! Names that people give: routes, upstreams, journeys. Short, lower-case, safe as a label, a file name and a URL segment.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name, in bytes: that of a DNS label, so that a name can become one.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing between the quotes.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("a name has at most {NAME_BYTES_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside `[a-z0-9-]`.
    #[error("{0:?} cannot be in a name; use a-z, 0-9 and `-`")]
    BadCharacter(char),
    /// The label that requests without a route carry.
    #[error("`fall-through` is the label of what no route covers; choose another name")]
    Reserved,
}

/// The label of requests that no route covers; no route may take it.
pub const FALL_THROUGH: &str = "fall-through";

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::BadCharacter(bad));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(text.len()));
    }
    if text == FALL_THROUGH {
        return Err(NameError::Reserved);
    }
    Ok(Arc::from(text))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// `[a-z0-9-]{1,63}`; cheap to clone.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a route; also the `route` label of every metric.
    RouteName
);
name!(
    /// Name of an upstream.
    UpstreamName
);
name!(
    /// Name of a journey: routes that share one assignment.
    JourneyName
);

impl RouteName {
    /// The name of what no route covers; it cannot be written.
    pub fn fall_through() -> RouteName {
        RouteName(FALL_THROUGH.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        assert!("cart-total".parse::<RouteName>().is_ok());
        assert_eq!("".parse::<RouteName>(), Err(NameError::Empty));
        assert_eq!("Cart".parse::<RouteName>(), Err(NameError::BadCharacter('C')));
        assert_eq!("a".repeat(64).parse::<RouteName>(), Err(NameError::TooLong(64)));
        assert_eq!("fall-through".parse::<RouteName>(), Err(NameError::Reserved));
    }
}
