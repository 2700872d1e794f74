//! Places in a document: JSON pointers (RFC 6901) that remember which segments are positions in an array.

use std::fmt;
use std::sync::Arc;

/// One step from the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A position in an array.
    Index(usize),
    /// A member of an object; a key that looks like a number is still a key.
    Key(Arc<str>),
    /// A member whose key is somebody's data; only redaction makes one, of a [`Step::Key`].
    Data(Arc<str>),
    /// The element of an array whose member `key` says `value`. Written `[key=value]`.
    Item {
        /// The member's name.
        key: Arc<str>,
        /// What it says.
        value: Arc<str>,
    },
    /// An element, an attribute or a text of a marked-up document. Written `div[0]`, `@class`, `text()`.
    Node {
        /// Its name.
        name: Arc<str>,
        /// Its place among those of its name; `None`: there is one at most.
        index: Option<usize>,
    },
}

/// A place in a document; the root is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(pub Vec<Step>);

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                Step::Index(index) => write!(f, "/{index}")?,
                Step::Key(key) | Step::Data(key) => write!(f, "/{}", escape(key))?,
                Step::Item { key, value } => write!(f, "/[{}={}]", escape(key), escape(value))?,
                Step::Node { name, index: Some(index) } => write!(f, "/{}[{index}]", escape(name))?,
                Step::Node { name, index: None } => write!(f, "/{}", escape(name))?,
            }
        }
        Ok(())
    }
}

/// A key as a pointer's segment: `~` and `/` escaped.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_escaped_and_an_index_is_not() {
        let pointer =
            Pointer(vec![Step::Key("a/b".into()), Step::Index(0), Step::Key("".into()), Step::Key("~1".into())]);
        assert_eq!(pointer.to_string(), "/a~1b/0//~01");
        assert_eq!(Pointer::default().to_string(), "");
        let item = Step::Item { key: "id".into(), value: "a/1".into() };
        let node = |name: &str, index| Step::Node { name: name.into(), index };
        let pointer = Pointer(vec![item, node("div", Some(2)), node("@class", None)]);
        assert_eq!(pointer.to_string(), "/[id=a~11]/div[2]/@class");
    }
}
