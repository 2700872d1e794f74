//! The beginning of a connection that does not begin with HTTP: a PROXY protocol header, a TLS handshake, or both.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use pingora_core::protocols::Stream;
use strangler_core::proxy_protocol::{self, ProxyHeader, ProxyProtocolError, Source, V2_REST_MAX};
use strangler_core::server::ListenerProtocol;
use tokio::io::AsyncReadExt as _;
use tokio_rustls::TlsAcceptor;

use crate::proxy::Worker;
use crate::proxy::connection::{Phase, Waiting};
use crate::proxy::headers::Peer;
use crate::proxy::listener::Seat;
use crate::proxy::tls::{TlsSet, subject_of};
use crate::proxy::transport::{Replayed, Transport};

/// Handshakes under way on a core; one more connection is closed. Each holds keys and buffers, and the queue behind them is the
/// kernel's.
const HANDSHAKES_MAX: usize = 1_024;

thread_local! {
    static HANDSHAKES: Cell<usize> = const { Cell::new(0) };
}

/// A connection on which HTTP may begin.
pub(crate) struct Opened {
    pub(crate) io: Transport,
    pub(crate) peer: Peer,
    /// What is spoken; `Auto`: its first bytes tell.
    pub(crate) protocol: ListenerProtocol,
}

/// Opens it; `None`: it was refused, counted and logged. The sweeper ends one that takes too long.
pub(crate) async fn open(
    worker: &Arc<Worker>,
    seat: &mut Seat,
    stream: Stream,
    ip: IpAddr,
    waiting: &Arc<Waiting>,
) -> Option<Opened> {
    let proxy = &worker.proxy;
    let refuse = |reason: &'static str, cause: String| {
        proxy.metrics.count_rejected(reason);
        tracing::debug!(client = %ip, reason, cause, "a connection was refused before its first request");
    };
    let listener = Arc::clone(&seat.listener);
    let trusted = &proxy.settings.server.trusted_proxies;
    let mut replayed = Replayed { before: Bytes::new(), io: stream };
    let (mut client, mut is_anonymous) = (ip, false);
    if listener.has_proxy_header() {
        if !trusted.iter().any(|block| block.contains(ip)) {
            refuse("proxy_protocol", "the peer is not among the trusted ones".to_owned());
            return None;
        }
        waiting.go_on_to(Phase::ProxyHeader);
        match read_header(&mut replayed).await {
            Ok(header) => match header.source {
                Source::Client(address) => client = address.ip().to_canonical(),
                Source::Balancer => {}
                Source::Unknown => is_anonymous = true,
            },
            Err(error) => {
                refuse("proxy_protocol", error.to_string());
                return None;
            }
        }
        if let Err(reason) = seat.take_client(client) {
            refuse(reason, String::new());
            return None;
        }
        waiting.go_on_to(Phase::Head);
    }
    // Of a client without an address nothing is believed, though the balancer that brought it is.
    let mut peer = Peer::direct(client, if is_anonymous { &[] } else { trusted }, &listener);
    let Some(tls) = listener.tls() else {
        return Some(Opened { io: Transport::Replayed(Box::new(replayed)), peer, protocol: listener.protocol() });
    };
    let Some(_one_of_many) = Handshake::begin() else {
        refuse("too_many_handshakes", String::new());
        return None;
    };
    waiting.go_on_to(Phase::Handshake);
    let stream = match TlsAcceptor::from(tls.config()).accept(replayed).await {
        Ok(stream) => Box::new(stream),
        Err(error) => {
            refuse("tls_handshake", error.to_string());
            return None;
        }
    };
    waiting.go_on_to(Phase::Head);
    let protocol = vouch(&mut peer, &stream, tls);
    Some(Opened { io: Transport::Tls(stream), peer, protocol })
}

/// Takes over what the handshake has proven.
fn vouch(peer: &mut Peer, stream: &tokio_rustls::server::TlsStream<Replayed>, tls: &TlsSet) -> ListenerProtocol {
    let (_, session) = stream.get_ref();
    peer.is_tls = true;
    peer.opened_for = session.server_name().map(Into::into);
    if tls.tells_subject() {
        let subject = session.peer_certificates().and_then(|chain| subject_of(chain.first()?));
        peer.subject = subject.and_then(|subject| HeaderValue::try_from(subject).ok()).map(Box::new);
    }
    // Without ALPN it is HTTP/1 (RFC 9113 §3.2).
    if session.alpn_protocol() == Some(b"h2") { ListenerProtocol::H2c } else { ListenerProtocol::Http1 }
}

/// Why there is no PROXY header.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("the connection ended before its PROXY protocol header")]
    Ended,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Bad(#[from] ProxyProtocolError),
}

/// Reads until the header is whole; what came behind it is kept.
async fn read_header(replayed: &mut Replayed) -> Result<ProxyHeader, HeaderError> {
    let mut read = BytesMut::with_capacity(1 << 10);
    loop {
        if replayed.io.read_buf(&mut read).await? == 0 {
            return Err(HeaderError::Ended);
        }
        if let Some(header) = proxy_protocol::parse(&read)? {
            replayed.before = read.split_off(header.length).freeze();
            return Ok(header);
        }
        // The parser refuses a length beyond this as soon as it is told; here only what is read is bounded.
        if read.len() > 2 * V2_REST_MAX {
            return Err(ProxyProtocolError::TooLong.into());
        }
    }
}

/// A handshake under way on this core.
struct Handshake;

impl Handshake {
    fn begin() -> Option<Handshake> {
        let under_way = HANDSHAKES.get();
        (under_way < HANDSHAKES_MAX).then(|| {
            HANDSHAKES.set(under_way + 1);
            Handshake
        })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        HANDSHAKES.set(HANDSHAKES.get().saturating_sub(1));
    }
}
