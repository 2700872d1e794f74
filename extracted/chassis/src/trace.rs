//! W3C trace context: taken from a request, kept for what the request causes.

use std::fmt;
use std::str::FromStr;

/// A well-formed `traceparent` of version 00.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(String);

/// Text that is no `traceparent`; the rule then is to start anew.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form 00-<32 hex>-<16 hex>-<2 hex>, or all zero")]
pub struct MalformedTraceParent;

impl TraceParent {
    /// The 32 hex digits that all spans of one trace share.
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceParent {
    type Err = MalformedTraceParent;

    fn from_str(text: &str) -> Result<TraceParent, MalformedTraceParent> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        if lengths != [2, 32, 16, 2] || parts[0] != "00" || !parts.iter().all(|part| is_hex(part)) {
            return Err(MalformedTraceParent);
        }
        if is_zero(parts[1]) || is_zero(parts[2]) {
            return Err(MalformedTraceParent);
        }
        Ok(TraceParent(text.to_owned()))
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_standard_describes_is_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(good.parse::<TraceParent>().map(|parent| parent.trace_id().to_owned()), Ok(good[3..35].to_owned()));
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for bad in ["", "00", &good[..54], &good.to_uppercase(), zeros, &good.replacen("00", "ff", 1)] {
            assert_eq!(bad.parse::<TraceParent>(), Err(MalformedTraceParent), "{bad}");
        }
    }
}
