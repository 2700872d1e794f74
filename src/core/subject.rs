//! A certificate's subject as a header's value: RFC 4514, in ASCII alone, so that no subject can say what it is not.

/// The field that carries a client's subject to upstreams. Like everything that begins so, it is removed from what clients send.
pub const CLIENT_SUBJECT: &str = "strangler-client-subject";

/// Longest subject that is told; a longer one is cut off by nobody but left out.
pub const SUBJECT_BYTES_MAX: usize = 4 << 10;

/// One attribute of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its object identifier, dotted.
    pub oid: &'a str,
    /// Its value where that is text, else its encoding.
    pub value: AttributeValue<'a>,
}

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// Text.
    Text(&'a str),
    /// DER.
    Bytes(&'a [u8]),
}

/// Names of RFC 4514 §3 and one that everybody uses.
const SHORT: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// `CN=alice,O=Example`: the parts of a subject, as they stand in the certificate, written last first. `None` when there are none
/// or when they are too long.
pub fn distinguished_name(parts: &[Vec<Attribute<'_>>]) -> Option<String> {
    let mut out = String::new();
    for part in parts.iter().rev() {
        for (at, attribute) in part.iter().enumerate() {
            if !out.is_empty() {
                out.push(if at == 0 { ',' } else { '+' });
            }
            let name = SHORT.iter().find(|(oid, _)| *oid == attribute.oid).map_or(attribute.oid, |(_, name)| name);
            out.push_str(name);
            out.push('=');
            match attribute.value {
                AttributeValue::Text(text) => escape(text, &mut out),
                AttributeValue::Bytes(bytes) => {
                    out.push('#');
                    for byte in bytes {
                        hex(*byte, &mut out);
                    }
                }
            }
            if out.len() > SUBJECT_BYTES_MAX {
                return None;
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

/// RFC 4514 §2.4: what has a meaning is escaped, what is not printable ASCII is written as the hexadecimal of its bytes.
fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                out.push('\\');
                hex(byte, out);
            }
        }
    }
}

fn hex(byte: u8, out: &mut String) {
    for digit in [byte >> 4, byte & 15] {
        out.extend(char::from_digit(u32::from(digit), 16).map(|digit| digit.to_ascii_uppercase()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'a>(oid: &'a str, value: &'a str) -> Attribute<'a> {
        Attribute { oid, value: AttributeValue::Text(value) }
    }

    #[test]
    fn a_subject_is_written_last_part_first() {
        let parts = [vec![text("2.5.4.10", "Example")], vec![text("2.5.4.3", "alice"), text("2.5.4.11", "ops")]];
        assert_eq!(distinguished_name(&parts).unwrap(), "CN=alice+OU=ops,O=Example");
        assert_eq!(distinguished_name(&[]), None);
    }

    #[test]
    fn no_value_can_pass_for_another_part() {
        for (value, expect) in [
            ("alice,O=admins", "CN=alice\\,O\\=admins"),
            ("#x", "CN=\\#x"),
            (" a ", "CN=\\ a\\ "),
            ("a\r\nx: 1", "CN=a\\0D\\0Ax: 1"),
            ("é", "CN=\\C3\\A9"),
            ("", "CN="),
        ] {
            assert_eq!(distinguished_name(&[vec![text("2.5.4.3", value)]]).unwrap(), expect);
        }
        let odd = Attribute { oid: "1.2.3", value: AttributeValue::Bytes(&[4, 0xab]) };
        assert_eq!(distinguished_name(&[vec![odd]]).unwrap(), "1.2.3=#04AB");
        assert_eq!(distinguished_name(&[vec![text("2.5.4.3", &"x".repeat(SUBJECT_BYTES_MAX))]]), None);
    }
}
