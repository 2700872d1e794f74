//! A request's fields, kept so that it can be sent once more.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes set aside at first: the usual request's fields, and the allocator's quick way.
const USUAL_BYTES: usize = 1 << 10;

/// Fields as one text. Nearly every request is answered at its first sending, so keeping is what must be cheap: a second map would
/// be two allocations and, in and out, a count of references for each value.
pub(super) struct KeptFields(Vec<u8>);

impl KeptFields {
    pub(super) fn of(headers: &HeaderMap) -> KeptFields {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        for (name, value) in headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            // Neither has one in it.
            text.push(b'\n');
        }
        KeptFields(text)
    }

    /// The same fields, each name's in the same order.
    pub(super) fn to_map(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::with_capacity(16);
        for line in self.0.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|b| *b == b':')?;
            let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
            headers.append(name, HeaderValue::from_bytes(line.get(colon + 1..)?).ok()?);
        }
        Some(headers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_comes_back_whole(fields in proptest::collection::vec(("[a-z0-9-]{1,12}", "[ -~\u{80}-\u{ff}]{0,40}"), 0..30)) {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) else { continue };
                headers.append(name, value);
            }
            prop_assert_eq!(KeptFields::of(&headers).to_map(), Some(headers));
        }
    }
}
