//! Names to addresses, in the background: no request waits for a look-up, but the first one after an upstream was added.
//!
//! The system's resolver is asked, so that `/etc/hosts`, search domains and whatever else the host is set up with hold here as
//! they do everywhere; it tells no time to live, so names are looked up every few seconds, which is shorter than most of them.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::upstream::endpoint::EndpointState;
use crate::upstream::{UpstreamState, check};

/// How often names are looked up anew.
pub const EVERY: Duration = Duration::from_secs(5);

/// Bound on one look-up.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// Keeps what is known of every upstream fresh, for as long as somebody holds it: the addresses behind names, whether endpoints
/// are well, the files of `tls`. `upstreams` answers those in force.
pub async fn keep_fresh(upstreams: impl Fn() -> Vec<Weak<UpstreamState>>) {
    let looking_up = async {
        loop {
            let mut all: JoinSet<()> = JoinSet::new();
            for upstream in upstreams().into_iter().filter_map(|upstream| upstream.upgrade()) {
                all.spawn(async move { refresh(&upstream).await });
            }
            while all.join_next().await.is_some() {}
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::join!(looking_up, check::keep_checking(&upstreams));
}

/// Looks the names of one upstream up; where that fails, the last known addresses stay.
pub async fn refresh(upstream: &Arc<UpstreamState>) {
    for endpoint in upstream.endpoints().iter().filter(|endpoint| endpoint.is_named()) {
        let _turn = endpoint.looking_up.lock().await;
        match tokio::time::timeout(LOOKUP_MAX, ask(endpoint)).await {
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

/// The addresses of an endpoint that has none yet. However many ask at once, one look-up is made.
pub(crate) async fn look_up(endpoint: &EndpointState) -> std::io::Result<Arc<Vec<SocketAddr>>> {
    let _turn = endpoint.looking_up.lock().await;
    match endpoint.addresses() {
        Some(found) => Ok(found),
        None => ask(endpoint).await,
    }
}

/// Looks one endpoint up and keeps what was found.
async fn ask(endpoint: &EndpointState) -> std::io::Result<Arc<Vec<SocketAddr>>> {
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
