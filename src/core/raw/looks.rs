//! `a_a:`, `recheck:` and `verdict:` of a comparison, as written.

use std::time::Duration;

use crate::raw::keys;
use crate::raw::leaf::COUNT_MAX;
use crate::raw::walk::{Fields, Reader};
use crate::route::{LookPolicy, Sampling, VerdictPolicy};
use crate::tree::Node;

/// Longest wait before both sides are asked again: what waits is held in memory.
const DELAY_MAX: Duration = Duration::from_mins(1);

/// What is asked again, as written; what is missing comes from the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawLooks {
    a_a: Option<bool>,
    sample: Option<Sampling>,
    max_rps: Option<u32>,
    recheck_times: Option<u32>,
    recheck_delay: Option<Duration>,
    min_pairs: Option<u32>,
    alpha: Option<f64>,
    min_effect: Option<f64>,
    fdr: Option<f64>,
}

impl RawLooks {
    pub(in crate::raw) fn read<'a>(reader: &mut Reader<'a>, compare: &Fields<'a>) -> RawLooks {
        let mut raw = RawLooks::default();
        reader.key(compare, "a_a", |reader, node| {
            let fields = reader.fields(node, &keys::A_A)?;
            let words = [("on_mismatch", true), ("never", false)];
            raw.a_a = reader.key(&fields, "mode", |reader, node| reader.one_of(node, &words, &[])).map(|it| it.value);
            raw.sample = reader.key(&fields, "sample", sample).map(|it| it.value);
            let most = reader.key(&fields, "max_rps", |reader, node| reader.count_u32(node, 1, 10_000));
            raw.max_rps = most.map(|it| it.value);
            Some(())
        });
        reader.key(compare, "recheck", |reader, node| {
            let fields = reader.fields(node, &keys::RECHECK)?;
            let times = reader.key(&fields, "times", |reader, node| reader.count_u32(node, 0, 5));
            raw.recheck_times = times.map(|it| it.value);
            raw.recheck_delay = reader.key(&fields, "delay", delay).map(|it| it.value);
            Some(())
        });
        reader.key(compare, "verdict", |reader, node| {
            let fields = reader.fields(node, &keys::VERDICT)?;
            let least = reader.key(&fields, "min_pairs", |reader, node| reader.count_u32(node, 1, COUNT_MAX));
            raw.min_pairs = least.map(|it| it.value);
            raw.alpha = reader.key(&fields, "alpha", part).map(|it| it.value);
            raw.min_effect = reader.key(&fields, "min_effect", part).map(|it| it.value);
            raw.fdr = reader.key(&fields, "fdr", part).map(|it| it.value);
            Some(())
        });
        raw
    }

    pub(crate) fn filled(&self, defaults: &RawLooks) -> LookPolicy {
        let built_in = LookPolicy::default();
        LookPolicy {
            a_a: self.a_a.or(defaults.a_a).unwrap_or(built_in.a_a),
            sample: self.sample.or(defaults.sample).unwrap_or(built_in.sample),
            max_rps: self.max_rps.or(defaults.max_rps).unwrap_or(built_in.max_rps),
            recheck_times: self.recheck_times.or(defaults.recheck_times).unwrap_or(built_in.recheck_times),
            recheck_delay: self.recheck_delay.or(defaults.recheck_delay).unwrap_or(built_in.recheck_delay),
        }
    }

    pub(crate) fn verdict(&self, defaults: &RawLooks) -> VerdictPolicy {
        let built_in = VerdictPolicy::default();
        VerdictPolicy {
            min_pairs: self.min_pairs.or(defaults.min_pairs).map_or(built_in.min_pairs, u64::from),
            alpha: self.alpha.or(defaults.alpha).unwrap_or(built_in.alpha),
            min_effect: self.min_effect.or(defaults.min_effect).unwrap_or(built_in.min_effect),
            fdr: self.fdr.or(defaults.fdr).unwrap_or(built_in.fdr),
        }
    }
}

fn sample<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Sampling> {
    match node.text() {
        Some(text) if text.ends_with('%') => reader.weight(node).map(Sampling::Part),
        _ => reader.one_of(node, &[("auto", Sampling::Auto)], &[]),
    }
}

fn delay<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Duration> {
    let delay = reader.duration(node, true)?;
    if delay > DELAY_MAX {
        reader.fault(node.span, "at most `60s`: what waits is held in memory");
        return None;
    }
    Some(delay)
}

/// More than nothing, and less than all: `0.01`.
fn part<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<f64> {
    let text = reader.text(node, "a number between 0 and 1, as in `0.01`")?;
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number < 1.0);
    if number.is_none() {
        reader.fault(node.span, format!("`{text}` is no number between 0 and 1, as in `0.01`"));
    }
    number
}
