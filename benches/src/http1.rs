//! Just enough of HTTP/1.1 to tell where a message ends.

/// The bytes of the head, its blank line included; `None`: there is more to come.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a header, without the blanks around it.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (key, value) = line.split_at(colon);
        key.eq_ignore_ascii_case(name.as_bytes()).then(|| value[1..].trim_ascii())
    })
}

/// What `content-length` says; `None`: it is not there, or is no number.
pub fn content_length(head: &[u8]) -> Option<usize> {
    std::str::from_utf8(header(head, "content-length")?).ok()?.parse().ok()
}

/// Whether `connection` says `close`.
pub fn wants_close(head: &[u8]) -> bool {
    header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
}

/// The path of a request, or the status of an answer: what stands second in the first line.
pub fn second_word(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-LENGTH: 12 \r\nconnection: Close\r\n\r\nbody";

    #[test]
    fn a_head_ends_at_the_blank_line() {
        assert_eq!(head_length(HEAD), Some(HEAD.len() - 4));
        assert_eq!(head_length(b"GET / HTTP/1.1\r\nhost: x\r\n"), None);
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        assert_eq!(content_length(HEAD), Some(12));
        assert!(wants_close(HEAD));
        assert_eq!(header(HEAD, "none"), None);
        assert_eq!(content_length(b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"), None);
    }

    #[test]
    fn the_second_word_is_the_path_or_the_status() {
        assert_eq!(second_word(HEAD), b"/a");
        assert_eq!(second_word(b"HTTP/1.1 204 No Content\r\n\r\n"), b"204");
        assert_eq!(second_word(b""), b"");
    }
}
