//! What is asked again, how often, and how much of it proves something.

use std::time::Duration;

use crate::weight::Weight;

/// What is asked again: legacy alone, to learn how it differs from itself, and both sides once answers have differed.
///
/// Only of requests that may be repeated; an unsafe one never is, nor one with a key that makes a second answer a stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookPolicy {
    /// Whether legacy is asked a second time at all. Default: it is, when answers differ and for a sample.
    pub a_a: bool,
    /// Requests for which legacy is asked twice before anything is known of the answers. Default: as many as help.
    pub sample: Sampling,
    /// Further requests to legacy a second, per route and process, samples and second looks together. Default: 5. Largest: 10,000.
    pub max_rps: u32,
    /// How often both sides are asked again when answers differ. Default: 1. Largest: 5.
    pub recheck_times: u32,
    /// How long each of these waits. Default: 2 s. Largest: 60 s.
    pub recheck_delay: Duration,
}

impl Default for LookPolicy {
    fn default() -> LookPolicy {
        LookPolicy {
            a_a: true,
            sample: Sampling::Auto,
            max_rps: 5,
            recheck_times: 1,
            recheck_delay: Duration::from_secs(2),
        }
    }
}

impl LookPolicy {
    /// Whether anything is asked again when answers differ.
    pub const fn looks_again(&self) -> bool {
        self.a_a || self.recheck_times > 0
    }

    /// How often a second look asks legacy.
    pub const fn legacy_asks(&self) -> u32 {
        // Told apart from itself it must be asked twice at one moment: once with extracted, and once more.
        self.recheck_times + if self.a_a { if self.recheck_times > 0 { 1 } else { 2 } } else { 0 }
    }
}

/// Which requests are asked of legacy twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// As many as `max_rps` lets through until every field of the endpoint has a verdict, then one in a hundred.
    #[default]
    Auto,
    /// This part.
    Part(Weight),
}

/// When evidence suffices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VerdictPolicy {
    /// Fewer triples say nothing. Default: 200.
    pub min_pairs: u64,
    /// Chance of a false alarm of one field, over all looks together. Default: 0.01.
    pub alpha: f64,
    /// Smallest rise of the rate of differences that is worth an alarm. Default: 0.001.
    pub min_effect: f64,
    /// Part of false alarms among the alarms of an endpoint (Benjamini and Hochberg). Default: 0.05.
    pub fdr: f64,
}

impl Default for VerdictPolicy {
    fn default() -> VerdictPolicy {
        VerdictPolicy { min_pairs: 200, alpha: 0.01, min_effect: 0.001, fdr: 0.05 }
    }
}
