//! Keys of an upstream.

use super::{Block, COUNT, Key, STREAK, Shape, TIMES};

pub(in crate::raw) static UPSTREAM: Block = Block {
    name: "upstream",
    about: "A named group of endpoints that answer alike.",
    keys: &[
        Key::required(
            "endpoints",
            Shape::List(&Shape::Url),
            "Where it listens: `http://`, `https://`, `h2c://` (HTTP/2 in the clear) or `h2://` (over TLS), a host and a port.",
        ),
        Key::optional(
            "host",
            Shape::Text,
            "preserve",
            "What the upstream sees as `Host`: `preserve` (what the client sent), `upstream` (the endpoint's own), or a literal.",
        ),
        Key::optional(
            "balance",
            Shape::OneOf(&["round_robin", "least_requests"]),
            "round_robin",
            "How an endpoint is chosen: each in turn, or the less busy of two drawn at random.",
        ),
        Key::optional("timeouts", Shape::Block(&TIMEOUTS), "", "Bounds on the waits; `0s` is none."),
        Key::optional("max_connections", COUNT, "256", "Connections of this process, all cores together."),
        Key::optional(
            "max_in_flight",
            COUNT,
            "1024",
            "Requests under way; one more is answered 503 (legacy) or falls back (extracted).",
        ),
        Key::optional(
            "fallback_share",
            Shape::Weight,
            "50%",
            "Largest part of `max_in_flight` that fallbacks may take.",
        ),
        Key::optional("retry", Shape::Block(&RETRY), "", "When a request is tried again on the same upstream."),
        Key::optional("own_names", Shape::Block(&OWN_NAMES), "", "What it calls itself in its answers, mapped back."),
        Key::optional(
            "health_check",
            Shape::Block(&HEALTH_CHECK),
            "",
            "Endpoints are asked by themselves how they are; those that do not answer well get no requests.",
        ),
        Key::optional(
            "outlier_detection",
            Shape::Block(&OUTLIER_DETECTION),
            "",
            "Endpoints that fail requests are left out for a while. The last one never is.",
        ),
        Key::optional("tls", Shape::Block(&TLS), "", "How endpoints over TLS are known, and we to them."),
    ],
};

pub(in crate::raw) static OWN_NAMES: Block = Block {
    name: "own names",
    about: "What an upstream calls itself in its answers; a browser sees the host that it asked instead.",
    keys: &[
        Key::optional(
            "hosts",
            Shape::List(&Shape::Text),
            "[]",
            "Hosts in its redirects, as in `legacy.internal:8000`; without a port: all of its ports. Its endpoints always count.",
        ),
        Key::optional("cookie_path", Shape::Text, "", "`/shop=/`: cookies of the first path become the second's."),
        Key::optional(
            "cookie_domain",
            Shape::Text,
            "",
            "`legacy.internal=shop.example.com`; with nothing after `=` they become the asked host's.",
        ),
    ],
};

pub(in crate::raw) static TIMEOUTS: Block = Block {
    name: "timeouts",
    about: "Bounds on the waits for an upstream; `0s` is none.",
    keys: &[
        Key::optional("connect", Shape::Duration, "1s", "Until the connection stands."),
        Key::optional("response_header", Shape::Duration, "30s", "From the request's last byte to the answer's head."),
        Key::optional("idle", Shape::Duration, "60s", "Between two pieces of a body, either way."),
    ],
};

pub(in crate::raw) static RETRY: Block = Block {
    name: "retry",
    about: "When a request is tried again on the same upstream. Never after a byte of a request with side effects may have left.",
    keys: &[
        Key::optional("times", TIMES, "1", "Further tries after the first."),
        Key::optional(
            "when",
            Shape::List(&Shape::OneOf(&["connect_failure", "reset_before_response"])),
            "[connect_failure, reset_before_response]",
            "After which failures.",
        ),
        Key::optional("budget", Shape::Weight, "20%", "Retries as a part of requests, over the last 10 s."),
    ],
};

pub(in crate::raw) static HEALTH_CHECK: Block = Block {
    name: "health check",
    about: "Endpoints are asked by themselves how they are.",
    keys: &[
        Key::required("path", Shape::Text, "Asked with GET; any answer from 200 to 399 is good."),
        Key::optional("interval", Shape::Duration, "5s", "Between two checks of an endpoint, a tenth more or less."),
        Key::optional("timeout", Shape::Duration, "1s", "Bound on a check, connection included."),
        Key::optional("healthy_after", STREAK, "2", "Good checks in a row that bring it back."),
        Key::optional("unhealthy_after", STREAK, "3", "Bad checks in a row that take it out."),
    ],
};

pub(in crate::raw) static OUTLIER_DETECTION: Block = Block {
    name: "outlier detection",
    about: "Endpoints that fail requests are left out for a while.",
    keys: &[
        Key::optional("consecutive_failures", STREAK, "5", "Failures in a row that take an endpoint out."),
        Key::optional(
            "eject_for",
            Shape::Duration,
            "30s",
            "How long the first time; longer each time after, up to ten times as long.",
        ),
        Key::optional("max_ejected", Shape::Weight, "50%", "Largest part of the endpoints that may be out."),
    ],
};

pub(in crate::raw) static TLS: Block = Block {
    name: "tls",
    about: "How endpoints over TLS are known, and we to them. They are always verified.",
    keys: &[
        Key::optional(
            "ca",
            Shape::Text,
            "the public authorities",
            "A file (PEM) with the authorities that are believed, and no others. Relative to this file.",
        ),
        Key::optional("client_cert", Shape::Text, "", "A file (PEM) with our own certificate and its chain."),
        Key::optional("client_key", Shape::Text, "", "A file (PEM) with its key."),
        Key::optional(
            "server_name",
            Shape::Text,
            "the endpoint's host",
            "The name that the certificate must be for; also sent as SNI.",
        ),
    ],
};
