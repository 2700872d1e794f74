//! What of a request is evidence about its route: whom it was from, where the weight sent it, and how it ended.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::decide::{Decision, Reason};
use crate::facts::RequestFacts;
use crate::observation::Failure;
use crate::shadow::MARK;
use crate::side::Side;
use crate::split::choose_side;
use crate::weight::Weight;

/// A request, as far as it proves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Keyed hash of whoever the weight was drawn for: the caller's key, else its address and user agent.
    pub key: u64,
    /// Keyed hash of the client's address (of its network's, for IPv6): one address proves only so much in a minute.
    pub client: u64,
    /// The side that the weight chose. Where another one answered instead, what happened is this one's.
    pub side: Side,
    /// The weight that chose it.
    pub weight: Weight,
}

/// How a request ended, to whoever it was assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An answer came to its end.
    Answered {
        /// Its status.
        status: u16,
        /// Whether that is a failure by the route's `success`.
        is_failure: bool,
        /// From the request's dispatch to the answer's head.
        took: Duration,
    },
    /// The side failed, whoever answered then.
    Failed {
        /// Whether no connection came about.
        is_unconnected: bool,
    },
    /// The client went away first: nothing is known.
    Gone,
}

/// What is known when a request is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How the assigned side failed, whoever answered then.
    pub failure: Option<Failure>,
    /// From the request's dispatch to the head of that side's answer; `None`: there was none.
    pub took: Option<Duration>,
    /// What the client was told; 0: nothing.
    pub status: u16,
    /// Whether that status is a failure by the route's `success`.
    pub is_bad_status: bool,
    /// Whether the client took all of the answer.
    pub is_whole: bool,
}

impl End {
    /// `None`: the assigned side was not asked, so nothing is known of it: its breaker was open, or the request was refused here.
    pub fn of(ended: &Ended) -> Option<End> {
        match (ended.failure, ended.took) {
            (Some(Failure::BreakerOpen), _) => None,
            (Some(failure), _) => Some(End::Failed {
                is_unconnected: matches!(failure, Failure::Connect | Failure::ConnectTimeout | Failure::NoHealthy),
            }),
            (None, Some(took)) if ended.is_whole => {
                Some(End::Answered { status: ended.status, is_failure: ended.is_bad_status, took })
            }
            (None, Some(_)) => Some(End::Gone),
            (None, None) => (ended.status == 0).then_some(End::Gone),
        }
    }
}

/// Where the weight alone has sent this request; `None`: something else did, or it proves nothing.
///
/// Kept out: forced and located requests, idempotency keys, kills, leases that hold against the weight of now, copies, and what says of
/// itself that it is a machine.
pub fn assigned(decision: &Decision, weight: Weight, facts: &RequestFacts<'_>) -> Option<Side> {
    let by_weight = choose_side(decision.bucket?, weight);
    let is_drawn = match decision.reason {
        Reason::Weight => true,
        // It would be there without its lease.
        Reason::Leased => by_weight == decision.side,
        Reason::Forced | Reason::Located | Reason::Pinned | Reason::Killed | Reason::FallThrough => false,
    };
    (is_drawn && !facts.headers.contains_key(MARK) && !is_machine(facts.headers)).then_some(decision.side)
}

/// Parts of user agents that name crawlers, probes and monitors, lower-case.
const MACHINES: [&str; 12] = [
    "bot",
    "crawler",
    "spider",
    "slurp",
    "kube-probe",
    "healthcheck",
    "googlehc",
    "elb-health",
    "prometheus",
    "blackbox",
    "uptime",
    "pingdom",
];

/// Whether a request says of itself that no user sent it.
pub fn is_machine(headers: &HeaderMap) -> bool {
    let Some(agent) = headers.get(USER_AGENT) else { return false };
    let agent = agent.as_bytes();
    MACHINES.iter().any(|name| agent.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes())))
}

/// What of an address names a client: all of an IPv4 one, the first 64 bits of an IPv6 one, which one client may have all of.
pub fn client_of(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 4]
        }
        IpAddr::V6(address) => address.octets().first_chunk::<8>().copied().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::decide::KeyOrigin;
    use crate::split::Bucket;

    fn side(reason: Reason, decided: Side, bucket: u16, weight: &str, headers: &HeaderMap) -> Option<Side> {
        let decision = Decision {
            side: decided,
            reason,
            bucket: Bucket::from_number(bucket),
            key: KeyOrigin::OwnCookie,
            cookie: None,
            lease: None,
        };
        let facts = RequestFacts { method: &Method::GET, host: "shop", path: "/", query: "", headers };
        assigned(&decision, weight.parse().unwrap(), &facts)
    }

    #[test]
    fn what_the_weight_alone_decided_is_evidence() {
        let none = HeaderMap::new();
        assert_eq!(side(Reason::Weight, Side::Extracted, 100, "5%", &none), Some(Side::Extracted));
        assert_eq!(side(Reason::Leased, Side::Extracted, 100, "5%", &none), Some(Side::Extracted));
        assert_eq!(side(Reason::Leased, Side::Legacy, 100, "5%", &none), None, "the lease is older than the weight");
        for reason in [Reason::Forced, Reason::Located, Reason::Pinned, Reason::Killed] {
            assert_eq!(side(reason, Side::Extracted, 100, "5%", &none), None, "{reason:?}");
        }
    }

    #[test]
    fn copies_and_machines_prove_nothing() {
        for (name, value, expect) in [
            ("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)", None),
            ("user-agent", "kube-probe/1.31", None),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", Some(Side::Legacy)),
            ("strangler-shadow", "1", None),
        ] {
            let headers: HeaderMap =
                [(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())].into_iter().collect();
            assert_eq!(side(Reason::Weight, Side::Legacy, 9_000, "5%", &headers), expect, "{value}");
        }
    }

    #[test]
    fn what_happened_is_the_assigned_side_s() {
        let time = Duration::from_millis(5);
        let took = Some(time);
        let whole = Ended { failure: None, took, status: 200, is_bad_status: false, is_whole: true };
        let answered = |status, is_failure| Some(End::Answered { status, is_failure, took: time });
        for (ended, expect) in [
            (whole, answered(200, false)),
            (Ended { status: 500, is_bad_status: true, ..whole }, answered(500, true)),
            (Ended { is_whole: false, ..whole }, Some(End::Gone)),
            (Ended { failure: Some(Failure::Timeout), ..whole }, Some(End::Failed { is_unconnected: false })),
            (Ended { failure: Some(Failure::Connect), ..whole }, Some(End::Failed { is_unconnected: true })),
            (
                Ended { failure: Some(Failure::Truncated), is_whole: false, ..whole },
                Some(End::Failed { is_unconnected: false }),
            ),
            (Ended { failure: Some(Failure::BreakerOpen), ..whole }, None),
            (Ended { took: None, status: 0, is_whole: false, ..whole }, Some(End::Gone)),
            (Ended { took: None, status: 413, ..whole }, None),
        ] {
            assert_eq!(End::of(&ended), expect, "{ended:?}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
