//! How much more often extracted has an event than legacy: e-processes on who had each event.
//!
//! Given that a unit had an event, and was assigned to extracted with the probability `w`, the event is extracted's with the probability
//! `p(r) = w r / (w r + 1 - w)`, where `r` is the ratio of the two chances of an event: exactly, however frequent the event. So a bad
//! hour that hits both sides alike adds events, and no evidence. A likelihood ratio against the largest ratio that is tolerated is
//! a nonnegative supermartingale for every ratio up to that one, so (Ville) the chance that it *ever* reaches `1/alpha` is at most
//! `alpha`: it may be looked at as often as one likes.
//!
//! A grid of alternatives rather than a mixture over all of them, for the weight changes from step to step and only one direction is
//! harm; it costs the logarithm of the number of its points at most.

use crate::judge::numbers::{ln_mean_exp, real};
use crate::weight::Weight;

/// How many times as often extracted may have an event, where it is harmful.
pub const MORE: [f64; 9] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// How many times as rarely, where it is to be proven harmless.
pub const LESS: [f64; 6] = [1.25, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Events of units that were assigned with one probability, on each side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Events {
    /// The probability with which a unit was assigned to extracted.
    pub weight: f64,
    /// Extracted's.
    pub extracted: f64,
    /// Legacy's.
    pub legacy: f64,
}

impl Events {
    /// Counts of a step.
    pub fn new(weight: Weight, extracted: u64, legacy: u64) -> Events {
        Events { weight: weight.ratio(), extracted: real(extracted), legacy: real(legacy) }
    }

    /// The logarithm of the likelihood of these events at the ratio `r0 * g`, as a multiple of that at `r0`. Where all or none are assigned
    /// an event tells nothing.
    pub(in crate::judge) fn ln_likelihood_ratio(&self, r0: f64, g: f64) -> f64 {
        if self.weight <= 0.0 || self.weight >= 1.0 {
            return 0.0;
        }
        let all = self.weight * r0 + 1.0 - self.weight;
        self.extracted * g.ln() - (self.extracted + self.legacy) * ((g - 1.0) * self.weight * r0 / all).ln_1p()
    }
}

/// The logarithm of the evidence that extracted has more than `r0` times as many events.
pub fn ln_e_more(events: &[Events], r0: f64) -> f64 {
    ln_e(events, r0, MORE.iter().copied())
}

/// The logarithm of the evidence that extracted has less than `r0` times as many events.
pub fn ln_e_less(events: &[Events], r0: f64) -> f64 {
    ln_e(events, r0, LESS.iter().map(|divisor| 1.0 / divisor))
}

fn ln_e(events: &[Events], r0: f64, grid: impl Iterator<Item = f64> + Clone) -> f64 {
    ln_mean_exp(grid.map(|g| events.iter().map(|stage| stage.ln_likelihood_ratio(r0, g)).sum()))
}

/// The logarithm of the evidence that extracted differs from legacy more often than legacy from itself: a McNemar test that may be
/// looked at all the time.
///
/// Of triples (legacy, legacy again, extracted) only the discordant ones count: those in which extracted alone differed, and those in which
/// legacy's second answer alone did. Without a regression either is as likely.
pub fn ln_e_discordant(only_extracted: u64, only_legacy: u64) -> f64 {
    ln_e_more(&[Events { weight: 0.5, extracted: real(only_extracted), legacy: real(only_legacy) }], 1.0)
}

#[cfg(test)]
mod tests;
