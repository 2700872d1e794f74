//! `upstreams:` as written.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;

use crate::limits::ENDPOINTS_MAX;
use crate::name::UpstreamName;
use crate::raw::keys;
use crate::raw::leaf::{COUNT_MAX, TIMES_MAX, is_host};
use crate::raw::rewrite::own_names;
use crate::raw::walk::{Reader, Spanned};
use crate::rewrite::OwnNames;
use crate::route::{
    Balance, ClientCertificate, Endpoint, HealthCheck, HostPolicy, OutlierDetection, Retry, Timeouts, Tls, Upstream,
};
use crate::tree::Node;
use crate::weight::Weight;

/// An entry of `upstreams:`.
#[derive(Debug)]
pub(crate) struct RawUpstream {
    /// Under which name; `None` when that is none.
    pub(crate) name: Option<Spanned<UpstreamName>>,
    /// What stands there, its name still missing; `None` when it is wrong.
    pub(crate) upstream: Option<Unnamed>,
}

/// An upstream before it has its name.
#[derive(Debug)]
pub(crate) struct Unnamed {
    endpoints: Vec<Endpoint>,
    host: HostPolicy,
    balance: Balance,
    timeouts: Timeouts,
    max_connections: u32,
    max_in_flight: u32,
    fallback_share: Weight,
    retry: Retry,
    health_check: Option<HealthCheck>,
    outlier_detection: Option<OutlierDetection>,
    tls: Tls,
    own_names: OwnNames,
}

impl Unnamed {
    /// One endpoint, everything else as it is by default.
    pub(crate) fn at(endpoint: Endpoint) -> Unnamed {
        Unnamed {
            endpoints: vec![endpoint],
            host: HostPolicy::default(),
            balance: Balance::default(),
            timeouts: Timeouts::default(),
            max_connections: 256,
            max_in_flight: 1_024,
            fallback_share: Weight::from_basis_points(5_000).unwrap_or_default(),
            retry: Retry::default(),
            health_check: None,
            outlier_detection: None,
            tls: Tls::default(),
            own_names: OwnNames::default(),
        }
    }

    /// With its name.
    pub(crate) fn named(self, name: UpstreamName) -> Upstream {
        Upstream {
            name,
            endpoints: self.endpoints,
            host: self.host,
            balance: self.balance,
            timeouts: self.timeouts,
            max_connections: self.max_connections,
            max_in_flight: self.max_in_flight,
            fallback_share: self.fallback_share,
            retry: self.retry,
            health_check: self.health_check,
            outlier_detection: self.outlier_detection,
            tls: self.tls,
            own_names: self.own_names,
        }
    }

    /// With the files that it names below `base`.
    pub(crate) fn below(self, base: &str) -> Unnamed {
        Unnamed { tls: self.tls.below(base), ..self }
    }
}

pub(in crate::raw) fn upstream<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Unnamed> {
    let fields = reader.fields(node, &keys::UPSTREAM)?;
    let endpoints = reader.key(&fields, "endpoints", endpoints);
    let host = reader.key(&fields, "host", |reader, node| match reader.text(node, "a host")? {
        "preserve" => Some(HostPolicy::Preserve),
        "upstream" => Some(HostPolicy::Upstream),
        "" => {
            reader.fault(node.span, "a host must not be empty");
            None
        }
        _ => reader.header_value(node).map(HostPolicy::Literal),
    });
    let balance = reader.key(&fields, "balance", |reader, node| {
        let words = [("round_robin", Balance::RoundRobin), ("least_requests", Balance::LeastRequests)];
        reader.one_of(node, &words, &[])
    });
    let timeouts = reader.key(&fields, "timeouts", timeouts);
    let max_connections = reader.key(&fields, "max_connections", |reader, node| reader.count_u32(node, 1, COUNT_MAX));
    let max_in_flight = reader.key(&fields, "max_in_flight", |reader, node| reader.count_u32(node, 1, COUNT_MAX));
    let fallback_share = reader.key(&fields, "fallback_share", Reader::weight);
    let retry = reader.key(&fields, "retry", retry);
    let own_names = reader.key(&fields, "own_names", own_names);

    let health_check = reader.key(&fields, "health_check", health_check);
    let outlier_detection = reader.key(&fields, "outlier_detection", outlier_detection);
    let tls = reader.key(&fields, "tls", tls);

    let mut endpoints = endpoints?.value;
    if let Some(tls) = tls.as_ref().filter(|_| !endpoints.iter().any(|endpoint| endpoint.scheme.is_tls())) {
        let help = "write the endpoints as `https://…` or `h2://…`".to_owned();
        reader.fault_with_help(tls.span, "no endpoint is spoken to over TLS, so `tls` would do nothing", Some(help));
    }
    let mut upstream = Unnamed::at(endpoints.pop()?);
    endpoints.append(&mut upstream.endpoints);
    Some(Unnamed {
        endpoints,
        host: host.map_or(upstream.host, |host| host.value),
        balance: balance.map_or(upstream.balance, |balance| balance.value),
        timeouts: timeouts.map_or(upstream.timeouts, |timeouts| timeouts.value),
        max_connections: max_connections.map_or(upstream.max_connections, |count| count.value),
        max_in_flight: max_in_flight.map_or(upstream.max_in_flight, |count| count.value),
        fallback_share: fallback_share.map_or(upstream.fallback_share, |share| share.value),
        retry: retry.map_or(upstream.retry, |retry| retry.value),
        health_check: health_check.map(|check| check.value),
        outlier_detection: outlier_detection.map(|detection| detection.value),
        tls: tls.map_or(upstream.tls, |tls| tls.value),
        own_names: own_names.map(|names| names.value).unwrap_or_default(),
    })
}

fn endpoints<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<Endpoint>> {
    let list = reader.list(node, ENDPOINTS_MAX, Reader::endpoint)?;
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(list.len());
    for endpoint in list {
        if endpoints.contains(&endpoint.value) {
            reader.fault(endpoint.span, format!("`{}` is there twice", endpoint.value));
        } else {
            endpoints.push(endpoint.value);
        }
    }
    let is_written_empty = matches!(&node.kind, crate::tree::Kind::Seq(items) if items.is_empty());
    if is_written_empty {
        reader.fault(node.span, "an upstream has at least one endpoint");
    }
    Some(endpoints)
}

fn timeouts<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Timeouts> {
    let fields = reader.fields(node, &keys::TIMEOUTS)?;
    let mut timeouts = Timeouts::default();
    let places = [
        ("connect", &mut timeouts.connect),
        ("response_header", &mut timeouts.response_header),
        ("idle", &mut timeouts.idle),
    ];
    for (name, place) in places {
        if let Some(wait) = reader.key(&fields, name, |reader, node| reader.duration(node, true)) {
            *place = Some(wait.value).filter(|wait| !wait.is_zero());
        }
    }
    Some(timeouts)
}

fn retry<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Retry> {
    let fields = reader.fields(node, &keys::RETRY)?;
    let mut retry = Retry::default();
    if let Some(times) = reader.key(&fields, "times", |reader, node| reader.count(node, 0, TIMES_MAX)) {
        retry.times = u8::try_from(times.value).unwrap_or(0);
    }
    let when = reader.key(&fields, "when", |reader, node| {
        let words = [("connect_failure", false), ("reset_before_response", true)];
        reader.list(node, words.len(), |reader, item| reader.one_of(item, &words, &[]))
    });
    if let Some(when) = when {
        let has = |is_reset: bool| when.value.iter().any(|item| item.value == is_reset);
        retry.on_connect_failure = has(false);
        retry.on_reset_before_response = has(true);
    }
    if let Some(budget) = reader.key(&fields, "budget", Reader::weight) {
        retry.budget = budget.value;
    }
    Some(retry)
}

/// Least time between two checks of an endpoint.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Most checks or failures in a row that may be asked for.
const STREAK_MAX: u64 = 1_000;

fn streak<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<NonZeroU32> {
    reader.count_u32(node, 1, STREAK_MAX).and_then(NonZeroU32::new)
}

fn health_check<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<HealthCheck> {
    let fields = reader.fields(node, &keys::HEALTH_CHECK)?;
    let path = reader.key(&fields, "path", |reader, node| {
        let text = reader.short_text(node, "a path, as in `/healthz`")?;
        let path = text.parse::<PathAndQuery>().ok().filter(|_| text.starts_with('/'));
        if path.is_none() {
            reader.fault(node.span, format!("{text:?} is no path: it begins with `/` and has no spaces"));
        }
        path
    });
    let interval = reader.key(&fields, "interval", |reader, node| {
        let interval = reader.duration(node, false)?;
        if interval < INTERVAL_MIN {
            reader.fault(node.span, format!("at least {} ms", INTERVAL_MIN.as_millis()));
            return None;
        }
        Some(interval)
    });
    let timeout = reader.key(&fields, "timeout", |reader, node| reader.duration(node, false));
    let healthy_after = reader.key(&fields, "healthy_after", streak);
    let unhealthy_after = reader.key(&fields, "unhealthy_after", streak);
    Some(HealthCheck {
        path: path?.value,
        interval: interval.map_or(Duration::from_secs(5), |interval| interval.value),
        timeout: timeout.map_or(Duration::from_secs(1), |timeout| timeout.value),
        healthy_after: healthy_after.map_or(NonZeroU32::MIN.saturating_add(1), |count| count.value),
        unhealthy_after: unhealthy_after.map_or(NonZeroU32::MIN.saturating_add(2), |count| count.value),
    })
}

fn outlier_detection<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<OutlierDetection> {
    let fields = reader.fields(node, &keys::OUTLIER_DETECTION)?;
    let built_in = OutlierDetection::default();
    let consecutive_failures = reader.key(&fields, "consecutive_failures", streak);
    let eject_for = reader.key(&fields, "eject_for", |reader, node| reader.duration(node, false));
    let max_ejected = reader.key(&fields, "max_ejected", Reader::weight);
    Some(OutlierDetection {
        consecutive_failures: consecutive_failures.map_or(built_in.consecutive_failures, |count| count.value),
        eject_for: eject_for.map_or(built_in.eject_for, |wait| wait.value),
        max_ejected: max_ejected.map_or(built_in.max_ejected, |part| part.value),
    })
}

fn tls<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Tls> {
    let fields = reader.fields(node, &keys::TLS)?;
    let file = |reader: &mut Reader<'a>, node| reader.short_text(node, "the path of a file");
    let ca = reader.key(&fields, "ca", file);
    let cert = reader.key(&fields, "client_cert", file);
    let key = reader.key(&fields, "client_key", file);
    let server_name = reader.key(&fields, "server_name", |reader, node| {
        // Never a way to switch the check off: an empty name is refused like any other that is none.
        let name = reader.short_text(node, "the name that the certificate must be for")?;
        if !is_host(&name) && name.parse::<std::net::IpAddr>().is_err() {
            reader.fault(node.span, format!("`{name}` is not the name of a host"));
            return None;
        }
        Some(name)
    });
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some(ClientCertificate { cert: cert.value, key: key.value }),
        (Some(cert), None) => {
            reader.fault(cert.span, "`client_cert` needs `client_key`");
            None
        }
        (None, Some(key)) => {
            reader.fault(key.span, "`client_key` needs `client_cert`");
            None
        }
        (None, None) => None,
    };
    let server_name: Option<Arc<str>> = server_name.map(|name| name.value);
    Some(Tls { ca: ca.map(|ca| ca.value), client, server_name })
}
