use std::path::PathBuf;
use std::time::Duration;

use strangler_core::server::asked::AccessLogFormat;
use strangler_core::server::{CertificateFiles, ClientAuth, ListenerProtocol};

use super::*;

const WHOLE: &str = r#"
listeners:
  - {address: 0.0.0.0:8080, max_connections: 100, max_connections_per_ip: 5}
  - address: "[::]:8443"
    protocol: http1
    proxy_protocol: true
    internal: true
    tls:
      certificates: [{cert: tls/a.pem, key: /etc/keys/a.key}]
      client_ca: ca.pem
      client_subject: true
admin: {address: 127.0.0.1:9901, token_file: token}
telemetry: {address: 0.0.0.0:9902, access_log: {format: text}}
state_dir: ../state
keys_file: keys
limits:
  {header_bytes: 32KiB, headers: 50, request_line: 4096, header_deadline: 5s, keep_alive: 30s,
   requests_per_connection: 1000, body_min_rate: 0, in_flight: 10}
trusted_proxies: [10.0.0.0/8, "::1"]
threads: 3
drain: {delay: 5s, deadline: 1m}
replicas: 1
"#;

#[test]
fn every_key_is_read_and_paths_are_relative_to_the_file() {
    let loaded = load(WHOLE.as_bytes(), Path::new("/etc/strangler/strangler.yaml"));
    assert_eq!(loaded.faults, []);
    let asked = loaded.asked.unwrap();
    let [plain, tls] = &asked.listeners.unwrap()[..] else { panic!("two listeners") };
    assert_eq!((plain.address.to_string(), plain.max_connections), ("0.0.0.0:8080".to_owned(), 100));
    assert_eq!((plain.max_connections_per_ip, plain.proxy_protocol, &plain.tls), (5, false, &None));
    assert_eq!((tls.protocol, tls.proxy_protocol, tls.is_internal), (ListenerProtocol::Http1, true, true));
    let files = tls.tls.as_ref().unwrap();
    let expect = CertificateFiles { cert: "/etc/strangler/tls/a.pem".into(), key: "/etc/keys/a.key".into() };
    assert_eq!((&files.certificates[..], files.client_auth), (&[expect][..], ClientAuth::Required));
    assert!(files.client_subject);
    assert_eq!(files.client_ca, Some(PathBuf::from("/etc/strangler/ca.pem")));
    assert_eq!(asked.admin.unwrap().port(), 9_901);
    assert_eq!(asked.admin_token_file, Some(PathBuf::from("/etc/strangler/token")));
    assert_eq!((asked.telemetry.unwrap().port(), asked.access_log), (9_902, Some(AccessLogFormat::Text)));
    assert_eq!(asked.state_dir, Some(PathBuf::from("/etc/strangler/../state")));
    assert_eq!((asked.threads, asked.trusted_proxies.unwrap().len()), (Some(3), 2));
    let limits = asked.limits.filled();
    assert_eq!((limits.header_bytes, limits.request_line, limits.headers), (32 << 10, 4_096, 50));
    assert_eq!((limits.body_min_rate, limits.in_flight, limits.requests_per_connection), (0, 10, 1_000));
    assert_eq!((limits.header_deadline, limits.keep_alive), (Duration::from_secs(5), Duration::from_secs(30)));
    let drain = asked.drain.filled();
    assert_eq!((drain.delay, drain.deadline), (Duration::from_secs(5), Duration::from_secs(60)));
}

#[test]
fn a_file_that_says_nothing_asks_for_nothing() {
    for text in ["", "\n", "# later\n\n"] {
        assert_eq!(load(text.as_bytes(), Path::new("strangler.yaml")).asked, Some(Asked::default()), "{text:?}");
    }
}

#[test]
fn each_fault_is_told_with_its_place() {
    for (text, line, column, message, help) in [
        ("listners: []", 1, 1, "unknown key `listners`", "did you mean `listeners`?"),
        ("listeners: []", 1, 12, "there is at least one listener", ""),
        ("listeners: [{adress: 0.0.0.0:80}]", 1, 14, "unknown key `adress`", "did you mean `address`?"),
        ("listeners: [{protocol: h2c}]", 1, 14, "`address` is missing", "IP address"),
        ("listeners: [{address: 8080}]", 1, 23, "`8080` is no IP address with a port", "`0.0.0.0:8080`"),
        ("listeners: [{address: 'localhost:80'}]", 1, 23, "is no IP address", "`127.0.0.1:80`?"),
        ("listeners: [{address: 10.0.0.1}]", 1, 23, "is no IP address", "the port is missing"),
        ("listeners: [{address: [::1]:80}]", 1, 28, "not YAML", ""),
        ("listeners:\n- {address: 1.1.1.1:1}\n- {address: 1.1.1.1:1}", 3, 3, "`1.1.1.1:1` is listened on twice", ""),
        ("listeners: [{address: 1.1.1.1:1, tls: {certificates: []}}]", 1, 54, "at least one certificate", ""),
        ("listeners: [{address: 1.1.1.1:1, tls: {certificates: [{cert: a}]}}]", 1, 56, "`key` is missing", ""),
        (
            "listeners: [{address: 1.1.1.1:1, tls: {certificates: [{cert: a, key: b}], client_auth: optional}}]",
            1,
            88,
            "no authority",
            "client_ca",
        ),
        (
            "listeners: [{address: 1.1.1.1:1, tls: {certificates: [{cert: a, key: b}], client_subject: true}}]",
            1,
            91,
            "without `client_ca`",
            "",
        ),
        ("listeners: [{address: 1.1.1.1:1, protocol: http3}]", 1, 44, "expected one of `auto`", ""),
        ("admin: {address: 0.0.0.0:9900}", 1, 18, "no loopback address", "telemetry"),
        ("admin: {tls: {}}", 1, 9, "`tls` is not supported yet", ""),
        ("admin: {roles: {}}", 1, 9, "`roles` is not supported yet", ""),
        ("store: {}", 1, 8, "`url_file` is missing", ""),
        ("store: {url_file: a, url: b}", 1, 22, "unknown key `url`", ""),
        ("fleet: {etcd: []}", 1, 1, "`fleet` is not supported yet", ""),
        ("replicas: 2", 1, 11, "expected `1`, found `2`", ""),
        ("telemetry: {otlp: {}}", 1, 13, "`otlp` is not supported yet", ""),
        ("telemetry: {access_log: {sample: 1%}}", 1, 26, "`sample` is not supported yet", ""),
        ("limits: {header_deadline: 0s}", 1, 27, "there must be a bound here", ""),
        ("limits: {header_bytes: 10}", 1, 24, "at least 1024 bytes", ""),
        ("limits: {in_flight: 0}", 1, 21, "from 1 to", ""),
        ("trusted_proxies: [10.0.0.0/33]", 1, 19, "prefix length", ""),
        ("threads: 0", 1, 10, "from 1 to 1024", ""),
        ("drain: {delay: 5}", 1, 16, "a duration is", "`5s` or `5ms`?"),
        ("state_dir: ''", 1, 12, "must not be empty", ""),
    ] {
        let loaded = load(text.as_bytes(), Path::new("strangler.yaml"));
        assert_eq!(loaded.asked, None, "{text}");
        let found = loaded.faults.iter().find(|fault| fault.message.contains(message));
        let fault = found.unwrap_or_else(|| panic!("{text}: {:?}", loaded.faults));
        assert_eq!((fault.span.line, fault.span.column), (line, column), "{text}: {fault}");
        assert!(fault.help.as_deref().unwrap_or_default().contains(help), "{text}: {:?}", fault.help);
    }
}

/// A half-written file is taken or refused with a place inside of it, never a panic.
#[test]
fn every_cut_of_a_file_is_taken_or_refused_with_a_place() {
    let (mut taken, mut refused) = (0, 0);
    for end in 0..=WHOLE.len() {
        let loaded = load(&WHOLE.as_bytes()[..end], Path::new("f"));
        if loaded.asked.is_some() {
            taken += 1;
        } else {
            assert!(!loaded.faults.is_empty() && loaded.faults.iter().all(|it| it.span.start as usize <= end), "{end}");
            refused += 1;
        }
    }
    assert!(taken > 10 && refused > taken, "{taken} taken, {refused} refused");
}

#[test]
fn all_faults_are_told_at_once() {
    let text = "thread: 1\nadmin: {address: 1}\nlimits: {headers: x}\n";
    assert_eq!(load(text.as_bytes(), Path::new("f")).faults.len(), 3);
}

#[test]
fn a_flag_may_write_a_whole_listener() {
    let (listener, faults) = load_listener("{address: 127.0.0.1:1, tls: {certificates: [{cert: a, key: b}]}}");
    assert_eq!((faults.len(), listener.unwrap().tls.unwrap().certificates[0].cert.clone()), (0, PathBuf::from("a")));
    let (listener, faults) = load_listener("{adress: 127.0.0.1:1}");
    assert_eq!((listener, faults.len()), (None, 2));
}

#[test]
fn what_can_only_close_connections_or_does_nothing_is_warned_of() {
    let told = |text: &str| {
        let loaded = load(text.as_bytes(), Path::new("strangler.yaml"));
        assert!(loaded.asked.is_some(), "{:?}", loaded.faults);
        loaded.faults.into_iter().map(|fault| (fault.span.line, fault.path, fault.message)).collect::<Vec<_>>()
    };
    let unheard = "listeners:\n  - {address: 127.0.0.1:1}\n  - {address: 127.0.0.1:2, proxy_protocol: true}\n";
    let [(3, path, message)] = &told(unheard)[..] else { panic!("one warning") };
    assert!(path == "listeners[1].proxy_protocol" && message.contains("every connection will be closed"), "{message}");
    assert_eq!(told(&format!("{unheard}trusted_proxies: [10.0.0.0/8]\n")), []);

    let unasked = "listeners: [{address: 127.0.0.1:1, tls: {certificates: [{cert: a, key: b}], client_ca: c, client_auth: none}}]";
    let [(1, _, message)] = &told(unasked)[..] else { panic!("one warning") };
    assert!(message.contains("`client_ca` is of no use"), "{message}");
}
