//! `strangler compare` as a user runs it: files in, a verdict and an exit status out.

use std::io::Write as _;
use std::process::{Output, Stdio};

use tempfile::TempDir;

use crate::support::proxy::strangler;

/// Runs it on two texts with these file names; `-` is given on the standard input.
fn compare(files: [(&str, &str); 2], rules: Option<&str>, flags: &[&str]) -> Output {
    let dir = TempDir::new().unwrap();
    let mut command = strangler();
    command.arg("compare").current_dir(dir.path());
    let mut input = "";
    for (name, text) in files {
        if name == "-" {
            input = text;
        } else {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        command.arg(name);
    }
    if let Some(rules) = rules {
        std::fs::write(dir.path().join("rules.yaml"), rules).unwrap();
        command.args(["--rules", "rules.yaml"]);
    }
    command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end without having read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn status_and_text(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stdout.clone()).unwrap())
}

#[test]
fn equal_is_0_different_is_1_and_trouble_is_2() {
    let json = &["--format", "json"];
    let (left, right) = (r#"{"items": [{"id": 7, "price": 1.50}]}"#, r#"{"items": [{"id": 7, "price": 2}]}"#);
    let same = compare([("l.json", left), ("r.json", r#"{"items":[{"price":1.5,"id":7}]}"#)], None, json);
    assert_eq!(status_and_text(&same), (0, "{\"equal\":true,\"differences\":[]}\n".to_owned()));

    let rules = "rules:\n- {path: /items, array_key: id}\n- {path: /items/*/price, tolerance: {abs: 0.1}}\n";
    let different = compare([("l.json", left), ("-", right)], Some(rules), json);
    let said = r#"{"equal":false,"differences":[{"path":"/items/[id=7]/price","kind":"value","left":1.50,"right":2,"rule":1}]}"#;
    assert_eq!(status_and_text(&different), (1, format!("{said}\n")));

    let both = [("l.json", left), ("r.json", right)];
    let refused = "rules:\n- {path: items, ignore: true}\n";
    for (output, why) in [
        (strangler().args(["compare", "nowhere.json", "-"]).output().unwrap(), "cannot read nowhere.json"),
        (compare([("-", left), ("-", right)], None, json), "not both"),
        (compare(both, Some(refused), json), "rules.yaml:2:10: error: rules[0].path"),
        (compare(both, Some("body: {max_bytes: 4}\n"), json), ""),
    ] {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{why}: {error}");
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn a_type_is_told_by_the_flag_the_name_or_the_content() {
    let page = ["<p>a</p><p>b</p>", "<p>a</p>\n\n<!-- new --><p>c</p>"];
    let place = |names: [&str; 2], texts: [&str; 2], flags: &[&str]| {
        let flags: Vec<&str> = flags.iter().chain(&["--format", "json"]).copied().collect();
        let output = compare([(names[0], texts[0]), (names[1], texts[1])], None, &flags);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let places = said["differences"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap().to_owned());
        places.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(place(["l", "r"], page, &["--type", "html"]), "/body/p[1]/text()");
    assert_eq!(place(["l.html", "r"], page, &[]), "/body/p[1]/text()");
    assert_eq!(place(["l", "r"], ["<a><b>1</b></a>", "<a><b>2</b></a>"], &[]), "/a/b[0]/text()");
    assert_eq!(place(["l", "r"], ["a=1&b=2", "b=3&a=1"], &[]), "/b");
    assert_eq!(place(["l", "r"], ["one\ntwo", "one\nzwei"], &[]), "/1");
    assert_eq!(place(["l", "r"], ["{\"a\": 1}", "no json"], &[]), "");
    assert_eq!(place(["l.txt", "r.txt"], ["{\"a\": 1}", "{\"a\":1}"], &[]), "");
    assert_eq!(place(["l.txt", "r.txt"], ["{\"a\": 1}", "{\"a\":1}"], &["--type", "json"]), "");
}

#[test]
fn whole_answers_are_compared_by_status_headers_and_body() {
    let left = r#"{"status": 200, "headers": {"vary": "accept", "date": "a"}, "body": {"id": 9007199254740993}}"#;
    let right = r#"{"status": 404, "headers": {"vary": "cookie", "date": "b"}, "body": {"id": 9007199254740992}}"#;
    let output = compare([("l", left), ("r", right)], None, &["--http"]);
    let (status, text) = status_and_text(&output);
    assert_eq!(status, 1);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            vec!["place", "kind", "left", "right", "rule"],
            vec!["status", "status", "200", "404"],
            vec!["header:vary", "header", "\"accept\"", "\"cookie\""],
            vec!["/id", "value", "9007199254740993", "9007199254740992"],
        ]
    );
    let broken = compare([("l", left), ("r", "{\"body\": 1}")], None, &["--http"]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&broken.stderr).contains("`status` is missing"));
}
