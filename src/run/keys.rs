//! The keys file: what signs overrides and hides values in stored divergences. Made on first start, 0600; the same on every
//! replica.
//!
//! One key a line, `#` begins a comment: `signing <id> <64 hex digits>` (the first one signs, all verify) and
//! `redaction <64 hex digits>`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use strangler_core::override_token::SigningKey;

/// Name of the file in the state directory when none is given.
pub const FILE_NAME: &str = "keys";

/// Largest keys file, in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// Keys of the process.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The first one signs, all verify.
    pub signing: Vec<SigningKey>,
    /// Keys the hashes that stand for values.
    pub redaction: [u8; 32],
}

/// Why the keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the keys file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not what it should be. What stands there is not shown: it may be a key.
    #[error("{}:{line}: expected `signing <id> <64 hex digits>` or `redaction <64 hex digits>`", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// A kind of key is missing.
    #[error("{}: there is no `{kind}` key", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// Which kind.
        kind: &'static str,
    },
    /// The system has no randomness.
    #[error("cannot draw a key")]
    Random(#[source] io::Error),
}

/// Reads the keys, or makes the file when it is not there.
///
/// A file that cannot be written (a read-only state directory) is no error: the keys then last as long as the process, and
/// the second value says why.
pub fn load_or_make(path: &Path) -> Result<(Keys, Option<io::Error>), KeysError> {
    let read = fs::metadata(path).and_then(|found| {
        if found.len() > BYTES_MAX { Err(io::Error::other("larger than 64 KiB")) } else { fs::read_to_string(path) }
    });
    match read {
        Ok(text) => Ok((parse(&text, path)?, None)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let keys = Keys { signing: vec![SigningKey { id: "k1".into(), secret: draw()? }], redaction: draw()? };
            Ok((keys.clone(), write(path, &keys).err()))
        }
        Err(source) => Err(KeysError::Read { path: path.to_owned(), source }),
    }
}

fn parse(text: &str, path: &Path) -> Result<Keys, KeysError> {
    let (mut signing, mut redaction) = (Vec::new(), None);
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let bad = || KeysError::Line { path: path.to_owned(), line: at + 1 };
        match words.as_slice() {
            [] => {}
            ["signing", id, secret] if is_id(id) => {
                signing.push(SigningKey { id: (*id).to_owned(), secret: unhex(secret).ok_or_else(bad)? });
            }
            ["redaction", secret] => redaction = Some(unhex(secret).ok_or_else(bad)?),
            _ => return Err(bad()),
        }
    }
    let missing = |kind| KeysError::Missing { path: path.to_owned(), kind };
    if signing.is_empty() {
        return Err(missing("signing"));
    }
    Ok(Keys { signing, redaction: redaction.ok_or_else(|| missing("redaction"))? })
}

fn is_id(id: &str) -> bool {
    (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(out)
}

fn draw() -> Result<[u8; 32], KeysError> {
    let mut key = [0u8; 32];
    getrandom::fill(&mut key).map_err(|error| KeysError::Random(io::Error::other(error.to_string())))?;
    Ok(key)
}

fn write(path: &Path, keys: &Keys) -> io::Result<()> {
    let hex = |key: &[u8; 32]| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text =
        "# Signs overrides and hides values in stored divergences. The same on every replica; keep it secret.\n"
            .to_owned();
    for key in &keys.signing {
        text += &format!("signing {} {}\n", key.id, hex(&key.secret));
    }
    text += &format!("redaction {}\n", hex(&keys.redaction));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let (made, _) = load_or_make(&path).unwrap();
        let (read, _) = load_or_make(&path).unwrap();
        assert_eq!((made.redaction, made.signing[0].secret), (read.redaction, read.signing[0].secret));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        let path = Path::new("keys");
        let error = parse("signing k1 secretsecret\n", path).unwrap_err().to_string();
        assert!(error.contains("keys:1") && !error.contains("secretsecret"), "{error}");
        assert!(matches!(parse("", path), Err(KeysError::Missing { kind: "signing", .. })));
    }
}
