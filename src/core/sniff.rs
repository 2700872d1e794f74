//! Which HTTP a client speaks, told by its first bytes.

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// Not HTTP/2, so it is HTTP/1 or nothing.
    Http1,
    /// The whole preface is there.
    Http2,
    /// The beginning of the preface, and no more yet.
    Open,
}

/// Reads it off the bytes from the connection's first on. The first that is not the preface's tells.
pub fn spoken(first: &[u8]) -> Spoken {
    let common = first.iter().zip(PREFACE).take_while(|(a, b)| a == b).count();
    match common {
        24 => Spoken::Http2,
        all if all == first.len() => Spoken::Open,
        _ => Spoken::Http1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_tells() {
        for (first, expect) in [
            (&b""[..], Spoken::Open),
            (b"P", Spoken::Open),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Spoken::Open),
            (PREFACE, Spoken::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Spoken::Http2),
            (b"POST / HTTP/1.1", Spoken::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Spoken::Http1),
            (b"G", Spoken::Http1),
            (b"\r\n", Spoken::Http1),
        ] {
            assert_eq!(spoken(first), expect, "{:?}", String::from_utf8_lossy(first));
        }
    }
}
