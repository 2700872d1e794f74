//! Keys of `strangler.yaml`.

use super::{Block, Key, Shape};
use crate::raw::leaf::COUNT_MAX;

/// The file.
pub static SERVER: Block = Block {
    name: "strangler.yaml",
    about: "What one process of strangler is told at start. Every key is also a flag of `strangler run` and a variable; a flag wins over its variable, both over this file.",
    keys: &[
        Key::optional(
            "listeners",
            Shape::List(&Shape::Block(&LISTENER)),
            "",
            "Where clients come in. Default: `127.0.0.1:8080`, in the clear.",
        ),
        Key::optional("admin", Shape::Block(&ADMIN), "", "Where people come in."),
        Key::optional(
            "telemetry",
            Shape::Block(&TELEMETRY),
            "",
            "Where probes and Prometheus come in, and the access log.",
        ),
        Key::optional("state_dir", Shape::Text, "state", "What outlives a restart; made if it is missing."),
        Key::optional(
            "store",
            Shape::Block(&STORE),
            "",
            "Where moved weights, kills, audit and divergences are kept. Default: `strangler.db` in the state directory.",
        ),
        Key::optional(
            "keys_file",
            Shape::Text,
            "made in the state directory",
            "Keys for signing and redaction; the same on every replica.",
        ),
        Key::optional("limits", Shape::Block(&LIMITS), "", "Bounds on clients."),
        Key::optional(
            "trusted_proxies",
            Shape::List(&Shape::Text),
            "[]",
            "Peers that may say who the client is, as in `10.0.0.0/8`.",
        ),
        Key::optional("threads", Shape::Count(1, THREADS_MAX), "one for each core", "Threads that serve."),
        Key::optional("drain", Shape::Block(&DRAIN), "", "How the process ends."),
        Key::optional("prometheus", Shape::Block(&PROMETHEUS), "", "The server that `gates.prometheus` asks."),
        Key::fixed("replicas", &["1"], &[], "How many processes serve the same routes."),
        Key::not_yet("fleet", "State that replicas share."),
    ],
};

pub(in crate::raw) static PROMETHEUS: Block = Block {
    name: "prometheus",
    about: "The server that `gates.prometheus` asks where a query names none.",
    keys: &[
        Key::required(
            "url",
            Shape::WebUrl,
            "Where it is: `https://`, or `http://` for a loopback or private address; `/api/v1/query` is put behind it.",
        ),
        Key::optional(
            "ca",
            Shape::Text,
            "the public authorities",
            "Authorities that certificates of queried servers may be of (PEM).",
        ),
    ],
};

pub(in crate::raw) static LISTENER: Block = Block {
    name: "listener",
    about: "A place where clients come in.",
    keys: &[
        Key::required("address", Shape::Text, "An IP address and a port, as in `0.0.0.0:8080` or `\"[::]:8080\"`."),
        Key::optional(
            "protocol",
            Shape::OneOf(&["auto", "http1", "h2c"]),
            "auto",
            "What is spoken: told by the client's first bytes (with TLS: agreed on), HTTP/1.1 only, or HTTP/2 only.",
        ),
        Key::optional("tls", Shape::Block(&LISTENER_TLS), "", "Certificates; without this block: in the clear."),
        Key::optional(
            "proxy_protocol",
            Shape::Bool,
            "false",
            "Each connection begins with a PROXY protocol header; taken from `trusted_proxies` only.",
        ),
        Key::optional("internal", Shape::Bool, "false", "Its clients are our own: their marks of a copy are believed."),
        Key::optional(
            "max_connections",
            Shape::Count(1, COUNT_MAX),
            "20000",
            "Connections open at once; one more is closed.",
        ),
        Key::optional(
            "max_connections_per_ip",
            Shape::Count(0, COUNT_MAX),
            "0",
            "Of one client (an IPv4 address, or the /64 of an IPv6 one); 0 is no bound, for a load balancer is one address.",
        ),
    ],
};

pub(in crate::raw) static LISTENER_TLS: Block = Block {
    name: "listener tls",
    about: "TLS of a listener. Files are read at start and again whenever they change.",
    keys: &[
        Key::required(
            "certificates",
            Shape::List(&Shape::Block(&CERTIFICATE)),
            "At least one; the first serves clients that name no host.",
        ),
        Key::optional("client_ca", Shape::Text, "", "Authorities of clients' certificates (PEM)."),
        Key::optional(
            "client_auth",
            Shape::OneOf(&["none", "optional", "required"]),
            "required where `client_ca` is written, else none",
            "Whether clients must show a certificate.",
        ),
        Key::optional(
            "client_subject",
            Shape::Bool,
            "false",
            "Upstreams are told the subject of the client's certificate, as `strangler-client-subject`.",
        ),
    ],
};

pub(in crate::raw) static CERTIFICATE: Block = Block {
    name: "certificate",
    about: "A certificate chain and its key.",
    keys: &[
        Key::required("cert", Shape::Text, "File of the chain (PEM), leaf first."),
        Key::required("key", Shape::Text, "File of the private key (PEM)."),
    ],
};

pub(in crate::raw) static ADMIN: Block = Block {
    name: "admin",
    about: "The admin plane.",
    keys: &[
        Key::optional("address", Shape::Text, "127.0.0.1:9900", "A loopback address and a port."),
        Key::not_yet("tls", "TLS of the admin plane."),
        Key::optional(
            "token_file",
            Shape::Text,
            "made in the state directory",
            "File with the admin token, or several, one a line.",
        ),
        Key::not_yet("roles", "Who may do what."),
    ],
};

pub(in crate::raw) static TELEMETRY: Block = Block {
    name: "telemetry",
    about: "Probes, metrics and the access log.",
    keys: &[
        Key::optional(
            "address",
            Shape::Text,
            "the admin address alone",
            "Serves `/livez`, `/readyz` and `/metrics`, and nothing else.",
        ),
        Key::not_yet("otlp", "Export of traces."),
        Key::optional("access_log", Shape::Block(&ACCESS_LOG), "", "One line for each request, on standard output."),
    ],
};

pub(in crate::raw) static ACCESS_LOG: Block = Block {
    name: "access log",
    about: "One line for each request, on standard output.",
    keys: &[
        Key::optional("format", Shape::OneOf(&["json", "text", "off"]), "json", "How it is written."),
        Key::not_yet("sample", "Which part of the requests is logged."),
    ],
};

pub(in crate::raw) static STORE: Block = Block {
    name: "store",
    about: "A PostgreSQL database instead of a file in the state directory. Kill file, keys, tokens, the last good routes and a copy of what is in force stay there.",
    keys: &[Key::required(
        "url_file",
        Shape::Text,
        "File with the database's address, as in `postgres://user:password@host:5432/database?sslmode=verify-full`; read again for each connection.",
    )],
};

pub(in crate::raw) static LIMITS: Block = Block {
    name: "limits",
    about: "Bounds on clients.",
    keys: &[
        Key::optional("header_bytes", Shape::Size, "64KiB", "All fields of a head together."),
        Key::optional("headers", Shape::Count(1, HEADERS_MAX), "100", "Fields of a head."),
        Key::optional("request_line", Shape::Size, "8KiB", "The request line; with HTTP/2 the `:path`."),
        Key::optional(
            "header_deadline",
            Shape::Duration,
            "10s",
            "From the first byte of a connection or a request to the end of the head.",
        ),
        Key::optional("keep_alive", Shape::Duration, "60s", "Between two requests of a connection."),
        Key::optional(
            "requests_per_connection",
            Shape::Count(0, COUNT_MAX),
            "0",
            "Requests of a connection; 0 is no bound.",
        ),
        Key::optional(
            "body_min_rate",
            Shape::Count(0, RATE_MAX),
            "240",
            "Least rate of a request's body in bytes a second, after ten seconds; 0 is no bound but the idle one.",
        ),
        Key::optional(
            "in_flight",
            Shape::Count(1, COUNT_MAX),
            "50000",
            "Requests under way; one more is answered 503.",
        ),
    ],
};

pub(in crate::raw) static DRAIN: Block = Block {
    name: "drain",
    about: "How the process ends.",
    keys: &[
        Key::optional(
            "delay",
            Shape::Duration,
            "0s",
            "How long new connections are still taken after readiness has failed, so that balancers notice.",
        ),
        Key::optional("deadline", Shape::Duration, "30s", "How long requests under way may then take."),
    ],
};

/// Most threads.
pub(in crate::raw) const THREADS_MAX: u64 = 1_024;
/// Most fields of a head.
pub(in crate::raw) const HEADERS_MAX: u64 = 10_000;
/// Largest least rate, in bytes a second.
pub(in crate::raw) const RATE_MAX: u64 = 1 << 30;
