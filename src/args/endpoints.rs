//! Of the verb that shows what no route covers.

use clap::Args as ClapArgs;

use crate::args::AdminArgs;

pub(super) const EXAMPLES: &str = "Examples:
  strangler endpoints
  strangler endpoints --cover 'GET /api/v1/users/{user_id}' >> routes.yaml
  strangler endpoints --format json | jq '.endpoints[] | select(.state == \"undeclared\")'";

/// Of `endpoints`.
#[derive(Debug, ClapArgs)]
pub struct EndpointsArgs {
    /// Prints a route for this one, ready for `routes:` of routes.yaml: in the shadow, compared, nobody moved.
    #[arg(long, value_name = "METHOD PATH")]
    pub cover: Option<String>,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}
