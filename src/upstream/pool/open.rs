//! Opening a connection, or waiting for one that another request has done with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use strangler_core::observation::Failure;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use crate::upstream::body::OutBody;
use crate::upstream::cork::Corked;
use crate::upstream::drive::{Drive, Speaking};
use crate::upstream::last_word::{LastWord, Turn};
use crate::upstream::pool::waiters::WANTED;
use crate::upstream::pool::{Conn, HEAD_BYTES_MAX, IDLE_MAX, Lane, PoolKey};
use crate::upstream::{ConnectionCount, UpstreamState, dial};

pub(in crate::upstream) type DialError = (Failure, Option<io::Error>);

/// A connection that could not be made. Silence is told as such, whichever clock ended the wait for it.
pub(in crate::upstream) fn not_connected(error: io::Error) -> DialError {
    let is_silence = error.kind() == io::ErrorKind::TimedOut;
    (if is_silence { Failure::ConnectTimeout } else { Failure::Connect }, Some(error))
}

/// A connection, and whether it came from the pool after all.
pub(super) async fn dial(
    upstream: &Arc<UpstreamState>,
    key: PoolKey,
    deadline: Option<Instant>,
) -> Result<(Conn, bool), DialError> {
    let at = connect_by(upstream, deadline);
    let outcome = within(at, connect(upstream, key, at)).await;
    upstream.note_connection(key.endpoint, &outcome);
    outcome
}

/// When a connection that is begun now must stand.
pub(in crate::upstream) fn connect_by(upstream: &UpstreamState, deadline: Option<Instant>) -> Option<Instant> {
    let by_connect = upstream.config.timeouts.connect.map(|connect| Instant::now() + connect);
    match (by_connect, deadline) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

pub(in crate::upstream) async fn within<T>(
    at: Option<Instant>,
    connecting: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    match at {
        // A little later than the wait for room, which ends at the same moment and says more.
        Some(at) => match tokio::time::timeout_at((at + Duration::from_millis(1)).into(), connecting).await {
            Ok(done) => done,
            Err(_) => Err((Failure::ConnectTimeout, None)),
        },
        None => connecting.await,
    }
}

async fn connect(upstream: &Arc<UpstreamState>, key: PoolKey, at: Option<Instant>) -> Result<(Conn, bool), DialError> {
    let permit = loop {
        match leave_to_open(upstream, key, at).await? {
            Leave::Open(permit) => break permit,
            // Its task may still be at the end of the last exchange, and would refuse a request until then.
            Leave::Given(mut conn) => {
                let Conn { sender, drive, .. } = &mut conn;
                let ready = std::future::poll_fn(|cx| drive.poll_with(cx, |cx| sender.poll_ready(cx))).await;
                if ready.is_ok() {
                    return Ok((conn, true));
                }
            }
        }
    };
    let Some(state) = upstream.endpoints.get(key.endpoint) else {
        return Err((Failure::Connect, None));
    };
    let stream = dial::tcp(state, at).await.map_err(not_connected)?;
    let counted = (ConnectionCount::new(upstream), permit);
    let turn = Turn::default();
    let (sender, drive) = if state.endpoint.scheme.is_tls() {
        let stream = dial::tls(upstream, state, stream, false).await.map_err(not_connected)?;
        let (sender, connection) = speak(stream, &turn).await.map_err(not_connected)?;
        (sender, Drive::new(Speaking::Tls(connection), counted))
    } else {
        let (sender, connection) = speak(stream, &turn).await.map_err(not_connected)?;
        (sender, Drive::new(Speaking::Plain(connection), counted))
    };
    let timer = Box::pin(tokio::time::sleep(IDLE_MAX));
    Ok((Conn { sender, drive, turn, timer, is_old: false }, false))
}

type Spoken<S> = Connection<TokioIo<LastWord<Corked<S>>>, OutBody>;

/// Speaks HTTP/1.1 over a stream.
async fn speak<S>(stream: S, turn: &Turn) -> io::Result<(SendRequest<OutBody>, Spoken<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(LastWord::new(Corked::to_upstream(stream), turn.clone())))
        .await
        .map_err(io::Error::other)
}

/// What a request without a connection gets.
pub(in crate::upstream) enum Leave {
    /// Leave to open one more.
    Open(OwnedSemaphorePermit),
    /// One that another request has done with.
    Given(Conn),
}

pub(in crate::upstream) async fn leave_to_open(
    upstream: &Arc<UpstreamState>,
    key: PoolKey,
    at: Option<Instant>,
) -> Result<Leave, DialError> {
    let connections = Arc::clone(&upstream.connections);
    let max = upstream.config.max_connections as usize;
    if key.lane == Lane::Shadow && connections.available_permits() <= max - max / 2 {
        // Copies take at most half, so that they never make a user wait.
        return Err((Failure::Full, None));
    }
    if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
        return Ok(Leave::Open(permit));
    }
    // All are taken. The next one that anybody has done with comes here, and idle ones of other cores are given up.
    let (_waiting, before) = Waiting::new(upstream);
    let given = upstream.waiters.join(key, before as usize + 1);
    if before == 0 {
        WANTED.notify_waiters();
    }
    let too_late = async {
        match at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        Ok(conn) = given => Ok(Leave::Given(conn)),
        permit = connections.acquire_owned() => permit.map(Leave::Open).map_err(|_| (Failure::Connect, None)),
        // Nothing is wrong with the way there: there is no room.
        () = too_late => Err((Failure::Full, None)),
    }
}

struct Waiting(Arc<UpstreamState>);

impl Waiting {
    /// Counted in, and how many waited already.
    fn new(upstream: &Arc<UpstreamState>) -> (Waiting, u32) {
        let before = upstream.waiting.fetch_add(1, Ordering::Relaxed);
        (Waiting(Arc::clone(upstream)), before)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
