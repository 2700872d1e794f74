//! Bodies without their content codings: gzip, br, zstd, and no more bytes than are compared.

use std::borrow::Cow;
use std::io::{self, BufReader, Read};

use http::{HeaderMap, header};
use strangler_core::compare::{BodyView, Unreadable};
use strangler_core::observation::Answer;

/// Most codings put one into another; more are not undone.
const CODINGS_MAX: usize = 3;
/// Largest window of zstd, as a power of two: 8 MiB, what every decoder must support (RFC 8878 §3.1.1.1.2).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A body, decoded.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// All of it.
    Whole(Cow<'a, [u8]>),
    /// Its beginning.
    Beginning(Cow<'a, [u8]>),
    /// Not decoded.
    Unreadable(Unreadable),
}

impl Decoded<'_> {
    /// As the comparer takes it.
    pub fn view(&self) -> BodyView<'_> {
        match self {
            Decoded::Whole(bytes) => BodyView::Whole(bytes),
            Decoded::Beginning(bytes) => BodyView::Beginning(bytes),
            Decoded::Unreadable(why) => BodyView::Unreadable(*why),
        }
    }
}

/// Decodes an answer's body; at most `bytes_max` bytes come out, however many could.
pub fn decode(answer: &Answer, bytes_max: u64) -> Decoded<'_> {
    let mut body: Cow<'_, [u8]> = Cow::Borrowed(&answer.body);
    let mut is_whole = !answer.is_truncated;
    // Answers without a body (to HEAD, 204, 304) name the coding that it would have.
    if !body.is_empty() {
        let Some(codings) = codings(&answer.headers) else {
            return Decoded::Unreadable(Unreadable::UnknownCoding);
        };
        for coding in codings.into_iter().rev() {
            match coding.undo(&body, bytes_max) {
                Ok(plain) => body = Cow::Owned(plain),
                // The end is missing because we did not keep it.
                Err((plain, _)) if !is_whole => body = Cow::Owned(plain),
                Err(_) => return Decoded::Unreadable(Unreadable::Corrupt),
            }
            is_whole &= body.len() as u64 <= bytes_max;
        }
    }
    is_whole &= body.len() as u64 <= bytes_max;
    if is_whole { Decoded::Whole(body) } else { Decoded::Beginning(body) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    /// At most one byte more than `bytes_max`. On an error, also what came out before it.
    fn undo(self, coded: &[u8], bytes_max: u64) -> Result<Vec<u8>, (Vec<u8>, io::Error)> {
        let mut plain = Vec::new();
        let limit = bytes_max.saturating_add(1);
        let read = match self {
            Coding::Gzip => flate2::read::MultiGzDecoder::new(coded).take(limit).read_to_end(&mut plain),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).take(limit).read_to_end(&mut plain),
            Coding::Zstd => zstd_reader(coded).and_then(|reader| reader.take(limit).read_to_end(&mut plain)),
        };
        match read {
            Ok(_) => Ok(plain),
            Err(error) => Err((plain, error)),
        }
    }
}

fn zstd_reader(coded: &[u8]) -> io::Result<impl Read + '_> {
    let mut reader = zstd::stream::read::Decoder::with_buffer(BufReader::new(coded))?;
    reader.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(reader)
}

/// In the order they were put on; `None`: one that is not known, or too many.
fn codings(headers: &HeaderMap) -> Option<Vec<Coding>> {
    let mut codings = Vec::new();
    for line in headers.get_all(header::CONTENT_ENCODING) {
        for name in line.to_str().ok()?.split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "br" => codings.push(Coding::Brotli),
                "zstd" => codings.push(Coding::Zstd),
                _ => return None,
            }
        }
    }
    (codings.len() <= CODINGS_MAX).then_some(codings)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use bytes::Bytes;
    use http::StatusCode;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn brotli(mut plain: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        brotli::BrotliCompress(&mut plain, &mut coded, &brotli::enc::BrotliEncoderParams::default()).unwrap();
        coded
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(plain, 3).unwrap()
    }

    fn answer(coding: &str, body: Vec<u8>) -> Answer {
        let mut headers = HeaderMap::new();
        if !coding.is_empty() {
            headers.insert(header::CONTENT_ENCODING, coding.parse().unwrap());
        }
        let body_bytes = body.len() as u64;
        Answer {
            status: StatusCode::OK,
            headers,
            trailers: None,
            body: Bytes::from(body),
            body_bytes,
            is_truncated: false,
        }
    }

    #[test]
    fn each_coding_is_undone() {
        let plain = b"{\"a\": 1}".repeat(50);
        for (coding, body) in [
            ("", plain.clone()),
            ("identity", plain.clone()),
            ("gzip", gzip(&plain)),
            ("X-GZIP", gzip(&plain)),
            ("gzip", [gzip(&plain[..8]), gzip(&plain[8..])].concat()),
            ("br", brotli(&plain)),
            ("zstd", zstd(&plain)),
            ("br, gzip", gzip(&brotli(&plain))),
        ] {
            let answer = answer(coding, body);
            assert!(matches!(decode(&answer, 400), Decoded::Whole(bytes) if *bytes == plain), "{coding}");
            assert!(matches!(decode(&answer, 399), Decoded::Beginning(_)), "{coding}");
        }
    }

    #[test]
    fn a_bomb_is_cut_at_the_cap() {
        let plain = vec![b' '; 64 << 20];
        for (coding, body) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain)), ("gzip, gzip", gzip(&gzip(&plain)))] {
            let answer = answer(coding, body);
            let Decoded::Beginning(bytes) = decode(&answer, 1 << 20) else { panic!("{coding}") };
            assert_eq!(bytes.len(), (1 << 20) + 1, "{coding}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_says_why() {
        let unreadable = |answer: &Answer| match decode(answer, 1_000) {
            Decoded::Unreadable(why) => Some(why),
            Decoded::Whole(_) | Decoded::Beginning(_) => None,
        };
        let half = |coded: Vec<u8>| coded[..coded.len() / 2].to_vec();
        assert_eq!(unreadable(&answer("dcb", b"x".to_vec())), Some(Unreadable::UnknownCoding));
        assert_eq!(unreadable(&answer("gzip,gzip,gzip,gzip", b"x".to_vec())), Some(Unreadable::UnknownCoding));
        for (coding, body) in [
            ("gzip", b"plain".to_vec()),
            ("br", b"plain text".to_vec()),
            ("zstd", b"plain".to_vec()),
            ("gzip", half(gzip(b"abcdefgh"))),
            ("zstd", half(zstd(b"abcdefgh"))),
            ("br", half(brotli(b"abcdefghijklmnop"))),
        ] {
            assert_eq!(unreadable(&answer(coding, body)), Some(Unreadable::Corrupt), "{coding}");
        }
        assert!(matches!(decode(&answer("gzip", Vec::new()), 10), Decoded::Whole(bytes) if bytes.is_empty()));
    }

    #[test]
    fn of_a_body_that_was_cut_off_the_beginning_is_decoded() {
        let plain: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
        let mut cut = answer("gzip", gzip(&plain));
        cut.body.truncate(cut.body.len() / 2);
        cut.is_truncated = true;
        let Decoded::Beginning(bytes) = decode(&cut, 1 << 20) else { panic!("a beginning") };
        assert!(!bytes.is_empty() && plain.starts_with(&bytes));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_a_decoder(
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            coding in "(gzip|br|zstd)",
            at in 0usize..300,
        ) {
            let _ = decode(&answer(&coding, body.clone()), 1_000);
            // Sound up to one byte.
            let mut coded = match coding.as_str() {
                "gzip" => gzip(&body),
                "br" => brotli(&body),
                _ => zstd(&body),
            };
            let at = at % coded.len();
            coded[at] ^= 0x55;
            let _ = decode(&answer(&coding, coded), 1_000);
        }
    }
}
