//! A document as it was written: nodes that know where they stand. What a reader of YAML makes, and what `raw` walks over.

/// Where a piece of text stands.
///
/// 16 bytes, because a large file has a million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Byte at which it starts.
    pub start: u32,
    /// Byte after its last one.
    pub end: u32,
    /// Line of its first byte, from 1; 0: nowhere in particular.
    pub line: u32,
    /// Column of its first character in that line, in characters, from 1.
    pub column: u32,
}

/// A node of the document.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it is. An alias has the place of what it stands for.
    pub span: Span,
}

/// What a node is, in the core schema of YAML 1.2.
///
/// Plain scalars keep their spelling: `1.10` is not `1.1`, and `5` is not `5%`.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`, `~`, or nothing where a value could be.
    Null,
    /// `true` or `false` (also `True`, `TRUE`, …). `yes`, `on` and `off` are text.
    Bool {
        /// What it means.
        value: bool,
        /// As written.
        text: Box<str>,
    },
    /// A number, as written.
    Number(Box<str>),
    /// Everything else, and everything quoted.
    String(Box<str>),
    /// In order.
    Seq(Vec<Node>),
    /// In order, each key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key, as written.
    pub key: Box<str>,
    /// Where the key is.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// What it is, in words that follow "found".
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::String(text) if text.len() > 60 => "a text".to_owned(),
            Kind::Bool { text, .. } | Kind::Number(text) | Kind::String(text) => format!("`{text}`"),
            Kind::Seq(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }

    /// The text of a scalar, as written; `None` for nothing, a list or a map.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Bool { text, .. } | Kind::Number(text) | Kind::String(text) => Some(text),
            Kind::Null | Kind::Seq(_) | Kind::Map(_) => None,
        }
    }

    /// The value under `key`, if this is a map that has it.
    pub fn child(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| *entry.key == *key).map(|entry| &entry.value),
            Kind::Null | Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) | Kind::Seq(_) => None,
        }
    }
}

/// What an unquoted scalar is (YAML 1.2 core schema).
pub fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool { value: true, text: text.into() },
        "false" | "False" | "FALSE" => Kind::Bool { value: false, text: text.into() },
        _ if is_number(text) => Kind::Number(text.into()),
        _ => Kind::String(text.into()),
    }
}

fn is_number(text: &str) -> bool {
    let all = |digits: &str, is_digit: fn(&u8) -> bool| !digits.is_empty() && digits.bytes().all(|b| is_digit(&b));
    if let Some(hex) = text.strip_prefix("0x") {
        return all(hex, u8::is_ascii_hexdigit);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return all(octal, |b| matches!(b, b'0'..=b'7'));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| all(exponent, u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_scalar_is_what_yaml_1_2_says_and_keeps_its_spelling() {
        for text in ["0", "-1", "+12", "1.10", "1e3", "1.5E-3", ".5", "5.", "0x1F", "0o17", ".inf", "-.INF", ".nan"] {
            assert_eq!(plain(text), Kind::Number(text.into()), "{text}");
        }
        for text in ["5%", "1.2.3", "yes", "on", "off", "n", "30s", ".", "-", "+", "1e", "0x", "0o8", "e3", "-.nan"] {
            assert_eq!(plain(text), Kind::String(text.into()), "{text}");
        }
        assert_eq!(plain("True"), Kind::Bool { value: true, text: "True".into() });
        assert_eq!(plain(""), Kind::Null);
    }
}
