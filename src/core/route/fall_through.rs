//! What is done with what no route covers, beside passing it to legacy.

use http::Method;

use crate::template::PathTemplate;

/// How much is learned of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallThrough {
    /// Whether paths are learned as templates. Default: yes.
    pub is_discovered: bool,
    /// Most templates with a method. Default: 10,000.
    pub templates_max: u32,
    /// Endpoints that people know of: those that are never asked are named, and those that are asked and not among them.
    pub declared: Vec<DeclaredEndpoint>,
}

/// An endpoint that people know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredEndpoint {
    /// Its method; `None`: all.
    pub method: Option<Method>,
    /// Its path.
    pub template: PathTemplate,
}

impl Default for FallThrough {
    fn default() -> FallThrough {
        FallThrough { is_discovered: true, templates_max: 10_000, declared: Vec::new() }
    }
}
