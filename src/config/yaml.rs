//! YAML text to a tree. The one file that names the YAML crate.
//!
//! The tree is built from the parser's events, not through serde: so that every scalar keeps its spelling and its quotes, every key its
//! place, and a key that is there twice is one fault among others.
//!
//! Bounds: 16 MiB (counted in bytes before anything is read), 64 levels, 2,000,000 nodes with every alias counted as often as it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use strangler_core::fault::Fault;
use strangler_core::tree::{self, Entry, Kind, Node, Span};

/// Largest file, in bytes.
pub const BYTES_MAX: usize = 16 << 20;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 64;
/// Most keys and values, aliases unfolded.
pub const NODES_MAX: usize = 2_000_000;

/// Reads one document. Without faults there is a tree; with faults there is one if the rest can still be looked at.
pub fn read(bytes: &[u8]) -> (Option<Node>, Vec<Fault>) {
    match tree(bytes) {
        Ok((root, faults)) => (Some(root), faults),
        Err(faults) => (None, faults),
    }
}

fn tree(bytes: &[u8]) -> Result<(Node, Vec<Fault>), Vec<Fault>> {
    if bytes.len() > BYTES_MAX {
        let message = format!("the file has {} bytes; at most {BYTES_MAX} are read", bytes.len());
        return Err(vec![Fault::error(Span::default(), "", message)]);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| vec![not_utf8(bytes, error.valid_up_to())])?;
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX + 1,
        block_nesting_limit: DEPTH_MAX + 1,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.take(event, place(span.start, span.end)),
            Err(error) => Err(scan_fault(text, &error)),
        };
        if let Err(fault) = step {
            builder.faults.push(*fault);
            return Err(builder.faults);
        }
    }
    match builder.root {
        Some(root) if root.kind != Kind::Null => Ok((root, builder.faults)),
        _ => Err(vec![
            Fault::error(Span::default(), "", "the file is empty")
                .with_help("the least there is: `version: 1` and `legacy: http://127.0.0.1:8000`"),
        ]),
    }
}

fn not_utf8(bytes: &[u8], at: usize) -> Fault {
    let before = bytes.get(..at).unwrap_or_default();
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let line = before.split(|b| *b == b'\n').count();
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
    let span = Span { start: short(at), end: short(at + 1), line: short(line), column: short(column) };
    let byte = bytes.get(at).copied().unwrap_or_default();
    Fault::error(span, "", format!("the byte 0x{byte:02x} is not UTF-8")).with_help("save the file as UTF-8")
}

fn scan_fault(text: &str, error: &ScanError) -> Box<Fault> {
    let span = place(*error.marker(), *error.marker());
    if *error.kind() == ErrorKind::RecursionLimitExceeded {
        return too_deep(span);
    }
    let mut message = format!("not YAML: {}", error.kind());
    let is_cut = span.start as usize >= text.trim_end().len();
    let help = if is_cut {
        message.push_str(", and here the file ends");
        Some("is the file only half written? a bracket or a quote may be open".to_owned())
    } else {
        None
    };
    Box::new(Fault::error(span, "", message).with_maybe_help(help))
}

fn too_deep(span: Span) -> Box<Fault> {
    Box::new(Fault::error(span, "", format!("more than {DEPTH_MAX} levels deep")))
}

/// The parser counts lines from 1 and columns from 0.
fn place(start: Marker, end: Marker) -> Span {
    let byte = |marker: Marker| short(marker.byte_offset().unwrap_or_else(|| marker.index()));
    Span {
        start: byte(start),
        end: byte(end).max(byte(start)),
        line: short(start.line()),
        column: short(start.col() + 1),
    }
}

/// No file is larger than 16 MiB, so nothing is lost.
fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// One step of the reading; a fault ends it.
type Step<T = ()> = Result<T, Box<Fault>>;

/// A collection that is still open.
struct Open {
    items: Items,
    /// What aliases know it by; 0: none.
    anchor: usize,
    span: Span,
    /// Keys and values in it, itself included.
    nodes: usize,
    /// Levels below it.
    depth: usize,
}

enum Items {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(Box<str>, Span)>, seen: Seen },
}

const KEY_IS_TEXT: &str = "a key is a text, not a list or a map";
/// Most keys that are said to be there twice.
const DUPLICATES_MAX: usize = 100;

/// Keys of a map. Few are looked through; many are indexed.
#[derive(Default)]
struct Seen(Option<BTreeSet<Box<str>>>);

const FEW: usize = 32;

impl Seen {
    fn is_new(&mut self, key: &str, entries: &[Entry]) -> bool {
        if entries.len() < FEW {
            return !entries.iter().any(|entry| *entry.key == *key);
        }
        let index = self.0.get_or_insert_with(|| entries.iter().map(|entry| entry.key.clone()).collect());
        index.insert(key.into())
    }
}

/// What an alias stands for, and what using it costs.
struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    documents: usize,
    faults: Vec<Fault>,
}

impl Builder {
    /// Takes one event. What can be told beside other faults is put among them.
    fn take(&mut self, event: Event<'_>, span: Span) -> Step {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.stop(span, "a second document begins here; the file is one document");
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_str = tag.as_deref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix() == "str");
                if tag.is_some() && !is_str {
                    return self.stop(span, "tags are not taken, but for `!!str`");
                }
                let is_plain = matches!(style, ScalarStyle::Plain) && !is_str;
                let kind = if is_plain { tree::plain(&text) } else { Kind::String((*text).into()) };
                self.count(1, span)?;
                self.put(Node { kind, span }, anchor, 1, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let items = Items::Seq(Vec::new());
                self.begin(Open { items, anchor, span, nodes: 1, depth: 0 }, tag.as_deref())
            }
            Event::MappingStart(_, anchor, tag) => {
                let items = Items::Map { entries: Vec::new(), key: None, seen: Seen::default() };
                self.begin(Open { items, anchor, span, nodes: 1, depth: 0 }, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(id) => self.alias(id, span),
            Event::UnresolvedAlias(_)
            | Event::Anchor(..)
            | Event::Comment(..)
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentEnd
            | _ => Ok(()),
        }
    }

    /// An error where the reading stands.
    fn stop<T>(&self, span: Span, message: impl Into<String>) -> Step<T> {
        Err(Box::new(Fault::error(span, self.path(), message)))
    }

    fn count(&mut self, nodes: usize, span: Span) -> Step {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return self.stop(span, format!("more than {NODES_MAX} keys and values, with every alias written out"));
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, tag: Option<&Tag>) -> Step {
        let core = match open.items {
            Items::Seq(_) => "seq",
            Items::Map { .. } => "map",
        };
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema() || tag.suffix() != core) {
            return self.stop(open.span, "tags are not taken");
        }
        self.count(1, open.span)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(open.span));
        }
        if self.awaits_key() {
            let fault = Fault::error(open.span, self.path(), KEY_IS_TEXT);
            return Err(Box::new(fault.with_help("a text that begins with `{` or `[` is written in quotes")));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, end: Span) -> Step {
        let Some(Open { items, anchor, span, nodes, depth }) = self.open.pop() else { return Ok(()) };
        let kind = match items {
            Items::Seq(items) => Kind::Seq(items),
            Items::Map { entries, .. } => Kind::Map(entries),
        };
        let node = Node { kind, span: Span { end: end.end.max(span.start), ..span } };
        self.put(node, anchor, nodes, depth + 1)
    }

    fn alias(&mut self, id: usize, span: Span) -> Step {
        let Some((nodes, depth)) = self.anchors.get(&id).map(|anchored| (anchored.nodes, anchored.depth)) else {
            return self.stop(span, "this alias stands inside of what it stands for");
        };
        // Counted before it is copied: that is what makes a bomb harmless.
        self.count(nodes, span)?;
        if self.open.len() + depth > DEPTH_MAX {
            return Err(too_deep(span));
        }
        let node = self.anchors.get(&id).map(|anchored| anchored.node.clone());
        node.map_or(Ok(()), |node| self.put(node, 0, nodes, depth))
    }

    /// Puts a node, which has been counted, where the reading stands.
    fn put(&mut self, node: Node, anchor: usize, count: usize, deep: usize) -> Step {
        if anchor > 0 {
            // What is kept for aliases is a copy, and counts.
            self.count(count, node.span)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes: count, depth: deep });
        }
        let is_collection = matches!(node.kind, Kind::Seq(_) | Kind::Map(_));
        if is_collection && self.awaits_key() {
            return self.stop(node.span, KEY_IS_TEXT);
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.nodes += count;
        open.depth = deep.max(open.depth);
        match &mut open.items {
            Items::Seq(items) => items.push(node),
            Items::Map { entries, key, seen } => {
                if let Some((key, key_span)) = key.take() {
                    entries.push(Entry { key, key_span, value: node });
                    return Ok(());
                }
                let text: Box<str> = node.text().unwrap_or_default().into();
                if seen.is_new(&text, entries) {
                    *key = Some((text, node.span));
                    return Ok(());
                }
                let first = entries.iter().find(|entry| entry.key == text).map(|entry| entry.key_span);
                let message = format!("the key `{text}` is there twice");
                *key = Some((text, node.span));
                // A file of duplicates is one mistake.
                if self.faults.len() < DUPLICATES_MAX {
                    let fault = Fault::error(node.span, self.path(), message);
                    self.faults.push(fault.with_also(first.unwrap_or_default(), "the first one"));
                }
            }
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { items: Items::Map { key: None, .. }, .. }))
    }

    /// Where the reading stands, as in `routes[3].weight`.
    fn path(&self) -> String {
        let mut out = String::new();
        for open in &self.open {
            match &open.items {
                Items::Seq(items) => {
                    let _ = write!(out, "[{}]", items.len());
                }
                Items::Map { key: Some((key, _)), .. } => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(key);
                }
                Items::Map { key: None, .. } => {}
            }
        }
        out
    }
}
