//! Upstreams by name, and those that are written as a URL in the place of a name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::fault::{Fault, Faults, Hints};
use crate::limits::UPSTREAMS_MAX;
use crate::name::{NAME_BYTES_MAX, UpstreamName};
use crate::raw::{RawConfig, Short, Spanned, Target, Unnamed};
use crate::route::{Endpoint, Upstream};
use crate::tree::Span;

/// All upstreams of a file.
pub(super) struct Upstreams {
    named: BTreeMap<UpstreamName, (Span, Option<Arc<Upstream>>)>,
    by_url: BTreeMap<Endpoint, Arc<Upstream>>,
    used: BTreeSet<UpstreamName>,
    hints: Hints,
}

impl Upstreams {
    /// Takes them out of `raw`.
    pub(super) fn collect(raw: &mut RawConfig, faults: &mut Faults) -> Upstreams {
        let mut named = BTreeMap::new();
        for entry in std::mem::take(&mut raw.upstreams) {
            let Some(name) = entry.name else { continue };
            let upstream = entry.upstream.map(|upstream| Arc::new(upstream.named(name.value.clone())));
            named.insert(name.value, (name.span, upstream));
        }
        let shadows = raw.routes.iter().filter_map(|route| match route.shadow.as_ref()? {
            Short::On(shadow) => shadow.upstream(),
            Short::Off => None,
        });
        let shadows = shadows.chain(raw.defaults.shadow.iter().filter_map(|shadow| shadow.value.upstream()));
        let extracted = raw.routes.iter().filter_map(|route| route.extracted.as_ref());
        let targets = raw.legacy.iter().chain(extracted).chain(shadows);
        let urls: BTreeSet<Endpoint> = targets
            .filter_map(|target| match &target.value {
                Target::Url(endpoint) => Some(endpoint.clone()),
                Target::Name(_) => None,
            })
            .collect();
        if named.len() + urls.len() > UPSTREAMS_MAX {
            let message = format!("at most {UPSTREAMS_MAX} upstreams, these are {}", named.len() + urls.len());
            faults.push(Fault::error(Span::default(), "upstreams", message));
        }
        let by_url = name_urls(urls, &named);
        Upstreams { named, by_url, used: BTreeSet::new(), hints: Hints::default() }
    }

    /// What a target stands for; `None` when there is no such thing, or it is wrong itself (which has been said).
    pub(super) fn resolve(
        &mut self,
        target: &Spanned<Target>,
        path: &str,
        faults: &mut Faults,
    ) -> Option<Arc<Upstream>> {
        let name = match &target.value {
            Target::Url(endpoint) => return self.by_url.get(endpoint).cloned(),
            Target::Name(name) => name,
        };
        if let Some((_, upstream)) = self.named.get(name) {
            if !self.used.contains(name) {
                self.used.insert(name.clone());
            }
            return upstream.clone();
        }
        let known = self.named.keys().map(UpstreamName::as_str);
        let help = self
            .hints
            .did_you_mean(name.as_str(), known)
            .unwrap_or_else(|| "name it under `upstreams:`, or write a URL, as in `http://127.0.0.1:8000`".to_owned());
        let fault = Fault::error(target.span, path, format!("there is no upstream `{name}`"));
        faults.push(fault.with_help(help));
        None
    }

    /// Some upstream that is right in itself.
    pub(super) fn any(&self) -> Option<Arc<Upstream>> {
        self.named.values().find_map(|(_, upstream)| upstream.clone()).or_else(|| self.by_url.values().next().cloned())
    }

    /// Those under `upstreams:` that nothing names.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&UpstreamName, Span)> {
        self.named.iter().filter(|(name, _)| !self.used.contains(*name)).map(|(name, (span, _))| (name, *span))
    }

    /// All of them.
    pub(super) fn into_all(self) -> BTreeMap<UpstreamName, Arc<Upstream>> {
        let named = self.named.into_iter().filter_map(|(name, (_, upstream))| Some((name, upstream?)));
        named.chain(self.by_url.into_values().map(|upstream| (upstream.name.clone(), upstream))).collect()
    }
}

/// A URL's upstream is called after its host and port. Where that is taken, all who want it get a piece of the URL's hash,
/// so that a name depends on what is written and not on its order.
fn name_urls(
    urls: BTreeSet<Endpoint>,
    named: &BTreeMap<UpstreamName, (Span, Option<Arc<Upstream>>)>,
) -> BTreeMap<Endpoint, Arc<Upstream>> {
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for url in &urls {
        *wanted.entry(plain_name(url)).or_default() += 1;
    }
    let mut by_url = BTreeMap::new();
    for url in urls {
        let plain = plain_name(&url);
        let is_free = wanted.get(&plain) == Some(&1) && !named.contains_key(plain.as_str());
        let text = if is_free { plain } else { hashed_name(&url, &plain) };
        // Both are made of the letters that a name may have.
        if let Ok(name) = text.parse::<UpstreamName>() {
            let upstream = Arc::new(Unnamed::at(url.clone()).named(name));
            by_url.insert(url, upstream);
        }
    }
    by_url
}

fn plain_name(url: &Endpoint) -> String {
    let text = format!("{}-{}", url.host, url.port);
    let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if name.len() > NAME_BYTES_MAX { hashed_name(url, &name) } else { name }
}

fn hashed_name(url: &Endpoint, plain: &str) -> String {
    let hash = xxhash_rust::xxh3::xxh3_64(url.to_string().as_bytes());
    let kept: String = plain.chars().take(NAME_BYTES_MAX - 17).collect();
    format!("{kept}-{hash:016x}")
}
