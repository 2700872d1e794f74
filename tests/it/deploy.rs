//! What `deploy/` says is so: each file parses, what it names is there, and the unit's command line serves.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use http::Method;
use serde::Deserialize as _;
use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::proxy::{PATIENCE, Proxy, strangler};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

/// Every file below `deploy/` with one of these endings.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if endings.iter().any(|ending| path.extension().is_some_and(|it| it == *ending)) {
                found.push(path);
            }
        }
    }
    found
}

fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents.map(|document| Value::deserialize(document).unwrap()).collect()
}

fn yaml(path: &str) -> Value {
    documents(&read(path)).remove(0)
}

/// A unit file: section, key, value, in its order.
fn unit(path: &str) -> Vec<(String, String, String)> {
    let (text, mut section, mut found) = (read(path), String::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: no assignment: {line}"));
            assert!(!section.is_empty(), "{path}: outside of any section: {line}");
            found.push((section.clone(), key.to_owned(), value.to_owned()));
        }
    }
    found
}

fn value<'a>(unit: &'a [(String, String, String)], key: &str) -> &'a str {
    &unit.iter().find(|(_, own, _)| own == key).unwrap_or_else(|| panic!("{key} is not in the unit")).2
}

/// Words of a list in JSON or YAML.
fn words(list: &Value) -> Vec<String> {
    let word = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    list.as_array().unwrap().iter().map(word).collect()
}

/// Instructions of a Dockerfile that are written as a list, by name.
fn instructions(name: &str) -> Vec<Vec<String>> {
    let text = read("Dockerfile");
    let lines = text.lines().filter(|line| line.split_whitespace().any(|word| word == name));
    let list = |line: &str| Some(words(&serde_json::from_str(line.get(line.find('[')?..)?).ok()?));
    lines.filter_map(list).collect()
}

/// Every command line of our program that `deploy/` has, without the program.
fn command_lines() -> Vec<(&'static str, Vec<String>)> {
    let compose = yaml("compose.yaml");
    let deployment = yaml("kubernetes/deployment.yaml");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let unit = unit("systemd/strangler.service");
    let exec: Vec<String> = value(&unit, "ExecStart").split_whitespace().map(str::to_owned).collect();
    let mut lines = vec![
        ("compose.yaml", words(&compose["services"]["strangler"]["command"])),
        ("kubernetes/deployment.yaml", words(&container["args"])),
        ("systemd/strangler.service", exec[1..].to_vec()),
    ];
    for list in instructions("CMD") {
        let own = if list[0] == "/usr/local/bin/strangler" { list[1..].to_vec() } else { list };
        lines.push(("Dockerfile", own));
    }
    lines
}

fn help(verb: &str) -> String {
    let output = strangler().args([verb, "--help"]).output().unwrap();
    assert!(output.status.success(), "there is no `strangler {verb}`");
    String::from_utf8(output.stdout).unwrap()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').any(|it| it == word)
}

#[test]
fn every_file_parses() {
    let mut parsed = 0;
    for path in files(&["yaml", "yml"]) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!documents(&text).is_empty(), "{}", path.display());
        parsed += 1;
    }
    for path in files(&["json"]) {
        let text = fs::read_to_string(&path).unwrap();
        serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        parsed += 1;
    }
    for name in ["systemd/strangler.service", "systemd/strangler.socket"] {
        let sections: BTreeSet<String> = unit(name).into_iter().map(|(section, ..)| section).collect();
        assert!(sections.contains("Unit") && sections.contains("Install"), "{name}: {sections:?}");
        parsed += 1;
    }
    assert!(parsed >= 15, "{parsed}");
}

#[test]
fn configurations_are_what_the_loader_takes() {
    let mut checked = 0;
    for path in files(&["yaml"]) {
        let mut command = strangler();
        command.arg("check");
        let kind = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_ours = !path.components().any(|part| part.as_os_str() == "grafana");
        match (kind.as_str(), is_ours) {
            ("routes.yaml", true) => command.arg(&path),
            ("strangler.yaml", true) => command.arg("--config").arg(&path),
            _ => continue,
        };
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && !told.contains("warning"), "{told}");
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn every_flag_and_variable_exists() {
    let run = help("run");
    for (file, line) in command_lines() {
        let help = help(&line[0]);
        for word in line.iter().filter(|word| word.starts_with("--")) {
            let flag = word.split('=').next().unwrap();
            assert!(has_word(&help, flag), "{file}: `strangler {}` has no {flag}", line[0]);
        }
    }
    for path in files(&["yaml", "service", "md"]).into_iter().chain([folder().join("Dockerfile")]) {
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("STRANGLER_") {
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            assert!(has_word(&run, &name), "{}: there is no {name}", path.display());
        }
    }
    // The services' flags are their own.
    let chassis = include_str!("../../extracted/chassis/src/service.rs");
    let services = yaml("compose.yaml")["services"].clone();
    for name in ["monolith", "pricing", "payment"] {
        for flag in words(&services[name]["command"]).iter().filter_map(|word| word.strip_prefix("--")) {
            assert!(chassis.contains(&format!("pub {flag}: ")), "compose.yaml: {name} has no --{flag}");
        }
    }
}

/// A word that follows another in a command line.
fn after<'a>(line: &'a [String], flag: &str) -> &'a str {
    let at = line.iter().position(|word| word == flag).unwrap_or_else(|| panic!("{flag} is not in {line:?}"));
    &line[at + 1]
}

fn port(address: &str) -> u64 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn ports_agree_with_each_other() {
    let compose = yaml("compose.yaml");
    let command = words(&compose["services"]["strangler"]["command"]);
    let published = compose["services"]["strangler"]["ports"][0].as_str().unwrap();
    assert_eq!(port(published), port(after(&command, "--listen")));
    let scraped = &yaml("prometheus/prometheus.yaml")["scrape_configs"][0];
    let target = scraped["static_configs"][0]["targets"][0].as_str().unwrap();
    assert_eq!(target, format!("strangler:{}", port(after(&command, "--telemetry"))));
    let routes = read("compose/routes.yaml");
    for name in ["monolith", "pricing", "payment"] {
        let command = words(&compose["services"][name]["command"]);
        assert!(routes.contains(&format!("http://{name}:{}", port(after(&command, "--listen")))), "{name}");
    }

    let image = instructions("CMD").into_iter().find(|list| list[0] == "run").unwrap();
    let exposed = read("Dockerfile").lines().find_map(|line| Some(line.strip_prefix("EXPOSE ")?.to_owned())).unwrap();
    assert_eq!(exposed, format!("{} {}", port(after(&image, "--listen")), port(after(&image, "--telemetry"))));

    let config = yaml("kubernetes/strangler.yaml");
    let pod = yaml("kubernetes/deployment.yaml")["spec"]["template"].clone();
    let ports = &pod["spec"]["containers"][0]["ports"];
    let named =
        |name: &str| ports.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap()["containerPort"].clone();
    assert_eq!(named("http"), port(config["listeners"][0]["address"].as_str().unwrap()));
    assert_eq!(named("telemetry"), port(config["telemetry"]["address"].as_str().unwrap()));
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], named("telemetry").to_string());
    assert_eq!(yaml("kubernetes/service.yaml")["spec"]["ports"][0]["targetPort"], "http");

    let (socket, config) = (unit("systemd/strangler.socket"), yaml("systemd/strangler.yaml"));
    assert_eq!(value(&socket, "ListenStream"), config["listeners"][0]["address"]);
}

#[test]
fn those_who_stop_it_wait_as_long_as_it_drains() {
    let seconds = |text: &str| text.strip_suffix('s').unwrap().parse::<u64>().unwrap();
    let drain = |config: &Value| {
        seconds(config["drain"]["delay"].as_str().unwrap()) + seconds(config["drain"]["deadline"].as_str().unwrap())
    };
    let pod = yaml("kubernetes/deployment.yaml")["spec"]["template"]["spec"].clone();
    let before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    let patience = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(patience > before + drain(&yaml("kubernetes/strangler.yaml")));
    let patience = seconds(value(&unit("systemd/strangler.service"), "TimeoutStopSec"));
    assert!(patience > drain(&yaml("systemd/strangler.yaml")));
}

#[test]
fn what_is_mounted_is_what_is_named() {
    let container = yaml("kubernetes/deployment.yaml")["spec"]["template"]["spec"]["containers"][0].clone();
    let mounts: Vec<String> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap().to_owned())
        .collect();
    let is_mounted = |path: &str| mounts.iter().any(|mount| Path::new(path).starts_with(mount));
    let config = yaml("kubernetes/strangler.yaml");
    let args = words(&container["args"]);
    for path in [after(&args, "--config"), after(&args, "--routes")]
        .into_iter()
        .chain([&config["state_dir"], &config["keys_file"]].into_iter().filter_map(Value::as_str))
    {
        assert!(is_mounted(path), "{path} is in no volume: {mounts:?}");
    }
    let files = words(&yaml("kubernetes/kustomization.yaml")["configMapGenerator"][0]["files"]);
    assert_eq!(files, ["routes.yaml", "strangler.yaml"]);
    let unit = unit("systemd/strangler.service");
    let state = format!("/var/lib/{}", value(&unit, "StateDirectory"));
    assert_eq!(yaml("systemd/strangler.yaml")["state_dir"], state);
    for resource in words(&yaml("kubernetes/kustomization.yaml")["resources"]) {
        assert!(folder().join("kubernetes").join(&resource).exists(), "{resource}");
    }
}

#[tokio::test]
async fn probes_ask_what_is_answered() {
    let legacy = Backend::answering(200, "legacy").await;
    let proxy = Proxy::between(&legacy, &legacy).start().await;
    let pod = yaml("kubernetes/deployment.yaml")["spec"]["template"].clone();
    let container = &pod["spec"]["containers"][0];
    let mut paths = vec![pod["metadata"]["annotations"]["prometheus.io/path"].clone()];
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "telemetry", "{probe}");
        paths.push(container[probe]["httpGet"]["path"].clone());
    }
    paths.push(yaml("prometheus/prometheus.yaml")["scrape_configs"][0]["metrics_path"].clone());
    for path in paths {
        assert_eq!(proxy.admin(Method::GET, path.as_str().unwrap(), "").await.status, 200, "{path}");
    }
}

#[test]
fn every_metric_of_the_dashboard_exists() {
    let telemetry = include_str!("../../src/telemetry/metrics.rs");
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/strangler.json")).unwrap();
    let mut named = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            for (at, _) in query.match_indices("strangler_") {
                let name: String = query[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                named.insert(name.strip_suffix("_bucket").map(str::to_owned).unwrap_or(name));
            }
        }
    }
    for name in &named {
        assert!(telemetry.contains(&format!("\"{name}\"")), "the dashboard names {name}");
    }
    assert!(named.len() > 15, "{named:?}");
    let source = &yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]["uid"];
    assert_eq!(dashboard["panels"][0]["datasource"]["uid"], *source);
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As a service manager would: its command line, a socket of its own, and the wait for READY=1.
#[tokio::test]
async fn the_command_line_of_the_unit_serves() {
    let legacy = Backend::answering(200, "legacy").await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let config = read("systemd/strangler.yaml")
        .replace("0.0.0.0:80}", "127.0.0.1:0}")
        .replace("127.0.0.1:9901", "127.0.0.1:0")
        .replace("/var/lib/strangler", &at("state"));
    fs::write(at("strangler.yaml"), format!("{config}admin: {{address: 127.0.0.1:0}}\n")).unwrap();
    fs::write(at("routes.yaml"), format!("version: 1\nlegacy: {}\n", legacy.url())).unwrap();
    let manager = UnixDatagram::bind(at("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();

    let service = unit("systemd/strangler.service");
    assert_eq!(value(&service, "Type"), "notify");
    let line = value(&service, "ExecStart").replace("/etc/strangler/", &format!("{}/", dir.path().display()));
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/strangler"));
    let mut command = strangler();
    command.args(words).env("NOTIFY_SOCKET", at("notify")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());

    let mut told = [0u8; 256];
    let length = manager.recv(&mut told).expect("READY=1 was never said");
    assert!(told[..length].starts_with(b"READY=1"));
    assert!(Path::new(&at("state")).join("admin-token").exists());
    let reload = value(&service, "ExecReload");
    assert!(reload.contains("-HUP"), "{reload}");
    let pid = running.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(tokio::task::spawn_blocking(move || running.0.wait().unwrap().success()).await.unwrap());
}
