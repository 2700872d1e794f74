//! Builds all parts, hands each one end of a bounded channel, and owns start and stop.

mod first;
pub mod keys;
pub mod options;
mod process;
mod reload;
pub mod report;
mod signals;
pub mod verbs;
pub mod workers;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin;
use crate::args::RunArgs;
use crate::proxy::listen::ListenError;
use crate::run::first::{first_routes, load_keys};
use crate::run::keys::KeysError;
use crate::run::options::{Options, OptionsError};
use crate::run::process::Process;
use crate::telemetry::logs;

/// How long the control plane's last tasks are waited for.
const CONTROL_END_MAX: Duration = Duration::from_secs(2);
/// Why the process did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The routes file was refused, and nothing else was there to start from.
    #[error("{shown}strangler: {} was refused, and no last good text is kept: nothing to start from", path.display())]
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
    let options = Options::resolve(args)?;
    let _logs = logs::start(options.access_log);
    run(options)
}

/// Serves until a signal ends it.
pub fn run(options: Options) -> Result<(), RunError> {
    admin::check_address(options.admin)?;
    // For its owner only: it holds keys, a token and what was learned of users.
    if let Err(error) = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.state_dir) {
        // The store, the keys and the token each say what they lose by it.
        tracing::error!(state_dir = %options.state_dir.display(), %error, "cannot make the state directory");
    }
    let keys = load_keys(&options)?;
    let first = first_routes(&options)?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("a runtime for the control plane"))?;
    let outcome = Process::build(options, &keys, first, &control).and_then(|process| process.serve(&control));
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
