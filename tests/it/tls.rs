//! TLS from clients: names, versions, clients' certificates, and files that change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use strangler::proxy::tls::Refreshed;
use strangler_core::server::{CertificateFiles, ClientAuth, ListenerProtocol, ListenerTls};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::support::backend::{Backend, read_head};
use crate::support::plane::{Plane, Setup};
use crate::support::proxy::{PATIENCE, replace};

/// An authority, and the files of what it has signed.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { dir, der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Signs one for these names; PEM of certificate and key.
    fn sign(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "alice");
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Likewise, into files.
    fn files(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let files = CertificateFiles {
            cert: self.dir.path().join(format!("{file}.crt")),
            key: self.dir.path().join(format!("{file}.key")),
        };
        self.renew(&files, names);
        files
    }

    fn renew(&self, files: &CertificateFiles, names: &[&str]) {
        let (cert, key) = self.sign(names);
        replace(&files.key, &key);
        replace(&files.cert, &cert);
    }

    /// A client that trusts it, and shows a certificate of its own if it has one.
    fn client(
        &self,
        own: Option<&CertificateFiles>,
        alpn: &[&str],
        version: &'static SupportedProtocolVersion,
    ) -> ClientConfig {
        use tokio_rustls::rustls::pki_types::pem::PemObject as _;
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(files) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(&files.cert).unwrap()],
                    PrivateKeyDer::from_pem_file(&files.key).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }

    fn plain_client(&self) -> ClientConfig {
        self.client(None, &[], &TLS13)
    }
}

fn with_tls(legacy: &Backend, certificates: Vec<CertificateFiles>) -> Setup {
    Plane::before(legacy).listener(|listener| {
        listener.tls =
            Some(ListenerTls { certificates, client_ca: None, client_auth: ClientAuth::None, client_subject: false });
    })
}

fn tls(setup: Setup, change: impl FnOnce(&mut ListenerTls)) -> Setup {
    setup.listener(|listener| change(listener.tls.as_mut().unwrap()))
}

async fn connect(plane: &Plane, config: ClientConfig, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(plane.address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio::time::timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

/// The head and body that answer one request of HTTP/1.1; empty when the connection ends instead.
async fn ask(stream: &mut TlsStream<TcpStream>, host: &str, more: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{more}\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    let mut read = Vec::new();
    let mut byte = [0; 1];
    while !read.ends_with(b"\r\n\r\n") {
        match tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.unwrap() {
            Ok(1) => read.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(read).unwrap().to_ascii_lowercase()
}

fn serial(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_the_first_serves_the_rest() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let first = authority.files("first", &["first.example.com", "127.0.0.1"]);
    let star = authority.files("star", &["*.example.org"]);
    let plane = with_tls(&legacy, vec![first, star]).start();

    for name in ["first.example.com", "any.example.org", "127.0.0.1"] {
        for version in [&TLS12, &TLS13] {
            let mut stream = connect(&plane, authority.client(None, &[], version), name).await.unwrap();
            let answer = ask(&mut stream, name, "").await;
            assert!(answer.starts_with("http/1.1 200"), "{name}: {answer}");
        }
    }
    let unknown = connect(&plane, authority.plain_client(), "a.b.example.org").await;
    assert!(unknown.is_err(), "a star stands for one label");
    assert_eq!(legacy.seen()[0].headers["x-forwarded-proto"], "https");
    assert!(
        plane.metric(&format!(
            "strangler_certificate_expiry_timestamp_seconds{{name=\"{}\"}}",
            authority.dir.path().join("first.crt").display()
        )) > 1e9
    );
}

#[tokio::test]
async fn alpn_says_which_http_is_spoken() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let files = authority.files("a", &["a.example.com"]);
    let plane = with_tls(&legacy, vec![files.clone()]).start();

    let stream = connect(&plane, authority.client(None, &["h2", "http/1.1"], &TLS13), "a.example.com").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (host, expect) in [("a.example.com", 200), ("b.example.com", 421), ("a.example.com", 200)] {
        let request = Request::get(format!("https://{host}/")).version(Version::HTTP_2);
        let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), expect);
        response.into_body().collect().await.unwrap();
    }
    assert!(connect(&plane, authority.client(None, &["foo"], &TLS13), "a.example.com").await.is_err());

    let only_h1 = with_tls(&legacy, vec![files]).listener(|it| it.protocol = ListenerProtocol::Http1).start();
    let stream = connect(&only_h1, authority.client(None, &["h2", "http/1.1"], &TLS13), "a.example.com").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    // What old clients say, and `curl --http1.0`.
    for server in [&plane, &only_h1] {
        let config = authority.client(None, &["http/1.0"], &TLS13);
        let mut stream = connect(server, config, "a.example.com").await.unwrap();
        assert!(ask(&mut stream, "a.example.com", "").await.starts_with("http/1.1 200"));
    }
}

#[tokio::test]
async fn a_host_that_the_connection_was_not_opened_for_is_misdirected() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let a = authority.files("a", &["a.example.com", "127.0.0.1"]);
    let b = authority.files("b", &["b.example.com"]);
    let plane = with_tls(&legacy, vec![a, b]).start();

    let mut stream = connect(&plane, authority.plain_client(), "a.example.com").await.unwrap();
    let answer = ask(&mut stream, "b.example.com", "").await;
    assert!(answer.starts_with("http/1.1 421") && answer.contains("strangler-error: misdirected"), "{answer}");
    let mut stream = connect(&plane, authority.plain_client(), "a.example.com").await.unwrap();
    assert!(ask(&mut stream, "A.example.com:443", "").await.starts_with("http/1.1 200"));
    let mut nameless = connect(&plane, authority.plain_client(), "127.0.0.1").await.unwrap();
    assert!(ask(&mut nameless, "b.example.com", "").await.starts_with("http/1.1 200"), "without SNI any host is fine");
}

#[tokio::test]
async fn an_idle_connection_ends_with_a_goodbye() {
    let authority = Authority::new();
    let legacy = Backend::answering(200, "ok").await;
    let plane = with_tls(&legacy, vec![authority.files("one", &["shop.test"])]).start();
    // The latter is at rest by then.
    for idle in [100, 1_700] {
        let mut stream = connect(&plane, authority.plain_client(), "shop.test").await.unwrap();
        ask(&mut stream, "shop.test", "").await;
        tokio::time::sleep(Duration::from_millis(idle)).await;
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        // An end without a close_notify may be somebody else's: the library says so.
        assert!(end.is_ok() && rest == b"ok", "{end:?} after {idle} ms");
    }
}

#[tokio::test]
async fn clients_show_certificates_and_upstreams_are_told_whose() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.files("server", &["a.example.com"]);
    let alice = authority.files("alice", &["alice"]);
    let mallory = stranger.files("mallory", &["mallory"]);
    let plane = |auth: ClientAuth| {
        let setup = with_tls(&legacy, vec![server.clone()]);
        tls(setup, |tls| (tls.client_ca, tls.client_auth, tls.client_subject) = (Some(authority.ca()), auth, true))
            .start()
    };
    let spoofed = "strangler-client-subject: CN=root\r\n";
    let with = |own: Option<&CertificateFiles>| authority.client(own, &[], &TLS13);

    let required = plane(ClientAuth::Required);
    let mut stream = connect(&required, with(Some(&alice)), "a.example.com").await.unwrap();
    assert!(ask(&mut stream, "a.example.com", spoofed).await.starts_with("http/1.1 200"));
    assert_eq!(legacy.seen()[0].headers["strangler-client-subject"], "CN=alice,O=Example\\, Inc.");
    for own in [None, Some(&mallory)] {
        // In TLS 1.3 a client learns of it with the first answer.
        if let Ok(mut stream) = connect(&required, with(own), "a.example.com").await {
            assert_eq!(ask(&mut stream, "a.example.com", "").await, "");
        }
    }
    required.wait_for_rejected("tls_handshake", 2.0).await;

    let optional = plane(ClientAuth::Optional);
    let mut stream = connect(&optional, with(None), "a.example.com").await.unwrap();
    assert!(ask(&mut stream, "a.example.com", spoofed).await.starts_with("http/1.1 200"));
    assert!(!legacy.seen()[1].headers.contains_key("strangler-client-subject"));
    if let Ok(mut stream) = connect(&optional, with(Some(&mallory)), "a.example.com").await {
        assert_eq!(ask(&mut stream, "a.example.com", "").await, "", "a wrong one is refused");
    }
}

#[tokio::test]
async fn certificates_that_change_are_taken_and_wrong_ones_are_not() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let files = authority.files("a", &["a.example.com"]);
    let plane = with_tls(&legacy, vec![files.clone()]).start();
    let is_stale = || plane.metric(&format!("strangler_certificates_stale{{listener=\"{}\"}}", plane.address)) > 0.0;

    let mut open = connect(&plane, authority.plain_client(), "a.example.com").await.unwrap();
    let before = serial(&open);
    assert!(matches!(plane.listener.refresh(), Refreshed::Unchanged));
    authority.renew(&files, &["a.example.com"]);
    assert!(matches!(plane.listener.refresh(), Refreshed::Taken));
    let renewed = connect(&plane, authority.plain_client(), "a.example.com").await.unwrap();
    assert_ne!(serial(&renewed), before);
    assert!(ask(&mut open, "a.example.com", "").await.starts_with("http/1.1 200"), "an open connection goes on");

    // Half of a renewal: the certificate of another key; then half a file; then none.
    let good = std::fs::read_to_string(&files.cert).unwrap();
    let spoil: [&dyn Fn(&Path); 3] = [
        &|path| replace(path, &authority.sign(&["a.example.com"]).0),
        &|path| replace(path, &good[..good.len() / 2]),
        &|path| std::fs::remove_file(path).unwrap(),
    ];
    for spoil in spoil {
        spoil(&files.cert);
        assert!(matches!(plane.listener.refresh(), Refreshed::Refused(_)));
        assert!(is_stale());
        assert!(matches!(plane.listener.refresh(), Refreshed::Unchanged), "it is said once");
        let kept = connect(&plane, authority.plain_client(), "a.example.com").await.unwrap();
        assert_eq!(serial(&kept), serial(&renewed));
    }
    replace(&files.cert, &good);
    assert!(matches!(plane.listener.refresh(), Refreshed::Taken));
    assert!(!is_stale());
}

#[tokio::test]
async fn a_certificate_that_has_run_out_does_not_replace_a_good_one() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let (a, b) = (authority.files("a", &["a.example.com"]), authority.files("b", &["b.example.com"]));
    let old = |name: &str| {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority.issuer).unwrap().pem(), key.serialize_pem())
    };
    let put = |files: &CertificateFiles, (cert, key): (String, String)| {
        replace(&files.key, &key);
        replace(&files.cert, &cert);
    };
    put(&b, old("b.example.com"));
    let plane = with_tls(&legacy, vec![a.clone(), b.clone()]).start();

    put(&a, old("a.example.com"));
    assert!(matches!(plane.listener.refresh(), Refreshed::Refused(_)));
    // Another one that ran out long ago holds no renewal up.
    authority.renew(&a, &["a.example.com"]);
    assert!(matches!(plane.listener.refresh(), Refreshed::Taken));
    authority.renew(&b, &["b.example.com"]);
    assert!(matches!(plane.listener.refresh(), Refreshed::Taken));
}

#[tokio::test]
async fn a_session_is_resumed_but_not_past_a_change_of_authorities() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let server = authority.files("server", &["a.example.com"]);
    let alice = authority.files("alice", &["alice"]);
    let setup = with_tls(&legacy, vec![server]);
    let plane =
        tls(setup, |tls| (tls.client_ca, tls.client_auth) = (Some(authority.ca()), ClientAuth::Required)).start();
    let config = authority.client(Some(&alice), &[], &TLS13);
    let kind_of = |stream: &TlsStream<TcpStream>| format!("{:?}", stream.get_ref().1.handshake_kind().unwrap());

    let mut first = connect(&plane, config.clone(), "a.example.com").await.unwrap();
    assert!(ask(&mut first, "a.example.com", "").await.starts_with("http/1.1 200"));
    let mut second = connect(&plane, config.clone(), "a.example.com").await.unwrap();
    assert!(ask(&mut second, "a.example.com", "").await.starts_with("http/1.1 200"));
    assert_eq!((kind_of(&first), kind_of(&second)), ("Full".to_owned(), "Resumed".to_owned()));

    std::fs::copy(Authority::new().ca(), authority.ca()).unwrap();
    assert!(matches!(plane.listener.refresh(), Refreshed::Taken));
    if let Ok(mut third) = connect(&plane, config, "a.example.com").await {
        assert_eq!(ask(&mut third, "a.example.com", "").await, "");
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_closed_and_counted() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let files = authority.files("a", &["a.example.com"]);
    let plane =
        with_tls(&legacy, vec![files]).limits(|limits| limits.header_deadline = Duration::from_millis(300)).start();

    for first in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"\x16\x03\x01", b""] {
        let mut stream = TcpStream::connect(plane.address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it was kept open");
        assert!(!answer.starts_with(b"HTTP"));
    }

    plane.wait_for_rejected("tls_handshake", 3.0).await;
    assert!(legacy.seen().is_empty());
}

#[tokio::test]
async fn a_balancers_header_comes_before_the_handshake() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let files = authority.files("a", &["a.example.com"]);
    let plane = with_tls(&legacy, vec![files])
        .trusting("127.0.0.1")
        .listener(|listener| listener.proxy_protocol = true)
        .start();

    let mut stream = TcpStream::connect(plane.address).await.unwrap();
    stream.write_all(b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 443\r\n").await.unwrap();
    let name = ServerName::try_from("a.example.com").unwrap();
    let mut stream = TlsConnector::from(Arc::new(authority.plain_client())).connect(name, stream).await.unwrap();

    assert!(ask(&mut stream, "a.example.com", "").await.starts_with("http/1.1 200"));
    assert_eq!(legacy.seen()[0].headers["x-forwarded-for"], "203.0.113.9");
}

#[tokio::test]
async fn our_cookie_is_for_tls_only_where_it_was_given_over_tls() {
    let legacy = Backend::answering(200, "ok").await;
    let authority = Authority::new();
    let files = authority.files("a", &["a.example.com"]);
    let routes = format!("routes: [{{name: r, match: '/', extracted: {}, weight: 50%}}]\n", legacy.url());
    let secure = with_tls(&legacy, vec![files]).routes(&routes).start();
    let plain = Plane::before(&legacy).routes(&routes).start();

    let mut stream = connect(&secure, authority.plain_client(), "a.example.com").await.unwrap();
    let over_tls = ask(&mut stream, "a.example.com", "").await;
    let mut stream = TcpStream::connect(plain.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let in_the_clear = String::from_utf8(read_head(&mut stream).await).unwrap().to_ascii_lowercase();

    assert!(over_tls.contains("strangler_id=") && over_tls.contains("; secure"), "{over_tls}");
    assert!(in_the_clear.contains("strangler_id=") && !in_the_clear.contains("; secure"), "{in_the_clear}");
}
