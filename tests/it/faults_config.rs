//! Files that were right once and have been edited in a hurry: never a panic, never two readings.

use std::path::Path;

use proptest::prelude::*;
use strangler::config::{load, server};

/// Files that are right, as they are shipped.
const SHIPPED: [&str; 5] = [
    "routes.yaml",
    "deploy/compose/routes.yaml",
    "deploy/kubernetes/routes.yaml",
    "deploy/kubernetes/strangler.yaml",
    "deploy/systemd/strangler.yaml",
];

/// What a hurried hand does to a file: each names two places by a share of it.
#[derive(Clone, Debug)]
enum Slip {
    LineTwice(usize),
    LineGone(usize),
    LinesSwapped(usize, usize),
    Indented(usize, usize),
    Cut(usize),
    Typed(usize, String),
    Copied(usize, usize),
}

fn slips() -> impl Strategy<Value = Slip> {
    let at = 0usize..10_000;
    prop_oneof![
        at.clone().prop_map(Slip::LineTwice),
        at.clone().prop_map(Slip::LineGone),
        (at.clone(), at.clone()).prop_map(|(a, b)| Slip::LinesSwapped(a, b)),
        (at.clone(), 0usize..9).prop_map(|(a, by)| Slip::Indented(a, by)),
        at.clone().prop_map(Slip::Cut),
        (at.clone(), "[-:{}\\[\\]&*!|>'\"%#,~@` \t\n0-9a-z\u{0}\u{e9}]{1,3}")
            .prop_map(|(a, text)| Slip::Typed(a, text)),
        (at.clone(), at).prop_map(|(a, b)| Slip::Copied(a, b)),
    ]
}

fn slipped(text: &str, slips: &[Slip]) -> Vec<u8> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for slip in slips {
        let count = lines.len().max(1);
        match slip {
            Slip::LineTwice(at) => {
                if let Some(line) = lines.get(at % count).cloned() {
                    lines.insert(at % count, line);
                }
            }
            Slip::LineGone(at) if lines.len() > 1 => drop(lines.remove(at % count)),
            Slip::LinesSwapped(a, b) if !lines.is_empty() => lines.swap(a % count, b % count),
            Slip::Indented(at, by) => {
                if let Some(line) = lines.get_mut(at % count) {
                    *line = format!("{}{}", " ".repeat(*by), line.trim_start());
                }
            }
            Slip::Cut(at) => lines.truncate(at % count + 1),
            Slip::Typed(at, typed) => {
                if let Some(line) = lines.get_mut(at % count) {
                    let place = line.char_indices().nth(at / count % 40).map_or(line.len(), |(place, _)| place);
                    line.insert_str(place, typed);
                }
            }
            Slip::Copied(from, to) => {
                let block: Vec<String> = lines.iter().skip(from % count).take(4).cloned().collect();
                let to = to % count;
                lines.splice(to..to, block);
            }
            Slip::LineGone(_) | Slip::LinesSwapped(..) => {}
        }
    }
    lines.join("\n").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_file_that_was_edited_in_a_hurry_is_refused_or_means_one_thing(
        which in 0..SHIPPED.len(), slips in proptest::collection::vec(slips(), 0..4),
    ) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED[which]);
        let text = slipped(&std::fs::read_to_string(&path).expect("it is shipped"), &slips);
        if SHIPPED[which].ends_with("strangler.yaml") {
            let (once, again) = (server::load(&text, &path), server::load(&text, &path));
            prop_assert!(once.asked.is_some() || !once.faults.is_empty(), "refused without a word");
            prop_assert!(!slips.is_empty() || once.asked.is_some(), "it is shipped: {:?}", once.faults);
            prop_assert_eq!(once.asked, again.asked);
            prop_assert_eq!(once.faults, again.faults);
        } else {
            let (once, again) = (load(&text), load(&text));
            prop_assert!(once.table.is_some() || once.errors() > 0, "refused without a word");
            prop_assert!(!slips.is_empty() || once.table.is_some(), "it is shipped: {:?}", once.faults);
            let shown = |loaded: &strangler::config::Loaded| loaded.table.as_ref().map(|table| format!("{table:?}"));
            prop_assert_eq!(shown(&once), shown(&again));
            prop_assert_eq!(once.faults, again.faults);
        }
    }

    #[test]
    fn no_bytes_break_the_reader_of_the_servers_file(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let loaded = server::load(&bytes, Path::new("strangler.yaml"));
        prop_assert!(loaded.asked.is_some() || !loaded.faults.is_empty());
    }
}
