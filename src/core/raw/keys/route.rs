//! Keys of a route.

use super::{Block, COMPARE, COUNT, Key, ROLLOUT, Shape, TARGET};

const CONDITIONS: Shape = Shape::MapOf(&Shape::Any(&[Shape::Text, Shape::Block(&CONDITION)]));

pub(in crate::raw) static ROUTE: Block = Block {
    name: "route",
    about: "A covered path: who answers it, and how carefully.",
    keys: &[
        Key::required("name", Shape::Name, "Unique; the `route` label of every metric."),
        Key::optional("owner", Shape::Text, "", "Whom to ask; shown, never acted on."),
        Key::optional("journey", Shape::Name, "", "The journey whose assignment it shares."),
        Key::required(
            "match",
            Shape::Any(&[Shape::MatchLine, Shape::Block(&MATCH)]),
            "What a request must look like: `GET /carts/{cart_id}/total`, or a map.",
        ),
        Key::required(
            "extracted",
            Shape::Any(&[Shape::Url, Shape::Name, Shape::Block(&EXTRACTED)]),
            "The service taken out: a URL, an upstream's name, or a map.",
        ),
        Key::optional(
            "data",
            Shape::OneOf(&["legacy", "shared", "synced", "extracted"]),
            "legacy",
            "Who owns what this route writes; `extracted`: nothing goes back to legacy by itself.",
        ),
        Key::optional("weight", Shape::Weight, "0%", "The part of users that extracted answers, two decimals at most."),
        Key::optional("deadline", Shape::Duration, "60s", "Bound on the whole request, fallback included; `0s`: none."),
        Key::optional("override", Shape::Block(&OVERRIDE), "", "A header whose signed value names a side."),
        Key::optional(
            "request_headers",
            Shape::Block(&HEADER_EDITS),
            "",
            "Changes to the request on the way to either side.",
        ),
        Key::optional(
            "response_headers",
            Shape::Block(&HEADER_EDITS),
            "",
            "Changes to the answer on the way to the client.",
        ),
        Key::optional(
            "fallback",
            Shape::Any(&[Shape::OneOf(&["unsent", "never"]), Shape::Block(&FALLBACK)]),
            "unsent",
            "What happens when extracted fails: legacy answers. `never`: extracted's failure is the answer.",
        ),
        Key::optional(
            "breaker",
            Shape::Any(&[Shape::OneOf(&["never"]), Shape::Block(&BREAKER)]),
            "on",
            "While extracted fails too much it is not asked: legacy answers (where it may), else 503. `never`: it is always asked.",
        ),
        Key::optional("success", Shape::Block(&SUCCESS), "", "Statuses that are no failure, beyond 1xx to 4xx."),
        Key::optional("max_body", Shape::Size, "10MiB", "Largest request body."),
        Key::optional(
            "shadow",
            Shape::Any(&[Shape::Bool, Shape::Weight, Shape::Block(&SHADOW)]),
            "false",
            "Copies of safe requests to the side that does not answer.",
        ),
        Key::optional(
            "compare",
            Shape::Any(&[Shape::Bool, Shape::Block(&COMPARE)]),
            "false",
            "Comparison of the two answers.",
        ),
        Key::optional("locate", Shape::Block(&LOCATE), "", "Data decides the side, not the weight."),
        Key::optional("affinity", Shape::Block(&AFFINITY), "", "What stays on the side that it began on."),
        Key::optional(
            "idempotency",
            Shape::Block(&IDEMPOTENCY),
            "",
            "A write that is tried again with the same key goes to the side that saw it first.",
        ),
        Key::optional("rollout", Shape::Block(&ROLLOUT), "", "The weight moves by evidence; refused beside `weight`."),
        Key::not_yet("retired", "Legacy is never asked again."),
        Key::not_yet("target", "The day by which the route should be extracted."),
        Key::not_yet("brownout", "Times at which legacy is switched off on purpose."),
        Key::optional(
            "rate_limit",
            Shape::Block(&RATE_LIMIT),
            "",
            "A bound on the requests of one client; more is answered 429.",
        ),
        Key::optional(
            "upgrade",
            Shape::List(&Shape::Text),
            "[]",
            "Protocols that a connection may be switched to, as in `[websocket]`; what no route covers may be switched to WebSocket.",
        ),
        Key::optional(
            "release_header",
            Shape::HeaderName,
            "",
            "The header of an answer in which extracted names its release: what a rollout has counted and what is known of its answers is about that one, and another begins anew.",
        ),
        Key::not_yet("shared_cache", "Whether shared caches may keep answers while the route is split."),
    ],
};

pub(in crate::raw) static BREAKER: Block = Block {
    name: "breaker",
    about: "When a route's extracted side is left alone for a while.",
    keys: &[
        Key::optional("error_ratio", Shape::Weight, "50%", "It opens when this part of a window's requests failed."),
        Key::optional("min_requests", COUNT, "20", "Fewer requests in a window prove nothing."),
        Key::optional("window", Shape::Duration, "10s", "How far back is looked; at least 1s."),
        Key::optional("open_for", Shape::Duration, "5s", "How long it stays open before one request tries."),
    ],
};

pub(in crate::raw) static MATCH: Block = Block {
    name: "match",
    about: "What a request must look like; all of it must hold.",
    keys: &[
        Key::optional(
            "host",
            Shape::Text,
            "any",
            "`shop.example.com`, or `*.example.com` for one label or more in front.",
        ),
        Key::optional(
            "path",
            Shape::Any(&[Shape::Path, Shape::Block(&PATH_REGEX)]),
            "",
            "`{x}` is one segment, `{*x}` at the end is the rest, which may be empty. This or `regex` must be there.",
        ),
        Key::optional("regex", Shape::Regex, "", "Instead of `path`: an expression over the whole path, `^/…$`."),
        Key::optional("methods", Shape::List(&Shape::Method), "all", "In capitals. `GET` does not bring `HEAD`."),
        Key::optional("headers", CONDITIONS, "", "By name: an exact text, or a condition."),
        Key::optional("query", CONDITIONS, "", "By name, on the percent-decoded first value."),
        Key::optional("cookies", CONDITIONS, "", "By name, on the first cookie of that name."),
    ],
};

pub(in crate::raw) static PATH_REGEX: Block = Block {
    name: "path expression",
    about: "An expression over the whole path.",
    keys: &[Key::required("regex", Shape::Regex, "Anchored: `^/…$`.")],
};

pub(in crate::raw) static CONDITION: Block = Block {
    name: "condition",
    about: "What a value must be; exactly one of these.",
    keys: &[
        Key::optional("contains", Shape::Text, "", "It contains this."),
        Key::optional("prefix", Shape::Text, "", "It begins with this."),
        Key::optional("regex", Shape::Text, "", "It matches this expression; unanchored."),
        Key::optional("present", Shape::Bool, "", "It is there (`true`) or is not (`false`), whatever it says."),
    ],
};

pub(in crate::raw) static EXTRACTED: Block = Block {
    name: "extracted",
    about: "The service taken out.",
    keys: &[
        Key::required("upstream", TARGET, "A URL, or the name of an upstream."),
        Key::optional("rewrite", Shape::Block(&REWRITE), "", "Paths, locations and cookies rewritten on the way."),
    ],
};

pub(in crate::raw) static REWRITE: Block = Block {
    name: "rewrite",
    about: "What the service is asked for, and what the browser sees of its names. Legacy is asked as the client asked.",
    keys: &[
        Key::optional("path", Shape::Path, "as it came", "The service's path, with parameters of the route's path."),
        Key::optional("location", Shape::Bool, "false", "Whether paths in its redirects are mapped back."),
        Key::optional("cookie_path", Shape::Text, "", "`/shop=/`: cookies of the first path become the second's."),
        Key::optional(
            "cookie_domain",
            Shape::Text,
            "",
            "`legacy.internal=shop.example.com`; with nothing after `=` they become the asked host's.",
        ),
    ],
};

pub(in crate::raw) static RATE_LIMIT: Block = Block {
    name: "rate limit",
    about: "A bound on the requests of one client: a bucket of `burst`, filled at `rate`.",
    keys: &[
        Key::optional(
            "key",
            Shape::Any(&[Shape::OneOf(&["client"]), Shape::KeySource]),
            "client",
            "Who is one client: an address, or a header or cookie (and the address, where that is missing).",
        ),
        Key::required("rate", Shape::Text, "Requests in a time, as in `10/s`, `100/m` or `1000/h`."),
        Key::optional("burst", Shape::Count(1, 1_000_000), "the number in `rate`", "Requests at once."),
    ],
};

pub(in crate::raw) static OVERRIDE: Block = Block {
    name: "override",
    about: "A header whose signed value names a side.",
    keys: &[Key::required("header", Shape::HeaderName, "The header's name, as in `strangler-side`.")],
};

pub(in crate::raw) static HEADER_EDITS: Block = Block {
    name: "header changes",
    about: "First removed, then set. Hop-by-hop headers, `Host`, `Content-Length` and our own are not to be changed.",
    keys: &[
        Key::optional("set", Shape::MapOf(&Shape::Text), "", "Values put in place of what was there."),
        Key::optional("remove", Shape::List(&Shape::HeaderName), "", "Names taken out."),
    ],
};

pub(in crate::raw) static FALLBACK: Block = Block {
    name: "fallback",
    about: "What happens when extracted fails: legacy answers, and the failure is charged to extracted.",
    keys: &[
        Key::optional(
            "when",
            Shape::List(&Shape::OneOf(&["connect_failure", "timeout", "5xx", "breaker_open"])),
            "[connect_failure, timeout, 5xx, breaker_open]",
            "After which failures.",
        ),
        Key::optional(
            "unsafe",
            Shape::OneOf(&["unsent", "never"]),
            "unsent",
            "What requests with side effects may do: fall back only when provably nothing was sent, or never.",
        ),
        Key::optional("max_body", Shape::Size, "1MiB", "Largest request body kept for a second try."),
    ],
};

pub(in crate::raw) static SUCCESS: Block = Block {
    name: "success",
    about: "Statuses that are no failure, beyond the default (all but 5xx).",
    keys: &[Key::required("status", Shape::List(&Shape::Status), "Classes and single ones: `[2xx, 503]`.")],
};

pub(in crate::raw) static AFFINITY: Block = Block {
    name: "affinity",
    about: "What stays on the side that it began on.",
    keys: &[Key::optional(
        "form",
        Shape::Bool,
        "false",
        "The side that served a form (an HTML answer) also gets what is sent back to the same path.",
    )],
};

pub(in crate::raw) static IDEMPOTENCY: Block = Block {
    name: "idempotency",
    about: "A write that is tried again with the same key within a day goes to the side that saw it first.",
    keys: &[
        Key::optional("header", Shape::HeaderName, "idempotency-key", "Where the key is."),
        Key::optional(
            "on_kill",
            Shape::OneOf(&["refuse", "reexecute"]),
            "refuse",
            "What becomes of a key that extracted has seen while the route is killed: 503, or legacy does it, perhaps again.",
        ),
    ],
};

pub(in crate::raw) static LOCATE: Block = Block {
    name: "locate",
    about: "Data decides the side, not the weight: the first rule that holds for a path parameter's value.",
    keys: &[
        Key::required("param", Shape::Text, "A parameter of the route's path."),
        Key::required("rules", Shape::List(&Shape::Block(&LOCATE_RULE)), "In order."),
        Key::required("else", Shape::OneOf(&["legacy", "extracted"]), "When no rule holds, or the value is no number."),
    ],
};

pub(in crate::raw) static LOCATE_RULE: Block = Block {
    name: "locate rule",
    about: "Values from `min` to `max`, both included, live on `to`.",
    keys: &[
        Key::optional("min", Shape::Count(0, u64::MAX), "0", "Smallest value."),
        Key::optional("max", Shape::Count(0, u64::MAX), "the largest there is", "Largest value."),
        Key::required("to", Shape::OneOf(&["legacy", "extracted"]), "Where they live."),
    ],
};

pub(in crate::raw) static SHADOW: Block = Block {
    name: "shadow",
    about: "Copies of safe requests to the side that does not answer. They never cost the user anything.",
    keys: &[
        Key::optional("sample", Shape::Weight, "100%", "Part of callers whose requests are copied."),
        Key::optional(
            "methods",
            Shape::List(&Shape::OneOf(&["GET", "HEAD", "OPTIONS"])),
            "[GET, HEAD]",
            "Methods copied; only safe ones.",
        ),
        Key::fixed("dispatch", &["concurrent"], &[], "The copy does not wait for the answer."),
        Key::optional(
            "max_in_flight",
            Shape::Count(1, 10_000),
            "100",
            "Copies under way; more are dropped and counted.",
        ),
        Key::optional(
            "max_rps",
            Shape::Count(1, 1_000_000),
            "50",
            "Copies begun a second; more are dropped and counted.",
        ),
        Key::optional("timeout", Shape::Duration, "5s", "Bound on a copy, from its dispatch to its last byte."),
        Key::optional("max_request_body", Shape::Size, "64KiB", "Largest request body copied."),
        Key::optional(
            "never",
            Shape::List(&Shape::Pointer),
            "[]",
            "Paths never copied although their method is safe: `*` is one segment, `**` the rest.",
        ),
        Key::optional(
            "unsafe",
            Shape::Any(&[Shape::OneOf(&["refuse", "sandbox", "dry_run"]), Shape::Block(&UNSAFE)]),
            "refuse",
            "Requests with side effects. `refuse`: not copied. `sandbox`: those that legacy answers are copied to `upstream`, which has a store of \
             its own. `dry_run`: those are copied to extracted with `strangler-dry-run: 1`, which it must honour. None is ever copied to legacy.",
        ),
        Key::optional(
            "breaker",
            Shape::Any(&[Shape::OneOf(&["never"]), Shape::Block(&SHADOW_BREAKER)]),
            "on",
            "Stops copies to a side while they fail. `never`: they go on.",
        ),
        Key::optional(
            "safe_posts",
            Shape::List(&Shape::Block(&SAFE_POST)),
            "[]",
            "POST requests that only read, and are copied as GET is.",
        ),
        Key::optional(
            "upstream",
            TARGET,
            "",
            "Where copies of what legacy answers go instead of to extracted: a URL, or an upstream's name.",
        ),
    ],
};

pub(in crate::raw) static SHADOW_BREAKER: Block = Block {
    name: "shadow breaker",
    about: "When copies to a side stop for a while.",
    keys: &[
        Key::optional(
            "error_ratio",
            Shape::Weight,
            "50%",
            "It opens when this part of a window's copies failed: 5xx, no answer, none in time.",
        ),
        Key::optional("min_requests", COUNT, "20", "Fewer copies in a window prove nothing."),
        Key::optional("window", Shape::Duration, "30s", "How far back is looked; at least 1s."),
        Key::optional("open_for", Shape::Duration, "5s", "How long it stays open before one copy tries."),
    ],
};

pub(in crate::raw) static SAFE_POST: Block = Block {
    name: "safe post",
    about: "POST requests that only read.",
    keys: &[
        Key::required("path", Shape::Pointer, "As in `never`: `*` is one segment, `**` the rest."),
        Key::optional(
            "graphql",
            Shape::OneOf(&["query"]),
            "",
            "`query`: only bodies that hold GraphQL queries, and neither a mutation nor a subscription.",
        ),
    ],
};

pub(in crate::raw) static UNSAFE: Block = Block {
    name: "unsafe",
    about: "Requests with side effects.",
    keys: &[Key::required(
        "verify_read",
        Shape::Block(&VERIFY_READ),
        "They are not copied; after one, what it wrote is read from both sides, and compared.",
    )],
};

pub(in crate::raw) static VERIFY_READ: Block = Block {
    name: "verify read",
    about: "What is read after a write.",
    keys: &[Key::required(
        "get",
        Shape::Text,
        "A path with places for what the write's JSON answer says, as in `/orders/{json:/order_no}`. Asked of both sides as it is, `compare.settle` after the write.",
    )],
};
