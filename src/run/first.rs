//! What a start reads before anything is bound: keys, tokens, and the first routes.

use std::io::{self, IsTerminal};

use strangler_core::fault::Fault;
use strangler_core::reload::Source;

use crate::admin::token::AdminTokens;
use crate::config::last_good::{Start, StartOutcome};
use crate::config::{last_good, render};
use crate::run::keys::{self, Keys};
use crate::run::options::Options;
use crate::run::{RunError, say};

pub(super) fn load_keys(options: &Options) -> Result<Keys, RunError> {
    let path = options.keys_file.clone().unwrap_or_else(|| options.state_dir.join(keys::FILE_NAME));
    let (keys, unwritten) = keys::load_or_make(&path)?;
    if let Some(error) = unwritten {
        tracing::error!(file = %path.display(), %error, "cannot keep the keys: overrides signed now end with this process");
    }
    Ok(keys)
}

/// What the first snapshot is made of.
pub(super) struct First {
    pub(super) start: Start,
    pub(super) source: Source,
    pub(super) faults: Vec<Fault>,
    pub(super) refused: Option<Vec<u8>>,
}

pub(super) fn first_routes(options: &Options) -> Result<First, RunError> {
    let origin = options.routes.display().to_string();
    let show = |faults: &[Fault], text: &[u8]| render::text(faults, &origin, text, io::stderr().is_terminal());
    match last_good::start(&options.routes, &options.state_dir, options.strict) {
        StartOutcome::Fresh(start) => {
            let faults = start.warnings.clone();
            if !faults.is_empty() {
                tracing::warn!("the routes file has warnings:\n{}", show(&faults, &start.text));
            }
            Ok(First { start, source: Source::File, faults, refused: None })
        }
        StartOutcome::FromLastGood { start, faults, refused } => {
            let shown = show(&faults, refused.as_deref().unwrap_or_default());
            tracing::error!("the routes file was refused; the last good text is in force until it is mended:\n{shown}");
            Ok(First { start, source: Source::LastGood, faults, refused })
        }
        StartOutcome::Refused { faults, refused } => {
            let shown = show(&faults, refused.as_deref().unwrap_or_default());
            Err(RunError::Refused { path: options.routes.clone(), shown })
        }
    }
}

/// Those who may change things.
pub(super) fn tokens(options: &Options) -> Option<AdminTokens> {
    let read = match &options.admin_token_file {
        Some(path) => AdminTokens::read(path).map(|tokens| (tokens, path.clone(), false)),
        None => AdminTokens::read_or_make(&options.state_dir),
    };
    match read {
        Ok((tokens, path, is_made)) => {
            if is_made {
                say(&format!("admin token made in {}", path.display()));
            }
            Some(tokens)
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "no admin token: changes are only possible by the kill file and signals");
            None
        }
    }
}
