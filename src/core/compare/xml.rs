//! XML by namespace: prefixes, the order of attributes, comments and the white space between elements mean nothing.
//!
//! A document type is refused, as entities of one's own are a way to fill a memory.

use std::borrow::Cow;
use std::collections::BTreeMap;

use roxmltree::{Document, ParsingOptions};

use crate::compare::markup::{BeyondLimits, DEPTH_MAX, Element, NODES_MAX, Node};
use crate::json::Json;

/// Most attributes of one element; that none is there twice takes the square of their number.
const ATTRIBUTES_MAX: usize = 10_000;

/// Why a text is no XML, or none that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XmlError {
    /// It may be XML, but is more than is read here.
    BeyondLimits,
    /// It is no XML.
    Syntax,
}

impl From<BeyondLimits> for XmlError {
    fn from(_: BeyondLimits) -> XmlError {
        XmlError::BeyondLimits
    }
}

/// Reads a document; its root element is the only child of what is answered.
pub(crate) fn read(text: &str) -> Result<Element, XmlError> {
    // A `<` ends a tag that has no other end, so no element has more attributes than stand between two of them.
    if text.split('<').any(|part| part.matches(['"', '\'']).count() > 2 * ATTRIBUTES_MAX) {
        return Err(XmlError::BeyondLimits);
    }
    let nodes_limit = u32::try_from(NODES_MAX).unwrap_or(u32::MAX);
    let options = ParsingOptions { nodes_limit, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| {
        use roxmltree::Error::{AttributesLimitReached, DtdDetected, NamespacesLimitReached, NodesLimitReached};
        let is_limit =
            matches!(error, NodesLimitReached | AttributesLimitReached | NamespacesLimitReached | DtdDetected);
        if is_limit { XmlError::BeyondLimits } else { XmlError::Syntax }
    })?;
    let root = element(document.root_element(), 0)?;
    Ok(Element { children: vec![Node::Element(Element { is_only: true, ..root })], ..Element::default() })
}

fn element(node: roxmltree::Node<'_, '_>, depth: usize) -> Result<Element, BeyondLimits> {
    if depth > DEPTH_MAX {
        return Err(BeyondLimits);
    }
    let attributes: BTreeMap<String, Json<'static>> = node
        .attributes()
        .map(|one| (format!("@{}", named(one.namespace(), one.name())), string(one.value())))
        .collect();
    let name = named(node.tag_name().namespace(), node.tag_name().name());
    let mut out = Element { name, attributes, children: Vec::new(), is_only: false };
    let has_elements = node.children().any(|child| child.is_element());
    let mut text = String::new();
    for child in node.children() {
        if child.is_text() {
            text.push_str(child.text().unwrap_or_default());
        } else if child.is_element() {
            push_text(&mut out, &mut text, has_elements);
            out.children.push(Node::Element(element(child, depth + 1)?));
        }
    }
    push_text(&mut out, &mut text, has_elements);
    Ok(out)
}

/// Between elements white space is layout; an element of text only keeps its own.
fn push_text(out: &mut Element, text: &mut String, has_elements: bool) {
    let text = std::mem::take(text);
    let text = if has_elements { text.trim() } else { &text };
    if !text.is_empty() {
        out.children.push(Node::Text(string(text)));
    }
}

fn named(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{{{namespace}}}{name}"))
}

fn string(text: &str) -> Json<'static> {
    Json::String(Cow::Owned(text.to_owned()))
}
