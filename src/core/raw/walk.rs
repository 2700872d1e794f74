//! The walk over the tree: where it stands, what it has found wrong, and the rows of [`keys`](crate::raw::keys) held against each map.

use std::cell::Cell;
use std::fmt::Write as _;

use crate::fault::{Fault, Faults, did_you_mean};
use crate::raw::keys::{Block, Key, Takes};
use crate::tree::{Entry, Kind, Node, Span};

/// A value and where it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The walker.
#[derive(Default)]
pub(in crate::raw) struct Reader<'a> {
    pub(in crate::raw) faults: Faults,
    path: Vec<Step<'a>>,
}

/// A map whose keys have been held against its rows.
pub(in crate::raw) struct Fields<'a> {
    entries: &'a [Entry],
    block: &'static Block,
    /// Where the map begins.
    pub(in crate::raw) span: Span,
    /// One bit for each row that has been asked for.
    asked: Cell<u64>,
}

impl<'a> Reader<'a> {
    /// Where the walk stands, as in `routes[3].weight`.
    pub(in crate::raw) fn path(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) if out.is_empty() => out.push_str(key),
                Step::Key(key) => {
                    out.push('.');
                    out.push_str(key);
                }
                Step::Index(index) => {
                    let _ = write!(out, "[{index}]");
                }
            }
        }
        out
    }

    /// The place in the list that the walk stands in.
    pub(in crate::raw) fn index(&self) -> usize {
        let last = self.path.iter().rev().find_map(|step| match step {
            Step::Index(index) => Some(*index),
            Step::Key(_) => None,
        });
        last.unwrap_or(0)
    }

    /// An error where the walk stands.
    pub(in crate::raw) fn fault(&mut self, span: Span, message: impl Into<String>) {
        self.fault_with_help(span, message, None);
    }

    /// An error where the walk stands, and what would be taken.
    pub(in crate::raw) fn fault_with_help(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        let fault = Fault::error(span, self.path(), message).with_maybe_help(help);
        self.faults.push(fault);
    }

    /// A known thing that no code stands behind yet.
    pub(in crate::raw) fn not_yet(&mut self, span: Span, what: &str) {
        self.fault(span, format!("`{what}` is not supported yet"));
    }

    /// The entries of a map.
    pub(in crate::raw) fn entries(&mut self, node: &'a Node) -> Option<&'a [Entry]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            Kind::Null => {
                self.fault_with_help(node.span, "there is no value", Some("write one, or take the key out".to_owned()));
                None
            }
            Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) | Kind::Seq(_) => {
                self.fault(node.span, format!("expected a map, found {}", node.describe()));
                None
            }
        }
    }

    /// A map with our keys: unknown ones, those of later issues, and missing ones are said at once.
    pub(in crate::raw) fn fields(&mut self, node: &'a Node, block: &'static Block) -> Option<Fields<'a>> {
        let entries = self.entries(node)?;
        for entry in entries {
            self.path.push(Step::Key(&entry.key));
            match block.keys.iter().find(|key| *key.name == *entry.key) {
                None => self.unknown(entry, block),
                Some(Key { takes: Takes::NotYet, .. }) => self.not_yet(entry.key_span, &entry.key),
                Some(Key { takes: Takes::Fixed { now, later, is_list }, .. }) => {
                    self.fixed(entry, now, later, *is_list);
                }
                Some(_) => {}
            }
            self.path.pop();
        }
        for key in block.keys.iter().filter(|key| matches!(key.takes, Takes::Required(_))) {
            if !entries.iter().any(|entry| *entry.key == *key.name) {
                // The first key stands for the map: its span is the whole of it, and that is no place to point at.
                let span = entries.first().map_or(node.span, |entry| entry.key_span);
                self.fault_with_help(span, format!("`{}` is missing", key.name), Some(key.about.to_owned()));
            }
        }
        let span = entries.first().map_or(node.span, |entry| entry.key_span);
        Some(Fields { entries, block, span, asked: Cell::new(0) })
    }

    fn unknown(&mut self, entry: &'a Entry, block: &'static Block) {
        if *entry.key == *"<<" {
            let help = "write the keys out, or use `defaults:`".to_owned();
            return self.fault_with_help(entry.key_span, "merge keys are not taken", Some(help));
        }
        let known = || block.keys.iter().filter(|key| !matches!(key.takes, Takes::NotYet)).map(|key| key.name);
        let all = block.keys.iter().map(|key| key.name);
        let help = did_you_mean(&entry.key, all).unwrap_or_else(|| {
            let names: Vec<&str> = known().collect();
            format!("known here: {}", names.join(", "))
        });
        self.fault_with_help(entry.key_span, format!("unknown key `{}`", entry.key), Some(help));
    }

    fn fixed(&mut self, entry: &'a Entry, now: &[&str], later: &[&str], is_list: bool) {
        let node = &entry.value;
        let written: Vec<Option<&str>> = match (&node.kind, is_list) {
            (Kind::Seq(items), true) => items.iter().map(Node::text).collect(),
            (_, true) => vec![None],
            (_, false) => vec![node.text()],
        };
        if is_list {
            let is_same = written.len() == now.len() && now.iter().all(|item| written.contains(&Some(item)));
            if !is_same {
                let help = Some(format!("this version does `[{}]`", now.join(", ")));
                let message = format!("another `{}` is not supported yet", entry.key);
                self.fault_with_help(node.span, message, help);
            }
            return;
        }
        match written.first().copied().flatten() {
            Some(text) if now.contains(&text) => {}
            Some(text) if later.contains(&text) => self.not_yet(node.span, &format!("{}: {text}", entry.key)),
            _ => {
                let words = now.iter().chain(later).copied();
                let help = node.text().and_then(|text| did_you_mean(text, words));
                let message = format!("expected `{}`, found {}", now.join("` or `"), node.describe());
                self.fault_with_help(node.span, message, help);
            }
        }
    }

    /// What stands under a key, read by `read`; `None` when it is not there, or wrong (which has then been said).
    pub(in crate::raw) fn key<T>(
        &mut self,
        fields: &Fields<'a>,
        name: &'static str,
        read: impl FnOnce(&mut Self, &'a Node) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let entry = fields.entry(name)?;
        self.path.push(Step::Key(&entry.key));
        let value = read(self, &entry.value);
        self.path.pop();
        value.map(|value| Spanned { value, span: entry.value.span })
    }

    /// Each item of a list, read by `read`; the wrong ones are said and left out.
    pub(in crate::raw) fn list<T>(
        &mut self,
        node: &'a Node,
        most: usize,
        mut read: impl FnMut(&mut Self, &'a Node) -> Option<T>,
    ) -> Option<Vec<Spanned<T>>> {
        let items = match &node.kind {
            Kind::Seq(items) => items,
            Kind::Null => {
                self.fault_with_help(node.span, "there is no value", Some("an empty list is `[]`".to_owned()));
                return None;
            }
            Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) | Kind::Map(_) => {
                self.fault_with_help(
                    node.span,
                    format!("expected a list, found {}", node.describe()),
                    node.text().map(|text| format!("a list of one is `[{text}]`")),
                );
                return None;
            }
        };
        if let Some(first_over) = items.get(most) {
            self.fault(first_over.span, format!("at most {most} items, these are {}", items.len()));
            return None;
        }
        let mut out = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.push(Step::Index(index));
            if let Some(value) = read(self, item) {
                out.push(Spanned { value, span: item.span });
            }
            self.path.pop();
        }
        Some(out)
    }

    /// Each entry of a map with names of the writer's choice, read by `read`; the wrong ones are said and left out.
    pub(in crate::raw) fn named<T>(
        &mut self,
        node: &'a Node,
        most: usize,
        mut read: impl FnMut(&mut Self, &'a Entry) -> Option<T>,
    ) -> Option<Vec<T>> {
        let entries = self.entries(node)?;
        if let Some(first_over) = entries.get(most) {
            self.fault(first_over.key_span, format!("at most {most} entries, these are {}", entries.len()));
            return None;
        }
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            self.path.push(Step::Key(&entry.key));
            out.extend(read(self, entry));
            self.path.pop();
        }
        Some(out)
    }
}

impl<'a> Fields<'a> {
    fn entry(&self, name: &'static str) -> Option<&'a Entry> {
        let row = self.block.keys.iter().position(|key| key.name == name);
        debug_assert!(row.is_some(), "`{name}` is read from `{}` and has no row there", self.block.name);
        self.asked.set(self.asked.get() | 1 << row.unwrap_or_default());
        self.entries.iter().find(|entry| *entry.key == *name)
    }

    /// Whether the key is written.
    pub(in crate::raw) fn has(&self, name: &'static str) -> bool {
        self.entry(name).is_some()
    }

    /// The first key's place, or that of `node` when the map is empty.
    pub(in crate::raw) fn span_or(&self, node: &Node) -> Span {
        if self.entries.is_empty() { node.span } else { self.span }
    }

    /// Where the key is written.
    pub(in crate::raw) fn place(&self, name: &'static str) -> Span {
        self.entry(name).map_or(self.span, |entry| entry.key_span)
    }
}

/// A key that is accepted works: a row that nobody asks for would be a key that does nothing.
#[cfg(debug_assertions)]
impl Drop for Fields<'_> {
    fn drop(&mut self) {
        for (row, key) in self.block.keys.iter().enumerate() {
            let is_asked = self.asked.get() & 1 << row != 0;
            let is_read = !matches!(key.takes, Takes::Required(_) | Takes::Optional(_)) || is_asked;
            debug_assert!(is_read || std::thread::panicking(), "`{}.{}` is never read", self.block.name, key.name);
        }
    }
}
