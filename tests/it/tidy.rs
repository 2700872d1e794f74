//! The house rules that no lint can hold, held here. Each rule is a pure function over text, and each is shown to bite at the bottom.
//!
//! A failure says the file, the line, the rule and the reason for it. To change a rule, change it here, with its reason.

mod rules;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    /// From 1; 0 is the file as a whole.
    line: usize,
    what: String,
    why: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.file, self.line, self.what, self.why)
    }
}

#[test]
fn imports_of_the_shell_point_one_way() {
    let files = sources("src", "rs");
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    nothing_found(
        files
            .iter()
            .filter(|file| !file.path.starts_with("src/core/"))
            .flat_map(|file| rules::shell_arrows(file, &paths)),
    );
}

#[test]
fn modules_of_the_core_name_only_those_above_them() {
    let files = sources("src/core", "rs");
    let lib = files.iter().find(|file| file.path == "src/core/lib.rs").expect("the core has a lib.rs");
    let order = rules::core_order(lib);
    assert!(order.shipped.len() > 5, "the order of the core's modules was not found in src/core/lib.rs");
    nothing_found(files.iter().flat_map(|file| rules::core_arrows(file, &order)));
}

#[test]
fn the_core_depends_on_nothing_that_acts() {
    nothing_found(rules::core_dependencies(&read("src/core/Cargo.toml")));
}

#[test]
fn one_file_names_the_yaml_library() {
    nothing_found(sources("src", "rs").iter().flat_map(rules::yaml_in_one_place));
}

#[test]
fn no_source_file_is_a_swamp() {
    nothing_found(sources("src", "rs").iter().filter_map(rules::not_too_long));
}

#[test]
fn nothing_is_left_undone_silently() {
    let roots = ["src", "tests", "benches", "legacy-monolith", "extracted"];
    nothing_found(roots.iter().flat_map(|root| sources(root, "rs")).flat_map(|file| rules::nothing_undone(&file)));
}

#[test]
fn files_named_in_the_documents_exist() {
    let exists = |path: &str| repository().join(path).exists();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        nothing_found(rules::named_files_exist(&read(name), exists));
    }
}

#[test]
fn the_architecture_fits_in_150_lines() {
    nothing_found(rules::at_most_lines(&read("ARCHITECTURE.md"), 150));
}

#[test]
fn metrics_named_outside_exist_inside() {
    let telemetry: Vec<Source> =
        sources("src", "rs").into_iter().filter(|file| file.path.starts_with("src/telemetry")).collect();
    let documents = ["README.md", "ARCHITECTURE.md"].map(read);
    let deployed = ["yaml", "yml", "json", "rules"].into_iter().flat_map(|kind| sources("deploy", kind));
    nothing_found(deployed.chain(documents).flat_map(|file| rules::metrics_exist(&file, &telemetry)));
}

fn nothing_found(findings: impl IntoIterator<Item = Finding>) {
    let lines: Vec<String> = findings.into_iter().map(|finding| finding.to_string()).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Source {
    let text =
        fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    Source::new(path, &text)
}

/// All files below `root` with that ending, build output left aside; none when `root` is not there.
fn sources(root: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(root)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(repository().join(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == ending) {
                found.push(read(&path.to_string_lossy()));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
