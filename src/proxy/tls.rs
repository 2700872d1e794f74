//! TLS of a listener: rustls with ring, certificates by name, clients' certificates, and all of it taken anew when files change.
//!
//! Connections that are open keep what they began with. A file that cannot be used changes nothing: what was in force stays,
//! alarmed until the files are right again.

mod certificate;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use strangler_core::server::{ClientAuth, ListenerProtocol, ListenerTls};
use strangler_core::sni::ByName;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{
    ClientHello, ProducesTickets, ResolvesServerCert, ServerConfig, VerifierBuilderError, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, RootCertStore};

use crate::telemetry::metrics::Metrics;

pub(crate) use certificate::subject_of;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, may not be read, or is far too large.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it is no PEM of the kind that belongs there.
    #[error("no usable {what} in {}", path.display())]
    Pem {
        /// Certificate or key.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A certificate that is none, or whose key is another one's.
    #[error("the certificate {} cannot be used with the key {}", cert.display(), key.display())]
    Pair {
        /// Which certificate.
        cert: PathBuf,
        /// Which key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Its names and dates cannot be read.
    #[error("{} holds no certificate that can be understood", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
    },
    /// An authority that cannot be one.
    #[error("an authority in {} cannot be used", path.display())]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// It has run out, or has not begun, and the one in force is good.
    #[error("the certificate {} is of another time than now, and the one in force is not", path.display())]
    Untimely {
        /// Which.
        path: PathBuf,
    },
    /// No authority for clients.
    #[error("clients' certificates cannot be checked")]
    Verifier(#[source] VerifierBuilderError),
    /// Clients' certificates are asked for, and nothing says whose are right.
    #[error("clients' certificates are asked for, but no client_ca is given")]
    NoAuthority,
    /// No certificate is named.
    #[error("TLS needs a certificate")]
    NoCertificate,
    /// The library refuses its own settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What became of a look at the files.
#[derive(Debug)]
pub enum Refreshed {
    /// They say what they said.
    Unchanged,
    /// New connections get what they say now.
    Taken,
    /// They cannot be used; what was in force stays.
    Refused(TlsError),
}

/// A listener's TLS, as its files say.
#[derive(Debug)]
pub struct TlsSet {
    files: ListenerTls,
    protocol: ListenerProtocol,
    label: String,
    metrics: Arc<Metrics>,
    config: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

/// What the last look saw.
#[derive(Debug)]
struct Seen {
    /// Of all files together, usable or not.
    content: Content,
    /// Of the authorities in force: a ticket given out under others must not outlive them.
    authorities: [u8; 32],
    tickets: Arc<dyn ProducesTickets>,
    /// Of each certificate in force.
    lives: Vec<Life>,
}

/// From when until when each certificate is good, in the order of the configuration.
type Life = std::ops::RangeInclusive<i64>;

/// Hash of what was read; `None`: not all of it could be.
type Content = Option<[u8; 32]>;

/// The files' bytes.
struct Bytes {
    /// Certificate and key of each pair.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    client_ca: Option<Vec<u8>>,
}

impl TlsSet {
    /// Reads the files.
    pub(crate) fn load(
        files: ListenerTls,
        protocol: ListenerProtocol,
        label: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<TlsSet, TlsError> {
        let bytes = Bytes::read(&files)?;
        let tickets = ring::Ticketer::new().map_err(TlsError::Setup)?;
        let (config, lives) = build(&files, protocol, &bytes, &tickets)?;
        show_ends(&files, &lives, metrics);
        let now_s = now_s();
        for (pair, _) in files.certificates.iter().zip(&lives).filter(|(_, life)| !life.contains(&now_s)) {
            tracing::warn!(certificate = %pair.cert.display(), "this certificate has run out, or has not begun");
        }
        let seen = Seen { content: Some(bytes.content()), authorities: bytes.authorities(), tickets, lives };
        metrics.show_certificates_stale(label, false);
        Ok(TlsSet {
            files,
            protocol,
            label: label.to_owned(),
            metrics: Arc::clone(metrics),
            config: ArcSwap::from_pointee(config),
            seen: Mutex::new(seen),
        })
    }

    /// Whether a listener could begin with these files.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub(crate) fn check(files: &ListenerTls, protocol: ListenerProtocol) -> Result<(), TlsError> {
        let tickets = ring::Ticketer::new().map_err(TlsError::Setup)?;
        build(files, protocol, &Bytes::read(files)?, &tickets).map(|_| ())
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Whether upstreams are told the client's subject.
    pub(crate) fn tells_subject(&self) -> bool {
        self.files.client_subject
    }

    /// Looks at the files, and takes them if they have changed and are right.
    pub(crate) fn refresh(&self) -> Refreshed {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let read = Bytes::read(&self.files);
        let content = read.as_ref().ok().map(Bytes::content);
        if content == seen.content {
            return Refreshed::Unchanged;
        }
        seen.content = content;
        match read.and_then(|bytes| self.take(&mut seen, &bytes)) {
            Ok(()) => {
                self.metrics.show_certificates_stale(&self.label, false);
                tracing::info!(listener = self.label, "new certificates are in force");
                Refreshed::Taken
            }
            Err(error) => {
                self.metrics.show_certificates_stale(&self.label, true);
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(listener = self.label, %error, cause, "the certificates on disk cannot be used; those in force stay");
                Refreshed::Refused(error)
            }
        }
    }

    fn take(&self, seen: &mut Seen, bytes: &Bytes) -> Result<(), TlsError> {
        let authorities = bytes.authorities();
        let tickets = if authorities == seen.authorities {
            Arc::clone(&seen.tickets)
        } else {
            ring::Ticketer::new().map_err(TlsError::Setup)?
        };
        let (config, lives) = build(&self.files, self.protocol, bytes, &tickets)?;
        let now_s = now_s();
        let mut pairs = self.files.certificates.iter().zip(lives.iter().zip(&seen.lives));
        if let Some((pair, _)) = pairs.find(|(_, (new, old))| old.contains(&now_s) && !new.contains(&now_s)) {
            return Err(TlsError::Untimely { path: pair.cert.clone() });
        }
        show_ends(&self.files, &lives, &self.metrics);
        (seen.authorities, seen.tickets, seen.lives) = (authorities, tickets, lives);
        self.config.store(Arc::new(config));
        Ok(())
    }
}

impl Bytes {
    fn read(files: &ListenerTls) -> Result<Bytes, TlsError> {
        let pairs = files.certificates.iter().map(|pair| Ok((read(&pair.cert)?, read(&pair.key)?)));
        let pairs = pairs.collect::<Result<_, _>>()?;
        Ok(Bytes { pairs, client_ca: files.client_ca.as_deref().map(read).transpose()? })
    }

    fn content(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let pairs = self.pairs.iter().flat_map(|(cert, key)| [cert, key]);
        for bytes in pairs.chain(&self.client_ca) {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.finalize().into()
    }

    fn authorities(&self) -> [u8; 32] {
        Sha256::digest(self.client_ca.as_deref().unwrap_or_default()).into()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    // Asked before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB")));
    }
    Ok(bytes)
}

fn build(
    files: &ListenerTls,
    protocol: ListenerProtocol,
    bytes: &Bytes,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<(ServerConfig, Vec<Life>), TlsError> {
    let provider = Arc::new(ring::default_provider());
    let (resolver, lives) = resolver(files, bytes, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Setup)?;
    let builder = match files.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional | ClientAuth::Required => {
            let roots = Arc::new(authorities(files, bytes)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier =
                if files.client_auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(TlsError::Verifier)?)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.ticketer = Arc::clone(tickets);
    // Who offers 1.0 alone is answered in it, as without TLS.
    let names: &[&[u8]] = match protocol {
        ListenerProtocol::Auto => &[b"h2", b"http/1.1", b"http/1.0"],
        ListenerProtocol::Http1 => &[b"http/1.1", b"http/1.0"],
        ListenerProtocol::H2c => &[b"h2"],
    };
    config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    Ok((config, lives))
}

/// Shown once all of them are right: a set that is refused must not change what is told of the one in force.
fn show_ends(files: &ListenerTls, lives: &[Life], metrics: &Metrics) {
    for (pair, life) in files.certificates.iter().zip(lives) {
        metrics.show_certificate_expiry(&pair.cert.display().to_string(), *life.end());
    }
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn authorities(files: &ListenerTls, bytes: &Bytes) -> Result<RootCertStore, TlsError> {
    let (Some(path), Some(pem)) = (&files.client_ca, &bytes.client_ca) else { return Err(TlsError::NoAuthority) };
    let mut roots = RootCertStore::empty();
    for one in certificates(pem, path)? {
        roots.add(one).map_err(|source| TlsError::Authority { path: path.clone(), source })?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { what: "certificate", path: path.to_owned(), source };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(failed)?;
    if all.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(all) }
}

fn resolver(
    files: &ListenerTls,
    bytes: &Bytes,
    provider: &CryptoProvider,
) -> Result<(Arc<Certificates>, Vec<Life>), TlsError> {
    let mut by_name: Option<ByName<Arc<CertifiedKey>>> = None;
    let mut lives = Vec::new();
    for (pair, (cert, key)) in files.certificates.iter().zip(&bytes.pairs) {
        let chain = certificates(cert, &pair.cert)?;
        let known = chain.first().and_then(certificate::known_of);
        let known = known.ok_or_else(|| TlsError::Certificate { path: pair.cert.clone() })?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
            what: "private key",
            path: pair.key.clone(),
            source,
        })?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Pair {
            cert: pair.cert.clone(),
            key: pair.key.clone(),
            source,
        })?;
        let certified = Arc::new(certified);
        let names = by_name.get_or_insert_with(|| ByName::new(Arc::clone(&certified)));
        for name in &known.names {
            names.add(name, &certified);
        }
        lives.push(known.life);
    }
    by_name.map(|by_name| (Arc::new(Certificates { by_name }), lives)).ok_or(TlsError::NoCertificate)
}

/// Finds the certificate for a client's hello.
#[derive(Debug)]
struct Certificates {
    by_name: ByName<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.by_name.find(hello.server_name())))
    }
}
