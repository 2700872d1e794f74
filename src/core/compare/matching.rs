//! Pairing the elements of two unordered arrays (Hopcroft and Karp, 1973): where being equal is not transitive, the first
//! partner that fits may be another one's only one.

use std::collections::VecDeque;

/// The right partner of each left element, if all can be paired at once. `fits`: of each left element, the right ones that it equals.
pub(crate) fn perfect(fits: &[Vec<u32>], rights: usize) -> Option<Vec<u32>> {
    if fits.len() != rights || fits.iter().any(Vec::is_empty) {
        return None;
    }
    let mut pairs = Pairs { of_left: vec![None; rights], of_right: vec![None; rights] };
    loop {
        let levels = pairs.levels(fits);
        let mut next = vec![0; rights];
        let mut found = 0;
        for left in 0..rights {
            if pairs.partner_of_left(left).is_none() && pairs.augment(fits, &levels, &mut next, left) {
                found += 1;
            }
        }
        let paired: Option<Vec<u32>> = pairs.of_left.iter().copied().collect();
        if paired.is_some() || found == 0 {
            return paired;
        }
    }
}

struct Pairs {
    of_left: Vec<Option<u32>>,
    of_right: Vec<Option<u32>>,
}

impl Pairs {
    fn partner_of_left(&self, left: usize) -> Option<u32> {
        self.of_left.get(left).copied().flatten()
    }

    fn partner_of_right(&self, right: u32) -> Option<usize> {
        self.of_right.get(right as usize).copied().flatten().map(|left| left as usize)
    }

    /// How far each left element is from one without a partner.
    fn levels(&self, fits: &[Vec<u32>]) -> Vec<u32> {
        let mut levels = vec![u32::MAX; fits.len()];
        let mut queue = VecDeque::new();
        for (left, level) in levels.iter_mut().enumerate() {
            if self.partner_of_left(left).is_none() {
                *level = 0;
                queue.push_back(left);
            }
        }
        while let Some(left) = queue.pop_front() {
            let level = levels.get(left).copied().unwrap_or_default();
            for right in fits.get(left).into_iter().flatten() {
                let Some(after) = self.partner_of_right(*right) else { continue };
                if let Some(unseen) = levels.get_mut(after).filter(|level| **level == u32::MAX) {
                    *unseen = level + 1;
                    queue.push_back(after);
                }
            }
        }
        levels
    }

    /// Looks for a way from `left` to a free right element, and turns it over. A stack of its own: ways may be long.
    fn augment(&mut self, fits: &[Vec<u32>], levels: &[u32], next: &mut [usize], left: usize) -> bool {
        let mut way = vec![left];
        while let Some(&here) = way.last() {
            let Some(at) = next.get_mut(here) else { return false };
            let Some(&right) = fits.get(here).and_then(|rights| rights.get(*at)) else {
                way.pop();
                continue;
            };
            *at += 1;
            match self.partner_of_right(right) {
                None => {
                    self.turn(&way, fits, next);
                    return true;
                }
                Some(after) => {
                    let level = |left: usize| levels.get(left).copied().unwrap_or(u32::MAX);
                    if level(here) != u32::MAX && level(after) == level(here) + 1 {
                        way.push(after);
                    }
                }
            }
        }
        false
    }

    /// Gives each left element of the way the right one that it stood at.
    fn turn(&mut self, way: &[usize], fits: &[Vec<u32>], next: &[usize]) {
        for &left in way {
            let at = next.get(left).copied().unwrap_or_default().saturating_sub(1);
            let Some(&right) = fits.get(left).and_then(|rights| rights.get(at)) else { continue };
            if let (Some(of_left), Some(of_right)) = (self.of_left.get_mut(left), self.of_right.get_mut(right as usize))
            {
                *of_left = Some(right);
                *of_right = u32::try_from(left).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn obvious(fits: &[Vec<u32>], taken: &mut Vec<u32>) -> bool {
        let Some((first, rest)) = fits.split_first() else { return true };
        first.iter().any(|right| {
            if taken.contains(right) {
                return false;
            }
            taken.push(*right);
            let is_done = obvious(rest, taken);
            taken.pop();
            is_done
        })
    }

    #[test]
    fn the_first_that_fits_is_given_up_for_another() {
        assert_eq!(perfect(&[vec![0, 1], vec![0]], 2), Some(vec![1, 0]));
        assert_eq!(perfect(&[vec![0], vec![0]], 2), None);
        assert_eq!(perfect(&[], 0), Some(Vec::new()));
        // Each fits its own place and the one before: one way through all of them.
        let count = 3_000u32;
        let fits: Vec<Vec<u32>> =
            (0..count).map(|left| if left == 0 { vec![0, count - 1] } else { vec![left - 1, left] }).collect();
        assert!(perfect(&fits, count as usize).is_some());
    }

    proptest! {
        #[test]
        fn it_finds_a_pairing_when_there_is_one(fits in (0usize..7).prop_flat_map(|count| {
            proptest::collection::vec(proptest::collection::btree_set(0..u32::try_from(count.max(1)).expect("small"), 0..4), count)
        })) {
            let fits: Vec<Vec<u32>> = fits.into_iter().map(|rights| rights.into_iter().collect()).collect();
            let found = perfect(&fits, fits.len());
            prop_assert_eq!(found.is_some(), obvious(&fits, &mut Vec::new()));
            if let Some(mut rights) = found {
                prop_assert!(fits.iter().zip(&rights).all(|(fits, right)| fits.contains(right)));
                rights.sort_unstable();
                rights.dedup();
                prop_assert_eq!(rights.len(), fits.len());
            }
        }
    }
}
