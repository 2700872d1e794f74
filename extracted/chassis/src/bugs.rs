//! Faults that can be switched on, to show what catches them: `name[:percent][,name…]`.
//!
//! Given at start by `ESTATE_BUG`, changed at runtime by `PUT /__bugs`, read by `GET /__bugs`. All are off by default.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::problem::Problem;

/// The bugs of one service: an enum of its own.
pub trait Bug: Copy + PartialEq + Send + Sync + 'static {
    const ALL: &'static [Self];

    fn name(self) -> &'static str;

    /// In how many of 100 calls the bug shows when no percentage is written.
    fn default_percent(self) -> u8 {
        100
    }
}

/// Every bug of the estate. One `ESTATE_BUG` is handed to all services; each takes its own and lets the others' be.
pub const ESTATE: [&str; 15] = [
    "rounding",
    "slow_p99",
    "null_name",
    "null_vs_empty",
    "unordered_lines",
    "tier_boundary",
    "email_case",
    "oversell",
    "leak_on_compensate",
    "ignore_idem",
    "fail",
    "tz",
    "lost_outbox",
    "dup",
    "rounding_jpy",
];

/// Why a text was refused; the switches stay as they were.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BugError {
    #[error("there is no bug {name:?} here; known: {known}")]
    Unknown { name: String, known: String },
    #[error("{text:?}: the percentage must be a whole number of 0 to 100")]
    Percent { text: String },
}

/// The switches of one service. Reading one costs an atomic load.
#[derive(Debug)]
pub struct Bugs<B> {
    switches: Vec<Switch<B>>,
}

#[derive(Debug)]
struct Switch<B> {
    bug: B,
    percent: AtomicU8,
    calls: AtomicU64,
}

impl<B: Bug> Bugs<B> {
    pub fn none() -> Bugs<B> {
        let switch = |bug: &B| Switch { bug: *bug, percent: AtomicU8::new(0), calls: AtomicU64::new(0) };
        Bugs { switches: B::ALL.iter().map(switch).collect() }
    }

    /// Reads what `ESTATE_BUG` holds: names of other services are passed over, names of no service are refused.
    pub fn from_estate(text: &str) -> Result<Bugs<B>, BugError> {
        let is_ours =
            |entry: &&str| !ESTATE.contains(&name_of(entry)) || B::ALL.iter().any(|bug| bug.name() == name_of(entry));
        let ours: Vec<&str> = text.split(',').map(str::trim).filter(is_ours).collect();
        let bugs = Bugs::none();
        bugs.set(&ours.join(","))?;
        Ok(bugs)
    }

    /// Switches on what `text` names and everything else off.
    pub fn set(&self, text: &str) -> Result<(), BugError> {
        let mut wanted = vec![0; self.switches.len()];
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let name = name_of(entry);
            let place = self.switches.iter().position(|switch| switch.bug.name() == name);
            let place = place.ok_or_else(|| BugError::Unknown { name: name.to_owned(), known: known::<B>() })?;
            wanted[place] = match percent_of(entry)? {
                Some(percent) => percent,
                None => self.switches[place].bug.default_percent(),
            };
        }
        for (switch, percent) in self.switches.iter().zip(wanted) {
            switch.percent.store(percent, Ordering::Relaxed);
            switch.calls.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the bug shows in this call: in exactly `percent` of each 100 calls, evenly spread, without chance.
    pub fn fires(&self, bug: B) -> bool {
        let Some(switch) = self.switches.iter().find(|switch| switch.bug == bug) else {
            return false;
        };
        let percent = u64::from(switch.percent.load(Ordering::Relaxed));
        if percent == 0 {
            return false;
        }
        let call = switch.calls.fetch_add(1, Ordering::Relaxed) % 100;
        (call + 1) * percent / 100 > call * percent / 100
    }

    /// What is on, in the form that [`Bugs::set`] reads.
    pub fn text(&self) -> String {
        let on = self.switches.iter().filter_map(|switch| match switch.percent.load(Ordering::Relaxed) {
            0 => None,
            100 => Some(switch.bug.name().to_owned()),
            percent => Some(format!("{}:{percent}", switch.bug.name())),
        });
        on.collect::<Vec<_>>().join(",")
    }
}

/// `GET` and `PUT /__bugs`.
pub fn router<B: Bug>(bugs: Arc<Bugs<B>>) -> Router {
    Router::new().route("/__bugs", get(show::<B>).put(switch::<B>)).with_state(bugs)
}

async fn show<B: Bug>(State(bugs): State<Arc<Bugs<B>>>) -> String {
    format!("{}\n", bugs.text())
}

async fn switch<B: Bug>(State(bugs): State<Arc<Bugs<B>>>, text: String) -> Result<String, Problem> {
    let refused = |error: BugError| {
        Problem::new(StatusCode::BAD_REQUEST, "unknown_bug", "The bug switch was refused", error.to_string())
    };
    bugs.set(&text).map_err(refused)?;
    let now = bugs.text();
    tracing::warn!(bugs = %now, "bugs switched");
    Ok(format!("{now}\n"))
}

/// The name in `name[:percent]`; a leading `bug:` is allowed.
fn name_of(entry: &str) -> &str {
    let entry = entry.strip_prefix("bug:").unwrap_or(entry);
    entry.split_once(':').map_or(entry, |(name, _)| name)
}

fn percent_of(entry: &str) -> Result<Option<u8>, BugError> {
    let entry = entry.strip_prefix("bug:").unwrap_or(entry);
    let Some((_, percent)) = entry.split_once(':') else {
        return Ok(None);
    };
    let is_number = percent.bytes().all(|byte| byte.is_ascii_digit());
    let percent = percent.parse().ok().filter(|percent| is_number && *percent <= 100);
    percent.map(Some).ok_or_else(|| BugError::Percent { text: entry.to_owned() })
}

fn known<B: Bug>() -> String {
    B::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Two {
        Rounding,
        Slow,
    }

    impl Bug for Two {
        const ALL: &'static [Two] = &[Two::Rounding, Two::Slow];

        fn name(self) -> &'static str {
            match self {
                Two::Rounding => "rounding",
                Two::Slow => "slow_p99",
            }
        }

        fn default_percent(self) -> u8 {
            match self {
                Two::Rounding => 100,
                Two::Slow => 3,
            }
        }
    }

    fn fired(bugs: &Bugs<Two>, bug: Two, calls: usize) -> usize {
        (0..calls).filter(|_| bugs.fires(bug)).count()
    }

    #[test]
    fn a_percentage_is_met_exactly_in_each_hundred_calls() {
        let bugs = Bugs::<Two>::none();
        assert_eq!(fired(&bugs, Two::Rounding, 100), 0);
        bugs.set("rounding:25, slow_p99").expect("both are known");
        assert_eq!(fired(&bugs, Two::Rounding, 1_000), 250);
        assert_eq!(fired(&bugs, Two::Slow, 1_000), 30);
        assert_eq!(bugs.text(), "rounding:25,slow_p99:3");
        bugs.set("").expect("empty is none");
        assert_eq!(fired(&bugs, Two::Rounding, 100), 0);
    }

    #[test]
    fn a_refused_text_changes_nothing_and_names_the_known_ones() {
        let bugs = Bugs::<Two>::none();
        bugs.set("bug:rounding").expect("known");
        let error = bugs.set("slow_p99,oversell").expect_err("not of this service");
        assert_eq!(error.to_string(), "there is no bug \"oversell\" here; known: rounding, slow_p99");
        for bad in ["rounding:", "rounding:101", "rounding:+5", "rounding:5%", "rounding:1:2"] {
            assert!(matches!(bugs.set(bad), Err(BugError::Percent { .. })), "{bad}");
        }
        assert_eq!(bugs.text(), "rounding");
    }

    #[test]
    fn at_start_other_services_bugs_are_passed_over_but_a_typo_is_not() {
        let bugs = Bugs::<Two>::from_estate("oversell:50,rounding").expect("both are the estate's");
        assert_eq!(bugs.text(), "rounding");
        assert!(Bugs::<Two>::from_estate("roundign").is_err());
    }
}
