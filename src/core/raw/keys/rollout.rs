//! Keys of a rollout.

use super::{Block, COUNT, Key, Shape};

const STEP: Shape = Shape::Any(&[Shape::OneOf(&["shadow"]), Shape::Weight]);
pub(super) const NEVER: Shape = Shape::OneOf(&["never"]);

pub(in crate::raw) static ROLLOUT: Block = Block {
    name: "rollout",
    about: "The weight moves by evidence. An empty map climbs the usual steps through the usual gates.",
    keys: &[
        Key::optional(
            "steps",
            Shape::List(&STEP),
            "[shadow, 1%, 5%, 10%, 25%, 50%, 100%], without `shadow` where the route is not copied and compared",
            "The ladder, rising.",
        ),
        Key::optional("step", Shape::Block(&STEP_KEYS), "", "What every step takes, whatever the gates say."),
        Key::optional("gates", Shape::Block(&GATES), "", "What must be proven; unproven means: it stays where it is."),
        Key::optional(
            "roll_back_to",
            Shape::OneOf(&["shadow", "legacy", "previous_step"]),
            "shadow",
            "Where a rollback goes; it rises again by `resume` or with another release only.",
        ),
        Key::optional("approve", Shape::List(&STEP), "[]", "Steps that a person must let it enter."),
        Key::optional(
            "four_eyes",
            Shape::Bool,
            "false",
            "Whether that must be somebody who has not set the route by hand since its step began: held, resumed, approved or rolled it back, \
             or had its file loaded.",
        ),
        Key::optional(
            "window",
            Shape::Text,
            "always",
            "When it may rise, as in `Mon-Thu 09:00-16:00 Europe/Berlin`; lowering is never held back.",
        ),
        Key::optional(
            "freeze",
            Shape::List(&Shape::Text),
            "[]",
            "Days on which it may not rise, as in `2026-11-27/2026-12-01`, both included, in the window's zone, else in UTC.",
        ),
        Key::optional(
            "needs",
            Shape::List(&Shape::Text),
            "[]",
            "Routes that must have come so far first, as in `users@100%`.",
        ),
        Key::optional(
            "from",
            Shape::Weight,
            "",
            "Where the extracted service owns the data (required there, and nowhere else): what users get where nothing is known of how \
             far it has come, as in a new state directory. Never less than what it has come to, or they would find what is stale.",
        ),
        Key::optional("bake", Shape::Block(&BAKE), "", "What comes after the last step."),
        Key::optional(
            "hooks",
            Shape::List(&Shape::Block(&super::HOOK)),
            "[]",
            "Signed webhooks: asked before a raise, or told after a move.",
        ),
        Key::optional("notify", Shape::List(&Shape::Block(&super::NOTIFY)), "[]", "Who is told of what."),
        Key::optional(
            "slo",
            Shape::Block(&super::SLO),
            "",
            "What must hold once there is no legacy side to compare with: at 100%, and a rollback by it obeys `data`.",
        ),
    ],
};

pub(in crate::raw) static BAKE: Block = Block {
    name: "bake",
    about: "After the last step a part of users stays with legacy for a while, so that what goes wrong late is seen, and goes back.",
    keys: &[
        Key::required("for", Shape::Duration, "How long, as in `14d`; time in which the proxy runs."),
        Key::optional(
            "holdback",
            Shape::Weight,
            "1%, and 0% where the extracted service owns the data",
            "Part of users that legacy answers meanwhile; at most 50%. `0%`: none, so that nothing can be compared.",
        ),
    ],
};

pub(in crate::raw) static STEP_KEYS: Block = Block {
    name: "step",
    about: "What every step takes, whatever the gates say.",
    keys: &[
        Key::optional("at_least", Shape::Duration, "10m", "Time at a step, while the proxy runs."),
        Key::optional(
            "warmup",
            Shape::Duration,
            "2m",
            "How long caches may be cold after a raise: what is seen then counts against extracted and not for it.",
        ),
        Key::optional(
            "min_requests",
            COUNT,
            "300",
            "Requests of different users that extracted was asked at a step; comparisons at the shadow step.",
        ),
    ],
};

pub(in crate::raw) static GATES: Block = Block {
    name: "gates",
    about: "What must be proven before the next step.",
    keys: &[
        Key::optional(
            "errors",
            Shape::Any(&[NEVER, Shape::Block(&ERRORS_GATE)]),
            "on",
            "Extracted does not fail more often than legacy does at the same time, by more than a margin.",
        ),
        Key::optional(
            "latency",
            Shape::Any(&[NEVER, Shape::Block(&LATENCY_GATE)]),
            "on",
            "Extracted is not slower than legacy, measured at legacy's own p50, p95 and p99.",
        ),
        Key::optional(
            "mismatch",
            Shape::Any(&[NEVER, Shape::Block(&MISMATCH_GATE)]),
            "on where the route is compared",
            "Few answers differ.",
        ),
        Key::optional(
            "coverage",
            Shape::Any(&[NEVER, Shape::Block(&COVERAGE_GATE)]),
            "on where the route is compared",
            "What legacy serves has been compared.",
        ),
        Key::optional(
            "prometheus",
            Shape::List(&Shape::Block(&super::QUERY)),
            "[]",
            "Queries to a Prometheus server that may hold a raise, and do nothing else.",
        ),
    ],
};

pub(in crate::raw) static ERRORS_GATE: Block = Block {
    name: "errors gate",
    about: "How much more often extracted may fail.",
    keys: &[Key::optional(
        "worse_by",
        Shape::Points,
        "2pp below 5%, 1pp below 25%, 0.5pp from there on",
        "In percentage points of all requests, as in `0.5pp`.",
    )],
};

pub(in crate::raw) static LATENCY_GATE: Block = Block {
    name: "latency gate",
    about: "How many more answers may be slow.",
    keys: &[Key::optional(
        "more_slow_by",
        Shape::Weight,
        "25%",
        "Relative rise of the part of requests above legacy's p50, p95 and p99, as in `25%`.",
    )],
};

pub(in crate::raw) static MISMATCH_GATE: Block = Block {
    name: "mismatch gate",
    about: "How many comparable answers may differ.",
    keys: &[Key::optional("at_most", Shape::Weight, "0.1%", "Part of the comparisons; at least 0.01%.")],
};

pub(in crate::raw) static COVERAGE_GATE: Block = Block {
    name: "coverage gate",
    about: "How much of what legacy serves has been compared.",
    keys: &[Key::optional(
        "min_each",
        COUNT,
        "20",
        "Comparisons of each method, class of status and set of parameters that has at least 0.1% of legacy's traffic.",
    )],
};
