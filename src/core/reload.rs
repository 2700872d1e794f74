//! Whether a new table may take the place of the one in force, and what is known about the file.
//!
//! YAML cut at the end of a line is still YAML: half of a file is a whole one that says less. So whatever moves users by its
//! absence must not vanish from a reload: it is named under `removed:`, written out as `0%`, or accepted by a person.

use std::fmt;
use std::time::SystemTime;

use crate::fault::Fault;
use crate::name::{JourneyName, RouteName};
use crate::raw::MATCH_KEYS;
use crate::route::{Locate, Route};
use crate::side::Side;
use crate::table::{Revision, RoutingTable, Written};
use crate::tree::Span;
use crate::weight::Weight;

/// What a new text looks like beside the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is the beginning of the text in force.
    Beginning,
    /// Its last line has no end, and is the beginning of a line of the text in force.
    Line,
}

/// Whether `new` looks as if the writing of it had stopped halfway. Nobody is refused for this alone.
pub fn looks_cut(in_force: &[u8], new: &[u8]) -> Option<Cut> {
    if new.len() < in_force.len() && in_force.starts_with(new) {
        return Some(Cut::Beginning);
    }
    let last = new.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last.trim_ascii().is_empty() {
        return None;
    }
    let mut is_torn = false;
    for line in in_force.split(|byte| *byte == b'\n') {
        if line == last {
            return None;
        }
        is_torn |= line.starts_with(last);
    }
    is_torn.then_some(Cut::Line)
}

/// What vanished that carried users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The whole route, and the largest weight it had, by the file or by the runtime.
    Route(RouteName, Weight),
    /// Keys of a route that is still there, as in `weight` or `match.methods`.
    Keys(RouteName, Vec<&'static str>),
    /// Keys of a journey that such a route is on.
    Journey(JourneyName, Vec<&'static str>),
    /// A text that looks cut changes this route.
    Changed(RouteName, Cut),
    /// A text that looks cut changes the monolith's address.
    Legacy(Cut),
}

impl Lost {
    /// As a fault of the file.
    pub fn to_fault(&self) -> Fault {
        const ACCEPT: &str = "`strangler apply --accept-removals`";
        let (path, help) = match self {
            Lost::Route(name, _) => {
                (String::new(), format!("if that is meant, write `removed: [{name}]`, or use {ACCEPT}"))
            }
            Lost::Keys(_, keys) if *keys == ["weight"] => {
                (String::new(), format!("if that is meant, write `weight: 0%`, or use {ACCEPT}"))
            }
            Lost::Journey(name, _) => (format!("journeys.{name}"), format!("if that is meant, use {ACCEPT}")),
            Lost::Keys(..) | Lost::Changed(..) | Lost::Legacy(_) => {
                (String::new(), format!("if that is meant, use {ACCEPT}"))
            }
        };
        Fault::error(Span::default(), path, self.to_string()).with_help(help)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |cut: &Cut| match cut {
            Cut::Beginning => "the file is the beginning of the one in force",
            Cut::Line => "the last line of the file is torn off",
        };
        match self {
            Lost::Route(name, weight) if *weight > Weight::NONE => {
                write!(f, "the route `{name}` carries {weight} of its users and is missing")
            }
            Lost::Route(name, _) => write!(f, "the route `{name}` sends users to extracted and is missing"),
            Lost::Keys(name, keys) => {
                write!(f, "the route `{name}` carries users and has lost `{}`", keys.join("`, `"))
            }
            Lost::Journey(name, keys) => {
                write!(f, "the journey `{name}` carries users and has lost `{}`", keys.join("`, `"))
            }
            Lost::Changed(name, how) => write!(f, "{}, and the route `{name}` would change", cut(how)),
            Lost::Legacy(how) => write!(f, "{}, and the monolith's address would change", cut(how)),
        }
    }
}

/// Whether a table may take the place of the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadVerdict {
    /// It may.
    Accept,
    /// It may not: all of this would move users unnoticed.
    Refuse(Vec<Lost>),
}

/// What is in force, as far as a reload is concerned.
#[derive(Clone, Copy)]
pub struct Running<'a> {
    /// The table.
    pub table: &'a RoutingTable,
    /// The weight in force of the route at an index, kills left aside; `None`: that of the table.
    pub weight: &'a dyn Fn(usize) -> Option<Weight>,
}

/// Judges a reload.
///
/// A route carries users when its weight is above 0 % in the file in force or by the runtime (a kill on top of it left aside), or when
/// `locate` sends some to extracted. Such a route must not be missing unless it is named under `removed:`, and must not have lost what
/// decides its users: `weight`, `journey`, `locate`, `data`, conditions of its `match`, `sticky_on` and `salt` of its journey. A route that
/// is written down to `0%` may lose anything. A text that looks `cut` may do no more than miss routes that carry nobody.
pub fn judge_reload(
    running: Running<'_>,
    new: &RoutingTable,
    cut: Option<Cut>,
    accept_removals: bool,
) -> ReloadVerdict {
    if accept_removals {
        return ReloadVerdict::Accept;
    }
    let mut new_by_name: Vec<(&RouteName, usize)> =
        new.routes.iter().enumerate().map(|(index, route)| (&route.name, index)).collect();
    new_by_name.sort();
    let old = running.table;
    let mut lost = Vec::new();
    let mut journeys: Vec<&JourneyName> = Vec::new();
    if let Some(cut) = cut.filter(|_| old.legacy != new.legacy) {
        lost.push(Lost::Legacy(cut));
    }
    for (index, route) in old.routes.iter().enumerate() {
        let in_force = (running.weight)(index).unwrap_or(route.weight).max(route.weight);
        let carries = in_force > Weight::NONE || route.locate.as_ref().is_some_and(sends_to_extracted);
        let found = new_by_name.binary_search_by(|(name, _)| (*name).cmp(&route.name)).ok();
        let still =
            found.and_then(|at| new_by_name.get(at)).and_then(|(_, index)| Some((*index, new.routes.get(*index)?)));
        let Some((new_index, still)) = still else {
            if carries && !new.removed.contains(&route.name) {
                lost.push(Lost::Route(route.name.clone(), in_force));
            }
            continue;
        };
        if let Some(cut) = cut.filter(|_| route != still) {
            lost.push(Lost::Changed(route.name.clone(), cut));
            continue;
        }
        let new_written = new.written.get(new_index).copied().unwrap_or_default();
        let is_written_down = new_written.weight && still.weight == Weight::NONE;
        if !carries || is_written_down {
            continue;
        }
        let old_written = old.written.get(index).copied().unwrap_or_default();
        let keys = lost_keys((route, old_written), (still, new_written));
        if !keys.is_empty() {
            lost.push(Lost::Keys(route.name.clone(), keys));
        }
        journeys.extend(route.journey.as_ref().filter(|_| route.journey == still.journey));
    }
    journeys.sort();
    journeys.dedup();
    for name in journeys {
        let (Some(before), Some(now)) = (old.journeys.get(name), new.journeys.get(name)) else { continue };
        let mut keys = Vec::new();
        if has_lost_its_end(&before.sticky_on, &now.sticky_on) {
            keys.push("sticky_on");
        }
        if before.is_salt_written && !now.is_salt_written && before.salt != now.salt {
            keys.push("salt");
        }
        if before.is_lease_written && !now.is_lease_written && before.lease != now.lease {
            keys.push("lease");
        }
        if before.is_together && !now.is_together {
            keys.push("together");
        }
        if !keys.is_empty() {
            lost.push(Lost::Journey(name.clone(), keys));
        }
    }
    if lost.is_empty() { ReloadVerdict::Accept } else { ReloadVerdict::Refuse(lost) }
}

fn sends_to_extracted(locate: &Locate) -> bool {
    locate.otherwise == Side::Extracted || locate.rules.iter().any(|rule| rule.to == Side::Extracted)
}

/// A list whose end is missing is what a cut leaves of it.
fn has_lost_its_end<T: PartialEq>(before: &[T], now: &[T]) -> bool {
    now.len() < before.len() && before.starts_with(now)
}

/// What `now` no longer says that `before` said. Another value is an edit, and nobody's business here.
fn lost_keys((before, before_written): (&Route, Written), (now, now_written): (&Route, Written)) -> Vec<&'static str> {
    const MATCH_PATHS: [&str; 5] = ["match.host", "match.methods", "match.headers", "match.query", "match.cookies"];
    let mut keys = Vec::new();
    let is_gone = |before: bool, now: bool| before && !now;
    if is_gone(before_written.weight, now_written.weight) && before.weight != now.weight && now.locate.is_none() {
        keys.push("weight");
    }
    if is_gone(before.rollout.is_some(), now.rollout.is_some()) && !now_written.weight && now.locate.is_none() {
        keys.push("rollout");
    }
    if is_gone(before.journey.is_some(), now.journey.is_some()) {
        keys.push("journey");
    }
    match (&before.locate, &now.locate) {
        (Some(_), None) if !now_written.weight => keys.push("locate"),
        (Some(before), Some(now)) if has_lost_its_end(&before.rules, &now.rules) => keys.push("locate.rules"),
        _ => {}
    }
    if is_gone(before_written.data, now_written.data) && before.data != now.data {
        keys.push("data");
    }
    if is_gone(before.form.is_some(), now.form.is_some()) {
        keys.push("affinity");
    }
    if is_gone(before.idempotency.is_some(), now.idempotency.is_some()) {
        keys.push("idempotency");
    }
    let (was, is) = (&before.conditions, &now.conditions);
    let shortened = [
        false,
        has_lost_its_end(&was.methods, &is.methods),
        has_lost_its_end(&was.headers, &is.headers),
        has_lost_its_end(&was.query, &is.query),
        has_lost_its_end(&was.cookies, &is.cookies),
    ];
    debug_assert_eq!(MATCH_KEYS.len(), MATCH_PATHS.len());
    let gone = before_written.match_keys.iter().zip(now_written.match_keys).map(|(before, now)| is_gone(*before, now));
    let all = MATCH_PATHS.into_iter().zip(gone.zip(shortened));
    keys.extend(all.filter(|(_, (gone, shortened))| *gone || *shortened).map(|(path, _)| path));
    keys
}

/// What is known about the routes file: what is in force, and what became of the last attempt to change it.
#[derive(Clone, Debug)]
pub struct ConfigStatus {
    /// The revision in force.
    pub revision: Revision,
    /// Since when.
    pub since: SystemTime,
    /// Where the text in force came from.
    pub source: Source,
    /// The last attempt, the one that brought what is in force included.
    pub last: Attempt,
    /// Why the accepted text could not be kept for the next start; `None`: it is kept, or nobody asked for it.
    pub not_kept: Option<String>,
}

/// Where a text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The routes file.
    File,
    /// The copy kept in the state directory: the routes file was refused at the start.
    LastGood,
}

/// One attempt to read the routes file.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When.
    pub at: SystemTime,
    /// What became of it.
    pub outcome: AttemptOutcome,
    /// What was found: errors when it was refused, warnings when it was not.
    pub faults: Vec<Fault>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It is in force.
    Accepted,
    /// It says what is in force already.
    Unchanged,
    /// The text is wrong, or could not be read.
    Refused,
    /// The text is right, and would move users by what it lacks.
    RefusedRemoval,
}

impl AttemptOutcome {
    /// As written in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Accepted => "accepted",
            AttemptOutcome::Unchanged => "unchanged",
            AttemptOutcome::Refused => "refused",
            AttemptOutcome::RefusedRemoval => "refused_removal",
        }
    }

    /// Whether what is in force is what the file says.
    pub const fn is_success(self) -> bool {
        matches!(self, AttemptOutcome::Accepted | AttemptOutcome::Unchanged)
    }
}

impl ConfigStatus {
    /// Whether the proxy runs on the kept copy instead of the file: an alarm (`strangler_config_stale`).
    pub fn is_stale(&self) -> bool {
        self.source == Source::LastGood
    }
}
