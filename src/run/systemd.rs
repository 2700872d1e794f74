//! What a service manager is told (`sd_notify`), and the sockets that it may have opened for us. Without one, nothing happens here.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use listenfd::ListenFd;

/// Most sockets that are taken over.
const SOCKETS_MAX: usize = 256;

/// A socket that the service manager opened.
#[derive(Debug)]
pub(super) struct Activated {
    /// Listening already.
    pub(super) socket: TcpListener,
    /// `FileDescriptorName=` of the unit; empty: none.
    pub(super) name: String,
}

/// Takes the sockets of `LISTEN_FDS`, if they are for this process.
///
/// To be called before there is a second thread: it takes the variables away, which must not reach a new binary.
///
/// # Errors
/// When one of them is no listening TCP socket.
pub(super) fn activated() -> io::Result<Vec<Activated>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len().min(SOCKETS_MAX) {
        if let Some(socket) = handed.take_tcp_listener(index)? {
            sockets.push(Activated { socket, name: names.next().unwrap_or_default() });
        }
    }
    Ok(sockets)
}

/// The way to the service manager; says nothing where there is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Manager {
    to: Option<Arc<(UnixDatagram, SocketAddr)>>,
    is_reloading: Arc<AtomicBool>,
}

impl Manager {
    /// That of `NOTIFY_SOCKET`.
    pub(super) fn of_environment() -> Manager {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).and_then(|path| {
            match path.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name).ok(),
                None => SocketAddr::from_pathname(&path).ok(),
            }
        });
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket)).ok();
        Manager { to: socket.zip(address).map(Arc::new), is_reloading: Arc::default() }
    }

    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// Until [`Manager::reloaded`].
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.is_reloading.store(true, Ordering::Release);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    pub(super) fn reloaded(&self) {
        if self.is_reloading.swap(false, Ordering::AcqRel) {
            self.ready();
        }
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// Another process is the service from now on.
    pub(super) fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\nSTATUS=serving"));
    }

    /// Tells the watchdog that this process is well, for as long as `is_well`. Ends at once where nobody asked for it.
    pub(super) async fn watch(self, is_well: impl Fn() -> bool) {
        let Some(period) = self.to.as_ref().and_then(|_| watchdog_period()) else { return };
        let mut every = tokio::time::interval(period);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if is_well() {
                self.tell("WATCHDOG=1");
            }
        }
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = self.to.as_deref()
            && let Err(error) = socket.send_to_addr(what.as_bytes(), address)
        {
            tracing::warn!(%error, what, "the service manager cannot be told");
        }
    }
}

/// Half of what it allows: one lost message is no reason to be killed.
fn watchdog_period() -> Option<Duration> {
    let is_ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid.parse() == Ok(std::process::id()));
    let us: u64 = std::env::var("WATCHDOG_USEC").ok().filter(|_| is_ours)?.parse().ok()?;
    (us >= 2).then(|| Duration::from_micros(us / 2))
}
