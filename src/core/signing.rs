//! The keys of the keys file, and the MAC that everything signed with them carries.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key with the id that tokens name it by.
#[derive(Clone)]
pub struct SigningKey {
    /// `[a-z0-9]{1,16}`.
    pub id: String,
    /// 32 random bytes.
    pub secret: [u8; 32],
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What signs, and what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Signing<'a> {
    /// The first one signs; each is believed.
    pub keys: &'a [SigningKey],
    /// Unix seconds.
    pub now_s: u64,
}

/// HMAC-SHA256 (RFC 2104) over `parts`, one after the other; what they mean together is up to the caller, who begins with what it is for.
pub(crate) fn mac<'a>(secret: &[u8; 32], parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Sha256> {
    // A key shorter than the hash's block is padded with zeros (RFC 2104 §2); done here, because then nothing can fail.
    let mut block = [0u8; 64];
    if let Some(room) = block.first_chunk_mut::<32>() {
        *room = *secret;
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac
}
