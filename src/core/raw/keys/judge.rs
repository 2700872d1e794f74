//! Keys of the gates, and of the evidence that `strangler judge` reads.

use super::rollout::{COVERAGE_GATE, ERRORS_GATE, LATENCY_GATE, MISMATCH_GATE, NEVER};
use super::{Block, Key, Shape};

/// Largest count of evidence; twice as many are still exact.
const EVIDENCE_MAX: u64 = 1 << 52;
const SEEN: Shape = Shape::Count(0, EVIDENCE_MAX);

/// A file of evidence.
pub static EVIDENCE: Block = Block {
    name: "evidence",
    about: "What `strangler judge` reads: gates, and counts to hold against them. Every part may be left out; what is missing is no pass.",
    keys: &[
        Key::optional(
            "gates",
            Shape::Block(&EVIDENCE_GATES),
            "",
            "What must be proven. Default: `errors`, and `latency`, `mismatch` and `coverage` where there is evidence of them.",
        ),
        Key::optional(
            "not_applicable",
            Shape::Block(&NOT_APPLICABLE),
            "",
            "Gates that this route cannot have, each with the reason: not demanded, and said.",
        ),
        Key::optional(
            "step",
            Shape::Text,
            "",
            "The step that is judged: `shadow` or a weight. Default: the highest of `stages`.",
        ),
        Key::optional(
            "stages",
            Shape::List(&Shape::Block(&STAGE)),
            "[]",
            "What was seen at each weight; the order means nothing.",
        ),
        Key::optional("comparisons", Shape::Block(&COMPARISONS), "", "Comparisons of the two answers to one request."),
        Key::optional(
            "assignments",
            SPLITS,
            "",
            "Distinct keys that were assigned at the only split step, or of each step by its name.",
        ),
        Key::optional("completions", SPLITS, "", "Likewise, those of which an answer came to its end."),
        Key::optional("before", Shape::Block(&BEFORE), "", "Legacy alone, before the first user was moved."),
        Key::optional("late_alarms", SEEN, "0", "Alarms of late regressions that nobody has dealt with."),
        Key::optional("coverage", Shape::Block(&COVERAGE_RESULT), "", "What the coverage gate said."),
        Key::optional(
            "external",
            Shape::OneOf(&["met", "no_data", "exceeded"]),
            "",
            "What the queries of `prometheus` said, the worst of them.",
        ),
        Key::optional("external_why", Shape::Text, "", "In words, which of them, and what."),
    ],
};

/// `gates:`. Those of a rollout, and what a rollout does not take yet.
pub(in crate::raw) static EVIDENCE_GATES: Block = Block {
    name: "gates",
    about: "What must be proven before the weight rises. Here a gate that is not written is not asked for.",
    keys: &[
        Key::optional(
            "errors",
            Shape::Any(&[NEVER, Shape::Block(&ERRORS_GATE)]),
            "",
            "Failures, against legacy's at the same time.",
        ),
        Key::optional(
            "latency",
            Shape::Any(&[NEVER, Shape::Block(&LATENCY_GATE)]),
            "",
            "Slow answers, by legacy's own quantiles.",
        ),
        Key::optional(
            "mismatch",
            Shape::Any(&[NEVER, Shape::Block(&MISMATCH_GATE)]),
            "",
            "Comparisons that mismatch, confirmed or beyond confirming.",
        ),
        Key::optional(
            "coverage",
            Shape::Any(&[NEVER, Shape::Block(&COVERAGE_GATE)]),
            "",
            "What must have been compared.",
        ),
        Key::optional(
            "prometheus",
            Shape::List(&Shape::Block(&QUERY)),
            "[]",
            "Queries that may veto, and never promote.",
        ),
        Key::optional("slo", Shape::Block(&SLO), "", "An objective for when there is no legacy side any more."),
    ],
};

pub(in crate::raw) static QUERY: Block = Block {
    name: "query",
    about: "A query that may veto.",
    keys: &[
        Key::required("query", Shape::Text, "In PromQL; one series, or a scalar."),
        Key::optional("max", Shape::Number, "", "The largest value that lets it rise. This, or `min`, or both."),
        Key::optional("min", Shape::Number, "", "The smallest value that lets it rise."),
        Key::optional(
            "no_data",
            Shape::OneOf(&["hold", "pass"]),
            "hold",
            "What it means when there is no one number: no data, NaN, several series, a server that is silent or slow.",
        ),
        Key::optional(
            "url",
            Shape::WebUrl,
            "`prometheus.url` of strangler.yaml",
            "The server: `https://`, or `http://` for a loopback or private address.",
        ),
        Key::optional("every", Shape::Duration, "30s", "How often it is asked, from 1s to 1h."),
        Key::optional("timeout", Shape::Duration, "10s", "Longest wait for its answer, at most 1h."),
    ],
};

pub(in crate::raw) static SLO: Block = Block {
    name: "slo",
    about: "An objective.",
    keys: &[Key::required("success", Shape::Weight, "Part of the units that must not fail, as in `99.9%`.")],
};

pub(in crate::raw) static NOT_APPLICABLE: Block = Block {
    name: "not applicable",
    about: "Gates that this route cannot have.",
    keys: &[
        Key::optional("errors", Shape::Text, "", "Why."),
        Key::optional("latency", Shape::Text, "", "Why."),
        Key::optional("mismatch", Shape::Text, "", "Why, as in `unsafe methods are not compared`."),
        Key::optional("coverage", Shape::Text, "", "Why."),
        Key::optional("prometheus", Shape::Text, "", "Why."),
        Key::optional("slo", Shape::Text, "", "Why."),
    ],
};

pub(in crate::raw) static STAGE: Block = Block {
    name: "stage",
    about: "What was seen at one weight.",
    keys: &[
        Key::optional("step", Shape::Text, "", "What it is called: `shadow`, or its weight."),
        Key::optional(
            "weight",
            Shape::Any(&[Shape::Number, Shape::Weight]),
            "",
            "The part of the units that was assigned to extracted, as in `0.05` or `5%`. Default: as `step` says.",
        ),
        Key::optional("extracted", Shape::Block(&COUNTS), "", "Units that were assigned to extracted."),
        Key::optional("legacy", Shape::Block(&COUNTS), "", "Units that were assigned to legacy at the same time."),
        Key::optional(
            "warmup",
            Shape::Block(&PAIR),
            "",
            "Those of the first two minutes, beside these: they count against extracted and not for it.",
        ),
        Key::optional(
            "by_itself",
            Shape::Block(&PAIR),
            "",
            "`units`, `errors` and `timed` of this step by itself: each key once, counted at an earlier step or not. Default: what stands above.",
        ),
        Key::optional("assignments", Shape::Block(&SPLIT), "", "Distinct keys that were assigned."),
        Key::optional("completions", Shape::Block(&SPLIT), "", "Those of which an answer came to its end."),
        Key::optional("seconds", SEEN, "", "How long the weight has been in force; for forecasts."),
        Key::optional(
            "burst",
            SEEN,
            "0",
            "Of extracted's failures, those of the worst four seconds: they send nothing back.",
        ),
    ],
};

pub(in crate::raw) static PAIR: Block = Block {
    name: "sides",
    about: "Counts of both sides.",
    keys: &[
        Key::optional("extracted", Shape::Block(&COUNTS), "", "Of extracted."),
        Key::optional("legacy", Shape::Block(&COUNTS), "", "Of legacy."),
    ],
};

pub(in crate::raw) static COUNTS: Block = Block {
    name: "counts",
    about: "Counts of one side. A unit is a sticky key, or a request of a client without one; its first failure counts, once in a release.",
    keys: &[
        Key::optional("units", SEEN, "", "Distinct units."),
        Key::optional("errors", SEEN, "", "Those that failed."),
        Key::optional("timed", SEEN, "", "Those whose time was taken. Default: `units`, where a slow one is counted."),
        Key::optional("slow_p50", SEEN, "", "Those with an answer above legacy's median."),
        Key::optional("slow_p95", SEEN, "", "Above its 95th percentile."),
        Key::optional("slow_p99", SEEN, "", "Above its 99th percentile."),
        Key::optional(
            "classed",
            SEEN,
            "",
            "Those whose status class was taken. Default: `units`, where a class is counted.",
        ),
        Key::optional("status_3xx", SEEN, "", "Those with an answer of 3xx, but 304."),
        Key::optional("status_4xx", SEEN, "", "Those with an answer of 4xx."),
    ],
};

pub(in crate::raw) static SPLIT: Block = Block {
    name: "split",
    about: "Distinct keys on each side.",
    keys: &[Key::optional("extracted", SEEN, "", "On extracted."), Key::optional("legacy", SEEN, "", "On legacy.")],
};

/// Of one step, or of each by its name.
const SPLITS: Shape = Shape::Any(&[Shape::Block(&SPLIT), Shape::MapOf(&Shape::Block(&SPLIT))]);

pub(in crate::raw) static COMPARISONS: Block = Block {
    name: "comparisons",
    about: "Outcomes of comparisons.",
    keys: &[
        Key::optional("compared", SEEN, "", "Pairs of which something could be said."),
        Key::optional("mismatched", SEEN, "", "Those that mismatched, confirmed or beyond confirming."),
        Key::optional("burst", SEEN, "0", "Of these, those of the worst four seconds: they send nothing back."),
    ],
};

pub(in crate::raw) static BEFORE: Block = Block {
    name: "before",
    about: "Legacy alone.",
    keys: &[
        Key::optional("units", SEEN, "", "Distinct units."),
        Key::optional("errors", SEEN, "", "Those that failed."),
    ],
};

pub(in crate::raw) static COVERAGE_RESULT: Block = Block {
    name: "coverage result",
    about: "What the coverage gate said.",
    keys: &[
        Key::required("passed", Shape::Bool, "Whether nothing is missing."),
        Key::optional("missing", SEEN, "", "How many things have too few comparisons."),
    ],
};
