//! Names to addresses, in the background: no request waits for a look-up, but the first one after an upstream was added.
//!
//! The name servers of `/etc/resolv.conf` (and `/etc/hosts`) are asked, and their time to live says when to ask again. What they do
//! not know is asked of the system, which may know names by other ways but tells no time to live.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::task::JoinSet;

use crate::upstream::endpoint::EndpointState;
use crate::upstream::{UpstreamState, check};

/// How often is looked for names that are due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Least and longest time from one look-up to the next, whatever the time to live: a name server is not to be worn out, and a hosts
/// file tells none.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(30);

/// When nothing says how long an answer holds, and after a failure.
const EVERY_UNTOLD: Duration = Duration::from_secs(5);

/// Bound on one look-up.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// Addresses of one name that are kept.
const ADDRESSES_MAX: usize = 32;

/// Look-ups under way at once.
const LOOKUPS_MAX: usize = 64;

/// Keeps what is known of every upstream fresh, for as long as somebody holds it: the addresses behind names, whether endpoints
/// are well, the files of `tls`. `upstreams` answers those in force.
pub async fn keep_fresh(upstreams: impl Fn() -> Vec<Weak<UpstreamState>>) {
    let looking_up = async {
        let mut under_way: JoinSet<()> = JoinSet::new();
        loop {
            for upstream in upstreams().into_iter().filter_map(|upstream| upstream.upgrade()) {
                for endpoint in 0..upstream.endpoints().len() {
                    let is_due = upstream.endpoints().get(endpoint).is_some_and(EndpointState::is_stale);
                    if is_due && under_way.len() < LOOKUPS_MAX {
                        let upstream = Arc::clone(&upstream);
                        under_way.spawn(async move { refresh_one(&upstream, endpoint).await });
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
            while under_way.try_join_next().is_some() {}
        }
    };
    tokio::join!(looking_up, check::keep_checking(&upstreams));
}

/// Looks the names of one upstream up; where that fails, the last known addresses stay.
pub async fn refresh(upstream: &Arc<UpstreamState>) {
    for endpoint in 0..upstream.endpoints().len() {
        refresh_one(upstream, endpoint).await;
    }
}

async fn refresh_one(upstream: &UpstreamState, endpoint: usize) {
    let Some(endpoint) = upstream.endpoints().get(endpoint).filter(|endpoint| endpoint.is_named()) else { return };
    // Somebody else asks already.
    let Ok(_turn) = endpoint.looking_up.try_lock() else { return };
    if let Err(error) = ask(endpoint).await {
        tracing::warn!(upstream = %upstream.config.name, host = %endpoint.endpoint.host, %error, "name look-up failed; the last known addresses stay");
    }
}

/// The addresses of an endpoint that has none yet. However many ask at once, one look-up is made.
pub(crate) async fn look_up(endpoint: &EndpointState) -> std::io::Result<Arc<Vec<SocketAddr>>> {
    let _turn = endpoint.looking_up.lock().await;
    match endpoint.addresses() {
        Some(found) => Ok(found),
        None => ask(endpoint).await,
    }
}

/// Where a name leads now, for those that ask once; an address leads to itself.
pub(crate) async fn addresses_of(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let asked = tokio::time::timeout(LOOKUP_MAX, found(host, port)).await;
    Ok(asked.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??.0)
}

/// Looks one endpoint up and keeps what was found.
async fn ask(endpoint: &EndpointState) -> std::io::Result<Arc<Vec<SocketAddr>>> {
    // Until it is known better, and should whoever asks go away in the middle.
    endpoint.is_fresh_for(EVERY_UNTOLD);
    let asked = tokio::time::timeout(LOOKUP_MAX, found(&endpoint.endpoint.host, endpoint.endpoint.port)).await;
    let (addresses, holds) = asked.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    endpoint.is_fresh_for(holds.clamp(EVERY_MIN, EVERY_MAX));
    let known = endpoint.addresses();
    if known.as_deref() != Some(&addresses) {
        endpoint.set_addresses(addresses);
    }
    endpoint.addresses().ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// Where a name leads, and for how long that holds.
async fn found(host: &str, port: u16) -> std::io::Result<(Vec<SocketAddr>, Duration)> {
    // Made anew each time: the files that it goes by may have changed, and what it keeps open belongs to the runtime of the moment.
    let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build()
    });
    if let Ok(resolver) = resolver
        && let Some(found) = told_by(&resolver, host, port).await
    {
        return Ok(found);
    }
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok((addresses, EVERY_UNTOLD))
}

async fn told_by(resolver: &TokioResolver, host: &str, port: u16) -> Option<(Vec<SocketAddr>, Duration)> {
    let told = resolver.lookup_ip(host).await.ok()?;
    let mut addresses: Vec<IpAddr> = told.iter().take(ADDRESSES_MAX).collect();
    // Name servers turn the order from answer to answer; which one is tried first is ours to turn.
    addresses.sort_unstable();
    addresses.dedup();
    let holds = told.valid_until().saturating_duration_since(Instant::now());
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    (!addresses.is_empty()).then_some((addresses, holds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    /// A name server that knows every name by one address, for `ttl_s` seconds.
    async fn name_server(last: Arc<AtomicU8>, asked: Arc<AtomicUsize>, ttl_s: u8) -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut query = [0u8; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                // Its head, one question and one answer (RFC 1035 §4); the rest of the query is left out.
                let name_end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap() + 1;
                let is_v4 = query[name_end + 1] == 1;
                let mut answer = query[..name_end + 4].to_vec();
                answer[2] = 0x81;
                answer[3] = 0x80;
                answer[6..12].copy_from_slice(&[0, u8::from(is_v4), 0, 0, 0, 0]);
                if is_v4 {
                    asked.fetch_add(1, Ordering::SeqCst);
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl_s, 0, 4, 127, 0, 0, last.load(Ordering::SeqCst)]);
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        port
    }

    fn resolver(port: u16) -> TokioResolver {
        let mut connection = ConnectionConfig::udp();
        connection.port = port;
        let mut server = NameServerConfig::udp([127, 0, 0, 1].into());
        server.connections = vec![connection];
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
    }

    #[tokio::test]
    async fn the_name_server_says_how_long_its_answer_holds() {
        let (last, asked) = (Arc::new(AtomicU8::new(7)), Arc::new(AtomicUsize::new(0)));
        let port = name_server(Arc::clone(&last), asked, 20).await;

        let (addresses, holds) = told_by(&resolver(port), "shop.internal.", 8000).await.unwrap();

        assert_eq!(addresses, ["127.0.0.7:8000".parse().unwrap()]);
        assert!(holds > Duration::from_secs(15) && holds <= Duration::from_secs(20), "{holds:?}");
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_leaves_the_addresses_that_were_known() {
        let endpoint = strangler_core::route::Endpoint {
            scheme: strangler_core::route::Scheme::Http,
            host: "no-such-name.invalid".into(),
            port: 80,
        };
        let state = EndpointState::new(&endpoint, &strangler_core::route::Tls::default());
        assert!(look_up(&state).await.is_err());
        let known = vec!["127.0.0.1:80".parse().unwrap()];
        state.set_addresses(known.clone());
        assert!(ask(&state).await.is_err());
        assert_eq!(state.addresses().as_deref(), Some(&known));
        assert!(!state.is_stale(), "it is not asked again at once");
    }

    #[tokio::test]
    async fn a_name_of_this_host_is_known_without_a_name_server() {
        let (addresses, _) = found("localhost", 80).await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
    }
}
