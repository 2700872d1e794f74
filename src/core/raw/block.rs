//! A `compare:` block that stands alone, as a team's contract tests and `strangler compare` have it.

use crate::day::Day;
use crate::fault::Fault;
use crate::raw::compare::{RawCompare, compare};
use crate::raw::policy::Short;
use crate::raw::walk::Reader;
use crate::route::ComparePolicy;
use crate::tree::{Kind, Node};

/// Reads what stands below `compare:`, or a document whose only key that is; beside what the reader of the text has `found`. Rules
/// that have run out by `today` are warned of. `None`: it was refused.
pub fn read_compare(root: &Node, found: Vec<Fault>, today: Day) -> (Option<ComparePolicy>, Vec<Fault>) {
    let mut reader = Reader::default();
    for fault in found {
        reader.faults.push(fault);
    }
    let block = match &root.kind {
        Kind::Map(entries) => match entries.as_slice() {
            [entry] if *entry.key == *"compare" => &entry.value,
            _ => root,
        },
        Kind::Null | Kind::Bool { .. } | Kind::Number(_) | Kind::String(_) | Kind::Seq(_) => root,
    };
    let read = match compare(&mut reader, block) {
        Some(Short::On(raw)) => Some(raw),
        Some(Short::Off) => {
            reader.fault(block.span, "with `false` nothing would be compared");
            None
        }
        None => None,
    };
    for (span, rule, until) in read.iter().flat_map(|raw| raw.expired(today)) {
        let message = format!("this rule ran out on {until}, and forgives nothing any more");
        let fault = Fault::warning(span, format!("rules[{rule}]"), message);
        reader.faults.push(fault.with_help("take it out, or give it a later day"));
    }
    let is_refused = reader.faults.has_errors();
    let policy = read.filter(|_| !is_refused).map(|raw: RawCompare| raw.filled(None));
    (policy, reader.faults.into_sorted())
}
