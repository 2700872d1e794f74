//! Quantiles of many numbers in little memory: a sketch with a relative error of 1 % at most (`DDSketch`, Masson, Rim and Lee, VLDB 2019).
//!
//! Whole numbers of microseconds, positive or negative, each put into a bin whose bounds lie 2 % apart. Only bins that hold something take
//! room, so that a minute with twenty values costs twenty bins; a dense array, as libraries have it, costs kilobytes each, and there
//! are sixty minutes of every route. Counts are whole: merging is a sum, in any order, and what is read back is checked.

use serde::{Deserialize, Serialize};

/// Largest error of a quantile, relative to the value.
pub const ERROR_MAX: f64 = 0.01;
/// Largest value that is told apart, in either direction: a day of microseconds. Larger ones count as it.
pub const VALUE_MAX_US: i64 = 86_400_000_000;
/// `ln((1 + ERROR_MAX) / (1 - ERROR_MAX))`: the width of a bin.
const LN_GAMMA: f64 = 0.020_000_666_706_669_435;
/// The bin of [`VALUE_MAX_US`], counted from 1.
const PLACE_MAX: i16 = 1_261;
/// Values from which on quantiles are worth freezing.
pub const FREEZE_LEAST: u64 = 1_000;

/// Counts of values by bin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(i16, u64)>", into = "Vec<(i16, u64)>")]
pub struct Sketch {
    /// Ascending by place: negative values below 0, zero at 0, positive ones above. No count is 0.
    bins: Vec<(i16, u64)>,
}

/// Why what was read back is no sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// Beyond [`VALUE_MAX_US`].
    #[error("a sketch has no bin {0}")]
    Place(i16),
    /// Out of order, twice, or empty.
    #[error("the bins of a sketch ascend, and none is empty; bin {0} does not fit")]
    Order(i16),
}

/// Quantiles that stay as they are: what counts as slow from now on. In microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Half of the values are at most this.
    pub p50_us: u64,
    /// 95 % of them.
    pub p95_us: u64,
    /// 99 % of them.
    pub p99_us: u64,
}

impl Sketch {
    /// Counts one value.
    pub fn add(&mut self, value_us: i64) {
        self.add_times(place_of(value_us), 1);
    }

    /// Counts everything that `other` has counted. The same in whichever order.
    pub fn merge(&mut self, other: &Sketch) {
        if self.bins.is_empty() {
            self.bins.clone_from(&other.bins);
            return;
        }
        for (place, count) in &other.bins {
            self.add_times(*place, *count);
        }
    }

    fn add_times(&mut self, place: i16, times: u64) {
        match self.bins.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(index) => {
                if let Some((_, count)) = self.bins.get_mut(index) {
                    *count = count.saturating_add(times);
                }
            }
            Err(index) => self.bins.insert(index, (place, times)),
        }
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.bins.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Of them, those above zero. Exact.
    pub fn count_above_zero(&self) -> u64 {
        let above = self.bins.iter().filter(|(place, _)| *place > 0);
        above.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// What it takes: bins that hold something.
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// The least value that at least `q` (0 to 1) of all values do not exceed, in microseconds, off by [`ERROR_MAX`] of it at most.
    /// `None`: there is none.
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        let count = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among values; what is lost beyond 2^53 of them is far below the error of a bin"
        )]
        let rank = ((count as f64) * q.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut upto = 0u64;
        let found = self.bins.iter().find(|(_, count)| {
            upto = upto.saturating_add(*count);
            upto >= rank
        });
        found.or_else(|| self.bins.last()).map(|(place, _)| value_of(*place))
    }

    /// Its quantiles, to be held against what comes later; `None`: fewer than [`FREEZE_LEAST`] values say too little of the 99th.
    pub fn freeze(&self) -> Option<Thresholds> {
        let at = |q: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0, at most a day")]
            let whole = self.quantile_us(q)?.max(0.0).round() as u64;
            Some(whole)
        };
        if self.count() < FREEZE_LEAST {
            return None;
        }
        Some(Thresholds { p50_us: at(0.5)?, p95_us: at(0.95)?, p99_us: at(0.99)? })
    }
}

impl TryFrom<Vec<(i16, u64)>> for Sketch {
    type Error = SketchError;

    fn try_from(bins: Vec<(i16, u64)>) -> Result<Sketch, SketchError> {
        let mut last = None;
        for (place, count) in &bins {
            if place.unsigned_abs() > PLACE_MAX.unsigned_abs() {
                return Err(SketchError::Place(*place));
            }
            if *count == 0 || last.is_some_and(|last| last >= *place) {
                return Err(SketchError::Order(*place));
            }
            last = Some(*place);
        }
        Ok(Sketch { bins })
    }
}

impl From<Sketch> for Vec<(i16, u64)> {
    fn from(sketch: Sketch) -> Vec<(i16, u64)> {
        sketch.bins
    }
}

/// The bin of a value: the `k`th, from 1, holds those above `gamma^(k-2)` up to `gamma^(k-1)`.
fn place_of(value_us: i64) -> i16 {
    if value_us == 0 {
        return 0;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most a day of microseconds, far below 2^53")]
    let size = value_us.unsigned_abs().min(VALUE_MAX_US.unsigned_abs()) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "at most PLACE_MAX")]
    let place = ((size.ln() / LN_GAMMA).ceil() as i16 + 1).clamp(1, PLACE_MAX);
    if value_us < 0 { -place } else { place }
}

/// The value that no value of the bin is further from than [`ERROR_MAX`].
fn value_of(place: i16) -> f64 {
    if place == 0 {
        return 0.0;
    }
    let upper = (f64::from(place.unsigned_abs() - 1) * LN_GAMMA).exp();
    let value = upper * (1.0 - ERROR_MAX);
    if place < 0 { -value } else { value }
}

#[cfg(test)]
mod tests;
