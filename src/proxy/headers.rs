//! Header fields on their way through: what belongs to one connection goes, what we vouch for is set.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use strangler_core::cidr::{Cidr, client_behind};
use strangler_core::decide::{FreshId, STICKY_COOKIE};
use strangler_core::door::{HOP_BY_HOP, Refusal, may_trail, nominated};
use strangler_core::route::HeaderEdits;
use strangler_core::shadow::MARK;
use strangler_core::subject::CLIENT_SUBJECT;

use crate::proxy::listener::{Listener, Seat};
use crate::upstream::chance;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const VIA_US: HeaderValue = HeaderValue::from_static("1.1 strangler");
const VIA_US_H2: HeaderValue = HeaderValue::from_static("2 strangler");

/// The other end of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Written once per connection.
    pub(crate) text: HeaderValue,
    /// Whether it may say who the client is.
    pub(crate) is_trusted: bool,
    /// Whether its marks on copies are believed.
    pub(crate) may_mark: bool,
    /// Whether it comes over TLS.
    pub(crate) is_tls: bool,
    /// Whether it speaks HTTP/2.
    pub(crate) is_h2: bool,
    /// The name it asked for in the handshake (SNI).
    pub(crate) opened_for: Option<Box<str>>,
    /// The subject of its certificate, where upstreams are told.
    pub(crate) subject: Option<Box<HeaderValue>>,
    /// Its connection's place on the books of the listener: free again when nobody speaks of this peer any more.
    pub(crate) seat: Option<Arc<Seat>>,
}

impl Peer {
    /// With nothing between it and us.
    pub(crate) fn direct(ip: IpAddr, trusted: &[Cidr], listener: &Listener) -> Peer {
        let is_trusted = trusted.iter().any(|block| block.contains(ip));
        Peer {
            ip,
            text: HeaderValue::from_str(&ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            is_trusted,
            may_mark: is_trusted || listener.is_internal(),
            is_tls: false,
            is_h2: false,
            opened_for: None,
            subject: None,
            seat: None,
        }
    }

    /// The client that this request is from: the peer itself, or whom those we trust name.
    pub(crate) fn client(&self, headers: &HeaderMap, trusted: &[Cidr]) -> IpAddr {
        if !self.is_trusted {
            return self.ip;
        }
        // Of several fields with this name the order is kept.
        let fields: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
        client_behind(self.ip, fields.into_iter(), trusted)
    }

    /// The same, as it is logged.
    pub(crate) fn client_text(&self, headers: &HeaderMap, trusted: &[Cidr]) -> HeaderValue {
        let client = self.client(headers, trusted);
        let text = (client != self.ip).then(|| HeaderValue::from_str(&client.to_string()).ok()).flatten();
        text.unwrap_or_else(|| self.text.clone())
    }

    /// What `X-Forwarded-Proto` says of it.
    fn scheme(&self) -> HeaderValue {
        HeaderValue::from_static(if self.is_tls { "https" } else { "http" })
    }
}

/// What was found while the fields were made ready.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The trace, as sent on.
    pub(crate) traceparent: HeaderValue,
}

/// Makes a request's fields ready for an upstream.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    peer: &Peer,
    authority: &HeaderValue,
) -> Result<Prepared, Refusal> {
    let is_copy = peer.may_mark && headers.contains_key(&MARK);
    // One look at each name: the usual request has nothing to take out, and then nothing is searched for.
    let (is_hop, is_dropped) = headers.keys().fold((false, false), |(hop, dropped), name| {
        let name = name.as_str();
        (hop || is_hop_by_hop(name), dropped || is_ours_or_doubtful(name, peer.is_trusted))
    });
    if is_hop {
        for name in nominated(headers)? {
            headers.remove(name);
        }
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        headers.remove(header::EXPECT);
    }
    if is_dropped {
        let is_dropped = |name: &&HeaderName| is_ours_or_doubtful(name.as_str(), peer.is_trusted);
        let dropped: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
        for name in dropped {
            headers.remove(name);
        }
    }
    // What is added below and to a copy, so that the map grows once; the connection keeps it for its next request.
    headers.reserve(6);

    set_forwarded(headers, peer, authority);
    headers.append(header::VIA, if peer.is_h2 { VIA_US_H2 } else { VIA_US });
    if let Some(subject) = &peer.subject {
        headers.insert(CLIENT_SUBJECT, (**subject).clone());
    }
    let traceparent = set_trace(headers, peer.is_trusted);
    if is_copy {
        headers.insert(MARK, HeaderValue::from_static("1"));
    }
    Ok(Prepared { traceparent })
}

/// Fields that only we may set, those in which a stranger would say who it is, and names that a server may read as another one (`X_Forwarded_For`).
fn is_ours_or_doubtful(name: &str, is_trusted: bool) -> bool {
    // By the first letter: most names are told by it.
    let is_named = match name.as_bytes().first() {
        // All of them: `X-Forwarded-Prefix` or `-Port` makes links as well as `-Host` does.
        Some(b'x') => {
            name.starts_with("x-strangler-")
                || (!is_trusted && (name.starts_with("x-forwarded-") || name == "x-real-ip"))
        }
        Some(b's') => name.starts_with("strangler-"),
        Some(b't') => !is_trusted && matches!(name, "traceparent" | "tracestate"),
        Some(b'f') => !is_trusted && name == "forwarded",
        Some(b'v') => !is_trusted && name == "via",
        _ => false,
    };
    is_named || name.as_bytes().contains(&b'_')
}

/// Whether a name belongs to one connection, or (`expect`) is answered by us.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "expect"
    )
}

fn set_forwarded(headers: &mut HeaderMap, peer: &Peer, authority: &HeaderValue) {
    if !peer.is_trusted {
        // A stranger's own have been taken out: there is nothing to replace.
        headers.append(X_FORWARDED_FOR, peer.text.clone());
        headers.append(X_FORWARDED_HOST, authority.clone());
        headers.append(X_FORWARDED_PROTO, peer.scheme());
        return;
    }
    let before =
        headers.get_all(X_FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
    let all = if before.is_empty() {
        peer.text.as_bytes().to_vec()
    } else {
        [&before, &b", "[..], peer.text.as_bytes()].concat()
    };
    if let Ok(all) = HeaderValue::from_bytes(&all) {
        headers.insert(X_FORWARDED_FOR, all);
    }
    headers.entry(X_FORWARDED_HOST).or_insert_with(|| authority.clone());
    headers.entry(X_FORWARDED_PROTO).or_insert_with(|| peer.scheme());
    if headers.contains_key(header::FORWARDED) {
        let node = if peer.ip.is_ipv6() { format!("for=\"[{}]\"", peer.ip) } else { format!("for={}", peer.ip) };
        let before = headers.get_all(header::FORWARDED).iter().map(HeaderValue::as_bytes);
        let all = before.chain([node.as_bytes()]).collect::<Vec<_>>().join(&b", "[..]);
        if let Ok(all) = HeaderValue::from_bytes(&all) {
            headers.insert(header::FORWARDED, all);
        }
    }
}

/// W3C Trace Context: a trusted peer's trace goes on under a span of ours, any other begins here.
fn set_trace(headers: &mut HeaderMap, is_trusted: bool) -> HeaderValue {
    // A stranger's has been dropped already.
    let known = if is_trusted { headers.get(TRACEPARENT).and_then(|value| trace_of(value.as_bytes())) } else { None };
    if is_trusted && known.is_none() {
        headers.remove(TRACESTATE);
    }
    let value = chance::traceparent(known.map(|(trace, _)| trace), known.map_or(*b"01", |(_, flags)| flags));
    if is_trusted {
        headers.insert(TRACEPARENT, value.clone());
    } else {
        headers.append(TRACEPARENT, value.clone());
    }
    value
}

/// Trace id and flags of a valid `traceparent` of version 00.
fn trace_of(value: &[u8]) -> Option<([u8; 32], [u8; 2])> {
    let is_shaped =
        value.len() == 55 && value.starts_with(b"00-") && value.get(35) == Some(&b'-') && value.get(52) == Some(&b'-');
    let trace: [u8; 32] = value.get(3..35)?.try_into().ok()?;
    let span = value.get(36..52)?;
    let flags: [u8; 2] = value.get(53..55)?.try_into().ok()?;
    let is_hex = |bytes: &[u8]| bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |bytes: &[u8]| bytes.iter().all(|b| *b == b'0');
    let is_valid = is_shaped && is_hex(&trace) && is_hex(span) && is_hex(&flags) && !is_zero(&trace) && !is_zero(span);
    is_valid.then_some((trace, flags))
}

/// Makes an answer's fields ready for the client.
pub(crate) fn prepare_response(headers: &mut HeaderMap) {
    let is_ours = |name: &HeaderName| name.as_str().starts_with("strangler-");
    if headers.keys().any(|name| is_hop_by_hop(name.as_str()) || is_ours(name)) {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            // Beside a transfer coding a length says nothing (RFC 9112 §6.3), and left alone it would cut the answer.
            headers.remove(header::CONTENT_LENGTH);
        }
        // What is nominated wrongly is an upstream's fault, not the user's: those fields stay. Of ours only we say such things.
        let mut gone = nominated(headers).unwrap_or_default();
        gone.extend(headers.keys().filter(|name| is_ours(name)).cloned());
        for name in gone.iter().chain(&HOP_BY_HOP) {
            headers.remove(name);
        }
    }
    headers.append(header::VIA, VIA_US);
}

/// Takes out of a trailer section what may not stand there: a server that merges it into the head would be told another one.
pub(crate) fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    if frame.is_data() {
        return frame;
    }
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let gone: Vec<HeaderName> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
            for name in gone {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Whether the client's own way to us, or to the proxy before us, is TLS; asked of fields that are ready for an upstream.
pub(crate) fn came_by_tls(headers: &HeaderMap) -> bool {
    headers.get(X_FORWARDED_PROTO).is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Applies a route's own changes.
pub(crate) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name.clone(), value.clone());
    }
}

/// While users are split, a shared cache must not give one side's answer to the other side's users.
pub(crate) fn keep_from_shared_caches(headers: &mut HeaderMap) {
    if let Some(value) = strangler_core::caching::private_cache_control(headers.get_all(header::CACHE_CONTROL)) {
        headers.insert(header::CACHE_CONTROL, value);
    }
}

/// Sets the proxy's own cookie.
pub(crate) fn set_cookie(headers: &mut HeaderMap, id: &FreshId, is_secure: bool) {
    let id = std::str::from_utf8(id).unwrap_or_default();
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{STICKY_COOKIE}={id}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(header::SET_COOKIE, value);
    }
}
