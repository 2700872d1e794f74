//! The token that every change needs, and the count of wrong ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "admin-token";
/// Shortest token that is taken from a file, in bytes.
pub const TOKEN_BYTES_MIN: usize = 16;
/// Most tokens of a file: several are for changing them one after the other.
pub const TOKENS_MAX: usize = 8;
/// Wrong tokens of one source in a minute before it is answered 429.
pub const FAILURES_MAX: u32 = 10;

const FILE_BYTES_MAX: u64 = 16 << 10;
const SOURCES_MAX: usize = 1_024;
const WINDOW: Duration = Duration::from_secs(60);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the admin token {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot make the admin token {}", path.display())]
    Make {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing in it, or too short a token, or too many.
    #[error(
        "the admin token {} must hold 1 to {TOKENS_MAX} lines of at least {TOKEN_BYTES_MIN} visible characters each",
        path.display()
    )]
    Bad {
        /// Which file.
        path: PathBuf,
    },
}

/// The hashes of the tokens that are let in; the tokens themselves are not kept.
#[derive(Clone)]
pub struct AdminTokens {
    digests: Vec<[u8; 32]>,
}

impl std::fmt::Debug for AdminTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminTokens").field("count", &self.digests.len()).finish()
    }
}

impl AdminTokens {
    /// Reads the file, one token a line, `#` begins a comment. A file that others may read is said.
    pub fn read(path: &Path) -> Result<AdminTokens, TokenError> {
        let text = read_bounded(path).map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
        if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
            tracing::warn!(file = %path.display(), "others may read the admin token; make it 0600");
        }
        let tokens = tokens(&text);
        let is_good =
            |token: &&str| token.len() >= TOKEN_BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
        if tokens.is_empty() || tokens.len() > TOKENS_MAX || !tokens.iter().all(is_good) {
            return Err(TokenError::Bad { path: path.to_owned() });
        }
        Ok(AdminTokens { digests: tokens.iter().map(|token| Sha256::digest(token).into()).collect() })
    }

    /// Reads `<state-dir>/admin-token`, or makes it with 256 random bits, readable by the owner only. Answers whether it was made.
    pub fn read_or_make(state_dir: &Path) -> Result<(AdminTokens, PathBuf, bool), TokenError> {
        let path = state_dir.join(FILE_NAME);
        let is_made = match make(state_dir, &path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            // On a disk that is read-only the one that is there still counts.
            Err(_) if path.exists() => false,
            Err(source) => return Err(TokenError::Make { path, source }),
        };
        AdminTokens::read(&path).map(|tokens| (tokens, path, is_made))
    }

    /// Whether `token` is one of them. Takes as long for any wrong one.
    pub fn allow(&self, token: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let any = self.digests.iter().fold(Choice::from(0), |any, own| any | own.ct_eq(&digest));
        any.into()
    }
}

/// The first token of a file, for whoever wants to be let in.
pub fn first_token(path: &Path) -> Result<String, TokenError> {
    let text = read_bounded(path).map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
    let token = tokens(&text).first().map(|token| (*token).to_owned());
    token.ok_or_else(|| TokenError::Bad { path: path.to_owned() })
}

fn tokens(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Written whole beside its place and linked there, so that nobody reads half of it and two starts agree on one.
fn make(state_dir: &Path, path: &Path) -> io::Result<()> {
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    if !state_dir.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    }
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let beside = state_dir.join(format!(".{FILE_NAME}.{}", std::process::id()));
    let written = (|| {
        let _ = fs::remove_file(&beside);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        writeln!(file, "{}", URL_SAFE_NO_PAD.encode(random))?;
        file.sync_all()?;
        fs::hard_link(&beside, path)
    })();
    let _ = fs::remove_file(&beside);
    written
}

/// Wrong tokens of each source within the last minute. A right token is let in whatever its source did before: a kill must not wait
/// because someone else on the machine is guessing 256 bits.
#[derive(Debug, Default)]
pub struct Failures {
    by_source: Mutex<BTreeMap<IpAddr, (Instant, u32)>>,
}

impl Failures {
    /// Counts one, and answers whether it is one too many.
    pub fn count(&self, source: IpAddr, now: Instant) -> bool {
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if by_source.len() >= SOURCES_MAX && !by_source.contains_key(&source) {
            by_source.retain(|_, (since, _)| now.saturating_duration_since(*since) < WINDOW);
            if by_source.len() >= SOURCES_MAX {
                return true;
            }
        }
        let (since, count) = by_source.entry(source).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        let (tokens, path, is_made) = AdminTokens::read_or_make(&state_dir).unwrap();
        assert!(is_made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = first_token(&path).unwrap();
        assert_eq!(token.len(), 43, "256 bits in base64");
        assert!(tokens.allow(token.as_bytes()) && !tokens.allow(b"another") && !tokens.allow(b""));
        let (again, _, is_made) = AdminTokens::read_or_make(&state_dir).unwrap();
        assert!(!is_made && again.allow(token.as_bytes()));
        assert_eq!(fs::read_dir(&state_dir).unwrap().count(), 1, "nothing is left beside it");
        assert!(!format!("{tokens:?}").contains(&token));
    }

    #[test]
    fn two_tokens_are_good_while_one_takes_the_place_of_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "# until December\n0123456789abcdef\n\nfedcba9876543210\n").unwrap();
        let tokens = AdminTokens::read(&path).unwrap();
        assert!(tokens.allow(b"0123456789abcdef") && tokens.allow(b"fedcba9876543210"));
        for bad in ["", "short", "# only a comment", &"0123456789abcdef\n".repeat(9), "0123456789 abcdef"] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(AdminTokens::read(&path), Err(TokenError::Bad { .. })), "{bad:?}");
        }
        assert!(matches!(AdminTokens::read(&dir.path().join("none")), Err(TokenError::Read { .. })));
    }

    #[test]
    fn the_eleventh_failure_of_a_minute_is_one_too_many() {
        let (failures, start) = (Failures::default(), Instant::now());
        let source = |n: u8| IpAddr::from([127, 0, 0, n]);
        assert!((0..10).all(|_| !failures.count(source(1), start)));
        assert!(failures.count(source(1), start));
        assert!(!failures.count(source(2), start), "another source has its own count");
        assert!(!failures.count(source(1), start + WINDOW));
    }
}
