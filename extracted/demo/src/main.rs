//! `make demo`: the monolith, two services taken out of it, strangler in front, and shoppers; one process that starts and stops all.

mod live;
mod metrics;
mod parts;
mod stop;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use parts::{Crew, Part};
use stop::Stop;

const MONOLITH: u16 = 8000;
const PRICING: u16 = 8102;
const PAYMENT: u16 = 8103;
const PROXY: u16 = 8080;
const ADMIN: u16 = 9900;

#[derive(Parser)]
#[command(about = "Starts the estate with strangler in front of it. Ctrl-C stops all of it.")]
struct Args {
    /// The routes that the proxy runs with; edit the file while the demo runs.
    #[arg(long, default_value = "routes.yaml")]
    routes: PathBuf,
    /// Databases, state and logs; what an earlier demo left here is removed first.
    #[arg(long, default_value = ".demo")]
    folder: PathBuf,
    /// Go on with what an earlier demo left.
    #[arg(long)]
    keep: bool,
    /// Requests a second of the shoppers.
    #[arg(long, default_value_t = 40)]
    rate: u32,
    /// How long the shoppers come, as in `30m`.
    #[arg(long = "for", default_value = "30m")]
    lasting: String,
    /// Stop by itself after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    match demo(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &Args) -> io::Result<()> {
    let began = Instant::now();
    let stop = Stop::on_signals()?;
    let parts = parts_of(args)?;
    parts::demand_free_ports(&parts)?;
    prepare(args)?;
    let mut crew = Crew::new(args.folder.join("logs"));
    // Whatever happens in between, the crew stops all when it goes.
    for part in parts {
        say(&format!("starting {:<16}", part.name))?;
        let took = crew.start(part, &stop)?;
        say(&format!(" ready after {:.1} s\n", took.as_secs_f64()))?;
    }
    let first = parts::get(PROXY, "/api/v1/products", Duration::from_secs(5))?;
    say(&format!(
        "\nfirst request through the proxy: {} ({:.1} s after the start)\n",
        first.status,
        began.elapsed().as_secs_f64()
    ))?;
    say(&directions(args, &env::current_exe()?.with_file_name("strangler")))?;
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let ended = live::watch(&mut crew, ADMIN, &stop, until);
    say("\nstopping ...")?;
    crew.stop(&stop);
    say(" stopped, nothing left running\n")?;
    ended
}

/// Where things are, and what to try.
fn directions(args: &Args, strangler: &Path) -> String {
    let (logs, state) = (args.folder.join("logs"), args.folder.join("state"));
    let (routes, logs, state) = (args.routes.display(), logs.display(), state.display());
    // As one would type it.
    let here = env::current_dir().unwrap_or_default();
    let strangler = strangler.strip_prefix(here).unwrap_or(strangler).display();
    format!(
        "
  shop       http://127.0.0.1:{PROXY}/shop
  dashboard  http://127.0.0.1:{ADMIN}/ (the token for what differs: {state}/admin-token)
  metrics    http://127.0.0.1:{ADMIN}/metrics
  routes     {routes} (edit it: it is read again at once)
  logs       {logs}

In another terminal, in this folder:

  export STRANGLER_STATE_DIR={state}
  {strangler} status
  curl -X PUT --data rounding http://127.0.0.1:{PRICING}/__bugs      a bug: the dashboard explains it within a minute
  {strangler} divergences cart-total

Ctrl-C stops all of it.

"
    )
}

/// In the order in which they are started; they are stopped in the other.
fn parts_of(args: &Args) -> io::Result<Vec<Part>> {
    let here = env::current_exe()?;
    let program = |name: &str| {
        let path = here.with_file_name(name);
        let missing = || io::Error::other(format!("{} is not built; `make demo` builds it", path.display()));
        path.is_file().then_some(path.clone()).ok_or_else(missing)
    };
    let service = |name: &'static str, binary: &str, port: u16| -> io::Result<Part> {
        let data = args.folder.join(name);
        let listen = format!("127.0.0.1:{port}");
        Ok(Part::new(name, program(binary)?)
            .args(["--listen", &listen, "--data"])
            .path(&data)
            .ready_at(port, "/healthz"))
    };
    let (front, admin) = (format!("127.0.0.1:{PROXY}"), format!("127.0.0.1:{ADMIN}"));
    let proxy = Part::new("strangler", program("strangler")?)
        .args(["run", "--listen", &front, "--admin", &admin, "--routes"])
        .path(&args.routes)
        // The shoppers say where each customer is.
        .args(["--trusted-proxies", "127.0.0.0/8", "--state-dir"])
        .path(&args.folder.join("state"))
        .holds(PROXY)
        .ready_at(ADMIN, "/readyz");
    let shoppers = Part::new("shoppers", program("estate-load")?)
        .args(["--target", &format!("http://{front}"), "--rate", &args.rate.to_string(), "--for", &args.lasting])
        .may_end();
    Ok(vec![
        service("monolith", "legacy-monolith", MONOLITH)?,
        service("pricing", "estate-pricing", PRICING)?,
        service("payment", "estate-payment", PAYMENT)?,
        proxy,
        shoppers,
    ])
}

/// A folder for this run. Only a folder that a demo has made is ever removed.
fn prepare(args: &Args) -> io::Result<()> {
    const MARK: &str = "made-by-the-demo";
    if !args.routes.is_file() {
        return Err(io::Error::other(format!("there is no {}; run from the repository's root", args.routes.display())));
    }
    let mark = args.folder.join(MARK);
    if args.folder.exists() && !args.keep {
        if !mark.exists() {
            return Err(io::Error::other(format!(
                "{} was not made by a demo; name another --folder",
                args.folder.display()
            )));
        }
        fs::remove_dir_all(&args.folder)?;
    }
    for name in ["logs", "monolith", "pricing", "payment", "state"] {
        fs::create_dir_all(args.folder.join(Path::new(name)))?;
    }
    fs::write(mark, "")
}

/// Without a reader (a closed pipe) there is nobody to show anything: the demo ends.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
