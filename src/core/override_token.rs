//! A signed header value that names a side, for testers: `v1.<kid>.<legacy|extracted>.<exp>.<mac>`.
//!
//! The MAC is HMAC-SHA256 (RFC 2104) over host, route, side and expiry, joined by newlines, in base64url without padding
//! (RFC 4648 §5). It names a side of a route, never a URL.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::side::Side;
use crate::signing;
pub use crate::signing::SigningKey;

/// Longest life of a token, in seconds.
pub const LIFETIME_S_MAX: u64 = 15 * 60;
/// How far clocks may differ, in seconds.
pub const SKEW_S: u64 = 30;

/// Why a token was not believed; the request then goes where it would have gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// Not five parts, or not the version we know.
    #[error("not a token of this kind")]
    Malformed,
    /// No such key.
    #[error("signed with a key that is not in the keys file")]
    UnknownKey,
    /// The signature is not right for this host and route.
    #[error("the signature does not fit this host, route and side")]
    BadSignature,
    /// Its time is over, or lies further ahead than a token may live.
    #[error("expired, or valid for longer than a token may be")]
    Expired,
}

/// Makes a token for `side` of `route` at `host`, valid until `expires_s` (Unix seconds).
pub fn sign(key: &SigningKey, host: &str, route: &str, side: Side, expires_s: u64) -> String {
    let mac = mac(key, host, route, side, expires_s).finalize().into_bytes();
    format!("v1.{}.{side}.{expires_s}.{}", key.id, URL_SAFE_NO_PAD.encode(mac))
}

/// The side that a token names, if it was signed with one of `keys` for this host and route and is in force at `now_s`.
pub fn verify(keys: &[SigningKey], token: &str, host: &str, route: &str, now_s: u64) -> Result<Side, OverrideError> {
    let mut parts = token.split('.');
    let (Some("v1"), Some(id), Some(side), Some(expires), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(OverrideError::Malformed);
    };
    let side = match side {
        "legacy" => Side::Legacy,
        "extracted" => Side::Extracted,
        _ => return Err(OverrideError::Malformed),
    };
    let expires_s: u64 = expires.parse().map_err(|_| OverrideError::Malformed)?;
    // `+5` and `05` are the same number, and would be other spellings of the same token.
    if expires.starts_with(['+', '0']) {
        return Err(OverrideError::Malformed);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| OverrideError::Malformed)?;
    let key = keys.iter().find(|key| key.id == id).ok_or(OverrideError::UnknownKey)?;
    // Compares in constant time.
    mac(key, host, route, side, expires_s).verify_slice(&signature).map_err(|_| OverrideError::BadSignature)?;
    let is_in_force = now_s <= expires_s.saturating_add(SKEW_S) && expires_s <= now_s + LIFETIME_S_MAX + SKEW_S;
    if is_in_force { Ok(side) } else { Err(OverrideError::Expired) }
}

fn mac(key: &SigningKey, host: &str, route: &str, side: Side, expires_s: u64) -> Hmac<Sha256> {
    let expires = expires_s.to_string();
    let parts = [host, "\n", route, "\n", side.as_str(), "\n", &expires];
    signing::mac(&key.secret, parts.map(str::as_bytes))
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<SigningKey> {
        vec![SigningKey { id: "a".into(), secret: [7; 32] }, SigningKey { id: "b".into(), secret: [9; 32] }]
    }

    #[test]
    fn a_token_holds_for_its_host_route_and_time_only() {
        let [first, second] = &keys()[..] else { panic!("two keys") };
        let token = sign(second, "shop", "cart-total", Side::Extracted, 1_000);
        let check = |keys: &[SigningKey], token: &str, host, route, now| verify(keys, token, host, route, now);
        assert_eq!(check(&keys(), &token, "shop", "cart-total", 990), Ok(Side::Extracted));
        assert_eq!(check(&keys(), &token, "shop", "cart-total", 1_030), Ok(Side::Extracted));
        assert_eq!(check(&keys(), &token, "shop", "cart-total", 1_031), Err(OverrideError::Expired));
        assert_eq!(check(&keys(), &token, "shop", "cart-total", 69), Err(OverrideError::Expired));
        assert_eq!(check(&keys(), &token, "else", "cart-total", 990), Err(OverrideError::BadSignature));
        assert_eq!(check(&keys(), &token, "shop", "pay", 990), Err(OverrideError::BadSignature));
        assert_eq!(
            check(std::slice::from_ref(first), &token, "shop", "cart-total", 990),
            Err(OverrideError::UnknownKey)
        );
        let turned = token.replace("extracted", "legacy");
        assert_eq!(check(&keys(), &turned, "shop", "cart-total", 990), Err(OverrideError::BadSignature));
        for bad in [
            "",
            "v1",
            "v2.a.legacy.1.x",
            "v1.a.both.1.x",
            "v1.a.legacy.soon.x",
            "v1.a.legacy.1.x.y",
            "http://evil",
            &token.replace("1000", "+1000"),
            &token.replace("1000", "01000"),
        ] {
            assert_eq!(check(&keys(), bad, "shop", "cart-total", 990), Err(OverrideError::Malformed), "{bad}");
        }
    }
}
