//! Path templates (`/carts/{cart_id}/total`, `/products/{*rest}`) and the one spelling of a path that is matched and forwarded.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Most segments of a template; paths may have more.
pub const SEGMENTS_MAX: usize = 64;

/// Why a path pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `api/v1`.
    #[error("a path starts with `/`")]
    NoLeadingSlash,
    /// A query, a fragment, a space or a control character.
    #[error("{0:?} cannot be in a path")]
    BadCharacter(char),
    /// `%`, `%2`, `%zz`.
    #[error("`%` must be followed by two hex digits")]
    BadEscape,
    /// `.` or `..` as a segment: such a path is refused at the door, so the route could never match.
    #[error("`.` and `..` segments are refused in requests, so this could never match")]
    DotSegment,
    /// `{`, `a{x}`, `{x`.
    #[error("`{{…}}` stands for one whole segment; {0:?} is neither that nor a literal")]
    PartialParameter(String),
    /// `{}` or a name outside `[a-zA-Z_][a-zA-Z0-9_]*`.
    #[error("{0:?} is no parameter name; use letters, digits and `_`")]
    BadParameter(String),
    /// The same name twice.
    #[error("the parameter `{0}` is there twice")]
    DuplicateParameter(String),
    /// `{*rest}` before the end.
    #[error("`{{*{0}}}` takes the rest of the path and must be last")]
    RestNotLast(String),
    /// More than [`SEGMENTS_MAX`].
    #[error("a path template has at most {SEGMENTS_MAX} segments, this one has {0}")]
    TooManySegments(usize),
    /// The regex crate's own words.
    #[error("not a regular expression: {0}")]
    Regex(String),
    /// `^…$` are demanded: an unanchored expression covers more than it says.
    #[error("a path expression is anchored: it starts with `^/` and ends with `$`")]
    Unanchored,
}

/// What a route's path must be.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Segments, each literal or a parameter, and maybe a rest.
    Template(PathTemplate),
    /// An anchored regular expression over the whole path; tried after every template.
    Regex(regex::Regex),
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &PathPattern) -> bool {
        match (self, other) {
            (PathPattern::Template(a), PathPattern::Template(b)) => a == b,
            (PathPattern::Regex(a), PathPattern::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl PathPattern {
    /// Reads an expression such as `^/orders/[0-9]+$`; compiled size is bounded (256 KiB).
    pub fn regex(text: &str) -> Result<PathPattern, TemplateError> {
        if !text.starts_with("^/") || !text.ends_with('$') || text.ends_with("\\$") {
            return Err(TemplateError::Unanchored);
        }
        regex::RegexBuilder::new(text).size_limit(256 << 10).build().map(PathPattern::Regex).map_err(|error| {
            // The last line of the crate's message says what; the ones before draw the place again.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            TemplateError::Regex(last.trim_start_matches("error: ").to_owned())
        })
    }

    /// Names of the parameters, in order.
    pub fn parameters(&self) -> Vec<&str> {
        match self {
            PathPattern::Template(template) => template.parameters(),
            PathPattern::Regex(regex) => regex.capture_names().flatten().collect(),
        }
    }

    /// The value of parameter `name` in `path`, percent-encoded as it stands there; `None` when the path does not match.
    pub fn capture<'a>(&self, path: &'a str, name: &str) -> Option<&'a str> {
        match self {
            PathPattern::Template(template) => template.capture(path, name),
            PathPattern::Regex(regex) => regex.captures(path)?.name(name).map(|found| found.as_str()),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Template(template) => template.fmt(f),
            PathPattern::Regex(regex) => f.write_str(regex.as_str()),
        }
    }
}

/// A path in which some segments are parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    /// `/a/{x}` has two; `/` has one, the empty literal.
    pub segments: Vec<Segment>,
    /// The name of `{*rest}`, which takes the rest of the path, empty or not.
    pub rest: Option<Arc<str>>,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This, in the spelling of [`normal_path`].
    Literal(Arc<str>),
    /// Any one segment that is not empty.
    Param(Arc<str>),
}

impl PathTemplate {
    /// Reads `/carts/{cart_id}/total`; literals are brought to the spelling of [`normal_path`].
    pub fn parse(text: &str) -> Result<PathTemplate, TemplateError> {
        let body = text.strip_prefix('/').ok_or(TemplateError::NoLeadingSlash)?;
        if let Some(bad) = text.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
            return Err(TemplateError::BadCharacter(bad));
        }
        let pieces: Vec<&str> = body.split('/').collect();
        if pieces.len() > SEGMENTS_MAX {
            return Err(TemplateError::TooManySegments(pieces.len()));
        }
        let mut template = PathTemplate { segments: Vec::with_capacity(pieces.len()), rest: None };
        let mut names: Vec<&str> = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let Some(inner) = piece.strip_prefix('{').and_then(|p| p.strip_suffix('}')) else {
                if piece.contains(['{', '}']) {
                    return Err(TemplateError::PartialParameter((*piece).to_owned()));
                }
                template.segments.push(Segment::Literal(literal(piece)?));
                continue;
            };
            let (is_rest, name) = inner.strip_prefix('*').map_or((false, inner), |name| (true, name));
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name {
                return Err(TemplateError::BadParameter((*piece).to_owned()));
            }
            if names.contains(&name) {
                return Err(TemplateError::DuplicateParameter(name.to_owned()));
            }
            names.push(name);
            if is_rest {
                if index + 1 != pieces.len() {
                    return Err(TemplateError::RestNotLast(name.to_owned()));
                }
                template.rest = Some(Arc::from(name));
            } else {
                template.segments.push(Segment::Param(Arc::from(name)));
            }
        }
        Ok(template)
    }

    /// How many segments are literal.
    pub fn literals(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Literal(_))).count()
    }

    /// Names of the parameters, in order.
    pub fn parameters(&self) -> Vec<&str> {
        let params = self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(&**name),
            Segment::Literal(_) => None,
        });
        params.chain(self.rest.as_deref()).collect()
    }

    /// Whether `path` (in the spelling of [`normal_path`]) is of this shape.
    pub fn matches(&self, path: &str) -> bool {
        self.walk(path, |_, _| ()).is_some()
    }

    /// The value of parameter `name` in `path`; `None` when the path does not match or has no such parameter.
    pub fn capture<'a>(&self, path: &'a str, name: &str) -> Option<&'a str> {
        let mut found = None;
        self.walk(path, |param, value| {
            if param == name {
                found = Some(value);
            }
        })?;
        found
    }

    fn walk<'a>(&self, path: &'a str, mut each: impl FnMut(&str, &'a str)) -> Option<()> {
        let mut left = Some(path.strip_prefix('/')?);
        for segment in &self.segments {
            let (piece, after) = match left?.split_once('/') {
                Some((piece, after)) => (piece, Some(after)),
                None => (left?, None),
            };
            match segment {
                Segment::Literal(text) if **text == *piece => {}
                Segment::Param(name) if !piece.is_empty() => each(name, piece),
                Segment::Literal(_) | Segment::Param(_) => return None,
            }
            left = after;
        }
        match (&self.rest, left) {
            (Some(name), rest) => each(name, rest.unwrap_or_default()),
            (None, None) => {}
            (None, Some(_)) => return None,
        }
        Some(())
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Param(name) => write!(f, "/{{{name}}}")?,
            }
        }
        self.rest.as_ref().map_or(Ok(()), |name| write!(f, "/{{*{name}}}"))
    }
}

fn literal(piece: &str) -> Result<Arc<str>, TemplateError> {
    let slashed = format!("/{piece}");
    let normal = normal_path(&slashed).map_err(|error| match error {
        PathError::BadEscape => TemplateError::BadEscape,
        PathError::DotSegment => TemplateError::DotSegment,
        PathError::NotOrigin => TemplateError::NoLeadingSlash,
    })?;
    Ok(Arc::from(normal.get(1..).unwrap_or_default()))
}

/// Why a request's path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `*`, or anything that does not start with `/`.
    #[error("the target is no path")]
    NotOrigin,
    /// `%` without two hex digits.
    #[error("`%` is not followed by two hex digits")]
    BadEscape,
    /// `.` or `..`, spelled out or encoded.
    #[error("`.` and `..` segments are refused")]
    DotSegment,
}

/// The one spelling of a path that is both matched and forwarded: unreserved characters decoded, other escapes in
/// upper case (RFC 3986 §6.2.2), dot segments refused, `%2F` kept as it is, duplicate slashes kept.
///
/// What an upstream sees is what was matched, so no encoding reaches a service past its route.
pub fn normal_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotOrigin);
    }
    let normal = if path.contains('%') { Cow::Owned(decode_unreserved(path)?) } else { Cow::Borrowed(path) };
    // A backslash is a separator to some servers behind us, and an escaped separator to others; a dot segment must not hide
    // behind either. Only dots of their own are a fault: `%2F` is data.
    let is_dots = |piece: &str| {
        let piece = piece.split(';').next().unwrap_or(piece);
        piece == "." || piece == ".."
    };
    let climbs = |text: &str| text.split(['/', '\\']).any(is_dots);
    let hides = |text: &str| text.contains('%') && climbs(&text.replace("%2F", "/").replace("%5C", "/"));
    if normal.contains('.') && (climbs(&normal) || hides(&normal)) {
        return Err(PathError::DotSegment);
    }
    Ok(normal)
}

fn decode_unreserved(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let hex = escape.get(1..3).ok_or(PathError::BadEscape)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PathError::BadEscape);
        }
        let byte = u8::from_str_radix(hex, 16).map_err(|_| PathError::BadEscape)?;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex.to_ascii_uppercase());
        }
        rest = escape.get(3..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_matches_whole_segments() {
        for (template, path, expect) in [
            ("/a/{x}", "/a/1", true),
            ("/a/{x}", "/a/", false),
            ("/a/{x}", "/a", false),
            ("/a/{x}", "/a/1/", false),
            ("/a/{x}", "/ab/1", false),
            ("/a/{*r}", "/a", true),
            ("/a/{*r}", "/a/", true),
            ("/a/{*r}", "/a/b/c", true),
            ("/a/{*r}", "/ab", false),
            ("/{*r}", "/", true),
            ("/{*r}", "/x", true),
            ("/", "/", true),
            ("/", "/x", false),
            ("/a//b", "/a//b", true),
            ("/a//b", "/a/b", false),
            ("/%41/b", "/A/b", true),
        ] {
            assert_eq!(PathTemplate::parse(template).unwrap().matches(path), expect, "{template} {path}");
        }
    }

    #[test]
    fn a_bad_template_is_refused_with_its_reason() {
        for (text, expect) in [
            ("a", TemplateError::NoLeadingSlash),
            ("/a?b", TemplateError::BadCharacter('?')),
            ("/a/../b", TemplateError::DotSegment),
            ("/a%2", TemplateError::BadEscape),
            ("/a{x}", TemplateError::PartialParameter("a{x}".into())),
            ("/{}", TemplateError::BadParameter("{}".into())),
            ("/{x}/{x}", TemplateError::DuplicateParameter("x".into())),
            ("/{*r}/a", TemplateError::RestNotLast("r".into())),
        ] {
            assert_eq!(PathTemplate::parse(text), Err(expect), "{text}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        assert_eq!(normal_path("/a%2fb").unwrap(), "/a%2Fb");
        assert_eq!(normal_path("/a%2f.b").unwrap(), "/a%2F.b");
        assert_eq!(normal_path("/%7Euser//x").unwrap(), "/~user//x");
        for path in [
            "/a/..",
            "/%2e%2e/a",
            "/a/./b",
            "/.",
            "/a\\..\\b",
            "/..;x/b",
            "/%2E",
            "/a/..%2fb",
            "/a%5c..",
            "/%2e%2e%2Fa",
        ] {
            assert_eq!(normal_path(path), Err(PathError::DotSegment), "{path}");
        }
        assert_eq!(normal_path("/%zz"), Err(PathError::BadEscape));
        assert_eq!(normal_path("*"), Err(PathError::NotOrigin));
    }

    #[test]
    fn a_parameter_is_captured() {
        let template = PathTemplate::parse("/carts/{id}/{*rest}").unwrap();
        assert_eq!(template.capture("/carts/7/a/b", "id"), Some("7"));
        assert_eq!(template.capture("/carts/7/a/b", "rest"), Some("a/b"));
        assert_eq!(template.capture("/carts/7", "rest"), Some(""));
        assert_eq!(template.capture("/cart/7", "id"), None);
    }

    proptest! {
        #[test]
        fn the_one_spelling_is_stable(path in "/([a-zA-Z0-9._~/-]|%[0-9a-fA-F]{2}){0,30}") {
            if let Ok(once) = normal_path(&path) {
                prop_assert_eq!(normal_path(&once).unwrap(), once.clone());
            }
        }

        #[test]
        fn a_template_shows_as_it_reads(text in "(/([a-z]{1,4}|\\{[a-z]{1,4}[0-9]\\})){1,5}") {
            if let Ok(template) = PathTemplate::parse(&text) {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}
