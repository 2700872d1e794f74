//! Keys of an upstream.

use super::{Block, COUNT, Key, Shape, TIMES};

pub(in crate::raw) static UPSTREAM: Block = Block {
    name: "upstream",
    about: "A named group of endpoints that answer alike.",
    keys: &[
        Key::required("endpoints", Shape::List(&Shape::Url), "Where it listens, as in `http://127.0.0.1:8000`."),
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
        Key::not_yet("health_check", "Active health checks."),
        Key::not_yet("outlier_detection", "Ejection of endpoints that fail."),
        Key::not_yet("tls", "TLS towards the upstream."),
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
