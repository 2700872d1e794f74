//! Which certificate answers for which name, and whether a request asks the host that its connection was opened for.

use std::collections::BTreeMap;

/// Things by the names of certificates: exact ones before `*.example.com`, and the first of all for whoever names none.
#[derive(Clone, Debug)]
pub struct ByName<T> {
    exact: BTreeMap<String, T>,
    /// By what follows the star, its dot included.
    wildcard: BTreeMap<String, T>,
    first: T,
}

impl<T: Clone> ByName<T> {
    /// `first` answers where no name fits.
    pub fn new(first: T) -> ByName<T> {
        ByName { exact: BTreeMap::new(), wildcard: BTreeMap::new(), first }
    }

    /// Adds a name; the first thing that brings it keeps it.
    pub fn add(&mut self, name: &str, thing: &T) {
        let name = normal(name);
        let (map, key) = match name.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => (&mut self.wildcard, rest.to_owned()),
            _ => (&mut self.exact, name),
        };
        map.entry(key).or_insert_with(|| thing.clone());
    }

    /// What answers for this name. A star stands for one label.
    pub fn find(&self, name: Option<&str>) -> &T {
        let Some(name) = name.map(normal) else { return &self.first };
        let by_star = || self.wildcard.get(name.get(name.find('.')?..)?);
        self.exact.get(&name).or_else(by_star).unwrap_or(&self.first)
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a request for `host` (lower-case, no port, no trailing dot) may come over a connection that was opened for
/// `opened_for`. Other hosts are asked to come over a connection of their own (421, RFC 9110 §15.5.20): what was checked for one
/// name must not open another.
pub fn agrees(opened_for: &str, host: &str) -> bool {
    opened_for.strip_suffix('.').unwrap_or(opened_for).eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_name_goes_before_a_star_and_the_first_serves_the_rest() {
        let mut names = ByName::new("first");
        names.add("*.example.com", &"star");
        names.add("Shop.Example.com", &"shop");
        names.add("shop.example.com", &"a later one");
        for (name, expect) in [
            (Some("shop.example.com"), "shop"),
            (Some("SHOP.example.com."), "shop"),
            (Some("api.example.com"), "star"),
            (Some("a.b.example.com"), "first"),
            (Some("example.com"), "first"),
            (Some("elsewhere.org"), "first"),
            (Some(""), "first"),
            (None, "first"),
        ] {
            assert_eq!(*names.find(name), expect, "{name:?}");
        }
    }

    #[test]
    fn a_request_agrees_with_the_name_of_its_connection_or_does_not() {
        assert!(agrees("shop.example.com", "shop.example.com"));
        assert!(agrees("Shop.example.com.", "shop.example.com"));
        assert!(!agrees("shop.example.com", "api.example.com"));
        assert!(!agrees("shop.example.com", "example.com"));
    }
}
