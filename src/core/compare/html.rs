//! HTML as a browser reads it, without what means nothing: comments, the white space between words, and values that are
//! new in every answer by design (nonces, CSRF tokens).

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::{Attribute, ExpandedName, ParseOpts, QualName, parse_document};

use crate::compare::markup::{BeyondLimits, DEPTH_MAX, Element, NODES_MAX, Node, collapsed};
use crate::json::Json;

/// Bytes read between two looks at what has come of them.
const PIECE_BYTES: usize = 4 << 10;
/// Longest stretch from which nothing comes: a tag with that many attributes is nobody's page, and takes the parser long.
const SILENT_BYTES_MAX: usize = 128 << 10;
/// Elements whose white space is text.
const VERBATIM: [&str; 3] = ["pre", "textarea", "listing"];

/// Reads a page. Its root is `html`, whatever the text says: a browser finds or makes one.
pub(crate) fn read(text: &str) -> Result<Element, BeyondLimits> {
    let mut parser = parse_document(Page::default(), ParseOpts::default());
    let mut rest = text;
    let (mut last_touch, mut silent) = (0, 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES));
        parser.process(piece.into());
        rest = after;
        let page = &parser.tokenizer.sink.sink;
        let touched = page.touched.get();
        silent = if touched == last_touch { silent + piece.len() } else { 0 };
        last_touch = touched;
        // Time grows with the product of depth and length, so it is stopped on the way and not judged afterwards.
        if page.deepest.get() > DEPTH_MAX || page.nodes.borrow().len() > NODES_MAX || silent > SILENT_BYTES_MAX {
            return Err(BeyondLimits);
        }
    }
    let nodes = parser.finish();
    let root = nodes.first().map(|document| &document.children).into_iter().flatten();
    let html = root.filter_map(|id| nodes.get(*id).map(|slot| (*id, slot))).find(|(_, slot)| slot.is_element("html"));
    html.map_or_else(|| Ok(Element::default()), |(id, _)| element(&nodes, id, false, 0))
}

/// Turns the parser's nodes into ours.
fn element(nodes: &[Slot], id: usize, is_verbatim: bool, depth: usize) -> Result<Element, BeyondLimits> {
    let Some(slot) = nodes.get(id).filter(|_| depth <= DEPTH_MAX) else { return Err(BeyondLimits) };
    let Content::Element(name, attributes) = &slot.content else { return Ok(Element::default()) };
    let name = name.local.to_string();
    let is_verbatim = is_verbatim || VERBATIM.contains(&name.as_str());
    let mut out = Element { is_only: matches!(name.as_str(), "head" | "body"), name, ..Element::default() };
    let value_of = |wanted: &str| {
        let found = attributes.iter().find(|attribute| &*attribute.name.local == wanted);
        found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
    };
    let named = match out.name.as_str() {
        "input" | "meta" => value_of("name").to_ascii_lowercase(),
        _ => String::new(),
    };
    let is_token =
        ["csrf", "xsrf", "authenticity_token", "requestverificationtoken"].iter().any(|it| named.contains(it));
    for attribute in attributes {
        let key = &*attribute.name.local;
        let is_new_each_time = key == "nonce" || (is_token && matches!(key, "value" | "content"));
        let value = if is_new_each_time { String::new() } else { attribute.value.to_string() };
        out.attributes.insert(format!("@{key}"), Json::String(Cow::Owned(value)));
    }
    let mut text = String::new();
    for child in &slot.children {
        match nodes.get(*child).map(|slot| &slot.content) {
            Some(Content::Text(more)) => text.push_str(more),
            Some(Content::Element(..)) => {
                push_text(&mut out, &mut text, is_verbatim);
                out.children.push(Node::Element(element(nodes, *child, is_verbatim, depth + 1)?));
            }
            // Texts on both sides of a comment are one.
            Some(Content::Nothing) | None => {}
        }
    }
    push_text(&mut out, &mut text, is_verbatim);
    Ok(out)
}

fn push_text(out: &mut Element, text: &mut String, is_verbatim: bool) {
    let text = std::mem::take(text);
    let text = if is_verbatim { text } else { collapsed(&text) };
    if !text.is_empty() {
        out.children.push(Node::Text(Json::String(Cow::Owned(text))));
    }
}

/// What the parser builds: nodes by number, the document first.
struct Page {
    nodes: RefCell<Vec<Slot>>,
    deepest: Cell<usize>,
    /// Grows whenever the parser does something.
    touched: Cell<u64>,
}

#[derive(Default)]
struct Slot {
    parent: Option<usize>,
    depth: usize,
    content: Content,
    children: Vec<usize>,
}

#[derive(Default)]
enum Content {
    Element(Rc<QualName>, Vec<Attribute>),
    Text(String),
    /// The document, a comment, an instruction.
    #[default]
    Nothing,
}

impl Slot {
    fn is_element(&self, wanted: &str) -> bool {
        matches!(&self.content, Content::Element(name, _) if &*name.local == wanted)
    }
}

#[derive(Clone)]
struct Handle {
    id: usize,
    name: Rc<QualName>,
}

impl Default for Page {
    fn default() -> Page {
        Page { nodes: RefCell::new(vec![Slot::default()]), deepest: Cell::new(0), touched: Cell::new(0) }
    }
}

impl Page {
    fn make(&self, content: Content) -> usize {
        self.touched.set(self.touched.get() + 1);
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Slot { content, ..Slot::default() });
        nodes.len() - 1
    }

    fn nameless(&self) -> Handle {
        Handle { id: self.make(Content::Nothing), name: no_name() }
    }

    /// Puts a node into `parent` at `place`; a text joins the one before it.
    fn put(&self, parent: usize, place: usize, child: NodeOrText<Handle>) {
        let id = match child {
            NodeOrText::AppendText(text) => {
                self.touched.set(self.touched.get() + 1);
                let mut nodes = self.nodes.borrow_mut();
                let before = place.checked_sub(1).and_then(|at| nodes.get(parent)?.children.get(at).copied());
                if let Some(Content::Text(own)) = before.and_then(|at| nodes.get_mut(at)).map(|slot| &mut slot.content)
                {
                    own.push_str(&text);
                    return;
                }
                drop(nodes);
                self.make(Content::Text(text.to_string()))
            }
            NodeOrText::AppendNode(handle) => {
                self.detach(handle.id);
                handle.id
            }
        };
        let mut nodes = self.nodes.borrow_mut();
        let depth = nodes.get(parent).map_or(0, |slot| slot.depth) + 1;
        self.deepest.set(self.deepest.get().max(depth));
        if let Some(slot) = nodes.get_mut(id) {
            slot.parent = Some(parent);
            slot.depth = depth;
        }
        if let Some(slot) = nodes.get_mut(parent) {
            let place = place.min(slot.children.len());
            slot.children.insert(place, id);
        }
    }

    fn end_of(&self, parent: usize) -> usize {
        self.nodes.borrow().get(parent).map_or(0, |slot| slot.children.len())
    }

    fn parent_of(&self, id: usize) -> Option<usize> {
        self.nodes.borrow().get(id)?.parent
    }

    fn detach(&self, id: usize) {
        let Some(parent) = self.parent_of(id) else { return };
        let mut nodes = self.nodes.borrow_mut();
        if let Some(slot) = nodes.get_mut(parent)
            && let Some(at) = slot.children.iter().rposition(|child| *child == id)
        {
            slot.children.remove(at);
        }
        if let Some(slot) = nodes.get_mut(id) {
            slot.parent = None;
        }
    }
}

fn no_name() -> Rc<QualName> {
    Rc::new(QualName::new(None, "".into(), "".into()))
}

impl TreeSink for Page {
    type Handle = Handle;
    type Output = Vec<Slot>;
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) -> Vec<Slot> {
        self.nodes.into_inner()
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        Handle { id: 0, name: no_name() }
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> ExpandedName<'a> {
        target.name.expanded()
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> Handle {
        let name = Rc::new(name);
        Handle { id: self.make(Content::Element(Rc::clone(&name), attributes)), name }
    }

    fn create_comment(&self, _: StrTendril) -> Handle {
        self.nameless()
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Handle {
        self.nameless()
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        self.put(parent.id, self.end_of(parent.id), child);
    }

    fn append_based_on_parent_node(&self, element: &Handle, before: &Handle, child: NodeOrText<Handle>) {
        if self.parent_of(element.id).is_some() {
            self.append_before_sibling(element, child);
        } else {
            self.append(before, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Handle) -> Handle {
        // What is in a template is compared like anything else.
        target.clone()
    }

    fn same_node(&self, one: &Handle, other: &Handle) -> bool {
        one.id == other.id
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Handle, node: NodeOrText<Handle>) {
        if let NodeOrText::AppendNode(handle) = &node {
            self.detach(handle.id);
        }
        let Some(parent) = self.parent_of(sibling.id) else { return };
        let place =
            self.nodes.borrow().get(parent).and_then(|slot| slot.children.iter().rposition(|it| *it == sibling.id));
        self.put(parent, place.unwrap_or(usize::MAX), node);
    }

    fn add_attrs_if_missing(&self, target: &Handle, attributes: Vec<Attribute>) {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(Content::Element(_, own)) = nodes.get_mut(target.id).map(|slot| &mut slot.content) {
            for attribute in attributes {
                if own.len() < 1_000 && !own.iter().any(|it| it.name == attribute.name) {
                    own.push(attribute);
                }
            }
        }
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.detach(target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        let mut nodes = self.nodes.borrow_mut();
        let children = nodes.get_mut(node.id).map(|slot| std::mem::take(&mut slot.children)).unwrap_or_default();
        let depth = nodes.get(new_parent.id).map_or(0, |slot| slot.depth) + 1;
        for child in &children {
            if let Some(slot) = nodes.get_mut(*child) {
                slot.parent = Some(new_parent.id);
                slot.depth = depth;
            }
        }
        if let Some(slot) = nodes.get_mut(new_parent.id) {
            slot.children.extend(children);
        }
    }
}
