//! What is in force: the table, and where people and rollouts have moved it.

use std::sync::Arc;

use crate::table::RoutingTable;
use crate::weight::Weight;

/// A routing table with the weights and kills in force. Swapped whole, so that a request sees one of them only.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) table: Arc<RoutingTable>,
    /// By route index; as many as the table has routes.
    pub(crate) states: Vec<RouteState>,
}

/// Where a route stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteState {
    /// The weight in force, kills left aside.
    pub weight: Weight,
    /// All traffic to legacy until lifted.
    pub killed: bool,
}

impl Snapshot {
    /// The table.
    pub fn table(&self) -> &Arc<RoutingTable> {
        &self.table
    }

    /// Where the route at `index` stands; `None` beyond the table.
    pub fn state(&self, index: usize) -> Option<&RouteState> {
        self.states.get(index)
    }
}
