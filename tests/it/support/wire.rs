//! HTTP/1 by hand on a client's connection: cheap, and what goes wrong is seen as it is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// Plain or over TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A client's connection.
pub(crate) struct Wire {
    pub(crate) io: Box<dyn Io>,
    held: Vec<u8>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Whether nothing more is answered on this connection.
    pub(crate) fn is_last(&self) -> bool {
        self.head.contains("\r\nconnection: close")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Wire, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
        let _ = stream.set_nodelay(true);
        Ok(Wire { io: Box::new(stream), held: Vec::new() })
    }

    pub(crate) async fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Wire, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from("shop.example.com").unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
        Ok(Wire { io: Box::new(stream), held: Vec::new() })
    }

    /// Sends one request; `request` is all of its bytes.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), String> {
        self.io.write_all(request).await.map_err(|error| format!("write: {error}"))?;
        self.io.flush().await.map_err(|error| format!("flush: {error}"))
    }

    /// Reads the next answer.
    pub(crate) async fn reply(&mut self) -> Result<Reply, String> {
        let end = loop {
            if let Some(end) = head_end(&self.held) {
                break end;
            }
            self.more("head").await?;
        };
        let head = String::from_utf8_lossy(&self.held[..end]).to_ascii_lowercase();
        self.held.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("no status: {head:?}"))?;
        if status == 101 {
            return Ok(Reply { status, head, body: Vec::new() });
        }
        let length = content_length(&head).ok_or_else(|| format!("no length: {head:?}"))?;
        while self.held.len() < length {
            self.more("body").await?;
        }
        let body = self.held.drain(..length).collect();
        Ok(Reply { status, head, body })
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Reply, String> {
        self.send(request).await?;
        self.reply().await
    }

    /// So many bytes, whatever they mean.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.held.len() < count {
            self.more("bytes").await?;
        }
        Ok(self.held.drain(..count).collect())
    }

    async fn more(&mut self, what: &str) -> Result<(), String> {
        let mut piece = [0u8; 8 << 10];
        match self.io.read(&mut piece).await {
            Ok(0) => Err(format!("closed in the {what}, {} bytes of it there", self.held.len())),
            Ok(read) => {
                self.held.extend_from_slice(&piece[..read]);
                Ok(())
            }
            Err(error) => Err(format!("read of the {what}: {error}")),
        }
    }
}

/// A connection from one of the many addresses of loopback.
pub(crate) async fn connect_from(source: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(address).await
}

/// Where a head ends.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Of a head in lower case.
pub(crate) fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())
}
