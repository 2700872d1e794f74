//! What `run` was asked to do, read and right.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use strangler_core::cidr::Cidr;

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
