//! Paths by their segments: words as they are, data by its shape, and words of which there are too many as data.

use std::collections::BTreeMap;

use crate::coverage::MethodKind;
use crate::discovery::endpoint::Endpoint;
use crate::discovery::shape::{Piece, Shape};

/// Words beside each other that lead to the same: from so many on they are data. An interface has seldom so many sisters that are
/// asked in the same way and lead on in the same way; articles and people are more.
const ALIKE_MAX: usize = 40;
/// Words beside each other at all; further ones find no room.
const WORDS_MAX: usize = 200;

/// A step from one segment to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edge {
    /// A word.
    Word(Box<str>),
    /// Data, and the ending of a file's name.
    Data(Shape, Option<Box<str>>),
    /// Everything that is deeper than is told apart.
    Rest,
}

/// A path of edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Edge>);

/// A segment, and everything behind it.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) children: BTreeMap<Edge, Node>,
    /// Of paths that end here.
    pub(super) ends: BTreeMap<MethodKind, Endpoint>,
    /// Whether a word that is not known here is data.
    is_folded: bool,
}

/// The segments of a path, read; what is too deep is one.
pub(super) fn pieces(path: &str, depth_max: usize) -> Vec<Edge> {
    let body = path.strip_prefix('/').unwrap_or(path);
    let mut edges: Vec<Edge> = body.split('/').take(depth_max + 1).map(Edge::of).collect();
    if edges.len() > depth_max {
        edges.truncate(depth_max);
        edges.push(Edge::Rest);
    }
    edges
}

impl Edge {
    fn of(segment: &str) -> Edge {
        match Piece::of(segment) {
            Piece::Word(word) => Edge::Word(word.into()),
            Piece::Data(shape, ending) => Edge::Data(shape, ending.map(|ending| ending.to_ascii_lowercase().into())),
        }
    }

    /// The same as data, of a word: its ending stays.
    fn folded(&self) -> Edge {
        match self {
            Edge::Word(word) => {
                let ending = match Piece::of(&format!("0.{}", word.rsplit_once('.').map_or("", |(_, ending)| ending))) {
                    Piece::Data(_, ending) => ending.map(Box::from),
                    Piece::Word(_) => None,
                };
                Edge::Data(Shape::Slug, ending)
            }
            other @ (Edge::Data(..) | Edge::Rest) => other.clone(),
        }
    }
}

impl Path {
    /// A path that is learned as this one: to see what it would match.
    pub(super) fn example(&self) -> String {
        self.0.iter().fold(String::new(), |path, edge| {
            path + "/"
                + &match edge {
                    Edge::Word(word) => word.to_string(),
                    Edge::Data(_, Some(ending)) => format!("0.{ending}"),
                    Edge::Data(..) | Edge::Rest => "0".to_owned(),
                }
        })
    }
}

impl Node {
    /// The way of a segment, as far as there is one.
    fn way(&self, edge: &Edge) -> Option<Edge> {
        if self.children.contains_key(edge) {
            return Some(edge.clone());
        }
        let folded = edge.folded();
        (self.is_folded && self.children.contains_key(&folded)).then_some(folded)
    }

    pub(super) fn find(&mut self, edges: &[Edge]) -> Option<&mut Node> {
        let Some((first, rest)) = edges.split_first() else { return Some(self) };
        let way = self.way(first)?;
        self.children.get_mut(&way)?.find(rest)
    }

    /// The end of a path, made where it is missing, and how many nodes that took; `None`: there are too many words beside one of its own.
    pub(super) fn grow(&mut self, edges: &[Edge]) -> Option<(&mut Node, usize)> {
        let Some((first, rest)) = edges.split_first() else { return Some((self, 0)) };
        let way = match self.way(first) {
            Some(way) => way,
            None if self.is_folded => first.folded(),
            None => first.clone(),
        };
        let is_new = !self.children.contains_key(&way);
        if is_new && matches!(way, Edge::Word(_)) && self.words() >= WORDS_MAX {
            return None;
        }
        let (end, grown) = self.children.entry(way).or_default().grow(rest)?;
        Some((end, grown + usize::from(is_new)))
    }

    fn words(&self) -> usize {
        self.children.keys().filter(|edge| matches!(edge, Edge::Word(_))).count()
    }

    /// Makes data of words that are too many, on the way of a path; says whether it did.
    pub(super) fn fold(&mut self, edges: &[Edge]) -> bool {
        let mut has_folded = false;
        if self.words() > ALIKE_MAX {
            has_folded = self.fold_here();
        }
        if let Some((first, rest)) = edges.split_first()
            && let Some(way) = self.way(first)
            && let Some(child) = self.children.get_mut(&way)
        {
            has_folded |= child.fold(rest);
        }
        has_folded
    }

    fn fold_here(&mut self) -> bool {
        let mut groups: BTreeMap<(Vec<MethodKind>, Vec<Edge>), Vec<Edge>> = BTreeMap::new();
        for (edge, node) in self.children.iter().filter(|(edge, _)| matches!(edge, Edge::Word(_))) {
            let alike = (node.ends.keys().copied().collect(), node.children.keys().cloned().collect());
            groups.entry(alike).or_default().push(edge.clone());
        }
        let too_many: Vec<Edge> = groups.into_values().filter(|group| group.len() > ALIKE_MAX).flatten().collect();
        for edge in &too_many {
            if let Some(node) = self.children.remove(edge) {
                self.children.entry(edge.folded()).or_default().merge(node);
            }
        }
        self.is_folded |= !too_many.is_empty();
        !too_many.is_empty()
    }

    /// Takes over everything of another node.
    fn merge(&mut self, other: Node) {
        self.is_folded |= other.is_folded;
        for (method, endpoint) in other.ends {
            self.ends.entry(method).or_default().merge(&endpoint);
        }
        for (edge, node) in other.children {
            self.children.entry(edge).or_default().merge(node);
        }
    }

    /// How many nodes there are, and how many templates with a method.
    pub(super) fn size(&self) -> (usize, usize) {
        self.children.values().fold((1, self.ends.len()), |(nodes, templates), child| {
            let (more_nodes, more_templates) = child.size();
            (nodes + more_nodes, templates + more_templates)
        })
    }

    /// Every template, with its method.
    pub(super) fn all(&self) -> Vec<(Path, MethodKind, &Endpoint)> {
        let mut found = Vec::new();
        self.each(&mut Vec::new(), &mut found);
        found
    }

    fn each<'n>(&'n self, way: &mut Vec<Edge>, found: &mut Vec<(Path, MethodKind, &'n Endpoint)>) {
        for (method, endpoint) in &self.ends {
            found.push((Path(way.clone()), *method, endpoint));
        }
        for (edge, child) in &self.children {
            way.push(edge.clone());
            child.each(way, found);
            way.pop();
        }
    }

    /// The same, taken out.
    pub(super) fn take_all(&mut self) -> Vec<(Path, MethodKind, Endpoint)> {
        let taken = std::mem::take(self);
        taken.all().into_iter().map(|(path, method, endpoint)| (path, method, endpoint.clone())).collect()
    }

    /// Puts one back.
    pub(super) fn put(&mut self, path: Path, method: MethodKind, endpoint: &Endpoint) {
        let mut node = self;
        for edge in path.0 {
            node.is_folded |= matches!(edge, Edge::Data(Shape::Slug, _));
            node = node.children.entry(edge).or_default();
        }
        node.ends.entry(method).or_default().merge(endpoint);
    }
}
