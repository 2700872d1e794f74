//! What is told, in JSON and in a line.

use serde_json::{Value, json};

use crate::name::RouteName;
use crate::route::When;
use crate::runtime::utc;

/// What has happened, or is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// May it enter a step?
    PreStep,
    /// May it enter its last step?
    ConfirmPromotion,
    /// It has entered a step.
    PostStep,
    /// Users were sent back.
    Rollback,
    /// It waits for somebody.
    Hold,
    /// Something else: another release, a person's `resume` or `unkill`.
    Change,
}

impl Kind {
    /// As in `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::PreStep => "rollout.pre_step",
            Kind::ConfirmPromotion => "rollout.confirm_promotion",
            Kind::PostStep => "rollout.post_step",
            Kind::Rollback => "rollout.rollback",
            Kind::Hold => "rollout.hold",
            Kind::Change => "rollout.change",
        }
    }

    /// The occasions on which somebody is told: his own word for it, or every event. A question is nobody else's.
    pub const fn occasions(self) -> &'static [When] {
        match self {
            Kind::PreStep => &[When::PreStep],
            Kind::ConfirmPromotion => &[When::ConfirmPromotion],
            Kind::PostStep => &[When::PostStep, When::Event],
            Kind::Rollback => &[When::Rollback, When::Event],
            Kind::Hold => &[When::Hold, When::Event],
            Kind::Change => &[When::Event],
        }
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is about.
    pub kind: Kind,
    /// The route.
    pub route: RouteName,
    /// The step it comes from: `shadow`, a weight, or `none` before the first.
    pub from: String,
    /// The step it goes to, or stays at.
    pub to: String,
    /// What the judge says: `promote`, `hold`, `roll_back`.
    pub verdict: &'static str,
    /// Why, as a code.
    pub reason: &'static str,
    /// Why, in words.
    pub why: String,
    /// Who did it: `rollout`, or a person's name.
    pub by: String,
    /// The release that extracted runs, where that is told.
    pub release: Option<String>,
    /// What it rests on: each gate, the time and the requests at the step.
    pub numbers: Value,
    /// Milliseconds since 1970.
    pub at_unix_ms: u64,
}

impl Message {
    /// As JSON; `id` is the same for every try.
    pub fn json(&self, id: &str) -> String {
        json!({
            "id": id,
            "type": self.kind.as_str(),
            "at": utc(self.at_unix_ms),
            "route": self.route.as_str(),
            "from": self.from,
            "to": self.to,
            "verdict": self.verdict,
            "reason": self.reason,
            "why": self.why,
            "by": self.by,
            "release": self.release,
            "numbers": self.numbers,
        })
        .to_string()
    }

    /// As Slack takes it, and many that are like it.
    pub fn slack(&self) -> String {
        let Message { from, to, .. } = self;
        let what = match self.kind {
            Kind::PreStep | Kind::ConfirmPromotion => format!("asks to go from {from} to {to}"),
            Kind::PostStep => format!("went up, {from} → {to}"),
            Kind::Rollback => format!("was sent back, {from} → {to}"),
            Kind::Hold => format!("waits at {to}"),
            Kind::Change => format!("at {to}"),
        };
        let by = if self.by.is_empty() { String::new() } else { format!(" (by {})", self.by) };
        let text = format!("{what}: {}{by}", self.why);
        json!({"text": format!("*{}* {}", self.route, escaped(&text))}).to_string()
    }
}

/// The three characters that Slack gives a meaning to.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
