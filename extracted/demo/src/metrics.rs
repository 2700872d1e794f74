//! What the proxy's metrics say of each route.

use std::collections::BTreeMap;

/// The counts of a route at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteCounts {
    pub(crate) stage: String,
    /// 0..=1.
    pub(crate) weight: f64,
    pub(crate) legacy: f64,
    pub(crate) extracted: f64,
    /// Answers of 500 and above, whoever gave them.
    pub(crate) failed: f64,
    pub(crate) fallbacks: f64,
    pub(crate) copies: f64,
    pub(crate) same: f64,
    pub(crate) different: f64,
}

/// Reads the text format of Prometheus; lines that it does not know are passed over.
pub(crate) fn by_route(text: &str) -> BTreeMap<String, RouteCounts> {
    let mut routes: BTreeMap<String, RouteCounts> = BTreeMap::new();
    for (name, labels, value) in text.lines().filter_map(sample) {
        let label = |key: &str| labels.iter().find(|(it, _)| *it == key).map_or("", |(_, value)| value);
        if label("route").is_empty() || value == 0.0 {
            continue;
        }
        let route = routes.entry(label("route").to_owned()).or_default();
        match (name, label("side"), label("result")) {
            ("strangler_requests_total", side, _) => {
                match side {
                    "legacy" => route.legacy += value,
                    "extracted" => route.extracted += value,
                    _ => {}
                }
                route.failed += if label("code") >= "500" { value } else { 0.0 };
            }
            ("strangler_route_weight_ratio", ..) => route.weight = value,
            ("strangler_route_stage", ..) => label("stage").clone_into(&mut route.stage),
            ("strangler_route_killed", ..) => "killed".clone_into(&mut route.stage),
            ("strangler_fallbacks_total", ..) => route.fallbacks += value,
            ("strangler_shadow_total", ..) if label("outcome") == "sent" => route.copies += value,
            ("strangler_comparisons_total", _, "match") => route.same += value,
            ("strangler_comparisons_total", _, "mismatch") => route.different += value,
            _ => {}
        }
    }
    routes
}

type Sample<'a> = (&'a str, Vec<(&'a str, &'a str)>, f64);

/// `name{a="b",c="d"} 1`. Values of the proxy's labels are names and enums: none needs an escape.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.strip_suffix('}')?.split_once('{')?;
    let pair = |text: &'_ str| -> Option<(usize, usize)> { Some((text.find("=\"")?, text.len().checked_sub(1)?)) };
    let labels = labels
        .split(',')
        .filter_map(|text| pair(text).and_then(|(key, end)| Some((text.get(..key)?, text.get(key + 2..end)?))));
    Some((name, labels.collect(), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_route_are_added_up() {
        let text = "# TYPE strangler_requests_total counter
strangler_requests_total{code=\"200\",route=\"pay\",side=\"extracted\"} 7
strangler_requests_total{code=\"402\",route=\"pay\",side=\"extracted\"} 1
strangler_requests_total{code=\"503\",route=\"pay\",side=\"legacy\"} 2
strangler_requests_total{code=\"200\",route=\"none\",side=\"legacy\"} 0
strangler_route_weight_ratio{route=\"pay\"} 0.05
strangler_route_stage{route=\"pay\",stage=\"shadow\"} 0
strangler_route_stage{route=\"pay\",stage=\"canary\"} 1
strangler_shadow_total{outcome=\"dropped\",route=\"pay\"} 9
strangler_shadow_total{outcome=\"sent\",route=\"pay\"} 4
strangler_comparisons_total{result=\"match\",route=\"pay\"} 3
strangler_comparisons_total{result=\"mismatch\",route=\"pay\"} 1
strangler_build_info{version=\"0.1.0\"} 1
nonsense
";
        let routes = by_route(text);
        let pay = RouteCounts {
            stage: "canary".to_owned(),
            weight: 0.05,
            legacy: 2.0,
            extracted: 8.0,
            failed: 2.0,
            fallbacks: 0.0,
            copies: 4.0,
            same: 3.0,
            different: 1.0,
        };
        assert_eq!(routes.into_iter().collect::<Vec<_>>(), [("pay".to_owned(), pay)]);
    }
}
