//! Two marked-up documents: attributes by name, children by name and place among those of their name.
//!
//! A place is written `/body/div[0]/h1[0]/@class`. Texts and attributes have no types: a rule's tolerance takes them for numbers
//! if they read as such.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::compare::NotComparable;
use crate::compare::differences::{Differences, Shown};
use crate::compare::json::Walk;
use crate::compare::rules::StepRef;
use crate::difference::Kind;
use crate::json::Json;
use crate::route::JsonPolicy;

/// Deepest nesting of elements.
pub(crate) const DEPTH_MAX: usize = 256;
/// Most elements, attributes and texts of a document.
pub(crate) const NODES_MAX: usize = 200_000;
/// What a text is called in a path.
const TEXT: &str = "text()";

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Element {
    /// Its name; of XML with its namespace.
    pub(crate) name: String,
    /// `@name` and value, by name.
    pub(crate) attributes: BTreeMap<String, Json<'static>>,
    /// In the order of the document.
    pub(crate) children: Vec<Node>,
    /// Whether it is known to be the only one of its name where it stands.
    pub(crate) is_only: bool,
}

/// What an element contains.
#[derive(Debug)]
pub(crate) enum Node {
    Element(Element),
    /// Always a string.
    Text(Json<'static>),
}

impl Node {
    fn name(&self) -> &str {
        match self {
            Node::Element(element) => &element.name,
            Node::Text(_) => TEXT,
        }
    }
}

/// More than is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BeyondLimits;

/// Notes every difference between the children of two documents' roots.
pub(crate) fn compare_markup(
    legacy: &Element,
    extracted: &Element,
    found: &mut Differences<'_>,
) -> Option<NotComparable> {
    let mut walk = Walk::new(JsonPolicy::default(), false, found);
    walk.elements(legacy, extracted);
    walk.gave_up()
}

impl<'r, 'a> Walk<'_, 'r, 'a>
where
    'r: 'a,
{
    /// Calls itself for what is inside, at most [`DEPTH_MAX`] times deep.
    fn elements(&mut self, left: &'a Element, right: &'a Element) {
        self.attributes(&left.attributes, &right.attributes);
        let (lefts, rights) = (by_name(&left.children), by_name(&right.children));
        let mut is_same_count = true;
        for name in lefts.keys().chain(rights.keys().filter(|name| !lefts.contains_key(*name))) {
            let of = |side: &BTreeMap<&'a str, Vec<&'a Node>>| side.get(name).cloned().unwrap_or_default();
            let (left, right) = (of(&lefts), of(&rights));
            is_same_count &= left.len() == right.len();
            self.of_one_name(name, &left, &right);
        }
        let is_in_order = || left.children.iter().map(Node::name).eq(right.children.iter().map(Node::name));
        if is_same_count && !is_in_order() {
            self.push_nodes(Kind::ArrayOrder, Some(left), Some(right));
        }
    }

    fn attributes(&mut self, left: &'a BTreeMap<String, Json<'static>>, right: &'a BTreeMap<String, Json<'static>>) {
        for (name, value) in left {
            self.path.push(StepRef::Node { name, index: None });
            match right.get(name) {
                Some(other) => self.values(value, other),
                None => self.push(Kind::Missing, None, Some(value), None),
            }
            self.path.pop();
        }
        for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
            self.path.push(StepRef::Node { name, index: None });
            self.push(Kind::Extra, None, None, Some(value));
            self.path.pop();
        }
    }

    fn of_one_name(&mut self, name: &'a str, left: &[&'a Node], right: &[&'a Node]) {
        if left.len() != right.len() && !left.is_empty() && !right.is_empty() {
            // Which of them are new cannot be told, and what follows would differ for being moved.
            self.path.push(StepRef::Node { name, index: None });
            let count = |nodes: &[&Node]| Shown::Array { items: nodes.len(), digest: digest(nodes) };
            self.found.push_body(&self.path, Kind::ArrayLength, None, || (Some(count(left)), Some(count(right)), None));
            self.path.pop();
            return;
        }
        for place in 0..left.len().max(right.len()) {
            let pair = (left.get(place), right.get(place));
            let is_only = left.len().max(right.len()) == 1
                && [pair.0, pair.1].into_iter().flatten().all(|node| match node {
                    Node::Element(element) => element.is_only,
                    Node::Text(_) => true,
                });
            self.path.push(StepRef::Node { name, index: (!is_only).then_some(place) });
            match pair {
                (Some(Node::Element(left)), Some(Node::Element(right))) => self.elements(left, right),
                (Some(Node::Text(left)), Some(Node::Text(right))) => self.values(left, right),
                (Some(left), None) => self.push_node(Kind::Missing, left),
                (None, Some(right)) => self.push_node(Kind::Extra, right),
                // An element cannot be named as a text is.
                _ => {}
            }
            self.path.pop();
        }
    }

    /// Something that one side has alone.
    fn push_node(&mut self, kind: Kind, node: &'a Node) {
        match (node, kind) {
            (Node::Element(element), Kind::Missing) => self.push_nodes(kind, Some(element), None),
            (Node::Element(element), _) => self.push_nodes(kind, None, Some(element)),
            (Node::Text(text), Kind::Missing) => self.push(kind, None, Some(text), None),
            (Node::Text(text), _) => self.push(kind, None, None, Some(text)),
        }
    }

    fn push_nodes(&mut self, kind: Kind, left: Option<&Element>, right: Option<&Element>) {
        let shown = |element: &Element| {
            let children: Vec<&Node> = element.children.iter().collect();
            Shown::Object { members: children.len(), digest: digest(&children) }
        };
        self.found.push_body(&self.path, kind, None, || (left.map(shown), right.map(shown), None));
    }
}

fn by_name(children: &[Node]) -> BTreeMap<&str, Vec<&Node>> {
    let mut out: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for child in children {
        out.entry(child.name()).or_default().push(child);
    }
    out
}

fn digest(nodes: &[&Node]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for node in nodes {
        hasher.update(format!("{node}"));
    }
    hasher.finalize().into()
}

impl fmt::Display for Node {
    /// In one spelling: equal nodes alike, different ones differently.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Text(Json::String(text)) => write!(f, "{text:?}"),
            Node::Text(_) => Ok(()),
            Node::Element(element) => {
                write!(f, "<{:?}", element.name)?;
                for (name, value) in &element.attributes {
                    if let Json::String(text) = value {
                        write!(f, " {name:?}={text:?}")?;
                    }
                }
                f.write_str(">")?;
                element.children.iter().try_for_each(|child| child.fmt(f))?;
                f.write_str("</>")
            }
        }
    }
}

/// Runs of white space as one blank, none at the ends.
pub(crate) fn collapsed(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}
