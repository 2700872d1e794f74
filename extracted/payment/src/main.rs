//! `estate-payment`: the service on a port.

use std::process::ExitCode;

use clap::Parser as _;
use estate_chassis::bugs::{BugError, Bugs};
use estate_chassis::service::{self, ServeError, ServiceArgs};
use estate_chassis::store::StoreError;
use estate_payment::bank::Bank;

/// Payments, taken out of the monolith.
#[derive(Debug, clap::Parser)]
#[command(name = "estate-payment", version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the bugs to start with were refused")]
    Bugs(#[source] BugError),
    #[error("the data cannot be used")]
    Store(#[source] StoreError),
    #[error("the service cannot run")]
    Serve(#[source] ServeError),
}

#[tokio::main]
async fn main() -> ExitCode {
    service::init_logs();
    service::report("estate-payment", serve(&Args::parse().service).await)
}

async fn serve(args: &ServiceArgs) -> Result<(), Failure> {
    let bugs = Bugs::from_estate(&args.bug).map_err(Failure::Bugs)?;
    let router = estate_payment::build(&args.data, bugs, Bank::default()).await.map_err(Failure::Store)?;
    service::run("estate-payment", args.listen_or(estate_payment::PORT), router).await.map_err(Failure::Serve)
}
