//! The rules. Each takes text and answers what is wrong with it.

use super::Finding;
use super::source::Source;

/// Who may name whom as `crate::x`. The data goes round in a ring; imports do not: `run` hands each part one end of a channel.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["run", "args", "cli"]),
    (
        "run",
        &[
            "args",
            "cli",
            "proxy",
            "shadow",
            "rollout",
            "hooks",
            "admin",
            "config",
            "live",
            "store",
            "telemetry",
            "upstream",
        ],
    ),
    // The verbs that ask a running proxy: they know what the admin port says, and nothing of what is behind it.
    ("cli", &["args", "admin"]),
    ("args", &[]),
    ("proxy", LOW),
    ("shadow", LOW),
    ("rollout", LOW),
    ("hooks", LOW),
    ("admin", LOW),
    ("config", LOW),
    ("live", &[]),
    ("store", &[]),
    ("telemetry", &[]),
    ("upstream", &[]),
];
const LOW: &[&str] = &["live", "store", "telemetry", "upstream"];

/// What would let the core act, or see a clock.
const ACTING: &[&str] = &["tokio", "pingora", "hyper", "arc-swap", "prometheus", "tracing", "sqlx", "axum", "notify"];

const LINES_MAX: usize = 600;
/// Files over [`LINES_MAX`] that may stay so, each with its reason. Keep it empty.
const LONG_FILES: &[&str] = &[];

/// A file of the shell names only what its module may.
pub(crate) fn shell_arrows(file: &Source, all_paths: &[&str]) -> Vec<Finding> {
    const WHY: &str = "main → run → {proxy, shadow, rollout, hooks, admin, config} → {live, store, telemetry, upstream} → core; see ARCHITECTURE.md";
    let Some(own) = top_module(&file.path) else { return Vec::new() };
    if own == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(module, _)| *module == own) else {
        return vec![finding(
            file,
            0,
            format!("module `{own}` has no place among the arrows of tests/it/tidy/rules.rs"),
            WHY,
        )];
    };
    let has_child = |name: &str| all_paths.iter().any(|path| is_in(path, &format!("src/{own}/{name}")));
    let mut findings = Vec::new();
    for (number, line) in file.shipped_code() {
        let mut named = names_after(line, "crate::");
        if own == "main" {
            named.extend(names_after(line, "strangler::"));
        }
        // `super::store` in src/proxy.rs is `crate::store`, unless proxy has a child of that name.
        let depth = file.path.matches('/').count();
        named.extend(names_after(line, &"super::".repeat(depth)).into_iter().filter(|name| !has_child(name)));
        for name in named {
            let is_module = ARROWS.iter().any(|(module, _)| *module == name);
            if is_module && name != own && !allowed.contains(&name.as_str()) {
                findings.push(finding(file, number, format!("`{own}` names `{name}`"), WHY));
            }
        }
    }
    findings
}

/// The modules of the core, in the order of its lib.rs.
pub(crate) struct CoreOrder {
    pub(crate) shipped: Vec<String>,
    /// Declared below `#[cfg(test)]`; they may name anything.
    tests_only: Vec<String>,
}

/// Reads it off lib.rs.
pub(crate) fn core_order(lib: &Source) -> CoreOrder {
    let mut order = CoreOrder { shipped: Vec::new(), tests_only: Vec::new() };
    let mut is_test = false;
    for line in lib.code.lines().map(str::trim) {
        let module =
            ["pub mod ", "pub(crate) mod ", "mod "].iter().find_map(|it| line.strip_prefix(it)?.strip_suffix(';'));
        match module {
            Some(module) if is_test => order.tests_only.push(module.to_owned()),
            Some(module) => order.shipped.push(module.to_owned()),
            None => {}
        }
        // Attributes pile up above what they are for.
        is_test = line.starts_with("#[cfg(test)]") || (is_test && line.starts_with("#["));
    }
    order
}

/// A module of the core names only those above it in lib.rs, each on a line of its own.
pub(crate) fn core_arrows(file: &Source, order: &CoreOrder) -> Vec<Finding> {
    const WHY: &str =
        "lib.rs lists the core's modules in the way of the data, and a module knows only what comes before it";
    let inside = file.path.trim_start_matches("src/core/").trim_end_matches(".rs");
    let own = inside.split('/').next().unwrap_or_default();
    if own == "lib" || file.is_tests() || order.tests_only.iter().any(|module| module == own) {
        return Vec::new();
    }
    let Some(place) = order.shipped.iter().position(|module| module == own) else {
        return vec![finding(file, 0, format!("module `{own}` is not in src/core/lib.rs"), WHY)];
    };
    let mut findings = Vec::new();
    for (number, line) in file.shipped_code() {
        if line.contains("use crate::{") {
            findings.push(finding(
                file,
                number,
                "several modules in one `use`".to_owned(),
                "one `use crate::part::…` a line: a diff shows which part is new",
            ));
        }
        for name in names_after(line, "crate::") {
            if order.shipped.iter().position(|module| *module == name).is_some_and(|other| other > place) {
                findings.push(finding(file, number, format!("`{own}` names `{name}`, which stands below it"), WHY));
            }
        }
    }
    findings
}

/// The core's manifest has no library that acts.
pub(crate) fn core_dependencies(manifest: &Source) -> Vec<Finding> {
    let is_acting = |name: &str| ACTING.iter().any(|it| name == *it || name.starts_with(&format!("{it}-")));
    let found = manifest.lines().filter_map(|(number, line)| {
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let why = "the core decides and cannot act: no I/O, no clock, no runtime, so that its tests need none";
        is_acting(name).then(|| finding(manifest, number, format!("the core depends on `{name}`"), why))
    });
    found.collect()
}

/// One file knows the YAML library.
pub(crate) fn yaml_in_one_place(file: &Source) -> Vec<Finding> {
    if file.path == "src/config/yaml.rs" {
        return Vec::new();
    }
    let found = file.code_lines().filter(|(_, line)| line.contains("serde_saphyr")).map(|(number, _)| {
        let why = "only src/config/yaml.rs names it: YAML libraries come and go";
        finding(file, number, "`serde_saphyr` is named".to_owned(), why)
    });
    found.collect()
}

/// No file is so long that all later code goes there.
pub(crate) fn not_too_long(file: &Source) -> Option<Finding> {
    let lines = file.text.lines().count();
    let is_too_long = lines > LINES_MAX && !LONG_FILES.contains(&file.path.as_str());
    is_too_long.then(|| {
        let what = format!("{lines} lines, more than {LINES_MAX}");
        finding(file, lines, what, "a file that long is where all later code goes: part it by what it knows")
    })
}

/// Notes to do have an issue, and nothing pretends to be there.
pub(crate) fn nothing_undone(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        // Written in two parts, so that this file does not find itself.
        for note in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            let is_note = |at: usize| is_word(line, at, note.len()) && !has_issue(&line[at + note.len()..]);
            if line.match_indices(note).any(|(at, _)| is_note(at)) {
                let what = format!("`{note}` without an issue: write `{note}(#12)`");
                findings.push(finding(file, number, what, "what nobody tracks is never done"));
            }
        }
    }
    for (number, line) in file.code_lines() {
        for gap in ["todo!", "unimplemented!", "#[ignore"] {
            if line.contains(gap) {
                let why = "what is not built is refused or not offered; a test that does not run proves nothing";
                findings.push(finding(file, number, format!("`{gap}`"), why));
            }
        }
    }
    findings
}

/// Files named in backticks or as link targets exist.
pub(crate) fn named_files_exist(document: &Source, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in document.lines() {
        let quoted = line.split('`').skip(1).step_by(2);
        let linked = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for name in quoted.chain(linked).filter(|name| is_repository_path(name)) {
            let path = name.trim_start_matches("./").split('#').next().unwrap_or_default();
            if !exists(path) {
                let what = format!("`{name}` is not in the repository");
                findings.push(finding(document, number, what, "a document that names what is gone misleads"));
            }
        }
    }
    findings
}

/// Whether a word of a document speaks of a file that the repository has: it begins with one of its folders, or is a
/// document at the root.
fn is_repository_path(word: &str) -> bool {
    const FOLDERS: [&str; 7] = ["src/", "tests/", "benches/", "deploy/", "legacy-monolith/", "extracted/", ".ci/"];
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./#".contains(c));
    let word = word.trim_start_matches("./").split('#').next().unwrap_or_default();
    let is_at_root = !word.contains('/')
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.split_once('.').is_some_and(|(_, ending)| ending == "md");
    is_plain && (is_at_root || FOLDERS.iter().any(|folder| word.starts_with(folder)))
}

/// A document stays short enough to be read.
pub(crate) fn at_most_lines(document: &Source, most: usize) -> Option<Finding> {
    let lines = document.text.lines().count();
    (lines > most).then(|| {
        finding(document, lines, format!("{lines} lines, more than {most}"), "a bird's-eye view fits on two screens")
    })
}

/// Metrics that dashboards, alerts and documents name are ones that telemetry has.
pub(crate) fn metrics_exist(file: &Source, telemetry: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for (at, _) in line.match_indices("strangler_") {
            let name: String =
                line[at..].chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect();
            let is_whole = is_word(line, at, name.len()) && KINDS.iter().any(|kind| name.ends_with(kind));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            let is_known =
                |file: &Source| [name.as_str(), base].iter().any(|it| file.text.contains(&format!("\"{it}\"")));
            if is_whole && !telemetry.iter().any(is_known) {
                let why = "a dashboard over a metric that is not there is empty, and looks calm";
                findings.push(finding(file, number, format!("the metric `{name}` is not in src/telemetry"), why));
            }
        }
    }
    findings
}

/// How a metric's name ends, so that `strangler_core` or `strangler_id` are not taken for one.
const KINDS: [&str; 12] = [
    "_total",
    "_seconds",
    "_bucket",
    "_sum",
    "_count",
    "_ratio",
    "_in_flight",
    "_info",
    "_state",
    "_stale",
    "_successful",
    "_killed",
];

fn finding(file: &Source, line: usize, what: String, why: &'static str) -> Finding {
    Finding { file: file.path.clone(), line, what, why }
}

/// `src/proxy.rs` and `src/proxy/…` are `proxy`; the core is not of the shell.
fn top_module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    (name != "core").then_some(name)
}

fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The names that directly follow `prefix` in a line, those of a `{group}` included.
fn names_after(line: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        // `super::crate::` is no Rust; `super::super::` is, and is asked for by its own length.
        if !is_boundary(line[..at].chars().next_back()) || line[..at].ends_with("::") {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            names.extend(group_heads(group));
        } else {
            names.extend(first_word(rest));
        }
    }
    names
}

/// The first word of each part of `a::{b, c}, d}`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut part = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(first_word(std::mem::take(&mut part).trim_start())),
            _ if depth == 0 => part.push(c),
            _ => {}
        }
    }
    heads.extend(first_word(part.trim_start()));
    heads
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn is_boundary(c: Option<char>) -> bool {
    !c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_word(line: &str, at: usize, len: usize) -> bool {
    is_boundary(line[..at].chars().next_back()) && is_boundary(line[at + len..].chars().next())
}

fn has_issue(after: &str) -> bool {
    after.strip_prefix("(#").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the findings.
    fn lines(findings: impl IntoIterator<Item = Finding>) -> Vec<usize> {
        findings.into_iter().map(|finding| finding.line).collect()
    }

    fn shell(path: &str, text: &str) -> Vec<usize> {
        lines(shell_arrows(&Source::new(path, text), &["src/proxy.rs", "src/proxy/store.rs"]))
    }

    #[test]
    fn parts_of_one_layer_may_not_name_each_other() {
        assert_eq!(shell("src/proxy/serve.rs", "use crate::live::Live;\nuse crate::admin::Api;\n"), [2]);
        assert_eq!(shell("src/admin.rs", "fn f() { crate::proxy::x() }"), [1]);
    }

    #[test]
    fn nothing_may_name_what_is_above_it() {
        assert_eq!(
            shell("src/store/sqlite.rs", "use crate::store::Store;\nuse crate::{config::Load, store::{A, run}};"),
            [2]
        );
        assert_eq!(shell("src/live.rs", "pub fn f(x: crate::telemetry::X) {}"), [1]);
        assert_eq!(shell("src/run.rs", "use crate::proxy::Proxy;\nuse crate::main::X;"), [2]);
        assert_eq!(
            shell(
                "src/main.rs",
                "use strangler::run::run;\nuse strangler::proxy::Proxy;\nuse strangler_core::side::Side;"
            ),
            [2]
        );
    }

    #[test]
    fn the_way_round_by_super_is_seen() {
        assert_eq!(shell("src/admin.rs", "use super::proxy::X;"), [1]);
        assert_eq!(shell("src/admin/api.rs", "use super::proxy::X;\nuse super::super::proxy::X;"), [2]);
        assert_eq!(shell("src/proxy.rs", "use super::store::A;"), [0_usize; 0]);
    }

    #[test]
    fn prose_and_tests_may_name_anything() {
        assert_eq!(
            shell("src/live.rs", "//! See [`crate::proxy`].\n#[cfg(test)]\nmod tests { use crate::proxy; }"),
            [0_usize; 0]
        );
    }

    #[test]
    fn a_module_without_a_place_is_found() {
        assert_eq!(shell("src/helpers.rs", ""), [0]);
    }

    #[test]
    fn a_module_of_the_core_may_not_name_one_below_it() {
        let order = core_order(&Source::new(
            "src/core/lib.rs",
            "//! pub mod no;\npub mod name;\npub mod route;\npub mod table;\n#[cfg(test)]\nmod samples;\n",
        ));
        assert_eq!(order.shipped, ["name", "route", "table"]);
        let found = |path: &str, text: &str| lines(core_arrows(&Source::new(path, text), &order));
        assert_eq!(found("src/core/route.rs", "use crate::name::A;\nuse crate::table::B;\n"), [2]);
        assert_eq!(found("src/core/route/edit.rs", "fn f(x: crate::table::B) {}\n"), [1]);
        assert_eq!(found("src/core/table.rs", "use crate::{name, route};\n"), [1]);
        assert_eq!(found("src/core/stray.rs", ""), [0]);
        assert_eq!(found("src/core/samples.rs", "use crate::table::B;"), [0_usize; 0]);
    }

    #[test]
    fn a_library_that_acts_is_found_in_the_core() {
        let manifest =
            "[dependencies]\nhttp.workspace = true\ntokio = \"1\"\npingora-core.workspace = true\nhyper-util = { }\n";
        assert_eq!(lines(core_dependencies(&Source::new("src/core/Cargo.toml", manifest))), [3, 4, 5]);
    }

    #[test]
    fn the_yaml_library_is_found_outside_its_file() {
        let text = "// serde_saphyr\nuse serde_saphyr::Spanned;\n";
        assert_eq!(lines(yaml_in_one_place(&Source::new("src/config.rs", text))), [2]);
        assert_eq!(lines(yaml_in_one_place(&Source::new("src/config/yaml.rs", text))), [0_usize; 0]);
    }

    #[test]
    fn a_swamp_is_found() {
        assert!(not_too_long(&Source::new("src/a.rs", &"x\n".repeat(LINES_MAX))).is_none());
        assert!(not_too_long(&Source::new("src/a.rs", &"x\n".repeat(LINES_MAX + 1))).is_some());
    }

    #[test]
    fn undone_work_is_found() {
        let note = concat!("TO", "DO");
        let text = format!(
            "// {note}: later\n// {note}(#7): later\n// {note}S\nfn f() {{ todo!() }}\n#[ignore]\n\"unimplemented!\"\n"
        );
        assert_eq!(lines(nothing_undone(&Source::new("src/a.rs", &text))), [1, 4, 5]);
    }

    #[test]
    fn a_file_that_a_document_names_must_exist() {
        let text =
            "See `src/gone.rs`, `src/here.rs`, [how](GONE.md#part), `make demo`, `src/{a,b}.rs`, `GET /src/x`.\n";
        let findings = named_files_exist(&Source::new("README.md", text), |path| path == "src/here.rs");
        let names: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(names, ["`src/gone.rs` is not in the repository", "`GONE.md#part` is not in the repository"]);
    }

    #[test]
    fn a_document_that_grows_is_found() {
        assert!(at_most_lines(&Source::new("ARCHITECTURE.md", "x\n"), 1).is_none());
        assert!(at_most_lines(&Source::new("ARCHITECTURE.md", "x\nx\n"), 1).is_some());
    }

    #[test]
    fn a_metric_that_is_not_there_is_found() {
        let telemetry = [Source::new(
            "src/telemetry.rs",
            "const A: &str = \"strangler_requests_total\"; \"strangler_wait_seconds\"",
        )];
        let text = "strangler_requests_total{route=\"a\"}\nstrangler_wait_seconds_bucket\nstrangler_gone_total\nstrangler_core, strangler_id\n";
        assert_eq!(lines(metrics_exist(&Source::new("deploy/a.yaml", text), &telemetry)), [3]);
    }
}
