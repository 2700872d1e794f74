//! Evidence in a file: what `strangler judge` reads, by the road that `routes.yaml` takes. JSON is read as the YAML that it is.

use strangler_core::fault::Fault;
use strangler_core::judge::{Evidence, Gates};
use strangler_core::raw::judge::read_evidence;
use strangler_core::tree::Span;

use crate::config::yaml;

/// What became of a text.
#[derive(Debug)]
pub struct LoadedEvidence {
    /// Gates and evidence; `None` when the text was refused.
    pub read: Option<(Gates, Evidence)>,
    /// Everything found, in the order of the file.
    pub faults: Vec<Fault>,
}

/// Reads a text.
pub fn load(text: &[u8]) -> LoadedEvidence {
    if text.trim_ascii().is_empty() {
        let fault = Fault::error(Span::default(), "", "there is nothing to judge");
        return LoadedEvidence {
            read: None,
            faults: vec![fault.with_help("no evidence at all is written `{}`, and is a hold")],
        };
    }
    let (root, faults) = yaml::read(text);
    let Some(root) = root else {
        return LoadedEvidence { read: None, faults };
    };
    let (read, faults) = read_evidence(&root, faults);
    LoadedEvidence { read, faults }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strangler_core::judge::{GateName, judge};

    fn faults(text: &str) -> String {
        let loaded = load(text.as_bytes());
        assert!(loaded.read.is_none(), "{text}");
        let said = loaded.faults.iter().map(|fault| format!("{}: {}: {}", fault.span.line, fault.path, fault.message));
        said.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once_and_where() {
        let text = r#"{
  "gates": {"errors": {"worse_by": "0.5%"}, "latency": {"more_slow_by": "0%"}, "eror": {}},
  "stages": [
    {"step": "1%", "weight": 0.05},
    {"weight": 5, "extracted": {"units": 10, "errors": 11}},
    {"extracted": {"units": -1, "slow_p50": 1.5}},
    {"step": "5%", "legacy": {"units": 10, "slow_p95": 11}}
  ],
  "comparisons": {"mismatched": 3},
  "stage": []
}"#;
        let expected = "\
2: gates.errors.worse_by: `0.5%`: percentage points are written with `pp`, as in `0.5pp`
2: gates.latency.more_slow_by: a tolerance of nothing can never be proven
2: gates.eror: unknown key `eror`
4: stages[0]: `step` says 1% and `weight` says 5%
5: stages[1].weight: `5` is no weight: those lie between 0 and 1, in steps of 0.0001
5: stages[1].extracted: more `errors` (11) than `units` (10)
6: stages[2]: which weight was it?
6: stages[2].extracted.units: expected a whole number from 0 to 4503599627370496, found `-1`
6: stages[2].extracted.slow_p50: expected a whole number, found `1.5`
7: stages[3].legacy: more `slow_p95` (11) than `timed` (10)
9: comparisons: of how many comparisons? write `compared`
10: stage: unknown key `stage`";
        assert_eq!(faults(text), expected);
    }

    #[test]
    fn shares_of_several_steps_are_named() {
        let of = |rest: &str| format!("{{stages: [{{weight: 0.01}}, {{weight: 5%}}], {rest}}}");
        assert!(faults(&of("assignments: {extracted: 1, legacy: 99}")).contains("several steps"));
        assert!(faults("{assignments: {extracted: 1, legacy: 99}}").contains("no split step"));
        let text = of("assignments: {1%: {extracted: 40, legacy: 990}, 5%: {extracted: 5, legacy: 95}}");
        let (gates, evidence) = load(text.as_bytes()).read.expect("it is taken");
        assert!(judge(&gates, &evidence).assignments.is_some_and(|split| split.is_alarm));
    }

    #[test]
    fn without_gates_those_are_judged_of_which_there_is_evidence() {
        for (text, names) in [
            ("{}", vec![GateName::Errors]),
            ("{stages: [{step: 1%}]}", vec![GateName::Errors]),
            ("{comparisons: {compared: 5}}", vec![GateName::Mismatch]),
            (
                "{stages: [{step: 1%, legacy: {units: 9, slow_p50: 4}}], comparisons: {compared: 5}, coverage: {passed: true}}",
                vec![GateName::Errors, GateName::Latency, GateName::Mismatch, GateName::Coverage],
            ),
        ] {
            let (gates, _) = load(text.as_bytes()).read.expect(text);
            assert_eq!(
                GateName::ALL.into_iter().filter(|name| gates.names(*name)).collect::<Vec<_>>(),
                names,
                "{text}"
            );
        }
    }

    #[test]
    fn a_verdict_is_found_again_from_its_record() {
        let text = r#"{
  "gates": {"errors": {"worse_by": "0.5pp"}, "latency": {}, "mismatch": {"at_most": "1%"}, "coverage": {"min_each": 5},
            "prometheus": [{"query": "up{job=\"x\"}", "max": 0.01}], "slo": {"success": "99.9%"}},
  "not_applicable": {"coverage": "unsafe methods are not compared"},
  "step": "5%",
  "stages": [
    {"step": "25%", "weight": 0.25, "extracted": {"units": 700, "errors": 4, "slow_p50": 350, "status_4xx": 3}, "legacy": {"units": 2100}},
    {"step": "5%", "weight": 0.05, "warmup": {"extracted": {"units": 5, "errors": 1}}, "seconds": 600,
     "extracted": {"units": 100, "errors": 1, "timed": 90, "slow_p95": 5}, "legacy": {"units": 1900, "errors": 9},
     "assignments": {"extracted": 100, "legacy": 1900}, "completions": {"extracted": 99, "legacy": 1898}}
  ],
  "comparisons": {"compared": 400, "mismatched": 1}, "before": {"units": 1000, "errors": 5}, "late_alarms": 1, "external": "met"
}"#;
        let (gates, evidence) = load(text.as_bytes()).read.expect("it is taken");
        let verdict = judge(&gates, &evidence);
        let record = serde_json::to_string(&verdict).expect("a record");
        let again = load(record.as_bytes());
        let (gates, evidence) = again.read.unwrap_or_else(|| panic!("{:?}", again.faults));
        assert_eq!(judge(&gates, &evidence), verdict);
        let alone = serde_json::to_string(&verdict.inputs()).expect("inputs");
        assert_eq!(load(alone.as_bytes()).read, Some((gates, evidence)));
    }
}
