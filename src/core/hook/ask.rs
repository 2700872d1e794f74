//! Whether a raise has the leave of its hooks: asked once for each raise, and again after a while where it was refused.

use std::time::Duration;

use crate::route::{Hook, RolloutPolicy, Step, When};
use crate::runtime::{Note, Progress, Release};
use crate::weight::Weight;

/// How long a refusal stands before is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How long leave is good for: what was true once may not be later.
const LEAVE_HOLDS: Duration = Duration::from_mins(5);

/// May it go from here to there?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The step it would enter.
    pub to: Step,
    /// Where it stands, and since when, once it has begun: another time there is another question.
    weight: Weight,
    entered: Option<Note>,
    release: Option<Release>,
}

impl Question {
    /// Of a raise.
    pub fn new(from: &Progress, to: Step) -> Question {
        let entered = from.is_begun.then(|| from.entered.clone());
        Question { to, weight: from.weight, entered, release: from.release.clone() }
    }

    /// On which occasions a hook is asked.
    pub fn occasions(&self, policy: &RolloutPolicy) -> &'static [When] {
        let is_last = policy.steps.last() == Some(&self.to);
        if is_last { &[When::PreStep, When::ConfirmPromotion] } else { &[When::PreStep] }
    }

    /// Those that have to give leave, each with the occasion that it is told.
    pub fn asked<'a>(&self, policy: &'a RolloutPolicy) -> Vec<(usize, &'a Hook, When)> {
        let occasions = self.occasions(policy);
        let hooks = policy.hooks.iter().enumerate();
        // The promotion is the more telling of the two; asked once is enough.
        let occasion = |hook: &Hook| occasions.iter().rev().copied().find(|when| hook.is_for(*when));
        hooks.filter_map(|(index, hook)| Some((index, hook, occasion(hook)?))).collect()
    }
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may rise.
    Given,
    /// Somebody has not answered yet: whom.
    Asked(String),
    /// Somebody has not let it pass: who, and how that was told.
    Refused(String),
}

/// A question under way.
#[derive(Clone, Debug)]
pub struct Asking {
    question: Question,
    /// Tells answers to this asking from those to an earlier one.
    pub number: u64,
    /// The host of each that was asked, and what it said.
    answers: Vec<(String, Option<Result<(), String>>)>,
    /// When the last answer came.
    settled: Option<Duration>,
}

impl Asking {
    /// Begun; `whom`: what each is called.
    pub fn new(question: Question, number: u64, whom: Vec<String>, now: Duration) -> Asking {
        let settled = whom.is_empty().then_some(now);
        Asking { question, number, answers: whom.into_iter().map(|whom| (whom, None)).collect(), settled }
    }

    /// One has answered.
    pub fn answered(&mut self, index: usize, answer: Result<(), String>, now: Duration) {
        if let Some((_, said)) = self.answers.get_mut(index) {
            *said = Some(answer);
        }
        if self.answers.iter().all(|(_, said)| said.is_some()) {
            self.settled = Some(now);
        }
    }

    /// How it stands for this question; `None`: it has to be asked anew.
    pub fn leave(&self, question: &Question, now: Duration) -> Option<Leave> {
        if self.question != *question {
            return None;
        }
        let Some(settled) = self.settled else {
            let open = self.answers.iter().find(|(_, said)| said.is_none()).map(|(whom, _)| whom.clone());
            return Some(Leave::Asked(open.unwrap_or_default()));
        };
        let refused = self.answers.iter().find_map(|(whom, said)| match said {
            Some(Err(why)) => Some(format!("{whom}: {why}")),
            Some(Ok(())) | None => None,
        });
        let age = now.saturating_sub(settled);
        match refused {
            Some(why) => (age < ASK_AGAIN).then_some(Leave::Refused(why)),
            None => (age < LEAVE_HOLDS).then_some(Leave::Given),
        }
    }

    /// Whether somebody has still to answer.
    pub const fn is_open(&self) -> bool {
        self.settled.is_none()
    }

    /// What it says while it is asked once more: the last refusal stands until then.
    pub fn last_refusal(&self, question: &Question) -> Option<String> {
        if self.question != *question {
            return None;
        }
        self.answers.iter().find_map(|(whom, said)| Some(format!("{whom}: {}", said.as_ref()?.as_ref().err()?)))
    }
}
