//! An error with its causes, on one line.

use std::error::Error;

/// `error`, and behind colons what caused it; a cause that the text before it has said already is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("cannot write")]
        Saying(#[source] std::fmt::Error),
        #[error("cannot write twice")]
        Nested(#[source] Box<Failed>),
        #[error("driver: {0}")]
        Repeating(#[source] Box<Failed>),
    }

    #[test]
    fn every_cause_is_said_once() {
        let inner = || Box::new(Failed::Saying(std::fmt::Error));
        let why = std::fmt::Error.to_string();
        assert_eq!(chain(&Failed::Nested(inner())), format!("cannot write twice: cannot write: {why}"));
        assert_eq!(chain(&Failed::Repeating(inner())), format!("driver: cannot write: {why}"));
    }
}
