//! `strangler.yaml` as it was written: each value read, each fault collected.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::cidr::Cidr;
use crate::fault::Fault;
use crate::limits::{CERTIFICATES_MAX, LISTENERS_MAX, TRUSTED_MAX};
use crate::raw::hooks::web_url;
use crate::raw::keys;
use crate::raw::leaf::COUNT_MAX;
use crate::raw::walk::{Reader, Spanned};
use crate::server::asked::{AccessLogFormat, Asked, AskedDrain, AskedLimits, AskedPrometheus};
use crate::server::{CertificateFiles, ClientAuth, ListenerConfig, ListenerProtocol, ListenerTls};
use crate::tree::{Kind, Node};

/// Reads the file. Nothing comes of it when anything is wrong; what is, comes in the order of the file, beside what the reader of
/// the text has `found`.
pub fn read(root: &Node, found: Vec<Fault>) -> (Option<Asked>, Vec<Fault>) {
    read_by(root, found, server)
}

/// Reads one entry of `listeners:`, as a flag may give it.
pub fn read_listener(root: &Node, found: Vec<Fault>) -> (Option<ListenerConfig>, Vec<Fault>) {
    read_by(root, found, listener)
}

fn read_by<'a, T>(
    root: &'a Node,
    found: Vec<Fault>,
    read: impl FnOnce(&mut Reader<'a>, &'a Node) -> Option<T>,
) -> (Option<T>, Vec<Fault>) {
    let mut reader = Reader::default();
    for fault in found {
        reader.faults.push(fault);
    }
    let value = read(&mut reader, root);
    let is_refused = reader.faults.has_errors();
    (value.filter(|_| !is_refused), reader.faults.into_sorted())
}

fn value<T>(read: Option<Spanned<T>>) -> Option<T> {
    read.map(|read| read.value)
}

fn server<'a>(reader: &mut Reader<'a>, root: &'a Node) -> Option<Asked> {
    let fields = reader.fields(root, &keys::SERVER)?;
    warn_of_unheard_balancers(reader, root);
    let (admin, admin_token_file) = value(reader.key(&fields, "admin", admin)).unwrap_or_default();
    let (telemetry, access_log) = value(reader.key(&fields, "telemetry", telemetry)).unwrap_or_default();
    Some(Asked {
        listeners: value(reader.key(&fields, "listeners", listeners)),
        admin,
        admin_token_file,
        telemetry,
        access_log,
        state_dir: value(reader.key(&fields, "state_dir", path)),
        store_url_file: value(reader.key(&fields, "store", store)),
        keys_file: value(reader.key(&fields, "keys_file", path)),
        trusted_proxies: value(reader.key(&fields, "trusted_proxies", trusted_proxies)),
        threads: value(reader.key(&fields, "threads", |reader, node| {
            reader.count(node, 1, keys::THREADS_MAX).and_then(|count| u16::try_from(count).ok())
        })),
        limits: value(reader.key(&fields, "limits", limits)).unwrap_or_default(),
        drain: value(reader.key(&fields, "drain", drain)).unwrap_or_default(),
        prometheus: value(reader.key(&fields, "prometheus", prometheus)),
    })
}

fn prometheus<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<AskedPrometheus> {
    let fields = reader.fields(node, &keys::PROMETHEUS)?;
    let url = value(reader.key(&fields, "url", web_url));
    let ca = value(reader.key(&fields, "ca", path));
    Some(AskedPrometheus { url: url?, ca })
}

fn path<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<PathBuf> {
    let text = reader.short_text(node, "the path of a file")?;
    if text.contains('\0') {
        reader.fault(node.span, "the path of a file holds no NUL");
        return None;
    }
    Some(PathBuf::from(&*text))
}

/// An IP address and a port.
fn address<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<SocketAddr> {
    if let Kind::Seq(_) = node.kind {
        let help = "an IPv6 address is written in quotes, as in `\"[::1]:8080\"`".to_owned();
        reader.fault_with_help(node.span, "expected an IP address and a port, found a list", Some(help));
        return None;
    }
    let text = reader.text(node, "an IP address and a port, as in `0.0.0.0:8080`")?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let help = match text.strip_prefix(':').unwrap_or(text) {
        port if port.parse::<u16>().is_ok() => Some(format!("`0.0.0.0:{port}` or `127.0.0.1:{port}`?")),
        ip if ip.parse::<IpAddr>().is_ok() => Some("the port is missing".to_owned()),
        name if name.starts_with("localhost:") => {
            Some(format!("`127.0.0.1:{}`?", name.trim_start_matches("localhost:")))
        }
        _ => None,
    };
    reader.fault_with_help(node.span, format!("`{text}` is no IP address with a port"), help);
    None
}

fn listeners<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<ListenerConfig>> {
    let list = reader.list(node, LISTENERS_MAX, listener)?;
    if matches!(&node.kind, Kind::Seq(items) if items.is_empty()) {
        reader.fault(node.span, "there is at least one listener");
    }
    for (index, one) in list.iter().enumerate() {
        let is_same = |other: &&Spanned<ListenerConfig>| other.value.address == one.value.address;
        // Each port 0 is another one.
        let first = list.iter().take(index).find(is_same).filter(|_| one.value.address.port() != 0);
        if let Some(first) = first {
            let message = format!("`{}` is listened on twice", one.value.address);
            let fault = Fault::error(one.span, reader.path(), message).with_also(first.span, "the first one");
            reader.faults.push(fault);
        }
    }
    Some(list.into_iter().map(|listener| listener.value).collect())
}

/// A header is taken from trusted peers alone: where there are none, every connection is closed.
fn warn_of_unheard_balancers(reader: &mut Reader<'_>, root: &Node) {
    let items = |key| match root.child(key).map(|node| &node.kind) {
        Some(Kind::Seq(items)) => items.as_slice(),
        _ => &[],
    };
    if !items("trusted_proxies").is_empty() {
        return;
    }
    for (index, listener) in items("listeners").iter().enumerate() {
        let is_asked = |asked: &&Node| matches!(asked.kind, Kind::Bool { value: true, .. });
        let Some(asked) = listener.child("proxy_protocol").filter(is_asked) else { continue };
        let message = "a PROXY protocol header is taken from `trusted_proxies` only, and there are none: every connection will be closed";
        let fault = Fault::warning(asked.span, format!("listeners[{index}].proxy_protocol"), message);
        reader.faults.push(fault.with_help("name the balancers under `trusted_proxies`, or by --trusted-proxies"));
    }
}

fn listener<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<ListenerConfig> {
    let fields = reader.fields(node, &keys::LISTENER)?;
    let address = value(reader.key(&fields, "address", address));
    let protocol = value(reader.key(&fields, "protocol", |reader, node| {
        let words =
            [("auto", ListenerProtocol::Auto), ("http1", ListenerProtocol::Http1), ("h2c", ListenerProtocol::H2c)];
        reader.one_of(node, &words, &[])
    }));
    let tls = value(reader.key(&fields, "tls", tls));
    let proxy_protocol = value(reader.key(&fields, "proxy_protocol", Reader::bool));
    let is_internal = value(reader.key(&fields, "internal", Reader::bool));
    let most = value(reader.key(&fields, "max_connections", |reader, node| reader.count_u32(node, 1, COUNT_MAX)));
    let most_per_ip =
        value(reader.key(&fields, "max_connections_per_ip", |reader, node| reader.count_u32(node, 0, COUNT_MAX)));
    let plain = ListenerConfig::plain(address?);
    Some(ListenerConfig {
        protocol: protocol.unwrap_or(plain.protocol),
        tls,
        proxy_protocol: proxy_protocol.unwrap_or(plain.proxy_protocol),
        is_internal: is_internal.unwrap_or(plain.is_internal),
        max_connections: most.unwrap_or(plain.max_connections),
        max_connections_per_ip: most_per_ip.unwrap_or(plain.max_connections_per_ip),
        ..plain
    })
}

fn tls<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<ListenerTls> {
    let fields = reader.fields(node, &keys::LISTENER_TLS)?;
    let certificates = reader.key(&fields, "certificates", |reader, node| {
        let list = reader.list(node, CERTIFICATES_MAX, certificate)?;
        if matches!(&node.kind, Kind::Seq(items) if items.is_empty()) {
            reader.fault(node.span, "there is at least one certificate");
        }
        Some(list.into_iter().map(|certificate| certificate.value).collect())
    });
    let client_ca = value(reader.key(&fields, "client_ca", path));
    let client_auth = reader.key(&fields, "client_auth", |reader, node| {
        let words =
            [("none", ClientAuth::None), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];
        reader.one_of(node, &words, &[])
    });
    if let Some(auth) = client_auth.filter(|auth| auth.value != ClientAuth::None && !fields.has("client_ca")) {
        let help = "name the authorities' certificates under `client_ca`".to_owned();
        reader.fault_with_help(auth.span, "there is no authority to hold a client's certificate against", Some(help));
    }
    if let Some(auth) = client_auth.filter(|auth| auth.value == ClientAuth::None && fields.has("client_ca")) {
        let message = "clients are not asked for a certificate, so `client_ca` is of no use";
        reader.faults.push(Fault::warning(auth.span, reader.path(), message));
    }
    let client_subject = reader.key(&fields, "client_subject", Reader::bool);
    if let Some(told) = client_subject.filter(|told| told.value && !fields.has("client_ca")) {
        reader.fault(told.span, "without `client_ca` there is no client's certificate to tell about");
    }
    let by_default = if client_ca.is_some() { ClientAuth::Required } else { ClientAuth::None };
    Some(ListenerTls {
        certificates: value(certificates)?,
        client_ca,
        client_auth: value(client_auth).unwrap_or(by_default),
        client_subject: value(client_subject).unwrap_or(false),
    })
}

fn certificate<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<CertificateFiles> {
    let fields = reader.fields(node, &keys::CERTIFICATE)?;
    let cert = value(reader.key(&fields, "cert", path));
    let key = value(reader.key(&fields, "key", path));
    Some(CertificateFiles { cert: cert?, key: key? })
}

fn admin<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<(Option<SocketAddr>, Option<PathBuf>)> {
    let fields = reader.fields(node, &keys::ADMIN)?;
    let address = reader.key(&fields, "address", |reader, node| {
        let address = address(reader, node)?;
        if !address.ip().to_canonical().is_loopback() {
            let help = "probes and Prometheus have an address of their own: `telemetry: {address: …}`".to_owned();
            let message = format!("`{address}` is no loopback address: the token would cross the network in the clear");
            reader.fault_with_help(node.span, message, Some(help));
            return None;
        }
        Some(address)
    });
    let token_file = reader.key(&fields, "token_file", path);
    Some((value(address), value(token_file)))
}

fn store<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<PathBuf> {
    let fields = reader.fields(node, &keys::STORE)?;
    value(reader.key(&fields, "url_file", path))
}

fn telemetry<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<(Option<SocketAddr>, Option<AccessLogFormat>)> {
    let fields = reader.fields(node, &keys::TELEMETRY)?;
    let address = value(reader.key(&fields, "address", address));
    let format = value(reader.key(&fields, "access_log", |reader, node| {
        let fields = reader.fields(node, &keys::ACCESS_LOG)?;
        let words = [("json", AccessLogFormat::Json), ("text", AccessLogFormat::Text), ("off", AccessLogFormat::Off)];
        value(reader.key(&fields, "format", |reader, node| reader.one_of(node, &words, &[])))
    }));
    Some((address, format))
}

fn trusted_proxies<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<Vec<Cidr>> {
    let list = reader.list(node, TRUSTED_MAX, |reader, item| reader.parsed(item, "a block, as in `10.0.0.0/8`"))?;
    Some(list.into_iter().map(|block| block.value).collect())
}

fn limits<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<AskedLimits> {
    let fields = reader.fields(node, &keys::LIMITS)?;
    let mut counted = |name: &'static str, least: u64, most: u64| {
        value(reader.key(&fields, name, |reader, node| reader.count_u32(node, least, most)))
    };
    let headers = counted("headers", 1, keys::HEADERS_MAX);
    let requests_per_connection = counted("requests_per_connection", 0, COUNT_MAX);
    let body_min_rate = counted("body_min_rate", 0, keys::RATE_MAX);
    let in_flight = counted("in_flight", 1, COUNT_MAX);
    let mut sized = |name: &'static str, least: u64, most: u64| {
        value(reader.key(&fields, name, |reader, node| size(reader, node, least, most)))
    };
    let header_bytes = sized("header_bytes", 1 << 10, 1 << 20);
    let request_line = sized("request_line", 256, 64 << 10);
    Some(AskedLimits {
        header_bytes,
        headers,
        request_line,
        header_deadline: value(reader.key(&fields, "header_deadline", |reader, node| reader.duration(node, false))),
        keep_alive: value(reader.key(&fields, "keep_alive", |reader, node| reader.duration(node, false))),
        requests_per_connection,
        body_min_rate,
        in_flight,
    })
}

fn size<'a>(reader: &mut Reader<'a>, node: &'a Node, least: u64, most: u64) -> Option<u32> {
    let bytes = reader.size(node, most)?;
    if bytes < least {
        reader.fault(node.span, format!("at least {least} bytes, this is {bytes}"));
        return None;
    }
    u32::try_from(bytes).ok()
}

fn drain<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<AskedDrain> {
    let fields = reader.fields(node, &keys::DRAIN)?;
    Some(AskedDrain {
        delay: value(reader.key(&fields, "delay", |reader, node| reader.duration(node, true))),
        deadline: value(reader.key(&fields, "deadline", |reader, node| reader.duration(node, true))),
    })
}
