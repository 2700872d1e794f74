//! Every key of `routes.yaml` and `strangler.yaml`, once: what the walk accepts and what the schema says come from the same rows.

mod compare;
mod hooks;
mod judge;
mod rollout;
mod route;
mod server;
mod upstream;

use crate::raw::fall_through::TEMPLATES_MAX;
use crate::raw::leaf::{COUNT_MAX, TIMES_MAX};

pub(in crate::raw) use compare::COMPARE;
pub(in crate::raw) use compare::{
    A_A, COMPARE_BODY, COMPARE_HEADERS, COMPARE_JSON, COMPARE_KEEP, COMPARE_RULE, COMPARE_TOLERANCE, RECHECK, VERDICT,
};
pub(in crate::raw) use hooks::{HOOK, NOTIFY};
pub use judge::EVIDENCE;
pub(in crate::raw) use judge::{
    BEFORE, COMPARISONS, COUNTS, COVERAGE_RESULT, EVIDENCE_GATES, NOT_APPLICABLE, PAIR, QUERY, SLO, SPLIT, STAGE,
};
pub(in crate::raw) use rollout::{
    BAKE, COVERAGE_GATE, ERRORS_GATE, GATES, LATENCY_GATE, MISMATCH_GATE, ROLLOUT, STEP_KEYS,
};
pub(in crate::raw) use route::{
    AFFINITY, BREAKER, CONDITION, EXTRACTED, FALLBACK, HEADER_EDITS, IDEMPOTENCY, LOCATE, LOCATE_RULE, MATCH, OVERRIDE,
    PATH_REGEX, RATE_LIMIT, REWRITE, ROUTE, SAFE_POST, SHADOW, SHADOW_BREAKER, SUCCESS, UNSAFE, VERIFY_READ,
};
pub use server::SERVER;
pub(in crate::raw) use server::{
    ACCESS_LOG, ADMIN, CERTIFICATE, DRAIN, HEADERS_MAX, LIMITS, LISTENER, LISTENER_TLS, PROMETHEUS, RATE_MAX, STORE,
    TELEMETRY, THREADS_MAX,
};
pub(in crate::raw) use upstream::{HEALTH_CHECK, OUTLIER_DETECTION, OWN_NAMES, RETRY, TIMEOUTS, TLS, UPSTREAM};

/// The keys of one kind of map.
#[derive(Debug)]
pub struct Block {
    /// What it is called in the schema's `$defs`.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// All of its keys, those of later issues included.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it does, for people.
    pub about: &'static str,
    /// What holds when it is not written; empty: nothing worth a word.
    pub default: &'static str,
}

/// What a key takes.
#[derive(Debug)]
pub enum Takes {
    /// It must be there.
    Required(Shape),
    /// It may be there.
    Optional(Shape),
    /// What is done anyhow, and what will be a choice in a later version.
    Fixed {
        /// The only value taken, or the items of the only list.
        now: &'static [&'static str],
        /// Values that are known and not built.
        later: &'static [&'static str],
        /// Whether it is written as a list.
        is_list: bool,
    },
    /// Known and not built: refused as such.
    NotYet,
}

/// What a value looks like.
#[derive(Debug)]
pub enum Shape {
    /// Any text.
    Text,
    /// `[a-z0-9-]{1,63}`.
    Name,
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// `30s`, `250ms`.
    Duration,
    /// `64KiB`, `1MiB`, or bytes.
    Size,
    /// `5%`.
    Weight,
    /// `0.5pp`.
    Points,
    /// Any number.
    Number,
    /// `http://host:port`.
    Url,
    /// `https://host/path?query`.
    WebUrl,
    /// A path template.
    Path,
    /// `GET /path`.
    MatchLine,
    /// A regular expression.
    Regex,
    /// A method, in capitals.
    Method,
    /// A JSON pointer with `*` and `**`.
    Pointer,
    /// `2xx` or `404`.
    Status,
    /// The name of a header.
    HeaderName,
    /// `header:x-user-id` or `cookie:SHOPSID`.
    KeySource,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of these.
    List(&'static Shape),
    /// A map with names of the writer's choice.
    MapOf(&'static Shape),
    /// A map with our keys.
    Block(&'static Block),
    /// One of several forms.
    Any(&'static [Shape]),
}

impl Key {
    const fn required(name: &'static str, shape: Shape, about: &'static str) -> Key {
        Key { name, takes: Takes::Required(shape), about, default: "" }
    }

    const fn optional(name: &'static str, shape: Shape, default: &'static str, about: &'static str) -> Key {
        Key { name, takes: Takes::Optional(shape), about, default }
    }

    const fn fixed(
        name: &'static str,
        now: &'static [&'static str],
        later: &'static [&'static str],
        about: &'static str,
    ) -> Key {
        Key { name, takes: Takes::Fixed { now, later, is_list: false }, about, default: "" }
    }

    const fn fixed_list(name: &'static str, now: &'static [&'static str], about: &'static str) -> Key {
        Key { name, takes: Takes::Fixed { now, later: &[], is_list: true }, about, default: "" }
    }

    const fn not_yet(name: &'static str, about: &'static str) -> Key {
        Key { name, takes: Takes::NotYet, about, default: "" }
    }
}

/// The file.
pub static CONFIG: Block = Block {
    name: "routes.yaml",
    about: "What strangler routes where. Everything that no route covers falls through to `legacy`.",
    keys: &[
        Key::required("version", Shape::OneOf(&["1"]), "Version of this format."),
        Key::optional("upstreams", Shape::MapOf(&Shape::Block(&UPSTREAM)), "", "Named groups of endpoints."),
        Key::required("legacy", TARGET, "The monolith: a URL, or the name of an upstream."),
        Key::optional(
            "fall_through",
            Shape::Block(&FALL_THROUGH),
            "",
            "What is learned of the paths that no route covers.",
        ),
        Key::optional(
            "journeys",
            Shape::MapOf(&Shape::Block(&JOURNEY)),
            "",
            "Routes that share one assignment of users to sides.",
        ),
        Key::optional(
            "defaults",
            Shape::Block(&DEFAULTS),
            "",
            "Fill the missing keys of a block that a route writes; they switch nothing on.",
        ),
        Key::optional(
            "removed",
            Shape::List(&Shape::Name),
            "[]",
            "Names of routes taken out on purpose: without this, a reload that misses a route with weight is refused as half-written.",
        ),
        Key::optional(
            "routes",
            Shape::List(&Shape::Block(&ROUTE)),
            "[]",
            "The covered paths. Their order means nothing.",
        ),
    ],
};

/// A URL or an upstream's name.
pub(in crate::raw) const TARGET: Shape = Shape::Any(&[Shape::Url, Shape::Name]);

pub(in crate::raw) static FALL_THROUGH: Block = Block {
    name: "fall_through",
    about: "What is learned of the paths that no route covers: `strangler endpoints` tells it.",
    keys: &[
        Key::optional("discover", Shape::Bool, "true", "Whether their paths are learned as templates."),
        Key::optional(
            "max_templates",
            Shape::Count(1, TEMPLATES_MAX),
            "10000",
            "Most templates with a method; what finds no room is counted.",
        ),
        Key::optional(
            "declared",
            Shape::List(&Shape::MatchLine),
            "[]",
            "Endpoints that are known, as in `[\"POST /newsletter\"]`: those that nobody asks for are named, and those that are asked and not among them.",
        ),
    ],
};

pub(in crate::raw) static JOURNEY: Block = Block {
    name: "journey",
    about: "Routes that share one assignment: equal weights move together, unequal ones nest.",
    keys: &[
        Key::optional(
            "sticky_on",
            Shape::List(&Shape::KeySource),
            "[]: the proxy's own cookie `strangler_id`",
            "Where a caller's key is looked for; the first one present counts.",
        ),
        Key::optional(
            "salt",
            Shape::Text,
            "the journey's name",
            "What is hashed before the key; another salt deals the users anew.",
        ),
        Key::optional(
            "lease",
            Shape::Duration,
            "",
            "How long a user stays on the sides that began the journey, whoever logs in and whatever is promoted; `0s`: not at \
             all. Default: `30m` where `sticky_on` names more than one key, else `0s`.",
        ),
        Key::optional("together", Shape::Bool, "false", "Refuses unequal weights among the journey's routes."),
        Key::optional(
            "rollout",
            Shape::Block(&ROLLOUT),
            "",
            "Moves all routes of the journey at once; the worst verdict wins. None of them writes `weight` or `rollout` then.",
        ),
    ],
};

pub(in crate::raw) static DEFAULTS: Block = Block {
    name: "defaults",
    about: "Fill the missing keys of a block that a route writes; they switch nothing on.",
    keys: &[
        Key::optional("shadow", Shape::Block(&SHADOW), "", "For routes that write `shadow`."),
        Key::optional("compare", Shape::Block(&COMPARE), "", "For routes that write `compare`."),
        Key::optional("fallback", Shape::Block(&FALLBACK), "", "For routes that write `fallback`."),
        Key::optional("rollout", Shape::Block(&ROLLOUT), "", "For routes that write `rollout`."),
    ],
};

/// A number of things that have to be there.
const COUNT: Shape = Shape::Count(1, COUNT_MAX);
const TIMES: Shape = Shape::Count(0, TIMES_MAX);
/// Things in a row.
const STREAK: Shape = Shape::Count(1, 1_000);
