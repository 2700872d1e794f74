//! `rollout:` as written.

use std::sync::Arc;
use std::time::Duration;

use crate::calendar::{Freeze, Window};
use crate::judge::gates::{CoverageGate, ErrorsGate, LatencyGate, MismatchGate, Query, Slo};
use crate::judge::ladder::WARMUP_S;
use crate::judge::points::Points;
use crate::judge::{GateName, Gates};
use crate::limits::{FREEZES_MAX, NEEDS_MAX, STEPS_MAX};
use crate::raw::hooks;
use crate::raw::judge::{queries, slo};
use crate::raw::keys;
use crate::raw::leaf::COUNT_MAX;
use crate::raw::policy::Short;
use crate::raw::walk::{Reader, Spanned};
use crate::route::{Bake, Hook, Need, RollBackTo, RolloutPolicy, Step};
use crate::tree::{Kind, Node};
use crate::weight::Weight;

/// The usual ladder, in whole per cent, behind `shadow`.
const LADDER: [u16; 6] = [1, 5, 10, 25, 50, 100];

/// Users that stay with legacy while it is kept warm.
const HOLDBACK: Weight = Weight::ONE_PERCENT;
/// Most of them, in basis points.
const HOLDBACK_MAX: u16 = 5_000;

/// `rollout:` as written; what is missing comes from `defaults`.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawRollout {
    steps: Option<Vec<Spanned<Step>>>,
    at_least: Option<Duration>,
    warmup: Option<Duration>,
    min_requests: Option<u64>,
    errors: Option<Short<ErrorsGate>>,
    latency: Option<Short<LatencyGate>>,
    mismatch: Option<Short<MismatchGate>>,
    coverage: Option<Short<CoverageGate>>,
    prometheus: Option<Vec<Query>>,
    slo: Option<Slo>,
    roll_back_to: Option<RollBackTo>,
    approve: Option<Vec<Spanned<Step>>>,
    four_eyes: Option<bool>,
    window: Option<Arc<Window>>,
    freeze: Option<Vec<Freeze>>,
    needs: Option<Vec<Spanned<Need>>>,
    from: Option<Spanned<Weight>>,
    bake: Option<Spanned<RawBake>>,
    hooks: Option<Vec<Hook>>,
    notify: Option<Vec<Hook>>,
}

/// `bake:` as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawBake {
    time: Duration,
    pub(crate) holdback: Option<Spanned<Weight>>,
}

impl RawRollout {
    /// The steps written here.
    pub(crate) fn steps(&self) -> Option<&[Spanned<Step>]> {
        self.steps.as_deref()
    }

    /// The steps that a person must let it enter, as written here.
    pub(crate) fn approve(&self) -> Option<&[Spanned<Step>]> {
        self.approve.as_deref()
    }

    /// With the files that it names, where their paths are relative, below `base`.
    pub(crate) fn below(mut self, base: &str) -> RawRollout {
        for hooks in [&mut self.hooks, &mut self.notify] {
            *hooks = hooks.take().map(|hooks| hooks.into_iter().map(|hook| hooks::below(hook, base)).collect());
        }
        self
    }

    /// The routes that must have come so far, as written here.
    pub(crate) fn needs(&self) -> Option<&[Spanned<Need>]> {
        self.needs.as_deref()
    }

    /// What users get where nothing is known, as written here.
    pub(crate) fn from(&self) -> Option<Spanned<Weight>> {
        self.from
    }

    /// What comes after the last step, as written here.
    pub(crate) fn bake(&self) -> Option<&Spanned<RawBake>> {
        self.bake.as_ref()
    }

    fn gates(&self, defaults: &RawRollout, is_compared: bool) -> Gates {
        let mut gates = Gates {
            errors: gate(self.errors.as_ref(), defaults.errors.as_ref()),
            latency: gate(self.latency.as_ref(), defaults.latency.as_ref()),
            mismatch: gate(self.mismatch.as_ref(), defaults.mismatch.as_ref()),
            coverage: gate(self.coverage.as_ref(), defaults.coverage.as_ref()),
            prometheus: self.prometheus.as_ref().or(defaults.prometheus.as_ref()).cloned().unwrap_or_default(),
            slo: self.slo.or(defaults.slo),
            ..Gates::default()
        };
        if !is_compared {
            let asked =
                [(GateName::Mismatch, gates.mismatch.is_some()), (GateName::Coverage, gates.coverage.is_some())];
            for (name, _) in asked.into_iter().filter(|(_, is_asked)| *is_asked) {
                gates.not_applicable.insert(name, "answers of this route are not compared".to_owned());
            }
        }
        gates
    }

    /// Filled up. `is_compared`: whether the route has a shadow whose answers are compared; `is_kept`: whether what extracted has
    /// written is known to legacy, so that a part of users may stay there.
    pub(crate) fn filled(&self, defaults: Option<&RawRollout>, is_compared: bool, is_kept: bool) -> RolloutPolicy {
        let none = RawRollout::default();
        let defaults = defaults.unwrap_or(&none);
        let values = |steps: &Vec<Spanned<Step>>| steps.iter().map(|step| step.value).collect::<Arc<[Step]>>();
        RolloutPolicy {
            steps: self.steps.as_ref().or(defaults.steps.as_ref()).map_or_else(|| ladder(is_compared), values),
            at_least: self.at_least.or(defaults.at_least).unwrap_or(Duration::from_mins(10)),
            warmup: self.warmup.or(defaults.warmup).unwrap_or(Duration::from_secs(WARMUP_S)),
            min_requests: self.min_requests.or(defaults.min_requests).unwrap_or(300),
            gates: self.gates(defaults, is_compared),
            roll_back_to: self.roll_back_to.or(defaults.roll_back_to).unwrap_or_default(),
            approve: self.approve.as_ref().or(defaults.approve.as_ref()).map_or_else(|| Arc::from([]), values),
            four_eyes: self.four_eyes.or(defaults.four_eyes).unwrap_or(false),
            window: self.window.clone().or_else(|| defaults.window.clone()),
            freeze: self
                .freeze
                .as_ref()
                .or(defaults.freeze.as_ref())
                .map_or_else(|| Arc::from([]), |days| days[..].into()),
            needs: self
                .needs
                .as_ref()
                .or(defaults.needs.as_ref())
                .map_or_else(|| Arc::from([]), |needs| needs.iter().map(|need| need.value.clone()).collect()),
            journey: None,
            is_compared,
            from: self.from.map_or(Weight::NONE, |from| from.value),
            bake: self.bake.as_ref().or(defaults.bake.as_ref()).map(|bake| Bake {
                time: bake.value.time,
                holdback: bake.value.holdback.map_or(if is_kept { HOLDBACK } else { Weight::NONE }, |it| it.value),
            }),
            hooks: [self.hooks.as_ref().or(defaults.hooks.as_ref()), self.notify.as_ref().or(defaults.notify.as_ref())]
                .into_iter()
                .flatten()
                .flatten()
                .cloned()
                .collect(),
        }
    }
}

/// What holds: what is written, what the defaults say, what is usual.
fn gate<T: Copy + Default>(own: Option<&Short<T>>, default: Option<&Short<T>>) -> Option<T> {
    match own.or(default) {
        None => Some(T::default()),
        Some(Short::Off) => None,
        Some(Short::On(gate)) => Some(*gate),
    }
}

fn ladder(is_compared: bool) -> Arc<[Step]> {
    let weights = LADDER.iter().filter_map(|percent| Weight::from_basis_points(percent * 100));
    is_compared.then_some(Step::Shadow).into_iter().chain(weights.map(Step::At)).collect()
}

pub(in crate::raw) fn rollout<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RawRollout> {
    let fields = reader.fields(node, &keys::ROLLOUT)?;
    let mut raw = RawRollout {
        steps: reader.key(&fields, "steps", ladder_of).map(|read| read.value),
        roll_back_to: reader
            .key(&fields, "roll_back_to", |reader, node| {
                let all = [RollBackTo::Shadow, RollBackTo::Legacy, RollBackTo::PreviousStep];
                reader.one_of(node, &all.map(|to| (to.as_str(), to)), &[])
            })
            .map(|read| read.value),
        approve: reader
            .key(&fields, "approve", |reader, node| reader.list(node, STEPS_MAX, step))
            .map(|read| read.value),
        four_eyes: reader.key(&fields, "four_eyes", Reader::bool).map(|read| read.value),
        window: reader
            .key(&fields, "window", |reader, node| reader.parsed::<Window>(node, "a window"))
            .map(|read| Arc::new(read.value)),
        freeze: reader
            .key(&fields, "freeze", |reader, node| {
                let days = reader.list(node, FREEZES_MAX, |reader, item| reader.parsed(item, "days"))?;
                Some(days.into_iter().map(|days| days.value).collect())
            })
            .map(|read| read.value),
        needs: reader
            .key(&fields, "needs", |reader, node| {
                reader.list(node, NEEDS_MAX, |reader, item| reader.parsed(item, "a route and a weight"))
            })
            .map(|read| read.value),
        from: reader.key(&fields, "from", some_or_all),
        bake: reader.key(&fields, "bake", bake),
        ..RawRollout::default()
    };
    raw.hooks = reader.key(&fields, "hooks", hooks::hooks).map(|it| it.value);
    raw.notify = reader.key(&fields, "notify", hooks::notices).map(|it| it.value);
    raw.slo = reader.key(&fields, "slo", slo).map(|it| it.value);
    reader.key(&fields, "step", |reader, node| {
        let fields = reader.fields(node, &keys::STEP_KEYS)?;
        raw.at_least = reader.key(&fields, "at_least", |reader, node| reader.duration(node, true)).map(|it| it.value);
        raw.warmup = reader.key(&fields, "warmup", |reader, node| reader.duration(node, true)).map(|it| it.value);
        let least = reader.key(&fields, "min_requests", |reader, node| reader.count(node, 0, COUNT_MAX));
        raw.min_requests = least.map(|it| it.value);
        Some(())
    });
    reader.key(&fields, "gates", |reader, node| {
        let fields = reader.fields(node, &keys::GATES)?;
        raw.errors = reader.key(&fields, "errors", errors_gate).map(|it| it.value);
        raw.latency = reader.key(&fields, "latency", latency_gate).map(|it| it.value);
        raw.mismatch = reader.key(&fields, "mismatch", mismatch_gate).map(|it| it.value);
        raw.coverage = reader.key(&fields, "coverage", coverage_gate).map(|it| it.value);
        raw.prometheus = reader.key(&fields, "prometheus", queries).map(|it| it.value);
        Some(())
    });
    Some(raw)
}

pub(in crate::raw) fn errors_gate<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<ErrorsGate>> {
    short(reader, node, &keys::ERRORS_GATE, |reader, fields| ErrorsGate {
        worse_by: reader
            .key(fields, "worse_by", |reader, node| reader.parsed::<Points>(node, "percentage points, as in `0.5pp`"))
            .map(|it| it.value),
    })
}

pub(in crate::raw) fn latency_gate<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<LatencyGate>> {
    short(reader, node, &keys::LATENCY_GATE, |reader, fields| LatencyGate {
        more_slow_by: reader
            .key(fields, "more_slow_by", rise)
            .map_or(LatencyGate::default().more_slow_by, |it| it.value),
    })
}

pub(in crate::raw) fn mismatch_gate<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<MismatchGate>> {
    short(reader, node, &keys::MISMATCH_GATE, |reader, fields| MismatchGate {
        at_most: reader.key(fields, "at_most", some_of).map_or(MismatchGate::default().at_most, |it| it.value),
    })
}

pub(in crate::raw) fn coverage_gate<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Short<CoverageGate>> {
    short(reader, node, &keys::COVERAGE_GATE, |reader, fields| CoverageGate {
        min_each: reader
            .key(fields, "min_each", |reader, node| reader.count_u32(node, 1, COUNT_MAX))
            .map_or(CoverageGate::default().min_each, |it| it.value),
    })
}

/// `never`, or a map.
fn short<'a, T>(
    reader: &mut Reader<'a>,
    node: &'a Node,
    block: &'static keys::Block,
    read: impl FnOnce(&mut Reader<'a>, &crate::raw::walk::Fields<'a>) -> T,
) -> Option<Short<T>> {
    if !matches!(node.kind, Kind::Map(_)) {
        return reader.one_of(node, &[("never", ())], &[]).map(|()| Short::Off);
    }
    let fields = reader.fields(node, block)?;
    Some(Short::On(read(reader, &fields)))
}

fn step<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Step> {
    reader.parsed(node, "`shadow`, or a weight as in `5%`")
}

/// Rising, and nothing twice.
fn ladder_of<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<Spanned<Step>>> {
    let steps = reader.list(node, STEPS_MAX, step)?;
    if steps.is_empty() && matches!(&node.kind, Kind::Seq(items) if items.is_empty()) {
        reader.fault(node.span, "a ladder has at least one step");
        return None;
    }
    let mut is_rising = true;
    for (lower, upper) in steps.iter().zip(steps.iter().skip(1)) {
        if upper.value <= lower.value {
            let (lower, next) = (lower.value, upper.value);
            reader.fault(upper.span, format!("steps rise, and `{next}` is not above `{lower}`"));
            is_rising = false;
        }
    }
    is_rising.then_some(steps)
}

/// Up to twice as many.
fn rise<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Weight> {
    let rise = reader.weight(node)?;
    if rise == Weight::NONE {
        reader.fault(node.span, "a tolerance of nothing can never be proven");
        return None;
    }
    Some(rise)
}

/// Not nobody.
fn some_or_all<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Weight> {
    let weight = reader.weight(node)?;
    if weight == Weight::NONE {
        reader.fault(node.span, "from `0%` every user whose data the extracted service owns would be sent to legacy");
        return None;
    }
    Some(weight)
}

fn bake<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RawBake> {
    let fields = reader.fields(node, &keys::BAKE)?;
    let time = reader.key(&fields, "for", |reader, node| reader.duration(node, false));
    let holdback = reader.key(&fields, "holdback", |reader, node| {
        let weight = reader.weight(node)?;
        if weight.basis_points() > HOLDBACK_MAX {
            reader.fault(node.span, "a holdback is 50% at most: more would be a step down");
            return None;
        }
        Some(weight)
    });
    Some(RawBake { time: time?.value, holdback })
}

fn some_of<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Weight> {
    let weight = reader.weight(node)?;
    if weight == Weight::NONE || weight == Weight::ALL {
        reader.fault(node.span, "a tolerance of nothing can never be proven, and one of all is none");
        return None;
    }
    Some(weight)
}
