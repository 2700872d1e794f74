//! What [`Framing`] hands on, held against another reader of the same bytes.

use super::*;
use crate::fixture::raw_bytes::{RawInput, RawInputs};
use crate::fixture::strict_reading::{StrictEnd, StrictReading, read};

/// Inputs of a run; all of a million by `RAW_INPUTS=1000000`.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is no decision of the core")]
fn inputs() -> usize {
    std::env::var("RAW_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
struct HandedOn {
    /// Bytes, from the first on.
    bytes: usize,
    /// Where heads begin and end, told by what is handed on at once: only a head is held back until it is whole.
    heads: Vec<(usize, usize)>,
    refusal: Option<Refusal>,
    is_amid: bool,
}

/// Feeds the pieces as a reader does: what is not taken comes again. No service switches protocols here.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> HandedOn {
    let mut framing = Framing::new(HeadBounds::default());
    let mut handed = HandedOn { bytes: 0, heads: Vec::new(), refusal: None, is_amid: false };
    let mut kept: Vec<u8> = Vec::new();
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            let (whole, refusal) = match framing.feed(&kept) {
                Ok(whole) => (whole, None),
                Err(refused) => (refused.whole, Some(refused.refusal)),
            };
            if whole > 1 {
                handed.heads.push((handed.bytes, handed.bytes + whole));
            }
            handed.bytes += whole;
            kept.drain(..whole);
            if refusal.is_some() {
                return HandedOn { refusal, is_amid: framing.is_amid(), ..handed };
            }
            if !framing.is_switching() {
                break;
            }
            framing.switched(false);
            if kept.is_empty() {
                break;
            }
        }
    }
    HandedOn { is_amid: framing.is_amid(), ..handed }
}

/// What is wrong with how an input was taken, if anything.
fn fault_of(input: &RawInput) -> Option<String> {
    let at_once = feed([input.bytes.as_slice()]);
    let in_pieces = feed(input.pieces());
    let by_bytes = feed(input.bytes.chunks(1));
    for other in [&at_once, &in_pieces] {
        // Of two faults in one line, the one that shows first is told: the status may not depend on it.
        if other.refusal.map(Refusal::status) != by_bytes.refusal.map(Refusal::status) {
            return Some(format!("refused for {:?}, byte by byte for {:?}", other.refusal, by_bytes.refusal));
        }
        // The sound bytes of a body that is refused later on go ahead when they come ahead.
        let is_alike = if by_bytes.refusal.is_some() {
            other.bytes <= by_bytes.bytes
        } else {
            (other.bytes, other.is_amid) == (by_bytes.bytes, by_bytes.is_amid)
        };
        if !is_alike {
            return Some(format!("{other:?}, but byte by byte {by_bytes:?}"));
        }
    }
    for handed in [at_once.bytes, in_pieces.bytes] {
        let reading = read(input.bytes.get(..handed).unwrap_or_default());
        if matches!(reading.end, StrictEnd::Wrong(_) | StrictEnd::InHead) {
            return Some(format!("the other reader: {reading:?}"));
        }
    }
    let StrictReading { requests, end } = read(input.bytes.get(..by_bytes.bytes).unwrap_or_default());
    if let Some(request) = requests.iter().find(|request| Uri::try_from(request.target.as_slice()).is_err()) {
        return Some(format!("the library does not take {}", request.target.escape_ascii()));
    }
    let mut heads: Vec<(usize, usize)> = requests.iter().map(|request| (request.spans.0, request.spans.1)).collect();
    let is_cut = match end {
        StrictEnd::Clean => false,
        StrictEnd::InBody { head } => {
            heads.push(head);
            true
        }
        StrictEnd::InHead | StrictEnd::Wrong(_) => {
            return Some(format!("the other reader: {end:?} after {requests:?}"));
        }
    };
    if heads != by_bytes.heads {
        return Some(format!("heads at {:?}, by the other reader at {heads:?}", by_bytes.heads));
    }
    (by_bytes.refusal.is_none() && is_cut != by_bytes.is_amid).then(|| format!("amid a body: {by_bytes:?}, {end:?}"))
}

#[test]
fn what_is_handed_on_is_read_alike_by_the_strictest_reader() {
    let mut generator = RawInputs::new(0x5eed);
    let (mut refused, all) = (0, inputs());
    for number in 0..all {
        let input = generator.next_input();
        if let Some(fault) = fault_of(&input) {
            panic!("input {number}: {fault}\n{}", input.bytes.escape_ascii());
        }
        refused += usize::from(feed([input.bytes.as_slice()]).refusal.is_some());
    }
    // Inputs that are all refused, or none, would show nothing.
    assert!(refused > all / 4 && refused < all * 9 / 10, "{refused} of {all} were refused");
}

#[test]
fn what_is_sound_is_handed_on_whole() {
    let mut generator = RawInputs::new(1);
    for _ in 0..500 {
        let bytes = generator.sound();
        let handed = feed([bytes.as_slice()]);
        assert_eq!((handed.bytes, handed.refusal), (bytes.len(), None), "{}", bytes.escape_ascii());
        assert_eq!(read(&bytes).end, StrictEnd::Clean, "{}", bytes.escape_ascii());
    }
}
