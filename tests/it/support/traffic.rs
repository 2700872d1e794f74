//! Steady traffic of every kind that clients bring: so many requests a second, each counted and timed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;

use crate::support::origin::BODY;
use crate::support::pauses;
use crate::support::wire::{Reply, Wire};

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(90);
/// Bytes of a POST's body.
const POSTED: usize = 2_000;

/// How clients ask.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// HTTP/1.1 on kept connections.
    Kept,
    /// HTTP/1.1, each request on a connection of its own.
    New,
    /// HTTP/2 by prior knowledge.
    H2,
    /// A message each, echoed, on a socket that stays.
    WebSocket,
    /// Bodies on kept connections.
    Post,
    /// HTTP/1.1 over TLS on kept connections.
    Tls(Arc<ClientConfig>),
}

/// Requests to be made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) target: &'static str,
    pub(crate) clients: u32,
    /// Of all clients together.
    pub(crate) per_second: u32,
    /// Answers that are no failure beside 200: sheds.
    pub(crate) also: &'static [u16],
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) good: u64,
    pub(crate) failed: u64,
    /// Those that were asked to be no failure.
    pub(crate) also: u64,
    /// Those that met a pause of the machine, and say nothing.
    pub(crate) paused: u64,
    /// Connections that the proxy said it would close.
    pub(crate) closes: u64,
    pub(crate) whys: BTreeMap<String, u64>,
    pub(crate) waits_us: Vec<u32>,
    pub(crate) also_waits_us: Vec<u32>,
}

/// Traffic in the background.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Tally>>,
}

enum Client {
    None,
    Wire(Wire),
    H2(SendRequest<Empty<Bytes>>),
}

impl Plan {
    pub(crate) fn new(kind: Kind, address: SocketAddr, clients: u32, per_second: u32) -> Plan {
        Plan { kind, address, target: "/r", clients, per_second, also: &[] }
    }

    pub(crate) fn target(self, target: &'static str) -> Plan {
        Plan { target, ..self }
    }

    pub(crate) fn also(self, also: &'static [u16]) -> Plan {
        Plan { also, ..self }
    }

    pub(crate) fn start(self) -> Traffic {
        let (stop, good) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let each = Duration::from_secs(1) * self.clients / self.per_second.max(1);
        let tasks = (0..self.clients).map(|number| {
            let (plan, stop, good) = (self.clone(), Arc::clone(&stop), Arc::clone(&good));
            tokio::spawn(async move { plan.run(number, each, &stop, &good).await })
        });
        Traffic { tasks: tasks.collect(), stop, good }
    }

    async fn run(self, number: u32, each: Duration, stop: &AtomicBool, good: &AtomicU64) -> Tally {
        let mut tally = Tally::default();
        let mut client = Client::None;
        let mut next = Instant::now() + each * number / self.clients;
        while !stop.load(Ordering::Relaxed) {
            // What was missed is not made up for: a pause of the machine must not end in a burst.
            next = next.max(Instant::now().checked_sub(each * 4).unwrap_or(next));
            tokio::time::sleep_until(next.into()).await;
            next += each;
            let begun = Instant::now();
            let asked = tokio::time::timeout(ANSWER_MAX, self.once(&mut client, number)).await;
            let waited = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
            if !pauses::paused(begun, Instant::now()).is_zero() {
                tally.paused += 1;
                client = Client::None;
                continue;
            }
            match asked.unwrap_or_else(|_| Err("no answer in time".into())) {
                Ok((200, is_last)) => {
                    tally.good += 1;
                    good.fetch_add(1, Ordering::Relaxed);
                    tally.waits_us.push(waited);
                    if is_last {
                        tally.closes += 1;
                        client = Client::None;
                    }
                }
                Ok((_, is_last)) => {
                    tally.also += 1;
                    tally.also_waits_us.push(waited);
                    if is_last {
                        client = Client::None;
                    }
                }
                Err(why) => {
                    tally.failed += 1;
                    if tally.whys.len() < 8 || tally.whys.contains_key(&why) {
                        *tally.whys.entry(why).or_default() += 1;
                    }
                    client = Client::None;
                }
            }
        }
        tally
    }

    /// Status, and whether the connection is over.
    async fn once(&self, client: &mut Client, number: u32) -> Result<(u16, bool), String> {
        if matches!(client, Client::None) || matches!(self.kind, Kind::New) {
            *client = self.connect().await?;
        }
        match client {
            Client::H2(sender) => self.once_h2(sender, number).await,
            Client::Wire(wire) if matches!(self.kind, Kind::WebSocket) => {
                wire.send(b"\x81\x85hello").await?;
                let back = wire.take(7).await?;
                if back == b"\x81\x85hello" { Ok((200, false)) } else { Err(format!("echoed {back:?}")) }
            }
            Client::Wire(wire) => {
                let reply = wire.ask(self.request(number).as_bytes()).await?;
                let expected = if matches!(self.kind, Kind::Post) { POSTED.to_string() } else { BODY.to_owned() };
                self.judge(&reply, expected.as_bytes())
            }
            Client::None => Err("not connected".into()),
        }
    }

    fn judge(&self, reply: &Reply, expected: &[u8]) -> Result<(u16, bool), String> {
        let is_good = reply.status == 200 && reply.body == expected;
        if is_good || self.also.contains(&reply.status) {
            return Ok((reply.status, reply.is_last()));
        }
        Err(format!("answered {} {:?}", reply.status, String::from_utf8_lossy(&reply.body)))
    }

    fn request(&self, number: u32) -> String {
        let head = format!("{} HTTP/1.1\r\nhost: shop.example.com\r\nx-user-id: user-{number}\r\n", self.target);
        match self.kind {
            Kind::New => format!("GET {head}connection: close\r\n\r\n"),
            Kind::Post => format!("POST {head}content-length: {POSTED}\r\n\r\n{}", "b".repeat(POSTED)),
            Kind::Kept | Kind::H2 | Kind::WebSocket | Kind::Tls(_) => format!("GET {head}\r\n"),
        }
    }

    async fn connect(&self) -> Result<Client, String> {
        match &self.kind {
            Kind::H2 => {
                let stream = TcpStream::connect(self.address).await.map_err(|error| format!("connect: {error}"))?;
                let _ = stream.set_nodelay(true);
                let begun = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, connection) = begun.map_err(|error| format!("handshake: {error}"))?;
                tokio::spawn(connection);
                Ok(Client::H2(sender))
            }
            Kind::Tls(config) => Ok(Client::Wire(Wire::connect_tls(self.address, Arc::clone(config)).await?)),
            Kind::WebSocket => {
                let mut wire = Wire::connect(self.address).await?;
                let request = "GET /ws HTTP/1.1\r\nhost: shop.example.com\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
                let reply = wire.ask(request.as_bytes()).await?;
                if reply.status == 101 { Ok(Client::Wire(wire)) } else { Err(format!("not switched: {}", reply.head)) }
            }
            Kind::Kept | Kind::New | Kind::Post => Ok(Client::Wire(Wire::connect(self.address).await?)),
        }
    }

    async fn once_h2(&self, sender: &mut SendRequest<Empty<Bytes>>, number: u32) -> Result<(u16, bool), String> {
        let uri = format!("http://shop.example.com{}", self.target);
        let request = || {
            let request = Request::builder().uri(&uri).header("x-user-id", format!("user-{number}"));
            request.body(Empty::<Bytes>::new()).unwrap()
        };
        // It says goodbye before it ends: what comes after that goes over another connection, as with any client of HTTP/2.
        let mut sent = ask_h2(sender, request()).await;
        if sent.as_ref().is_err_and(|error| error.is_unseen) {
            let Client::H2(fresh) = self.connect().await? else { return Err("not HTTP/2".into()) };
            *sender = fresh;
            sent = ask_h2(sender, request()).await;
        }
        let response = sent.map_err(|error| format!("h2: {:?}", error.why))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| format!("h2 body: {error:?}"))?.to_bytes();
        let is_good = status == 200 && body == BODY.as_bytes();
        if is_good || self.also.contains(&status) {
            return Ok((status, false));
        }
        Err(format!("answered {status} {:?}", String::from_utf8_lossy(&body)))
    }
}

/// There is no answer.
struct Unanswered {
    /// The connection ended, and nobody has looked at the request: it may be sent again.
    is_unseen: bool,
    why: hyper::Error,
}

/// A request that meets the goodbye comes back in three ways: the connection is not ready any more, the library has not written a
/// byte of it yet and gives it back, or it was written and the goodbye says that it was not looked at.
async fn ask_h2(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<http::Response<hyper::body::Incoming>, Unanswered> {
    sender.ready().await.map_err(|why| Unanswered { is_unseen: true, why })?;
    sender.try_send_request(request).await.map_err(|mut error| {
        let is_unwritten = error.take_message().is_some();
        let why = error.into_error();
        Unanswered { is_unseen: is_unwritten || is_goodbye(&why), why }
    })
}

/// A stream that the other end's goodbye has kept from being looked at (RFC 9113 §6.8).
fn is_goodbye(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
}

impl Traffic {
    /// Good answers so far.
    pub(crate) fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Ends it, and tells what became of it.
    pub(crate) async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for task in self.tasks {
            all.add(task.await.unwrap());
        }
        all
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.good += other.good;
        self.failed += other.failed;
        self.also += other.also;
        self.paused += other.paused;
        self.closes += other.closes;
        for (why, count) in other.whys {
            *self.whys.entry(why).or_default() += count;
        }
        self.waits_us.extend(other.waits_us);
        self.also_waits_us.extend(other.also_waits_us);
    }

    /// What a part of the good answers took at most, in milliseconds; the part in thousandths.
    pub(crate) fn within_ms(&self, thousandths: usize) -> f64 {
        quantile_ms(&self.waits_us, thousandths)
    }
}

/// Of waits in microseconds, in milliseconds.
pub(crate) fn quantile_ms(waits_us: &[u32], thousandths: usize) -> f64 {
    let mut sorted = waits_us.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * thousandths / 1_000).min(sorted.len().saturating_sub(1));
    f64::from(sorted.get(at).copied().unwrap_or(0)) / 1_000.0
}
