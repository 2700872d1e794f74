//! What `run` was asked to do, read and right: flags and variables over `strangler.yaml` over defaults.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use strangler_core::fault::{Fault, Severity};
use strangler_core::server::asked::{AccessLogFormat, Asked};
use strangler_core::server::{ListenerConfig, ServerConfig};

use crate::args::{Listen, RunArgs};
use crate::config::{ReadError, read, render, server};
use crate::hooks::queries::Server;
use crate::telemetry::logs::Format;

/// Where clients come in when nobody says otherwise.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where people come in when nobody says otherwise.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// What `run` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The routes file.
    pub routes: PathBuf,
    /// What the data plane is told: listeners (at least one), limits, trusted peers, how it ends.
    pub server: ServerConfig,
    /// Where people and Prometheus come in; a loopback address.
    pub admin: SocketAddr,
    /// Further names by which the admin plane may be called, lower-case.
    pub admin_hosts: Vec<String>,
    /// Where probes and Prometheus come in as well.
    pub telemetry: Option<SocketAddr>,
    /// What outlives a restart.
    pub state_dir: PathBuf,
    /// Where the address of the store's database is; `None`: the store is a file in the state directory.
    pub store_url_file: Option<PathBuf>,
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
    /// Whether answers say which side and route they are from.
    pub expose_decision: bool,
    /// The Prometheus server that gates ask.
    pub prometheus: Server,
    /// How long a new binary may take to be ready.
    pub upgrade_deadline: Duration,
}

/// Why what was asked for cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// `strangler.yaml` could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was read, and refused.
    #[error("{shown}strangler: {origin} was refused")]
    Refused {
        /// Which: a file, or a flag.
        origin: String,
        /// All faults, for people.
        shown: String,
    },
}

impl Options {
    /// Reads `strangler.yaml`, if one is named, and puts flags and variables over it.
    ///
    /// # Errors
    /// When the file, or a listener written in a flag, is refused: with all faults.
    pub fn resolve(args: RunArgs) -> Result<Options, OptionsError> {
        let file = args.config.as_ref().map_or(Ok(Asked::default()), |path| {
            let text = read(path)?;
            let loaded = server::load(&text, path);
            loaded.asked.ok_or_else(|| refused(path.display().to_string(), &loaded.faults, &text))
        })?;
        let flags = Asked {
            listeners: listeners(&args.listen)?,
            admin: args.admin,
            admin_token_file: args.admin_token_file,
            telemetry: args.telemetry,
            access_log: args.access_log.map(AccessLogFormat::from),
            state_dir: args.state_dir,
            store_url_file: args.store_url_file,
            keys_file: args.keys_file,
            trusted_proxies: (!args.trusted_proxies.is_empty()).then_some(args.trusted_proxies),
            threads: args.threads,
            limits: args.limits.into(),
            drain: args.drain.into(),
            prometheus: None,
        };
        let asked = flags.or(file);
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Options {
            routes: args.routes,
            server: ServerConfig {
                listeners: asked.listeners.unwrap_or_else(|| vec![ListenerConfig::plain(LISTEN)]),
                limits: asked.limits.filled(),
                trusted_proxies: asked.trusted_proxies.unwrap_or_default(),
                drain: asked.drain.filled(),
            },
            admin: asked.admin.unwrap_or(ADMIN),
            admin_hosts: args.admin_host.iter().map(|host| host.to_ascii_lowercase()).collect(),
            telemetry: asked.telemetry,
            state_dir: asked.state_dir.unwrap_or_else(|| PathBuf::from("state")),
            store_url_file: asked.store_url_file,
            threads: asked.threads.map_or_else(cores, usize::from),
            access_log: match asked.access_log.unwrap_or(AccessLogFormat::Json) {
                AccessLogFormat::Json => Some(Format::Json),
                AccessLogFormat::Text => Some(Format::Text),
                AccessLogFormat::Off => None,
            },
            strict: args.strict,
            keys_file: asked.keys_file,
            admin_token_file: asked.admin_token_file,
            expose_decision: args.expose_decision,
            prometheus: asked.prometheus.map_or_else(Server::default, |asked| Server {
                url: Some(asked.url),
                ca: asked.ca.map(|path| path.to_string_lossy().into()),
            }),
            upgrade_deadline: args.upgrade_deadline,
        })
    }
}

/// The listeners of flags; `None` when there is no such flag.
fn listeners(flags: &[Listen]) -> Result<Option<Vec<ListenerConfig>>, OptionsError> {
    let mut all: Vec<ListenerConfig> = Vec::new();
    for flag in flags {
        match flag {
            Listen::Plain(addresses) => all.extend(addresses.iter().copied().map(ListenerConfig::plain)),
            Listen::Written(text) => match server::load_listener(text) {
                (Some(listener), _) => all.push(listener),
                (None, faults) => return Err(refused("--listen".to_owned(), &faults, text.as_bytes())),
            },
        }
    }
    Ok((!all.is_empty()).then_some(all))
}

fn refused(origin: String, faults: &[Fault], text: &[u8]) -> OptionsError {
    let errors: Vec<Fault> = faults.iter().filter(|fault| fault.severity == Severity::Error).cloned().collect();
    let shown = render::text(&errors, &origin, text, io::stderr().is_terminal());
    OptionsError::Refused { origin, shown }
}
