//! Keys of hooks and notices.

use super::{Block, Key, Shape, TIMES};

const FILE: Shape = Shape::Text;

pub(in crate::raw) static HOOK: Block = Block {
    name: "hook",
    about: "A signed webhook. Any 2xx is a pass; redirects are not followed.",
    keys: &[
        Key::optional(
            "webhook",
            Shape::WebUrl,
            "",
            "Where: `https://`, or `http://` for a loopback or private address. This, or `webhook_file`.",
        ),
        Key::optional(
            "webhook_file",
            FILE,
            "",
            "A file that holds the URL, read each time; for URLs that are secrets.",
        ),
        Key::required(
            "key_file",
            FILE,
            "A file that holds the key of the signature: `whsec_` and base64, or any text of at least 24 bytes; a second line is a second key.",
        ),
        Key::required(
            "when",
            Shape::List(&Shape::OneOf(&["pre_step", "post_step", "confirm_promotion", "rollback", "event"])),
            "On which occasions: `pre_step` and `confirm_promotion` (the last step) hold the raise until they pass, the others are told.",
        ),
        Key::optional("timeout", Shape::Duration, "10s", "Longest wait for one try, at most 5m."),
        Key::optional("retries", TIMES, "3", "Further tries, with rising waits in between."),
        Key::optional("ca", FILE, "the public authorities", "Authorities that its certificate may be of (PEM)."),
    ],
};

pub(in crate::raw) static NOTIFY: Block = Block {
    name: "notice",
    about: "Who is told of what.",
    keys: &[
        Key::optional(
            "webhook",
            Shape::WebUrl,
            "",
            "Where: `https://`, or `http://` for a loopback or private address. This, or `webhook_file`.",
        ),
        Key::optional(
            "webhook_file",
            FILE,
            "",
            "A file that holds the URL, read each time; for URLs that are secrets.",
        ),
        Key::optional(
            "when",
            Shape::List(&Shape::OneOf(&["roll_back", "hold", "promote"])),
            "[roll_back, hold, promote]",
            "On which occasions; `hold` is what waits for a person or is wrong, not what time will bring.",
        ),
        Key::optional(
            "format",
            Shape::OneOf(&["json", "slack"]),
            "json",
            "What is sent: the message, or `{\"text\": …}` as Slack and those like it take it.",
        ),
        Key::optional("key_file", FILE, "", "As in `hooks`; without it nothing is signed."),
        Key::optional("timeout", Shape::Duration, "10s", "Longest wait for one try, at most 5m."),
        Key::optional("retries", TIMES, "3", "Further tries, with rising waits in between."),
        Key::optional("ca", FILE, "the public authorities", "Authorities that its certificate may be of (PEM)."),
    ],
};
