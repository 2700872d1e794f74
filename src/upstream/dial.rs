//! From an endpoint to a socket, and over TLS where its scheme says so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream::endpoint::EndpointState;
use crate::upstream::{UpstreamState, resolve};

/// Least time for one address of a name.
const ADDRESS_MIN: Duration = Duration::from_millis(100);

/// A connection to one of the endpoint's addresses, beginning with another one each time.
pub(crate) async fn tcp(endpoint: &EndpointState, at: Option<Instant>) -> io::Result<TcpStream> {
    let addresses = match endpoint.addresses() {
        Some(known) => known,
        None => resolve::look_up(endpoint).await?,
    };
    let first = endpoint.next_address.fetch_add(1, Ordering::Relaxed);
    let stream = first_that_answers(&addresses, first, at).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same connection, encrypted, with the other end proven to be who it should be.
pub(crate) async fn tls(
    upstream: &UpstreamState,
    endpoint: &EndpointState,
    stream: TcpStream,
    is_h2: bool,
) -> io::Result<TlsStream<TcpStream>> {
    // Read when the upstream was made; what was wrong with the files has been said then.
    let client = upstream.tls.load_full().ok_or_else(|| io::Error::other("the files of `tls` cannot be used"))?;
    let name = endpoint.server_name.clone().ok_or_else(|| io::Error::other("no certificate can be for such a name"))?;
    let config = if is_h2 { &client.http2 } else { &client.http1 };
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    // A server that knows no ALPN speaks HTTP/1.1; HTTP/2 has to be agreed on.
    let agreed = stream.get_ref().1.alpn_protocol();
    if is_h2 && agreed != Some(b"h2") {
        return Err(io::Error::other("the endpoint does not speak HTTP/2"));
    }
    Ok(stream)
}

/// Tries each address in turn; none may use up the time of those behind it.
async fn first_that_answers(addresses: &[SocketAddr], first: usize, at: Option<Instant>) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let count = addresses.len();
    for tried in 0..count {
        let Some(address) = addresses.get((first + tried) % count) else { continue };
        let left = u32::try_from(count - tried).unwrap_or(u32::MAX);
        let share = at.map(|at| (at.saturating_duration_since(Instant::now()) / left).max(ADDRESS_MIN));
        let connecting = TcpStream::connect(address);
        let done = match share {
            Some(share) => tokio::time::timeout(share, connecting).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
            None => connecting.await,
        };
        match done {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
