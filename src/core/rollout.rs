//! What a rollout does next, and what it waits for. Taken at every look, from what is known then.
//!
//! Lowering comes first and waits for nothing but the data's owner; raising takes proof, time, traffic, and everybody's leave. A
//! rollback is latched: evidence that stands would otherwise walk the ladder down, look by look.

use crate::calendar::Freeze;
use crate::judge::hard::Trip;
use crate::judge::ladder::{Lacking, Stood};
use crate::judge::late::Lately;
use crate::judge::{Decision, Reason, State, Verdict, legacy_failures};
use crate::name::RouteName;
use crate::route::{Need, RollBackTo, RolloutPolicy, Route, Step};
use crate::runtime::{Note, Progress, RolloutChange, utc};
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
    /// What this step has stood while the proxy ran.
    pub stood: Stood,
    /// What came with an alarm of a late regression at this weight; `None`: there was none.
    pub late: Option<Lately>,
    /// Among how many routes it stands out as one that is worse; `None`: it does not.
    pub stands_out: Option<usize>,
    /// The routes that have not come as far as this one needs.
    pub unmet: &'a [&'a Need],
    /// Whether it is killed.
    pub is_killed: bool,
    /// Whether what was known could be read at start.
    pub is_state_known: bool,
    /// Milliseconds since 1970, for windows and freezes alone: time at a step is not measured by it.
    pub now_unix_ms: u64,
    /// Whether that clock has jumped lately, so that no window and no freeze can be told by it.
    pub is_clock_doubtful: bool,
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
            return paged(format!("{why}; the extracted service owns the data, so nothing goes back by itself"));
        }
        return Look { action, reason, why, waits_for: Vec::new() };
    }
    let Some(next) = seen.progress.next_step(seen.policy) else {
        let reason = seen.verdict.map_or(Reason::NothingDemanded, |verdict| verdict.reason);
        let (why, waits_for) = at_the_top(seen);
        return Look { action: Action::Stay, reason, why, waits_for };
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

/// A route of a journey that climbs as one, and what a look at it alone comes to.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// The route.
    pub route: &'a Route,
    /// Where it stood; `None`: it had never stood anywhere.
    pub before: Option<&'a Progress>,
    /// Where it stands.
    pub progress: &'a Progress,
    /// What it comes to.
    pub look: Look,
}

/// What looks at routes come to that climb together: the worst wins. The routes that are behind, as one that is new to the journey, rise
/// first, and the others wait for them. Of one route: its own look.
///
/// Answers also the route that is to blame for a way back.
pub fn together(policy: &RolloutPolicy, members: &[Member<'_>]) -> (Look, Option<RouteName>) {
    let of = |is: fn(&Action) -> bool| members.iter().find(move |member| is(&member.look.action));
    let named = |member: &Member<'_>| {
        let look = member.look.clone();
        if members.len() < 2 { look } else { Look { why: format!("`{}`: {}", member.route.name, look.why), ..look } }
    };
    if let Some(paged) = of(|action| *action == Action::Page) {
        return (named(paged), Some(paged.route.name.clone()));
    }
    if let Some(harmed) = of(|action| matches!(action, Action::Back(_))) {
        let stays = |member: &&Member<'_>| !member.route.data.may_go_back() && member.progress.weight > Weight::NONE;
        let mut look = named(harmed);
        if let Some(owner) = members.iter().find(stays) {
            let why = format!(
                "{}; the extracted service owns the data of `{}`, so nothing goes back by itself",
                look.why, owner.route.name
            );
            look = paged(why);
        }
        return (look, Some(harmed.route.name.clone()));
    }
    let least = members.iter().map(|member| member.progress.step(policy)).min().flatten();
    let behind: Vec<&Member<'_>> = members.iter().filter(|member| member.progress.step(policy) == least).collect();
    let Some(first) = behind.iter().find(|member| !matches!(member.look.action, Action::Rise(_))) else {
        return (behind.first().map_or_else(nothing, |member| named(member)), None);
    };
    let worst =
        behind.iter().filter(|member| !member.look.waits_for.is_empty()).min_by_key(|member| member.look.reason);
    let mut look = named(worst.unwrap_or(first));
    // What all of them wait for is said once.
    let mut waits: Vec<(&str, Vec<&str>)> = Vec::new();
    for (member, wait) in behind.iter().flat_map(|member| member.look.waits_for.iter().map(move |wait| (member, wait)))
    {
        match waits.iter_mut().find(|(known, _)| known == wait) {
            Some((_, routes)) => routes.push(member.route.name.as_str()),
            None => waits.push((wait, vec![member.route.name.as_str()])),
        }
    }
    let of_all = |routes: &Vec<&str>| routes.len() == members.len();
    look.waits_for = waits
        .iter()
        .map(
            |(wait, routes)| {
                if of_all(routes) { (*wait).to_owned() } else { format!("`{}`: {wait}", routes.join("`, `")) }
            },
        )
        .collect();
    look.action = Action::Stay;
    (look, None)
}

/// Where there is no route there is nothing to do.
fn nothing() -> Look {
    Look {
        action: Action::Stay,
        reason: Reason::NothingDemanded,
        why: "nothing climbs".to_owned(),
        waits_for: Vec::new(),
    }
}

/// Every change that a look comes to; none: it stays. All of it is done at once.
pub fn changes(
    members: &[Member<'_>],
    action: &Action,
    culprit: Option<&RouteName>,
    note: &Note,
) -> Vec<RolloutChange> {
    let change = |member: &Member<'_>, after: Progress| RolloutChange {
        route: member.route.name.clone(),
        before: member.before.cloned(),
        after,
    };
    let moved = members.iter().filter_map(|member| match action {
        Action::Stay | Action::Page => None,
        Action::Rise(step) => {
            let is_there = member.progress.is_begun && member.progress.weight >= step.weight();
            (!is_there).then(|| change(member, member.progress.entering(*step, note.clone())))
        }
        Action::Back(step) => {
            let culprit = culprit.filter(|culprit| **culprit != member.route.name).cloned();
            let to = member.progress.at_most(*step);
            Some(change(member, member.progress.rolled_back(to, note.clone(), culprit)))
        }
    });
    moved.collect()
}

/// It should go back, and must not.
fn paged(why: String) -> Look {
    let waits_for = vec!["a person's decision: `rollback --accept-stale`, or a repaired service".to_owned()];
    Look { action: Action::Page, reason: Reason::DataOwnedByExtracted, why, waits_for }
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
    let verdict = seen.verdict.filter(|_| seen.progress.latched.is_none())?;
    if verdict.verdict == Decision::RollBack {
        return Some((verdict.reason, verdict.why.clone()));
    }
    late_harm(seen, verdict).map(|why| (Reason::LateRegression, why))
}

/// A late regression, of a service that has passed all its steps and bakes: an alarm, and what came with it is beyond what is tolerated.
fn late_harm(seen: &Seen<'_>, verdict: &Verdict) -> Option<String> {
    let lately = seen.late.filter(|_| seen.policy.is_baking(seen.progress.weight))?;
    let legacy_rate = legacy_failures(&verdict.on).unwrap_or(0.0);
    let margin = seen.policy.gates.errors?.margin(seen.progress.weight);
    lately.is_beyond(legacy_rate, margin.ratio()).then(|| {
        let Lately { failures, requests } = lately;
        format!("it has begun to fail late: {failures} of its last {requests} requests, beyond the {margin} that are tolerated")
    })
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
    if seen.is_clock_doubtful && (policy.window.is_some() || !policy.freeze.is_empty()) {
        waits.push((Reason::Window, "a clock that can be believed: it has jumped a moment ago".to_owned()));
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

/// It climbs no further; without a holdback it bakes here.
fn at_the_top(seen: &Seen<'_>) -> (String, Vec<String>) {
    let left =
        seen.policy.bake.filter(|bake| bake.step().is_none()).map(|bake| bake.time.saturating_sub(seen.stood.time));
    match left.filter(|left| !left.is_zero()) {
        None => ("it is at its last step".to_owned(), Vec::new()),
        Some(left) => {
            let left = format!("{} more of its bake: legacy is to be kept warm", words(left.as_secs().max(1)));
            ("it is at its last step, and bakes".to_owned(), vec![left])
        }
    }
}

/// What is not proven, or has not stood long enough.
fn unproven(seen: &Seen<'_>) -> Vec<(Reason, String)> {
    // Before the first step nobody has been asked, and nothing can be.
    let Some(verdict) = seen.verdict.filter(|_| seen.progress.is_begun) else { return Vec::new() };
    let mut waits = Vec::new();
    let is_baking = seen.policy.is_baking(seen.progress.weight);
    // All was proven on the way here, and with so few users left to legacy it could not be proven again: what is against it counts.
    let is_needless = is_baking && matches!(verdict.reason, Reason::Insufficient | Reason::Starved | Reason::Coverage);
    match verdict.verdict {
        Decision::Promote => {}
        Decision::Hold if is_needless => {}
        Decision::Hold => waits.push((verdict.reason, verdict.why.clone())),
        Decision::RollBack => waits.push((verdict.reason, format!("proof that it is harmless: {}", verdict.why))),
    }
    if let Some(routes) = seen.stands_out {
        let why = format!("less evidence that it is worse than legacy: of {routes} routes it stands out");
        waits.push((Reason::WithinMargin, why));
    }
    for (name, gate) in verdict.gates.iter().filter(|(_, gate)| gate.state == State::Open && !is_needless) {
        let why = format!("{}: {}", name.as_str(), gate.why);
        if waits.iter().all(|(_, known)| *known != why) {
            waits.push((verdict.reason, why));
        }
    }
    let has_comparisons = seen.progress.weight > Weight::NONE || seen.policy.is_compared;
    let terms = seen.policy.terms_at(seen.progress.weight);
    for lacking in terms.lacking((verdict.verdict, verdict.reason), &seen.stood) {
        let why = match lacking {
            Lacking::Proof(_) => continue,
            // In a journey others may be compared, and this one has nothing to show.
            Lacking::Requests(_) if !has_comparisons => continue,
            Lacking::Time(left) => {
                let (left, at_least) = (words(left.as_secs().max(1)), words(terms.at_least.as_secs()));
                let what = if is_baking { "of its bake" } else { "at this step" };
                format!("{left} more {what}, of {at_least}")
            }
            Lacking::Requests(left) => {
                let what = if seen.progress.weight == Weight::NONE { "comparisons" } else { "users of extracted" };
                format!("{left} more {what} at this step, of {}", terms.min_requests)
            }
        };
        waits.push((lacking.reason(), why));
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
