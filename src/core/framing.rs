//! Where an HTTP/1 request's head and body begin and end, read off the raw bytes before the HTTP library sees them.
//!
//! The library is lenient where a strict origin is not, and what it has mended cannot be seen afterwards: a `Content-Length`
//! beside a `Transfer-Encoding`, a line that ends with a bare line feed, blanks in a chunk's size. This automaton is fed the same
//! bytes and refuses them first. It allocates nothing. Sections are of RFC 9112.

use http::Uri;
use memchr::memchr;

use crate::door::{Refusal, letters_digits_and};

pub use crate::door::HeadBounds;

use self::usual::usual_head;

mod usual;

/// Longest method; the longest one registered has 17 letters.
const METHOD_BYTES_MAX: usize = 32;
/// Method, version and blanks beside a target.
const LINE_REST_BYTES: usize = METHOD_BYTES_MAX + 16;
/// Empty lines before a request (§2.2 asks for one to be forgiven).
const BLANK_LINES_MAX: u8 = 4;
/// Bytes of the extensions of one chunk (§7.1.1 asks for a bound).
const EXTENSION_BYTES_MAX: u32 = 1 << 10;
/// Bytes of a trailer section.
const TRAILER_BYTES_MAX: u32 = 8 << 10;
/// Hex digits of a chunk's size: more would not fit 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// What a client's bytes were refused for, and how many before it were well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// Bytes of those fed that belong to what came before and may be handed on.
    pub whole: usize,
    /// Whether it is a body that broke off, whose head was handed on already.
    pub is_in_body: bool,
}

/// The automaton of one connection.
#[derive(Clone, Debug)]
pub struct Framing {
    place: Place,
    head: Head,
    bounds: HeadBounds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Head,
    Length(u64),
    Chunked(Chunked),
    /// Behind a head that asks for another protocol: what follows is that one's, or HTTP still. Only the answer tells.
    Switching,
    /// Another protocol's bytes.
    Tunnel,
    /// Nothing that follows can be believed.
    Refused,
}

impl Framing {
    /// At the beginning of a connection.
    pub fn new(bounds: HeadBounds) -> Framing {
        Framing { place: Place::Head, head: Head::default(), bounds }
    }

    /// Takes the next bytes, and answers how many of them may be handed on. The rest is the beginning of a head (or lies behind
    /// one that asks for another protocol), and is to be fed again, in front of what comes next.
    ///
    /// # Errors
    /// What was refused. Nothing more is taken then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.place {
                Place::Head
                    if self.head.searched == 0
                        && let Some(head) = usual_head(rest, &self.bounds) =>
                {
                    at += head.bytes;
                    if head.body > 0 {
                        self.place = Place::Length(head.body);
                    }
                }
                Place::Head => match self.head.read(rest, &self.bounds) {
                    Ok(None) => return Ok(at),
                    Ok(Some(length)) => {
                        at += length;
                        self.place = self.head.body();
                        self.head = Head::default();
                    }
                    Err(refusal) => return Err(self.refuse(refusal, at, false)),
                },
                Place::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    at += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.place = Place::Head;
                    }
                }
                Place::Chunked(chunked) => match chunked.read(rest) {
                    Some((taken, is_over)) => {
                        at += taken;
                        if is_over {
                            self.place = Place::Head;
                        }
                    }
                    None => return Err(self.refuse(Refusal::Framing, at, true)),
                },
                Place::Tunnel => return Ok(bytes.len()),
                Place::Switching | Place::Refused => return Ok(at),
            }
        }
        Ok(at)
    }

    fn refuse(&mut self, refusal: Refusal, whole: usize, is_in_body: bool) -> Refused {
        self.place = Place::Refused;
        Refused { refusal, whole, is_in_body }
    }

    /// Whether all that was fed is whole requests: the next byte begins a new one.
    pub fn is_between_requests(&self) -> bool {
        self.place == Place::Head && self.head.searched == 0
    }

    /// Whether what comes next waits for the answer to a request for another protocol.
    pub fn is_switching(&self) -> bool {
        self.place == Place::Switching
    }

    /// That answer: the other protocol is spoken from here on, or HTTP still is.
    pub fn switched(&mut self, is_tunnel: bool) {
        if self.place == Place::Switching {
            self.place = if is_tunnel { Place::Tunnel } else { Place::Head };
        }
    }

    /// Gives up: nothing that follows is taken.
    pub fn close(&mut self) {
        self.place = Place::Refused;
    }

    /// Whether the client has more to send of what is refused or under way: closed now, its unread bytes would take the answer
    /// with them.
    pub fn is_amid(&self) -> bool {
        !matches!(self.place, Place::Head | Place::Switching | Place::Tunnel)
    }
}

/// A head, as far as it was read.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// Bytes searched for a line's end.
    searched: usize,
    /// Where the line under way begins.
    line: usize,
    fields_bytes: usize,
    fields: usize,
    lines: usize,
    length: Option<u64>,
    blank: u8,
    has_line: bool,
    is_old: bool,
    is_coded: bool,
    has_upgrade: bool,
    is_upgrade_nominated: bool,
}

impl Head {
    /// `head` begins at the head's first byte. Answers its length once it is whole.
    fn read(&mut self, head: &[u8], bounds: &HeadBounds) -> Result<Option<usize>, Refusal> {
        while let Some(found) = head.get(self.searched..).and_then(|rest| memchr(b'\n', rest)) {
            let end = self.searched + found;
            let line = head.get(self.line..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Refusal::LineEnd)?;
            self.searched = end + 1;
            self.line = end + 1;
            self.lines += 1;
            match (line.is_empty(), self.has_line) {
                (true, true) => return self.whole(head.get(..=end).unwrap_or_default()).map(Some),
                (true, false) if self.blank == BLANK_LINES_MAX => return Err(Refusal::RequestLine),
                (true, false) => self.blank += 1,
                (false, false) => self.request_line(line, bounds)?,
                (false, true) => self.field(line, bounds)?,
            }
        }
        self.searched = head.len();
        let open = head.get(self.line..).unwrap_or_default();
        if !self.has_line {
            // What cannot become a request is not waited for.
            let method = open.split(|b| *b == b' ').next().unwrap_or_default();
            let method = method.strip_suffix(b"\r").filter(|method| method.is_empty()).unwrap_or(method);
            if method.len() > METHOD_BYTES_MAX || !method.iter().all(|b| is_method(*b)) {
                return Err(Refusal::RequestLine);
            }
            if open.len() > bounds.line_bytes + LINE_REST_BYTES {
                return Err(Refusal::TargetTooLong);
            }
        } else if open.len() > bounds.field_bytes || self.fields_bytes + open.len() > bounds.fields_bytes {
            return Err(Refusal::FieldsTooLarge);
        }
        Ok(None)
    }

    /// A head has no control characters (RFC 9110 §5.5) but tabs and those that end its lines: counted over all of it at once,
    /// which costs far less than to look at each line.
    fn whole(&self, head: &[u8]) -> Result<usize, Refusal> {
        if controls(head) == 2 * self.lines { Ok(head.len()) } else { Err(Refusal::Field) }
    }

    /// §3: one space between the three parts, and nothing else.
    fn request_line(&mut self, line: &[u8], bounds: &HeadBounds) -> Result<(), Refusal> {
        self.has_line = true;
        let (method, rest) = line
            .iter()
            .take(METHOD_BYTES_MAX + 1)
            .position(|b| *b == b' ')
            .and_then(|space| Some((line.get(..space)?, line.get(space + 1..)?)))
            .ok_or(Refusal::RequestLine)?;
        if method.is_empty() || !method.iter().all(|b| is_method(*b)) {
            return Err(Refusal::RequestLine);
        }
        if line.len() > bounds.line_bytes + LINE_REST_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        let (target, version) =
            rest.split_last_chunk::<9>().filter(|(_, end)| end.starts_with(b" ")).ok_or(Refusal::RequestLine)?;
        // The library would cut off a fragment unseen, and another target would go on than was sent (§3.2 knows none).
        let is_bad = |b: u8| u8::from(b <= b' ') | u8::from(b == 0x7f) | u8::from(b == b'#');
        let bad = target.iter().fold(0, |bad, b| bad | is_bad(*b));
        if target.is_empty() || bad != 0 {
            return Err(Refusal::RequestLine);
        }
        // What the library would not take is refused here, with an answer of our own. Asked only where there is doubt.
        let is_odd = |b: u8| u8::from(b >= 0x7f) | u8::from(b"\"<>\\^`{|}".contains(&b));
        let is_plain = target.starts_with(b"/") && target.iter().fold(0, |odd, b| odd | is_odd(*b)) == 0;
        if !is_plain && Uri::try_from(target).is_err() {
            return Err(Refusal::Target);
        }
        match version {
            b" HTTP/1.1" => {}
            b" HTTP/1.0" => self.is_old = true,
            [b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Refusal::Version),
            _ => return Err(Refusal::RequestLine),
        }
        // A tunnel to wherever a client likes is never made (RFC 9110 §9.3.6).
        if method == b"CONNECT" { Err(Refusal::Method) } else { Ok(()) }
    }

    /// §5: `name: value`; no blank before the colon, no line that goes on.
    fn field(&mut self, line: &[u8], bounds: &HeadBounds) -> Result<(), Refusal> {
        self.fields += 1;
        self.fields_bytes += line.len() + 2;
        if line.len() > bounds.field_bytes || self.fields_bytes > bounds.fields_bytes || self.fields > bounds.fields {
            return Err(Refusal::FieldsTooLarge);
        }
        let length = line.iter().position(|b| !is_token(*b)).ok_or(Refusal::Field)?;
        let (name, [b':', value @ ..]) = line.split_at_checked(length).ok_or(Refusal::Field)? else {
            return Err(Refusal::Field);
        };
        if name.is_empty() {
            return Err(Refusal::Field);
        }
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.has_upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut options = value.split(|b| *b == b',');
                self.is_upgrade_nominated |= options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.is_coded || self.length.is_some() {
                    return Err(Refusal::Framing);
                }
                self.length = Some(number(value.trim_ascii()).ok_or(Refusal::Framing)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let is_sound = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                if !is_sound || self.is_coded || self.length.is_some() || self.is_old {
                    return Err(Refusal::Framing);
                }
                self.is_coded = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// What follows the head.
    fn body(&self) -> Place {
        if self.is_coded {
            return Place::Chunked(Chunked::default());
        }
        match self.length {
            Some(length @ 1..) => Place::Length(length),
            Some(0) | None if self.asks_to_switch() => Place::Switching,
            Some(_) | None => Place::Head,
        }
    }

    fn asks_to_switch(&self) -> bool {
        self.has_upgrade && self.is_upgrade_nominated && !self.is_old
    }
}

/// Methods are letters; other tokens are left to ourselves.
const fn is_method(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    static TOKENS: [bool; 256] = letters_digits_and(*b"!#$%&'*+-.^_`|~");
    TOKENS.get(usize::from(byte)).copied().unwrap_or(false)
}

/// How many control characters there are, tabs left aside. Without a branch in it, so that many bytes are looked at at once.
fn controls(bytes: &[u8]) -> usize {
    let is_control = |b: u8| u8::from(b < b' ') & u8::from(b != b'\t') | u8::from(b == 0x7f);
    bytes.chunks(255).map(|chunk| usize::from(chunk.iter().fold(0, |sum, b| sum + is_control(*b)))).sum()
}

/// Digits only: no sign, no list, no overflow.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// A chunked body, as far as it was read (§7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chunked {
    step: Step,
    /// Of the chunk under way: its size, then what is left of it.
    left: u64,
    digits: u8,
    /// Of the extensions of a chunk, then of the trailer section.
    bytes: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Size,
    /// A blank behind a size, which only an extension may follow.
    Blank,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// A trailer line's first byte, or the end's.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    End,
}

impl Chunked {
    /// Bytes taken, and whether the body is over with them; `None`: this is no chunked body.
    fn read(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if self.step == Step::Data {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= taken as u64;
                at += taken;
                if self.left == 0 {
                    self.step = Step::DataCr;
                }
                continue;
            }
            at += 1;
            if self.step == Step::End {
                return (byte == b'\n').then_some((at, true));
            }
            self.step = self.next(byte)?;
        }
        Some((at, false))
    }

    fn next(&mut self, byte: u8) -> Option<Step> {
        match (self.step, byte) {
            (Step::Size, _) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                self.left = self.left << 4 | u64::from(char::from(byte).to_digit(16)?);
                (self.digits <= SIZE_DIGITS_MAX).then_some(Step::Size)
            }
            (Step::Size, b'\r') if self.digits > 0 => Some(Step::SizeEnd),
            (Step::Size, b';') if self.digits > 0 => self.counted(EXTENSION_BYTES_MAX, Step::Extension),
            (Step::Size, b' ' | b'\t') if self.digits > 0 => self.counted(EXTENSION_BYTES_MAX, Step::Blank),
            (Step::Blank, b' ' | b'\t') => self.counted(EXTENSION_BYTES_MAX, Step::Blank),
            (Step::Blank, b';') => self.counted(EXTENSION_BYTES_MAX, Step::Extension),
            (Step::Extension, b'\r') => Some(Step::SizeEnd),
            (Step::Extension, _) if controls(&[byte]) == 0 => self.counted(EXTENSION_BYTES_MAX, Step::Extension),
            (Step::SizeEnd, b'\n') => {
                (self.digits, self.bytes) = (0, 0);
                Some(if self.left == 0 { Step::Trailer } else { Step::Data })
            }
            (Step::DataCr, b'\r') => Some(Step::DataLf),
            (Step::DataLf, b'\n') => Some(Step::Size),
            (Step::Trailer, b'\r') => Some(Step::End),
            (Step::Trailer | Step::TrailerName, _) if is_token(byte) => {
                self.counted(TRAILER_BYTES_MAX, Step::TrailerName)
            }
            (Step::TrailerName, b':') => self.counted(TRAILER_BYTES_MAX, Step::TrailerValue),
            (Step::TrailerValue, b'\r') => Some(Step::TrailerEnd),
            (Step::TrailerValue, _) if controls(&[byte]) == 0 => self.counted(TRAILER_BYTES_MAX, Step::TrailerValue),
            (Step::TrailerEnd, b'\n') => Some(Step::Trailer),
            _ => None,
        }
    }

    fn counted(&mut self, most: u32, next: Step) -> Option<Step> {
        self.bytes += 1;
        (self.bytes <= most).then_some(next)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
