//! The PROXY protocol, versions 1 and 2: a balancer's word on who the client is, before the connection's first byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, its CRLF included.
pub const V1_BYTES_MAX: usize = 107;

/// Most bytes behind the fixed part of version 2: addresses and what is told beside them.
pub const V2_REST_MAX: usize = 16 << 10;

/// What version 2 begins with.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// A header that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its bytes; the client's own begin behind them.
    pub length: usize,
    /// For whom the connection is.
    pub source: Source,
}

/// For whom the balancer opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// For this client.
    Client(SocketAddr),
    /// For itself, as in a health check (`LOCAL`, version 2 only): what it says is its own word.
    Balancer,
    /// For somebody whose address it does not tell (`UNKNOWN`, `AF_UNSPEC`, a Unix socket). What follows are that one's bytes, so
    /// nothing in them is a balancer's word.
    Unknown,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProtocolError {
    /// Neither version begins so.
    #[error("the connection does not begin with a PROXY protocol header")]
    Signature,
    /// More than a header may have.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// It begins as one and goes on as none.
    #[error("the PROXY protocol header is malformed")]
    Malformed,
}

/// Reads the header off the connection's first bytes; `None` while some of it is still to come.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyProtocolError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(V2_SIGNATURE) {
        if bytes.len() < V2_FIXED { Ok(None) } else { parse_v2(bytes) }
    } else if begins(b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(ProxyProtocolError::Signature)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyProtocolError> {
    let seen = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(ProxyProtocolError::TooLong) };
    };
    let malformed = ProxyProtocolError::Malformed;
    let line = seen.get(..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(malformed)?;
    let length = end + 2;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words.as_slice() {
        // Whatever stands behind it is not to be looked at.
        ["PROXY", "UNKNOWN", ..] => Source::Unknown,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |text: &str| -> Option<IpAddr> {
                if *family == "TCP4" {
                    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
                } else {
                    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
                }
            };
            let source = address(source).ok_or(malformed)?;
            address(destination).ok_or(malformed)?;
            port(destination_port).ok_or(malformed)?;
            Source::Client(SocketAddr::new(source, port(source_port).ok_or(malformed)?))
        }
        _ => return Err(malformed),
    };
    Ok(Some(ProxyHeader { length, source }))
}

/// Digits only: `+80` is a number to some readers and none to others.
fn port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyProtocolError> {
    let malformed = ProxyProtocolError::Malformed;
    let (fixed, rest) = bytes.split_first_chunk::<V2_FIXED>().ok_or(malformed)?;
    let [.., version_and_command, family, high, low] = *fixed;
    let told = usize::from(u16::from_be_bytes([high, low]));
    if told > V2_REST_MAX {
        return Err(ProxyProtocolError::TooLong);
    }
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(malformed),
    };
    let Some(rest) = rest.get(..told) else { return Ok(None) };
    let source = match family {
        _ if is_local => Source::Balancer,
        // Unspecified, and Unix sockets: there is no address to tell.
        0x00 | 0x31 => Source::Unknown,
        0x11 => {
            let (parts, _) = rest.split_first_chunk::<12>().ok_or(malformed)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *parts;
            Source::Client(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
        }
        0x21 => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(malformed)?;
            let (_, rest) = rest.split_first_chunk::<16>().ok_or(malformed)?;
            let ([high, low, _, _], _) = rest.split_first_chunk::<4>().ok_or(malformed)?;
            Source::Client(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([*high, *low])))
        }
        _ => return Err(malformed),
    };
    Ok(Some(ProxyHeader { length: V2_FIXED + told, source }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Told = Result<&'static str, ProxyProtocolError>;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn a_header_tells_the_client_and_where_its_own_bytes_begin() {
        let four = [203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let mut six = Ipv6Addr::LOCALHOST.octets().to_vec();
        six.extend([0; 16]);
        six.extend([0, 7, 0, 80]);
        let cases: &[(Vec<u8>, Told)] = &[
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 80\r\n".to_vec(), Ok("203.0.113.9:8080")),
            (b"PROXY TCP6 2001:db8::1 ::1 8080 80\r\n".to_vec(), Ok("[2001:db8::1]:8080")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok("unknown")),
            (b"PROXY UNKNOWN ff 1 whatever\r\n".to_vec(), Ok("unknown")),
            (v2(0x21, 0x11, &four), Ok("203.0.113.9:8080")),
            (v2(0x21, 0x11, &[&four[..], &[4, 0, 2, 1, 1]].concat()), Ok("203.0.113.9:8080")),
            (v2(0x21, 0x21, &six), Ok("[::1]:7")),
            (v2(0x20, 0x11, &four), Ok("balancer")),
            (v2(0x20, 0x00, &[]), Ok("balancer")),
            (v2(0x21, 0x00, &[]), Ok("unknown")),
            (v2(0x21, 0x31, &[0; 216]), Ok("unknown")),
            (b"GET / HTTP/1.1\r\n".to_vec(), Err(ProxyProtocolError::Signature)),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 8080\r\n".to_vec(), Err(ProxyProtocolError::Malformed)),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 +80 80\r\n".to_vec(), Err(ProxyProtocolError::Malformed)),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 80 99999\r\n".to_vec(), Err(ProxyProtocolError::Malformed)),
            (b"PROXY TCP4 ::1 ::1 80 80\r\n".to_vec(), Err(ProxyProtocolError::Malformed)),
            (b"PROXY TCP4  1.2.3.4 1.2.3.4 80 80\r\n".to_vec(), Err(ProxyProtocolError::Malformed)),
            (b"PROXY UDP4 1.2.3.4 1.2.3.4 80 80\r\n".to_vec(), Err(ProxyProtocolError::Malformed)),
            ([&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(), Err(ProxyProtocolError::TooLong)),
            (v2(0x11, 0x11, &four), Err(ProxyProtocolError::Malformed)),
            (v2(0x22, 0x11, &four), Err(ProxyProtocolError::Malformed)),
            (v2(0x21, 0x12, &four), Err(ProxyProtocolError::Malformed)),
            (v2(0x21, 0x11, &four[..11]), Err(ProxyProtocolError::Malformed)),
            (v2(0x21, 0x11, &vec![0; V2_REST_MAX + 1]), Err(ProxyProtocolError::TooLong)),
        ];
        for (header, expect) in cases {
            let with_more = [header, &b"GET / HTTP/1.1\r\n"[..]].concat();
            let parsed = parse(&with_more);
            let expect = expect.map(|told| {
                let source = match told {
                    "balancer" => Source::Balancer,
                    "unknown" => Source::Unknown,
                    address => Source::Client(address.parse().unwrap()),
                };
                Some(ProxyHeader { length: header.len(), source })
            });
            assert_eq!(parsed, expect, "{:?}", String::from_utf8_lossy(header));
        }
    }

    proptest! {
        #[test]
        fn a_header_that_comes_in_pieces_is_waited_for(cut in 0usize..42, version in 0u8..2) {
            let whole = if version == 0 {
                b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 80\r\n".to_vec()
            } else {
                v2(0x21, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0, 80, 4, 0, 9, 1, 2, 3, 4, 5])
            };
            let cut = cut.min(whole.len() - 1);
            prop_assert_eq!(parse(&whole[..cut]), Ok(None));
        }

        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..64), is_v2: bool) {
            let begin = if is_v2 { &V2_SIGNATURE[..] } else { &b"PROXY "[..] };
            let bytes = [begin, &bytes].concat();
            if let Ok(Some(header)) = parse(&bytes) {
                prop_assert!(header.length <= bytes.len());
            }
        }
    }
}
