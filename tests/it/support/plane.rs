//! The data plane in the test's own process, with listeners that the command line cannot ask for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strangler::config;
use strangler::live::Live;
use strangler::proxy::attached::Attached;
use strangler::proxy::listen::bind;
use strangler::proxy::listener::Listener;
use strangler::proxy::{Limits, Proxy, Settings, Worker};
use strangler::run::workers::Workers;
use strangler::telemetry::metrics::Metrics;
use strangler_core::runtime::RuntimeState;
use strangler_core::server::ListenerConfig;
use strangler_core::snapshot::Snapshot;
use tokio::sync::watch;

use crate::support::backend::Backend;
use crate::support::proxy::PATIENCE;

/// A plane about to be started.
pub(crate) struct Setup {
    routes: String,
    listener: ListenerConfig,
    settings: Settings,
}

/// A running one; stopped when dropped.
pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    pub(crate) listener: Arc<Listener>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    hurry: watch::Sender<bool>,
    workers: Option<Workers>,
}

impl Plane {
    /// Everything to `legacy`, on a free port of loopback.
    pub(crate) fn before(legacy: &Backend) -> Setup {
        Plane::before_url(&legacy.url())
    }

    /// Likewise, in the way that the URL says.
    pub(crate) fn before_url(legacy: &str) -> Setup {
        Setup {
            routes: format!("version: 1\nlegacy: {legacy}\n"),
            listener: ListenerConfig::plain("127.0.0.1:0".parse().unwrap()),
            settings: Settings::default(),
        }
    }

    /// One sample of its metrics, named as it is printed; 0 when it is not there.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// How often something was refused for this reason.
    pub(crate) fn rejected(&self, reason: &str) -> f64 {
        self.metric(&format!("strangler_rejected_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until something was refused so often for this reason.
    pub(crate) async fn wait_for_rejected(&self, reason: &str, least: f64) {
        wait_until(|| self.rejected(reason) >= least, reason).await;
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> f64 {
        self.metric(&format!("strangler_connections{{listener=\"{}\"}}", self.address))
    }

    /// As on SIGTERM.
    pub(crate) fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

/// Waits until it holds.
pub(crate) async fn wait_until(holds: impl Fn() -> bool, what: &str) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        let _ = self.hurry.send(true);
        if let Some(workers) = self.workers.take() {
            workers.join();
        }
    }
}

impl Setup {
    /// The rest of the routes file.
    pub(crate) fn routes(mut self, routes: &str) -> Setup {
        self.routes += routes;
        self
    }

    /// Changes its listener.
    pub(crate) fn listener(mut self, change: impl FnOnce(&mut ListenerConfig)) -> Setup {
        change(&mut self.listener);
        self
    }

    /// Changes the bounds on clients.
    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Setup {
        change(&mut self.settings.limits);
        self
    }

    /// Believes whoever comes from there.
    pub(crate) fn trusting(mut self, block: &str) -> Setup {
        self.settings.server.trusted_proxies.push(block.parse().unwrap());
        self
    }

    pub(crate) fn start(self) -> Plane {
        let loaded = config::load(self.routes.as_bytes());
        let table = loaded.table.unwrap_or_else(|| panic!("{:?}", loaded.faults));
        let (snapshot, _) = Snapshot::new(table, &RuntimeState::default());
        let metrics = Metrics::new("test").unwrap();
        let attach = {
            let metrics = Arc::clone(&metrics);
            move |snapshot: &Arc<Snapshot>, before: Option<&Attached>| Attached::new(snapshot, before, &metrics)
        };
        let live = Arc::new(Live::new(Arc::new(snapshot), attach));
        let proxy = Proxy::new(live, Arc::clone(&metrics), self.settings);
        let bound = bind(self.listener.address, 1).unwrap();
        let address = bound.address;
        let listener = proxy.listen_on(&[self.listener], std::slice::from_ref(&bound)).unwrap().remove(0);
        let (stop, stopping) = watch::channel(false);
        let (hurry, hurried) = watch::channel(false);
        let worker = move || Worker { proxy: Arc::clone(&proxy), copies: None };
        let drain = Duration::from_secs(10);
        let workers = Workers::start(1, vec![bound], worker, &stopping, &hurried, drain).unwrap();
        Plane { address, listener, metrics, stop, hurry, workers: Some(workers) }
    }
}
