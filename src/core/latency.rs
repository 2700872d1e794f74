//! How long the two sides took for the same requests. Apart from correctness: nothing here ever changes what a comparison says.
//!
//! Measured is, on both sides alike, from the request's dispatch (its body is at hand by then) to the head of the answer. The wait for a
//! connection is in it, and so are further tries. It is not to the last byte: the user's side is read as fast as the user reads.
//! The copy has connections of its own, and fewer of them, so more of its requests make a new one: on a quiet route that is a
//! round trip on the copied side, which is extracted below a weight of 50 % and legacy above it.
//!
//! Only pairs count of which both sides were asked for the same request and have answered, or have run into their timeout: that counts
//! with the time that was waited, as if the answer had come then, and is counted apart. A refusal or a server error is fast, and no speed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::compare::{ComparisonResult, NotComparable};
use crate::name::RouteName;
use crate::observation::{Failure, Observation, Outcome};
use crate::shadow::Manner;
use crate::sketch::Sketch;

/// Minutes that the rolling window has.
const MINUTES: u64 = 60;
/// Most routes that are kept book of; pairs of more are left out, and counted.
pub const ROUTES_MAX: usize = 10_000;
/// Most bins of all routes together: 32 MB. With more, pairs are left out, and counted.
pub const BINS_MAX: usize = 2_000_000;

/// How long one side took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    us: u64,
    is_timeout: bool,
}

impl Took {
    /// Of what was seen of a side; `None`: it says nothing of its speed.
    pub fn of(seen: &Observation) -> Option<Took> {
        let us = u64::try_from(seen.first_byte.as_micros()).unwrap_or(u64::MAX);
        match &seen.outcome {
            Outcome::Answered(answer) if answer.status.is_server_error() => None,
            Outcome::Answered(_) => Some(Took { us, is_timeout: false }),
            // Where the head had come, only the rest of the answer did not: that is not what is measured.
            Outcome::Failed(Failure::Timeout | Failure::ConnectTimeout) => {
                Some(Took { us, is_timeout: seen.first_byte == seen.total })
            }
            Outcome::Failed(_) => None,
        }
    }
}

/// Whether both sides were asked for the same: a dry run and a sandbox are something else, and so is a copy without the user's conditions.
pub fn is_paired(manner: Manner, result: ComparisonResult) -> bool {
    let is_other = |why| matches!(why, NotComparable::Conditional | NotComparable::Range | NotComparable::NotAsked);
    manner == Manner::Plain && !matches!(result, ComparisonResult::NotComparable(why) if is_other(why))
}

/// Times of both sides, over some while.
#[derive(Clone, Debug, Default)]
struct Times {
    legacy: Sketch,
    extracted: Sketch,
    /// Of each pair, extracted's time less legacy's.
    difference: Sketch,
    timeouts: [u64; 2],
    unpaired: u64,
}

impl Times {
    fn add(&mut self, legacy: Took, extracted: Took) {
        let [left, right] = [legacy.us, extracted.us].map(|us| i64::try_from(us).unwrap_or(i64::MAX));
        self.legacy.add(left);
        self.extracted.add(right);
        self.difference.add(right - left);
        self.timeouts[0] += u64::from(legacy.is_timeout);
        self.timeouts[1] += u64::from(extracted.is_timeout);
    }

    fn merge(&mut self, other: &Times) {
        self.legacy.merge(&other.legacy);
        self.extracted.merge(&other.extracted);
        self.difference.merge(&other.difference);
        self.timeouts[0] += other.timeouts[0];
        self.timeouts[1] += other.timeouts[1];
        self.unpaired += other.unpaired;
    }

    fn bins(&self) -> usize {
        self.legacy.bins() + self.extracted.bins() + self.difference.bins()
    }
}

/// Of one route.
#[derive(Debug, Default)]
struct Kept {
    /// By minute since any fixed moment, oldest first.
    minutes: VecDeque<(u64, Times)>,
    all: Times,
}

/// The book of all routes.
#[derive(Debug, Default)]
pub struct Latencies {
    routes: BTreeMap<RouteName, Kept>,
    bins: usize,
    /// Pairs that found no room.
    pub left_out: u64,
}

impl Latencies {
    /// Counts a pair; `None` for a side whose time says nothing. `now`: since any fixed moment, the same for all calls.
    pub fn add(&mut self, route: &RouteName, legacy: Option<Took>, extracted: Option<Took>, now: Duration) {
        let is_known = self.routes.contains_key(route);
        if self.bins >= BINS_MAX || (!is_known && self.routes.len() >= ROUTES_MAX) {
            self.left_out += 1;
            return;
        }
        if !is_known {
            self.routes.insert(route.clone(), Kept::default());
        }
        let Some(kept) = self.routes.get_mut(route) else { return };
        let before = kept.bins();
        kept.forget_before(now);
        let minute = now.as_secs() / 60;
        if kept.minutes.back().is_none_or(|(last, _)| *last < minute) {
            kept.minutes.push_back((minute, Times::default()));
        }
        let slots = [Some(&mut kept.all), kept.minutes.back_mut().map(|(_, times)| times)];
        for times in slots.into_iter().flatten() {
            match legacy.zip(extracted) {
                Some((legacy, extracted)) => times.add(legacy, extracted),
                None => times.unpaired += 1,
            }
        }
        let after = kept.bins();
        self.bins = self.bins.saturating_sub(before).saturating_add(after);
    }

    /// Forgets the routes that are no more.
    pub fn retain(&mut self, is_there: impl Fn(&RouteName) -> bool) {
        self.routes.retain(|route, _| is_there(route));
        self.bins = self.routes.values().map(Kept::bins).sum();
    }

    /// Makes room of what is older than an hour.
    pub fn tidy(&mut self, now: Duration) {
        for kept in self.routes.values_mut().filter(|kept| kept.is_old(now)) {
            let before = kept.bins();
            kept.forget_before(now);
            self.bins = self.bins.saturating_sub(before - kept.bins());
        }
    }

    /// What is known of one route, or of all; at most `most`.
    pub fn report(&self, route: Option<&str>, most: usize, now: Duration) -> Vec<RouteLatency> {
        let wanted = self.routes.iter().filter(|(name, _)| route.is_none_or(|route| name.as_str() == route));
        let told = wanted.take(most).map(|(name, kept)| {
            let mut hour = Times::default();
            let from = now.as_secs() / 60;
            for (_, times) in kept.minutes.iter().filter(|(minute, _)| minute + MINUTES > from) {
                hour.merge(times);
            }
            RouteLatency {
                route: name.as_str().to_owned(),
                last_hour: WindowLatency::of(&hour),
                since_start: WindowLatency::of(&kept.all),
            }
        });
        told.collect()
    }

    /// Legacy's times of a route since the start: what thresholds may be frozen of.
    pub fn legacy_of(&self, route: &RouteName) -> Option<&Sketch> {
        self.routes.get(route).map(|kept| &kept.all.legacy)
    }
}

impl Kept {
    fn bins(&self) -> usize {
        self.all.bins() + self.minutes.iter().map(|(_, times)| times.bins()).sum::<usize>()
    }

    fn forget_before(&mut self, now: Duration) {
        while self.is_old(now) {
            self.minutes.pop_front();
        }
    }

    fn is_old(&self, now: Duration) -> bool {
        self.minutes.front().is_some_and(|(first, _)| first + MINUTES <= now.as_secs() / 60)
    }
}

/// How long both sides of a route took, as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteLatency {
    /// The route's name.
    pub route: String,
    /// Of the last 60 minutes, by whole minutes.
    pub last_hour: WindowLatency,
    /// Since the process began, or the route came.
    pub since_start: WindowLatency,
}

/// Over one window. Quantiles are off by 1 % at most; `null` without a pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowLatency {
    /// Requests that both sides were asked for, and of which both times say something.
    pub pairs: u64,
    /// Requests that both sides were asked for, and of which at least one side failed: no time of theirs is in here.
    pub unpaired: u64,
    /// Legacy's times.
    pub legacy: SideLatency,
    /// Extracted's times.
    pub extracted: SideLatency,
    /// Of each pair, extracted's time less legacy's.
    pub paired: Option<Paired>,
}

/// Of one side, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideLatency {
    /// Half took at most this.
    pub p50_ms: Option<f64>,
    /// 95 % did.
    pub p95_ms: Option<f64>,
    /// 99 % did.
    pub p99_ms: Option<f64>,
    /// Of these times so many are no answer's but the length of a timeout.
    pub timeouts: u64,
}

/// Of pairs, in milliseconds; negative where extracted was faster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The median of the differences. (Not the difference of the medians.)
    pub median_ms: f64,
    /// 5 % of the differences are at most this.
    pub p5_ms: f64,
    /// 95 %.
    pub p95_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// Part of the pairs in which extracted took longer, 0 to 1.
    pub slower_share: f64,
}

impl WindowLatency {
    fn of(times: &Times) -> WindowLatency {
        let ms = |sketch: &Sketch, q: f64| sketch.quantile_us(q).map(|us| us / 1_000.0);
        let side = |sketch: &Sketch, timeouts: u64| SideLatency {
            p50_ms: ms(sketch, 0.5),
            p95_ms: ms(sketch, 0.95),
            p99_ms: ms(sketch, 0.99),
            timeouts,
        };
        let (difference, pairs) = (&times.difference, times.difference.count());
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let paired = || {
            Some(Paired {
                median_ms: ms(difference, 0.5)?,
                p5_ms: ms(difference, 0.05)?,
                p95_ms: ms(difference, 0.95)?,
                p99_ms: ms(difference, 0.99)?,
                slower_share: difference.count_above_zero() as f64 / pairs as f64,
            })
        };
        WindowLatency {
            pairs,
            unpaired: times.unpaired,
            legacy: side(&times.legacy, times.timeouts[0]),
            extracted: side(&times.extracted, times.timeouts[1]),
            paired: paired(),
        }
    }
}

#[cfg(test)]
mod tests;
