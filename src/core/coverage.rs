//! What legacy has been asked on each route in the last seven days, and how much of that has been compared.
//!
//! Four things are told apart: methods, status classes, sets of query parameters (their names, never a value) and media types of the
//! answers. Each of them is a cell with two counts: requests that legacy has answered, and pairs of them that could be compared.
//! Only names of ours, and names that read like a programmer's, are kept; what looks like data is one name for all of it.
//!
//! Everything has a bound. What finds none of its own room is counted in the cell [`OTHER`], and the sort of cells is said to be full.

mod gate;
mod report;
mod seen;

pub use gate::{Gate, MIN_EACH, Missing, Named, Why, gate};
pub use report::{CellReport, RouteReport, report};
pub use seen::{MethodKind, Seen, key};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::RouteName;
use crate::route::Route;
use crate::weight::Weight;

/// Days that are looked back at, beside the one that has begun (UTC).
pub const DAYS: u32 = 7;
const SLOTS: usize = DAYS as usize + 1;
/// Sets of parameters of a route that are told apart.
pub const SETS_MAX: usize = 64;
/// Media types of a route that are told apart.
pub const TYPES_MAX: usize = 16;
/// Parameter names of a route that are told apart; a set with another one is [`OTHER`].
pub const NAMES_MAX: usize = 64;
/// Most routes that are kept book of.
pub const ROUTES_MAX: usize = 10_000;
/// Cells of all routes together that are told apart: some 60 MB.
pub const CELLS_MAX: usize = 200_000;
/// Longest name of a cell that is read back.
const NAME_BYTES_MAX: usize = 1_024;

/// The cell of what has none of its own.
pub const OTHER: &str = "(other)";
/// No parameter; no content type.
pub const NONE: &str = "(none)";
/// In the place of a name that looks like data.
pub const DATA: &str = "<data>";

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// `GET`.
    Method,
    /// `2xx`.
    StatusClass,
    /// `currency&page`: the names, sorted.
    ParameterSet,
    /// `application/json`.
    ContentType,
}

impl Sort {
    /// All, in the order above.
    pub const ALL: [Sort; 4] = [Sort::Method, Sort::StatusClass, Sort::ParameterSet, Sort::ContentType];

    /// As written in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Sort::Method => "method",
            Sort::StatusClass => "status_class",
            Sort::ParameterSet => "parameter_set",
            Sort::ContentType => "content_type",
        }
    }

    /// Back from what is stored.
    pub fn of(text: &str) -> Option<Sort> {
        Sort::ALL.into_iter().find(|sort| sort.as_str() == text)
    }

    /// As people read it.
    pub const fn words(self) -> &'static str {
        match self {
            Sort::Method => "method",
            Sort::StatusClass => "status class",
            Sort::ParameterSet => "parameter set",
            Sort::ContentType => "content type",
        }
    }

    const fn cells_max(self) -> usize {
        match self {
            // Their names are a list of ours.
            Sort::Method | Sort::StatusClass => usize::MAX,
            Sort::ParameterSet => SETS_MAX,
            Sort::ContentType => TYPES_MAX,
        }
    }
}

/// Counts of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that legacy has answered: those of users, and copies.
    pub requests: u64,
    /// Of them, those whose two answers could be compared.
    pub comparisons: u64,
}

impl Counts {
    /// One request.
    pub const REQUEST: Counts = Counts { requests: 1, comparisons: 0 };
    /// One pair.
    pub const COMPARISON: Counts = Counts { requests: 0, comparisons: 1 };

    const fn add(&mut self, other: Counts) {
        self.requests = self.requests.saturating_add(other.requests);
        self.comparisons = self.comparisons.saturating_add(other.comparisons);
    }

    const fn is_zero(self) -> bool {
        self.requests == 0 && self.comparisons == 0
    }
}

/// What is known of one route over the window: plain counts, merged by adding them up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// By sort and name.
    pub cells: BTreeMap<Sort, BTreeMap<String, Counts>>,
}

impl Coverage {
    /// The cells of a sort.
    pub fn of(&self, sort: Sort) -> impl Iterator<Item = (&str, Counts)> {
        self.cells.get(&sort).into_iter().flatten().map(|(name, counts)| (name.as_str(), *counts))
    }

    /// All together: each request has one method.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.of(Sort::Method).for_each(|(_, counts)| total.add(counts));
        total
    }

    /// Whether some of a sort could not be told apart.
    pub fn is_full(&self, sort: Sort) -> bool {
        sort.cells_max() < usize::MAX && self.of(sort).any(|(name, _)| name == OTHER)
    }

    /// Adds what another process has seen.
    pub fn merge(&mut self, other: &Coverage) {
        for (sort, cells) in &other.cells {
            let own = self.cells.entry(*sort).or_default();
            for (name, counts) in cells {
                own.entry(name.clone()).or_default().add(*counts);
            }
        }
    }
}

/// Requests of one sort that legacy has answered.
pub type Tally = (Arc<Seen>, u64);

/// Whether a route's requests are counted: it has begun to be moved. On any other, users pay for no book that nobody asks for.
pub fn is_counted(route: &Route, weight: Weight) -> bool {
    route.shadow.is_some() || route.compare.is_some() || weight > Weight::NONE
}

/// One day of one cell, as it is stored: counts to be added to those that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The route.
    pub route: RouteName,
    /// Days since 1970 (UTC).
    pub day: u32,
    /// What is told apart.
    pub sort: Sort,
    /// The cell.
    pub name: Arc<str>,
    /// How often.
    pub counts: Counts,
}

/// The day of a moment.
pub fn day_of_unix_ms(unix_ms: u64) -> u32 {
    u32::try_from(unix_ms / 86_400_000).unwrap_or(u32::MAX)
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    day: u32,
    counts: Counts,
    unsaved: Counts,
}

impl Slot {
    const fn is_within(&self, today: u32) -> bool {
        self.day <= today && self.day + DAYS >= today && !self.counts.is_zero()
    }
}

#[derive(Clone, Debug, Default)]
struct Cell {
    slots: [Slot; SLOTS],
}

impl Cell {
    fn add(&mut self, day: u32, counts: Counts, is_saved: bool) {
        let Some(slot) = self.slots.get_mut(day as usize % SLOTS) else { return };
        if slot.day != day {
            *slot = Slot { day, ..Slot::default() };
        }
        slot.counts.add(counts);
        if !is_saved {
            slot.unsaved.add(counts);
        }
    }

    fn within(&self, today: u32) -> Counts {
        let mut sum = Counts::default();
        self.slots.iter().filter(|slot| slot.is_within(today)).for_each(|slot| sum.add(slot.counts));
        sum
    }

    fn is_of_use(&self, today: u32) -> bool {
        self.slots.iter().any(|slot| slot.is_within(today))
    }
}

#[derive(Debug, Default)]
struct Kept {
    cells: BTreeMap<Sort, BTreeMap<Arc<str>, Cell>>,
    /// What has been taken for a parameter's name.
    names: BTreeSet<Arc<str>>,
}

/// The book of all routes.
#[derive(Debug, Default)]
pub struct Book {
    routes: BTreeMap<RouteName, Kept>,
    cells: usize,
    /// Counts that found no room because of the bound on routes.
    pub left_out: u64,
}

impl Book {
    /// Counts what was seen. `today`: by the wall clock.
    pub fn count(&mut self, seen: &Seen, counts: Counts, today: u32) {
        let Some(kept) = self.of(&seen.route) else { return };
        let set = seen.set(&mut kept.names);
        let names = [
            (Sort::Method, Some(seen.method.as_str().into())),
            (Sort::StatusClass, Some(seen.class().into())),
            (Sort::ParameterSet, Some(set)),
            (Sort::ContentType, seen.media_type()),
        ];
        for (sort, name) in names {
            if let Some(name) = name {
                self.add(&seen.route, sort, name, today, counts, false);
            }
        }
    }

    /// Takes in what was stored before.
    pub fn load(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            if row.name.len() > NAME_BYTES_MAX {
                continue;
            }
            let Some(kept) = self.of(&row.route) else { continue };
            if row.sort == Sort::ParameterSet {
                seen::learn(&mut kept.names, &row.name);
            }
            self.add(&row.route, row.sort, row.name, row.day, row.counts, true);
        }
    }

    /// What is to be stored, at most so many rows; taken for stored from here on ([`Book::put_back`] if it was not).
    pub fn take_unsaved(&mut self, most: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for (route, kept) in &mut self.routes {
            for (sort, cells) in &mut kept.cells {
                for (name, cell) in cells {
                    for slot in cell.slots.iter_mut().filter(|slot| !slot.unsaved.is_zero()) {
                        if rows.len() >= most {
                            return rows;
                        }
                        let counts = std::mem::take(&mut slot.unsaved);
                        let (route, name) = (route.clone(), Arc::clone(name));
                        rows.push(Row { route, day: slot.day, sort: *sort, name, counts });
                    }
                }
            }
        }
        rows
    }

    /// They were not stored after all.
    pub fn put_back(&mut self, rows: &[Row]) {
        for row in rows {
            let cell =
                self.routes.get_mut(&row.route).and_then(|kept| kept.cells.get_mut(&row.sort)?.get_mut(&row.name));
            let slot = cell.and_then(|cell| cell.slots.get_mut(row.day as usize % SLOTS));
            if let Some(slot) = slot.filter(|slot| slot.day == row.day) {
                slot.unsaved.add(row.counts);
            }
        }
    }

    /// Forgets what is older than the window.
    pub fn tidy(&mut self, today: u32) {
        for kept in self.routes.values_mut() {
            for cells in kept.cells.values_mut() {
                cells.retain(|_, cell| cell.is_of_use(today));
            }
            kept.cells.retain(|_, cells| !cells.is_empty());
            let sets = kept.cells.get(&Sort::ParameterSet);
            let in_use: BTreeSet<&str> =
                sets.into_iter().flat_map(BTreeMap::keys).flat_map(|set| set.split('&')).collect();
            kept.names.retain(|name| in_use.contains(&**name));
        }
        self.routes.retain(|_, kept| !kept.cells.is_empty());
        self.cells = self.routes.values().flat_map(|kept| kept.cells.values()).map(BTreeMap::len).sum();
    }

    /// What is known of a route; empty when that is nothing.
    pub fn coverage(&self, route: &str, today: u32) -> Coverage {
        let mut coverage = Coverage::default();
        let Some(kept) = self.routes.get(route) else { return coverage };
        for (sort, cells) in &kept.cells {
            let counted = cells.iter().map(|(name, cell)| (name, cell.within(today)));
            let counted = counted.filter(|(_, counts)| !counts.is_zero());
            let counted: BTreeMap<String, Counts> = counted.map(|(name, counts)| (name.to_string(), counts)).collect();
            if !counted.is_empty() {
                coverage.cells.insert(*sort, counted);
            }
        }
        coverage
    }

    fn of(&mut self, route: &RouteName) -> Option<&mut Kept> {
        if !self.routes.contains_key(route) {
            if self.routes.len() >= ROUTES_MAX {
                self.left_out += 1;
                return None;
            }
            self.routes.insert(route.clone(), Kept::default());
        }
        self.routes.get_mut(route)
    }

    fn add(&mut self, route: &RouteName, sort: Sort, name: Arc<str>, day: u32, counts: Counts, is_saved: bool) {
        let Some(kept) = self.routes.get_mut(route) else { return };
        let cells = kept.cells.entry(sort).or_default();
        let has_room = |cells: &BTreeMap<Arc<str>, Cell>| cells.len() < sort.cells_max();
        let name = if cells.contains_key(&name) {
            name
        } else {
            if !has_room(cells) {
                // Those of long ago first.
                let before = cells.len();
                cells.retain(|_, cell| cell.is_of_use(day));
                self.cells = self.cells.saturating_sub(before - cells.len());
            }
            // Methods and classes always have theirs: there are fifteen of them.
            let is_ours = sort.cells_max() == usize::MAX;
            if is_ours || (has_room(cells) && self.cells < CELLS_MAX) { name } else { OTHER.into() }
        };
        let is_new = !cells.contains_key(&name);
        cells.entry(name).or_default().add(day, counts, is_saved);
        self.cells += usize::from(is_new);
    }
}

#[cfg(test)]
mod tests;
