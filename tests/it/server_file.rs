//! `strangler.yaml` and the built binary: what wins over what, what is refused, and how that is told.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::proxy::strangler;

/// A started proxy, its first lines read until it serves; killed when dropped.
struct Started {
    child: Child,
    told: Vec<String>,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(command: &mut Command) -> Started {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut told = Vec::new();
    for line in lines.by_ref() {
        let is_last = line.starts_with("admin on ");
        told.push(line);
        if is_last {
            // Whoever writes on must find a reader.
            std::thread::spawn(move || lines.count());
            return Started { child, told };
        }
    }
    let _ = child.wait();
    panic!("it did not start:\n{}", told.join("\n"));
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn a_flag_wins_over_its_variable_and_both_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "routes.yaml", "version: 1\nlegacy: http://127.0.0.1:1\n");
    write(
        dir.path(),
        "strangler.yaml",
        "listeners: [{address: 127.0.0.1:0}, {address: 127.0.0.1:0}]\nadmin: {address: 127.0.0.1:0}\nstate_dir: by-file\ntelemetry: {access_log: {format: off}}\n",
    );
    let run = || {
        let mut command = strangler();
        command.arg("run").arg("--routes").arg(dir.path().join("routes.yaml"));
        command.env("STRANGLER_CONFIG", dir.path().join("strangler.yaml"));
        command
    };
    let listeners = |started: &Started| started.told.iter().filter(|line| line.starts_with("listening on ")).count();

    let by_file = start(&mut run());
    assert_eq!(listeners(&by_file), 2);
    assert!(dir.path().join("by-file/admin-token").exists(), "relative to the file that names it");

    let by_variable =
        start(run().env("STRANGLER_STATE_DIR", dir.path().join("by-variable")).env("STRANGLER_LISTEN", "127.0.0.1:0"));
    assert_eq!(listeners(&by_variable), 1);
    assert!(dir.path().join("by-variable/admin-token").exists());

    let by_flag = start(
        run()
            .env("STRANGLER_STATE_DIR", dir.path().join("unused"))
            .arg("--state-dir")
            .arg(dir.path().join("by-flag"))
            .args(["--listen", "{address: 127.0.0.1:0, max_connections: 5}", "--listen", "127.0.0.1:0,127.0.0.1:0"]),
    );
    assert_eq!(listeners(&by_flag), 3);
    assert!(dir.path().join("by-flag/admin-token").exists());
    assert!(!dir.path().join("unused").exists());
}

#[test]
fn a_refused_file_ends_the_start_with_every_fault() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "routes.yaml", "version: 1\nlegacy: http://127.0.0.1:1\n");
    write(dir.path(), "strangler.yaml", "listners: []\nthreads: 0\nfleet: {}\n");
    let run = |arguments: &[&str]| {
        let mut command = strangler();
        command.current_dir(dir.path()).arg("run").args(["--routes", "routes.yaml", "--state-dir", "state"]);
        let output =
            command.args(["--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };

    let (code, told) = run(&["--config", "strangler.yaml"]);
    assert_eq!(code, Some(78), "{told}");
    for part in ["strangler.yaml:1:1", "did you mean `listeners`?", ":2:10", "`fleet` is not supported yet", "^"] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    assert!(!dir.path().join("state").exists(), "nothing was begun");

    let (code, told) = run(&["--config", "gone.yaml"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("cannot read gone.yaml"), "{told}");

    let (code, told) = run(&["--listen", "{adress: 127.0.0.1:0}"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("--listen:1:2") && told.contains("did you mean `address`?"), "{told}");
}

#[test]
fn check_tells_about_either_file_or_both() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "routes.yaml", "version: 1\nlegacy: http://127.0.0.1:1\n");
    write(dir.path(), "good.yaml", "threads: 2\n");
    write(dir.path(), "bad.yaml", "thread: 2\n");
    let check = |arguments: &[&str]| {
        let output = strangler().current_dir(dir.path()).arg("check").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    assert_eq!(check(&["--config", "good.yaml"]), (Some(0), "good.yaml: good\n".to_owned()));
    let (code, told) = check(&["--config", "bad.yaml"]);
    assert!(code == Some(78) && told.contains("did you mean `threads`?"), "{told}");
    let (code, told) = check(&["routes.yaml", "--config", "good.yaml"]);
    assert!(code == Some(0) && told.contains("good.yaml: good") && told.contains("0 routes"), "{told}");
    let (code, told) = check(&["routes.yaml", "--config", "bad.yaml", "--format", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["faults"][0]["file"]), (Some(78), &serde_json::json!("bad.yaml")));
    let (code, told) = check(&[]);
    assert!(code == Some(0) && told.starts_with("routes.yaml: good"), "{told}");
}

#[test]
fn check_finds_certificates_that_a_listener_could_not_begin_with() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        write(dir.path(), &format!("{name}.crt"), &made.cert.pem());
        write(dir.path(), &format!("{name}.key"), &made.signing_key.serialize_pem());
    };
    made("a");
    made("b");
    for (cert, key, expect) in [
        ("a.crt", "a.key", "good"),
        ("a.crt", "b.key", "listeners[1].tls: the certificate a.crt cannot be used with the key b.key"),
        ("none.crt", "a.key", "cannot read none.crt"),
        ("a.key", "a.key", "no usable certificate in a.key"),
    ] {
        let tls = format!("{{certificates: [{{cert: {cert}, key: {key}}}]}}");
        let text = format!("listeners:\n  - address: 127.0.0.1:1\n  - address: 127.0.0.1:2\n    tls: {tls}\n");
        write(dir.path(), "s.yaml", &text);
        let output = strangler().current_dir(dir.path()).args(["check", "--config", "s.yaml"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(if expect == "good" { 0 } else { 78 }), "{told}");
        assert!(told.contains(expect), "{told}");
        assert!(expect == "good" || told.contains("s.yaml:4:"), "{told}");
    }
}

#[test]
fn the_schema_takes_what_the_loader_takes() {
    let schema = strangler().args(["schema", "--config"]).output().unwrap().stdout;
    let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let holds = |text: &str| validator.is_valid(&serde_yaml::from_str::<serde_json::Value>(text).unwrap());
    assert!(holds("listeners: [{address: '127.0.0.1:1', tls: {certificates: [{cert: a, key: b}]}}]\nthreads: 2\n"));
    assert!(holds("drain: {delay: 5s}\nlimits: {header_bytes: 32KiB}\nreplicas: 1\n"));
    assert!(!holds("thread: 2\n"));
    assert!(!holds("fleet: {}\n"));
    assert!(!holds("listeners: [{protocol: h2c}]\n"));
}
