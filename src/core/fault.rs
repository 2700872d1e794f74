//! What is wrong with a file, and where. All of it at once: a fault is collected, never thrown.

use std::fmt;

use crate::tree::Span;

/// Most faults kept; the rest is counted. A file with more has one cause.
pub const FAULTS_MAX: usize = 1_000;

/// Whether a fault refuses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, and this is said.
    Warning,
}

impl Severity {
    /// As written before a fault.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether it refuses the file.
    pub severity: Severity,
    /// Where; line 0: the file as a whole.
    pub span: Span,
    /// Which value, as in `routes[3].weight`; empty: the file as a whole.
    pub path: String,
    /// What.
    pub message: String,
    /// What would be taken instead.
    pub help: Option<String>,
    /// Another place that has to do with it, and why.
    pub also: Option<(Span, String)>,
}

impl Fault {
    /// An error at a place.
    pub fn error(span: Span, path: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { severity: Severity::Error, span, path: path.into(), message: message.into(), help: None, also: None }
    }

    /// A warning at a place.
    pub fn warning(span: Span, path: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { severity: Severity::Warning, ..Fault::error(span, path, message) }
    }

    /// With what would be taken instead.
    pub fn with_help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }

    /// With what would be taken instead, if that is known.
    pub fn with_maybe_help(mut self, help: Option<String>) -> Fault {
        self.help = help;
        self
    }

    /// With another place that has to do with it.
    pub fn with_also(mut self, span: Span, why: impl Into<String>) -> Fault {
        self.also = Some((span, why.into()));
        self
    }
}

impl fmt::Display for Fault {
    /// One line: `12:9: error: routes[3].weight: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.span.line > 0 {
            write!(f, "{}:{}: ", self.span.line, self.span.column)?;
        }
        write!(f, "{}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Faults as they are found, at most [`FAULTS_MAX`] of them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    kept: Vec<Fault>,
    errors: usize,
    left_out: usize,
}

impl Faults {
    /// Adds one, unless it has been said.
    pub fn push_once(&mut self, fault: Fault) {
        if !self.kept.contains(&fault) {
            self.push(fault);
        }
    }

    /// Adds one.
    pub fn push(&mut self, fault: Fault) {
        if fault.severity == Severity::Error {
            self.errors += 1;
        }
        if self.kept.len() < FAULTS_MAX {
            self.kept.push(fault);
        } else {
            self.left_out += 1;
        }
    }

    /// Whether one of them refuses the file.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// All of them in the order of the file, and a last one that counts what was left out.
    pub fn into_sorted(mut self) -> Vec<Fault> {
        self.kept.sort_by_key(|fault| (fault.span, fault.severity));
        self.kept.dedup();
        if self.left_out > 0 {
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("and {} more of them", self.left_out);
            self.kept.push(Fault { severity, ..Fault::error(Span::default(), "", message) });
        }
        self.kept
    }
}

/// The one of `known` that `text` was probably meant to be: at most a third of its letters differ.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LETTERS_MAX: usize = 80;
    let letters: Vec<char> = text.chars().take(LETTERS_MAX).collect();
    let allowed = (letters.len() / 3).max(1);
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(text.len()) <= allowed * 4)
        .map(|candidate| (distance(&letters, candidate, allowed), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", if one of `known` is near.
pub fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(text, known).map(|known| format!("did you mean `{known}`?"))
}

/// "did you mean" among names that people gave, of which there may be many: a bound on the searches and on each of them, since a
/// file with thousands of unknown names has one mistake and must not take minutes.
#[derive(Clone, Debug)]
pub struct Hints {
    left: usize,
}

impl Default for Hints {
    fn default() -> Hints {
        Hints { left: 50 }
    }
}

impl Hints {
    const SEARCHED_MAX: usize = 2_000;

    /// As [`did_you_mean`], as long as there are searches left.
    pub fn did_you_mean<'a>(&mut self, text: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        did_you_mean(text, known.take(Hints::SEARCHED_MAX))
    }
}

/// Letters to add, drop, change or swap with their neighbour (optimal string alignment); more than `most` is only said to be more.
fn distance(from: &[char], to: &str, most: usize) -> usize {
    let to: Vec<char> = to.chars().collect();
    if from.len().abs_diff(to.len()) > most {
        return most + 1;
    }
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(to.len() + 1);
        row.push(i + 1);
        for (j, b) in to.iter().enumerate() {
            let change = at(&above, j) + usize::from(a != b);
            let mut best = change.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let is_swap = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if is_swap {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    at(&above, to.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_named() {
        let known = ["weight", "extracted", "shadow", "match", "max_body"];
        for (text, expect) in [
            ("wieght", Some("weight")),
            ("weigth", Some("weight")),
            ("Weight", Some("weight")),
            ("shadw", Some("shadow")),
            ("max-body", Some("max_body")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, known), expect, "{text}");
        }
    }

    #[test]
    fn faults_stand_in_the_order_of_the_file_and_have_a_bound() {
        let mut faults = Faults::default();
        for line in (1u32..=1_500).rev() {
            let span = Span { start: line, end: line, line, column: 1 };
            faults.push(Fault::warning(span, "", "x"));
        }
        assert!(!faults.has_errors());
        let sorted = faults.into_sorted();
        assert_eq!(sorted.len(), FAULTS_MAX + 1);
        assert!(sorted.windows(2).take(900).all(|pair| pair[0].span <= pair[1].span));
        assert_eq!(sorted.last().unwrap().message, "and 500 more of them");
    }
}
