//! How a route climbs by evidence: its steps, what must be proven at each, and what holds it back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::calendar::{Freeze, Window};
use crate::judge::Gates;
use crate::judge::ladder::Terms;
use crate::name::{JourneyName, RouteName};
use crate::route::hook::Hook;
use crate::weight::{Weight, WeightError};

/// `rollout:`, filled up.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutPolicy {
    /// Rising; `shadow`, if it is there, comes first. Default: shadow (where the route is copied and compared), 1, 5, 10, 25, 50, 100 %.
    pub steps: Arc<[Step]>,
    /// Least time at a step, while the proxy runs. Default: 10 min.
    pub at_least: Duration,
    /// How long caches may be cold after a raise: what is seen then counts against extracted and not for it. Default: 2 min.
    pub warmup: Duration,
    /// Fewest users that extracted has answered at a step, warm-up left aside (at the shadow step: comparisons). Default: 300.
    pub min_requests: u64,
    /// What must be proven. Default: failures and slow answers, and where the route is compared mismatches and coverage.
    pub gates: Gates,
    /// Where a rollback goes. Default: to the shadow step, where there is one.
    pub roll_back_to: RollBackTo,
    /// Steps that a person must let it enter.
    pub approve: Arc<[Step]>,
    /// Whether that must be another person than the one who last moved the route or its file. Default: no.
    pub four_eyes: bool,
    /// When it may rise; `None`: always.
    pub window: Option<Arc<Window>>,
    /// Days on which it may not, in the window's zone, else in UTC.
    pub freeze: Arc<[Freeze]>,
    /// Routes that must have come so far first.
    pub needs: Arc<[Need]>,
    /// The journey whose rollout this is: all of its routes move at once. `None`: the route climbs by itself.
    pub journey: Option<JourneyName>,
    /// Whether answers of the route are compared, so that there is something to see at `shadow`.
    pub is_compared: bool,
    /// What users get where nothing is known of how far it has come. 0 %, but where the extracted service owns the data: then it is written.
    pub from: Weight,
    /// What comes after the last step; `None`: nothing does.
    pub bake: Option<Bake>,
    /// Whom it asks before it rises, and whom it tells what it did: those of `hooks`, then those of `notify`.
    pub hooks: Arc<[Hook]>,
}

/// What comes after the last step: legacy is kept warm, and a part of users there, so that what goes wrong late can still be seen and undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bake {
    /// For how long.
    pub time: Duration,
    /// The part of users that legacy answers meanwhile; the step at which it does is the last but one. 0 %: none.
    pub holdback: Weight,
}

impl Bake {
    /// The step at which legacy still answers its part; `None`: it answers none.
    pub fn step(&self) -> Option<Step> {
        let left = Weight::ALL.basis_points().checked_sub(self.holdback.basis_points())?;
        let weight = Weight::from_basis_points(left).filter(|weight| *weight < Weight::ALL)?;
        Some(Step::At(weight))
    }
}

impl RolloutPolicy {
    /// What the step at that weight takes, whatever is proven: what every step does, and the bake its own time.
    pub fn terms_at(&self, weight: Weight) -> Terms {
        let baking = self.bake.filter(|_| self.is_baking(weight));
        Terms { at_least: baking.map_or(self.at_least, |bake| bake.time), min_requests: self.min_requests }
    }

    /// Whether that is the step at which legacy is kept warm by a part of its users.
    pub fn is_baking(&self, weight: Weight) -> bool {
        self.bake.and_then(|bake| bake.step()).is_some_and(|step| step == Step::At(weight))
    }

    /// The highest step that does not go beyond `weight`; the first one where none does.
    pub fn step_at(&self, weight: Weight) -> usize {
        self.steps.iter().rposition(|step| step.weight() <= weight).unwrap_or(0)
    }

    /// What users get before anything is proven: nothing where the first step is the shadow.
    pub fn first_weight(&self) -> Weight {
        self.steps.first().map_or(Weight::NONE, |step| step.weight())
    }
}

/// A rung: `shadow`, or a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Copied and compared; legacy answers everybody.
    Shadow,
    /// Extracted answers this part.
    At(Weight),
}

impl Step {
    /// The part of users that extracted answers.
    pub const fn weight(self) -> Weight {
        match self {
            Step::Shadow => Weight::NONE,
            Step::At(weight) => weight,
        }
    }
}

/// Why a step is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Not a weight either.
    #[error("a step is `shadow` or a weight: {0}")]
    Weight(#[from] WeightError),
    /// Nobody would be asked.
    #[error("a step of `0%` asks nobody; `shadow` is the step at which requests are only copied")]
    None,
}

impl FromStr for Step {
    type Err = StepError;

    fn from_str(text: &str) -> Result<Step, StepError> {
        match text {
            "shadow" => Ok(Step::Shadow),
            text => match text.parse()? {
                Weight::NONE => Err(StepError::None),
                weight => Ok(Step::At(weight)),
            },
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Shadow => f.write_str("shadow"),
            Step::At(weight) => weight.fmt(f),
        }
    }
}

/// Where a rollback goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RollBackTo {
    /// 0 %, copied on. Where the route has no shadow: 0 %.
    #[default]
    Shadow,
    /// 0 %, and no copies either.
    Legacy,
    /// One step down.
    PreviousStep,
}

impl RollBackTo {
    /// As written.
    pub const fn as_str(self) -> &'static str {
        match self {
            RollBackTo::Shadow => "shadow",
            RollBackTo::Legacy => "legacy",
            RollBackTo::PreviousStep => "previous_step",
        }
    }
}

/// `users@100%`: that route has come so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The other route.
    pub route: RouteName,
    /// Its weight in force, at least.
    pub weight: Weight,
}

/// Why a need is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a need is a route and how far it must have come, as in `users@100%`")]
pub struct NeedError;

impl FromStr for Need {
    type Err = NeedError;

    fn from_str(text: &str) -> Result<Need, NeedError> {
        let (route, weight) = text.split_once('@').ok_or(NeedError)?;
        let (route, weight) = (route.parse().map_err(|_| NeedError)?, weight.parse().map_err(|_| NeedError)?);
        if weight == Weight::NONE { Err(NeedError) } else { Ok(Need { route, weight }) }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.route, self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_needs_read_themselves() {
        assert_eq!("shadow".parse(), Ok(Step::Shadow));
        assert_eq!("0.5%".parse(), Ok(Step::At(Weight::from_basis_points(50).unwrap())));
        assert_eq!("0%".parse::<Step>(), Err(StepError::None));
        assert_eq!("5".parse::<Step>(), Err(StepError::Weight(WeightError::NoPercentSign)));
        assert_eq!("users@100%".parse::<Need>().map(|need| need.to_string()), Ok("users@100%".to_owned()));
        for bad in ["users", "users@", "@5%", "users@0%", "Users@5%"] {
            assert_eq!(bad.parse::<Need>(), Err(NeedError), "{bad}");
        }
    }
}
