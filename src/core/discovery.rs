//! What the monolith is asked that no route covers: templates learned from paths, by the looks of their segments and by how many there are.
//!
//! Bounded in every direction: what finds no room is counted and told nothing of. No value of a parameter and no segment that looks like
//! data is kept. A path that the monolith has nothing for (404 and its like) begins no template: whoever tries a million of them leaves
//! nothing behind.

mod cover;
mod endpoint;
mod report;
mod saved;
mod shape;
mod tree;

use std::collections::BTreeMap;

use crate::coverage::{MethodKind, Seen};
use crate::limits::DECLARED_MAX;
use crate::route::DeclaredEndpoint;
use crate::template::{PathTemplate, Segment};

pub use cover::route_for;
pub use endpoint::Endpoint;
pub use report::{EndpointState, Found, Totals};
pub use saved::{SavedEndpoint, SavedError};
pub use shape::Shape;
use tree::Node;

/// Templates with a method, unless it is written otherwise.
pub const TEMPLATES_MAX: usize = 10_000;
/// Nodes of the tree for every template that may be.
const NODES_PER_TEMPLATE: usize = 4;
/// Segments of a path that are told apart; what is deeper is `{*rest}`.
const DEPTH_MAX: usize = 16;

/// A request that no route covers, and its answer.
#[derive(Clone, Debug)]
pub struct Sighting<'a> {
    /// Its method, status, names of its parameters and media type.
    pub seen: &'a Seen,
    /// Its path, as it was matched.
    pub path: &'a str,
    /// Its `User-Agent`.
    pub agent: Option<&'a [u8]>,
    /// To the answer's head.
    pub took_us: u64,
    /// Of the answer's body.
    pub bytes: u64,
    /// When, in Unix seconds.
    pub at_s: u64,
}

/// An endpoint that people have written down: it is counted as they wrote it, whatever else is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its path.
    pub template: PathTemplate,
    /// Its method; `None`: all.
    pub method: Option<MethodKind>,
}

impl From<&DeclaredEndpoint> for Declared {
    fn from(one: &DeclaredEndpoint) -> Declared {
        Declared { template: one.template.clone(), method: one.method.as_ref().map(MethodKind::of) }
    }
}

/// Everything that was found.
#[derive(Debug)]
pub struct Book {
    root: Node,
    declared: Vec<OfDeclared>,
    /// Places in `declared`, by number of segments and first literal.
    by_start: BTreeMap<(usize, Option<Box<str>>), Vec<usize>>,
    templates_max: usize,
    nodes: usize,
    templates: usize,
    /// Requests of templates for which there was no room.
    pub left_out: u64,
    /// Requests of paths that the monolith has nothing for.
    pub nothing_there: u64,
}

#[derive(Debug)]
struct OfDeclared {
    declared: Declared,
    endpoints: BTreeMap<MethodKind, Endpoint>,
}

impl Book {
    /// An empty one, with room for so many templates.
    pub fn new(templates_max: usize) -> Book {
        Book {
            root: Node::default(),
            declared: Vec::new(),
            by_start: BTreeMap::new(),
            templates_max: templates_max.max(1),
            nodes: 1,
            templates: 0,
            left_out: 0,
            nothing_there: 0,
        }
    }

    /// Counts a request.
    pub fn saw(&mut self, sighting: &Sighting<'_>) {
        let method = sighting.seen.method;
        if let Some(place) = self.declared_for(sighting.path, method)
            && let Some(of) = self.declared.get_mut(place)
        {
            return of.endpoints.entry(method).or_default().count(sighting);
        }
        let pieces = tree::pieces(sighting.path, DEPTH_MAX);
        if let Some(endpoint) = self.root.find(&pieces).and_then(|node| node.ends.get_mut(&method)) {
            return endpoint.count(sighting);
        }
        if is_nothing_there(sighting.seen.status) {
            self.nothing_there += 1;
            return;
        }
        let room = (self.templates_max * NODES_PER_TEMPLATE).saturating_sub(self.nodes);
        if self.templates >= self.templates_max || room < pieces.len() {
            self.left_out += 1;
            return;
        }
        let Some((node, grown)) = self.root.grow(&pieces) else {
            self.left_out += 1;
            return;
        };
        node.ends.entry(method).or_default().count(sighting);
        self.nodes += grown;
        self.templates += 1;
        if self.root.fold(&pieces) {
            (self.nodes, self.templates) = self.root.size();
        }
    }

    /// Room for so many from now on. What is there beyond them stays.
    pub fn set_templates_max(&mut self, most: usize) {
        self.templates_max = most.max(1);
    }

    /// Takes what people have written down in the place of what they had written before. What was counted goes where it belongs now.
    pub fn declare(&mut self, all: impl IntoIterator<Item = Declared>) {
        let before = std::mem::take(&mut self.declared);
        self.declared = all
            .into_iter()
            .take(DECLARED_MAX)
            .map(|declared| OfDeclared { declared, endpoints: BTreeMap::new() })
            .collect();
        self.by_start.clear();
        for (place, of) in self.declared.iter().enumerate() {
            let template = &of.declared.template;
            let first = template.segments.first().and_then(|segment| match segment {
                Segment::Literal(text) => Some(Box::from(&**text)),
                Segment::Param(_) => None,
            });
            // One with a rest matches paths of any length.
            let length = if template.rest.is_some() { 0 } else { template.segments.len() };
            self.by_start.entry((length, first)).or_default().push(place);
        }
        for of in before {
            for (method, endpoint) in of.endpoints {
                let place = self.declared.iter().position(|now| now.declared == of.declared);
                // What nobody declares any more is learned anew: there are no paths left of it.
                if let Some(now) = place.and_then(|place| self.declared.get_mut(place)) {
                    now.endpoints.entry(method).or_default().merge(&endpoint);
                }
            }
        }
        for (path, method, endpoint) in self.root.take_all() {
            match self.declared_for(&path.example(), method).and_then(|place| self.declared.get_mut(place)) {
                Some(of) => of.endpoints.entry(method).or_default().merge(&endpoint),
                None => self.root.put(path, method, &endpoint),
            }
        }
        (self.nodes, self.templates) = self.root.size();
    }

    /// The most literal one that matches; of two alike the one that names the method.
    fn declared_for(&self, path: &str, method: MethodKind) -> Option<usize> {
        if self.declared.is_empty() {
            return None;
        }
        let body = path.strip_prefix('/')?;
        let (length, first) = (body.split('/').count(), body.split('/').next().map(Box::from));
        let starts = [(length, first.clone()), (length, None), (0, first), (0, None)];
        let places = starts.iter().filter_map(|start| self.by_start.get(start)).flatten().copied();
        let fits = |place: &usize| {
            self.declared.get(*place).is_some_and(|of| {
                of.declared.method.is_none_or(|one| one == method) && of.declared.template.matches(path)
            })
        };
        let weight = |place: &usize| {
            self.declared.get(*place).map(|of| (of.declared.template.literals(), of.declared.method.is_some()))
        };
        places.filter(fits).max_by_key(weight)
    }
}

/// Whether a status says that the monolith has nothing at a path, or tells nobody what it has.
const fn is_nothing_there(status: u16) -> bool {
    matches!(status, 400 | 401 | 403 | 404 | 405 | 410 | 414 | 431 | 501)
}

#[cfg(test)]
mod tests;
