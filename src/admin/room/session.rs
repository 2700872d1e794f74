//! Who is logged in with a browser: a token was exchanged for a cookie, which is worth nothing elsewhere and not for long.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest time without a request.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Longest time in all.
pub(crate) const LIFE_MAX: Duration = Duration::from_secs(8 * 60 * 60);
/// Sessions at a time; one more ends the one that was idle for longest.
pub(crate) const SESSIONS_MAX: usize = 64;

/// A browser that is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// What each of its changes must bring along; no other site can read it.
    pub(crate) csrf: String,
    /// How its person calls themselves.
    pub(crate) by: Option<String>,
}

impl Session {
    /// Whether that is its own token. Takes as long for any wrong one.
    pub(crate) fn is_csrf(&self, given: &[u8]) -> bool {
        self.csrf.as_bytes().ct_eq(given).into()
    }
}

#[derive(Debug)]
struct Kept {
    session: Session,
    begun: Instant,
    seen: Instant,
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) >= IDLE_MAX || now.saturating_duration_since(self.begun) >= LIFE_MAX
    }
}

/// All that are logged in, by the hash of their cookie: the cookies themselves are not kept.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<[u8; 32], Kept>>);

impl Sessions {
    /// Begins one. Answers its cookie's value; `None`: the system gave no random bits.
    pub(crate) fn open(&self, by: Option<String>, now: Instant) -> Option<String> {
        let (cookie, csrf) = (random()?, random()?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| !kept.is_over(now));
        while all.len() >= SESSIONS_MAX {
            let idlest = all.iter().min_by_key(|(_, kept)| kept.seen).map(|(key, _)| *key)?;
            all.remove(&idlest);
        }
        all.insert(digest(&cookie), Kept { session: Session { csrf, by }, begun: now, seen: now });
        Some(cookie)
    }

    /// The session of a cookie, which is thereby not idle.
    pub(crate) fn find(&self, cookie: &str, now: Instant) -> Option<Session> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = digest(cookie);
        let kept = all.get_mut(&key)?;
        if kept.is_over(now) {
            all.remove(&key);
            return None;
        }
        kept.seen = now;
        Some(kept.session.clone())
    }

    /// Ends one.
    pub(crate) fn close(&self, cookie: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest(cookie));
    }
}

/// The cookie's name. Over TLS no other host and no path can set it. On a loopback address without TLS it has the port in it, for cookies do
/// not tell ports apart.
pub(crate) fn cookie_name(is_tls: bool, port: u16) -> String {
    if is_tls { "__Host-strangler".to_owned() } else { format!("strangler_{port}") }
}

/// The header that sets it, or takes it away.
pub(crate) fn set_cookie(name: &str, value: Option<&str>, is_tls: bool) -> String {
    let secure = if is_tls { "; Secure" } else { "" };
    let age = value.map_or(0, |_| LIFE_MAX.as_secs());
    format!("{name}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}", value.unwrap_or_default())
}

/// The value of a cookie in a `Cookie` header.
pub(crate) fn cookie_of<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

fn random() -> Option<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

fn digest(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_idle_after_half_an_hour_and_in_any_case_after_eight() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let cookie = sessions.open(Some("ann".to_owned()), start).unwrap();
        let session = sessions.find(&cookie, start + IDLE_MAX / 2).unwrap();
        assert!(session.is_csrf(session.csrf.as_bytes()) && !session.is_csrf(b"") && session.csrf != cookie);
        assert_eq!(sessions.find("another", start), None);
        assert!(sessions.find(&cookie, start + IDLE_MAX).is_some(), "it was seen in between");
        assert_eq!(sessions.find(&cookie, start + IDLE_MAX * 2), None);
        let cookie = sessions.open(None, start).unwrap();
        let mut now = start;
        while sessions.find(&cookie, now).is_some() {
            now += IDLE_MAX / 2;
        }
        assert_eq!(now, start + LIFE_MAX);
    }

    #[test]
    fn one_too_many_ends_the_idlest() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let first = sessions.open(None, start).unwrap();
        let later = start + Duration::from_secs(1);
        let all: Vec<String> = (0..SESSIONS_MAX).map(|_| sessions.open(None, later).unwrap()).collect();
        assert_eq!(sessions.find(&first, later), None);
        assert!(all.iter().all(|cookie| sessions.find(cookie, later).is_some()));
        sessions.close(&all[0]);
        assert_eq!(sessions.find(&all[0], later), None);
    }

    #[test]
    fn a_cookie_is_for_this_host_and_no_script() {
        assert_eq!(cookie_name(true, 1), "__Host-strangler");
        let name = cookie_name(false, 9900);
        let set = set_cookie(&name, Some("v"), false);
        assert_eq!(set, "strangler_9900=v; Path=/; HttpOnly; SameSite=Strict; Max-Age=28800");
        assert!(set_cookie(&name, None, true).ends_with("Max-Age=0; Secure"));
        assert_eq!(cookie_of("a=b; strangler_9900=v; c=d", &name), Some("v"));
        assert_eq!(cookie_of("strangler_99001=v", &name), None);
    }
}
