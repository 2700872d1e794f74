//! What one source (a file, or flags and variables) asks of the server. Every part may be missing: another source or a default
//! says it then.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cidr::Cidr;
use crate::server::{ClientLimits, Drain, ListenerConfig};
use crate::web::WebUrl;

/// What one source says. A flag wins over its variable, both over the file, the file over the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Where clients come in; `None`: not said.
    pub listeners: Option<Vec<ListenerConfig>>,
    /// Where people come in.
    pub admin: Option<SocketAddr>,
    /// Who may change things.
    pub admin_token_file: Option<PathBuf>,
    /// Where probes and Prometheus come in.
    pub telemetry: Option<SocketAddr>,
    /// How requests are logged.
    pub access_log: Option<AccessLogFormat>,
    /// What outlives a restart.
    pub state_dir: Option<PathBuf>,
    /// Where the address of the store's database is.
    pub store_url_file: Option<PathBuf>,
    /// Keys of signatures and redaction.
    pub keys_file: Option<PathBuf>,
    /// Peers that may say who the client is.
    pub trusted_proxies: Option<Vec<Cidr>>,
    /// Threads that serve.
    pub threads: Option<u16>,
    /// Bounds on clients.
    pub limits: AskedLimits,
    /// How it ends.
    pub drain: AskedDrain,
    /// Whom gates ask.
    pub prometheus: Option<AskedPrometheus>,
}

/// A Prometheus server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedPrometheus {
    /// Where it is.
    pub url: WebUrl,
    /// Authorities that servers' certificates may be of; `None`: the public ones.
    pub ca: Option<PathBuf>,
}

/// How requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// Not at all.
    Off,
}

/// Bounds on clients, as far as they are said; [`ClientLimits`] has their meaning and defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedLimits {
    /// [`ClientLimits::header_bytes`].
    pub header_bytes: Option<u32>,
    /// [`ClientLimits::headers`].
    pub headers: Option<u32>,
    /// [`ClientLimits::request_line`].
    pub request_line: Option<u32>,
    /// [`ClientLimits::header_deadline`].
    pub header_deadline: Option<Duration>,
    /// [`ClientLimits::keep_alive`].
    pub keep_alive: Option<Duration>,
    /// [`ClientLimits::requests_per_connection`].
    pub requests_per_connection: Option<u32>,
    /// [`ClientLimits::body_min_rate`].
    pub body_min_rate: Option<u32>,
    /// [`ClientLimits::in_flight`].
    pub in_flight: Option<u32>,
}

/// How it ends, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedDrain {
    /// [`Drain::delay`].
    pub delay: Option<Duration>,
    /// [`Drain::deadline`].
    pub deadline: Option<Duration>,
}

impl Asked {
    /// What `self` says, and where it says nothing what `other` does.
    pub fn or(self, other: Asked) -> Asked {
        Asked {
            listeners: self.listeners.or(other.listeners),
            admin: self.admin.or(other.admin),
            admin_token_file: self.admin_token_file.or(other.admin_token_file),
            telemetry: self.telemetry.or(other.telemetry),
            access_log: self.access_log.or(other.access_log),
            state_dir: self.state_dir.or(other.state_dir),
            store_url_file: self.store_url_file.or(other.store_url_file),
            keys_file: self.keys_file.or(other.keys_file),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            threads: self.threads.or(other.threads),
            limits: self.limits.or(other.limits),
            drain: AskedDrain {
                delay: self.drain.delay.or(other.drain.delay),
                deadline: self.drain.deadline.or(other.drain.deadline),
            },
            prometheus: self.prometheus.or(other.prometheus),
        }
    }

    /// Every path made relative to `base`, unless it is absolute.
    pub fn relative_to(mut self, base: &Path) -> Asked {
        let paths = [&mut self.admin_token_file, &mut self.state_dir, &mut self.store_url_file, &mut self.keys_file];
        let ca = self.prometheus.as_mut().and_then(|prometheus| prometheus.ca.as_mut());
        for path in paths.into_iter().flatten().chain(ca) {
            *path = base.join(&path);
        }
        for tls in self.listeners.iter_mut().flatten().filter_map(|listener| listener.tls.as_mut()) {
            for certificate in &mut tls.certificates {
                certificate.cert = base.join(&certificate.cert);
                certificate.key = base.join(&certificate.key);
            }
            if let Some(authority) = &mut tls.client_ca {
                *authority = base.join(&authority);
            }
        }
        self
    }
}

impl AskedLimits {
    fn or(self, other: AskedLimits) -> AskedLimits {
        AskedLimits {
            header_bytes: self.header_bytes.or(other.header_bytes),
            headers: self.headers.or(other.headers),
            request_line: self.request_line.or(other.request_line),
            header_deadline: self.header_deadline.or(other.header_deadline),
            keep_alive: self.keep_alive.or(other.keep_alive),
            requests_per_connection: self.requests_per_connection.or(other.requests_per_connection),
            body_min_rate: self.body_min_rate.or(other.body_min_rate),
            in_flight: self.in_flight.or(other.in_flight),
        }
    }

    /// Filled up with the defaults.
    pub fn filled(self) -> ClientLimits {
        let built_in = ClientLimits::default();
        ClientLimits {
            header_bytes: self.header_bytes.unwrap_or(built_in.header_bytes),
            headers: self.headers.unwrap_or(built_in.headers),
            request_line: self.request_line.unwrap_or(built_in.request_line),
            header_deadline: self.header_deadline.unwrap_or(built_in.header_deadline),
            keep_alive: self.keep_alive.unwrap_or(built_in.keep_alive),
            requests_per_connection: self.requests_per_connection.unwrap_or(built_in.requests_per_connection),
            body_min_rate: self.body_min_rate.unwrap_or(built_in.body_min_rate),
            in_flight: self.in_flight.unwrap_or(built_in.in_flight),
        }
    }
}

impl AskedDrain {
    /// Filled up with the defaults.
    pub fn filled(self) -> Drain {
        let built_in = Drain::default();
        Drain { delay: self.delay.unwrap_or(built_in.delay), deadline: self.deadline.unwrap_or(built_in.deadline) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_source_wins_part_by_part() {
        let flags = Asked {
            threads: Some(4),
            limits: AskedLimits { headers: Some(10), ..AskedLimits::default() },
            ..Asked::default()
        };
        let file = Asked {
            threads: Some(8),
            state_dir: Some(PathBuf::from("state")),
            limits: AskedLimits { headers: Some(20), in_flight: Some(7), ..AskedLimits::default() },
            drain: AskedDrain { delay: Some(Duration::from_secs(5)), deadline: None },
            ..Asked::default()
        };
        let both = flags.or(file.relative_to(Path::new("/etc/strangler")));
        assert_eq!(both.threads, Some(4));
        assert_eq!(both.state_dir, Some(PathBuf::from("/etc/strangler/state")));
        let limits = both.limits.filled();
        assert_eq!((limits.headers, limits.in_flight, limits.header_bytes), (10, 7, 64 << 10));
        assert_eq!(both.drain.filled(), Drain { delay: Duration::from_secs(5), deadline: Duration::from_secs(30) });
    }
}
