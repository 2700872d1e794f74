//! What routes have done: the last five minutes finely, the last day by the minute. Whole numbers, bounded, fed with running counts.
//!
//! Memory: a route costs 13 KB at once and 57 KB more after a day, so 500 of them 35 MB. Routes beyond [`ROUTES_MAX`] have no history of their
//! own; all together are counted whatever their number.

use std::collections::{BTreeMap, VecDeque};

use crate::weight::Weight;

/// Most routes with a history.
pub const ROUTES_MAX: usize = 500;
/// Minutes that are kept.
pub const MINUTES_MAX: usize = 24 * 60;
/// Milliseconds from one reading to the next.
pub const EVERY_MS: u64 = 10_000;
/// Readings that are kept: five minutes of them.
pub const READINGS_MAX: usize = 31;
/// Buckets of a duration's counts, the one without an end included.
pub const BUCKETS: usize = 16;

/// Counts of durations by bucket, since the process began.
pub type Times = [u64; BUCKETS];

/// Running counts of a route, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers by legacy, by extracted.
    pub answered: [u64; 2],
    /// Failures of legacy, of extracted, those that legacy answered for included.
    pub failed: [u64; 2],
    /// Requests that legacy answered because extracted failed.
    pub fallbacks: u64,
    /// Copies that were answered.
    pub copies: u64,
    /// Pairs compared.
    pub compared: u64,
    /// Pairs that differed.
    pub mismatched: u64,
    /// How long legacy and extracted took to the head of their answers.
    pub times: [Times; 2],
}

impl Counts {
    /// Both together.
    pub fn add(&mut self, other: &Counts) {
        for side in [0, 1] {
            add(&mut self.answered, &other.answered, side);
            add(&mut self.failed, &other.failed, side);
            if let (Some(own), Some(more)) = (self.times.get_mut(side), other.times.get(side)) {
                own.iter_mut().zip(more).for_each(|(own, more)| *own = own.saturating_add(*more));
            }
        }
        self.fallbacks = self.fallbacks.saturating_add(other.fallbacks);
        self.copies = self.copies.saturating_add(other.copies);
        self.compared = self.compared.saturating_add(other.compared);
        self.mismatched = self.mismatched.saturating_add(other.mismatched);
    }

    /// What came since `before`. A counter that began anew counts from nothing.
    pub fn since(&self, before: &Counts) -> Counts {
        let less = |now: u64, then: u64| if now < then { now } else { now - then };
        let both = |now: [u64; 2], then: [u64; 2]| [less(now[0], then[0]), less(now[1], then[1])];
        let times = |side: usize| -> Times {
            let mut out = [0; BUCKETS];
            if let (Some(now), Some(then)) = (self.times.get(side), before.times.get(side)) {
                out.iter_mut().zip(now.iter().zip(then)).for_each(|(out, (now, then))| *out = less(*now, *then));
            }
            out
        };
        Counts {
            answered: both(self.answered, before.answered),
            failed: both(self.failed, before.failed),
            fallbacks: less(self.fallbacks, before.fallbacks),
            copies: less(self.copies, before.copies),
            compared: less(self.compared, before.compared),
            mismatched: less(self.mismatched, before.mismatched),
            times: [times(0), times(1)],
        }
    }

    /// Answers of both sides.
    pub fn all(&self) -> u64 {
        self.answered[0].saturating_add(self.answered[1])
    }
}

fn add(own: &mut [u64; 2], more: &[u64; 2], side: usize) {
    if let (Some(own), Some(more)) = (own.get_mut(side), more.get(side)) {
        *own = own.saturating_add(*more);
    }
}

/// One minute of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Minutes since 1970.
    pub at: u32,
    /// Answers by legacy, by extracted.
    pub answered: [u32; 2],
    /// Failures of legacy, of extracted.
    pub failed: [u32; 2],
    /// Pairs compared.
    pub compared: u32,
    /// Pairs that differed.
    pub mismatched: u32,
    /// The 99th percentile of legacy and of extracted in microseconds; 0: not asked.
    pub p99_us: [u32; 2],
    /// The weight in force at its end.
    pub weight: Weight,
}

/// What a route does now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Now {
    /// Answers a second of legacy, of extracted, over the last 10 to 20 s.
    pub per_second: [f64; 2],
    /// What came within the last five minutes.
    pub recent: Counts,
    /// The 99th percentiles of these.
    pub p99_us: [Option<u32>; 2],
}

/// Of one route, or of all.
#[derive(Clone, Debug, Default)]
pub struct Series {
    recent: VecDeque<(u64, Counts)>,
    /// The reading at the end of the last whole minute.
    last_minute: Option<(u64, Counts)>,
    minutes: VecDeque<Minute>,
}

impl Series {
    fn note(&mut self, at_ms: u64, counts: &Counts, weight: Weight, bounds_us: &[u32]) {
        if self.recent.len() >= READINGS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((at_ms, *counts));
        let Some((since, before)) = &self.last_minute else {
            self.last_minute = Some((at_ms, *counts));
            return;
        };
        if at_ms / 60_000 <= since / 60_000 {
            return;
        }
        let came = counts.since(before);
        let short = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        if self.minutes.len() >= MINUTES_MAX {
            self.minutes.pop_front();
        }
        self.minutes.push_back(Minute {
            // What came by the first reading of a minute is the minute before's.
            at: short((at_ms / 60_000).saturating_sub(1)),
            answered: came.answered.map(short),
            failed: came.failed.map(short),
            compared: short(came.compared),
            mismatched: short(came.mismatched),
            p99_us: came.times.map(|times| quantile_us(&times, bounds_us, 0.99).unwrap_or(0)),
            weight,
        });
        self.last_minute = Some((at_ms, *counts));
    }

    /// Whole minutes, oldest first. A minute in which nothing was read is not there.
    pub fn minutes(&self) -> impl DoubleEndedIterator<Item = &Minute> + ExactSizeIterator {
        self.minutes.iter()
    }

    /// As it is now. `counts`: the newest there are, read at `at_ms`.
    pub fn now(&self, at_ms: u64, counts: &Counts, bounds_us: &[u32]) -> Now {
        let Some((_, oldest)) = self.recent.front() else { return Now::default() };
        // The last but one: the newest may be a moment old, and a rate over a moment is no rate.
        let base = self.recent.iter().rev().find(|(at, _)| at_ms.saturating_sub(*at) >= EVERY_MS);
        let base = base.or_else(|| self.recent.front());
        let per_second = base.map_or([0.0; 2], |(at, then)| {
            let seconds = real(at_ms.saturating_sub(*at).max(1_000)) / 1_000.0;
            counts.since(then).answered.map(|came| real(came) / seconds)
        });
        let recent = counts.since(oldest);
        let p99_us = recent.times.map(|times| quantile_us(&times, bounds_us, 0.99));
        Now { per_second, recent, p99_us }
    }
}

/// Of all routes.
#[derive(Clone, Debug)]
pub struct History {
    bounds_us: Vec<u32>,
    routes: BTreeMap<String, Series>,
    total: Series,
}

/// What was read of one route.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Its counts.
    pub counts: Counts,
    /// The weight in force.
    pub weight: Weight,
}

impl History {
    /// With the upper ends of the buckets, in microseconds; what is above the last is in a bucket of its own.
    pub fn new(bounds_us: Vec<u32>) -> History {
        History { bounds_us, routes: BTreeMap::new(), total: Series::default() }
    }

    /// Takes what was read at `at_ms`, Unix milliseconds. Routes that were not read are forgotten.
    pub fn note(&mut self, at_ms: u64, total: &Counts, routes: &BTreeMap<String, Reading>) {
        let weight = share_of(total).unwrap_or_default();
        self.total.note(at_ms, total, weight, &self.bounds_us);
        self.routes.retain(|name, _| routes.contains_key(name));
        for (name, reading) in routes {
            if !self.routes.contains_key(name) && self.routes.len() >= ROUTES_MAX {
                continue;
            }
            let series = self.routes.entry(name.clone()).or_default();
            series.note(at_ms, &reading.counts, reading.weight, &self.bounds_us);
        }
    }

    /// Of one route.
    pub fn route(&self, name: &str) -> Option<&Series> {
        self.routes.get(name)
    }

    /// Of all, what no route covers included.
    pub fn total(&self) -> &Series {
        &self.total
    }

    /// Upper ends of the buckets.
    pub fn bounds_us(&self) -> &[u32] {
        &self.bounds_us
    }
}

/// The part of all answers that extracted gave.
fn share_of(counts: &Counts) -> Option<Weight> {
    let points = u128::from(counts.answered[1]) * 10_000 / u128::from(counts.all()).max(1);
    Weight::from_basis_points(u16::try_from(points).ok()?)
}

/// A quantile from counts by bucket, in microseconds: straight between a bucket's ends. `None`: nothing was counted. Above the last end it is
/// that end: more is not known.
pub fn quantile_us(counts: &[u64], bounds_us: &[u32], q: f64) -> Option<u32> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let (target, mut below) = (q * real(all), 0.0);
    for (place, count) in counts.iter().enumerate() {
        let Some(high) = bounds_us.get(place) else { break };
        let low = place.checked_sub(1).and_then(|before| bounds_us.get(before)).copied().unwrap_or(0);
        let count = real(*count);
        if count > 0.0 && below + count >= target {
            let inside = ((target - below) / count).clamp(0.0, 1.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between two bounds of that type"
            )]
            return Some((f64::from(low) + inside * f64::from(high - low)) as u32);
        }
        below += count;
    }
    bounds_us.last().copied()
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
