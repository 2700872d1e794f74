//! `upstreams:` as written.

use crate::limits::ENDPOINTS_MAX;
use crate::name::UpstreamName;
use crate::raw::keys;
use crate::raw::leaf::{COUNT_MAX, TIMES_MAX};
use crate::raw::walk::{Reader, Spanned};
use crate::route::{Balance, Endpoint, HostPolicy, Retry, Timeouts, Upstream};
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
        }
    }

    /// With its name.
    pub(crate) fn named(self, name: UpstreamName) -> Upstream {
        let Unnamed { endpoints, host, balance, timeouts, max_connections, max_in_flight, fallback_share, retry } =
            self;
        Upstream { name, endpoints, host, balance, timeouts, max_connections, max_in_flight, fallback_share, retry }
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

    let mut endpoints = endpoints?.value;
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
