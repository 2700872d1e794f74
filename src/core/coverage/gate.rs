//! Whether enough has been compared of what legacy is asked.

use serde::{Deserialize, Serialize};

use crate::coverage::{Counts, Coverage, MethodKind, NONE, OTHER, Sort};

/// Comparisons that each thing needs where nothing else is said.
pub const MIN_EACH: u64 = 20;
/// One in so many of legacy's requests makes a thing matter: 0.1 %.
const MATTERS_FROM: u64 = 1_000;

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Whether nothing is missing.
    pub passed: bool,
    /// Comparisons that each thing needs.
    pub min_each: u64,
    /// What has too few.
    pub missing: Vec<Missing>,
    /// What has too few, too, and is not waited for.
    pub named: Vec<Named>,
}

/// A thing that has been compared too seldom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What it is.
    pub sort: Sort,
    /// Its name.
    pub name: String,
    /// How often it was seen and compared.
    #[serde(flatten)]
    pub counts: Counts,
    /// Comparisons that it still needs.
    pub missing: u64,
}

/// A thing that is not waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// What it is.
    pub sort: Sort,
    /// Its name.
    pub name: String,
    /// How often it was seen and compared.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why it is not.
    pub why: Why,
}

/// Why a thing is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Less than 0.1 % of legacy's requests.
    Rare,
    /// It may have side effects, and is not copied unless the route says how.
    UnsafeMethod,
    /// What legacy fails at, or does not end with, is no measure.
    Class,
    /// More than are told apart came together in it, so that no number of comparisons says that all of them were compared.
    Full,
}

/// Whether every safe method, every status class from 2xx to 4xx and every set of parameters with at least 0.1 % of legacy's requests has been
/// compared `min_each` times. What falls short without being waited for is named, and so is a cell in which many things lie together.
///
/// Media types are not asked for: they follow from the others. Where legacy was asked nothing, nothing is proven.
pub fn gate(coverage: &Coverage, min_each: u64) -> Gate {
    let total = coverage.total();
    let mut gate = Gate { passed: false, min_each, missing: Vec::new(), named: Vec::new() };
    if total.requests == 0 {
        let name = NONE.to_owned();
        gate.missing.push(Missing { sort: Sort::Method, name, counts: total, missing: min_each });
        return gate;
    }
    for sort in [Sort::Method, Sort::StatusClass, Sort::ParameterSet] {
        for (name, counts) in coverage.of(sort) {
            let missing = min_each.saturating_sub(counts.comparisons);
            let is_many = sort == Sort::ParameterSet && name == OTHER;
            let is_rare = counts.requests.saturating_mul(MATTERS_FROM) < total.requests;
            let why = match sort {
                Sort::Method if !is_safe(name) => Some(Why::UnsafeMethod),
                Sort::StatusClass if !matches!(name, "2xx" | "3xx" | "4xx") => Some(Why::Class),
                _ if is_rare => Some(Why::Rare),
                Sort::Method | Sort::StatusClass | Sort::ParameterSet | Sort::ContentType => None,
            };
            let name = || name.to_owned();
            match why {
                Some(why) if missing > 0 => gate.named.push(Named { sort, name: name(), counts, why }),
                None if missing > 0 => gate.missing.push(Missing { sort, name: name(), counts, missing }),
                None if is_many => gate.named.push(Named { sort, name: name(), counts, why: Why::Full }),
                Some(_) | None => {}
            }
        }
    }
    gate.passed = gate.missing.is_empty();
    gate
}

fn is_safe(name: &str) -> bool {
    MethodKind::USUAL.iter().any(|method| method.is_safe() && method.as_str() == name)
}
