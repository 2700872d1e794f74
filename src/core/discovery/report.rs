//! What was found, as it is told.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::coverage::MethodKind;
use crate::discovery::shape::Shape;
use crate::discovery::tree::{Edge, Path};
use crate::discovery::{Book, Declared, Endpoint};

/// Seconds without a request after which an endpoint is dead.
pub(super) const DEAD_AFTER_S: u64 = 30 * 86_400;
/// Names of each sort that are told, the most frequent first.
const TOLD_MAX: usize = 16;

/// What people should know of an endpoint first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It is asked.
    Live,
    /// It is asked, and nobody has declared it, though others are.
    Undeclared,
    /// It was asked once, and has not been for thirty days.
    Dead,
    /// It is declared, and was never asked.
    NeverAsked,
}

impl EndpointState {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            EndpointState::Live => "live",
            EndpointState::Undeclared => "undeclared",
            EndpointState::Dead => "dead",
            EndpointState::NeverAsked => "never asked",
        }
    }
}

/// An endpoint that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The method; `*`: declared for all, and never asked.
    pub method: &'static str,
    /// The path, its data as parameters.
    pub template: String,
    /// What a route's `match` would be: the template, or an expression where a template cannot say it.
    pub path: String,
    /// Whether people have written it down.
    pub is_declared: bool,
    /// What to know of it first.
    pub state: EndpointState,
    /// Requests.
    pub requests: u64,
    /// Of all that were counted, 0 to 1.
    pub share: f64,
    /// By class of status, from 1xx.
    pub classes: [u64; 5],
    /// Sorts of callers.
    pub callers: Vec<(String, u64)>,
    /// Sets of parameters.
    pub parameters: Vec<(String, u64)>,
    /// Media types of answers.
    pub types: Vec<(String, u64)>,
    /// Half of the answers' heads came within this, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99 % of them.
    pub p99_ms: Option<f64>,
    /// Of answers' bodies.
    pub bytes: u64,
    /// When it was asked first, in Unix seconds; 0: never.
    pub first_s: u64,
    /// When last.
    pub last_s: u64,
}

/// All of it in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Templates with a method.
    pub templates: usize,
    /// Requests that were counted.
    pub requests: u64,
    /// Requests of templates for which there was no room.
    pub left_out: u64,
    /// Requests of paths that the monolith has nothing for.
    pub nothing_there: u64,
}

impl Book {
    /// All endpoints, the most asked first.
    pub fn found(&self, now_s: u64) -> Vec<Found> {
        let total = self.totals().requests;
        let has_declared = !self.declared.is_empty();
        let of_tree = self.root.all().into_iter().map(|(path, method, endpoint)| {
            let (template, pattern) = (path.template(), path.pattern());
            told(
                method.as_str(),
                template,
                pattern,
                Some(endpoint),
                total,
                state(endpoint, !has_declared, now_s),
                false,
            )
        });
        let of_declared = self.declared.iter().flat_map(|of| {
            let text = of.declared.template.to_string();
            let never = of.endpoints.is_empty().then(|| {
                let method = of.declared.method.map_or("*", MethodKind::as_str);
                told(method, text.clone(), text.clone(), None, total, EndpointState::NeverAsked, true)
            });
            let asked: Vec<Found> = of
                .endpoints
                .iter()
                .map(|(method, endpoint)| {
                    let state = state(endpoint, true, now_s);
                    told(method.as_str(), text.clone(), text.clone(), Some(endpoint), total, state, true)
                })
                .collect();
            asked.into_iter().chain(never)
        });
        let mut found: Vec<Found> = of_tree.chain(of_declared).collect();
        found.sort_by(|a, b| {
            b.requests.cmp(&a.requests).then_with(|| (&a.template, a.method).cmp(&(&b.template, b.method)))
        });
        found
    }

    /// How much there is.
    pub fn totals(&self) -> Totals {
        let declared = self.declared.iter().flat_map(|of| of.endpoints.values());
        let tree = self.root.all();
        let all = tree.iter().map(|(.., endpoint)| *endpoint).chain(declared);
        let (templates, requests) = all.fold((0, 0u64), |(count, sum), endpoint| (count + 1, sum + endpoint.requests));
        Totals { templates, requests, left_out: self.left_out, nothing_there: self.nothing_there }
    }

    /// What people have declared.
    pub fn declared(&self) -> impl Iterator<Item = &Declared> {
        self.declared.iter().map(|of| &of.declared)
    }
}

fn state(endpoint: &Endpoint, is_expected: bool, now_s: u64) -> EndpointState {
    match endpoint {
        endpoint if now_s.saturating_sub(endpoint.last_s) > DEAD_AFTER_S => EndpointState::Dead,
        _ if is_expected => EndpointState::Live,
        _ => EndpointState::Undeclared,
    }
}

fn told(
    method: &'static str,
    template: String,
    path: String,
    endpoint: Option<&Endpoint>,
    total: u64,
    state: EndpointState,
    is_declared: bool,
) -> Found {
    let nothing = Endpoint::default();
    let endpoint = endpoint.unwrap_or(&nothing);
    let named = |counts: &BTreeMap<Box<str>, u64>| {
        let mut named: Vec<(String, u64)> = counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
        named.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        named.truncate(TOLD_MAX);
        named
    };
    let quantile_ms = |q| endpoint.took.quantile_us(q).map(|us| us / 1_000.0);
    Found {
        method,
        template,
        path,
        is_declared,
        state,
        requests: endpoint.requests,
        share: if total == 0 { 0.0 } else { real(endpoint.requests) / real(total) },
        classes: endpoint.classes,
        callers: named(&endpoint.callers),
        parameters: named(&endpoint.parameters),
        types: named(&endpoint.types),
        p50_ms: quantile_ms(0.5),
        p99_ms: quantile_ms(0.99),
        bytes: endpoint.bytes,
        first_s: endpoint.first_s,
        last_s: endpoint.last_s,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
const fn real(count: u64) -> f64 {
    count as f64
}

impl Path {
    /// With parameters named by what stands before them: `/users/{user}/orders/{order}`.
    pub(super) fn template(&self) -> String {
        let names = self.names();
        let segments = self.0.iter().zip(&names).map(|(edge, name)| match edge {
            Edge::Word(word) => word.to_string(),
            Edge::Data(_, ending) => {
                let ending = ending.as_deref().map(|ending| format!(".{ending}")).unwrap_or_default();
                format!("{{{name}}}{ending}")
            }
            Edge::Rest => "{*rest}".to_owned(),
        });
        segments.fold(String::new(), |path, segment| path + "/" + &segment)
    }

    /// The same for a route: one that has a file's ending behind data is an expression.
    pub(super) fn pattern(&self) -> String {
        if !self.0.iter().any(|edge| matches!(edge, Edge::Data(_, Some(_)))) {
            return self.template();
        }
        let segments = self.0.iter().map(|edge| match edge {
            Edge::Word(word) => regex::escape(word),
            Edge::Data(_, Some(ending)) => format!(r"[^/]+\.{}", regex::escape(ending)),
            Edge::Data(_, None) => "[^/]+".to_owned(),
            Edge::Rest => ".*".to_owned(),
        });
        segments.fold("^".to_owned(), |path, segment| path + "/" + &segment) + "$"
    }

    /// A name for each edge, none twice.
    fn names(&self) -> Vec<String> {
        let mut taken: Vec<String> = Vec::new();
        let mut before = "";
        for edge in &self.0 {
            let name = match edge {
                Edge::Word(word) => {
                    before = word;
                    String::new()
                }
                Edge::Data(shape, _) => {
                    let name = name(before, *shape);
                    let is_free = |name: &String| !taken.contains(name);
                    let numbered = (2..).map(|number| format!("{name}_{number}"));
                    std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
                }
                Edge::Rest => "rest".to_owned(),
            };
            taken.push(name);
        }
        taken
    }
}

/// `users` has a `user`; a day is a `date` wherever it stands.
fn name(before: &str, shape: Shape) -> String {
    if shape == Shape::Date {
        return "date".to_owned();
    }
    let word: String =
        before.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    let word = word.trim_matches('_');
    let one = match word {
        _ if word.len() > 4 && word.ends_with("ies") => format!("{}y", word.trim_end_matches("ies")),
        _ if word.len() > 4 && ["sses", "xes", "ches", "shes"].iter().any(|end| word.ends_with(end)) => {
            word.strip_suffix("es").unwrap_or(word).to_owned()
        }
        _ if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us") => {
            word.strip_suffix('s').unwrap_or(word).to_owned()
        }
        _ => word.to_owned(),
    };
    let is_name = one.starts_with(|c: char| c.is_ascii_alphabetic());
    match (is_name, shape) {
        (true, Shape::Slug | Shape::Code) => one,
        (true, _) => format!("{one}_id"),
        (false, Shape::Slug) => "slug".to_owned(),
        (false, _) => "id".to_owned(),
    }
}
