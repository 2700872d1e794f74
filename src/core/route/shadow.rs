//! Which requests of a route are copied, where to, and how carefully.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::route::{BreakerPolicy, Upstream};
use crate::weight::Weight;

/// Copies to the other side.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowPolicy {
    /// Part of callers whose requests are copied, by bucket with a salt of its own. Default: 100 %.
    pub sample: Weight,
    /// Methods copied; a subset of GET, HEAD, OPTIONS. Default: GET, HEAD.
    pub methods: Vec<Method>,
    /// Copies under way per route; more are dropped and counted. Default: 100. Largest: 10,000.
    pub max_in_flight: u32,
    /// Copies begun a second per route and process; more are dropped and counted. Default: 50. Largest: 1,000,000.
    pub max_rps: u32,
    /// Bound on a copy, from its dispatch to its last byte. Default: 5 s.
    pub timeout: Duration,
    /// Largest request body copied, in bytes. Default: 64 KiB.
    pub max_request_body: u64,
    /// Paths never copied although their method is safe: whole-segment patterns, `*` one segment, `**` the rest.
    pub never: Vec<Arc<str>>,
    /// POST requests that only read.
    pub safe_posts: Vec<SafePost>,
    /// What is done about requests with side effects. Default: nothing.
    pub unsafe_requests: UnsafeShadow,
    /// Where copies of what legacy answers go instead of to extracted. Default: extracted.
    pub upstream: Option<Arc<Upstream>>,
    /// Stops copies to a side that fails; `None`: never. Default: 50 % of at least 20 in 30 s.
    pub breaker: Option<BreakerPolicy>,
}

impl ShadowPolicy {
    /// When nothing else is written.
    pub fn default_breaker() -> BreakerPolicy {
        BreakerPolicy { window: Duration::from_secs(30), ..BreakerPolicy::default() }
    }
}

impl Default for ShadowPolicy {
    fn default() -> ShadowPolicy {
        ShadowPolicy {
            sample: Weight::ALL,
            methods: vec![Method::GET, Method::HEAD],
            max_in_flight: 100,
            max_rps: 50,
            timeout: Duration::from_secs(5),
            max_request_body: 64 << 10,
            never: Vec::new(),
            safe_posts: Vec::new(),
            unsafe_requests: UnsafeShadow::Refuse,
            upstream: None,
            breaker: Some(ShadowPolicy::default_breaker()),
        }
    }
}

/// POST requests that only read, by whoever knows the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafePost {
    /// A whole-segment pattern, as in [`ShadowPolicy::never`].
    pub path: Arc<str>,
    /// Only those whose body is a GraphQL query: no mutation, no subscription.
    pub graphql: bool,
}

/// What is done about requests with side effects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UnsafeShadow {
    /// Nothing: they are not copied.
    #[default]
    Refuse,
    /// Those that legacy answers are copied to `upstream`, an instance of extracted with a store of its own.
    Sandbox,
    /// Those that legacy answers are copied to extracted, marked so that it changes nothing. It must honour the mark.
    DryRun,
    /// They are not copied. After one, what it wrote is read from both sides, and the two answers are compared.
    VerifyRead(ReadTemplate),
}

/// A path with places for what an answer's JSON says: `/orders/{json:/order_no}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadTemplate {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A JSON pointer.
    Of(String),
}

/// Why a text is no [`ReadTemplate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadTemplateError {
    /// It does not begin with `/`.
    #[error("a path begins with `/`")]
    NoPath,
    /// A `{` without its `}`, or the other way round.
    #[error("a `{{` and a `}}` belong together")]
    Braces,
    /// Not `{json:/…}`.
    #[error("a place is written `{{json:/order_no}}`, with a JSON pointer into the write's answer")]
    Place,
    /// Nothing of the answer is used, so that it would read the same for every write.
    #[error("it has no place for what the write's answer says, as in `{{json:/order_no}}`")]
    Constant,
    /// A character that a path must not have.
    #[error("a path has only printable characters of ASCII, and no `#`")]
    Character,
}

/// Longest value that is put into a path, in bytes.
const FILLED_BYTES_MAX: usize = 256;

impl ReadTemplate {
    /// The path for an answer; `None`: it lacks what is wanted, or has something there that is no text and no whole number.
    pub fn fill(&self, answer: &Value) -> Option<String> {
        let mut path = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Of(pointer) => {
                    let value = match answer.pointer(pointer)? {
                        Value::String(text) => text.clone(),
                        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
                        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                            return None;
                        }
                    };
                    // One segment, whatever it says.
                    if value.is_empty() || value.len() > FILLED_BYTES_MAX || value == "." || value == ".." {
                        return None;
                    }
                    for byte in value.bytes() {
                        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                            path.push(char::from(byte));
                        } else {
                            path.push_str(&format!("%{byte:02X}"));
                        }
                    }
                }
            }
        }
        Some(path)
    }
}

impl FromStr for ReadTemplate {
    type Err = ReadTemplateError;

    fn from_str(text: &str) -> Result<ReadTemplate, ReadTemplateError> {
        if !text.starts_with('/') {
            return Err(ReadTemplateError::NoPath);
        }
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
            return Err(ReadTemplateError::Character);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (place, after) = after.split_once('}').ok_or(ReadTemplateError::Braces)?;
            let pointer = place.strip_prefix("json:").filter(|pointer| pointer.starts_with('/'));
            let pointer = pointer.filter(|pointer| !pointer.contains('{')).ok_or(ReadTemplateError::Place)?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Of(pointer.to_owned()));
            rest = after;
        }
        if pieces.is_empty() {
            return Err(ReadTemplateError::Constant);
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let is_stray = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains('}'));
        if pieces.iter().any(is_stray) { Err(ReadTemplateError::Braces) } else { Ok(ReadTemplate { pieces }) }
    }
}

impl fmt::Display for ReadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Of(pointer) => write!(f, "{{json:{pointer}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_template_is_filled_from_an_answer_and_stays_one_path() {
        let template: ReadTemplate = "/users/{json:/user/id}/orders/{json:/order_no}?full=1".parse().expect("one");
        assert_eq!(template.to_string(), "/users/{json:/user/id}/orders/{json:/order_no}?full=1");
        let fill = |order: Value| template.fill(&json!({"user": {"id": "a/b ü?"}, "order_no": order}));
        assert_eq!(fill(json!(10_000_042)).as_deref(), Some("/users/a%2Fb%20%C3%BC%3F/orders/10000042?full=1"));
        for bad in [json!(null), json!(1.5), json!([1]), json!(true), json!(""), json!(".."), json!("x".repeat(257))] {
            assert_eq!(fill(bad.clone()), None, "{bad}");
        }
        assert_eq!(template.fill(&json!({"order_no": 1})), None);
    }

    #[test]
    fn what_is_no_template_says_why() {
        for (text, why) in [
            ("orders/{json:/a}", ReadTemplateError::NoPath),
            ("/orders/{json:/a", ReadTemplateError::Braces),
            ("/orders/{json:/a}}", ReadTemplateError::Braces),
            ("/orders/{order_no}", ReadTemplateError::Place),
            ("/orders/{json:a}", ReadTemplateError::Place),
            ("/orders/7", ReadTemplateError::Constant),
            ("/orders /{json:/a}", ReadTemplateError::Character),
        ] {
            assert_eq!(text.parse::<ReadTemplate>(), Err(why), "{text}");
        }
    }
}
