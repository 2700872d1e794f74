//! YAML text to a tree. The one file that names the YAML crate.
//!
//! The tree is built from the parser's events, not through serde: so that every scalar keeps its spelling and its quotes, every key its
//! place, and a key that is there twice is one fault among others.
//!
//! Bounds: 16 MiB (counted in bytes before anything is read), 64 levels, 2,000,000 nodes with every alias counted as often as it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, ScanError, Tag};
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
            builder.faults.push(fault);
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
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count() + 1;
    let span = Span { start: short(at), end: short(at + 1), line: short(line), column: short(column) };
    let byte = bytes.get(at).copied().unwrap_or_default();
    Fault::error(span, "", format!("the byte 0x{byte:02x} is not UTF-8")).with_help("save the file as UTF-8")
}

fn scan_fault(text: &str, error: &ScanError) -> Fault {
    let span = place(*error.marker(), *error.marker());
    let mut message = format!("not YAML: {}", error.kind());
    let is_cut = span.start as usize >= text.trim_end().len();
    let help = if is_cut {
        message.push_str(", and here the file ends");
        Some("is the file only half written? a bracket or a quote may be open".to_owned())
    } else {
        None
    };
    Fault::error(span, "", message).with_maybe_help(help)
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

/// A collection that is still open.
enum Open {
    Seq {
        items: Vec<Node>,
        anchor: usize,
        span: Span,
        nodes: usize,
        depth: usize,
    },
    Map {
        entries: Vec<Entry>,
        key: Option<(Box<str>, Span)>,
        seen: Seen,
        anchor: usize,
        span: Span,
        nodes: usize,
        depth: usize,
    },
}

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
    /// Takes one event. An error ends the reading; what can be told beside others is put among the faults.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::error(
                        span,
                        self.path(),
                        "a second document begins here; the file is one document",
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let kind = scalar(&text, style, tag.as_deref(), span).map_err(|fault| self.at(fault))?;
                self.put(Node { kind, span }, anchor, 1, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.no_tag(tag.as_deref(), "seq", span)?;
                self.begin(Open::Seq { items: Vec::new(), anchor, span, nodes: 1, depth: 0 }, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.no_tag(tag.as_deref(), "map", span)?;
                let entries = Vec::new();
                let seen = Seen::default();
                self.begin(Open::Map { entries, key: None, seen, anchor, span, nodes: 1, depth: 0 }, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(id) => {
                let Some((nodes, depth)) = self.anchors.get(&id).map(|anchored| (anchored.nodes, anchored.depth))
                else {
                    return Err(Fault::error(span, self.path(), "this alias stands inside of what it stands for"));
                };
                // Counted before it is copied: that is what makes a bomb harmless.
                self.count(nodes, span)?;
                if self.open.len() + depth > DEPTH_MAX {
                    return Err(self.too_deep(span));
                }
                match self.anchors.get(&id).map(|anchored| anchored.node.clone()) {
                    Some(node) => self.put_counted(node, 0, nodes, depth),
                    None => Ok(()),
                }
            }
            Event::UnresolvedAlias(_)
            | Event::Anchor(..)
            | Event::Comment(..)
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentEnd
            | _ => Ok(()),
        }
    }

    fn at(&self, fault: Fault) -> Fault {
        Fault { path: self.path(), ..fault }
    }

    fn too_deep(&self, span: Span) -> Fault {
        Fault::error(span, "", format!("more than {DEPTH_MAX} levels deep"))
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} keys and values, with every alias written out");
            return Err(Fault::error(span, self.path(), message));
        }
        Ok(())
    }

    fn no_tag(&self, tag: Option<&Tag>, core: &str, span: Span) -> Result<(), Fault> {
        if tag.is_none_or(|tag| tag.is_yaml_core_schema() && tag.suffix() == core) {
            return Ok(());
        }
        Err(Fault::error(span, self.path(), "tags are not taken"))
    }

    fn begin(&mut self, open: Open, span: Span) -> Result<(), Fault> {
        self.count(1, span)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(Fault::error(span, self.path(), "a key is a text, not a list or a map")
                .with_help("a text that begins with `{` or `[` is written in quotes"));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), Fault> {
        let (kind, anchor, span, nodes, depth) = match self.open.pop() {
            Some(Open::Seq { items, anchor, span, nodes, depth }) => (Kind::Seq(items), anchor, span, nodes, depth),
            Some(Open::Map { entries, anchor, span, nodes, depth, .. }) => {
                (Kind::Map(entries), anchor, span, nodes, depth)
            }
            None => return Ok(()),
        };
        let node = Node { kind, span: Span { end: end.end.max(span.start), ..span } };
        self.put_counted(node, anchor, nodes, depth + 1)
    }

    fn put(&mut self, node: Node, anchor: usize, nodes: usize, depth: usize) -> Result<(), Fault> {
        self.count(nodes, node.span)?;
        self.put_counted(node, anchor, nodes, depth)
    }

    fn put_counted(&mut self, node: Node, anchor: usize, count: usize, deep: usize) -> Result<(), Fault> {
        if anchor > 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes: count, depth: deep });
            // What is kept for aliases is a copy, and counts.
            self.count(count, node.span)?;
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Seq { items, nodes, depth, .. }) => {
                items.push(node);
                *nodes += count;
                *depth = deep.max(*depth);
            }
            Some(Open::Map { entries, key, seen, nodes, depth, .. }) => {
                *nodes += count;
                *depth = deep.max(*depth);
                match key.take() {
                    Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                    None => {
                        let text = match node.kind {
                            Kind::Seq(_) | Kind::Map(_) => {
                                return Err(Fault::error(
                                    node.span,
                                    self.path(),
                                    "a key is a text, not a list or a map",
                                ));
                            }
                            Kind::Null => "".into(),
                            Kind::Bool { text, .. } | Kind::Number(text) | Kind::String(text) => text,
                        };
                        if !seen.is_new(&text, entries) {
                            let first = entries.iter().find(|entry| entry.key == text).map(|entry| entry.key_span);
                            let message = format!("the key `{text}` is there twice");
                            let fault = Fault::error(node.span, "", message)
                                .with_also(first.unwrap_or_default(), "the first one");
                            *key = Some((text, node.span));
                            let path = self.path();
                            // One file of duplicates is one mistake.
                            if self.faults.len() < 100 {
                                self.faults.push(Fault { path, ..fault });
                            }
                            return Ok(());
                        }
                        *key = Some((text, node.span));
                    }
                }
            }
        }
        Ok(())
    }

    /// Where the reading stands, as in `routes[3].weight`.
    fn path(&self) -> String {
        let mut out = String::new();
        for open in &self.open {
            match open {
                Open::Seq { items, .. } => {
                    let _ = write!(out, "[{}]", items.len());
                }
                Open::Map { key: Some((key, _)), .. } => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(key);
                }
                Open::Map { key: None, .. } => {}
            }
        }
        out
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Kind, Fault> {
    let plain = matches!(style, ScalarStyle::Plain);
    match tag {
        None if plain => Ok(tree::plain(text)),
        None => Ok(Kind::String(text.into())),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix() == "str" => Ok(Kind::String(text.into())),
        Some(_) => Err(Fault::error(span, "", "tags are not taken, but for `!!str`")),
    }
}
