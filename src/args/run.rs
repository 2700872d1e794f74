//! The command line of `run`. Nothing has a default here: what a flag and its variable leave open, `strangler.yaml` may say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use strangler_core::cidr::Cidr;
use strangler_core::server::asked::{AccessLogFormat, AskedDrain, AskedLimits};

use crate::args::duration;

/// Of `run`.
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// The routes file; watched, and loaded anew whenever it changes.
    #[arg(long, env = "STRANGLER_ROUTES", default_value = "routes.yaml", value_name = "FILE")]
    pub routes: PathBuf,
    /// strangler.yaml: listeners, limits and the rest of this list, read at start; a flag or a variable wins over it. Default: none.
    #[arg(long, env = "STRANGLER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where requests come in, or `{address: …, tls: …}` as under `listeners` in strangler.yaml; may be given several times.
    /// Default: 127.0.0.1:8080.
    #[arg(long, env = "STRANGLER_LISTEN", value_name = "ADDR", value_parser = listen)]
    pub listen: Vec<Listen>,
    /// The admin plane; a loopback address. Default: 127.0.0.1:9900.
    #[arg(long, env = "STRANGLER_ADMIN_ADDRESS", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Further host names by which the admin plane may be called.
    #[arg(long, env = "STRANGLER_ADMIN_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub admin_host: Vec<String>,
    /// `/livez`, `/readyz` and `/metrics` only, for kubelet and Prometheus. Default: on the admin address alone.
    #[arg(long, env = "STRANGLER_TELEMETRY", value_name = "ADDR")]
    pub telemetry: Option<SocketAddr>,
    /// What outlives a restart, the admin token and the kill file; made if it is missing. Default: state.
    #[arg(long, env = "STRANGLER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// File with the address of a PostgreSQL database that keeps state, audit and divergences. Default: a file in the state directory.
    #[arg(long, env = "STRANGLER_STORE_URL_FILE", value_name = "FILE")]
    pub store_url_file: Option<PathBuf>,
    /// Worker threads. Default: one for each core.
    #[arg(long, env = "STRANGLER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// One line for each request, on standard output. Default: json.
    #[arg(long, env = "STRANGLER_ACCESS_LOG", value_name = "FORMAT")]
    pub access_log: Option<AccessLog>,
    /// Do not start from the last good file when the routes file is refused: exit 78.
    #[arg(long, env = "STRANGLER_STRICT")]
    pub strict: bool,
    /// Keys for signing and redaction; the same on every replica. Default: made in the state directory.
    #[arg(long, env = "STRANGLER_KEYS_FILE", value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// The admin token, or several, one a line. Default: made in the state directory.
    #[arg(long, env = "STRANGLER_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Peers whose `X-Forwarded-*` is believed; may be given several times.
    #[arg(long, env = "STRANGLER_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxies: Vec<Cidr>,
    /// Answers say `strangler-side` and `strangler-route`.
    #[arg(long, env = "STRANGLER_EXPOSE_DECISION")]
    pub expose_decision: bool,
    /// How it ends.
    #[command(flatten)]
    pub drain: DrainArgs,
    /// How long a new binary may take to be ready after SIGUSR2 or `strangler upgrade`, 50s at most; then this one goes on.
    #[arg(long, env = "STRANGLER_UPGRADE_DEADLINE", default_value = "30s", value_name = "TIME", value_parser = upgrade_bound)]
    pub upgrade_deadline: Duration,
    /// Bounds on clients. Last: its heading holds for what follows.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// A value of `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Addresses, in the clear.
    Plain(Vec<SocketAddr>),
    /// A listener as it is written in strangler.yaml.
    Written(String),
}

/// How it ends.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub struct DrainArgs {
    /// How long new connections are still taken after SIGTERM has made readiness fail. Default: 0s.
    #[arg(long, env = "STRANGLER_DRAIN_DELAY", value_name = "TIME", value_parser = duration)]
    pub drain_delay: Option<Duration>,
    /// How long open requests may then take to end. Default: 30s.
    #[arg(long, env = "STRANGLER_DRAIN_DEADLINE", value_name = "TIME", value_parser = duration)]
    pub drain_deadline: Option<Duration>,
}

/// Bounds on clients.
#[derive(Clone, Copy, Debug, ClapArgs)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// All fields of a head together. Default: 64KiB.
    #[arg(long = "limit-header-bytes", env = "STRANGLER_LIMIT_HEADER_BYTES", value_name = "SIZE", value_parser = |text: &str| size(text, 1 << 10, 1 << 20))]
    pub header_bytes: Option<u32>,
    /// Fields of a head. Default: 100.
    #[arg(long = "limit-headers", env = "STRANGLER_LIMIT_HEADERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub headers: Option<u32>,
    /// The request line. Default: 8KiB.
    #[arg(long = "limit-request-line", env = "STRANGLER_LIMIT_REQUEST_LINE", value_name = "SIZE", value_parser = |text: &str| size(text, 256, 64 << 10))]
    pub request_line: Option<u32>,
    /// From the first byte of a connection or a request to the end of the head. Default: 10s.
    #[arg(long = "limit-header-deadline", env = "STRANGLER_LIMIT_HEADER_DEADLINE", value_name = "TIME", value_parser = bound)]
    pub header_deadline: Option<Duration>,
    /// Between two requests of a connection. Default: 60s.
    #[arg(long = "limit-keep-alive", env = "STRANGLER_LIMIT_KEEP_ALIVE", value_name = "TIME", value_parser = bound)]
    pub keep_alive: Option<Duration>,
    /// Requests of a connection; 0: no bound. Default: 0.
    #[arg(long = "limit-requests-per-connection", env = "STRANGLER_LIMIT_REQUESTS_PER_CONNECTION", value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub requests_per_connection: Option<u32>,
    /// Least rate of a request's body in bytes a second, after ten seconds; 0: no bound but the idle one. Default: 240.
    #[arg(long = "limit-body-min-rate", env = "STRANGLER_LIMIT_BODY_MIN_RATE", value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 30))]
    pub body_min_rate: Option<u32>,
    /// Requests under way; one more is answered 503. Default: 50000.
    #[arg(long = "limit-in-flight", env = "STRANGLER_LIMIT_IN_FLIGHT", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: Option<u32>,
}

/// How requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLog {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// Not at all.
    Off,
}

impl From<AccessLog> for AccessLogFormat {
    fn from(asked: AccessLog) -> AccessLogFormat {
        match asked {
            AccessLog::Json => AccessLogFormat::Json,
            AccessLog::Text => AccessLogFormat::Text,
            AccessLog::Off => AccessLogFormat::Off,
        }
    }
}

impl From<DrainArgs> for AskedDrain {
    fn from(args: DrainArgs) -> AskedDrain {
        AskedDrain { delay: args.drain_delay, deadline: args.drain_deadline }
    }
}

impl From<LimitArgs> for AskedLimits {
    fn from(args: LimitArgs) -> AskedLimits {
        AskedLimits {
            header_bytes: args.header_bytes,
            headers: args.headers,
            request_line: args.request_line,
            header_deadline: args.header_deadline,
            keep_alive: args.keep_alive,
            requests_per_connection: args.requests_per_connection,
            body_min_rate: args.body_min_rate,
            in_flight: args.in_flight,
        }
    }
}

/// `127.0.0.1:8080`, several with commas, or a whole listener in braces.
fn listen(text: &str) -> Result<Listen, String> {
    if text.trim_start().starts_with('{') {
        return Ok(Listen::Written(text.to_owned()));
    }
    let address = |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is no IP address with a port"));
    text.split(',').map(address).collect::<Result<_, _>>().map(Listen::Plain)
}

fn bound(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("there must be a bound here".to_owned()),
        bound => Ok(bound),
    }
}

/// Whoever asks by the API waits for the answer no longer than this.
fn upgrade_bound(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(50);
    bound(text).and_then(|bound| if bound <= most { Ok(bound) } else { Err("at most 50s".to_owned()) })
}

/// Bytes, or a number with `KiB` or `MiB`.
fn size(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let units = [("KiB", 10), ("MiB", 20), ("", 0)];
    let read = |(unit, shift): (&str, u32)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(1 << shift);
    let bytes = units.into_iter().find_map(read).ok_or("a size is a whole number of bytes, or one with KiB or MiB")?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (least..=most).contains(bytes))
        .ok_or_else(|| format!("from {least} to {most} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_addresses_or_a_map() {
        let two = Listen::Plain(vec!["[::1]:80".parse().unwrap(), "1.1.1.1:81".parse().unwrap()]);
        assert_eq!(listen("[::1]:80, 1.1.1.1:81"), Ok(two));
        assert_eq!(listen("{address: a, b: c}"), Ok(Listen::Written("{address: a, b: c}".to_owned())));
        assert!(listen("localhost:80").is_err());
    }

    #[test]
    fn a_size_has_a_unit_and_bounds() {
        assert_eq!((size("64KiB", 1, 1 << 20), size("300", 1, 1 << 20)), (Ok(64 << 10), Ok(300)));
        for bad in ["2MiB", "0", "x", "-1", "1 KiB", ""] {
            assert!(size(bad, 1, 1 << 20).is_err(), "{bad}");
        }
    }
}
