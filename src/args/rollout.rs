//! Of the verbs that move a rollout, and of the one that shows who moved what.

use clap::Args as ClapArgs;
use strangler_core::name::RouteName;
use strangler_core::route::Step;

use crate::args::AdminArgs;

/// Of `audit`.
#[derive(Debug, ClapArgs)]
pub struct AuditArgs {
    /// Of this route only.
    pub route: Option<RouteName>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
    /// Follows the chain of all entries: exit 1 where one was changed, taken out or put in between.
    #[arg(long, conflicts_with_all = ["route", "limit"])]
    pub verify: bool,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `hold` and `resume`.
#[derive(Debug, ClapArgs)]
pub struct RolloutArgs {
    /// The route.
    pub route: RouteName,
    /// Why; shown, and kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `approve`.
#[derive(Debug, ClapArgs)]
pub struct ApproveArgs {
    /// The route.
    pub route: RouteName,
    /// The step. Default: the one that comes next.
    #[arg(long, value_name = "STEP")]
    pub step: Option<Step>,
    /// Why; kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Of `rollback`.
#[derive(Debug, ClapArgs)]
pub struct RollbackArgs {
    /// The route.
    pub route: RouteName,
    /// Why; shown, and kept in the audit.
    #[arg(long)]
    pub reason: String,
    /// Send users to legacy although the extracted service owns the data.
    #[arg(long)]
    pub accept_stale: bool,
    /// How the proxy is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
}
