//! Which route a request is: an index built once per table, asked once per request.
//!
//! Precedence does not depend on the order of the file: host exact > wildcard > none; literal path > more literal
//! segments > fewer > `{*rest}` > regex; then methods given; then more header, query and cookie conditions. Two
//! routes that tie are refused when the index is built.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use crate::facts::RequestFacts;
use crate::route::{Conditions, HostPattern, Route, TextCondition};
use crate::template::{PathPattern, PathTemplate, Segment};

/// How narrow a route is; smaller is narrower and wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    host: HostRank,
    path: PathRank,
    /// A route that names its methods before one that takes all.
    any_method: bool,
    conditions: Reverse<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Exact,
    /// Longer suffixes first.
    Wildcard(Reverse<usize>),
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Literal,
    /// More literal segments first; then those whose literals come earlier, so that `/a/{x}` and `/{x}/a` do not tie.
    Segments(Reverse<usize>, Vec<bool>),
    /// More literal segments first, then more segments, then as above.
    Rest(Reverse<usize>, Reverse<usize>, Vec<bool>),
    /// Longer expressions first, then by their text: whether two of them overlap cannot be told, an order can.
    Regex(Reverse<usize>, String),
}

impl Precedence {
    /// Of a route's conditions.
    pub fn of(conditions: &Conditions) -> Precedence {
        Precedence {
            host: match &conditions.host {
                HostPattern::Exact(_) => HostRank::Exact,
                HostPattern::Wildcard(suffix) => HostRank::Wildcard(Reverse(suffix.len())),
                HostPattern::Any => HostRank::Any,
            },
            path: match &conditions.path {
                PathPattern::Regex(regex) => PathRank::Regex(Reverse(regex.as_str().len()), regex.as_str().to_owned()),
                PathPattern::Template(template) => template_rank(template),
            },
            any_method: conditions.methods.is_empty(),
            conditions: Reverse(conditions.headers.len() + conditions.query.len() + conditions.cookies.len()),
        }
    }
}

fn template_rank(template: &PathTemplate) -> PathRank {
    let is_param = |segment: &Segment| matches!(segment, Segment::Param(_));
    let params: Vec<bool> = template.segments.iter().map(is_param).collect();
    let literals = Reverse(template.literals());
    match (&template.rest, params.contains(&true)) {
        (Some(_), _) => PathRank::Rest(literals, Reverse(params.len()), params),
        (None, true) => PathRank::Segments(literals, params),
        (None, false) => PathRank::Literal,
    }
}

/// Two routes of which neither is narrower and which a request could both be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tie {
    /// Index of the one that stands first.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
}

/// Why a route was not a request's, for `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Another host.
    Host,
    /// Another path.
    Path,
    /// Another method.
    Method,
    /// A header condition does not hold.
    Header,
    /// A query condition does not hold.
    Query,
    /// A cookie condition does not hold.
    Cookie,
}

/// The first condition of `conditions` that the request does not meet; `None`: it meets all.
pub fn miss(conditions: &Conditions, facts: &RequestFacts<'_>) -> Option<Miss> {
    if !host_matches(&conditions.host, facts.host) {
        return Some(Miss::Host);
    }
    let is_path = match &conditions.path {
        PathPattern::Template(template) => template.matches(facts.path),
        PathPattern::Regex(regex) => regex.is_match(facts.path),
    };
    if !is_path {
        return Some(Miss::Path);
    }
    miss_beyond_path(conditions, facts)
}

fn miss_beyond_path(conditions: &Conditions, facts: &RequestFacts<'_>) -> Option<Miss> {
    if !conditions.methods.is_empty() && !conditions.methods.contains(facts.method) {
        return Some(Miss::Method);
    }
    if !conditions.headers.iter().all(|(name, want)| holds(want, facts.header(name))) {
        return Some(Miss::Header);
    }
    let query_holds =
        |(name, want): &(Arc<str>, TextCondition)| holds(want, facts.query_value(name).as_deref().map(str::as_bytes));
    if !conditions.query.iter().all(query_holds) {
        return Some(Miss::Query);
    }
    if !conditions.cookies.iter().all(|(name, want)| holds(want, facts.cookie(name))) {
        return Some(Miss::Cookie);
    }
    None
}

fn host_matches(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(want) => **want == *host,
        HostPattern::Wildcard(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        HostPattern::Any => true,
    }
}

fn holds(want: &TextCondition, value: Option<&[u8]>) -> bool {
    match (want, value) {
        (TextCondition::Present(present), value) => *present == value.is_some(),
        (_, None) => false,
        (TextCondition::Exact(text), Some(value)) => text.as_bytes() == value,
        (TextCondition::Prefix(text), Some(value)) => value.starts_with(text.as_bytes()),
        (TextCondition::Contains(text), Some(value)) => {
            text.is_empty() || value.windows(text.len()).any(|window| window == text.as_bytes())
        }
        (TextCondition::Regex(regex), Some(value)) => regex.is_match(value),
    }
}

/// The index: for each host a tree of segments whose leaves hold ranks, and the expressions.
///
/// A rank is the place of a route among all, narrowest first, so that the best candidate is the smallest number.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// By rank: the index of the route in the table.
    order: Vec<usize>,
    /// By rank.
    routes: Vec<Arc<Route>>,
    exact: BTreeMap<Arc<str>, Branch>,
    /// Longest suffix first.
    wildcard: Vec<(Arc<str>, Branch)>,
    any: Branch,
}

#[derive(Clone, Debug, Default)]
struct Branch {
    root: Node,
    /// Ranks of routes with an expression, narrowest first.
    regexes: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: BTreeMap<Arc<str>, Node>,
    param: Option<Box<Node>>,
    /// Routes that end here, narrowest first.
    ends: Vec<u32>,
    /// Routes whose `{*rest}` begins here, narrowest first.
    rests: Vec<u32>,
}

impl Matcher {
    /// Builds the index over `routes`, whose positions are what [`Matcher::find`] answers.
    ///
    /// # Errors
    /// All ties, each pair once.
    pub fn new(routes: &[Arc<Route>]) -> Result<Matcher, Vec<Tie>> {
        let mut ranked: Vec<(Precedence, usize)> =
            routes.iter().enumerate().map(|(index, route)| (Precedence::of(&route.conditions), index)).collect();
        ranked.sort();
        let mut matcher = Matcher {
            order: ranked.iter().map(|(_, index)| *index).collect(),
            routes: ranked.iter().filter_map(|(_, index)| routes.get(*index).cloned()).collect(),
            ..Matcher::default()
        };
        let mut wildcard: BTreeMap<Arc<str>, Branch> = BTreeMap::new();
        for (rank, route) in (0u32..).zip(&matcher.routes) {
            let branch = match &route.conditions.host {
                HostPattern::Exact(host) => matcher.exact.entry(Arc::clone(host)).or_default(),
                HostPattern::Wildcard(suffix) => wildcard.entry(Arc::clone(suffix)).or_default(),
                HostPattern::Any => &mut matcher.any,
            };
            match &route.conditions.path {
                PathPattern::Template(template) => branch.root.insert(template, rank),
                PathPattern::Regex(_) => branch.regexes.push(rank),
            }
        }
        matcher.wildcard = wildcard.into_iter().collect();
        matcher.wildcard.sort_by_key(|(suffix, _)| Reverse(suffix.len()));
        let ties = ties(routes, &ranked);
        if ties.is_empty() { Ok(matcher) } else { Err(ties) }
    }

    /// The narrowest route that the request is, as its position in the table. Allocates nothing for templates.
    pub fn find(&self, facts: &RequestFacts<'_>) -> Option<usize> {
        let exact = self.exact.get(facts.host).and_then(|branch| self.find_in(branch, facts));
        let rank = exact
            .or_else(|| {
                let fitting = |(suffix, _): &&(Arc<str>, Branch)| {
                    facts.host.len() > suffix.len() && facts.host.ends_with(&**suffix)
                };
                self.wildcard.iter().filter(fitting).find_map(|(_, branch)| self.find_in(branch, facts))
            })
            .or_else(|| self.find_in(&self.any, facts))?;
        self.order.get(rank as usize).copied()
    }

    fn find_in(&self, branch: &Branch, facts: &RequestFacts<'_>) -> Option<u32> {
        let mut best = None;
        self.descend(&branch.root, facts.path.strip_prefix('/'), facts, &mut best);
        best.or_else(|| {
            let holds = |rank: &&u32| {
                self.routes.get(**rank as usize).is_some_and(|route| miss(&route.conditions, facts).is_none())
            };
            branch.regexes.iter().find(holds).copied()
        })
    }

    /// Follows every branch that the path allows: a parameter may hide a route with more literals further down. Bounded by the
    /// nodes of the tree, so by what the operator wrote, whatever a client sends.
    fn descend(&self, node: &Node, left: Option<&str>, facts: &RequestFacts<'_>, best: &mut Option<u32>) {
        self.offer(&node.rests, facts, best);
        let Some(left) = left else {
            return self.offer(&node.ends, facts, best);
        };
        let (piece, after) = match left.split_once('/') {
            Some((piece, after)) => (piece, Some(after)),
            None => (left, None),
        };
        if let Some(child) = node.literals.get(piece) {
            self.descend(child, after, facts, best);
        }
        if let (Some(child), false) = (&node.param, piece.is_empty()) {
            self.descend(child, after, facts, best);
        }
    }

    fn offer(&self, ranks: &[u32], facts: &RequestFacts<'_>, best: &mut Option<u32>) {
        for rank in ranks {
            if best.is_some_and(|best| best <= *rank) {
                return;
            }
            let fits = |route: &Arc<Route>| miss_beyond_path(&route.conditions, facts).is_none();
            if self.routes.get(*rank as usize).is_some_and(fits) {
                *best = Some(*rank);
                return;
            }
        }
    }
}

impl Node {
    /// Ranks come in rising, so every list is sorted.
    fn insert(&mut self, template: &PathTemplate, rank: u32) {
        let mut node = self;
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(text) => node.literal(text),
                Segment::Param(_) => node.param.get_or_insert_default(),
            };
        }
        if template.rest.is_some() { node.rests.push(rank) } else { node.ends.push(rank) }
    }

    fn literal(&mut self, text: &Arc<str>) -> &mut Node {
        self.literals.entry(Arc::clone(text)).or_default()
    }
}

/// Most ties that are named; a file with more has one mistake.
const TIES_MAX: usize = 100;
/// So many routes are held against each other without further ado.
const FEW: usize = 16;

/// A route that others could tie with.
type Candidate<'a> = (usize, &'a Conditions);

/// Routes of equal precedence tie when one request could be both.
fn ties(routes: &[Arc<Route>], ranked: &[(Precedence, usize)]) -> Vec<Tie> {
    let mut ties = BTreeSet::new();
    for group in ranked.chunk_by(|a, b| a.0 == b.0) {
        if group.len() < 2 {
            continue;
        }
        // Only routes of the same shape can overlap here.
        let mut by_shape: BTreeMap<(&HostPattern, String), Vec<Candidate<'_>>> = BTreeMap::new();
        for (_, index) in group {
            if let Some(route) = routes.get(*index) {
                let key = (&route.conditions.host, shape(&route.conditions.path));
                by_shape.entry(key).or_default().push((*index, &route.conditions));
            }
        }
        for same in by_shape.values() {
            find_ties(same, &mut Vec::new(), &mut ties);
        }
    }
    ties.into_iter().map(|(first, second)| Tie { first, second }).collect()
}

/// A thousand tenants on one path differ in one header, so they are sorted by it instead of being held against each other:
/// routes that want two values of one field cannot both hold.
fn find_ties<'a>(same: &[Candidate<'a>], used: &mut Vec<Field<'a>>, ties: &mut BTreeSet<(usize, usize)>) {
    if same.len() <= FEW {
        return hold_against(same, same, ties);
    }
    let Some(field) = splitting_field(same, used) else {
        return hold_against(same, same, ties);
    };
    let mut by_value: BTreeMap<&[u8], Vec<Candidate<'a>>> = BTreeMap::new();
    let mut rest = Vec::new();
    for candidate in same {
        let values = field.values(candidate.1);
        if values.is_empty() {
            rest.push(*candidate);
        }
        for value in values {
            by_value.entry(value).or_default().push(*candidate);
        }
    }
    hold_against(&rest, same, ties);
    used.push(field);
    for group in by_value.values() {
        find_ties(group, used, ties);
    }
    used.pop();
}

fn hold_against(some: &[Candidate<'_>], others: &[Candidate<'_>], ties: &mut BTreeSet<(usize, usize)>) {
    for (first, a) in some {
        for (second, b) in others.iter().filter(|(second, _)| second != first) {
            if ties.len() >= TIES_MAX {
                return;
            }
            if may_both_hold(a, b) {
                ties.insert((*first.min(second), *first.max(second)));
            }
        }
    }
}

/// Something that a request has one value of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field<'a> {
    Method,
    Header(&'a str),
    Query(&'a str),
    Cookie(&'a str),
}

impl<'a> Field<'a> {
    /// The values that `conditions` takes, if it takes a few known ones.
    fn values(self, conditions: &'a Conditions) -> Vec<&'a [u8]> {
        let exact = |found: Option<&'a TextCondition>| match found {
            Some(TextCondition::Exact(text)) => vec![text.as_bytes()],
            _ => Vec::new(),
        };
        let text = |list: &'a [(Arc<str>, TextCondition)], name: &str| {
            exact(list.iter().find(|(known, _)| **known == *name).map(|(_, condition)| condition))
        };
        match self {
            Field::Method => conditions.methods.iter().map(|method| method.as_str().as_bytes()).collect(),
            Field::Header(name) => {
                exact(conditions.headers.iter().find(|(known, _)| known.as_str() == name).map(|(_, want)| want))
            }
            Field::Query(name) => text(&conditions.query, name),
            Field::Cookie(name) => text(&conditions.cookies, name),
        }
    }
}

/// The field whose value most of the routes name, if it tells any two of them apart.
fn splitting_field<'a>(same: &[Candidate<'a>], used: &[Field<'a>]) -> Option<Field<'a>> {
    let mut values: BTreeMap<Field<'a>, (usize, BTreeSet<&[u8]>)> = BTreeMap::new();
    for (_, conditions) in same {
        let headers = conditions.headers.iter().map(|(name, _)| Field::Header(name.as_str()));
        let query = conditions.query.iter().map(|(name, _)| Field::Query(name));
        let cookies = conditions.cookies.iter().map(|(name, _)| Field::Cookie(name));
        for field in headers.chain(query).chain(cookies).chain([Field::Method]) {
            let named = field.values(conditions);
            if !named.is_empty() && !used.contains(&field) {
                let (routes, all) = values.entry(field).or_default();
                *routes += 1;
                all.extend(named);
            }
        }
    }
    let telling = values.into_iter().filter(|(_, (_, all))| all.len() > 1);
    telling.max_by_key(|(_, (routes, all))| (*routes, all.len())).map(|(field, _)| field)
}

/// A path pattern without the names of its parameters, which do not tell two shapes apart.
fn shape(path: &PathPattern) -> String {
    match path {
        PathPattern::Regex(regex) => regex.as_str().to_owned(),
        PathPattern::Template(template) => {
            let anonymous = |segment: &Segment| match segment {
                Segment::Literal(_) => segment.clone(),
                Segment::Param(_) => Segment::Param(Arc::from("")),
            };
            let segments = template.segments.iter().map(anonymous).collect();
            PathTemplate { segments, rest: template.rest.as_ref().map(|_| Arc::from("")) }.to_string()
        }
    }
}

/// Whether one request could meet both, as far as can be told: methods that share none, or one field that would have to
/// be two things at once, cannot.
fn may_both_hold(a: &Conditions, b: &Conditions) -> bool {
    let methods_meet = a.methods.is_empty() || a.methods.iter().any(|method: &Method| b.methods.contains(method));
    methods_meet
        && !are_disjoint(&a.headers, &b.headers)
        && !are_disjoint(&a.query, &b.query)
        && !are_disjoint(&a.cookies, &b.cookies)
}

fn are_disjoint<K: PartialEq>(a: &[(K, TextCondition)], b: &[(K, TextCondition)]) -> bool {
    let pairs = a.iter().flat_map(|one| b.iter().map(move |other| (one, other)));
    pairs.filter(|(one, other)| one.0 == other.0).any(|(one, other)| match (&one.1, &other.1) {
        (TextCondition::Exact(x), TextCondition::Exact(y)) => x != y,
        (TextCondition::Exact(x), TextCondition::Prefix(p)) | (TextCondition::Prefix(p), TextCondition::Exact(x)) => {
            !x.starts_with(&**p)
        }
        (TextCondition::Exact(x), TextCondition::Contains(c))
        | (TextCondition::Contains(c), TextCondition::Exact(x)) => !x.contains(&**c),
        (TextCondition::Present(false), other) | (other, TextCondition::Present(false)) => {
            *other != TextCondition::Present(false)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests;
