//! Up a step, or not: what a verdict comes to where a step has its least time and its least traffic.

use crate::judge::verdict::{Decision, Reason};
use crate::weight::Weight;

/// Seconds after each raise in which caches and pools are cold: they count against extracted and not for it.
pub const WARMUP_S: u64 = 120;
/// Most steps of a ladder.
pub const STEPS_MAX: usize = 50;

/// The steps of a rollout, in rising order, and what each has to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    steps: Vec<Weight>,
    at_least_s: u64,
    min_requests: u64,
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
    /// When it was entered, in seconds of any clock that does not jump.
    pub since_s: u64,
    /// Requests that extracted has answered in it, warm-up left aside; in shadow: copies.
    pub requests: u64,
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
        match (1..).zip(pairs).find(|(_, (one, next))| next <= one) {
            Some((at, _)) => Err(LadderError::NotRising(at)),
            None => Ok(Ladder { steps, at_least_s, min_requests }),
        }
    }

    /// Its weights.
    pub fn steps(&self) -> &[Weight] {
        &self.steps
    }

    /// The weight of a step; beyond the last one: that of the last.
    pub fn weight(&self, step: usize) -> Weight {
        self.steps.get(step).or(self.steps.last()).copied().unwrap_or_default()
    }

    /// Whether caches may still be cold: what is seen then goes into `warmup`.
    pub const fn is_warming(standing: &Standing, now_s: u64) -> bool {
        now_s.saturating_sub(standing.since_s) < WARMUP_S
    }

    /// What a verdict comes to at `now_s`. Back at once; up only when the step has stood its time, too. A clock that went back is a step just entered.
    pub fn next(&self, standing: &Standing, verdict: (Decision, Reason), now_s: u64) -> Move {
        let (decision, reason) = verdict;
        match decision {
            Decision::RollBack => Move::Back(reason),
            Decision::Hold => Move::Stay(reason),
            Decision::Promote if standing.step + 1 >= self.steps.len() => Move::Stay(reason),
            Decision::Promote if now_s.saturating_sub(standing.since_s) < self.at_least_s => Move::Stay(Reason::Soak),
            Decision::Promote if standing.requests < self.min_requests => Move::Stay(Reason::Soak),
            Decision::Promote => Move::Raise(standing.step + 1),
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
        let at = |step, requests| Standing { step, since_s: 1_000, requests };
        for (standing, verdict, now_s, expected) in [
            (at(0, 300), promote, 1_600, Move::Raise(1)),
            (at(0, 300), promote, 1_599, Move::Stay(Reason::Soak)),
            (at(0, 299), promote, 9_999, Move::Stay(Reason::Soak)),
            (at(0, 300), promote, 10, Move::Stay(Reason::Soak)),
            (at(0, 999), hold, 9_999, Move::Stay(Reason::Insufficient)),
            (at(1, 999), promote, 9_999, Move::Stay(Reason::Proven)),
            (at(1, 0), back, 1_000, Move::Back(Reason::Errors)),
        ] {
            assert_eq!(ladder.next(&standing, verdict, now_s), expected, "{standing:?} {verdict:?} at {now_s}");
        }
        assert!(Ladder::is_warming(&at(0, 0), 1_119) && !Ladder::is_warming(&at(0, 0), 1_120));
        assert_eq!((ladder.weight(0), ladder.weight(7)), (weights(&["5%"])[0], weights(&["10%"])[0]));
    }
}
