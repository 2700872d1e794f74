//! Names to addresses, in the background: no request waits for a look-up, but the first one after an upstream was added.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::upstream::{EndpointState, UpstreamState};

/// How often names are looked up anew.
pub const EVERY: Duration = Duration::from_secs(5);

/// Bound on one look-up.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// Looks the names of every upstream up, for as long as somebody holds them. `upstreams` answers those in force.
pub async fn keep_fresh(upstreams: impl Fn() -> Vec<Weak<UpstreamState>>) {
    loop {
        for upstream in upstreams().iter().filter_map(Weak::upgrade) {
            refresh(&upstream).await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Looks the names of one upstream up; where that fails, the last known addresses stay.
pub async fn refresh(upstream: &Arc<UpstreamState>) {
    for endpoint in upstream.endpoints().iter().filter(|endpoint| endpoint.is_named()) {
        match tokio::time::timeout(LOOKUP_MAX, look_up(endpoint)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(upstream = %upstream.config.name, host = %endpoint.endpoint.host, %error, "name look-up failed; the last known addresses stay");
            }
            Err(_) => {
                tracing::warn!(upstream = %upstream.config.name, host = %endpoint.endpoint.host, "name look-up took too long; the last known addresses stay");
            }
        }
    }
}

/// Looks one endpoint up and keeps what was found.
pub(crate) async fn look_up(endpoint: &EndpointState) -> std::io::Result<Arc<Vec<SocketAddr>>> {
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host((&*endpoint.endpoint.host, endpoint.endpoint.port)).await?.take(32).collect();
    if found.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    }
    let known = endpoint.addresses();
    if known.as_deref() != Some(&found) {
        endpoint.set_addresses(found);
    }
    endpoint.addresses().ok_or_else(|| std::io::ErrorKind::NotFound.into())
}
