//! What a rollout does next, and what it waits for. Taken at every look, from what is known then.
//!
//! Lowering comes first and waits for nothing but the data's owner; raising takes proof, time, traffic, and everybody's leave. A
//! rollback is latched: evidence that stands would otherwise walk the ladder down, look by look.

use std::time::Duration;

use crate::calendar::Freeze;
use crate::judge::hard::Trip;
use crate::judge::{Decision, Reason, State, Verdict};
use crate::route::{Need, RollBackTo, RolloutPolicy, Route, Step};
use crate::runtime::{Progress, utc};
use crate::weight::Weight;

/// What is known at a look.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The route.
    pub route: &'a Route,
    /// How it climbs.
    pub policy: &'a RolloutPolicy,
    /// Where it stands.
    pub progress: &'a Progress,
    /// What the judge says of the weight it stands at; `None`: before the first step there is nothing to judge.
    pub verdict: Option<&'a Verdict>,
    /// What the hard breaker says.
    pub trip: Option<Trip>,
    /// Time at this step while the proxy ran, by a clock that nobody sets.
    pub at_step: Duration,
    /// Different users that extracted was asked for at this step; comparisons at the shadow step.
    pub requests: u64,
    /// The routes that have not come as far as this one needs.
    pub unmet: &'a [&'a Need],
    /// Whether it is killed.
    pub is_killed: bool,
    /// Whether what was known could be read at start.
    pub is_state_known: bool,
    /// Milliseconds since 1970, for windows and freezes alone: time at a step is not measured by it.
    pub now_unix_ms: u64,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Stay,
    /// The next step is entered.
    Rise(Step),
    /// It is sent back; `None`: before the first step, and nothing is copied either.
    Back(Option<Step>),
    /// It should be sent back and must not be: extracted owns the data. Somebody is to be called.
    Page,
}

/// What a look comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What is done.
    pub action: Action,
    /// The most important reason.
    pub reason: Reason,
    /// Why, in words.
    pub why: String,
    /// All that it waits for before it rises, in words; empty when it is done, or moves.
    pub waits_for: Vec<String>,
}

/// Decides.
pub fn look(seen: &Seen<'_>) -> Look {
    if let Some((reason, why)) = harm(seen) {
        let action = if seen.route.data.may_go_back() { Action::Back(target(seen)) } else { Action::Page };
        if action == Action::Page {
            let why = format!("{why}; the extracted service owns the data, so nothing goes back by itself");
            let waits_for = vec!["a person's decision: `rollback --accept-stale`, or a repaired service".to_owned()];
            return Look { action, reason: Reason::DataOwnedByExtracted, why, waits_for };
        }
        return Look { action, reason, why, waits_for: Vec::new() };
    }
    let Some(next) = seen.progress.next_step(seen.policy) else {
        let reason = seen.verdict.map_or(Reason::NothingDemanded, |verdict| verdict.reason);
        return Look { action: Action::Stay, reason, why: "it is at its last step".to_owned(), waits_for: Vec::new() };
    };
    let waits: Vec<(Reason, String)> = [in_the_way(seen, next), unproven(seen)].concat();
    match waits.first() {
        None => {
            let why = seen.verdict.map_or_else(|| "it begins".to_owned(), |verdict| verdict.why.clone());
            Look { action: Action::Rise(next), reason: Reason::Proven, why, waits_for: Vec::new() }
        }
        Some((reason, why)) => Look {
            action: Action::Stay,
            reason: *reason,
            why: why.clone(),
            waits_for: waits.iter().map(|(_, why)| why.clone()).collect(),
        },
    }
}

/// Harm that sends it back, where there is anybody to send back. What is latched already stays, but for the hard breaker.
fn harm(seen: &Seen<'_>) -> Option<(Reason, String)> {
    if seen.progress.weight == Weight::NONE {
        return None;
    }
    if let Some(trip) = seen.trip {
        let why = match trip {
            Trip::Unreachable => "extracted cannot be reached",
            Trip::Failing => "half of the last 20 requests failed at extracted, and not alike at legacy",
            Trip::BreakerOpen => "its breaker has stood open for a minute in all",
        };
        return Some((Reason::HardBreaker, why.to_owned()));
    }
    let verdict = seen.verdict.filter(|verdict| verdict.verdict == Decision::RollBack)?;
    seen.progress.latched.is_none().then(|| (verdict.reason, verdict.why.clone()))
}

/// Where it goes back to. The hard breaker leaves nobody there.
fn target(seen: &Seen<'_>) -> Option<Step> {
    let to = match seen.policy.roll_back_to {
        RollBackTo::PreviousStep if seen.trip.is_some() => RollBackTo::Shadow,
        to @ (RollBackTo::Shadow | RollBackTo::Legacy | RollBackTo::PreviousStep) => to,
    };
    seen.policy.target(seen.progress.step(seen.policy), to)
}

/// What holds it, whatever is proven.
fn in_the_way(seen: &Seen<'_>, next: Step) -> Vec<(Reason, String)> {
    let mut waits = Vec::new();
    let Seen { policy, progress, now_unix_ms, .. } = seen;
    if seen.is_killed {
        waits.push((Reason::Killed, "it is killed".to_owned()));
    }
    if !seen.is_state_known {
        waits.push((Reason::StateLost, "what was counted before the start, which cannot be read yet".to_owned()));
    }
    if let Some(latch) = &progress.latched {
        waits.push((Reason::Latched, format!("`resume`, or another release: it was rolled back {}", latch.note)));
    }
    if let Some(held) = &progress.held {
        waits.push((Reason::Held, format!("`resume`: held {held}")));
    }
    let is_approved = progress.approved.as_ref().is_some_and(|approval| approval.step == next);
    if policy.approve.contains(&next) && !is_approved {
        waits.push((Reason::AwaitingApproval, format!("a person's approval of {next}")));
    }
    for need in seen.unmet {
        waits.push((Reason::Needs, format!("`{}` at {}", need.route, need.weight)));
    }
    let zone = policy.window.as_ref().map(|window| window.zone());
    if let Some(freeze) = policy.freeze.iter().find(|freeze: &&Freeze| freeze.holds(*now_unix_ms, zone)) {
        waits.push((Reason::Frozen, format!("the end of the freeze {freeze}")));
    }
    if let Some(window) = policy.window.as_ref().filter(|window| !window.is_open(*now_unix_ms)) {
        let opens = window.opens(*now_unix_ms).map(|at| format!(", which opens {}", utc(at)));
        waits.push((Reason::Window, format!("the window {window}{}", opens.unwrap_or_default())));
    }
    waits
}

/// What is not proven, or has not stood long enough.
fn unproven(seen: &Seen<'_>) -> Vec<(Reason, String)> {
    // Before the first step nobody has been asked, and nothing can be.
    let Some(verdict) = seen.verdict.filter(|_| seen.progress.is_begun) else { return Vec::new() };
    let mut waits = Vec::new();
    match verdict.verdict {
        Decision::Promote => {}
        Decision::Hold => waits.push((verdict.reason, verdict.why.clone())),
        Decision::RollBack => waits.push((verdict.reason, format!("proof that it is harmless: {}", verdict.why))),
    }
    for (name, gate) in verdict.gates.iter().filter(|(_, gate)| gate.state == State::Open) {
        let why = format!("{}: {}", name.as_str(), gate.why);
        if waits.iter().all(|(_, known)| *known != why) {
            waits.push((verdict.reason, why));
        }
    }
    let left = seen.policy.at_least.saturating_sub(seen.at_step);
    if !left.is_zero() {
        let at_least = words(seen.policy.at_least.as_secs());
        waits.push((Reason::Soak, format!("{} more at this step, of {at_least}", words(left.as_secs().max(1)))));
    }
    if seen.requests < seen.policy.min_requests {
        let (what, least) = (
            if seen.progress.weight == Weight::NONE { "comparisons" } else { "users of extracted" },
            seen.policy.min_requests,
        );
        waits.push((Reason::Soak, format!("{} more {what} at this step, of {least}", least - seen.requests)));
    }
    waits
}

/// `90s` as `1m 30s`.
pub fn words(seconds: u64) -> String {
    let (days, hours, minutes, left) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "m"), (left, "s")];
    let mut parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}"));
    match (parts.next(), parts.next()) {
        (None, _) => "0s".to_owned(),
        (Some(first), None) => first,
        (Some(first), Some(second)) => format!("{first} {second}"),
    }
}

#[cfg(test)]
mod tests;
