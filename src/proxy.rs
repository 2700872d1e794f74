//! The data plane: hyper speaks HTTP on both sides, pingora-core carries the connections.
//!
//! The path of a file is the way of a request: `listen` accepts, `open` shakes hands, `connection` and `h2` drive, `serve` decides,
//! `forward` sends and tries again, `body` brings the answer back. Nothing here takes a decision: those are `strangler_core`'s.

pub mod answer;
pub mod attached;
pub mod body;
pub mod breaker;
pub mod connection;
pub mod copies;
pub mod coverage;
pub mod finish;
pub mod forward;
pub mod h2;
pub mod headers;
mod kept;
pub mod lease;
pub mod listen;
pub mod listener;
pub mod open;
pub mod pins;
pub mod request_body;
pub mod serve;
pub(crate) mod strict;
pub(crate) mod rate;
pub(crate) mod rewrite;
pub(crate) mod shed;
pub(crate) mod tunnel;
pub(crate) mod witness;
pub mod tee;
pub mod tls;
pub mod transport;
pub mod upload;
pub(crate) mod writes;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use strangler_core::door::HeadBounds;
use strangler_core::observation::{CopyJob, Observation};
use strangler_core::override_token::SigningKey;
use strangler_core::server::{ClientLimits, ListenerConfig, ServerConfig};
use strangler_core::shadow::settle::Writes;
use tokio::sync::{mpsc, oneshot};

use crate::live::Live;
use crate::live::sightings::Sightings;
use crate::live::witness::Witnesses;
use crate::proxy::attached::Attached;
use crate::proxy::coverage::Tallies;
use crate::proxy::listen::Bound;
use crate::proxy::listener::Listener;
use crate::proxy::pins::Pins;
use crate::proxy::tls::TlsError;
use crate::telemetry::metrics::{Metrics, SideGauge};
use crate::upstream::budget::ByteBudget;

/// A copy to be made, and where the user's answer will arrive.
pub type Copy = Box<CopyJob<oneshot::Receiver<Observation>>>;

/// Bytes of request bodies read before they are sent; beyond, they stream and cannot be sent twice.
const READ_AHEAD_BYTES_MAX: u64 = 64 << 20;

/// What the data plane is told at start.
#[derive(Debug, Default)]
pub struct Settings {
    /// Listeners, limits, peers that may say who the client is (and that may mark copies), and how it ends.
    pub server: ServerConfig,
    /// Keys of override tokens.
    pub keys: Vec<SigningKey>,
    /// Seeds the hash of a caller's key that goes with a copy: the same caller can be told again, not who it is.
    pub caller_seed: u64,
    /// Whether answers say `strangler-side` and `strangler-route`.
    pub expose_decision: bool,
    /// Whether requests are logged.
    pub access_log: bool,
    /// Bounds on clients, in the units that this plane counts in.
    pub limits: Limits,
    /// Which side has seen which idempotency key. Default: nothing is kept beyond the process.
    pub pins: Arc<Pins>,
    /// Who has just written, for the shadow.
    pub writes: Arc<Writes>,
    /// Where counts of what legacy is asked go. Default: nowhere.
    pub tallies: Option<Tallies>,
    /// What requests prove, for rollouts.
    pub witnesses: Arc<Witnesses>,
    /// What no route covers.
    pub sightings: Arc<Sightings>,
}

/// Bounds on clients, with DESIGN's defaults.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From a head's first byte to its last. Default: 10 s.
    pub header_deadline: Duration,
    /// Between two requests of a connection. Default: 60 s.
    pub keep_alive: Duration,
    /// Largest head, in bytes. Default: 64 KiB and a target.
    pub head_bytes: usize,
    /// Fields of a head. Default: 100.
    pub fields: usize,
    /// Bounds on a head's parts.
    pub head: HeadBounds,
    /// Between two pieces of a client's body. Default: 60 s.
    pub body_idle: Duration,
    /// Least rate of a client's body, in bytes a second, after a grace of 10 s. Default: 240. 0: no bound but the idle one.
    pub body_min_rate: u32,
    /// Connections of all listeners; no more than half of the process's descriptors. Default: 100,000.
    pub connections: usize,
    /// Requests under way, all together; one more is answered 503. Default: 50,000.
    pub in_flight: i64,
    /// Requests of a connection. Default: 0, no bound.
    pub requests_per_connection: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_deadline: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            head_bytes: 72 << 10,
            fields: 100,
            head: HeadBounds::default(),
            body_idle: Duration::from_secs(60),
            body_min_rate: 240,
            connections: 100_000,
            in_flight: 50_000,
            requests_per_connection: 0,
        }
    }
}

impl From<&ClientLimits> for Limits {
    fn from(limits: &ClientLimits) -> Limits {
        Limits {
            header_deadline: limits.header_deadline,
            keep_alive: limits.keep_alive,
            // The HTTP library reads into no less.
            head_bytes: (limits.header_bytes as usize + limits.request_line as usize).max(8 << 10),
            fields: limits.headers as usize,
            head: HeadBounds::from(limits),
            body_min_rate: limits.body_min_rate,
            in_flight: i64::from(limits.in_flight),
            requests_per_connection: limits.requests_per_connection,
            ..Limits::default()
        }
    }
}

/// The data plane of the process, shared by its cores.
pub struct Proxy {
    /// What is in force.
    pub live: Arc<Live<Attached>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was told at start.
    pub settings: Settings,
    /// When the process began; what retry budgets count from.
    pub begun: Instant,
    /// Connections of clients, open now.
    pub open: Open,
    listeners: OnceLock<Vec<Arc<Listener>>>,
    /// What request bodies that are read before they are sent may hold in memory, all cores together.
    pub(crate) read_ahead: ByteBudget,
    pub(crate) in_flight: [SideGauge; 2],
    /// Unix seconds, renewed a few times a second: what needs no better clock.
    pub(crate) unix_s: AtomicU64,
    /// Milliseconds since the process began, likewise.
    pub(crate) coarse_ms: AtomicU64,
    /// Connections of clients that there is room for, likewise: what the process may have open can change while it runs.
    connections_max: AtomicUsize,
}

impl Proxy {
    /// Puts it together; nothing is bound yet.
    pub fn new(live: Arc<Live<Attached>>, metrics: Arc<Metrics>, settings: Settings) -> Arc<Proxy> {
        use strangler_core::side::Side;
        let in_flight = [Side::Legacy, Side::Extracted].map(|side| metrics.in_flight(Some(side)));
        let proxy = Proxy {
            live,
            metrics,
            settings,
            begun: Instant::now(),
            open: Open::default(),
            listeners: OnceLock::new(),
            read_ahead: ByteBudget::new(READ_AHEAD_BYTES_MAX),
            in_flight,
            unix_s: AtomicU64::new(0),
            coarse_ms: AtomicU64::new(0),
            connections_max: AtomicUsize::new(0),
        };
        proxy.tick();
        Arc::new(proxy)
    }

    /// Says what is spoken on which socket; once, before the first core runs. `bound` are those of `configs`, in their order.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn listen_on(&self, configs: &[ListenerConfig], bound: &[Bound]) -> Result<Vec<Arc<Listener>>, TlsError> {
        let pairs = configs.iter().zip(bound);
        let opened = pairs.map(|(config, bound)| Listener::open(config, bound.address, &self.metrics));
        let opened: Vec<Arc<Listener>> = opened.collect::<Result<_, _>>()?;
        Ok(self.listeners.get_or_init(|| opened).clone())
    }

    /// The listener whose sockets are bound to `address`; one that nothing was said of is a plain one.
    fn listener(&self, address: SocketAddr) -> Result<Arc<Listener>, TlsError> {
        let known = self.listeners.get().into_iter().flatten().find(|listener| listener.address() == address);
        known.map_or_else(
            || Listener::open(&ListenerConfig::plain(address), address, &self.metrics),
            |known| Ok(Arc::clone(known)),
        )
    }

    /// Connections of clients that there is room for, as of the last sweep.
    pub(crate) fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// Renews the coarse clock, and what is looked at as seldom.
    pub(crate) fn tick(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.unix_s.store(now.as_secs(), Ordering::Relaxed);
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.coarse_ms.store(ms, Ordering::Relaxed);
        let room = self.settings.limits.connections.min(listen::connections_max());
        self.connections_max.store(room, Ordering::Relaxed);
    }

    /// Milliseconds since the process began, as of the last sweep.
    pub(crate) fn coarse_now_ms(&self) -> u64 {
        self.coarse_ms.load(Ordering::Relaxed)
    }
}

/// One core's part: the shared data plane, and its own way to the shadow. One count of references, however many requests.
pub struct Worker {
    /// Shared.
    pub proxy: Arc<Proxy>,
    /// To the shadow of this core.
    pub copies: Option<CopyQueue>,
}

/// The way to the shadow of a core: full means dropped and counted, never waited for.
#[derive(Clone, Debug)]
pub struct CopyQueue {
    /// Bounded.
    pub sender: mpsc::Sender<Copy>,
    /// What copies and answers kept for them may hold in memory, all cores together.
    pub budget: ByteBudget,
}

/// Counts what is open, and tells when nothing is.
#[derive(Debug, Default)]
pub struct Open {
    count: std::sync::atomic::AtomicUsize,
    none_left: tokio::sync::Notify,
}

impl Open {
    /// How many.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn add(&self) -> usize {
        self.count.fetch_add(1, Ordering::AcqRel)
    }

    pub(crate) fn remove(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none_left.notify_waiters();
        }
    }

    /// Waits until nothing is open.
    pub async fn wait_none(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.count() == 0 {
                return;
            }
            // Woken or not, looked at again: a wake-up between two waits must not be missed.
            let _ = tokio::time::timeout(Duration::from_millis(100), none_left).await;
        }
    }
}
