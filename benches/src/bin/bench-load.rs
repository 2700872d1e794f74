//! Asks, and counts: one thread, sockets that are told when to speak, nothing allocated per request.
//!
//! Closed loop by default (each connection asks again when it is answered); `--rate` makes it an open one, in which a request's
//! time runs from when it was due, so that a slow answer cannot hide by delaying the next question. Prints one line of JSON.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;
use strangler_bench::http1;
use strangler_bench::tick::Ticker;

/// Latencies kept; of more, the first.
const LATENCIES_MAX: usize = 4_000_000;
/// Requests due that may wait for a free connection; more are errors.
const WAITING_MAX: usize = 100_000;
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long answers are waited for after the last question.
const GRACE: Duration = Duration::from_secs(2);
const TICK: Token = Token(usize::MAX - 1);

#[derive(Parser)]
struct Args {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Requests a second, evenly spaced, whatever the answers do. Default: as fast as answers come.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value = "/api/v1/orders/4711?currency=EUR")]
    path: String,
    /// Bytes of a body to POST; 0 asks by GET.
    #[arg(long, default_value_t = 0)]
    body: usize,
    /// A connection for each request.
    #[arg(long)]
    close: bool,
    /// One request on each connection; then say so on a line and keep them open until standard input ends.
    #[arg(long)]
    hold: bool,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut load = Load::new(&args)?;
    if args.hold {
        load.open_all()?;
        writeln!(io::stdout(), "{}", json!({ "held": load.answered, "errors": load.errors }))?;
        return io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ());
    }
    let took = load.run(Duration::from_secs_f64(args.seconds), args.rate)?;
    writeln!(io::stdout(), "{}", load.report(took))
}

struct Load {
    poll: Poll,
    events: Events,
    to: SocketAddr,
    closes: bool,
    connections: Vec<Connection>,
    /// Places of those that have nothing to do.
    idle: Vec<usize>,
    latencies_us: Vec<u32>,
    answered: u64,
    errors: u64,
    bytes: u64,
    scratch: Vec<u8>,
}

struct Connection {
    stream: Option<TcpStream>,
    state: State,
    request: Vec<u8>,
    written: usize,
    head: Vec<u8>,
    due: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Writing,
    Head,
    Body { left: usize },
}

/// What came of driving a connection as far as it goes.
enum Outcome {
    Waits,
    Answered,
    Failed,
}

impl Load {
    fn new(args: &Args) -> io::Result<Load> {
        let now = Instant::now();
        let connection = |place| Connection {
            stream: None,
            state: State::Idle,
            request: request(args, place),
            written: 0,
            head: Vec::with_capacity(1_024),
            due: now,
        };
        Ok(Load {
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            to: args.to,
            closes: args.close,
            connections: (0..args.connections).map(connection).collect(),
            idle: (0..args.connections).rev().collect(),
            latencies_us: Vec::with_capacity(1 << 20),
            answered: 0,
            errors: 0,
            bytes: 0,
            scratch: vec![0; 256 << 10],
        })
    }

    /// Asks for that long, then waits for the answers that are still out. Answers how long it took.
    fn run(&mut self, long: Duration, rate: Option<f64>) -> io::Result<Duration> {
        let start = Instant::now();
        let end = start + long;
        let mut ticker = match rate {
            Some(rate) => Some(Ticker::start(self.poll.registry(), TICK, Duration::from_secs_f64(1.0 / rate))?),
            None => None,
        };
        let mut waiting: VecDeque<Instant> = VecDeque::new();
        loop {
            let now = Instant::now();
            let is_over = now >= end;
            if is_over && (self.idle.len() == self.connections.len() || now >= end + GRACE) {
                break;
            }
            if !is_over {
                while let Some(due) = ticker.as_mut().and_then(Ticker::next_due) {
                    if waiting.len() < WAITING_MAX {
                        waiting.push_back(due);
                    } else {
                        self.errors += 1;
                    }
                }
                let is_closed_loop = ticker.is_none();
                while !self.idle.is_empty() {
                    let Some(due) = (if is_closed_loop { Some(Instant::now()) } else { waiting.pop_front() }) else {
                        break;
                    };
                    self.ask(due)?;
                }
            }
            let patience = ticker.as_ref().map_or(Duration::from_millis(50), Ticker::patience);
            self.wait(patience)?;
        }
        let unanswered = self.connections.len() - self.idle.len() + waiting.len();
        self.errors += u64::try_from(unanswered).unwrap_or(u64::MAX);
        Ok(start.elapsed())
    }

    /// One request on each connection, few at a time, so that no backlog overflows.
    fn open_all(&mut self) -> io::Result<()> {
        const AT_ONCE: usize = 64;
        let patience_ends = Instant::now() + Duration::from_secs(30);
        let wanted = self.connections.len();
        let mut fresh: Vec<usize> = std::mem::take(&mut self.idle);
        let mut asked = 0;
        while self.idle.len() < wanted && Instant::now() < patience_ends {
            while asked - self.idle.len() < AT_ONCE
                && let Some(place) = fresh.pop()
            {
                self.ask_on(place, Instant::now())?;
                asked += 1;
            }
            self.wait(Duration::from_millis(50))?;
        }
        Ok(())
    }

    fn wait(&mut self, patience: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let places: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        for place in places.into_iter().filter(|place| *place != TICK.0) {
            self.advance(place);
        }
        Ok(())
    }

    fn ask(&mut self, due: Instant) -> io::Result<()> {
        match self.idle.pop() {
            Some(place) => self.ask_on(place, due),
            None => Ok(()),
        }
    }

    fn ask_on(&mut self, place: usize, due: Instant) -> io::Result<()> {
        let connection = &mut self.connections[place];
        connection.due = due;
        connection.written = 0;
        connection.state = State::Writing;
        if connection.stream.is_none() {
            let mut stream = TcpStream::connect(self.to)?;
            stream.set_nodelay(true)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(place), both)?;
            // It is writable when it stands; the poll says so.
            connection.stream = Some(stream);
            return Ok(());
        }
        self.advance(place);
        Ok(())
    }

    fn advance(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        let was_idle = connection.state == State::Idle;
        match connection.drive(&mut self.scratch, &mut self.bytes) {
            Outcome::Waits => return,
            Outcome::Answered => {
                self.answered += 1;
                if self.latencies_us.len() < LATENCIES_MAX {
                    let micros = connection.due.elapsed().as_micros();
                    self.latencies_us.push(u32::try_from(micros).unwrap_or(u32::MAX));
                }
                if self.closes {
                    connection.stream = None;
                }
            }
            Outcome::Failed => {
                connection.stream = None;
                // A connection that the other side closes while nothing is asked is no error.
                self.errors += u64::from(!was_idle);
            }
        }
        connection.state = State::Idle;
        if !was_idle {
            self.idle.push(place);
        }
    }

    fn report(&mut self, took: Duration) -> serde_json::Value {
        self.latencies_us.sort_unstable();
        let last = self.latencies_us.len().saturating_sub(1);
        let at = |per_mille: usize| self.latencies_us.get(last * per_mille / 1_000).copied().unwrap_or(0);
        json!({
            "answered": self.answered, "errors": self.errors, "bytes": self.bytes, "seconds": took.as_secs_f64(),
            "p50_us": at(500), "p90_us": at(900), "p99_us": at(990), "p999_us": at(999), "max_us": at(1_000),
        })
    }
}

impl Connection {
    fn drive(&mut self, scratch: &mut [u8], bytes: &mut u64) -> Outcome {
        let Some(stream) = &mut self.stream else { return Outcome::Waits };
        while self.state == State::Writing {
            match stream.write(&self.request[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Outcome::Waits;
                }
                Err(_) => return Outcome::Failed,
            }
            if self.written == self.request.len() {
                self.state = State::Head;
                self.head.clear();
            }
        }
        loop {
            let read = match stream.read(scratch) {
                Ok(0) => return Outcome::Failed,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Waits,
                Err(_) => return Outcome::Failed,
            };
            *bytes += u64::try_from(read).unwrap_or_default();
            let left = match self.state {
                State::Idle | State::Writing => return Outcome::Failed,
                State::Body { left } => left.checked_sub(read),
                State::Head => {
                    self.head.extend_from_slice(&scratch[..read.min(HEAD_BYTES_MAX)]);
                    let Some(length) = http1::head_length(&self.head) else {
                        if self.head.len() >= HEAD_BYTES_MAX {
                            return Outcome::Failed;
                        }
                        continue;
                    };
                    let head = &self.head[..length];
                    if http1::second_word(head) != b"200" {
                        return Outcome::Failed;
                    }
                    // A body without a length is nothing that the backend sends: a proxy has changed it.
                    let before = self.head.len() - self.head.len().min(read.min(HEAD_BYTES_MAX));
                    let body_come = read - (length - before);
                    http1::content_length(head).and_then(|body| body.checked_sub(body_come))
                }
            };
            match left {
                None => return Outcome::Failed,
                Some(0) => return Outcome::Answered,
                Some(left) => self.state = State::Body { left },
            }
        }
    }
}

/// Each connection is a user of its own, so that proxies that hash have something to hash.
fn request(args: &Args, place: usize) -> Vec<u8> {
    let method = if args.body == 0 { "GET" } else { "POST" };
    let mut text = format!(
        "{method} {} HTTP/1.1\r\nhost: shop.example.com\r\nuser-agent: bench/1\r\naccept: application/json\r\n\
         accept-encoding: gzip\r\ncookie: SHOPSID=5f2b9c0e7a1d4e88b3c6\r\nx-user-id: user-{place}\r\n",
        args.path
    );
    if args.close {
        text.push_str("connection: close\r\n");
    }
    if args.body > 0 {
        let length = args.body.to_string();
        text.extend(["content-type: application/octet-stream\r\ncontent-length: ", &length, "\r\n"]);
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len() + args.body, b'p');
    bytes
}
