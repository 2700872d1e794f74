//! Coverage as people and programs read it.

use http::Method;
use serde::Serialize;

use crate::coverage::{Counts, Coverage, DAYS, Gate, MIN_EACH, MethodKind, Sort, gate};

/// What is known of one route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteReport {
    /// The route's name.
    pub route: String,
    /// The path template.
    pub path: String,
    /// Days looked back at, beside the one that has begun (UTC).
    pub days: u32,
    /// Whether the route's requests are counted now: it copies, compares, or sends users to extracted.
    pub is_counted: bool,
    /// All together.
    #[serde(flatten)]
    pub total: Counts,
    /// By method.
    pub methods: Vec<CellReport>,
    /// By status class.
    pub status_classes: Vec<CellReport>,
    /// By the names of query parameters.
    pub parameter_sets: Vec<CellReport>,
    /// By media type.
    pub content_types: Vec<CellReport>,
    /// Of these more came than are told apart.
    pub full: Vec<Sort>,
    /// What the route covers and legacy was never asked, and what was never compared.
    pub unseen: Vec<Unseen>,
    /// What the `coverage` gate says, with its usual bound.
    pub gate: Gate,
}

/// Counts of one thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellReport {
    /// Its name.
    pub name: String,
    /// How often.
    #[serde(flatten)]
    pub counts: Counts,
    /// Part of legacy's requests, 0 to 1.
    pub share: f64,
}

/// Something that nothing is known of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// What it is.
    pub sort: Sort,
    /// Its name.
    pub name: String,
    /// `never_asked`: legacy was not, in all that time; `never_compared`: it was, and no answer was compared.
    pub why: &'static str,
}

/// `covered`: the methods that the route lists; none: all.
pub fn report(route: &str, path: String, covered: &[Method], is_counted: bool, coverage: &Coverage) -> RouteReport {
    let total = coverage.total();
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let share = |counts: Counts| counts.requests as f64 / total.requests.max(1) as f64;
    let cells = |sort: Sort| {
        let told =
            coverage.of(sort).map(|(name, counts)| CellReport { name: name.into(), counts, share: share(counts) });
        let mut told: Vec<CellReport> = told.collect();
        told.sort_by(|a, b| b.counts.requests.cmp(&a.counts.requests).then_with(|| a.name.cmp(&b.name)));
        told
    };
    RouteReport {
        route: route.to_owned(),
        path,
        days: DAYS,
        is_counted,
        total,
        methods: cells(Sort::Method),
        status_classes: cells(Sort::StatusClass),
        parameter_sets: cells(Sort::ParameterSet),
        content_types: cells(Sort::ContentType),
        full: Sort::ALL.into_iter().filter(|sort| coverage.is_full(*sort)).collect(),
        unseen: unseen(covered, coverage),
        gate: gate(coverage, MIN_EACH),
    }
}

fn unseen(covered: &[Method], coverage: &Coverage) -> Vec<Unseen> {
    let listed: Vec<MethodKind> = covered.iter().map(MethodKind::of).collect();
    let listed = if listed.is_empty() { MethodKind::USUAL.to_vec() } else { listed };
    let is_asked = |kind: &MethodKind| {
        coverage.of(Sort::Method).any(|(name, counts)| name == kind.as_str() && counts.requests > 0)
    };
    let never_asked = listed.into_iter().filter(|kind| !is_asked(kind)).map(|kind| Unseen {
        sort: Sort::Method,
        name: kind.as_str().to_owned(),
        why: "never_asked",
    });
    let cells =
        Sort::ALL.into_iter().flat_map(|sort| coverage.of(sort).map(move |(name, counts)| (sort, name, counts)));
    let never_compared = cells.filter(|(.., counts)| counts.comparisons == 0).map(|(sort, name, _)| Unseen {
        sort,
        name: name.to_owned(),
        why: "never_compared",
    });
    never_asked.chain(never_compared).collect()
}
