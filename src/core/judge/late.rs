//! Regressions that begin late: an e-CUSUM, which forgets a healthy past.
//!
//! An e-process from the start of a step is diluted by a long healthy time: after 5,000 quiet events it needs 334 more to find five times as many
//! failures, this needs 36. Its alarms are not rare in the way of a test (one in 10,000 events or more at random), so that an alarm holds
//! and tells. While a rollout bakes, and only then, one sends it back if extracted has failed beyond what is tolerated since ([`Lately`]).

use crate::judge::numbers::{ln_mean_exp, real};
use crate::judge::rates::{EVENTS_MIN, STANDARD_ERRORS};
use crate::judge::ratio::MORE;
use crate::weight::Weight;

/// The evidence at which it alarms: 10,000.
pub const LN_ALARM: f64 = 9.210_340_371_976_184;

/// What it keeps. Where counts come from several replicas they are added up first, and one of these is fed the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Late {
    sums: [f64; MORE.len()],
    /// Alarms so far; after each it begins anew. Counts like any evidence.
    pub alarms: u64,
}

impl Late {
    /// Takes one event, and says whether it alarmed.
    pub fn event(&mut self, weight: Weight, is_extracted: bool) -> bool {
        let (extracted, legacy) = if is_extracted { (1, 0) } else { (0, 1) };
        self.events(weight, extracted, legacy)
    }

    /// Takes the events of a tick whose order is not known, as one look: coarser by a tick, and no less valid. Says whether it alarmed.
    pub fn events(&mut self, weight: Weight, extracted: u64, legacy: u64) -> bool {
        if !weight.is_split() || extracted + legacy == 0 {
            return false;
        }
        let events = crate::judge::ratio::Events::new(weight, extracted, legacy);
        for (sum, g) in self.sums.iter_mut().zip(MORE) {
            *sum = sum.max(0.0) + events.ln_likelihood_ratio(1.0, g);
        }
        let is_alarm = self.ln_e() >= LN_ALARM;
        if is_alarm {
            *self = Late { alarms: self.alarms + 1, ..Late::default() };
        }
        is_alarm
    }

    /// Whether nothing is suspected: what comes now is the beginning of whatever may come.
    pub fn is_at_rest(&self) -> bool {
        self.sums.iter().all(|sum| *sum <= 0.0)
    }

    /// The logarithm of the evidence now.
    pub fn ln_e(&self) -> f64 {
        ln_mean_exp(self.sums.iter().copied())
    }
}

/// What extracted has done since nothing was suspected of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lately {
    /// Units of its that failed for the first time.
    pub failures: u64,
    /// Requests that it has answered, those of known units too: where users come back the part that fails is rather too low.
    pub requests: u64,
}

impl Lately {
    /// Whether it failed more often than legacy does, by more than `margin` and more than chance does often: an alarm says that the sides
    /// differ, and not by how much.
    pub fn is_beyond(&self, legacy_rate: f64, margin: f64) -> bool {
        let (failures, requests) = (real(self.failures), real(self.requests.max(1)));
        let rate = (failures / requests).min(1.0);
        let standard_error = (rate * (1.0 - rate) / requests).sqrt();
        failures >= EVENTS_MIN && rate - legacy_rate - STANDARD_ERRORS * standard_error >= margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_that_of_the_reference() {
        let weight = "10%".parse().expect("a weight");
        let mut late = Late::default();
        for (label, expected) in [
            (0, -0.489_376_081),
            (0, -0.489_376_081),
            (0, -0.489_376_081),
            (1, 1.500_274_913),
            (0, 0.591_717_925),
            (1, 2.093_866_191),
            (1, 3.872_908_158),
            (0, 2.800_163_605),
            (1, 4.518_896_388),
            (1, 6.372_200_387),
        ] {
            assert!(!late.event(weight, label == 1));
            assert!((late.ln_e() - expected).abs() < 1e-9, "{}", late.ln_e());
        }
        let more = (1..10).take_while(|_| !late.event(weight, true)).count();
        assert_eq!((more, late.alarms, late.ln_e()), (1, 1, 0.0));
    }

    #[test]
    fn a_long_healthy_past_is_no_shield() {
        let weight = "10%".parse().expect("a weight");
        let mut late = Late::default();
        for event in 0..5_000 {
            late.event(weight, event % 10 == 0);
        }
        let before = late.alarms;
        // Five times as many failures: of 14 events 5 are extracted's.
        let needed = (1u32..1_000).find(|event| late.event(weight, event % 14 % 3 == 1)).expect("it alarms");
        assert!(before == 0 && needed < 60, "{needed} events after {before} alarms");
        assert!((LN_ALARM - 1e4f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn an_alarm_is_of_weight_where_what_came_with_it_is_beyond_the_margin() {
        let lately = |failures, requests| Lately { failures, requests }.is_beyond(0.005, 0.01);
        assert!(lately(50, 1_000), "5 % and legacy 0.5 %");
        assert!(!lately(4, 20), "four are no rule");
        assert!(!lately(20, 1_000), "2 %, a point and a half more, by chance perhaps");
        assert!(!lately(10, 1_000) && !lately(0, 0));
    }

    #[test]
    fn where_none_or_all_are_extracteds_there_is_nothing_to_tell() {
        let mut late = Late::default();
        assert!(!late.events(Weight::NONE, 0, 1_000) && !late.events(Weight::ALL, 1_000, 0));
        assert_eq!(late, Late::default());
    }
}
