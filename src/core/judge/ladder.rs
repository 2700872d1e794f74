//! Up a step, or not: what a verdict comes to where a step has its least time and its least traffic.

use std::time::Duration;

use crate::judge::verdict::{Decision, Reason};
use crate::weight::Weight;

/// What a step takes, whatever is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Least time at it.
    pub at_least: Duration,
    /// Fewest units that extracted has answered at it; at `shadow`: comparisons.
    pub min_requests: u64,
}

/// What a step has stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stood {
    /// Time at it, by a clock that does not jump.
    pub time: Duration,
    /// Units that extracted has answered at it, warm-up left aside; at `shadow`: comparisons.
    pub requests: u64,
}

/// What a step lacks before the next one may be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// Proof; the verdict's reason.
    Proof(Reason),
    /// So much time.
    Time(Duration),
    /// So many requests.
    Requests(u64),
}

impl Lacking {
    /// As it is called.
    pub const fn reason(self) -> Reason {
        match self {
            Lacking::Proof(reason) => reason,
            Lacking::Time(_) | Lacking::Requests(_) => Reason::Soak,
        }
    }
}

impl Terms {
    /// All that is lacking before the next step may be entered, the most important first; nothing: it may. The one place where this is
    /// decided, for rollouts and for those that are simulated.
    pub fn lacking(&self, verdict: (Decision, Reason), stood: &Stood) -> Vec<Lacking> {
        let (decision, reason) = verdict;
        let proof = (decision != Decision::Promote).then_some(Lacking::Proof(reason));
        let time = self.at_least.saturating_sub(stood.time);
        let requests = self.min_requests.saturating_sub(stood.requests);
        let time = (!time.is_zero()).then_some(Lacking::Time(time));
        let requests = (requests > 0).then_some(Lacking::Requests(requests));
        [proof, time, requests].into_iter().flatten().collect()
    }
}

/// Whether caches may still be cold, so that what is seen counts against extracted and not for it. Where nobody is split there is nothing
/// to warm.
pub fn is_warming(weight: Weight, at_step: Duration, warmup: Duration) -> bool {
    weight.is_split() && at_step < warmup
}

/// Seconds after each raise in which caches and pools are cold: they count against extracted and not for it.
pub const WARMUP_S: u64 = 120;
/// Most steps of a ladder.
pub const STEPS_MAX: usize = 50;

/// The steps of a rollout, in rising order, and what each has to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    steps: Vec<Weight>,
    terms: Terms,
}

/// Why steps make no ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// None at all.
    #[error("a ladder has at least one step")]
    Empty,
    /// Too many.
    #[error("a ladder has at most {STEPS_MAX} steps")]
    TooLong,
    /// One is no higher than the one before.
    #[error("each step is higher than the one before; step {0} is not")]
    NotRising(usize),
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which step, from 0.
    pub step: usize,
    /// What it has stood there.
    pub stood: Stood,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Stay, and why.
    Stay(Reason),
    /// To this step, which is the next one.
    Raise(usize),
    /// Back, to where the rollout says.
    Back(Reason),
}

impl Ladder {
    /// Least time at a step where nobody says otherwise: 10 minutes, in seconds.
    pub const AT_LEAST_S: u64 = 600;
    /// Least requests of extracted in a step where nobody says otherwise.
    pub const MIN_REQUESTS: u64 = 300;

    /// Steps, 0 % being `shadow`, with the least time and the least requests of each.
    pub fn new(steps: Vec<Weight>, at_least_s: u64, min_requests: u64) -> Result<Ladder, LadderError> {
        match steps.len() {
            0 => return Err(LadderError::Empty),
            count if count > STEPS_MAX => return Err(LadderError::TooLong),
            _ => {}
        }
        let pairs = steps.iter().zip(steps.iter().skip(1));
        if let Some((at, _)) = (1..).zip(pairs).find(|(_, (one, next))| next <= one) {
            return Err(LadderError::NotRising(at));
        }
        let terms = Terms { at_least: Duration::from_secs(at_least_s), min_requests };
        Ok(Ladder { steps, terms })
    }

    /// With one more step on top, all of it: passing the last one is then a raise like any other.
    pub fn up_to_all(&self) -> Ladder {
        let mut steps = self.steps.clone();
        if steps.last() != Some(&Weight::ALL) {
            steps.push(Weight::ALL);
        }
        Ladder { steps, ..*self }
    }

    /// Its weights.
    pub fn steps(&self) -> &[Weight] {
        &self.steps
    }

    /// The weight of a step; beyond the last one: that of the last.
    pub fn weight(&self, step: usize) -> Weight {
        self.steps.get(step).or(self.steps.last()).copied().unwrap_or_default()
    }

    /// What a verdict comes to. Back at once; up only when the step has stood its time, too.
    pub fn next(&self, standing: &Standing, verdict: (Decision, Reason)) -> Move {
        let (decision, reason) = verdict;
        let lacking = self.terms.lacking(verdict, &standing.stood);
        match (decision, lacking.first()) {
            (Decision::RollBack, _) => Move::Back(reason),
            (Decision::Promote, _) if standing.step + 1 >= self.steps.len() => Move::Stay(reason),
            (_, Some(lacking)) => Move::Stay(lacking.reason()),
            (Decision::Hold | Decision::Promote, None) => Move::Raise(standing.step + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(texts: &[&str]) -> Vec<Weight> {
        texts.iter().map(|text| text.parse().expect("a weight")).collect()
    }

    #[test]
    fn steps_rise() {
        let of = |texts: &[&str]| Ladder::new(weights(texts), 600, 300).map(|_| ());
        assert_eq!(of(&["0%", "1%", "100%"]), Ok(()));
        assert_eq!(of(&[]), Err(LadderError::Empty));
        assert_eq!(of(&["1%", "5%", "5%"]), Err(LadderError::NotRising(2)));
        assert_eq!(Ladder::new(vec![Weight::NONE; 51], 0, 0), Err(LadderError::TooLong));
    }

    #[test]
    fn a_raise_takes_proof_time_and_requests_and_a_roll_back_takes_none() {
        let ladder = Ladder::new(weights(&["5%", "10%"]), 600, 300).expect("a ladder");
        let (promote, hold) = ((Decision::Promote, Reason::Proven), (Decision::Hold, Reason::Insufficient));
        let back = (Decision::RollBack, Reason::Errors);
        let at =
            |step, seconds, requests| Standing { step, stood: Stood { time: Duration::from_secs(seconds), requests } };
        for (standing, verdict, expected) in [
            (at(0, 600, 300), promote, Move::Raise(1)),
            (at(0, 599, 300), promote, Move::Stay(Reason::Soak)),
            (at(0, 9_999, 299), promote, Move::Stay(Reason::Soak)),
            (at(0, 9_999, 999), hold, Move::Stay(Reason::Insufficient)),
            (at(1, 9_999, 999), promote, Move::Stay(Reason::Proven)),
            (at(1, 0, 0), back, Move::Back(Reason::Errors)),
        ] {
            assert_eq!(ladder.next(&standing, verdict), expected, "{standing:?} {verdict:?}");
        }
        let weight = |text: &str| text.parse().expect("a weight");
        let is_warming =
            |at: &str, seconds| is_warming(weight(at), Duration::from_secs(seconds), Duration::from_mins(2));
        assert!(is_warming("5%", 119) && !is_warming("5%", 120) && !is_warming("100%", 0) && !is_warming("0%", 0));
        assert_eq!((ladder.weight(0), ladder.weight(7)), (weights(&["5%"])[0], weights(&["10%"])[0]));
    }

    #[test]
    fn all_that_is_lacking_is_said_and_proof_comes_first() {
        let terms = Terms { at_least: Duration::from_secs(60), min_requests: 10 };
        let stood = Stood { time: Duration::from_secs(20), requests: 3 };
        assert_eq!(
            terms.lacking((Decision::Hold, Reason::Coverage), &stood),
            [Lacking::Proof(Reason::Coverage), Lacking::Time(Duration::from_secs(40)), Lacking::Requests(7)]
        );
        let stood = Stood { time: Duration::from_secs(60), requests: 10 };
        assert_eq!(terms.lacking((Decision::Promote, Reason::Proven), &stood), []);
    }
}
