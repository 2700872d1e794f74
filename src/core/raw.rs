//! `routes.yaml` as it was written: each value read, each fault collected, nothing decided.
//!
//! Nothing may use what is here before [`RoutingTable::parse`](crate::table::RoutingTable::parse) has.

pub mod keys;
pub mod block;
mod compare;
mod conditions;
mod fall_through;
mod hooks;
pub mod judge;
mod leaf;
mod looks;
mod policy;
mod rewrite;
mod rollout;
mod route;
mod rule;
pub mod server;
mod shadow;
mod upstream;
mod walk;

use crate::day::Day;
use crate::fault::{Fault, Faults};
use crate::limits::{JOURNEYS_MAX, REMOVED_MAX, ROUTES_MAX, STICKY_MAX, UPSTREAMS_MAX};
use crate::name::JourneyName;
use crate::name::RouteName;
use crate::name::UpstreamName;
use crate::route::{FallThrough, KeySource};
use crate::tree::Node;
use crate::tree::Span;

pub(crate) use compare::RawCompare;
pub(crate) use conditions::MATCH_KEYS;
pub use leaf::Target;
pub(crate) use policy::{RawFallback, Short};
pub(crate) use rollout::RawRollout;
pub(crate) use route::RawRoute;
pub(crate) use shadow::RawShadow;
pub(crate) use upstream::{RawUpstream, Unnamed};
pub use walk::Spanned;

use walk::Reader;

/// The file as it was written.
#[derive(Debug, Default)]
pub struct RawConfig {
    pub(crate) faults: Faults,
    /// The day it was read on, where that is known.
    pub(crate) today: Option<Day>,
    pub(crate) upstreams: Vec<RawUpstream>,
    pub(crate) legacy: Option<Spanned<Target>>,
    pub(crate) fall_through: FallThrough,
    pub(crate) journeys: Vec<RawJourney>,
    pub(crate) defaults: RawDefaults,
    pub(crate) removed: Vec<Spanned<RouteName>>,
    pub(crate) routes: Vec<RawRoute>,
}

/// An entry of `journeys:`.
#[derive(Debug)]
pub(crate) struct RawJourney {
    pub(crate) name: Spanned<JourneyName>,
    pub(crate) sticky_on: Option<Vec<Spanned<KeySource>>>,
    pub(crate) salt: Option<Spanned<std::sync::Arc<str>>>,
    pub(crate) lease: Option<Spanned<std::time::Duration>>,
    pub(crate) together: Option<Spanned<bool>>,
    pub(crate) rollout: Option<Spanned<RawRollout>>,
}

/// `defaults:`.
#[derive(Debug, Default)]
pub(crate) struct RawDefaults {
    pub(crate) shadow: Option<Spanned<RawShadow>>,
    pub(crate) compare: Option<Spanned<RawCompare>>,
    pub(crate) fallback: Option<Spanned<RawFallback>>,
    pub(crate) rollout: Option<Spanned<RawRollout>>,
}

impl RawConfig {
    /// Reads a document. Whatever is wrong stands among the faults afterwards, beside what the reader of the text has `found`.
    pub fn read(root: &Node, found: Vec<Fault>) -> RawConfig {
        let mut reader = Reader::default();
        for fault in found {
            reader.faults.push(fault);
        }
        let mut raw = config(&mut reader, root).unwrap_or_default();
        raw.faults = reader.faults;
        raw
    }

    /// Read on that day: rules that have run out by then are warned of.
    pub fn on(mut self, today: Day) -> RawConfig {
        self.today = Some(today);
        self
    }

    /// Puts the files that upstreams and rollouts name, where their paths are relative, below the directory `base`; empty: as they are.
    pub fn below(mut self, base: &str) -> RawConfig {
        for entry in &mut self.upstreams {
            entry.upstream = entry.upstream.take().map(|upstream| upstream.below(base));
        }
        let of_routes = self.routes.iter_mut().filter_map(|route| route.rollout.as_mut());
        for rollout in of_routes.chain(self.defaults.rollout.as_mut()) {
            rollout.value = std::mem::take(&mut rollout.value).below(base);
        }
        self
    }
}

fn config<'a>(reader: &mut Reader<'a>, root: &'a Node) -> Option<RawConfig> {
    let fields = reader.fields(root, &keys::CONFIG)?;
    reader.key(&fields, "version", version);
    Some(RawConfig {
        faults: Faults::default(),
        today: None,
        upstreams: value_or_default(reader.key(&fields, "upstreams", |reader, node| {
            reader.named(node, UPSTREAMS_MAX, |reader, entry| {
                let name = name_of_entry::<UpstreamName>(reader, &entry.key, entry.key_span);
                Some(RawUpstream { name, upstream: upstream::upstream(reader, &entry.value) })
            })
        })),
        legacy: reader.key(&fields, "legacy", Reader::target),
        fall_through: value_or_default(reader.key(&fields, "fall_through", fall_through::fall_through)),
        journeys: value_or_default(reader.key(&fields, "journeys", |reader, node| {
            reader.named(node, JOURNEYS_MAX, |reader, entry| {
                let name = name_of_entry::<JourneyName>(reader, &entry.key, entry.key_span);
                journey(reader, name?, &entry.value)
            })
        })),
        defaults: value_or_default(reader.key(&fields, "defaults", defaults)),
        removed: value_or_default(reader.key(&fields, "removed", |reader, node| {
            reader.list(node, REMOVED_MAX, |reader, item| reader.parsed(item, "the name of a route"))
        })),
        routes: value_or_default(reader.key(&fields, "routes", |reader, node| {
            let routes = reader.list(node, ROUTES_MAX, route::route)?;
            Some(routes.into_iter().map(|route| route.value).collect())
        })),
    })
}

fn value_or_default<T: Default>(read: Option<Spanned<T>>) -> T {
    read.map(|read| read.value).unwrap_or_default()
}

fn version<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<()> {
    let text = reader.text(node, "`1`")?;
    if text == "1" {
        return Some(());
    }
    let help = "this is the only version there is: `version: 1`".to_owned();
    reader.fault_with_help(node.span, format!("version {text} is not known"), Some(help));
    None
}

fn name_of_entry<T>(reader: &mut Reader<'_>, key: &str, span: Span) -> Option<Spanned<T>>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    match key.parse() {
        Ok(value) => Some(Spanned { value, span }),
        Err(error) => {
            reader.fault(span, format!("`{key}`: {error}"));
            None
        }
    }
}

fn journey<'a>(reader: &mut Reader<'a>, name: Spanned<JourneyName>, node: &'a Node) -> Option<RawJourney> {
    let fields = reader.fields(node, &keys::JOURNEY)?;
    Some(RawJourney {
        name,
        sticky_on: reader
            .key(&fields, "sticky_on", |reader, node| reader.list(node, STICKY_MAX, route::key_source))
            .map(|list| list.value),
        salt: reader.key(&fields, "salt", |reader, node| {
            let salt = reader.short_text(node, "a salt")?;
            if salt.contains('\0') {
                reader.fault(node.span, "a salt holds no NUL: that is what ends it");
                return None;
            }
            Some(salt)
        }),
        lease: reader.key(&fields, "lease", |reader, node| reader.duration(node, true)),
        together: reader.key(&fields, "together", Reader::bool),
        rollout: reader.key(&fields, "rollout", rollout::rollout),
    })
}

fn defaults<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Option<RawDefaults> {
    let fields = reader.fields(node, &keys::DEFAULTS)?;
    Some(RawDefaults {
        shadow: reader.key(&fields, "shadow", shadow::shadow_block),
        compare: reader.key(&fields, "compare", compare::compare_block),
        fallback: reader.key(&fields, "fallback", policy::fallback_block),
        rollout: reader.key(&fields, "rollout", rollout::rollout),
    })
}
