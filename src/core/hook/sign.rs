//! The signature of a message, by the scheme of Standard Webhooks: HMAC-SHA256 over id, time and body, `v1,` and base64. Every receiver's library
//! for that scheme checks it, and a receiver that looks at the time cannot be played an old message again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Fewest bytes of a key.
const KEY_BYTES_MIN: usize = 24;
/// Most.
const KEY_BYTES_MAX: usize = 1_024;
/// Most keys at once: an old one and a new one.
const KEYS_MAX: usize = 2;

/// What signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Vec<Vec<u8>>);

/// Why a file holds no key. Never says what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or more than two lines.
    #[error("expected one key, or two, each on a line of its own")]
    Count,
    /// Too few, or too many bytes.
    #[error("a key has from {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")]
    Length,
    /// `whsec_`, and then no base64.
    #[error("after `whsec_` comes base64")]
    Base64,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// Reads them: one a line, `whsec_` and base64, or the text itself.
    ///
    /// # Errors
    /// Why the text holds none.
    pub fn parse(text: &str) -> Result<Keys, KeyError> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() || lines.len() > KEYS_MAX {
            return Err(KeyError::Count);
        }
        let one = |line: &&str| {
            let key = match line.strip_prefix("whsec_") {
                Some(base64) => STANDARD.decode(base64).map_err(|_| KeyError::Base64)?,
                None => line.as_bytes().to_vec(),
            };
            if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) { Ok(key) } else { Err(KeyError::Length) }
        };
        lines.iter().map(one).collect::<Result<_, _>>().map(Keys)
    }
}

/// What `webhook-signature` says: one signature a key, parted by spaces.
pub fn signature(keys: &Keys, id: &str, unix_s: u64, body: &str) -> String {
    let one = |key: &Vec<u8>| {
        // A key of any length is taken (RFC 2104).
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        mac.update(format!("{id}.{unix_s}.{body}").as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    keys.0.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_scheme_s_own_example() {
        let keys = Keys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signed = signature(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_a_key_is_replaced_both_sign() {
        let keys = Keys::parse("a text that is long enough\nwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(signature(&keys, "m", 1, "{}").split(' ').count(), 2);
        assert_eq!(format!("{keys:?}"), "2 keys");
    }

    #[test]
    fn what_is_no_key_is_said() {
        for (text, expect) in [
            ("", KeyError::Count),
            ("a\nb\nc", KeyError::Count),
            ("too short", KeyError::Length),
            ("whsec_MfKQ", KeyError::Length),
            ("whsec_???", KeyError::Base64),
        ] {
            assert_eq!(Keys::parse(text), Err(expect), "{text}");
        }
    }
}
