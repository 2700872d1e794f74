//! What is started when this process is to be replaced: the same path, where by then another binary may lie.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A command line.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

impl Program {
    /// To be asked for at start, while the binary still lies where it was started from.
    pub(super) fn of_this_process() -> Program {
        let mut words = env::args_os();
        let called = words.next().unwrap_or_default();
        let binary = env::current_exe().unwrap_or_else(|_| PathBuf::from(&called));
        let from = env::current_dir().unwrap_or_default();
        let path = called_path(&called, &binary, &from, env::var_os("PATH").as_deref());
        Program { path: path.unwrap_or(binary), arguments: words.collect() }
    }
}

/// The path by which the binary was called: a link that is moved to another version is followed anew, which the binary's own path is
/// not. `None` when what it was called is not where it is.
fn called_path(called: &OsStr, binary: &Path, from: &Path, search: Option<&OsStr>) -> Option<PathBuf> {
    let is_binary = |path: &PathBuf| path.canonicalize().ok() == binary.canonicalize().ok();
    if Path::new(called).components().count() > 1 {
        return Some(from.join(called)).filter(is_binary);
    }
    env::split_paths(search?).map(|folder| from.join(folder).join(called)).find(|path| path.is_file()).filter(is_binary)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_link_is_started_as_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("strangler-1"), "").unwrap();
        fs::write(at("other"), "").unwrap();
        std::os::unix::fs::symlink(at("strangler-1"), at("strangler")).unwrap();
        let called =
            |name: &str| called_path(OsStr::new(name), &at("strangler-1"), dir.path(), Some(dir.path().as_os_str()));
        assert_eq!(called("./strangler"), Some(dir.path().join("./strangler")));
        assert_eq!(called("strangler"), Some(at("strangler")), "found as the shell found it");
        assert_eq!(called(at("strangler").to_str().unwrap()), Some(at("strangler")));
        assert_eq!(called("other"), None);
        assert_eq!(called("./gone"), None);
    }
}
