//! Keys of a comparison.

use super::{Block, COUNT, Key, Shape};

/// How the two answers are compared.
pub(in crate::raw) static COMPARE: Block = Block {
    name: "compare",
    about: "How the two answers are compared. An empty map compares everything, strictly.",
    keys: &[
        Key::fixed_list("during", &["shadow", "canary"], "In which stages."),
        Key::optional(
            "a_a",
            Shape::Block(&A_A),
            "",
            "Legacy asked twice, to learn how it differs from itself. Never of what must not be repeated.",
        ),
        Key::optional(
            "settle",
            Shape::Duration,
            "3s",
            "After a write, the same caller's answers are not compared for so long: copies of data lag behind. `0s`: they are.",
        ),
        Key::optional("recheck", Shape::Block(&RECHECK), "", "Both sides asked again when answers differ."),
        Key::optional(
            "status",
            Shape::OneOf(&["exact", "class"]),
            "exact",
            "How closely statuses must agree: exactly, or in their first digit.",
        ),
        Key::optional(
            "status_map",
            Shape::MapOf(&Shape::Status),
            "",
            "Statuses of legacy that extracted says otherwise, as in `{201: 200}`.",
        ),
        Key::optional("headers", Shape::Block(&COMPARE_HEADERS), "", "Which headers are compared."),
        Key::optional("body", Shape::Block(&COMPARE_BODY), "", "How much of the bodies is compared."),
        Key::optional("json", Shape::Block(&COMPARE_JSON), "", "How JSON bodies are compared."),
        Key::optional(
            "rules",
            Shape::List(&Shape::Block(&COMPARE_RULE)),
            "[]",
            "What is forgiven, in order; the first rule whose path matches decides.",
        ),
        Key::optional("keep", Shape::Block(&COMPARE_KEEP), "", "What is stored of a pair that differed."),
        Key::optional("verdict", Shape::Block(&VERDICT), "", "When evidence suffices."),
    ],
};

pub(in crate::raw) static A_A: Block = Block {
    name: "a_a",
    about: "Legacy asked twice, to learn how it differs from itself.",
    keys: &[
        Key::optional(
            "mode",
            Shape::OneOf(&["on_mismatch", "never"]),
            "on_mismatch",
            "`on_mismatch`: when answers differ, and for the sample. `never`: neither.",
        ),
        Key::optional(
            "sample",
            Shape::Any(&[Shape::OneOf(&["auto"]), Shape::Weight]),
            "auto",
            "Requests for which legacy is asked twice whatever the answers are. `auto`: as many as `max_rps` lets through until every field has a verdict, then `1%`.",
        ),
        Key::optional(
            "max_rps",
            Shape::Count(1, 10_000),
            "5",
            "Further requests to legacy a second, for samples and second looks together; what is beyond is left out and counted.",
        ),
        Key::fixed("order", &["random"], &[], "Which of legacy and extracted is asked first is drawn each time."),
    ],
};

pub(in crate::raw) static RECHECK: Block = Block {
    name: "recheck",
    about: "Both sides asked again when answers differ: what is equal then was late, and not wrong.",
    keys: &[
        Key::optional("times", Shape::Count(0, 5), "1", "How often."),
        Key::optional("delay", Shape::Duration, "2s", "How long each waits; at most 60s."),
    ],
};

pub(in crate::raw) static VERDICT: Block = Block {
    name: "verdict",
    about: "When evidence suffices.",
    keys: &[
        Key::optional("min_pairs", COUNT, "200", "With fewer requests asked of legacy twice nothing is said."),
        Key::optional("alpha", Shape::Text, "0.01", "Chance of a false alarm of one field, however long it runs."),
        Key::optional(
            "min_effect",
            Shape::Text,
            "0.001",
            "Smallest rise of the rate of differences that is worth an alarm.",
        ),
        Key::optional("fdr", Shape::Text, "0.05", "Part of false alarms among those of an endpoint."),
    ],
};

pub(in crate::raw) static COMPARE_HEADERS: Block = Block {
    name: "compared headers",
    about: "Which headers are compared.",
    keys: &[
        Key::optional(
            "mode",
            Shape::OneOf(&["listed", "all"]),
            "listed",
            "Only the listed ones, or all but the volatile ones and those that frame a message.",
        ),
        Key::optional(
            "listed",
            Shape::List(&Shape::HeaderName),
            "[content-type, location, cache-control, vary, www-authenticate, allow, retry-after, link]",
            "Their names.",
        ),
        Key::optional(
            "volatile",
            Shape::Any(&[Shape::OneOf(&["default"]), Shape::List(&Shape::HeaderName)]),
            "default",
            "With `mode: all`: headers whose values differ by nature, as `date` does. `default` is a list of the usual ones.",
        ),
        Key::optional(
            "presence",
            Shape::OneOf(&["warn", "report", "ignore"]),
            "warn",
            "What a volatile header on one side only is: shown beside differences, a difference, or nothing.",
        ),
        Key::fixed(
            "location",
            &["path"],
            &[],
            "Of `Location` the path is compared: the sides have hosts of their own.",
        ),
        Key::fixed("set_cookie", &["names_and_attributes"], &[], "Of `Set-Cookie` no value is compared."),
    ],
};

pub(in crate::raw) static COMPARE_BODY: Block = Block {
    name: "compared bodies",
    about: "How much of the bodies is compared.",
    keys: &[
        Key::optional(
            "max_bytes",
            Shape::Size,
            "1MiB",
            "Largest body compared by content, before and after decoding; a larger one is compared by hash.",
        ),
        Key::fixed_list("decode", &["gzip", "br", "zstd"], "Content encodings undone first."),
        Key::fixed("over_limit", &["hash"], &[], "Larger bodies are compared by hash."),
        Key::fixed(
            "types",
            &["auto"],
            &[],
            "By media type: JSON, HTML, XML, forms, texts, event streams, gRPC; anything else by its bytes.",
        ),
    ],
};

pub(in crate::raw) static COMPARE_JSON: Block = Block {
    name: "compared json",
    about: "How JSON bodies are compared.",
    keys: &[
        Key::optional(
            "array_order",
            Shape::OneOf(&["strict", "ignore"]),
            "strict",
            "Whether order is part of an array, where no rule says otherwise.",
        ),
        Key::optional(
            "numeric",
            Shape::OneOf(&["value", "typed"]),
            "value",
            "`value`: 1 equals 1.0, by decimal value. `typed`: they are of two types.",
        ),
        Key::optional(
            "extra_fields",
            Shape::OneOf(&["report", "allow"]),
            "report",
            "What a member is that only extracted has: a difference, or nothing.",
        ),
        Key::optional("null_equals_absent", Shape::Bool, "false", "Whether null equals a member that is not there."),
        Key::optional(
            "string_number",
            Shape::OneOf(&["strict", "equal"]),
            "strict",
            "Whether \"1\" is something else than 1, or the same.",
        ),
    ],
};

pub(in crate::raw) static COMPARE_RULE: Block = Block {
    name: "compare rule",
    about: "One thing done at one place: exactly one of the keys but `path`, `within`, `until` and `reason`.",
    keys: &[
        Key::required(
            "path",
            Shape::Pointer,
            "A JSON pointer; `*` is one segment, `**` any number. Whole segments, anchored.",
        ),
        Key::optional("ignore", Shape::Bool, "", "`true`: the whole subtree is left out."),
        Key::optional(
            "array_order",
            Shape::OneOf(&["strict", "ignore"]),
            "",
            "`ignore`: elements of this array, and of all below it, are paired wherever they stand.",
        ),
        Key::optional("array_key", Shape::Text, "", "Elements of this array are paired by this member of theirs."),
        Key::optional("tolerance", Shape::Block(&COMPARE_TOLERANCE), "", "Numbers may be this far apart."),
        Key::optional("matches", Shape::Text, "", "Values may differ if both match this expression."),
        Key::optional("compare", Shape::OneOf(&["type"]), "", "`type`: values may differ if both are of one type."),
        Key::optional(
            "as",
            Shape::OneOf(&["timestamp", "uuid"]),
            "",
            "`timestamp`: both must be moments, at most `within` apart. `uuid`: both must be UUIDs.",
        ),
        Key::optional("within", Shape::Duration, "0s", "With `as: timestamp`: how far the moments may be apart."),
        Key::optional(
            "expect",
            Shape::OneOf(&[
                "value",
                "type",
                "missing",
                "extra",
                "array_order",
                "array_length",
                "array_content",
                "format",
                "duplicate_key",
            ]),
            "",
            "A difference of this kind is wanted here, and counted as `expected`.",
        ),
        Key::optional("map", Shape::MapOf(&Shape::Text), "", "Values of legacy, and what extracted says instead."),
        Key::optional("until", Shape::Text, "", "The last day on which the rule holds, as in `2026-12-01` (UTC)."),
        Key::optional("reason", Shape::Text, "", "Why the rule is there; shown, never acted on."),
    ],
};

pub(in crate::raw) static COMPARE_TOLERANCE: Block = Block {
    name: "compare tolerance",
    about: "How far two numbers may be apart: in value, or as a part of the larger one; one of the two is enough.",
    keys: &[
        Key::optional("abs", Shape::Text, "0", "In value, as in `0.01`."),
        Key::optional("rel", Shape::Text, "0", "As a part of the larger one: `0.01` is one percent."),
    ],
};

pub(in crate::raw) static COMPARE_KEEP: Block = Block {
    name: "kept divergences",
    about: "What is stored of a pair that differed.",
    keys: &[
        Key::optional(
            "values",
            Shape::List(&Shape::Pointer),
            "[]",
            "Whose values may be stored as they are; every other value is stored as type, length and keyed hash.",
        ),
        Key::optional("per_signature", COUNT, "20", "Pairs kept per route and kind of difference."),
        Key::optional(
            "target",
            Shape::List(&Shape::Text),
            "[]",
            "Parameters of the path and of the query whose values may be stored as they are (`*`: all), so that a pair can be replayed; what looks like a secret never is.",
        ),
        Key::optional(
            "how",
            Shape::OneOf(&["reservoir", "newest"]),
            "reservoir",
            "Which pairs are kept when there are more: some of now and some of before, or the newest.",
        ),
        Key::optional("max_age", Shape::Duration, "24h", "Age at which a stored pair goes."),
        Key::optional(
            "max_bytes",
            Shape::Size,
            "1GiB",
            "Largest size of all stored pairs of the route; the oldest go. At most 1GiB.",
        ),
    ],
};
