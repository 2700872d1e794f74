//! A bad network in front of a service: late, in slices, narrow, dark, or cut off.

use std::net::{SocketAddr, TcpListener, TcpStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::support::backend::Backend;

/// Most bytes that are carried at once.
const PIECE_BYTES: usize = 16 << 10;

/// What is wrong with the network. Default: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault {
    /// By how much each piece is late, either way.
    pub(crate) latency: Duration,
    /// Bytes of the largest piece, either way; 0: as they come.
    pub(crate) slice: usize,
    /// Bytes a second, either way; 0: as they come.
    pub(crate) rate: u64,
    /// Bytes of answers on a connection, after which it is reset; counted from its first.
    pub(crate) reset_after: Option<usize>,
    /// Connections stand, and nothing passes until the light comes back.
    pub(crate) is_dark: bool,
}

/// The network before a service.
pub(crate) struct Network {
    /// What the proxy is told to be the service.
    pub(crate) near: Backend,
    fault: Arc<watch::Sender<Fault>>,
}

impl Network {
    /// Sound as yet.
    pub(crate) async fn before(service: SocketAddr) -> Network {
        Network::with(service, Fault::default()).await
    }

    pub(crate) async fn with(service: SocketAddr, fault: Fault) -> Network {
        let fault = Arc::new(watch::Sender::new(fault));
        let told = Arc::clone(&fault);
        let near = Backend::serving(Arc::default(), move |stream| carry(stream, service, told.subscribe())).await;
        Network { near, fault }
    }

    /// From now on, also on connections that are open.
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

/// Why a connection is carried no further.
enum Broken {
    Reset,
    Gone,
}

async fn carry(near: TcpStream, service: SocketAddr, fault: watch::Receiver<Fault>) {
    let Ok(far) = TcpStream::connect(service).await else { return };
    let _ = far.set_nodelay(true);
    let ((near_reader, near_writer), (far_reader, far_writer)) = (near.into_split(), far.into_split());
    let there = one_way(near_reader, far_writer, fault.clone(), false);
    let back = one_way(far_reader, near_writer, fault, true);
    // Either way's end is the other's only when something broke: half a connection may be closed for good reasons.
    let _ = tokio::try_join!(there, back);
}

async fn one_way(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    mut fault: watch::Receiver<Fault>,
    is_back: bool,
) -> Result<(), Broken> {
    let mut passed = 0;
    let mut piece = vec![0u8; PIECE_BYTES];
    loop {
        let slice = fault.borrow().slice;
        let room = if slice == 0 { PIECE_BYTES } else { slice.min(PIECE_BYTES) };
        let read = reader.read(&mut piece[..room]).await.map_err(|_| Broken::Gone)?;
        let now = *fault.borrow();
        if !now.latency.is_zero() {
            tokio::time::sleep(now.latency).await;
        }
        if let Some(took_us) = (read as u64 * 1_000_000).checked_div(now.rate) {
            tokio::time::sleep(Duration::from_micros(took_us)).await;
        }
        fault.wait_for(|fault| !fault.is_dark).await.map_err(|_| Broken::Gone)?;
        if read == 0 {
            let _ = writer.shutdown().await;
            return Ok(());
        }
        let bound = fault.borrow().reset_after.filter(|_| is_back);
        let left = bound.map_or(read, |bound| bound.saturating_sub(passed).min(read));
        writer.write_all(&piece[..left]).await.map_err(|_| Broken::Gone)?;
        passed += left;
        if bound.is_some_and(|bound| passed >= bound) {
            // What was written is under way before the reset overtakes it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = writer.as_ref().set_zero_linger();
            writer.forget();
            return Err(Broken::Reset);
        }
        if now.slice > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// An address where nobody ever answers the first packet: connections to it neither stand nor fail.
pub(crate) struct Unreachable {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<StdStream>,
}

impl Unreachable {
    /// A listener that accepts nobody, its queue filled up.
    pub(crate) fn new() -> Unreachable {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = StdStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
            assert!(waiting.len() < 64, "the queue has no end");
        }
        Unreachable { address, _listener: listener, _waiting: waiting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
