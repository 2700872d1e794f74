//! Gates and evidence as they were written.

use std::time::Duration;

use crate::fault::Fault;
use crate::judge::evidence::{
    Before, Comparisons, CoverageResult, Evidence, External, Pair, SideCounts, Split, StageEvidence, step_weight,
    weight_of_ratio,
};
use crate::judge::gates::{CoverageGate, ErrorsGate, GateName, Gates, LatencyGate, MismatchGate, NoData, Query, Slo};
use crate::raw::hooks::web_url;
use crate::raw::keys;
use crate::raw::policy::Short;
use crate::raw::rollout::{coverage_gate, errors_gate, latency_gate, mismatch_gate};
use crate::raw::walk::{Reader, Spanned};
use crate::tree::{Kind, Node, Span};
use crate::weight::Weight;

/// Most entries of `stages:`.
const STAGES_MAX: usize = 1_000;
/// Most queries.
const QUERIES_MAX: usize = 20;
/// How often a server is asked at most, and at least.
const EVERY_MIN: Duration = Duration::from_secs(1);
const TURN_MAX: Duration = Duration::from_hours(1);
/// Largest count of evidence.
const EVIDENCE_MAX: u64 = 1 << 52;

/// Reads what `strangler judge` is given: evidence with its gates, or a verdict, whose `inputs` that are. Nothing comes of it when anything is
/// wrong; what is, comes in the order of the file, beside what the reader of the text has `found`.
pub fn read_evidence(root: &Node, found: Vec<Fault>) -> (Option<(Gates, Evidence)>, Vec<Fault>) {
    let mut reader = Reader::default();
    for fault in found {
        reader.faults.push(fault);
    }
    let is_verdict = root.child("verdict").is_some();
    let node = root.child("inputs").filter(|_| is_verdict).unwrap_or(root);
    let read = evidence(&mut reader, node);
    let is_refused = reader.faults.has_errors();
    (read.filter(|_| !is_refused), reader.faults.into_sorted())
}

fn value<T: Default>(read: Option<Spanned<T>>) -> T {
    read.map(|read| read.value).unwrap_or_default()
}

fn evidence<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<(Gates, Evidence)> {
    let fields = reader.fields(node, &keys::EVIDENCE)?;
    let stages = reader.key(&fields, "stages", |reader, node| reader.list(node, STAGES_MAX, stage));
    let mut seen = Evidence {
        step: reader.key(&fields, "step", step).map(|step| step.value),
        comparisons: value(reader.key(&fields, "comparisons", comparisons)),
        before: value(reader.key(&fields, "before", before)),
        late_alarms: value(reader.key(&fields, "late_alarms", seen)),
        coverage: reader.key(&fields, "coverage", coverage_result).map(|it| it.value),
        external: reader.key(&fields, "external", external).map(|it| it.value),
        external_why: reader
            .key(&fields, "external_why", |reader, node| reader.short_text(node, "what a query said"))
            .map(|it| it.value.to_string()),
        ..Evidence::default()
    };
    for stage in value(stages) {
        let (weight, stage) = stage.value;
        seen.stages.entry(weight).or_default().merge(&stage);
    }
    for (name, is_assigned) in [("assignments", true), ("completions", false)] {
        let splits = reader.key(&fields, name, |reader, node| splits(reader, node, &seen));
        for (weight, split) in value(splits) {
            let stage = seen.stages.entry(weight).or_default();
            if is_assigned { stage.assignments.merge(&split) } else { stage.completions.merge(&split) }
        }
    }
    let written = reader.key(&fields, "gates", gates);
    let mut gates = match written {
        Some(gates) => gates.value,
        None if fields.has("gates") => return None,
        None => gates_of(&seen, fields.has("stages")),
    };
    if let Some(not_applicable) = reader.key(&fields, "not_applicable", not_applicable) {
        gates.not_applicable = not_applicable.value;
    }
    Some((gates, seen))
}

/// Without `gates`: those of which there is evidence, with their defaults.
fn gates_of(seen: &Evidence, has_stages: bool) -> Gates {
    let has_compared = seen.comparisons.compared > 0;
    let is_timed = |stage: &StageEvidence| stage.whole().extracted.timed + stage.whole().legacy.timed > 0;
    Gates {
        errors: (has_stages || !has_compared).then(ErrorsGate::default),
        latency: seen.stages.values().any(is_timed).then(LatencyGate::default),
        mismatch: has_compared.then(MismatchGate::default),
        coverage: seen.coverage.map(|_| CoverageGate::default()),
        ..Gates::default()
    }
}

fn seen<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<u64> {
    reader.count(node, 0, EVIDENCE_MAX)
}

fn gates<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Gates> {
    let fields = reader.fields(node, &keys::EVIDENCE_GATES)?;
    Some(Gates {
        errors: reader.key(&fields, "errors", errors_gate).and_then(asked),
        latency: reader.key(&fields, "latency", latency_gate).and_then(asked),
        mismatch: reader.key(&fields, "mismatch", mismatch_gate).and_then(asked),
        coverage: reader.key(&fields, "coverage", coverage_gate).and_then(asked),
        prometheus: value(reader.key(&fields, "prometheus", queries)),
        slo: reader.key(&fields, "slo", slo).map(|gate| gate.value),
        ..Gates::default()
    })
}

fn asked<T>(read: Spanned<Short<T>>) -> Option<T> {
    match read.value {
        Short::On(gate) => Some(gate),
        Short::Off => None,
    }
}

pub(in crate::raw) fn queries<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<Query>> {
    let queries = reader.list(node, QUERIES_MAX, query)?;
    Some(queries.into_iter().map(|query| query.value).collect())
}

fn query<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Query> {
    let fields = reader.fields(node, &keys::QUERY)?;
    let query = reader.key(&fields, "query", |reader, node| reader.short_text(node, "a query"));
    let max = reader.key(&fields, "max", number).map(|it| it.value);
    let min = reader.key(&fields, "min", number).map(|it| it.value);
    let words = [NoData::Hold, NoData::Pass].map(|it| (it.as_str(), it));
    let no_data = reader.key(&fields, "no_data", |reader, node| reader.one_of(node, &words, &[]));
    let url = reader.key(&fields, "url", web_url).map(|it| it.value);
    let every = reader.key(&fields, "every", |reader, node| turn(reader, node, EVERY_MIN));
    let timeout = reader.key(&fields, "timeout", |reader, node| turn(reader, node, Duration::from_millis(1)));
    if !fields.has("max") && !fields.has("min") {
        let help =
            Some("write the largest value that lets it rise, as in `max: 0.01`, or the smallest, `min`".to_owned());
        reader.fault_with_help(fields.span_or(node), "a query without `max` and `min` forbids nothing", help);
        return None;
    }
    if let (Some(max), Some(min)) = (max, min)
        && min > max
    {
        reader.fault(fields.place("min"), format!("`min` ({min}) is above `max` ({max}), so no value would do"));
        return None;
    }
    let usual = Query::of(&query?.value);
    Some(Query {
        max,
        min,
        no_data: value(no_data),
        url,
        every: every.map_or(usual.every, |it| it.value),
        timeout: timeout.map_or(usual.timeout, |it| it.value),
        ..usual
    })
}

fn turn<'a>(reader: &mut Reader<'a>, node: &'a Node, least: Duration) -> Option<Duration> {
    let duration = reader.duration(node, false)?;
    if (least..=TURN_MAX).contains(&duration) {
        return Some(duration);
    }
    reader.fault(node.span, format!("from {least:?} to an hour"));
    None
}

fn number<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<f64> {
    let text = reader.text(node, "a number")?;
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    if number.is_none() {
        reader.fault(node.span, format!("expected a number, found {}", node.describe()));
    }
    number
}

pub(in crate::raw) fn slo<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Slo> {
    let fields = reader.fields(node, &keys::SLO)?;
    let success = reader.key(&fields, "success", Reader::weight)?;
    if success.value == Weight::ALL || success.value == Weight::NONE {
        reader.fault(
            success.span,
            "an objective lies between `0.01%` and `99.99%`: no number of requests proves that none fails",
        );
        return None;
    }
    Some(Slo { success: success.value })
}

fn not_applicable<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<std::collections::BTreeMap<GateName, String>> {
    let fields = reader.fields(node, &keys::NOT_APPLICABLE)?;
    let why = |name: GateName| {
        let why = reader.key(&fields, name.as_str(), |reader, node| reader.short_text(node, "a reason"));
        why.map(|why| (name, why.value.to_string()))
    };
    Some(GateName::ALL.into_iter().filter_map(why).collect())
}

fn step<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Weight> {
    let text = reader.text(node, "`shadow` or a weight, as in `5%`")?;
    named_step(reader, node.span, text)
}

fn named_step(reader: &mut Reader<'_>, span: Span, name: &str) -> Option<Weight> {
    let weight = step_weight(name);
    if weight.is_none() {
        reader.fault(span, format!("`{name}` is no step; expected `shadow` or a weight, as in `5%`"));
    }
    weight
}

fn stage<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<(Weight, StageEvidence)> {
    let fields = reader.fields(node, &keys::STAGE)?;
    let name = reader.key(&fields, "step", |reader, node| reader.short_text(node, "the name of a step"));
    let weight = reader.key(&fields, "weight", ratio);
    let stage = StageEvidence {
        extracted: value(reader.key(&fields, "extracted", counts)),
        legacy: value(reader.key(&fields, "legacy", counts)),
        warmup: value(reader.key(&fields, "warmup", pair)),
        by_itself: value(reader.key(&fields, "by_itself", pair)),
        assignments: value(reader.key(&fields, "assignments", split)),
        completions: value(reader.key(&fields, "completions", split)),
        seconds: value(reader.key(&fields, "seconds", seen)),
        burst: value(reader.key(&fields, "burst", seen)),
    };
    let weight = match (weight, &name) {
        (Some(weight), Some(name)) => {
            // A name that is none of ours is a label.
            if let Some(named) = step_weight(&name.value).filter(|named| *named != weight.value) {
                let message = format!("`step` says {named} and `weight` says {}", weight.value);
                reader.fault(name.span, message);
            }
            weight.value
        }
        (Some(weight), None) => weight.value,
        (None, _) if fields.has("weight") => return None,
        (None, Some(name)) => named_step(reader, name.span, &name.value)?,
        (None, None) if fields.has("step") => return None,
        (None, None) => {
            let help = Some("write `weight: 0.05`, or `step: 5%`".to_owned());
            reader.fault_with_help(fields.span_or(node), "which weight was it?", help);
            return None;
        }
    };
    Some((weight, stage))
}

/// `0.05` or `5%`.
fn ratio<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Weight> {
    let text = reader.text(node, "a weight, as in `0.05` or `5%`")?;
    if text.ends_with('%') {
        return reader.weight(node);
    }
    let ratio = number(reader, node)?;
    let weight = weight_of_ratio(ratio);
    if weight.is_none() {
        let message = format!("`{text}` is no weight: those lie between 0 and 1, in steps of 0.0001");
        let help = (1.0..=100.0).contains(&ratio).then(|| format!("`{text}%`?"));
        reader.fault_with_help(node.span, message, help);
    }
    weight
}

fn pair<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Pair> {
    let fields = reader.fields(node, &keys::PAIR)?;
    Some(Pair {
        extracted: value(reader.key(&fields, "extracted", counts)),
        legacy: value(reader.key(&fields, "legacy", counts)),
    })
}

fn counts<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<SideCounts> {
    let fields = reader.fields(node, &keys::COUNTS)?;
    let mut count = |name: &'static str| reader.key(&fields, name, seen);
    let units = count("units");
    let [errors, slow_p50, slow_p95, slow_p99] = ["errors", "slow_p50", "slow_p95", "slow_p99"].map(&mut count);
    let [status_3xx, status_4xx] = ["status_3xx", "status_4xx"].map(&mut count);
    let (timed, classed) = (count("timed"), count("classed"));
    // Where nothing else is said all units were timed, and classed.
    let timed = timed.or(units.filter(|_| [slow_p50, slow_p95, slow_p99].iter().any(Option::is_some)));
    let classed = classed.or(units.filter(|_| [status_3xx, status_4xx].iter().any(Option::is_some)));
    for (name, part, whole_name, whole) in [
        ("errors", errors, "units", units),
        ("slow_p50", slow_p50, "timed", timed),
        ("slow_p95", slow_p95, "timed", timed),
        ("slow_p99", slow_p99, "timed", timed),
        ("status_3xx", status_3xx, "classed", classed),
        ("status_4xx", status_4xx, "classed", classed),
    ] {
        at_most(reader, name, part, whole_name, whole);
    }
    Some(SideCounts {
        units: value(units),
        errors: value(errors),
        timed: value(timed),
        slow_p50: value(slow_p50),
        slow_p95: value(slow_p95),
        slow_p99: value(slow_p99),
        classed: value(classed),
        status_3xx: value(status_3xx),
        status_4xx: value(status_4xx),
    })
}

/// A part is no larger than its whole, where both are known.
fn at_most(
    reader: &mut Reader<'_>,
    name: &str,
    part: Option<Spanned<u64>>,
    whole_name: &str,
    whole: Option<Spanned<u64>>,
) {
    if let (Some(part), Some(whole)) = (part, whole)
        && part.value > whole.value
    {
        let message = format!("more `{name}` ({}) than `{whole_name}` ({})", part.value, whole.value);
        reader.fault(part.span, message);
    }
}

fn split<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Split> {
    let fields = reader.fields(node, &keys::SPLIT)?;
    Some(Split {
        extracted: value(reader.key(&fields, "extracted", seen)),
        legacy: value(reader.key(&fields, "legacy", seen)),
    })
}

/// Those of the only split step, or of each by its name.
fn splits<'a>(reader: &mut Reader<'a>, node: &'a Node, evidence: &Evidence) -> Option<Vec<(Weight, Split)>> {
    let is_by_name = match &node.kind {
        Kind::Map(entries) => entries.iter().any(|entry| step_weight(&entry.key).is_some()),
        Kind::Null | Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) | Kind::Seq(_) => false,
    };
    if is_by_name {
        return reader.named(node, STAGES_MAX, |reader, entry| {
            let weight = named_step(reader, entry.key_span, &entry.key);
            Some((weight?, split(reader, &entry.value)?))
        });
    }
    let split = split(reader, node)?;
    let mut steps = evidence.stages.keys().chain(&evidence.step).filter(|weight| weight.is_split());
    let Some(weight) = steps.next() else {
        let help = Some("write a stage with its weight".to_owned());
        reader.fault_with_help(node.span, "there is no split step whose shares these could be", help);
        return None;
    };
    if steps.any(|another| another != weight) {
        let help = Some("write them in each stage, or by step: `{1%: {extracted: …, legacy: …}, 5%: …}`".to_owned());
        reader.fault_with_help(node.span, "there are several steps, each with shares of its own", help);
        return None;
    }
    Some(vec![(*weight, split)])
}

fn comparisons<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Comparisons> {
    let fields = reader.fields(node, &keys::COMPARISONS)?;
    let compared = reader.key(&fields, "compared", seen);
    let mismatched = reader.key(&fields, "mismatched", seen);
    if compared.is_none() && mismatched.is_some_and(|it| it.value > 0) {
        reader.fault(fields.span_or(node), "of how many comparisons? write `compared`");
    }
    at_most(reader, "mismatched", mismatched, "compared", compared);
    let burst = reader.key(&fields, "burst", seen);
    Some(Comparisons { compared: value(compared), mismatched: value(mismatched), burst: value(burst) })
}

fn before<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Before> {
    let fields = reader.fields(node, &keys::BEFORE)?;
    let (units, errors) = (reader.key(&fields, "units", seen), reader.key(&fields, "errors", seen));
    at_most(reader, "errors", errors, "units", units);
    Some(Before { units: value(units), errors: value(errors) })
}

fn coverage_result<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<CoverageResult> {
    let fields = reader.fields(node, &keys::COVERAGE_RESULT)?;
    let passed = reader.key(&fields, "passed", Reader::bool);
    let missing = value(reader.key(&fields, "missing", seen));
    Some(CoverageResult { passed: passed?.value, missing })
}

fn external<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<External> {
    let words = [("met", External::Met), ("no_data", External::NoData), ("exceeded", External::Exceeded)];
    reader.one_of(node, &words, &[])
}
