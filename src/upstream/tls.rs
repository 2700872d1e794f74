//! TLS towards upstreams: always verified, with rustls on ring. The files are read when an upstream is made and again when they
//! change; connections that stand keep what they were made with.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use strangler_core::route::{ClientCertificate, Tls};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use xxhash_rust::xxh3::Xxh3Default;

/// Largest file that is read: a bundle of every public authority has a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What an upstream's connections over TLS are made with.
#[derive(Clone, Debug)]
pub struct TlsClient {
    /// Speaks HTTP/1.1.
    pub(crate) http1: Arc<ClientConfig>,
    /// Speaks HTTP/2.
    pub(crate) http2: Arc<ClientConfig>,
    /// Of the files' contents.
    pub(crate) hash: u64,
}

/// Why a file that `tls` names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is none, or it may not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than a mebibyte.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// Not PEM, or nothing of the kind in it.
    #[error("{} holds no {what} in PEM", path.display())]
    Pem {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// PEM, and what is in it is of no use.
    #[error("what {} holds cannot be used", path.display())]
    Unusable {
        /// The key that names it.
        key: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsError {
    /// The key below `tls:` that names the file.
    pub fn key(&self) -> &'static str {
        match self {
            TlsError::Read { key, .. }
            | TlsError::TooLarge { key, .. }
            | TlsError::Pem { key, .. }
            | TlsError::Unusable { key, .. } => key,
        }
    }
}

impl TlsClient {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(tls: &Tls) -> Result<TlsClient, TlsError> {
        let mut hash = Xxh3Default::new();
        let mut read = |key, path: &Arc<str>| -> Result<Vec<u8>, TlsError> {
            let bytes = read_file(key, path)?;
            hash.update(&bytes);
            hash.update(&[0]);
            Ok(bytes)
        };
        let roots = match &tls.ca {
            Some(path) => roots_of("ca", path, &read("ca", path)?)?,
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        };
        let builder = builder()?.with_root_certificates(roots);
        let config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some(ClientCertificate { cert, key }) => {
                let chain = certificates_of("client_cert", cert, &read("client_cert", cert)?)?;
                let key_bytes = read("client_key", key)?;
                let private = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|source| TlsError::Pem {
                    key: "client_key",
                    path: PathBuf::from(&**key),
                    what: "private key",
                    source,
                })?;
                // Also said of a key that is not the certificate's.
                builder.with_client_auth_cert(chain, private).map_err(|source| TlsError::Unusable {
                    key: "client_key",
                    path: PathBuf::from(&**key),
                    source,
                })?
            }
        };
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(TlsClient { http1: speaking(b"http/1.1"), http2: speaking(b"h2"), hash: hash.digest() })
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Refused only by a provider that lacks the suites, and this one has them.
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Unusable { key: "ca", path: PathBuf::new(), source })
}

fn roots_of(key: &'static str, path: &Arc<str>, bytes: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(key, path, bytes)? {
        let unusable = |source| TlsError::Unusable { key, path: PathBuf::from(&**path), source };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

fn certificates_of(key: &'static str, path: &Arc<str>, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { key, path: PathBuf::from(&**path), what: "certificate", source };
    let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn read_file(key: &'static str, path: &Arc<str>) -> Result<Vec<u8>, TlsError> {
    let path = PathBuf::from(&**path);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(TlsError::TooLarge { key, path }),
        Ok(_) => Ok(bytes),
        Err(source) => Err(TlsError::Read { key, path, source }),
    }
}

/// The hash of what the files hold now, without a look at whether it can be used; `None` where one cannot be read.
pub(crate) fn hash_of(tls: &Tls) -> Option<u64> {
    let mut hash = Xxh3Default::new();
    for (key, path) in tls.files() {
        hash.update(&read_file(key, path).ok()?);
        hash.update(&[0]);
    }
    Some(hash.digest())
}
