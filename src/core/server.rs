//! What a process is told at start: `strangler.yaml`, flags and variables, read and right. What changes while it runs is in
//! `routes.yaml` instead.

pub mod asked;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cidr::Cidr;

/// Where clients come in, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Bound once per thread.
    pub address: SocketAddr,
    /// What is spoken there. Default: told by the client's first bytes (or, with TLS, by ALPN).
    pub protocol: ListenerProtocol,
    /// With TLS: certificates and clients' authorities. Default: in the clear.
    pub tls: Option<ListenerTls>,
    /// Whether each connection begins with a PROXY protocol header (v1 or v2). Taken from `trusted_proxies` only; anybody else's connection is closed. Default: no.
    pub proxy_protocol: bool,
    /// Whether its clients are our own: their `strangler-shadow` marks are believed. Default: no.
    pub is_internal: bool,
    /// Connections open at once; one more is closed. Default: 20,000.
    pub max_connections: u32,
    /// Of one client: an IPv4 address, or the /64 of an IPv6 one. Default: 0, no bound: a load balancer is one address.
    pub max_connections_per_ip: u32,
}

impl ListenerConfig {
    /// With the defaults.
    pub fn plain(address: SocketAddr) -> ListenerConfig {
        ListenerConfig {
            address,
            protocol: ListenerProtocol::Auto,
            tls: None,
            proxy_protocol: false,
            is_internal: false,
            max_connections: 20_000,
            max_connections_per_ip: 0,
        }
    }
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP/1.1 or HTTP/2, as the client begins (by ALPN with TLS).
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only (in the clear: by prior knowledge).
    H2c,
}

/// TLS of a listener. Files are read at start and again whenever they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first serves clients without SNI.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities of clients' certificates (PEM). Needed by `client_auth` other than `none`.
    pub client_ca: Option<PathBuf>,
    /// Default: none, and required where `client_ca` is given.
    pub client_auth: ClientAuth,
    /// Whether upstreams are told the subject of the client's certificate, as `strangler-client-subject` (RFC 4514). Default: no.
    pub client_subject: bool,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Leaf first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not asked for.
    #[default]
    None,
    /// Asked for; a wrong one is refused, none is let in.
    Optional,
    /// A connection without a right one is refused.
    Required,
}

/// Bounds on clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// All fields of a head together, in bytes. Default: 64 KiB.
    pub header_bytes: u32,
    /// Fields of a head. Default: 100.
    pub headers: u32,
    /// Request line (HTTP/2: `:path`), in bytes. Default: 8 KiB.
    pub request_line: u32,
    /// From a connection's or a request's first byte to the end of the head, TLS handshake and PROXY header included. Default: 10 s.
    pub header_deadline: Duration,
    /// Between two requests of a connection. Default: 60 s.
    pub keep_alive: Duration,
    /// Requests of a connection. Default: 0, no bound.
    pub requests_per_connection: u32,
    /// Least rate of a request's body, in bytes a second, after a grace of 10 s. Default: 240. 0: no bound but the idle one.
    pub body_min_rate: u32,
    /// Requests under way, all together; one more is answered 503 with `Retry-After`. Default: 50,000.
    pub in_flight: u32,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            header_bytes: 64 << 10,
            headers: 100,
            request_line: 8 << 10,
            header_deadline: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            requests_per_connection: 0,
            body_min_rate: 240,
            in_flight: 50_000,
        }
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long new connections are still taken after readiness has failed, so that balancers notice. Default: 0 s.
    pub delay: Duration,
    /// How long requests under way may then take. Default: 30 s.
    pub deadline: Duration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { delay: Duration::ZERO, deadline: Duration::from_secs(30) }
    }
}

/// What the data plane is told at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// At least one.
    pub listeners: Vec<ListenerConfig>,
    /// Bounds on clients.
    pub limits: ClientLimits,
    /// Peers that may say who the client is.
    pub trusted_proxies: Vec<Cidr>,
    /// How it ends.
    pub drain: Drain,
}
