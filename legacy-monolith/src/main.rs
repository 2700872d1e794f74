//! The monolith as a program.

use std::process::ExitCode;

use clap::Parser;
use estate_chassis::bugs::{BugError, Bugs};
use estate_chassis::service::{self, ServeError, ServiceArgs};
use legacy_monolith::OpenError;

const NAME: &str = "legacy-monolith";

/// The checkout monolith of the demonstration. Listens on 127.0.0.1:8000 unless told otherwise.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the bugs to start with were refused")]
    Bugs { source: BugError },
    #[error("the shop cannot be opened")]
    Open { source: OpenError },
    #[error("the shop cannot be served")]
    Serve { source: ServeError },
}

#[tokio::main]
async fn main() -> ExitCode {
    service::init_logs();
    service::report(NAME, run(Args::parse().service).await)
}

async fn run(args: ServiceArgs) -> Result<(), RunError> {
    let bugs = Bugs::from_estate(&args.bug).map_err(|source| RunError::Bugs { source })?;
    let shop = legacy_monolith::open(&args.data, bugs).await.map_err(|source| RunError::Open { source })?;
    let database = shop.database.clone();
    let served = service::run(NAME, args.listen_or(legacy_monolith::PORT), legacy_monolith::router(shop)).await;
    database.close().await;
    served.map_err(|source| RunError::Serve { source })
}
