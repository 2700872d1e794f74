//! Keys of a comparison.

use super::{Block, COUNT, Key, Shape};

/// How the two answers are compared.
pub(in crate::raw) static COMPARE: Block = Block {
    name: "compare",
    about: "How the two answers are compared. An empty map compares everything, strictly.",
    keys: &[
        Key::fixed_list("during", &["shadow", "canary"], "In which stages."),
        Key::not_yet("a_a", "Legacy asked twice, to learn its noise."),
        Key::not_yet("settle", "Silence after a write by the same caller."),
        Key::not_yet("recheck", "Both sides asked again after a mismatch."),
        Key::fixed("status", &["exact"], &["class"], "Statuses are compared as they are."),
        Key::not_yet("status_map", "Statuses that stand for each other."),
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
        Key::not_yet("verdict", "When evidence suffices."),
    ],
};

pub(in crate::raw) static COMPARE_HEADERS: Block = Block {
    name: "compared headers",
    about: "Which headers are compared.",
    keys: &[
        Key::fixed("mode", &["listed"], &["all"], "Only the listed ones."),
        Key::optional(
            "listed",
            Shape::List(&Shape::HeaderName),
            "[content-type, location, cache-control, vary, www-authenticate, allow, retry-after, link]",
            "Their names.",
        ),
        Key::not_yet("volatile", "Headers that differ by nature."),
        Key::not_yet("presence", "What a header on one side only counts for."),
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
        Key::not_yet("types", "Which kinds of bodies are compared structurally."),
    ],
};

pub(in crate::raw) static COMPARE_JSON: Block = Block {
    name: "compared json",
    about: "How JSON bodies are compared.",
    keys: &[
        Key::fixed("array_order", &["strict"], &["ignore"], "Order is part of an answer."),
        Key::fixed("numeric", &["value"], &["text"], "1 equals 1.0."),
        Key::fixed("extra_fields", &["report"], &["ignore"], "A field on one side only is a difference."),
        Key::fixed("null_equals_absent", &["false"], &["true"], "null is not absent."),
        Key::fixed("string_number", &["strict"], &["ignore"], "\"1\" is not 1."),
    ],
};

pub(in crate::raw) static COMPARE_RULE: Block = Block {
    name: "compare rule",
    about: "One thing forgiven at one place.",
    keys: &[
        Key::required(
            "path",
            Shape::Pointer,
            "A JSON pointer; `*` is one segment, `**` any number. Whole segments, anchored.",
        ),
        Key::optional("ignore", Shape::Bool, "", "`true`: the whole subtree is left out."),
        Key::not_yet("array_order", "Order within this array is forgiven."),
        Key::not_yet("array_key", "Elements of this array are paired by a key."),
        Key::not_yet("tolerance", "Numbers may differ by this much."),
        Key::not_yet("matches", "Both values must match."),
        Key::not_yet("compare", "Only the type is compared."),
        Key::not_yet("as", "Values are read as this kind of thing."),
        Key::not_yet("within", "Times may differ by this much."),
        Key::not_yet("expect", "A difference that is wanted."),
        Key::not_yet("until", "The day after which the rule no longer holds."),
        Key::not_yet("reason", "Why the rule is there."),
        Key::not_yet("map", "Values that stand for each other."),
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
        Key::not_yet("how", "Which pairs are kept when there are more."),
        Key::optional("max_age", Shape::Duration, "24h", "Age at which a stored pair goes."),
        Key::not_yet("max_bytes", "Largest size of all stored pairs."),
    ],
};
