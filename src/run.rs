//! Builds all parts, hands each one end of a bounded channel, and owns start and stop.

pub mod compare;
mod coverage;
mod discovery;
mod first;
mod hooks;
pub mod judge;
pub mod keys;
pub mod lock;
pub mod options;
mod process;
mod reload;
mod replay;
mod rollouts;
pub mod report;
mod signals;
pub mod sockets;
mod systemd;
mod upgrade;
mod verdicts;
pub mod verbs;
pub mod workers;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin;
use crate::args::RunArgs;
use crate::proxy::listen::{ListenError, raise_descriptors};
use crate::proxy::tls::TlsError;
use crate::run::first::{first_routes, load_keys};
use crate::run::keys::KeysError;
use crate::run::lock::{InUse, Lock};
use crate::run::options::{Options, OptionsError};
use crate::run::process::Process;
use crate::run::sockets::SocketsError;
use crate::run::systemd::Activated;
use crate::run::upgrade::heir::Predecessor;
use crate::telemetry::logs;

/// How long the control plane's last tasks are waited for.
const CONTROL_END_MAX: Duration = Duration::from_secs(2);
/// Why the process did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The routes file was refused, and nothing else was there to start from.
    #[error("{shown}strangler: {} was refused, and there is nothing else to start from: no last good text is kept, or `--strict` leaves it alone", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// All faults, for people.
        shown: String,
    },
    /// What was asked for cannot be done.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The keys cannot be used.
    #[error("cannot start without keys")]
    Keys(#[from] KeysError),
    /// An address is taken, or not ours.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A socket is not where it should be.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// Another process works on the state directory.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// A listener's certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The admin or telemetry address cannot be served.
    #[error("cannot serve the {plane} plane on {address}")]
    Admin {
        /// `admin` or `telemetry`.
        plane: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Others could overhear the token.
    #[error(transparent)]
    AdminAddress(#[from] admin::AdminError),
    /// The system refused a thread, a runtime or a signal.
    #[error("cannot set the process up: {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A mistake of ours.
    #[error("two metrics have one name")]
    Metrics(#[source] prometheus::Error),
}

impl RunError {
    /// 78 when the configuration was refused (sysexits' `EX_CONFIG`), else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Refused { .. } | RunError::Options(_) => 78,
            RunError::Keys(_)
            | RunError::Listen(_)
            | RunError::Sockets(_)
            | RunError::InUse(_)
            | RunError::Tls(_)
            | RunError::Admin { .. }
            | RunError::AdminAddress(_)
            | RunError::System { .. }
            | RunError::Metrics(_) => 1,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::System { what, source }
}

/// Serves until a signal ends it, as the command line says.
pub fn start(args: RunArgs) -> Result<(), RunError> {
    let given = Given {
        // Both before there is a second thread: they take what is this process's alone out of what others inherit.
        activated: systemd::activated().map_err(system("the sockets that the service manager opened"))?,
        predecessor: Predecessor::find().map_err(system("the process to take over from"))?,
    };
    let options = Options::resolve(args)?;
    let _logs = logs::start(options.access_log);
    run(options, given)
}

/// What a process is given by whoever started it.
#[derive(Debug, Default)]
struct Given {
    /// The process that it takes over from.
    predecessor: Option<Predecessor>,
    /// Sockets that a service manager opened.
    activated: Vec<Activated>,
}

fn run(options: Options, mut given: Given) -> Result<(), RunError> {
    admin::check_address(options.admin)?;
    raise_descriptors();
    // For its owner only: it holds keys, a token and what was learned of users.
    if let Err(error) = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.state_dir) {
        // The store, the keys and the token each say what they lose by it.
        tracing::error!(state_dir = %options.state_dir.display(), %error, "cannot make the state directory");
    }
    let handed = given.predecessor.as_mut().and_then(|before| before.lock.take());
    let lock = handed.map_or_else(|| Lock::take(&options.state_dir), |lock| Ok(Some(lock)))?;
    let keys = load_keys(&options)?;
    let first = first_routes(&options)?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("a runtime for the control plane"))?;
    let outcome =
        Process::build(options, &keys, first, &control).and_then(|process| process.serve(given, lock, &control));
    // What still runs there (a look-up that hangs) must not hold the end up.
    control.shutdown_timeout(CONTROL_END_MAX);
    outcome
}

/// A plain line for whoever started the process, whatever the log's level.
fn say(line: &str) {
    use std::io::Write as _;
    // Nobody reads it: nothing to do about it.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
