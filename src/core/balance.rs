//! Which endpoint of an upstream gets the next try.

use crate::route::Balance;

/// What of an endpoint counts in the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whether it may be asked at all.
    pub is_up: bool,
    /// How much of its part it gets, of [`FULL_SHARE`]: less while it comes back slowly.
    pub share: u8,
    /// Requests under way there.
    pub in_flight: u32,
}

/// Which byte of the chance says whether an endpoint that comes back slowly is in luck.
const LUCK_BITS: [u32; 8] = [0, 8, 16, 24, 32, 40, 48, 56];

/// All of its part.
pub const FULL_SHARE: u8 = u8::MAX;

/// Chooses among `count` endpoints; `None` when none is up.
///
/// `turn` counts the choices, `chance` is any random number, and `tried` has failed this request already: it is chosen only when
/// nothing else is up. Looks at each endpoint a few times at most and keeps nothing.
///
/// ```
/// use strangler_core::balance::{Candidate, FULL_SHARE, choose};
/// use strangler_core::route::Balance;
/// let two = |at: usize| Candidate { is_up: at != 1, share: FULL_SHARE, in_flight: 0 };
/// assert_eq!(choose(Balance::RoundRobin, 2, two, 1, 0, None), Some(0));
/// ```
pub fn choose(
    balance: Balance,
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
    turn: usize,
    chance: u64,
    tried: Option<usize>,
) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let may = |at: usize, seen: Candidate| seen.is_up && Some(at) != tried;
    let high = usize::try_from(chance >> 32).unwrap_or_default();
    let low = usize::try_from(chance & 0xffff_ffff).unwrap_or_default();
    let first = match balance {
        Balance::RoundRobin => turn % count,
        Balance::LeastRequests => low % count,
    };
    // In turn from `first`. One that comes back slowly is passed over for most of the requests, unless there is nothing else.
    let lucky = |share: u8, step: usize| {
        share == FULL_SHARE
            || (chance.rotate_left(LUCK_BITS.get(step % 8).copied().unwrap_or_default()) & 0xff) < u64::from(share)
    };
    let next = |from: usize| {
        let in_order = || (0..count).map(move |step| (step, (from + step) % count));
        let well = in_order().find(|(step, at)| {
            let seen = candidate(*at);
            may(*at, seen) && lucky(seen.share, *step)
        });
        well.or_else(|| in_order().find(|(_, at)| may(*at, candidate(*at)))).map(|(_, at)| at)
    };
    let one = next(first).or_else(|| tried.filter(|at| *at < count && candidate(*at).is_up))?;
    if balance == Balance::RoundRobin || count < 2 {
        return Some(one);
    }
    // Two different ones at random; the less busy is taken (Mitzenmacher, 2001).
    let other = next((one + 1 + high % (count - 1)) % count).unwrap_or(one);
    Some(if candidate(other).in_flight < candidate(one).in_flight { other } else { one })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn up(in_flight: u32) -> Candidate {
        Candidate { is_up: true, share: FULL_SHARE, in_flight }
    }

    #[test]
    fn each_in_turn() {
        let turns: Vec<_> = (0..6).map(|turn| choose(Balance::RoundRobin, 3, |_| up(0), turn, 9, None)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn the_less_busy_of_two_is_taken() {
        let loads = [5, 1];
        for chance in [0, 1, 1 << 32, (7 << 32) + 3, u64::MAX] {
            let chosen = choose(Balance::LeastRequests, 2, |at| up(loads[at]), 0, chance, None);
            assert_eq!(chosen, Some(1), "{chance}");
        }
    }

    #[test]
    fn what_failed_already_is_asked_again_only_when_there_is_nothing_else() {
        for balance in [Balance::RoundRobin, Balance::LeastRequests] {
            assert_eq!(choose(balance, 2, |_| up(0), 0, 0, Some(0)), Some(1));
            let lonely = |at: usize| Candidate { is_up: at == 0, ..up(0) };
            assert_eq!(choose(balance, 2, lonely, 0, 0, Some(0)), Some(0));
            assert_eq!(choose(balance, 1, |_| up(0), 0, 0, Some(0)), Some(0));
        }
    }

    #[test]
    fn one_that_comes_back_gets_its_share_and_no_more() {
        let slow = |at: usize| Candidate { share: if at == 0 { 64 } else { FULL_SHARE }, ..up(0) };
        let mut chance = 1u64;
        let got = (0..4_000)
            .filter(|turn| {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                choose(Balance::RoundRobin, 2, slow, *turn, chance.swap_bytes(), None) == Some(0)
            })
            .count();
        // A quarter of its half.
        assert!((300..700).contains(&got), "{got}");
    }

    proptest! {
        #[test]
        fn the_chosen_one_is_up_and_one_is_chosen_if_any_is(
            states in proptest::collection::vec((any::<bool>(), any::<u8>(), 0u32..9), 0..9),
            turn: usize, chance: u64, tried in proptest::option::of(0usize..9), is_least: bool,
        ) {
            let balance = if is_least { Balance::LeastRequests } else { Balance::RoundRobin };
            let candidate = |at: usize| {
                let (is_up, share, in_flight) = states[at];
                Candidate { is_up, share, in_flight }
            };
            let chosen = choose(balance, states.len(), candidate, turn, chance, tried);
            prop_assert_eq!(chosen.is_some(), states.iter().any(|state| state.0));
            if let Some(at) = chosen {
                prop_assert!(states[at].0);
                let others = states.iter().enumerate().any(|(other, state)| state.0 && Some(other) != tried);
                prop_assert!(Some(at) != tried || !others);
            }
        }
    }
}
