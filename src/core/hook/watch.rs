//! What of a rollout's looks is worth telling: what has changed since the last one, whoever changed it, and what it waits for that time
//! alone does not bring.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hook::message::{Kind, Message};
use crate::judge::{Reason, Verdict};
use crate::name::RouteName;
use crate::rollout::{Action, Look};
use crate::runtime::{Progress, Release};
use crate::weight::Weight;

/// How long a reason for a hold that was told is not told again: one that comes and goes would be a message each second.
const QUIET: Duration = Duration::from_mins(10);

/// What a look has shown.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// The route.
    pub route: &'a RouteName,
    /// Where its rollout stands, after the look.
    pub progress: &'a Progress,
    /// What the look came to.
    pub found: &'a Look,
    /// What the judge says.
    pub verdict: Option<&'a Verdict>,
    /// Whether it is killed.
    pub is_killed: bool,
    /// Time at the step.
    pub at_step: Duration,
    /// Users of extracted at the step; comparisons in shadow.
    pub requests: u64,
    /// Milliseconds since 1970.
    pub now_unix_ms: u64,
}

/// What was seen of a route's rollout, and told.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    stood: Option<Stood>,
    /// The reason for a hold that stands told.
    told: Option<Reason>,
    told_at: BTreeMap<Reason, Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stood {
    weight: Weight,
    is_begun: bool,
    is_killed: bool,
    is_latched: bool,
    is_held: bool,
    release: Option<Release>,
}

impl Stood {
    fn of(progress: &Progress, is_killed: bool) -> Stood {
        Stood {
            weight: progress.weight,
            is_begun: progress.is_begun,
            is_killed,
            is_latched: progress.latched.is_some(),
            is_held: progress.held.is_some(),
            release: progress.release.clone(),
        }
    }
}

impl Watch {
    /// Takes how it stands before the first look does anything: what was before the start is no news, what that look does is.
    pub fn begin(&mut self, progress: &Progress, is_killed: bool) {
        self.stood.get_or_insert_with(|| Stood::of(progress, is_killed));
    }

    /// Takes a look; answers what is to be told. `at`: of a clock that does not jump.
    pub fn follow(&mut self, now: &Now<'_>, at: Duration) -> Vec<Message> {
        let stands = Stood::of(now.progress, now.is_killed);
        let mut messages = Vec::new();
        if let Some(stood) = self.stood.replace(stands.clone()) {
            messages.extend(moved(now, &stood, &stands));
        }
        messages.extend(self.held(now, at));
        messages
    }

    fn held(&mut self, now: &Now<'_>, at: Duration) -> Option<Message> {
        let reason = now.found.reason;
        let is_staying = matches!(now.found.action, Action::Stay | Action::Page);
        if !is_staying || !is_for_somebody(reason) {
            self.told = None;
            return None;
        }
        let is_quiet = self.told_at.get(&reason).is_some_and(|told| at.saturating_sub(*told) < QUIET);
        if self.told == Some(reason) || is_quiet {
            return None;
        }
        self.told = Some(reason);
        self.told_at.insert(reason, at);
        let stands = step_name(now.progress);
        Some(message(now, Kind::Hold, stands.clone(), stands))
    }
}

/// What has changed.
fn moved(now: &Now<'_>, stood: &Stood, stands: &Stood) -> Option<Message> {
    let name = |stood: &Stood| name_of(stood.weight, stood.is_begun);
    let (from, to) = (name(stood), name(stands));
    let note = &now.progress.entered;
    let mut told = message(now, Kind::Change, from, to);
    let is_lower = stands.weight < stood.weight || (stood.is_begun && !stands.is_begun);
    let is_higher = stands.weight > stood.weight || (!stood.is_begun && stands.is_begun);
    (told.kind, told.reason, told.why) = if is_lower {
        let reason = if matches!(now.found.action, Action::Back(_)) { now.found.reason.as_str() } else { "asked" };
        (Kind::Rollback, reason, note.reason().to_owned())
    } else if stands.is_killed && !stood.is_killed {
        ("none".clone_into(&mut told.to));
        (Kind::Rollback, Reason::Killed.as_str(), "it is killed".to_owned())
    } else if is_higher {
        (Kind::PostStep, Reason::Proven.as_str(), note.reason().to_owned())
    } else if stood.release != stands.release {
        (Kind::Change, "release", note.reason().to_owned())
    } else if stood.is_killed && !stands.is_killed {
        (Kind::Change, "unkilled", "the kill is lifted".to_owned())
    } else if (stood.is_latched && !stands.is_latched) || (stood.is_held && !stands.is_held) {
        (Kind::Change, "resumed", "it may rise again".to_owned())
    } else {
        return None;
    };
    Some(told)
}

/// Whether somebody should know: what a person decides, and what is wrong. Not what time, traffic or the calendar bring.
fn is_for_somebody(reason: Reason) -> bool {
    match reason {
        Reason::Srm
        | Reason::Contaminated
        | Reason::LateRegression
        | Reason::ExternalVeto
        | Reason::ExternalNoData
        | Reason::WithinMargin
        | Reason::Starved
        | Reason::AwaitingApproval
        | Reason::Held
        | Reason::Hook
        | Reason::StateLost
        | Reason::DataOwnedByExtracted => true,
        Reason::Proven
        | Reason::NothingDemanded
        | Reason::Errors
        | Reason::Latency
        | Reason::Mismatch
        | Reason::Slo
        | Reason::Coverage
        | Reason::Insufficient
        | Reason::HardBreaker
        | Reason::Window
        | Reason::Frozen
        | Reason::Needs
        | Reason::Soak
        | Reason::Latched
        | Reason::Killed => false,
    }
}

impl Message {
    /// A question before a raise.
    pub fn asking(now: &Now<'_>, is_promotion: bool, to: String) -> Message {
        let kind = if is_promotion { Kind::ConfirmPromotion } else { Kind::PreStep };
        message(now, kind, step_name(now.progress), to)
    }
}

fn message(now: &Now<'_>, kind: Kind, from: String, to: String) -> Message {
    let entered = &now.progress.entered;
    let is_move = matches!(kind, Kind::Change | Kind::PostStep | Kind::Rollback);
    Message {
        kind,
        route: now.route.clone(),
        from,
        to,
        verdict: now.verdict.map_or("hold", |verdict| verdict.verdict.as_str()),
        reason: now.found.reason.as_str(),
        why: now.found.why.clone(),
        by: if is_move { entered.by().to_owned() } else { "rollout".to_owned() },
        release: now.progress.release.as_ref().map(ToString::to_string),
        numbers: numbers(now),
        at_unix_ms: now.now_unix_ms,
    }
}

fn numbers(now: &Now<'_>) -> Value {
    let gates: serde_json::Map<String, Value> = now
        .verdict
        .iter()
        .flat_map(|verdict| &verdict.gates)
        .map(|(name, report)| (name.as_str().to_owned(), serde_json::to_value(report).unwrap_or_default()))
        .collect();
    json!({"at_step_s": now.at_step.as_secs(), "requests": now.requests, "gates": gates})
}

fn step_name(progress: &Progress) -> String {
    name_of(progress.weight, progress.is_begun)
}

fn name_of(weight: Weight, is_begun: bool) -> String {
    match (weight, is_begun) {
        (Weight::NONE, false) => "none".to_owned(),
        (Weight::NONE, true) => "shadow".to_owned(),
        (weight, _) => weight.to_string(),
    }
}
