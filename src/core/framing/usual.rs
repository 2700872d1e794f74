//! The usual head, read in one go: whole, of HTTP/1.1, and without a field that says something of the connection.
//!
//! Says nothing of any other head: that is looked at line by line, from its beginning. What is answered here is what is answered
//! there, which a property holds.

use memchr::memchr;

use super::{METHOD_BYTES_MAX, controls, is_method, is_token, number};
use crate::door::{HeadBounds, letters_digits_and};

/// How long the head is, and the body that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UsualHead {
    pub(super) bytes: usize,
    pub(super) body: u64,
}

pub(super) fn usual_head(bytes: &[u8], bounds: &HeadBounds) -> Option<UsualHead> {
    let line_end = memchr(b'\n', bytes)?;
    if line_end > bounds.line_bytes || !is_usual_line(bytes.get(..line_end)?.strip_suffix(b" HTTP/1.1\r")?) {
        return None;
    }
    let (mut at, mut fields, mut length) = (line_end + 1, 0, None);
    loop {
        let rest = bytes.get(at..)?;
        let line = rest.get(..memchr(b'\n', rest)?)?.strip_suffix(b"\r")?;
        at += line.len() + 2;
        if line.is_empty() {
            break;
        }
        fields += 1;
        let mut name = 0;
        while is_token(*line.get(name)?) {
            name += 1;
        }
        let (name, [b':', value @ ..]) = line.split_at_checked(name)? else { return None };
        if name.is_empty() || line.len() > bounds.field_bytes {
            return None;
        }
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => return None,
            10 if name.eq_ignore_ascii_case(b"connection") => match value {
                b" keep-alive" | b" close" => {}
                _ => return None,
            },
            14 if name.eq_ignore_ascii_case(b"content-length") && length.is_none() => {
                length = Some(number(value.trim_ascii())?);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => return None,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return None,
            _ => {}
        }
    }
    let fields_bytes = at - line_end - 3;
    // Two for each line: those of the request, of the fields and of the end.
    let is_sound = fields <= bounds.fields
        && fields_bytes <= bounds.fields_bytes
        && controls(bytes.get(..at)?) == 2 * (fields + 2);
    is_sound.then_some(UsualHead { bytes: at, body: length.unwrap_or(0) })
}

/// A method, one space and a path of usual characters.
fn is_usual_line(line: &[u8]) -> bool {
    let Some(space) = line.iter().take(METHOD_BYTES_MAX + 1).position(|b| *b == b' ') else { return false };
    let (method, target) = line.split_at(space);
    let is_path = target.starts_with(b" /") && target.iter().skip(1).fold(true, |is_path, b| is_path & is_usual(*b));
    is_path && !method.is_empty() && method.iter().all(|b| is_method(*b)) && method != b"CONNECT"
}

/// Characters that a target has as they are (RFC 3986 §3.3, §3.4), and `%`.
fn is_usual(byte: u8) -> bool {
    static USUAL: [bool; 256] = letters_digits_and(*b"-._~!$&'()*+,;=:@/?%");
    USUAL.get(usize::from(byte)).copied().unwrap_or(false)
}
