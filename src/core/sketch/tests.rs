#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of a test, all far below 2^53"
)]

use super::*;
use proptest::prelude::*;

fn of(values: &[i64]) -> Sketch {
    let mut sketch = Sketch::default();
    for value in values {
        sketch.add(*value);
    }
    sketch
}

/// The `q`th of the values themselves, as [`Sketch::quantile_us`] says it.
fn exact(values: &[i64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = ((sorted.len() as f64 * q).ceil() as usize).max(1);
    sorted[rank - 1] as f64
}

fn values() -> impl Strategy<Value = Vec<i64>> {
    let one = prop_oneof![
        0i64..=3,
        -2_000i64..2_000,
        1_000i64..100_000,
        -VALUE_MAX_US..=VALUE_MAX_US,
        (0u32..36).prop_map(|bits| 1i64 << bits),
    ];
    proptest::collection::vec(one, 1..400)
}

proptest! {
    #[test]
    fn no_quantile_is_off_by_more_than_a_hundredth(values in values(), q in 0.0..=1.0f64) {
        let (told, exact) = (of(&values).quantile_us(q).unwrap(), exact(&values, q));
        prop_assert!((told - exact).abs() <= exact.abs() * ERROR_MAX * 1.000_001, "{told} for {exact}");
    }

    #[test]
    fn merged_sketches_are_the_sketch_of_all_values_in_any_order(one in values(), two in values(), three in values()) {
        let all: Vec<i64> = one.iter().chain(&two).chain(&three).copied().collect();
        let merged = |order: [&Vec<i64>; 3]| {
            let mut sketch = Sketch::default();
            for values in order {
                sketch.merge(&of(values));
            }
            sketch
        };
        prop_assert_eq!(merged([&one, &two, &three]), of(&all));
        prop_assert_eq!(merged([&three, &one, &two]), of(&all));
        let mut backwards = all.clone();
        backwards.reverse();
        prop_assert_eq!(of(&backwards), of(&all));
        let (mut right, mut left) = (of(&two), of(&one));
        right.merge(&of(&three));
        left.merge(&right);
        prop_assert_eq!(left, of(&all));
    }

    #[test]
    fn a_sketch_outlives_being_written_and_read(values in values()) {
        let sketch = of(&values);
        let text = serde_json::to_string(&sketch).unwrap();
        prop_assert_eq!(serde_json::from_str::<Sketch>(&text).unwrap(), sketch);
    }

    #[test]
    fn signs_are_counted_exactly(values in values()) {
        let above = values.iter().filter(|value| **value > 0).count() as u64;
        let sketch = of(&values);
        prop_assert_eq!((sketch.count(), sketch.count_above_zero()), (values.len() as u64, above));
    }
}

#[test]
fn a_sketch_never_takes_more_bins_than_there_are() {
    let mut sketch = Sketch::default();
    let mut value = 1i64;
    while value < VALUE_MAX_US {
        sketch.add(value);
        sketch.add(-value);
        value = value * 101 / 100 + 1;
    }
    for value in [i64::MIN, i64::MAX, 0, VALUE_MAX_US] {
        sketch.add(value);
    }
    assert!(sketch.bins() <= 2 * PLACE_MAX as usize + 1);
    let largest = sketch.quantile_us(1.0).unwrap();
    assert!((largest - VALUE_MAX_US as f64).abs() <= VALUE_MAX_US as f64 * ERROR_MAX, "{largest}");
    // What was written by itself is read.
    let text = serde_json::to_string(&sketch).unwrap();
    assert_eq!(serde_json::from_str::<Sketch>(&text).unwrap(), sketch);
}

#[test]
fn what_is_no_sketch_is_refused() {
    for text in ["[[3,1],[2,1]]", "[[2,1],[2,1]]", "[[2,0]]", "[[2000,1]]", "[[-32768,1]]", "[[1]]", "{}"] {
        assert!(serde_json::from_str::<Sketch>(text).is_err(), "{text}");
    }
    assert_eq!(serde_json::from_str::<Sketch>("[]").unwrap(), Sketch::default());
    assert_eq!(Sketch::default().quantile_us(0.5), None);
}

#[test]
fn thresholds_are_frozen_from_a_thousand_values_on() {
    let values: Vec<i64> = (1..=999).map(|value| value * 100).collect();
    let mut sketch = of(&values);
    assert_eq!(sketch.freeze(), None);
    sketch.add(100_000);
    let Thresholds { p50_us, p95_us, p99_us } = sketch.freeze().unwrap();
    for (told, exact) in [(p50_us, 50_000.0), (p95_us, 95_000.0), (p99_us, 99_000.0)] {
        assert!((told as f64 - exact).abs() <= exact * 0.0101, "{told} for {exact}");
    }
}
