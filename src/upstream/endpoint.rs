//! An endpoint at run time: where it lives, whether it is well, what is under way there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use strangler_core::balance::{Candidate, FULL_SHARE};
use strangler_core::health;
use strangler_core::route::{Endpoint, Tls};
use tokio::sync::Mutex;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::upstream::reach::{Reach, Unreached};
use crate::upstream::since_begun;

/// An endpoint and where it lives now.
#[derive(Debug)]
pub struct EndpointState {
    /// As the file says.
    pub endpoint: Endpoint,
    /// What `Host` says under `host: upstream`.
    pub authority: HeaderValue,
    /// The name its certificate must be for; `None`: there is no such name, and it is not spoken to over TLS.
    pub(crate) server_name: Option<ServerName<'static>>,
    addresses: ArcSwapOption<Vec<SocketAddr>>,
    /// When its name is to be looked up again, in ms since the process began.
    stale_at_ms: AtomicU64,
    /// Held during a look-up, so that many requests for a new name make one.
    pub(crate) looking_up: Mutex<()>,
    pub(crate) in_flight: AtomicU32,
    /// Of its addresses, which one is tried first; its own count, so that dials do not disturb the turns of the endpoints.
    pub(crate) next_address: AtomicUsize,
    /// What checks say.
    is_healthy: AtomicBool,
    /// When checks called it well again, in ms since the process began; 0: it always was.
    well_since_ms: AtomicU64,
    /// Left out until then; 0: never was.
    ejected_until_ms: AtomicU64,
    /// Failures in a row; counted only where `outlier_detection` is written.
    pub(crate) streak: AtomicU32,
    /// How connections to it went.
    pub(crate) reach: Reach,
}

impl EndpointState {
    pub(crate) fn new(endpoint: &Endpoint, tls: &Tls) -> EndpointState {
        let address = endpoint.host.parse().ok().map(|ip| Arc::new(vec![SocketAddr::new(ip, endpoint.port)]));
        let name = tls.server_name.as_ref().unwrap_or(&endpoint.host);
        EndpointState {
            authority: HeaderValue::from_str(&endpoint.authority()).unwrap_or_else(|_| HeaderValue::from_static("")),
            server_name: ServerName::try_from(name.to_string()).ok(),
            // An address needs no look-up.
            stale_at_ms: AtomicU64::new(if address.is_some() { u64::MAX } else { 0 }),
            addresses: ArcSwapOption::new(address),
            looking_up: Mutex::new(()),
            in_flight: AtomicU32::new(0),
            next_address: AtomicUsize::new(0),
            is_healthy: AtomicBool::new(true),
            well_since_ms: AtomicU64::new(0),
            ejected_until_ms: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            reach: Reach::default(),
            endpoint: endpoint.clone(),
        }
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Why the last connection to it could not be made; `None`: it stood, or there was none.
    pub fn unreached(&self) -> Option<Unreached> {
        self.reach.unreached()
    }

    /// Where it lives, if that is known.
    pub fn addresses(&self) -> Option<Arc<Vec<SocketAddr>>> {
        self.addresses.load_full()
    }

    /// Whether it was given as a name.
    pub fn is_named(&self) -> bool {
        self.endpoint.host.parse::<IpAddr>().is_err()
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Some(Arc::new(addresses)));
    }

    /// Whether its name is to be looked up again.
    pub(crate) fn is_stale(&self) -> bool {
        ms(since_begun(Instant::now())) >= self.stale_at_ms.load(Ordering::Relaxed)
    }

    /// Its addresses hold for so long.
    pub(crate) fn is_fresh_for(&self, holds: Duration) {
        self.stale_at_ms.store(ms(since_begun(Instant::now()) + holds), Ordering::Relaxed);
    }

    /// Whether it gets requests `now`, since the process began.
    pub fn is_up(&self, now: Duration) -> bool {
        self.is_healthy() && ms(now) >= self.ejected_until_ms.load(Ordering::Relaxed)
    }

    /// Whether checks call it well.
    pub(crate) fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Relaxed)
    }

    /// What of it counts when one is chosen.
    pub(crate) fn candidate(&self, now: Duration) -> Candidate {
        let back = self.well_since_ms.load(Ordering::Relaxed).max(self.ejected_until_ms.load(Ordering::Relaxed));
        let share = if back == 0 { FULL_SHARE } else { health::share(now.saturating_sub(Duration::from_millis(back))) };
        Candidate { is_up: self.is_up(now), share, in_flight: self.in_flight() }
    }

    /// Checks have changed their mind.
    pub(crate) fn set_healthy(&self, is_healthy: bool, now: Duration) {
        if is_healthy {
            self.well_since_ms.store(ms(now), Ordering::Relaxed);
        }
        self.is_healthy.store(is_healthy, Ordering::Relaxed);
    }

    /// Left out until then.
    pub(crate) fn eject(&self, until: Duration) {
        self.streak.store(0, Ordering::Relaxed);
        self.ejected_until_ms.store(ms(until), Ordering::Relaxed);
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
