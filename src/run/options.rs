//! What `run` was asked to do, read and right.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use strangler_core::cidr::Cidr;

use crate::args::{AccessLog, RunArgs};
use crate::telemetry::logs::Format;

/// What `run` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The routes file.
    pub routes: PathBuf,
    /// Where clients come in; at least one.
    pub listen: Vec<SocketAddr>,
    /// Where people and Prometheus come in; a loopback address.
    pub admin: SocketAddr,
    /// Further names by which the admin plane may be called, lower-case.
    pub admin_hosts: Vec<String>,
    /// Where probes and Prometheus come in as well.
    pub telemetry: Option<SocketAddr>,
    /// What outlives a restart.
    pub state_dir: PathBuf,
    /// Cores that serve; at least one.
    pub threads: usize,
    /// How requests are logged; `None`: not at all.
    pub access_log: Option<Format>,
    /// Whether a bad routes file ends the start even where a last good text is kept.
    pub strict: bool,
    /// Where the keys are; `None`: in the state directory, made on first start.
    pub keys_file: Option<PathBuf>,
    /// Where the admin tokens are; `None`: in the state directory, made on first start.
    pub admin_token_file: Option<PathBuf>,
    /// Peers that may say who the client is.
    pub trusted: Vec<Cidr>,
    /// Whether answers say which side and route they are from.
    pub expose_decision: bool,
    /// How long requests under way are waited for at the end.
    pub drain_deadline: Duration,
}

impl From<RunArgs> for Options {
    fn from(args: RunArgs) -> Options {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Options {
            routes: args.routes,
            listen: args.listen,
            admin: args.admin,
            admin_hosts: args.admin_host.iter().map(|host| host.to_ascii_lowercase()).collect(),
            telemetry: args.telemetry,
            state_dir: args.state_dir,
            threads: args.threads.map_or_else(cores, usize::from),
            access_log: match args.access_log {
                AccessLog::Json => Some(Format::Json),
                AccessLog::Text => Some(Format::Text),
                AccessLog::Off => None,
            },
            strict: args.strict,
            keys_file: args.keys_file,
            admin_token_file: args.admin_token_file,
            trusted: args.trusted_proxies,
            expose_decision: args.expose_decision,
            drain_deadline: args.drain_deadline,
        }
    }
}
