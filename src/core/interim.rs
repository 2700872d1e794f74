//! Answers that are none yet (RFC 9110 §15.2: 1xx): how many of them stand before the one that counts.

use memchr::memmem;

/// Interim answers to one request, at most.
pub const INTERIM_MAX: u8 = 100;

/// There is no end of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {INTERIM_MAX} interim answers to one request")]
pub struct TooMany;

/// What has come of the answers to one request, until the one that counts begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interim {
    count: u8,
    /// Bytes of a status line that have come, while it is not clear yet which kind of answer it begins.
    begun: u8,
    /// In the head of an interim answer: bytes of its end, an empty line, that have come.
    ended: Option<u8>,
}

/// Where a status line says which kind of answer it is.
const KIND_AT: usize = BEGINNING.len() - 1;
const END: &[u8] = b"\r\n\r\n";
/// How an answer begins; `?` may be anything.
const BEGINNING: &[u8] = b"HTTP/1.? 1";

impl Interim {
    /// Follows the next bytes; whether the answer that counts is still to begin.
    ///
    /// ```
    /// # use strangler_core::interim::Interim;
    /// assert_eq!(Interim::default().read(b"HTTP/1.1 103 Early Hints\r\n\r\n"), Ok(true));
    /// assert_eq!(Interim::default().read(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), Ok(false));
    /// ```
    ///
    /// # Errors
    /// When there are more than [`INTERIM_MAX`].
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<bool, TooMany> {
        // The usual answer, told at a glance: a status line that is no 1xx.
        if self.begun == 0 && self.ended.is_none() && matches!(bytes.get(KIND_AT), Some(kind) if *kind != b'1') {
            return Ok(false);
        }
        while !bytes.is_empty() {
            bytes = match self.ended {
                None => match self.begin(bytes) {
                    Some(rest) => rest,
                    None => return Ok(false),
                },
                Some(ended) => self.end(bytes, ended),
            };
            if self.count > INTERIM_MAX {
                return Err(TooMany);
            }
        }
        Ok(true)
    }

    /// What follows the beginning of an interim answer; `None`: it is another one's.
    fn begin<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let wanted = BEGINNING.get(usize::from(self.begun)..)?;
        let is_alike = wanted.iter().zip(bytes).all(|(wanted, byte)| wanted == byte || *wanted == b'?');
        let step = wanted.len().min(bytes.len());
        if !is_alike {
            return None;
        }
        self.begun += u8::try_from(step).ok()?;
        if step == wanted.len() {
            (self.begun, self.ended) = (0, Some(0));
            self.count += 1;
        }
        bytes.get(step..)
    }

    /// What follows the end of an interim answer's head, as far as it has come.
    fn end<'a>(&mut self, bytes: &'a [u8], ended: u8) -> &'a [u8] {
        // The usual head is whole; of a cut one the end is looked for byte by byte.
        if ended == 0
            && let Some(at) = memmem::find(bytes, END)
        {
            self.ended = None;
            return bytes.get(at + END.len()..).unwrap_or_default();
        }
        let mut matched = usize::from(ended);
        for (at, byte) in bytes.iter().enumerate() {
            matched = match (END.get(matched) == Some(byte), *byte) {
                (true, _) => matched + 1,
                (false, b'\r') => 1,
                (false, _) => 0,
            };
            if matched == END.len() {
                self.ended = None;
                return bytes.get(at + 1..).unwrap_or_default();
            }
        }
        self.ended = u8::try_from(matched).ok();
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nHTTP/1.1 1";

    #[test]
    fn a_hundred_are_taken_and_one_more_is_not() {
        let most = HINT.repeat(usize::from(INTERIM_MAX));
        assert_eq!(Interim::default().read(most.as_bytes()), Ok(true));
        assert_eq!(Interim::default().read((most + HINT).as_bytes()), Err(TooMany));
        assert_eq!(Interim::default().read(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 100"), Ok(false));
        assert_eq!(Interim::default().read(b"garbage"), Ok(false));
    }

    proptest! {
        #[test]
        fn pieces_are_read_as_the_whole(hints in 0usize..5, cuts in proptest::collection::vec(1usize..12, 0..60)) {
            let bytes = (HINT.repeat(hints) + ANSWER).into_bytes();
            let (mut interim, mut rest, mut is_open) = (Interim::default(), bytes.as_slice(), true);
            for cut in cuts {
                if !is_open {
                    break;
                }
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                is_open = interim.read(piece).unwrap();
                rest = more;
            }
            if is_open {
                is_open = interim.read(rest).unwrap();
            }
            prop_assert!(!is_open);
            prop_assert_eq!(usize::from(interim.count), hints);
        }
    }
}
