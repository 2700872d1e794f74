//! A JSON reader for comparing: strict (RFC 8259), bounded, and losing nothing that a difference may hang on.
//!
//! Unlike a reader for use, it keeps each number's own text (ids above 2^53 stay apart), the order of members, and members
//! whose key is there twice.

pub mod number;

use std::borrow::Cow;

use number::Number;

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 128;
/// Most values of a document, containers included.
pub const NODES_MAX: usize = 1_000_000;

/// A JSON value; strings and numbers point into the text where they can.
#[derive(Clone, Debug)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(Number<'a>),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object.
    Object(Object<'a>),
}

impl Json<'_> {
    /// The type's name as people know it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "bool",
            Json::Number(_) => "number",
            Json::String(_) => "str",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }
}

/// A key and its value.
pub type Member<'a> = (Cow<'a, str>, Json<'a>);

/// An object: its members in the order of the text.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// As they stand there, those with the same key included.
    pub members: Vec<Member<'a>>,
    /// Whether a key is there twice.
    pub has_duplicates: bool,
}

impl<'a> Object<'a> {
    /// Members by key; those with the same key stay in the order of the text.
    pub fn sorted(&self) -> Vec<&Member<'a>> {
        let mut sorted: Vec<&Member<'a>> = self.members.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted
    }
}

/// Why a text is no JSON document, or none that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// More values than [`NODES_MAX`].
    #[error("more than {NODES_MAX} values")]
    TooMany,
    /// Not UTF-8.
    #[error("not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// Not JSON from this byte on.
    #[error("not JSON at byte {0}")]
    Syntax(usize),
}

impl JsonError {
    /// Whether the text may be JSON, but is more than is read here.
    pub const fn is_limit(self) -> bool {
        matches!(self, JsonError::TooDeep | JsonError::TooMany)
    }
}

/// Reads one document.
///
/// ```
/// use strangler_core::json::{Json, parse};
/// assert!(matches!(parse(b" [1, 1.0] "), Ok(Json::Array(items)) if items.len() == 2));
/// assert!(parse(b"[1,]").is_err());
/// ```
pub fn parse(text: &[u8]) -> Result<Json<'_>, JsonError> {
    let text = std::str::from_utf8(text).map_err(|error| JsonError::NotUtf8(error.valid_up_to()))?;
    let mut reader = Reader { text, at: 0, nodes: 0 };
    reader.skip_space();
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at == text.len() { Ok(value) } else { Err(JsonError::Syntax(reader.at)) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax(self.at))
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.fail()
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, JsonError> {
        if self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            Ok(value)
        } else {
            self.fail()
        }
    }

    /// Calls itself for what is inside, at most [`DEPTH_MAX`] times deep.
    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(JsonError::TooMany);
        }
        match self.peek() {
            Some(b'{') => self.object(depth + 1).map(Json::Object),
            Some(b'[') => self.array(depth + 1).map(Json::Array),
            Some(b'"') => self.string().map(Json::String),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            _ => self.fail(),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Json<'a>>, JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            self.skip_space();
            items.push(self.value(depth)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return self.fail(),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Object<'a>, JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut members: Vec<Member<'a>> = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Object { members, has_duplicates: false });
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.fail();
            }
            let key = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            members.push((key, self.value(depth)?));
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    let has_duplicates = has_duplicates(&members);
                    return Ok(Object { members, has_duplicates });
                }
                _ => return self.fail(),
            }
        }
    }

    fn number(&mut self) -> Result<Number<'a>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.fail(),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Number::new(self.text.get(start..self.at).unwrap_or_default()))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.fail() } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut plain_from = start;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let plain = self.text.get(plain_from..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(plain),
                        Some(mut text) => {
                            text.push_str(plain);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let plain = self.text.get(plain_from..self.at).unwrap_or_default();
                    let unescaped = {
                        self.at += 1;
                        self.escape()?
                    };
                    let text = owned.get_or_insert_with(String::new);
                    text.push_str(plain);
                    text.push(unescaped);
                    plain_from = self.at;
                }
                Some(0..0x20) | None => return self.fail(),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let escaped = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return self.fail(),
        };
        self.at += 1;
        Ok(escaped)
    }

    /// Half a surrogate pair is refused: it is no text, and two different ones must not read alike.
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let high = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            self.expect(b'\\')?;
            self.expect(b'u')?;
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(JsonError::Syntax(start));
            }
            0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
        } else {
            high
        };
        char::from_u32(code).ok_or(JsonError::Syntax(start))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.fail();
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

fn has_duplicates(members: &[Member<'_>]) -> bool {
    // Most objects are small: comparing each with each beats sorting, and allocates nothing.
    if members.len() <= 16 {
        return members.iter().enumerate().any(|(at, (key, _))| members.iter().take(at).any(|(other, _)| other == key));
    }
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| key.as_ref()).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
}

#[cfg(test)]
mod tests;
