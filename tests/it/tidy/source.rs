//! A file of the repository, as written and with everything but its code blanked out.

/// A text file.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// As written, but comments and the insides of literals are spaces: a rule about code must not trip over prose.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// Whether the file as a whole is tests.
    pub(crate) fn is_tests(&self) -> bool {
        let is_named_so = ["/tests.rs", "_tests.rs", "/properties.rs"].iter().any(|name| self.path.ends_with(name));
        is_named_so || self.path.contains("/tests/")
    }

    /// Lines of code with their numbers, up to the tests at the bottom; none for a file of tests.
    pub(crate) fn shipped_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.code.lines().collect();
        let is_module = |line: &&str| line.starts_with("mod ") || line.starts_with("pub(crate) mod ");
        // The attribute may stand above others; what it is on decides.
        let is_end = |at: &usize| lines[*at].starts_with("#[cfg(test)]") && lines[*at..].iter().take(4).any(is_module);
        let end = if self.is_tests() { 0 } else { (0..lines.len()).find(is_end).unwrap_or(lines.len()) };
        numbered(&self.code).take(end)
    }

    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code)
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.text)
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Replaces comments, strings and character literals by spaces; line breaks stay, so that line numbers do.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&now) = chars.get(at) {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(now);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that begins at `at`; `at` itself when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let peek = |offset: usize| chars.get(at + offset).copied();
    let after_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (peek(0), peek(1)) {
        (Some('/'), Some('/')) => position(chars, at, |rest| rest[0] == '\n').unwrap_or(chars.len()),
        (Some('/'), Some('*')) => block_comment_end(chars, at),
        (Some('"'), _) => string_end(chars, at + 1),
        (Some('r'), Some('"' | '#')) if !after_name => raw_string_end(chars, at).unwrap_or(at),
        (Some('\''), Some('\\')) => position(chars, at + 3, |rest| rest[0] == '\'').map_or(chars.len(), |end| end + 1),
        (Some('\''), Some(_)) if peek(2) == Some('\'') => at + 3,
        _ => at,
    }
}

fn position(chars: &[char], from: usize, is_there: impl Fn(&[char]) -> bool) -> Option<usize> {
    (from..chars.len()).find(|at| is_there(&chars[*at..]))
}

/// Block comments nest.
fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `r"…"`, `r#"…"#` and so on; `None` for a raw identifier (`r#type`).
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return None;
    }
    let is_end =
        |rest: &[char]| rest[0] == '"' && rest[1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some(position(chars, at + 2 + hashes, is_end).map_or(chars.len(), |end| end + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_and_literals_are_no_code() {
        let text = "a // crate::x\nb /* c /* d */ e */ f \"g \\\" h\" i r#\"j \" k\"# l '\\'' m '\"' n 'static o\n";
        let code = Source::new("src/a.rs", text).code;
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "f", "i", "l", "m", "n", "'static", "o"]);
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn a_raw_identifier_is_code() {
        assert_eq!(Source::new("src/a.rs", "r#type for r").code, "r#type for r");
    }

    #[test]
    fn code_below_a_helper_of_tests_ships() {
        let text = "#[cfg(test)]\nuse a;\nuse b;\nfn f() {}\nuse c;\n#[cfg(test)]\n#[path = \"x\"]\nmod tests;\n";
        assert_eq!(Source::new("src/a.rs", text).shipped_code().count(), 5);
    }

    #[test]
    fn tests_at_the_bottom_do_not_ship() {
        let file = Source::new("src/a.rs", "use a;\n#[cfg(test)]\nmod tests {}\n");
        assert_eq!(file.shipped_code().collect::<Vec<_>>(), [(1, "use a;")]);
        assert_eq!(Source::new("src/a/tests.rs", "use a;").shipped_code().count(), 0);
    }
}
