//! Of `strangler judge`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use strangler_core::weight::Weight;

use crate::args::Format;

pub(super) const EXAMPLES: &str = "\
Examples:
  strangler judge evidence.json
  echo '{stages: [{step: 5%, extracted: {units: 2000, errors: 9}, legacy: {units: 38000, errors: 190}}]}' | strangler judge -
  strangler judge --simulate --runs 150 --rps 1,5,50

The file is JSON or YAML: `gates` as in routes.yaml, and counts of distinct users; every part may be left out, and what is missing is no
pass. A verdict of before (--format json, or from the audit) is taken, too, and found again from its `inputs`.

With --simulate services whose truth is known go up 5, 10, 25 and 50 % in simulated time, judged by failures alone (one percentage point).";

/// Of `judge`.
#[derive(Debug, ClapArgs)]
pub struct JudgeArgs {
    /// The evidence; `-` is the standard input.
    #[arg(required_unless_present = "simulate")]
    pub evidence: Option<PathBuf>,
    /// How the verdict is printed.
    #[arg(long, default_value = "text", value_enum)]
    pub format: Format,
    /// Simulate rollouts instead of reading evidence.
    #[arg(long, conflicts_with = "evidence")]
    pub simulate: bool,
    /// How many rollouts of each kind.
    #[arg(long, requires = "simulate", conflicts_with = "evidence", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Where chance begins; the same seed gives the same table.
    #[arg(long, requires = "simulate", conflicts_with = "evidence", default_value_t = 1)]
    pub seed: u64,
    /// Requests to the route in a second.
    #[arg(long, requires = "simulate", conflicts_with = "evidence", value_delimiter = ',', default_value = "0.2,1,2,5,50", value_parser = rps)]
    pub rps: Vec<f64>,
    /// The part of legacy's requests that fail, in percent; a healthy service fails as often.
    #[arg(long, requires = "simulate", conflicts_with = "evidence", default_value = "0.5%")]
    pub legacy_rate: Weight,
    /// Those of the services that are tried.
    #[arg(long, requires = "simulate", conflicts_with = "evidence", value_delimiter = ',', default_value = "0.5%,3%")]
    pub extracted_rate: Vec<Weight>,
}

fn rps(text: &str) -> Result<f64, String> {
    let rps = text.parse::<f64>().ok().filter(|rps| (0.001..=1_000.0).contains(rps));
    rps.ok_or_else(|| "from 0.001 to 1000 requests a second".to_owned())
}
