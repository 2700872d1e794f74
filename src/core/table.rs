//! The routing table: everything `routes.yaml` says, once it is known to be right.

mod build;
mod journeys;
mod rollouts;
mod shadows;
mod upstreams;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::facts::RequestFacts;
use crate::fault::Fault;
use crate::matching::Matcher;
use crate::name::{JourneyName, RouteName, UpstreamName};
use crate::raw::RawConfig;
use crate::route::{FallThrough, KeySource, Route, Upstream};

pub use crate::limits::ROUTES_MAX;

/// Content hash of a routes file: the first 12 hex digits of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(Arc<str>);

impl Revision {
    /// Of the file's bytes.
    pub fn of(text: &[u8]) -> Revision {
        use sha2::{Digest, Sha256};
        let hex: String = Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Revision(Arc::from(hex))
    }

    /// Twelve hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All routes and upstreams of one file. The only way to one leads through the parser below.
#[derive(Clone, Debug)]
pub struct RoutingTable {
    pub(crate) revision: Revision,
    pub(crate) upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    pub(crate) legacy: Arc<Upstream>,
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) removed: BTreeSet<RouteName>,
    pub(crate) matcher: Matcher,
    pub(crate) fall_through: FallThrough,
    pub(crate) journeys: BTreeMap<JourneyName, Journey>,
    /// By route index: which keys were written. The guard against half-written files asks for it.
    pub(crate) written: Vec<Written>,
}

/// Routes that share one assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// What is hashed before the key.
    pub salt: Arc<str>,
    /// Where the key is looked for.
    pub sticky_on: Arc<[KeySource]>,
    /// How long a user stays where the journey began; `None`: no lease.
    pub lease: Option<Duration>,
    /// Whether its routes must have one weight.
    pub is_together: bool,
    /// Indexes of its routes.
    pub routes: Vec<usize>,
    /// Whether `salt` was written.
    pub(crate) is_salt_written: bool,
    /// Whether `lease` was written.
    pub(crate) is_lease_written: bool,
}

/// Keys of a route whose absence moves users, and whether they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) weight: bool,
    pub(crate) data: bool,
    pub(crate) match_keys: [bool; 5],
}

impl RoutingTable {
    /// The only way to a table: everything that is wrong is said at once, and then there is none. Warnings come with a table.
    pub fn parse(raw: RawConfig, revision: Revision) -> (Option<RoutingTable>, Vec<Fault>) {
        build::build(raw, revision)
    }

    /// Content hash of the file.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// The routes that climb together with a route, itself among them; itself alone where it climbs by itself.
    pub fn climbing_with<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Arc<Route>> {
        let journey = |of: &Route| of.rollout.as_ref().and_then(|rollout| rollout.journey.clone());
        let own = journey(route);
        self.routes.iter().filter(move |other| match &own {
            None => other.name == route.name,
            Some(own) => journey(other).as_ref() == Some(own),
        })
    }

    /// Every rollout: the indexes of the routes that it moves.
    pub fn climbs(&self) -> Vec<Vec<usize>> {
        let mut together: BTreeMap<&JourneyName, usize> = BTreeMap::new();
        let mut climbs: Vec<Vec<usize>> = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let Some(policy) = &route.rollout else { continue };
            let at = policy.journey.as_ref().map(|journey| *together.entry(journey).or_insert(climbs.len()));
            match at.and_then(|at| climbs.get_mut(at)) {
                Some(climb) => climb.push(index),
                None => climbs.push(vec![index]),
            }
        }
        climbs
    }

    /// Every upstream, those written as a URL included.
    pub fn upstreams(&self) -> &BTreeMap<UpstreamName, Arc<Upstream>> {
        &self.upstreams
    }

    /// The monolith.
    pub fn legacy(&self) -> &Arc<Upstream> {
        &self.legacy
    }

    /// In the order of the file; a position here is a route's index everywhere.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Every journey.
    pub fn journeys(&self) -> &BTreeMap<JourneyName, Journey> {
        &self.journeys
    }

    /// What is done with what no route covers.
    pub fn fall_through(&self) -> &FallThrough {
        &self.fall_through
    }

    /// Names of routes that were taken out on purpose.
    pub fn removed(&self) -> &BTreeSet<RouteName> {
        &self.removed
    }

    /// The narrowest route that the request is, as its index.
    pub fn find(&self, facts: &RequestFacts<'_>) -> Option<usize> {
        self.matcher.find(facts)
    }
}
