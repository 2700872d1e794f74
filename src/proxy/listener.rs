//! A listener while it runs: what is spoken there, who may come, and how many are there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strangler_core::server::{ListenerConfig, ListenerProtocol};

use crate::proxy::tls::{Refreshed, TlsError, TlsSet};
use crate::telemetry::metrics::{Metrics, SideGauge};

/// How often the files of TLS are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A listener of the data plane, shared by its cores.
#[derive(Debug)]
pub struct Listener {
    config: ListenerConfig,
    tls: Option<TlsSet>,
    open: AtomicU32,
    gauge: SideGauge,
    /// Connections by client; no more entries than connections. `None`: not bounded.
    by_client: Option<Mutex<HashMap<IpAddr, u32>>>,
}

impl Listener {
    /// For sockets bound to `address`, the configuration's own or, for its port 0, the real one.
    ///
    /// # Errors
    /// When a file of its TLS cannot be used.
    pub fn open(
        config: &ListenerConfig,
        address: SocketAddr,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Listener>, TlsError> {
        let label = address.to_string();
        let tls = config
            .tls
            .as_ref()
            .map(|files| TlsSet::load(files.clone(), config.protocol, &label, metrics))
            .transpose()?;
        Ok(Arc::new(Listener {
            config: ListenerConfig { address, ..config.clone() },
            tls,
            open: AtomicU32::new(0),
            gauge: metrics.connections(&label),
            by_client: (config.max_connections_per_ip > 0).then(Mutex::default),
        }))
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.config.address
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Looks at the files of its TLS, and takes them if they have changed and are right. Reads files.
    pub fn refresh(&self) -> Refreshed {
        self.tls.as_ref().map_or(Refreshed::Unchanged, TlsSet::refresh)
    }

    pub(crate) fn protocol(&self) -> ListenerProtocol {
        self.config.protocol
    }

    pub(crate) fn tls(&self) -> Option<&TlsSet> {
        self.tls.as_ref()
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.config.is_internal
    }

    pub(crate) fn has_proxy_header(&self) -> bool {
        self.config.proxy_protocol
    }

    /// Whether there is a place left, without taking it.
    pub(crate) fn has_room(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.config.max_connections
    }

    /// Takes a connection in, or answers why not.
    pub(crate) fn take_in(self: &Arc<Self>) -> Result<Seat, &'static str> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
        let seat = Seat { listener: Arc::clone(self), client: None };
        if before < self.config.max_connections { Ok(seat) } else { Err("too_many_connections") }
    }
}

/// A connection's place on the books of its listener, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) listener: Arc<Listener>,
    client: Option<IpAddr>,
}

impl Seat {
    /// The client is known now: it has room, or this is the reason why not.
    pub(crate) fn take_client(&mut self, ip: IpAddr) -> Result<(), &'static str> {
        let Some(by_client) = &self.listener.by_client else { return Ok(()) };
        let client = client_of(ip);
        let mut by_client = by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let open = by_client.entry(client).or_default();
        if *open >= self.listener.config.max_connections_per_ip {
            return Err("too_many_connections_of_client");
        }
        *open += 1;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Ordering::Relaxed);
        self.listener.gauge.dec();
        let (Some(client), Some(by_client)) = (self.client, &self.listener.by_client) else { return };
        let mut by_client = by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by_client.get_mut(&client) {
            *open -= 1;
            if *open == 0 {
                by_client.remove(&client);
            }
        }
    }
}

/// Who counts as one client: an IPv4 address, or the /64 of an IPv6 one, which is what one customer gets.
fn client_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Looks at the files of all listeners again and again. For ever: it ends with its runtime.
pub async fn keep_fresh(listeners: Vec<Arc<Listener>>) {
    let with_tls: Vec<_> = listeners.into_iter().filter(|listener| listener.tls.is_some()).collect();
    if with_tls.is_empty() {
        return;
    }
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        for listener in &with_tls {
            let listener = Arc::clone(listener);
            // A file system that hangs holds up this look only, and none that serves.
            if let Err(error) = tokio::task::spawn_blocking(move || listener.refresh()).await {
                tracing::error!(%error, "looking at the certificates failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(max_connections: u32, max_connections_per_ip: u32) -> (Arc<Listener>, Arc<Metrics>) {
        let metrics = Metrics::new("test").unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let config = ListenerConfig { max_connections, max_connections_per_ip, ..ListenerConfig::plain(address) };
        (Listener::open(&config, address, &metrics).unwrap(), metrics)
    }

    #[test]
    fn a_listener_has_so_many_places_and_each_is_free_again() {
        let (listener, metrics) = listener(2, 0);
        let first = listener.take_in().unwrap();
        let _second = listener.take_in().unwrap();
        assert_eq!(listener.take_in().unwrap_err(), "too_many_connections");
        assert_eq!(metrics.connections("127.0.0.1:0").get(), 2);
        drop(first);
        assert!(listener.take_in().is_ok());
    }

    #[test]
    fn a_client_has_so_many_places_however_it_is_written() {
        let (listener, _metrics) = listener(100, 1);
        let take = |ip: &str| {
            let mut seat = listener.take_in().unwrap();
            seat.take_client(ip.parse().unwrap()).map(|()| seat)
        };
        let first = take("203.0.113.9").unwrap();
        assert_eq!(take("::ffff:203.0.113.9").unwrap_err(), "too_many_connections_of_client");
        assert!(take("203.0.113.10").is_ok());
        let _six = take("2001:db8::1").unwrap();
        assert!(take("2001:db8::2").is_err(), "of the same /64");
        assert!(take("2001:db8:0:1::1").is_ok());
        drop(first);
        assert!(take("203.0.113.9").is_ok());
        assert_eq!(listener.by_client.as_ref().unwrap().lock().unwrap().len(), 1);
    }
}
