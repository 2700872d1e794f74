//! What stands behind every proxy: a keep-alive HTTP/1.1 server that does as little as it can.
//!
//! `bench-backend --answering 2 --hanging 1` listens on three free ports of the loopback and prints them on one line, the answering
//! ones first. An answering one sends 1 KiB of JSON for any path, 10 MiB for `/big`, and for `/count` how many requests each
//! listener has had. A hanging one accepts, reads and never answers. It ends when its standard input does.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use strangler_bench::http1;

/// More than any load that the driver asks for.
const CLIENTS_MAX: usize = 30_000;
const HEAD_BYTES_MAX: usize = 64 << 10;
const BIG_BYTES: usize = 10 << 20;

#[derive(Parser)]
struct Args {
    /// Listeners that answer.
    #[arg(long, default_value_t = 2)]
    answering: usize,
    /// Listeners that accept, read and never answer.
    #[arg(long, default_value_t = 0)]
    hanging: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners =
        (0..args.answering + args.hanging).map(|_| TcpListener::bind(loopback)).collect::<io::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(|it| Ok(it.local_addr()?.to_string())).collect::<io::Result<Vec<_>>>()?;
    writeln!(io::stdout(), "{}", addresses.join(" "))?;
    end_with_standard_input();
    Backend::new(listeners, args.answering)?.serve()
}

/// The driver holds the other end: however it dies, this one dies too.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // Nothing here needs a destructor, and the loop cannot be woken from outside.
        #[expect(clippy::disallowed_methods, clippy::exit, reason = "a helper process without state")]
        std::process::exit(0);
    });
}

struct Backend {
    poll: Poll,
    listeners: Vec<TcpListener>,
    /// Listeners from this one on never answer.
    answering: usize,
    /// Requests by listener.
    counts: Vec<u64>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    small: Vec<u8>,
    big: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    listener: usize,
    /// What has come of a head.
    head: Vec<u8>,
    /// What has yet to come of a body, and what is answered then.
    body_left: usize,
    next: Option<Answer>,
    /// What is being written, and how far it is.
    writing: Option<(Answer, usize)>,
    closes: bool,
}

enum Answer {
    Small,
    Big,
    Count(Vec<u8>),
}

impl Backend {
    fn new(mut listeners: Vec<TcpListener>, answering: usize) -> io::Result<Backend> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(index), Interest::READABLE)?;
        }
        let json = format!("{{\"data\":\"{}\"}}", "x".repeat(1_024 - 11));
        Ok(Backend {
            poll,
            counts: vec![0; listeners.len()],
            listeners,
            answering,
            clients: Vec::new(),
            free: Vec::new(),
            small: answer("application/json", json.as_bytes()),
            big: answer("application/octet-stream", &vec![b'b'; BIG_BYTES]),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut scratch = vec![0; 128 << 10];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                let Token(token) = event.token();
                if token < self.listeners.len() {
                    self.accept(token)?;
                } else {
                    self.advance(token - self.listeners.len(), &mut scratch);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        loop {
            let mut stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let place = self.free.pop().unwrap_or(self.clients.len());
            if place >= CLIENTS_MAX {
                continue;
            }
            stream.set_nodelay(true)?;
            let token = Token(place + self.listeners.len());
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let client =
                Client { stream, listener, head: Vec::new(), body_left: 0, next: None, writing: None, closes: false };
            if place == self.clients.len() {
                self.clients.push(Some(client));
            } else {
                self.clients[place] = Some(client);
            }
        }
    }

    /// Reads and writes as far as the socket allows.
    fn advance(&mut self, place: usize, scratch: &mut [u8]) {
        let Some(mut client) = self.clients.get_mut(place).and_then(Option::take) else { return };
        match self.turn(&mut client, scratch) {
            Ok(true) => self.clients[place] = Some(client),
            Ok(false) | Err(_) => self.free.push(place),
        }
    }

    /// `false`: the connection is at its end.
    fn turn(&mut self, client: &mut Client, scratch: &mut [u8]) -> io::Result<bool> {
        loop {
            if let Some((answer, at)) = &mut client.writing {
                let bytes = match answer {
                    Answer::Small => &self.small,
                    Answer::Big => &self.big,
                    Answer::Count(bytes) => bytes,
                };
                match client.stream.write(&bytes[*at..]) {
                    Ok(written) => *at += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                }
                if *at < bytes.len() {
                    continue;
                }
                client.writing = None;
                if client.closes {
                    return Ok(false);
                }
            }
            if client.body_left == 0
                && let Some(answer) = client.next.take().or_else(|| self.next_request(client))
            {
                if client.listener < self.answering && client.body_left == 0 {
                    client.writing = Some((answer, 0));
                    continue;
                }
                client.next = (client.listener < self.answering).then_some(answer);
            }
            match client.stream.read(scratch) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    let body = read.min(client.body_left);
                    client.body_left -= body;
                    client.head.extend_from_slice(&scratch[body..read]);
                    if client.head.len() > HEAD_BYTES_MAX {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a head off the client's buffer, when one is there, and says what answers it once its body has come.
    fn next_request(&mut self, client: &mut Client) -> Option<Answer> {
        let length = http1::head_length(&client.head)?;
        let head = &client.head[..length];
        let path = http1::second_word(head);
        let answer = match path {
            b"/count" => Answer::Count(answer("application/json", format!("{:?}", self.counts).as_bytes())),
            b"/big" => Answer::Big,
            _ => Answer::Small,
        };
        self.counts[client.listener] += u64::from(path != b"/count");
        client.closes = http1::wants_close(head);
        let body = http1::content_length(head).unwrap_or(0);
        let come = body.min(client.head.len() - length);
        client.body_left = body - come;
        client.head.drain(..length + come);
        Some(answer)
    }
}

fn answer(content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: {content_type}\r\ncache-control: no-store\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
