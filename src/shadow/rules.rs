//! Which rules are of use: one that never is, or whose time has passed, is said once. A list of exceptions only grows unless somebody is told.

use std::collections::HashMap;
use std::sync::Arc;

use strangler_core::compare::rules::{Idle, idle};
use strangler_core::compare::{Comparison, ComparisonResult};
use strangler_core::day::Day;
use strangler_core::name::RouteName;
use strangler_core::route::ComparePolicy;

/// Pairs without a use before a rule is said to be of none.
const PAIRS_MIN: u64 = 10_000;
/// Most routes watched; with more, all begin anew.
const ROUTES_MAX: usize = 10_000;

/// What the rules of all routes have done.
#[derive(Debug, Default)]
pub(crate) struct RuleWatch {
    routes: HashMap<RouteName, Watched>,
}

#[derive(Debug)]
struct Watched {
    policy: Arc<ComparePolicy>,
    pairs: u64,
    hits: Vec<u64>,
    /// Rules of which all has been said.
    said: Vec<bool>,
    /// When the last look was taken.
    looked: Option<Day>,
}

impl Watched {
    fn new(policy: &Arc<ComparePolicy>) -> Watched {
        let rules = policy.rules.len();
        Watched { policy: Arc::clone(policy), pairs: 0, hits: vec![0; rules], said: vec![false; rules], looked: None }
    }
}

impl RuleWatch {
    /// Notes what a comparison took its rules for, and says in the log what is worth saying; answers what was said.
    pub(crate) fn saw(
        &mut self,
        route: &RouteName,
        policy: &Arc<ComparePolicy>,
        comparison: &Comparison,
        today: Day,
    ) -> Vec<(usize, Idle)> {
        let is_looked_at = !matches!(comparison.result, ComparisonResult::NotComparable(_) | ComparisonResult::Failed);
        if policy.rules.is_empty() || !is_looked_at {
            return Vec::new();
        }
        let watched = self.of(route, policy);
        watched.pairs += 1;
        for rule in &comparison.rules_hit {
            if let Some(hits) = watched.hits.get_mut(*rule) {
                *hits += 1;
            }
        }
        // Once a day for what has run out, and once there has been time enough to be of use.
        if watched.looked == Some(today) && watched.pairs != PAIRS_MIN {
            return Vec::new();
        }
        watched.looked = Some(today);
        let mut news = Vec::new();
        for (rule, why) in idle(&watched.policy.rules, &watched.hits, today) {
            let Some(said) = watched.said.get_mut(rule) else { continue };
            if *said || (why == Idle::Unused && watched.pairs < PAIRS_MIN) {
                continue;
            }
            *said = true;
            tracing::warn!(
                %route,
                rule,
                why = why.as_str(),
                pairs = watched.pairs,
                "a comparison rule does nothing; take it out, or look whether its path is what was meant"
            );
            news.push((rule, why));
        }
        news
    }

    /// Begins anew when the rules are others.
    fn of(&mut self, route: &RouteName, policy: &Arc<ComparePolicy>) -> &mut Watched {
        if self.routes.len() >= ROUTES_MAX && !self.routes.contains_key(route) {
            self.routes.clear();
        }
        let watched = self.routes.entry(route.clone()).or_insert_with(|| Watched::new(policy));
        if !Arc::ptr_eq(&watched.policy, policy) {
            if watched.policy.rules == policy.rules {
                watched.policy = Arc::clone(policy);
            } else {
                *watched = Watched::new(policy);
            }
        }
        watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strangler_core::compare::NotComparable;
    use strangler_core::route::{CompareRule, PointerPattern, RuleAction};

    fn policy(untils: &[Option<&str>]) -> Arc<ComparePolicy> {
        let rule = |until: Option<&str>| CompareRule {
            until: until.map(|day| day.parse().expect("a day")),
            ..CompareRule::new(PointerPattern { segments: Vec::new() }, RuleAction::Ignore)
        };
        Arc::new(ComparePolicy { rules: untils.iter().copied().map(rule).collect(), ..ComparePolicy::default() })
    }

    fn hit(rules: &[usize]) -> Comparison {
        let result = ComparisonResult::Match;
        Comparison { result, rules_hit: rules.to_vec(), ..Comparison::not_comparable(NotComparable::Internal) }
    }

    #[test]
    fn a_rule_without_use_is_named_once_and_one_that_ran_out_on_its_day() {
        let route: RouteName = "cart".parse().expect("a name");
        let (today, tomorrow) = ("2026-11-21".parse().expect("a day"), "2026-11-22".parse().expect("a day"));
        let mut watch = RuleWatch::default();
        let rules = policy(&[None, None, Some("2026-11-21")]);
        let mut said = Vec::new();
        for _ in 0..PAIRS_MIN + 10 {
            said.extend(watch.saw(&route, &rules, &hit(&[1]), today));
        }
        assert_eq!(said, [(0, Idle::Unused), (2, Idle::Unused)]);
        let other = policy(&[Some("2026-11-21")]);
        assert_eq!(watch.saw(&route, &other, &hit(&[]), today), []);
        assert_eq!(watch.saw(&route, &other, &hit(&[]), tomorrow), [(0, Idle::Expired)]);
        assert_eq!(watch.saw(&route, &other, &hit(&[]), tomorrow), []);
        assert_eq!(watch.saw(&route, &policy(&[]), &hit(&[]), today), []);
    }
}
