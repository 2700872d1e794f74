//! Leases: a signed cookie that keeps a user on the sides where a journey began, through a login and through promotions.
//!
//! A lease says which bucket the user was in when the journey began, and on which of its routes that bucket was still legacy's
//! (*held*). From these alone each replica tells a promotion from a rollback, without asking anybody. A held route stays with
//! legacy however high its weight rises; on any other route the bucket is looked at again at every request, so that a weight
//! lowered below it, or a kill, moves the user at once. Such a break is written into the lease: what then rises again (or is
//! no longer killed) is a promotion, too. The bucket stays that of the beginning, so a login does not deal the user anew.
//!
//! The cookie's value is `1.<kid>.<begun>.<bucket>.<held>.<mac>`: seconds since 1970 in hex, the bucket in decimal, `o` (held is only
//! what follows) or `a` (all but that) with marks of routes in base64url (RFC 4648 §5), and 128 bits of HMAC-SHA256 over the lease's
//! scope and all that stands before.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use xxhash_rust::xxh3::xxh3_64;

use crate::facts::RequestFacts;
use crate::name::RouteName;
use crate::route::{LeasePolicy, Route};
use crate::side::Side;
use crate::signing::{self, Signing, SigningKey};
use crate::snapshot::Snapshot;
use crate::split::{Bucket, choose_side};
use crate::weight::Weight;

/// How far clocks may differ, in seconds.
pub const SKEW_S: u64 = 30;
/// Most routes that a lease names; on further ones of a journey with unequal weights the weight alone decides.
pub const MARKS_MAX: usize = 32;
/// Longest value of a lease's cookie, in bytes; a longer one is not looked at.
pub const TOKEN_BYTES_MAX: usize = 320;
/// Bytes of the MAC that are sent.
const MAC_BYTES: usize = 16;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The user's bucket when the journey began.
    pub bucket: Bucket,
    /// When that was, in Unix seconds.
    pub begun_s: u64,
    /// Where the user stays with legacy.
    pub held: Held,
}

/// The routes of a journey on which a user stays with legacy, by their marks, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// On these.
    Only(Vec<u32>),
    /// On all but these.
    AllBut(Vec<u32>),
}

/// Why a lease was not believed; the request then goes where it would have gone without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Not a lease, or not of the version we know.
    #[error("not a lease")]
    Malformed,
    /// No such key.
    #[error("signed with a key that is not in the keys file")]
    UnknownKey,
    /// Not signed by us, or for another journey.
    #[error("the signature does not fit this journey")]
    BadSignature,
    /// Its time is over, or has not come.
    #[error("expired")]
    Expired,
}

impl LeaseError {
    /// Every error.
    pub const ALL: [LeaseError; 4] =
        [LeaseError::Malformed, LeaseError::UnknownKey, LeaseError::BadSignature, LeaseError::Expired];

    /// As counted: an old lease is nobody's fault, any other is not ours.
    pub const fn as_str(self) -> &'static str {
        match self {
            LeaseError::Expired => "expired_lease",
            LeaseError::Malformed | LeaseError::UnknownKey | LeaseError::BadSignature => "bad_lease",
        }
    }
}

/// The lease that a request brings: the first cookie of the policy's name, if it is rightly signed for its scope and in force.
pub fn read(policy: &LeasePolicy, facts: &RequestFacts<'_>, signing: Signing<'_>) -> Result<Option<Lease>, LeaseError> {
    let Some(token) = facts.cookie(&policy.cookie) else {
        return Ok(None);
    };
    let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= TOKEN_BYTES_MAX);
    verify(signing, &policy.scope, policy.life, token.ok_or(LeaseError::Malformed)?).map(Some)
}

/// The cookie that brings a lease back, without `Secure`; `None` where there is no key to sign with.
pub fn set_cookie(policy: &LeasePolicy, lease: &Lease, signing: Signing<'_>) -> Option<String> {
    let token = sign(signing.keys.first()?, &policy.scope, lease);
    let left_s = lease.begun_s.saturating_add(policy.life.as_secs()).saturating_sub(signing.now_s);
    Some(format!("{}={token}; Path=/; Max-Age={left_s}; HttpOnly; SameSite=Lax", policy.cookie))
}

fn sign(key: &SigningKey, scope: &str, lease: &Lease) -> String {
    let (letter, marks) = match &lease.held {
        Held::Only(marks) => ('o', marks),
        Held::AllBut(marks) => ('a', marks),
    };
    let marks: Vec<u8> = marks.iter().flat_map(|mark| mark.to_be_bytes()).collect();
    let marks = URL_SAFE_NO_PAD.encode(marks);
    let text = format!("1.{}.{:x}.{}.{letter}{marks}", key.id, lease.begun_s, lease.bucket.number());
    let mac = mac(key, scope, &text).finalize().into_bytes();
    let mac = mac.iter().take(MAC_BYTES).copied().collect::<Vec<u8>>();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn verify(signing: Signing<'_>, scope: &str, life: Duration, token: &str) -> Result<Lease, LeaseError> {
    let (text, signature) = token.rsplit_once('.').ok_or(LeaseError::Malformed)?;
    let mut parts = text.split('.');
    let (Some("1"), Some(id), Some(begun), Some(bucket), Some(held), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(LeaseError::Malformed);
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| LeaseError::Malformed)?;
    if signature.len() != MAC_BYTES {
        return Err(LeaseError::Malformed);
    }
    let key = signing.keys.iter().find(|key| key.id == id).ok_or(LeaseError::UnknownKey)?;
    // Compares in constant time.
    mac(key, scope, text).verify_truncated_left(&signature).map_err(|_| LeaseError::BadSignature)?;
    let begun_s = u64::from_str_radix(begun, 16).map_err(|_| LeaseError::Malformed)?;
    let bucket = bucket.parse().ok().and_then(Bucket::from_number).ok_or(LeaseError::Malformed)?;
    let lease = Lease { bucket, begun_s, held: held_of(held).ok_or(LeaseError::Malformed)? };
    let has_begun = begun_s <= signing.now_s.saturating_add(SKEW_S);
    let is_in_force = has_begun && signing.now_s < begun_s.saturating_add(life.as_secs());
    if is_in_force { Ok(lease) } else { Err(LeaseError::Expired) }
}

fn held_of(text: &str) -> Option<Held> {
    let (letter, marks) = text.split_at_checked(1)?;
    let marks = URL_SAFE_NO_PAD.decode(marks).ok()?;
    let (whole, rest) = marks.as_chunks::<4>();
    let marks = whole.iter().map(|mark| u32::from_be_bytes(*mark)).collect();
    match letter {
        "o" if rest.is_empty() => Some(Held::Only(marks)),
        "a" if rest.is_empty() => Some(Held::AllBut(marks)),
        _ => None,
    }
}

fn mac(key: &SigningKey, scope: &str, text: &str) -> hmac::Hmac<sha2::Sha256> {
    signing::mac(&key.secret, ["strangler lease\n", scope, "\n", text].map(str::as_bytes))
}

/// What stands for a route in a lease: names are long, and a cookie is not.
fn mark(name: &RouteName) -> u32 {
    let [.., a, b, c, d] = xxh3_64(name.as_str().as_bytes()).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl Lease {
    /// Of a journey that begins now, on `route`, with a user of this bucket. `None` where nobody can be moved by a login or a
    /// promotion: everything is extracted already.
    pub fn begin(snapshot: &Snapshot, route: &Route, bucket: Bucket, now_s: u64) -> Option<Lease> {
        let is_movable = journey(snapshot, route).any(|(_, weight)| weight != Weight::ALL);
        is_movable.then(|| Lease { bucket, begun_s: now_s, held: held_at(snapshot, route, bucket) })
    }

    /// Of one route and one side: what a form remembers.
    pub fn of_side(side: Side, bucket: Bucket, now_s: u64) -> Lease {
        let held = match side {
            Side::Legacy => Held::AllBut(Vec::new()),
            Side::Extracted => Held::Only(Vec::new()),
        };
        Lease { bucket, begun_s: now_s, held }
    }

    /// The side of its user on a route that runs at `weight` (0 % when killed).
    ///
    /// Where the extracted service owns the data nobody is held: legacy would answer from before.
    pub fn side_on(&self, route: &Route, weight: Weight) -> Side {
        let is_held = self.holds(route) && route.data.may_go_back();
        if is_held { Side::Legacy } else { choose_side(self.bucket, weight) }
    }

    /// Whether the user was extracted's on `route` and is not any longer: a rollback, or a kill.
    pub fn is_broken(&self, route: &Route, weight: Weight) -> bool {
        !self.holds(route) && choose_side(self.bucket, weight) == Side::Legacy
    }

    /// The lease after a break: also held wherever the bucket is legacy's now. It ends when it would have ended.
    pub fn broken(&self, snapshot: &Snapshot, route: &Route) -> Lease {
        let held = |route: &Route, weight| self.holds(route) || choose_side(self.bucket, weight) == Side::Legacy;
        Lease { held: held_where(snapshot, route, held), ..self.clone() }
    }

    fn holds(&self, route: &Route) -> bool {
        let mark = mark(&route.name);
        match &self.held {
            Held::Only(marks) => marks.contains(&mark),
            Held::AllBut(marks) => !marks.contains(&mark),
        }
    }
}

fn held_at(snapshot: &Snapshot, route: &Route, bucket: Bucket) -> Held {
    held_where(snapshot, route, |_, weight| choose_side(bucket, weight) == Side::Legacy)
}

/// The shorter way to name the routes of `route`'s journey for which `is_held` says so.
fn held_where(snapshot: &Snapshot, route: &Route, is_held: impl Fn(&Route, Weight) -> bool) -> Held {
    let (mut held, mut free) = (Vec::new(), Vec::new());
    for (one, weight) in journey(snapshot, route) {
        let marks = if is_held(one, weight) { &mut held } else { &mut free };
        marks.push(mark(&one.name));
    }
    // Every route of a longer list cannot be named. Which are is the same on every replica.
    let cut = |mut marks: Vec<u32>| {
        marks.sort_unstable();
        marks.truncate(MARKS_MAX);
        marks
    };
    if held.len() <= free.len() { Held::Only(cut(held)) } else { Held::AllBut(cut(free)) }
}

/// The routes that share `route`'s journey and are split by weight, each with the weight in force: 0 % when killed.
fn journey<'a>(snapshot: &'a Snapshot, route: &Route) -> impl Iterator<Item = (&'a Route, Weight)> {
    let table = snapshot.table();
    let journey = route.journey.as_ref().and_then(|name| table.journeys().get(name));
    let routes = journey.map_or(&[][..], |journey| &journey.routes);
    let known = routes.iter().filter_map(|index| Some((table.routes().get(*index)?, snapshot.state(*index)?)));
    known
        .filter(|(route, _)| route.locate.is_none())
        .map(|(route, state)| (&**route, if state.killed { Weight::NONE } else { state.weight }))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
