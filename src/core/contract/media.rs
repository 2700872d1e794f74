//! What a document is taken for: as it is told, as its name says, or as it looks.

use std::fmt;
use std::str::FromStr;

use crate::json::parse;

/// The type of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// JSON.
    Json,
    /// Lines that are JSON each.
    Lines,
    /// HTML.
    Html,
    /// XML.
    Xml,
    /// `a=1&b=2`.
    Form,
    /// Anything else that is text, by line.
    Text,
    /// A stream of server-sent events.
    Events,
    /// Bytes.
    Bytes,
}

impl Media {
    /// All of them, as `--type` names them.
    pub const ALL: [Media; 8] =
        [Media::Json, Media::Lines, Media::Html, Media::Xml, Media::Form, Media::Text, Media::Events, Media::Bytes];

    /// As written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Media::Json => "json",
            Media::Lines => "ndjson",
            Media::Html => "html",
            Media::Xml => "xml",
            Media::Form => "form",
            Media::Text => "text",
            Media::Events => "events",
            Media::Bytes => "bytes",
        }
    }

    /// As a server says it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Lines => "application/x-ndjson",
            Media::Html => "text/html",
            Media::Xml => "application/xml",
            Media::Form => "application/x-www-form-urlencoded",
            Media::Text => "text/plain",
            Media::Events => "text/event-stream",
            Media::Bytes => "application/octet-stream",
        }
    }

    /// By the end of a file's name; `None`: it says nothing.
    pub fn of_name(name: &str) -> Option<Media> {
        let (_, end) = name.rsplit_once('.')?;
        match end.to_ascii_lowercase().as_str() {
            "json" => Some(Media::Json),
            "ndjson" | "jsonl" => Some(Media::Lines),
            "html" | "htm" => Some(Media::Html),
            "xml" => Some(Media::Xml),
            "form" | "urlencoded" => Some(Media::Form),
            "txt" | "text" | "csv" => Some(Media::Text),
            "sse" => Some(Media::Events),
            "bin" => Some(Media::Bytes),
            _ => None,
        }
    }

    /// By what stands in it: JSON if it reads as such, or begins as an object or a list does; markup by its first tag; a form by its
    /// pairs; else text, and bytes where it is no UTF-8.
    pub fn of_content(body: &[u8]) -> Media {
        let Ok(text) = std::str::from_utf8(body) else { return Media::Bytes };
        let text = text.trim_start_matches('\u{feff}').trim();
        let first: String = text.chars().take(16).collect::<String>().to_ascii_lowercase();
        if first.starts_with(['{', '[']) || parse(text.as_bytes()).is_ok() {
            return if is_lines(text) { Media::Lines } else { Media::Json };
        }
        if first.starts_with("<!doctype html") || first.starts_with("<html") {
            return Media::Html;
        }
        if first.starts_with("<?xml") {
            return Media::Xml;
        }
        if first.starts_with('<') {
            // A piece of a page, unless it is closed as XML must be.
            return if roxmltree::Document::parse(text).is_ok() { Media::Xml } else { Media::Html };
        }
        if is_form(text) { Media::Form } else { Media::Text }
    }
}

/// Several documents, a line each; one document over several lines is not that.
fn is_lines(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let is_whole = |line: &str| parse(line.as_bytes()).is_ok();
    lines.next().is_some_and(is_whole) && lines.next().is_some_and(is_whole) && parse(text.as_bytes()).is_err()
}

/// Pairs with `=`, nothing that would have been escaped.
fn is_form(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+%*[]@:,!$'()/;?".contains(&byte);
    let is_pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or(("", ""));
        !name.is_empty() && name.bytes().chain(value.bytes()).all(is_plain)
    };
    text.split('&').all(is_pair)
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Media {
    type Err = String;

    fn from_str(text: &str) -> Result<Media, String> {
        Media::ALL.into_iter().find(|media| media.as_str() == text).ok_or_else(|| {
            let names: Vec<&str> = Media::ALL.iter().map(|media| media.as_str()).collect();
            format!("a type is one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_told_by_the_name_or_by_the_content() {
        assert_eq!(Media::of_name("a/b.v2.JSON"), Some(Media::Json));
        assert_eq!(Media::of_name("answer"), None);
        for (text, media) in [
            ("{\"a\": 1}", Media::Json),
            (" [1,", Media::Json),
            ("12.5", Media::Json),
            ("\"text\"", Media::Json),
            ("{\"a\":1}\n{\"a\":2}\n", Media::Lines),
            ("[1,\n2]", Media::Json),
            ("<!DOCTYPE html><p>", Media::Html),
            ("<HTML>", Media::Html),
            ("<p>a<br>b", Media::Html),
            ("<?xml version='1.0'?><a/>", Media::Xml),
            ("<order><id>7</id></order>", Media::Xml),
            ("a=1&b=%20x", Media::Form),
            ("a = 1", Media::Text),
            ("hello", Media::Text),
            ("", Media::Text),
        ] {
            assert_eq!(Media::of_content(text.as_bytes()), media, "{text:?}");
        }
        assert_eq!(Media::of_content(b"\xff\xd8"), Media::Bytes);
        for media in Media::ALL {
            assert_eq!(media.as_str().parse(), Ok(media));
        }
        assert!("yaml".parse::<Media>().is_err());
    }
}
