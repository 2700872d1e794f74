//! Addresses of other systems that are told or asked something, and which of them may be.
//!
//! What follows the host may be a secret (that of a chat's webhook is), so nothing but scheme and host is ever shown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;

/// Longest, in bytes.
pub const WEB_URL_BYTES_MAX: usize = 2_048;

/// `https://host:port/path?query`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebUrl {
    is_tls: bool,
    host: Arc<str>,
    port: u16,
    target: Arc<str>,
}

/// Why a text is no such address. Never says the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebUrlError {
    /// Not a URL at all.
    #[error("not a URL, as in `https://hooks.example.com/path`")]
    Form,
    /// Another scheme.
    #[error("expected `https://`, or `http://` for a loopback or private address")]
    Scheme,
    /// A name and a password before the host.
    #[error("a user and a password in a URL are not taken")]
    User,
    /// Too long.
    #[error("longer than {WEB_URL_BYTES_MAX} bytes")]
    TooLong,
    /// An address that may not be spoken to.
    #[error(transparent)]
    Address(#[from] Unreachable),
}

/// Why an address is not spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// `0.0.0.0`, multicast, broadcast, or of one link alone: where clouds keep what tells a machine's secrets.
    #[error("this address is of nobody that may be told or asked anything (unspecified, link-local or multicast)")]
    Nobody,
    /// In the clear over a public network.
    #[error("in the clear only loopback and private addresses are spoken to; write `https://`")]
    InTheClear,
    /// Our own admin port.
    #[error("this is the proxy's own admin address")]
    Admin,
}

impl WebUrl {
    /// Whether it is spoken to over TLS.
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// A name or an address; one of IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What `Host` says.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let usual = if self.is_tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// Path and query: may be a secret.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Another path below this one; a query of its own is left out.
    pub fn below(&self, path_and_query: &str) -> WebUrl {
        let path = self.target.split('?').next().unwrap_or_default().trim_end_matches('/');
        WebUrl { target: format!("{path}{path_and_query}").into(), ..self.clone() }
    }

    /// Whether an address behind its name may be spoken to; `own`: where the admin port listens.
    ///
    /// # Errors
    /// Why it may not.
    pub fn may_reach(&self, address: SocketAddr, own: &[SocketAddr]) -> Result<(), Unreachable> {
        let ip = address.ip().to_canonical();
        let is_own = |own: &SocketAddr| {
            let bound = own.ip().to_canonical();
            own.port() == address.port() && (bound == ip || bound.is_unspecified())
        };
        if own.iter().any(is_own) {
            return Err(Unreachable::Admin);
        }
        may_speak_to(ip, self.is_tls)
    }
}

fn may_speak_to(ip: IpAddr, is_tls: bool) -> Result<(), Unreachable> {
    let (is_nobody, is_near) = match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            let is_nobody = first == 0 || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local();
            (is_nobody, v4.is_loopback() || v4.is_private() || is_shared)
        }
        IpAddr::V6(v6) => {
            let is_nobody = v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local();
            (is_nobody, v6.is_loopback() || v6.is_unique_local())
        }
    };
    match (is_nobody, is_tls || is_near) {
        (true, _) => Err(Unreachable::Nobody),
        (false, false) => Err(Unreachable::InTheClear),
        (false, true) => Ok(()),
    }
}

impl FromStr for WebUrl {
    type Err = WebUrlError;

    fn from_str(text: &str) -> Result<WebUrl, WebUrlError> {
        if text.len() > WEB_URL_BYTES_MAX {
            return Err(WebUrlError::TooLong);
        }
        let uri: Uri = text.parse().map_err(|_| WebUrlError::Form)?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(WebUrlError::Scheme),
            None => return Err(WebUrlError::Form),
        };
        let authority = uri.authority().ok_or(WebUrlError::Form)?;
        if authority.as_str().contains('@') {
            return Err(WebUrlError::User);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) if port > 0 => port,
            None if !has_port => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            Some(_) | None => return Err(WebUrlError::Form),
        };
        if host.is_empty() || text.contains('#') {
            return Err(WebUrlError::Form);
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            may_speak_to(ip.to_canonical(), is_tls)?;
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(WebUrl { is_tls, host: host.into(), port, target: target.into() })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), if *self.target == *"/" { "" } else { "/…" })
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text with what follows the host in every URL made unreadable: for lines of files that are shown.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || "\"'`,}]".contains(c);
        let whole = after.find(ends).unwrap_or(after.len());
        let (url, more) = after.split_at(whole);
        let host = url.find(['/', '?']).unwrap_or(url.len());
        let (host, secret) = url.split_at(host);
        // `user:password@` stands before the host.
        let shown = host.rfind('@').map_or(0, |at| at + 1);
        out.extend(host.chars().take(shown).map(|_| '*'));
        out.push_str(host.get(shown..).unwrap_or_default());
        out.extend(secret.chars().enumerate().map(|(index, c)| if index == 0 { c } else { '*' }));
        rest = more;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
