//! `strangler judge` as a user runs it: counts in, a verdict out; exit 0 whatever it is.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::proxy::strangler;

/// Runs it with this text as the standard input.
fn judge(text: &str, flags: &[&str]) -> Output {
    let mut command = strangler();
    command.args(["judge", "-"]).args(flags);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end without having read.
    let _ = stdin.write_all(text.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn verdict(text: &str) -> Value {
    let output = judge(text, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn evidence_is_judged_to_nine_digits_in_any_order_of_steps() {
    let step = |weight: &str, extracted: u32, legacy: u32| {
        format!(r#"{{"weight": {weight}, "extracted": {{"errors": {extracted}}}, "legacy": {{"errors": {legacy}}}}}"#)
    };
    let (one, five, quarter) = (step("0.01", 2, 10), step("0.05", 4, 20), step("0.25", 12, 20));
    for (stages, gate, number, expected) in [
        (step("0.01", 1, 10), "errors", "log_e_harm", 0.670_095_22),
        (step("0.5", 60, 40), "errors", "log_e_harm", 0.534_767_395),
        (step("0.05", 37, 900), "errors", "log_e_pass", 7.814_409_997),
        (format!("{one}, {five}, {quarter}"), "errors", "log_e_harm", 2.874_940_919),
        (format!("{quarter}, {one}, {five}"), "errors", "log_e_harm", 2.874_940_919),
        (step("0", 3, 900) + "," + &step("1.0", 9, 0), "errors", "log_e_harm", 0.0),
    ] {
        let said = verdict(&format!(r#"{{"stages": [{stages}]}}"#));
        let got = said["gates"][gate][number].as_f64().unwrap();
        assert!((got - expected).abs() < 1e-9, "{stages}: {number} is {got}");
        assert_eq!(
            (said["verdict"].as_str(), said["reason"].as_str()),
            (Some("hold"), Some("insufficient")),
            "{stages}"
        );
    }
    for (mismatched, compared, above, below) in
        [(5, 1_000, 2.605_890_857, -2.637_948_64), (0, 5_000, -3.178_954_74, 4.174_933_122)]
    {
        let said = verdict(&format!(r#"{{"comparisons": {{"compared": {compared}, "mismatched": {mismatched}}}}}"#));
        let gate = &said["gates"]["mismatch"];
        let got = (gate["log_e_harm"].as_f64().unwrap(), gate["log_e_pass"].as_f64().unwrap());
        assert!((got.0 - above).abs() < 1e-9 && (got.1 - below).abs() < 1e-9, "{mismatched} of {compared}: {got:?}");
    }
    let split = r#"{"stages": [{"step": "1%"}], "assignments": {"extracted": 1150, "legacy": 99000}}"#;
    let said = verdict(split);
    assert!((said["assignments"]["log_e"].as_f64().unwrap() - 6.999_231_942).abs() < 1e-9);
    assert!((said["assignments"]["p"].as_f64().unwrap() - 0.000_912_582_612).abs() < 1e-9);
    assert_eq!(said["reason"], "srm");
}

#[test]
fn every_verdict_is_exit_0_and_is_found_again_from_its_record() {
    let of = |extracted: &str, legacy: &str| {
        format!(
            "gates: {{errors: {{worse_by: 1pp}}}}\nstages:\n- {{step: 5%, extracted: {extracted}, legacy: {legacy}}}\n"
        )
    };
    for (text, expected) in [
        (of("{units: 9000, errors: 45}", "{units: 171000, errors: 855}"), "promote"),
        (of("{units: 90, errors: 0}", "{units: 1710, errors: 9}"), "hold"),
        (of("{units: 2000, errors: 60}", "{units: 38000, errors: 190}"), "roll_back"),
    ] {
        let said = verdict(&text);
        assert_eq!(said["verdict"], expected, "{text}");
        assert_eq!(verdict(&said.to_string()), said);
    }
}

#[test]
fn people_are_told_what_it_waits_for_and_what_is_missing() {
    let text = "stages: [{step: 1%, extracted: {units: 100}, legacy: {units: 9900}, seconds: 2000}]";
    let output = judge(text, &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(said.starts_with("hold (insufficient): errors: waits for "), "{said}");
    assert!(said.contains("more requests of extracted (about "), "{said}");
    assert!(said.contains("not given: assignments (the split is not checked), completions"), "{said}");
}

#[test]
fn all_that_is_wrong_with_evidence_is_said_with_its_place() {
    let output = judge("{\"stages\": [{\"step\": \"1%\", \"weigth\": 0.01}],\n \"foo\": 1}\n", &["--format", "json"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0));
    for expected in
        ["1:28: error: stages[0].weigth: unknown key", "did you mean `weight`?", "2:2: error: foo", "2 errors"]
    {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let empty = judge("\n", &[]);
    assert!(String::from_utf8_lossy(&empty.stderr).contains("there is nothing to judge"));
    let dir = TempDir::new().unwrap();
    let gone = strangler().arg("judge").arg(dir.path().join("gone.json")).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    let usage = |flags: &[&str]| strangler().arg("judge").args(flags).output().unwrap().status.code();
    assert_eq!(
        (usage(&[]), usage(&["--simulate", "--rps", "0"]), usage(&["x", "--runs", "5"])),
        (Some(2), Some(2), Some(2))
    );
}

#[test]
fn a_simulation_is_the_same_for_the_same_seed() {
    let run = |seed: &str| {
        let flags = ["judge", "--simulate", "--runs", "4", "--rps", "1,50", "--seed", seed, "--format", "json"];
        let output = strangler().args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stderr).contains("16 of 16 rollouts"));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = run("7");
    assert_eq!(first, run("7"));
    assert_ne!(first, run("8"));
    let table: Value = serde_json::from_str(&first).unwrap();
    let cells = table["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    let bad = cells.iter().filter(|cell| cell["extracted_rate"] == 0.03);
    assert_eq!(bad.map(|cell| cell["promoted"].as_u64().unwrap()).sum::<u64>(), 0);
}
