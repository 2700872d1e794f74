//! What of a request goes on record, and what can be asked again of it.

use http::{HeaderMap, HeaderName, header};

use crate::redact::{Divergence, Redactor, is_credential};
use crate::route::{HostPattern, Route};

/// Headers that decide what is answered; no other is ever noted.
const NOTED: [HeaderName; 7] = [
    header::HOST,
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_ENCODING,
    header::CONTENT_TYPE,
    header::AUTHORIZATION,
    header::COOKIE,
];

/// Those of a request's headers that go on record (redacted); the others are let go at once.
pub fn noted(headers: &HeaderMap) -> HeaderMap {
    let noted = NOTED.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone())));
    noted.collect()
}

impl Redactor {
    /// Names and redacted values. A host is told where the route's own file tells it.
    pub(crate) fn request_headers(&self, route: &Route, headers: &HeaderMap) -> Vec<(String, String)> {
        let is_told = |value: &[u8]| match &route.conditions.host {
            HostPattern::Exact(host) => value.eq_ignore_ascii_case(host.as_bytes()),
            HostPattern::Wildcard(_) | HostPattern::Any => false,
        };
        let redacted = |name: &HeaderName, value: &[u8]| match *name {
            header::HOST if is_told(value) => String::from_utf8_lossy(value).into_owned(),
            header::ACCEPT if value == b"*/*" => "*/*".to_owned(),
            header::ACCEPT => self.header(&header::CONTENT_TYPE, value),
            header::ACCEPT_ENCODING if is_usual_encoding(value) => String::from_utf8_lossy(value).into_owned(),
            _ => self.header(name, value),
        };
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), redacted(name, value.as_bytes()))).collect()
    }
}

/// What every client says.
fn is_usual_encoding(value: &[u8]) -> bool {
    let is_usual =
        |word: &[u8]| matches!(word.trim_ascii(), b"gzip" | b"deflate" | b"br" | b"zstd" | b"identity" | b"*");
    value.split(|byte| *byte == b',').all(is_usual)
}

/// Why a record cannot be asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReplay {
    /// Asking again could do something.
    #[error("only GET, HEAD and OPTIONS are asked again: a second {0} could do something twice")]
    Unsafe(String),
    /// It had a body, and that is not kept.
    #[error(
        "the request had a body of {0} bytes, and bodies are not kept: ask with the curl of each side, the body in a file"
    )]
    Body(u64),
    /// Its target was redacted.
    #[error(
        "the values of {} were not kept, so the request cannot be made again: allow them with `compare: {{keep: {{target: [{}]}}}}` and wait for \
         the next pair, or fill them into the curl of each side",
        .0.join(", "), .0.join(", ")
    )]
    Hidden(Vec<String>),
}

impl Divergence {
    /// Whether the request can be made again from what is kept of it.
    pub fn replayable(&self) -> Result<(), NoReplay> {
        if !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
            return Err(NoReplay::Unsafe(self.method.clone()));
        }
        if self.request_bytes > 0 {
            return Err(NoReplay::Body(self.request_bytes));
        }
        // A record of an earlier version does not name what it hides.
        let is_marked = self.target.contains('<');
        if !self.hidden.is_empty() || is_marked {
            let hidden = if self.hidden.is_empty() { vec!["its target".to_owned()] } else { self.hidden.clone() };
            return Err(NoReplay::Hidden(hidden));
        }
        Ok(())
    }

    /// The request as a command for a shell, sent to `base` (`http://host:port`) for `target`. What is not kept stands as a variable:
    /// `$AUTHORIZATION`, `$ID`; a body is `--data-binary @body`.
    pub fn curl(&self, base: &str, target: &str) -> String {
        let mut out = format!("curl -sS -i -X {} \"{base}{}\"", quoted(&self.method), self.with_variables(target));
        for (name, value) in &self.request_headers {
            let is_hidden = value.starts_with('<');
            match name.as_str() {
                // What curl sends by itself says the same; encodings would make the answer unreadable.
                "accept-encoding" => {}
                "host" if is_hidden => {}
                _ if is_hidden || HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| is_credential(&name)) => {
                    out.push_str(&format!(" -H \"{name}: ${}\"", variable(name)));
                }
                _ => out.push_str(&format!(" -H \"{name}: {}\"", quoted(value))),
            }
        }
        if self.request_bytes > 0 {
            out.push_str(" --data-binary @body");
        }
        out
    }

    /// Each mark of a value that was not kept becomes a variable with its parameter's name.
    fn with_variables(&self, target: &str) -> String {
        let mut names = self.hidden.iter();
        let mut out = String::new();
        let mut rest = target;
        while let Some((before, after)) = rest.split_once('<') {
            out.push_str(&quoted(before));
            let Some((_, after)) = after.split_once('>') else { break };
            out.push_str(&format!("${{{}}}", names.next().map_or_else(|| "VALUE".to_owned(), |name| variable(name))));
            rest = after;
        }
        out.push_str(&quoted(rest));
        out
    }
}

/// A name as a shell's variable.
fn variable(name: &str) -> String {
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    let name: String = letters.collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("V{name}") }
}

/// Within a shell's double quotes.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::new(), |mut out, c| {
        if matches!(c, '"' | '$' | '`' | '\\' | '!') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}
