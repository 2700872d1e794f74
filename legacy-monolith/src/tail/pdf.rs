//! The smallest PDF that a viewer opens: one page of text lines in Helvetica.

use std::fmt::Write as _;

/// Lines that one page holds; what is more is cut, with a last line that says so.
const LINES_MAX: usize = 52;

/// Builds a PDF of one A4 page.
///
/// `created_at` is RFC 3339 in UTC and goes into the document's properties: two copies of one invoice differ in it.
pub(super) fn document(title: &str, created_at: &str, lines: &[String]) -> Vec<u8> {
    let text = page_text(lines);
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        format!("<< /Title ({}) /CreationDate (D:{}Z) >>", quoted(title), digits(created_at)),
    ];

    let mut document = String::from("%PDF-1.4\n");
    let mut offsets = Vec::with_capacity(objects.len());
    for (index, object) in objects.iter().enumerate() {
        offsets.push(document.len());
        put(&mut document, format_args!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let table = document.len();
    let count = objects.len() + 1;
    put(&mut document, format_args!("xref\n0 {count}\n0000000000 65535 f \n"));
    for offset in offsets {
        put(&mut document, format_args!("{offset:010} 00000 n \n"));
    }
    put(
        &mut document,
        format_args!("trailer\n<< /Size {count} /Root 1 0 R /Info 6 0 R >>\nstartxref\n{table}\n%%EOF\n"),
    );
    document.into_bytes()
}

fn page_text(lines: &[String]) -> String {
    let mut text = String::from("BT /F1 11 Tf 14 TL 56 786 Td");
    for line in lines.iter().take(LINES_MAX) {
        put(&mut text, format_args!("\n({}) Tj T*", quoted(line)));
    }
    if lines.len() > LINES_MAX {
        text.push_str("\n(\\(more lines are not shown\\)) Tj T*");
    }
    text.push_str("\nET");
    text
}

/// A PDF string: the three characters with a meaning are escaped, and what is no ASCII becomes `?`, since Helvetica
/// here has no glyphs for most names in the data set.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '(' | ')' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted
}

/// `2026-11-21T10:31:08Z` as `20261121103108`, which is how a PDF writes time.
fn digits(time: &str) -> String {
    time.chars().filter(char::is_ascii_digit).take(14).collect()
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cross_reference_table_points_at_the_objects() {
        let bytes =
            document("Invoice 7", "2026-11-21T10:31:08Z", &["Total (EUR) 97.81".to_owned(), "Ümlaut".to_owned()]);
        let text = String::from_utf8(bytes).expect("a PDF of ASCII");

        assert!(text.starts_with("%PDF-1.4\n") && text.ends_with("%%EOF\n"));
        assert!(text.contains("(D:20261121103108Z)"));
        assert!(text.contains("(Total \\(EUR\\) 97.81) Tj") && text.contains("(?mlaut) Tj"));
        let table = text.find("xref\n").expect("a table");
        assert!(text.contains(&format!("startxref\n{table}\n")));
        for (index, entry) in text[table..].lines().filter(|line| line.ends_with(" n ")).enumerate() {
            let offset: usize = entry[..10].parse().expect("ten digits");
            assert!(text[offset..].starts_with(&format!("{} 0 obj\n", index + 1)), "{entry}");
        }
    }

    #[test]
    fn a_long_invoice_is_cut_and_says_so() {
        let lines = vec!["x".to_owned(); 60];

        let text = String::from_utf8(document("t", "2026-11-21T10:31:08Z", &lines)).expect("ASCII");

        assert_eq!(text.matches("(x) Tj").count(), LINES_MAX);
        assert!(text.contains("not shown"));
    }
}
