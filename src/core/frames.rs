//! HTTP/2 frames seen from outside (RFC 9113 §4.1): what passes by on a connection is counted, so that a flood of what is cheap
//! to send and dear to answer ends the connection.
//!
//! The HTTP library reads and writes the frames; this only follows their heads, nine bytes each.

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes that follow.
    pub length: u32,
    /// What it is.
    pub kind: u8,
    /// Of that kind.
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

/// Kinds of frames that matter here.
pub mod kind {
    /// A message's fields begin.
    pub const HEADERS: u8 = 1;
    /// What streams weigh; deprecated, and free to send.
    pub const PRIORITY: u8 = 2;
    /// A stream is broken off.
    pub const RST_STREAM: u8 = 3;
    /// Must be acknowledged.
    pub const SETTINGS: u8 = 4;
    /// Must be answered.
    pub const PING: u8 = 6;
    /// The connection ends.
    pub const GOAWAY: u8 = 7;
    /// More of a message's fields.
    pub const CONTINUATION: u8 = 9;
}

/// Of SETTINGS and PING: an answer, not a question.
const ACK: u8 = 1;
/// Of HEADERS and CONTINUATION: the fields are complete.
const END_HEADERS: u8 = 4;

/// What a piece of a connection's bytes held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// A frame's head.
    Begun(FrameHead),
    /// A frame's last byte, with the error code that RST_STREAM and GOAWAY carry.
    Ended(FrameHead, u32),
}

/// Follows the frames of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    head: [u8; 9],
    filled: usize,
    /// Of the payload, or of the preface.
    left: u32,
    seen: u32,
    code: u32,
    is_in_payload: bool,
}

impl Frames {
    /// From a connection's first byte on; a client's begin with a preface of 24 bytes.
    pub const fn new(preface: u32) -> Frames {
        Frames { head: [0; 9], filled: 0, left: preface, seen: 0, code: 0, is_in_payload: false }
    }

    /// Whether the last byte was a frame's last one.
    pub const fn is_between(&self) -> bool {
        self.filled == 0 && self.left == 0
    }

    /// Follows `bytes` and tells what passed by.
    pub fn follow(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Passed)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                let (passed, rest) = bytes.split_at(step);
                if self.is_in_payload {
                    self.note_code(passed);
                }
                self.left -= u32::try_from(step).unwrap_or(self.left);
                bytes = rest;
                if self.left == 0 && self.is_in_payload {
                    self.end(&mut tell);
                }
                continue;
            }
            let step = (self.head.len() - self.filled).min(bytes.len());
            let (passed, rest) = bytes.split_at(step);
            for (to, from) in self.head.iter_mut().skip(self.filled).zip(passed) {
                *to = *from;
            }
            self.filled += step;
            bytes = rest;
            if self.filled == self.head.len() {
                let head = self.read_head();
                tell(Passed::Begun(head));
                (self.left, self.seen, self.code, self.is_in_payload) = (head.length, 0, 0, true);
                if head.length == 0 {
                    self.end(&mut tell);
                }
            }
        }
    }

    fn end(&mut self, tell: &mut impl FnMut(Passed)) {
        tell(Passed::Ended(self.read_head(), self.code));
        (self.filled, self.is_in_payload) = (0, false);
    }

    fn read_head(&self) -> FrameHead {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = self.head;
        FrameHead {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    /// RST_STREAM carries nothing but its code; GOAWAY has it behind the last stream's number.
    fn note_code(&mut self, passed: &[u8]) {
        let at = match self.head.get(3) {
            Some(&kind::RST_STREAM) => 0,
            Some(&kind::GOAWAY) => 4,
            _ => return,
        };
        for byte in passed {
            if (at..at + 4).contains(&self.seen) {
                self.code = self.code << 8 | u32::from(*byte);
            }
            self.seen = self.seen.saturating_add(1);
        }
    }
}

/// Streams broken off in a [`WINDOW_MS`], by the client or through its fault; one more ends the connection.
pub const RESETS_MAX: u32 = 100;
/// SETTINGS in a [`WINDOW_MS`].
pub const SETTINGS_MAX: u32 = 100;
/// PING and PRIORITY in a [`WINDOW_MS`]; some clients measure the way with a PING for each piece of a body.
pub const SMALL_FRAMES_MAX: u32 = 10_000;
/// Over which is counted, in milliseconds.
pub const WINDOW_MS: u64 = 10_000;

/// What of a frame matters for the connection's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Fine,
    /// Too much of what is cheap to send: ENHANCE_YOUR_CALM.
    TooMuch,
}

/// The books of a connection: what came and went within the window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    since_ms: u64,
    resets: u32,
    settings: u32,
    small: u32,
    /// The highest stream that the client opened: what a GOAWAY names.
    pub last_stream: u32,
    /// Whether the client is in the middle of a message's fields.
    pub is_in_fields: bool,
    /// Whether its first frame is complete.
    pub has_begun: bool,
}

impl Flood {
    /// The client sent something.
    pub fn came(&mut self, passed: Passed, now_ms: u64) -> Verdict {
        let head = match passed {
            Passed::Begun(head) => {
                if head.kind == kind::HEADERS {
                    self.is_in_fields = true;
                    self.last_stream = self.last_stream.max(head.stream);
                }
                return Verdict::Fine;
            }
            Passed::Ended(head, _) => head,
        };
        self.has_begun = true;
        match head.kind {
            kind::HEADERS | kind::CONTINUATION if head.flags & END_HEADERS != 0 => self.is_in_fields = false,
            kind::RST_STREAM => return self.count(now_ms, |books| &mut books.resets, RESETS_MAX),
            kind::SETTINGS if head.flags & ACK == 0 => {
                return self.count(now_ms, |books| &mut books.settings, SETTINGS_MAX);
            }
            kind::PING if head.flags & ACK == 0 => {
                return self.count(now_ms, |books| &mut books.small, SMALL_FRAMES_MAX);
            }
            kind::PRIORITY => return self.count(now_ms, |books| &mut books.small, SMALL_FRAMES_MAX),
            _ => {}
        }
        Verdict::Fine
    }

    /// A stream was broken off by us, with this code. Only the client's own faults count (CVE-2025-8671): an upstream that
    /// breaks off is none of them.
    pub fn reset(&mut self, code: u32, now_ms: u64) -> Verdict {
        if is_clients_fault(code) { self.count(now_ms, |books| &mut books.resets, RESETS_MAX) } else { Verdict::Fine }
    }

    fn count(&mut self, now_ms: u64, of: impl Fn(&mut Flood) -> &mut u32, most: u32) -> Verdict {
        if now_ms.saturating_sub(self.since_ms) >= WINDOW_MS {
            (self.since_ms, self.resets, self.settings, self.small) = (now_ms, 0, 0, 0);
        }
        let count = of(self);
        *count += 1;
        if *count > most { Verdict::TooMuch } else { Verdict::Fine }
    }
}

/// Whether a stream that we broke off with this code (RFC 9113 §7) was the client's fault: PROTOCOL_ERROR, FLOW_CONTROL_ERROR,
/// STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR.
pub const fn is_clients_fault(code: u32) -> bool {
    matches!(code, 1 | 3 | 5 | 6 | 7 | 9)
}

/// A GOAWAY that says ENHANCE_YOUR_CALM, as it stands on the wire.
pub const fn calm_down(last_stream: u32) -> [u8; 17] {
    let [a, b, c, d] = last_stream.to_be_bytes();
    [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, 11]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn followed(frames: &mut Frames, pieces: &[&[u8]]) -> Vec<Passed> {
        let mut told = Vec::new();
        for piece in pieces {
            frames.follow(piece, |passed| told.push(passed));
        }
        told
    }

    fn ended(told: &[Passed]) -> Vec<(u8, u32, u32)> {
        told.iter()
            .filter_map(|passed| match passed {
                Passed::Ended(head, code) => Some((head.kind, head.stream, *code)),
                Passed::Begun(_) => None,
            })
            .collect()
    }

    #[test]
    fn frames_are_told_with_their_codes_however_they_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(kind::SETTINGS, 0, 0, &[]));
        bytes.extend(frame(kind::RST_STREAM, 0, 7, &[0, 0, 0, 8]));
        bytes.extend(frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11, b'h', b'i']));
        let expect = vec![(kind::SETTINGS, 0, 0), (kind::RST_STREAM, 7, 8), (kind::GOAWAY, 0, 11)];

        let whole = followed(&mut Frames::new(24), &[&bytes]);
        let ones: Vec<&[u8]> = bytes.chunks(1).collect();
        let mut frames = Frames::new(24);
        let cut = followed(&mut frames, &ones);

        assert_eq!(ended(&whole), expect);
        assert_eq!(cut, whole);
        assert!(frames.is_between());
        frames.follow(&[0], |_| {});
        assert!(!frames.is_between());
    }

    proptest! {
        #[test]
        fn any_cut_tells_the_same(bytes in proptest::collection::vec(0u8..4, 0..200), size in 1usize..40) {
            let whole = followed(&mut Frames::new(0), &[&bytes]);
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(followed(&mut Frames::new(0), &pieces), whole);
        }
    }

    #[test]
    fn resets_are_counted_within_a_window_and_forgotten_after_it() {
        let mut flood = Flood::default();
        let reset = Passed::Ended(FrameHead { length: 4, kind: kind::RST_STREAM, flags: 0, stream: 1 }, 8);
        for _ in 0..60 {
            assert_eq!(flood.came(reset, 20_000), Verdict::Fine);
        }
        for _ in 0..40 {
            assert_eq!(flood.reset(1, 20_001), Verdict::Fine);
        }
        assert_eq!(flood.reset(2, 20_002), Verdict::Fine, "an upstream's fault does not count");
        assert_eq!(flood.came(reset, 31_000), Verdict::Fine, "another window");
        for _ in 0..99 {
            flood.came(reset, 31_000);
        }
        assert_eq!(flood.came(reset, 31_000), Verdict::TooMuch);
    }

    #[test]
    fn a_head_is_open_until_its_last_continuation() {
        let mut flood = Flood::default();
        let mut frames = Frames::new(0);
        let mut feed = |bytes: &[u8]| {
            frames.follow(bytes, |passed| assert_eq!(flood.came(passed, 0), Verdict::Fine));
            flood.is_in_fields
        };
        assert!(!feed(&frame(kind::SETTINGS, 0, 0, &[])));
        assert!(feed(&frame(kind::HEADERS, 0, 5, &[1, 2])));
        assert!(feed(&frame(kind::CONTINUATION, 0, 5, &[1, 2])));
        assert!(!feed(&frame(kind::CONTINUATION, END_HEADERS, 5, &[1, 2])));
        assert!(feed(&frame(kind::HEADERS, END_HEADERS, 7, &[1, 2])[..10]));
        assert_eq!(flood.last_stream, 7);
    }

    #[test]
    fn the_last_word_is_a_frame_of_its_own() {
        let told = followed(&mut Frames::new(0), &[&calm_down(5)]);
        assert_eq!(ended(&told), [(kind::GOAWAY, 0, 11)]);
    }
}
