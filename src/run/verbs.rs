//! The verbs that need no running proxy: they read files and say what they find.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use strangler_core::chain::chain;
use strangler_core::fault::Fault;
use strangler_core::name::RouteName;
use strangler_core::override_token::{LIFETIME_S_MAX, sign};
use strangler_core::runtime::RuntimeState;
use strangler_core::schema;
use strangler_core::snapshot::Snapshot;

use crate::args::{CheckArgs, ExplainArgs, Format, OverrideTokenArgs};
use crate::cli::{self, CliError};
use crate::config::{ReadError, base_of, load_below, read, render, server};
use crate::proxy::tls::TlsSet;
use crate::run::keys::{self, KeysError};
use crate::store::postgres;

/// What a verb found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Done,
    /// The configuration is refused; why has been printed.
    Refused,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> ExitCode {
        match verdict {
            Verdict::Done => ExitCode::SUCCESS,
            Verdict::Refused => ExitCode::from(78),
        }
    }
}

/// Why a verb did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// The routes file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The request could not be explained.
    #[error(transparent)]
    Explain(#[from] CliError),
    /// The keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There are no keys yet.
    #[error("there is no keys file at {}; `strangler run` makes it on its first start, or name one with --keys-file", .0.display())]
    NoKeys(PathBuf),
    /// An override may not live that long.
    #[error("an override is good for {} minutes at most", LIFETIME_S_MAX / 60)]
    Lifetime,
    /// Whoever reads the output has gone.
    #[error("cannot write the answer")]
    Write(#[from] io::Error),
}

impl VerbError {
    /// 1 failed, 2 usage, 78 configuration refused.
    pub fn exit_code(&self) -> u8 {
        match self {
            VerbError::Read(_) => 78,
            VerbError::Explain(error) => error.exit_code(),
            VerbError::Lifetime => 2,
            VerbError::Keys(_) | VerbError::NoKeys(_) | VerbError::Write(_) => 1,
        }
    }
}

/// Says all that is wrong with a routes file, with `strangler.yaml`, or with both.
pub fn check(args: &CheckArgs, out: &mut dyn Write) -> Result<Verdict, VerbError> {
    let mut checked = Vec::new();
    if let Some(path) = &args.config {
        checked.push(check_server(path)?);
    }
    // What is not named is not looked for where something else is.
    let by_default = args.config.is_none().then(|| PathBuf::from("routes.yaml"));
    if let Some(path) = args.file.clone().or(by_default) {
        checked.push(check_routes(&path)?);
    }
    match args.format {
        Format::Json => {
            let all: Vec<Value> = checked.iter().flat_map(Checked::faults_as_json).collect();
            writeln!(out, "{:#}", json!({"faults": all}))?;
        }
        Format::Text => {
            for one in &checked {
                write!(out, "{}", render::text(&one.faults, &one.origin, &one.text, io::stdout().is_terminal()))?;
                if let Some(good) = &one.good {
                    writeln!(out, "{}: good{good}", one.origin)?;
                }
            }
        }
    }
    Ok(if checked.iter().all(|one| one.good.is_some()) { Verdict::Done } else { Verdict::Refused })
}

/// What was found in one file.
struct Checked {
    origin: String,
    text: Vec<u8>,
    faults: Vec<Fault>,
    /// What is in it; `None`: it is refused.
    good: Option<String>,
}

impl Checked {
    fn faults_as_json(&self) -> Vec<Value> {
        match render::json(&self.faults, &self.origin).get_mut("faults").map(Value::take) {
            Some(Value::Array(faults)) => faults,
            _ => Vec::new(),
        }
    }
}

fn check_routes(path: &Path) -> Result<Checked, VerbError> {
    let text = read(path)?;
    let loaded = load_below(&text, base_of(path));
    let good = loaded.table.map(|table| {
        let (routes, upstreams) = (table.routes().len(), table.upstreams().len());
        format!(": {routes} routes, {upstreams} upstreams, revision {}", table.revision())
    });
    Ok(Checked { origin: path.display().to_string(), text, faults: loaded.faults, good })
}

fn check_server(path: &Path) -> Result<Checked, VerbError> {
    let text = read(path)?;
    let loaded = server::load(&text, path);
    let mut faults = loaded.faults;
    let listeners = loaded.asked.iter().flat_map(|asked| asked.listeners.iter().flatten());
    let unusable: Vec<Fault> = listeners
        .zip(&loaded.listeners)
        .enumerate()
        .filter_map(|(index, (listener, place))| {
            let error = TlsSet::check(listener.tls.as_ref()?, listener.protocol).err()?;
            Some(Fault::error(*place, format!("listeners[{index}].tls"), chain(&error)))
        })
        .collect();
    let url_file = loaded.asked.as_ref().and_then(|asked| asked.store_url_file.as_ref());
    let nowhere = url_file.zip(loaded.store).and_then(|(file, place)| {
        let error = postgres::check(file).err()?;
        Some(Fault::error(place, "store.url_file".to_owned(), chain(&error)))
    });
    let unusable: Vec<Fault> = unusable.into_iter().chain(nowhere).collect();
    let good = loaded.asked.filter(|_| unusable.is_empty()).map(|_| String::new());
    faults.extend(unusable);
    Ok(Checked { origin: path.display().to_string(), text, faults, good })
}

/// Explains a request, by a file or by a running proxy.
pub fn explain(args: &ExplainArgs, out: &mut dyn Write) -> Result<Verdict, VerbError> {
    let Some(file) = &args.routes else {
        cli::explain_running(args, out)?;
        return Ok(Verdict::Done);
    };
    let text = read(file)?;
    let loaded = load_below(&text, base_of(file));
    let Some(table) = loaded.table else {
        let shown = render::text(&loaded.faults, &file.display().to_string(), &text, io::stderr().is_terminal());
        write!(io::stderr().lock(), "{shown}")?;
        return Ok(Verdict::Refused);
    };
    let (snapshot, _) = Snapshot::new(table, &RuntimeState::default());
    cli::explain_snapshot(&snapshot, args, out)?;
    Ok(Verdict::Done)
}

/// Prints the JSON Schema of the routes file, or of `strangler.yaml`.
pub fn schema(of_config: bool, out: &mut dyn Write) -> Result<Verdict, VerbError> {
    let schema = if of_config { schema::server_schema() } else { schema::schema() };
    writeln!(out, "{schema:#}")?;
    Ok(Verdict::Done)
}

/// Makes a signed override.
pub fn override_token(args: &OverrideTokenArgs, out: &mut dyn Write) -> Result<Verdict, VerbError> {
    let path = args.keys_file.clone().unwrap_or_else(|| args.state_dir.join(keys::FILE_NAME));
    let key = signing_key(&path)?;
    let ttl_s = args.ttl.as_secs();
    if ttl_s == 0 || ttl_s > LIFETIME_S_MAX {
        return Err(VerbError::Lifetime);
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let route: &RouteName = &args.route;
    let host = args.host.to_ascii_lowercase();
    writeln!(out, "{}", sign(&key, &host, route.as_str(), args.side, now_s + ttl_s))?;
    Ok(Verdict::Done)
}

/// Never makes the file: a token signed with a key that no proxy has would be of no use.
fn signing_key(path: &Path) -> Result<strangler_core::override_token::SigningKey, VerbError> {
    if !path.exists() {
        return Err(VerbError::NoKeys(path.to_owned()));
    }
    let (keys, _) = keys::load_or_make(path)?;
    keys.signing.into_iter().next().ok_or_else(|| VerbError::NoKeys(path.to_owned()))
}
