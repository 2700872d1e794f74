//! What an upstream is once it has been read.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

use crate::name::UpstreamName;
use crate::rewrite::OwnNames;
use crate::weight::Weight;

/// A named group of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name under `upstreams:`, or one made from the URL when a URL was written in its place.
    pub name: UpstreamName,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// What the upstream sees as `Host`. Default: as the client sent it.
    pub host: HostPolicy,
    /// How an endpoint is chosen. Default: in turn.
    pub balance: Balance,
    /// Bounds on the waits.
    pub timeouts: Timeouts,
    /// Connections of this process to the upstream, all cores together. Default: 256.
    pub max_connections: u32,
    /// Requests under way; one more is answered 503 (legacy) or falls back (extracted). Default: 1,024.
    pub max_in_flight: u32,
    /// Largest part of `max_in_flight` that fallbacks may take. Default: 50 %.
    pub fallback_share: Weight,
    /// When a request is tried again on the same upstream.
    pub retry: Retry,
    /// Endpoints are asked by themselves how they are; `None`: only requests tell.
    pub health_check: Option<HealthCheck>,
    /// Endpoints that fail requests are left out for a while; `None`: never.
    pub outlier_detection: Option<OutlierDetection>,
    /// How endpoints over TLS are known, and we to them.
    pub tls: Tls,
    /// What it calls itself in its answers. Default: its endpoints.
    pub own_names: OwnNames,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// What is spoken there.
    pub scheme: Scheme,
    /// A name or an address; an IPv6 address without brackets.
    pub host: Arc<str>,
    /// 1..=65535.
    pub port: u16,
}

impl Endpoint {
    /// `host:port`, an IPv6 address in brackets: what `Host` says when it is set to the upstream's.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 in the clear, known beforehand.
    H2c,
    /// HTTP/2 over TLS, chosen by ALPN.
    H2,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Scheme; 4] = [Scheme::Http, Scheme::Https, Scheme::H2c, Scheme::H2];

    /// As written in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::H2c => "h2c",
            Scheme::H2 => "h2",
        }
    }

    /// Whether the connection is encrypted.
    pub const fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::H2)
    }

    /// Whether many requests share a connection.
    pub const fn is_h2(self) -> bool {
        matches!(self, Scheme::H2c | Scheme::H2)
    }

    /// When a URL names none.
    pub const fn default_port(self) -> u16 {
        if self.is_tls() { 443 } else { 80 }
    }
}

/// What the upstream sees as `Host`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// What the client sent.
    #[default]
    Preserve,
    /// The endpoint's own authority.
    Upstream,
    /// This, whatever was sent.
    Literal(HeaderValue),
}

/// How an endpoint is chosen among several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    #[default]
    RoundRobin,
    /// The less busy of two drawn at random.
    LeastRequests,
}

/// Bounds on the waits for an upstream; `None` is no bound (written `0s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands. Default: 1 s.
    pub connect: Option<Duration>,
    /// From the request's last byte written to the answer's head. Default: 30 s.
    pub response_header: Option<Duration>,
    /// Between two pieces of a body, either way. Default: 60 s.
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Some(Duration::from_secs(1)),
            response_header: Some(Duration::from_secs(30)),
            idle: Some(Duration::from_secs(60)),
        }
    }
}

/// When a request is tried again on the same upstream. Never after a byte of a request with side effects may have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further tries after the first. Default: 1. Largest: 5.
    pub times: u8,
    /// After no connection could be made. Default: yes.
    pub on_connect_failure: bool,
    /// After the connection broke before the answer's head. Default: yes.
    pub on_reset_before_response: bool,
    /// Retries as a part of requests, over the last 10 s, at least 3 a second beside. Default: 20 %.
    pub budget: Weight,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            times: 1,
            on_connect_failure: true,
            on_reset_before_response: true,
            budget: Weight::from_basis_points(2_000).unwrap_or(Weight::NONE),
        }
    }
}

/// How endpoints are asked, by themselves, how they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Asked with GET; any answer from 200 to 399 is good.
    pub path: PathAndQuery,
    /// Between two checks of an endpoint, a tenth more or less. Default: 5 s.
    pub interval: Duration,
    /// Bound on a check, connection included. Default: 1 s.
    pub timeout: Duration,
    /// Good checks in a row that bring it back. Default: 2.
    pub healthy_after: NonZeroU32,
    /// Bad checks in a row that take it out. Default: 3.
    pub unhealthy_after: NonZeroU32,
}

/// Endpoints that fail requests are left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Failures in a row. Default: 5.
    pub consecutive_failures: NonZeroU32,
    /// How long the first time; the second time twice as long, and so on up to ten times. Default: 30 s.
    pub eject_for: Duration,
    /// Largest part of the endpoints that may be out; never the last one. Default: 50 %.
    pub max_ejected: Weight,
}

impl Default for OutlierDetection {
    fn default() -> OutlierDetection {
        OutlierDetection {
            consecutive_failures: NonZeroU32::MIN.saturating_add(4),
            eject_for: Duration::from_secs(30),
            max_ejected: Weight::from_basis_points(5_000).unwrap_or(Weight::NONE),
        }
    }
}

/// How endpoints over TLS are known. They are always verified; an endpoint that cannot be is not spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates (PEM) of the authorities that are believed, and no others. Default: the public ones (Mozilla's list, built in).
    pub ca: Option<Arc<str>>,
    /// Our own certificate, its chain, and its key (PEM).
    pub client: Option<ClientCertificate>,
    /// The name that the certificate must be for, also sent as SNI. Default: the endpoint's host.
    pub server_name: Option<Arc<str>>,
}

/// Files with which we say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its chain, ours first.
    pub cert: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
}

impl Tls {
    /// Every file that is read, with the key that names it.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> {
        let client = self.client.iter().flat_map(|client| [("client_cert", &client.cert), ("client_key", &client.key)]);
        self.ca.iter().map(|ca| ("ca", ca)).chain(client)
    }

    /// The same, with relative paths put below `base`.
    pub(crate) fn below(mut self, base: &str) -> Tls {
        let place = |path: &Arc<str>| -> Arc<str> {
            if base.is_empty() || path.starts_with('/') {
                Arc::clone(path)
            } else {
                Arc::from(format!("{}/{path}", base.trim_end_matches('/')))
            }
        };
        self.ca = self.ca.as_ref().map(place);
        self.client =
            self.client.as_ref().map(|client| ClientCertificate { cert: place(&client.cert), key: place(&client.key) });
        self
    }
}
