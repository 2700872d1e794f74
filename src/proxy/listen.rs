//! Listening: one socket per address and core, so that a connection lives where it was accepted.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{ConnectionFilter, ListenerConfig};
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::{Fds, ShutdownWatch};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use rustix::process::{Resource, Rlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use tokio::task::coop;

use crate::proxy::connection::{self, SWEEP_EVERY};
use crate::proxy::listener::Listener;
use crate::proxy::{Worker, attached::Attached, coverage, shed};
use crate::upstream::pool;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// What accepting a connection takes of a task's turn, of which there are 128 in one: after sixteen, those that are served get theirs.
const TURN_OF_ONE: u32 = 8;

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Sockets of one address, one per core.
#[derive(Debug)]
pub struct Bound {
    /// As bound: a port 0 has become a real one.
    pub address: SocketAddr,
    /// As many as there are cores.
    pub sockets: Vec<TcpListener>,
}

/// Binds `address` once per core.
pub fn bind(address: SocketAddr, cores: usize) -> Result<Bound, ListenError> {
    let failed = |source| ListenError { address, source };
    let mut bound = Bound { address, sockets: Vec::with_capacity(cores) };
    if cores > 1 {
        // Sockets of several cores share the address, and so would those of another process: each would get a part of the
        // connections, in silence. One that shares with nobody finds out.
        drop(bind_one(address, false).map_err(failed)?);
    }
    for _ in 0..cores {
        let socket = bind_one(bound.address, cores > 1).map_err(failed)?;
        bound.address = socket.local_addr().map_err(failed)?;
        bound.sockets.push(socket);
    }
    Ok(bound)
}

fn bind_one(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // With one core a second process on the same port must be told so, not be given half of the connections.
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Lets the process have as many descriptors as the system allows it: what it is started with is often meant for a shell.
pub fn raise_descriptors() {
    let now = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current != now.maximum
        && let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, limit = now.current, "the limit on descriptors stays as it is");
    }
}

/// Connections of clients that there are descriptors for. Each may need another one to an upstream; and a process without any left
/// can neither accept nor close what waits, while one that has some closes at once what is too much.
pub(crate) fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit / 2).ok()).unwrap_or(usize::MAX)
}

/// Accepts and serves on this core until `stop` says so; then waits for what is under way, at most for `drain`.
pub async fn run_core(
    worker: Arc<Worker>,
    sockets: Vec<(SocketAddr, TcpListener)>,
    stop: watch::Receiver<bool>,
    drain: Duration,
    mut hurry: watch::Receiver<bool>,
) {
    let sweeper = tokio::spawn(sweep(Arc::clone(&worker)));
    let mut services = tokio::task::JoinSet::new();
    for (address, socket) in sockets {
        let listener = match worker.proxy.listener(address) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%address, %error, "nobody is served there");
                continue;
            }
        };
        // One service each, so that it knows where a connection came in.
        let key = address.to_string();
        let mut fds = Fds::new();
        fds.add(key.clone(), socket.into_raw_fd());
        let door = Door { worker: Arc::clone(&worker), listener: Arc::clone(&listener) };
        let mut service = Service::new("http".into(), App { worker: Arc::clone(&worker), listener });
        service.set_connection_filter(Arc::new(door));
        // Buffers of its own would be twice what hyper keeps already, 64 KiB for each connection.
        service.add_listener(ListenerConfig::tcp(key).l4_buffer(L4BufferSettings::unbuffered()));
        let stop = stop.clone();
        services.spawn(async move {
            service.start_service(Some(Arc::new(parking_lot::Mutex::new(fds))), stop, 1).await;
        });
    }
    services.join_all().await;
    // Accepted, but not yet polled.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let is_drained = tokio::select! {
        drained = tokio::time::timeout(drain, worker.proxy.open.wait_none()) => drained.is_ok(),
        // A second signal: whoever sent it does not want to wait.
        _ = hurry.wait_for(|hurry| *hurry) => false,
    };
    if !is_drained {
        tracing::warn!(open = worker.proxy.open.count(), "connections that are still open are closed");
    }
    sweeper.abort();
    coverage::hand_over(&worker);
}

/// What a core does a few times a second.
async fn sweep(worker: Arc<Worker>) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    let mut snapshot = Arc::downgrade(&worker.proxy.live.load().snapshot);
    loop {
        tokio::select! {
            due = every.tick() => shed::look(&worker.proxy, due.into()),
            () = pool::wanted() => {
                pool::sweep();
                continue;
            }
        }
        worker.proxy.tick();
        connection::sweep(&worker).await;
        coverage::hand_over(&worker);
        pool::sweep();
        let published = worker.proxy.live.load();
        let now = Arc::downgrade(&published.snapshot);
        if !now.ptr_eq(&snapshot) {
            let attached: &Attached = &published.attached;
            pool::forget(|upstream| {
                attached.upstream(&upstream.config.name).is_some_and(|known| Arc::ptr_eq(known, upstream))
            });
            snapshot = now;
        }
    }
}

/// Looks at a connection before anything is made of it.
///
/// One that there is no room for is closed here. Closed by its own task, hundreds of them would hold a descriptor each until
/// that has its turn; and a process without descriptors does not accept for a second, however many it could close.
struct Door {
    worker: Arc<Worker>,
    listener: Arc<Listener>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("listener", &self.listener.address()).finish_non_exhaustive()
    }
}

#[async_trait]
impl ConnectionFilter for Door {
    async fn should_accept(&self, client: Option<&SocketAddr>) -> bool {
        // Never waits: a stop would drop the accepted connection with this future. What is used up here makes the next accept wait.
        for _ in 1..TURN_OF_ONE {
            if !coop::has_budget_remaining() {
                break;
            }
            coop::consume_budget().await;
        }
        let has_room = connection::has_room(&self.worker.proxy, &self.listener);
        if !has_room {
            self.worker.proxy.metrics.count_rejected("too_many_connections");
            tracing::debug!(client = ?client.map(SocketAddr::ip), "a connection was closed at once: there is no room");
        }
        has_room
    }
}

struct App {
    worker: Arc<Worker>,
    listener: Arc<Listener>,
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, stop: &ShutdownWatch) -> Option<Stream> {
        let address = stream.get_socket_digest().and_then(|digest| digest.peer_addr()?.as_inet().map(SocketAddr::ip));
        let ip = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).to_canonical();
        connection::spawn(Arc::clone(&self.worker), &self.listener, stream, ip, stop.clone());
        None
    }
}
