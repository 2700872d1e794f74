//! Text inside markup, be it HTML or XML.

use std::fmt::{self, Display, Formatter, Write as _};

/// Text that is not markup: shown with `& < > " '` escaped, so safe between tags and inside quoted attributes.
pub struct Escaped<'text>(pub &'text str);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_markup_could_be_made_of_survives_escaping() {
        assert_eq!(Escaped(r#"<a href="x" id='y'>&"#).to_string(), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
    }
}
