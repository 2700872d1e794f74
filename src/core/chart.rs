//! Lines of a chart as SVG wants them: numbers to points, and where an axis ends.
//!
//! No library draws them: what one writes has its colours in it, and ours follow the reader's light or dark by a style sheet.

use std::fmt::Write as _;

/// Points of a `polyline` within `width` x `height`, from left to right; where nothing is known the line has a gap, and so there may be several.
///
/// `values`: one per place along the width, `top`: the value at the upper edge.
pub fn lines(values: &[Option<f64>], top: f64, width: f64, height: f64) -> Vec<String> {
    let step = if values.len() > 1 { width / (real(values.len()) - 1.0) } else { 0.0 };
    let top = if top > 0.0 { top } else { 1.0 };
    let mut lines = Vec::new();
    let mut line = String::new();
    for (place, value) in values.iter().enumerate() {
        let Some(value) = value else {
            end(&mut lines, &mut line);
            continue;
        };
        let x = real(place) * step;
        let y = height - (value / top).clamp(0.0, 1.0) * height;
        if !line.is_empty() {
            line.push(' ');
        }
        let _ = write!(line, "{x:.1},{y:.1}");
    }
    end(&mut lines, &mut line);
    lines
}

fn end(lines: &mut Vec<String>, line: &mut String) {
    if line.is_empty() {
        return;
    }
    // One point alone would not be drawn.
    if !line.contains(' ') {
        let twice = format!("{line} {line}");
        *line = twice;
    }
    lines.push(std::mem::take(line));
}

/// The first round number (1, 2 or 5 times a power of ten) that is not below `largest`; 1 where there is nothing.
pub fn round_top(largest: f64) -> f64 {
    if !largest.is_finite() || largest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(largest.log10().floor());
    let rounds = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    rounds.into_iter().find(|round| *round >= largest * 0.999_999).unwrap_or(largest)
}

/// Many values by fewer: each is the mean of those that fall on it; `None` where there was none.
pub fn thinned(values: &[Option<f64>], most: usize) -> Vec<Option<f64>> {
    let each = values.len().div_ceil(most.max(1)).max(1);
    let mean = |chunk: &[Option<f64>]| {
        let known: Vec<f64> = chunk.iter().flatten().copied().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / real(known.len()))
    };
    values.chunks(each).map(mean).collect()
}

/// Wilson's interval of a share of which `hits` of `of` were seen, 95 %: for one look. Nothing seen is no bound.
pub fn wilson(hits: u64, of: u64) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let (hits, of) = (hits.min(of) as f64, of as f64);
    if of <= 0.0 {
        return (0.0, 1.0);
    }
    let share = hits / of;
    let square = Z * Z / of;
    let middle = (share + square / 2.0) / (1.0 + square);
    let half = Z / (1.0 + square) * (share * (1.0 - share) / of + square / (4.0 * of)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[expect(clippy::cast_precision_loss, reason = "a place on a chart")]
fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_edge_to_edge_and_is_broken_where_nothing_is_known() {
        assert_eq!(lines(&[Some(0.0), Some(5.0), Some(10.0)], 10.0, 100.0, 20.0), ["0.0,20.0 50.0,10.0 100.0,0.0"]);
        let broken = lines(&[Some(1.0), None, Some(1.0), Some(99.0)], 1.0, 30.0, 10.0);
        assert_eq!(broken, ["0.0,0.0 0.0,0.0", "20.0,0.0 30.0,0.0"]);
        assert!(lines(&[None, None], 1.0, 1.0, 1.0).is_empty());
        assert_eq!(lines(&[Some(0.0)], 0.0, 10.0, 10.0), ["0.0,10.0 0.0,10.0"]);
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (largest, top) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (37.0, 50.0), (51.0, 100.0), (f64::NAN, 1.0)] {
            assert!((round_top(largest) - top).abs() < 1e-9, "{largest} {}", round_top(largest));
        }
    }

    #[test]
    fn fewer_values_are_means() {
        assert_eq!(thinned(&[Some(1.0), Some(3.0), None, None, Some(5.0)], 3), [Some(2.0), None, Some(5.0)]);
        assert_eq!(thinned(&[], 3), []);
    }

    #[test]
    fn wilsons_band_is_as_in_the_books() {
        let (low, high) = wilson(9, 10);
        assert!((low - 0.5958).abs() < 1e-3 && (high - 0.9821).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        let (low, high) = wilson(1_000, 1_000);
        assert!((low - 0.996_17).abs() < 1e-4 && (high - 1.0).abs() < 1e-9, "{low} {high}");
    }
}
