//! A `compare:` block in a file of its own: what `strangler compare --rules` reads, by the road that `routes.yaml` takes.

use strangler_core::fault::Fault;
use strangler_core::raw::block::read_compare;
use strangler_core::route::ComparePolicy;

use crate::config::{today, yaml};

/// What became of a text.
#[derive(Debug)]
pub struct LoadedCompare {
    /// The policy; `None` when the text was refused.
    pub policy: Option<ComparePolicy>,
    /// Everything found, in the order of the file.
    pub faults: Vec<Fault>,
}

/// Reads a block. One that says nothing is every default.
pub fn load(text: &[u8]) -> LoadedCompare {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    if lines.all(|line| line.is_empty() || line.starts_with(b"#")) {
        return LoadedCompare { policy: Some(ComparePolicy::default()), faults: Vec::new() };
    }
    let (root, faults) = yaml::read(text);
    let Some(root) = root else {
        return LoadedCompare { policy: None, faults };
    };
    let (policy, faults) = read_compare(&root, faults, today());
    LoadedCompare { policy, faults }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_with_its_key_or_without_and_faults_stand_at_their_lines() {
        for text in ["", "# nothing\n\n", "rules: []", "compare: {rules: []}", "compare: true"] {
            assert_eq!(load(text.as_bytes()).policy, Some(ComparePolicy::default()), "{text:?}");
        }
        let said = |text: &str| {
            let loaded = load(text.as_bytes());
            let faults =
                loaded.faults.iter().map(|fault| format!("{}: {}: {}", fault.span.line, fault.path, fault.message));
            (loaded.policy.is_some(), faults.collect::<Vec<_>>().join("\n"))
        };
        assert_eq!(
            said("rules:\n- {path: /a, ignore: true}\n- {path: b, ignore: true}\nruls: []\n"),
            (false, "3: rules[1].path: \"b\": a pointer begins with `/`\n4: ruls: unknown key `ruls`".to_owned())
        );
        assert_eq!(said("- a").1, "1: : expected `true`, `false` or a map; found a list");
        assert_eq!(said("false").1, "1: : with `false` nothing would be compared");
        let expired = said("rules:\n- {path: /a, ignore: true, until: 2020-01-01}\n");
        assert_eq!(
            expired,
            (true, "2: rules[0]: this rule ran out on 2020-01-01, and forgives nothing any more".to_owned())
        );
    }
}
