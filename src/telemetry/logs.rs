//! Where events go: the access log to standard output, everything else to standard error, each by a thread of its own.

use std::io::IsTerminal;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, FilterFn, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::telemetry::access_log::TARGET;

/// Lines that wait to be written; more are lost, never waited for.
const QUEUED_LINES_MAX: usize = 16_384;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Flushes what is queued when dropped: kept by `main`.
#[derive(Debug)]
pub struct LogGuard {
    _threads: Vec<WorkerGuard>,
}

/// Sets the process's logging up. `access`: the format of the access log, or none. The level of everything else comes from
/// `STRANGLER_LOG` (default `info`).
pub fn start(access: Option<Format>) -> LogGuard {
    let (out, out_guard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUED_LINES_MAX).finish(std::io::stdout());
    let (err, err_guard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUED_LINES_MAX).finish(std::io::stderr());

    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("STRANGLER_LOG")
        .from_env_lossy();
    let system = tracing_subscriber::fmt::layer()
        .with_writer(err)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter)
        .with_filter(FilterFn::new(|event| event.target() != TARGET));

    let only_access = || Targets::new().with_target(TARGET, Level::INFO);
    let json = (access == Some(Format::Json)).then(|| {
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_level(false).with_target(false);
        layer.with_writer(out.clone()).with_filter(only_access())
    });
    let text = (access == Some(Format::Text)).then(|| {
        let layer = tracing_subscriber::fmt::layer().with_level(false).with_target(false).with_ansi(false);
        layer.with_writer(out).with_filter(only_access())
    });
    let is_set = tracing_subscriber::registry().with(system).with(json).with(text).try_init();
    if let Err(error) = is_set {
        // Only a test that starts two proxies in one process comes here.
        tracing::debug!(%error, "logging is set up already");
    }
    LogGuard { _threads: vec![out_guard, err_guard] }
}
