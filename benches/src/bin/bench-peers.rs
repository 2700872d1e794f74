//! The proxy beside its peers, on the same work, in one run.
//!
//! Each proxy is pinned to one processor with one thread; backend and load generator to another. What counts is the processor time
//! per request, taken from the scheduler's own count over the proxy's processes, as a ratio to nginx in the same round: that
//! holds on a machine with other work, where times on a clock do not.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use strangler_bench::peers::{Job, Peer, Place};
use strangler_bench::process::{Running, end_children_on_signals, free_addresses};
use strangler_bench::scenarios::Scenario;
use strangler_bench::statistics::{chance_interval, median, range};

#[derive(Parser)]
#[command(about = "Runs the proxy beside nginx, HAProxy and Envoy on the same work and prints ratios.")]
struct Args {
    /// How often each measurement is taken; the peers take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rounds of shadow-hang.
    #[arg(long, default_value_t = 10)]
    hang_rounds: usize,
    /// Who is measured. Default: all that are there.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Peer>,
    /// What is measured. Default: all.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// Length of a measurement.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Connections of the scenario `idle`.
    #[arg(long, default_value_t = 5_000)]
    idle_connections: u64,
    /// The proxy's program. Default: `strangler` beside this program.
    #[arg(long)]
    strangler: Option<PathBuf>,
    /// Envoy's program. Default: the one of `make bench-setup`, else the one in the PATH.
    #[arg(long, env = "ENVOY")]
    envoy: Option<PathBuf>,
    /// The processor of the proxies.
    #[arg(long, default_value_t = 0)]
    proxy_cpu: usize,
    /// The processor of backend and load generator.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Where the measurements are written, all of them.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Of shadow-hang; the first two are alike.
const ARMS: [Job; 3] = [Job::Quiet, Job::Quiet, Job::Hanging];

/// What the load generator says.
#[derive(Clone, Debug, Deserialize)]
struct Report {
    answered: u64,
    errors: u64,
    bytes: u64,
    seconds: f64,
    p50_us: f64,
    p99_us: f64,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    /// Microseconds of processor time per request; bytes per connection for `idle`.
    cost: f64,
    per_second: f64,
    bytes_per_cpu_second: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
    /// Requests at the second backend per request answered.
    copies: f64,
}

type Samples = BTreeMap<(&'static str, &'static str), Vec<Sample>>;

fn main() -> ExitCode {
    let args = Args::parse();
    match end_children_on_signals().and_then(|()| Bench::new(args)?.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    args: Args,
    place: Place,
    programs: Vec<(Peer, PathBuf)>,
    load: PathBuf,
    /// Ends with this value, as does the folder.
    _backend: Running,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(args: Args) -> io::Result<Bench> {
        if !cfg!(target_os = "linux") {
            return Err(io::Error::other(
                "processor time is read from /proc and processes are pinned by taskset: Linux only",
            ));
        }
        let here = env::current_exe()?;
        let beside = |name: &str| here.with_file_name(name);
        let folder = tempfile::Builder::new().prefix("strangler-bench-").tempdir()?;
        let mut command = pinned(args.load_cpu, &beside("bench-backend"));
        command.args(["--answering", "2", "--hanging", "1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut backend = Running::start(&mut command)?;
        let addresses = first_line(&mut backend)?;
        let addresses: Vec<SocketAddr> = addresses.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        let [legacy, extracted, hanging] = addresses[..] else {
            return Err(io::Error::other("the backend did not say where it listens"));
        };
        let place = Place { folder: folder.path().to_owned(), legacy, extracted, hanging };
        let programs = programs(&args, &beside("strangler"));
        Ok(Bench { place, programs, load: beside("bench-load"), args, _backend: backend, _folder: folder })
    }

    fn run(&self) -> io::Result<()> {
        let wanted = |scenario: &Scenario| self.args.scenarios.is_empty() || self.args.scenarios.contains(scenario);
        let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(wanted).collect();
        let mut samples = Samples::new();
        let counted: Vec<Scenario> = scenarios.iter().copied().filter(|it| *it != Scenario::ShadowHang).collect();
        for round in 0..self.args.rounds {
            for at in 0..self.programs.len() {
                // Another one begins each round.
                let (peer, program) = &self.programs[(at + round) % self.programs.len()];
                // What has been served before would be in the memory that is looked at: `idle` gets a process of its own.
                let of = |job| counted.iter().copied().filter(move |it| it.job() == job);
                let (idle, split): (Vec<_>, Vec<_>) = of(Job::Split).partition(|it| *it == Scenario::Idle);
                let groups = [split, idle, of(Job::Mirror).collect(), of(Job::Compare).collect()];
                for group in groups.into_iter().filter(|group| !group.is_empty() && peer.can(group[0].job())) {
                    let names: Vec<&str> = group.iter().map(|it| it.name()).collect();
                    let done = format!("round {} of {}", round + 1, self.args.rounds);
                    progress(&format!("{done}: {} ({})", peer.name(), names.join(", ")));
                    self.measure(*peer, program, &group, &mut samples)?;
                }
            }
        }
        progress("");
        for scenario in counted {
            print_table(scenario, &samples);
        }
        let hang = scenarios.contains(&Scenario::ShadowHang).then(|| self.shadow_hang()).transpose()?.flatten();
        if let Some(path) = &self.args.json {
            let rows: Vec<_> = samples
                .iter()
                .map(|((scenario, peer), samples)| serde_json::json!({"scenario": scenario, "peer": peer, "rounds": samples}))
                .collect();
            fs::write(path, serde_json::json!({"samples": rows, "shadow_hang": hang}).to_string())?;
        }
        Ok(())
    }

    /// Starts a proxy and takes one sample of each of the scenarios, which have one job.
    fn measure(&self, peer: Peer, program: &Path, scenarios: &[Scenario], samples: &mut Samples) -> io::Result<()> {
        let (proxy, front) = self.start(peer, program, scenarios[0].job())?;
        self.load(front, &["--connections", "64", "--seconds", "0.7"])?;
        for scenario in scenarios {
            let sample = if *scenario == Scenario::Idle {
                self.idle(&proxy, front)?
            } else {
                self.cost(&proxy, front, *scenario)?
            };
            samples.entry((scenario.name(), peer.name())).or_default().push(sample);
        }
        Ok(())
    }

    fn start(&self, peer: Peer, program: &Path, job: Job) -> io::Result<(Running, SocketAddr)> {
        let addresses = free_addresses(2)?;
        let listen = [addresses[0], addresses[1]];
        let plain = peer.command(program, job, &self.place, listen)?;
        let log = self.place.folder.join(format!("{}-{}.log", peer.name(), listen[0].port()));
        let with_log = |error: io::Error| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = said.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            io::Error::other(format!("{}: {error}\n{}", peer.name(), tail.join("\n")))
        };
        let mut command = pinned(self.args.proxy_cpu, Path::new(plain.get_program()));
        let log_file = fs::OpenOptions::new().append(true).create(true).open(&log)?;
        command.args(plain.get_args()).stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
        let mut proxy = Running::start(&mut command).map_err(with_log)?;
        proxy.wait_for(listen[0]).map_err(with_log)?;
        Ok((proxy, listen[0]))
    }

    fn cost(&self, proxy: &Running, front: SocketAddr, scenario: Scenario) -> io::Result<Sample> {
        let seconds = self.args.seconds.to_string();
        let copied_before = self.count(1)?;
        let cpu_before = proxy.cpu();
        let report = self.load(front, &[scenario.load(), &["--seconds", &seconds]].concat())?;
        // Copies may still be under way; what they cost is counted as well.
        thread::sleep(Duration::from_millis(if scenario.job() == Job::Split { 0 } else { 300 }));
        let cpu = proxy.cpu().saturating_sub(cpu_before).as_secs_f64();
        let copies = self.count(1)? - copied_before;
        let answered = float(report.answered.max(1));
        Ok(Sample {
            cost: cpu * 1e6 / answered,
            per_second: answered / report.seconds,
            bytes_per_cpu_second: if cpu > 0.0 { float(report.bytes) / cpu } else { 0.0 },
            p50_us: report.p50_us,
            p99_us: report.p99_us,
            errors: report.errors,
            copies: float(copies) / answered,
        })
    }

    fn idle(&self, proxy: &Running, front: SocketAddr) -> io::Result<Sample> {
        let wanted = self.args.idle_connections;
        thread::sleep(Duration::from_millis(500));
        let before = proxy.memory_kib();
        let mut command = pinned(self.args.load_cpu, &self.load);
        command.args(["--to", &front.to_string(), "--hold", "--connections", &wanted.to_string()]);
        let mut holder = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let said = first_line(&mut holder)?;
        thread::sleep(Duration::from_millis(1_500));
        let after = proxy.memory_kib();
        let held =
            serde_json::from_str::<serde_json::Value>(&said).ok().and_then(|it| it["held"].as_u64()).unwrap_or(0);
        Ok(Sample {
            cost: float(after.saturating_sub(before)) * 1_024.0 / float(held.max(1)),
            per_second: 0.0,
            bytes_per_cpu_second: 0.0,
            p50_us: 0.0,
            p99_us: 0.0,
            errors: wanted - held.min(wanted),
            copies: 0.0,
        })
    }

    /// Three proxies take turns: two that copy nothing (they show what chance does), one whose copies are never answered.
    fn shadow_hang(&self) -> io::Result<Option<serde_json::Value>> {
        let Some((peer, program)) = self.programs.iter().find(|(peer, _)| *peer == Peer::Strangler) else {
            println!("\nshadow-hang: the proxy is not among the measured");
            return Ok(None);
        };
        let seconds = self.args.seconds.to_string();
        let mut p50: [Vec<f64>; 3] = Default::default();
        let mut p99: [Vec<f64>; 3] = Default::default();
        let (mut errors, mut copies) = (0, 0);
        for round in 0..self.args.hang_rounds {
            for turn in 0..ARMS.len() {
                let arm = (turn + round) % ARMS.len();
                progress(&format!("shadow-hang: round {} of {}", round + 1, self.args.hang_rounds));
                let (_proxy, front) = self.start(*peer, program, ARMS[arm])?;
                let copied_before = self.count(2)?;
                let load = Scenario::ShadowHang.load();
                self.load(front, &[load, &["--seconds", "0.7"]].concat())?;
                let report = self.load(front, &[load, &["--seconds", &seconds]].concat())?;
                copies += if ARMS[arm] == Job::Hanging { self.count(2)? - copied_before } else { 0 };
                errors += report.errors;
                p50[arm].push(report.p50_us);
                p99[arm].push(report.p99_us);
            }
        }
        progress("");
        println!(
            "\nshadow-hang: {} rounds, 1,000 requests a second; copies at the hanging target {copies}, errors {errors}",
            p50[0].len()
        );
        println!(
            "{:6}{:>14}{:>14}{:>16}{:>24}   verdict",
            "", "without us", "with us", "difference us", "by chance alone us"
        );
        let mut is_free = copies > 0 && errors == 0;
        let mut rows = Vec::new();
        for (name, arms) in [("p50", &p50), ("p99", &p99)] {
            let less = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
            let (low, high) = chance_interval(&less(&arms[1], &arms[0]));
            let difference = median(&less(&arms[2], &arms[0]));
            let verdict = if difference > high {
                "above: it costs the users time"
            } else if difference < low {
                "below"
            } else {
                "inside"
            };
            is_free &= verdict == "inside";
            println!(
                "{name:6}{:14.1}{:14.1}{difference:16.1}{:>24}   {verdict}",
                median(&arms[0]),
                median(&arms[2]),
                format!("{low:.1} to {high:.1}")
            );
            rows.push(serde_json::json!({"quantile": name, "rounds": arms, "difference": difference, "chance": [low, high], "verdict": verdict}));
        }
        let verdict = match (copies, is_free) {
            (0, _) => "no copy reached the target: nothing is shown",
            (_, true) => "a target that hangs adds nothing that chance does not",
            (_, false) => "not shown: see above",
        };
        println!("{verdict}");
        Ok(Some(serde_json::json!({"copies": copies, "errors": errors, "verdict": verdict, "quantiles": rows})))
    }

    fn load(&self, front: SocketAddr, args: &[&str]) -> io::Result<Report> {
        let mut command = pinned(self.args.load_cpu, &self.load);
        command.args(["--to", &front.to_string()]).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut load = Running::start(&mut command)?;
        serde_json::from_str(&first_line(&mut load)?)
            .map_err(|error| io::Error::other(format!("the load generator did not report: {error}")))
    }

    /// Requests that the backend's listener of that number has had.
    fn count(&self, listener: usize) -> io::Result<u64> {
        let mut stream = TcpStream::connect(self.place.legacy)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /count HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
        let counts: Vec<u64> = serde_json::from_str(body).map_err(io::Error::other)?;
        counts.get(listener).copied().ok_or_else(|| io::Error::other("the backend has no such listener"))
    }
}

/// Those of the wanted that are there; what is missing is said.
fn programs(args: &Args, strangler_beside: &Path) -> Vec<(Peer, PathBuf)> {
    let mut found = Vec::new();
    for peer in Peer::ALL {
        if !args.only.is_empty() && !args.only.contains(&peer) {
            continue;
        }
        let program = match peer {
            Peer::Nginx => in_path("nginx"),
            Peer::Haproxy => in_path("haproxy"),
            Peer::Envoy => args.envoy.clone().or_else(envoy_of_setup).or_else(|| in_path("envoy")),
            Peer::Strangler => Some(args.strangler.clone().unwrap_or_else(|| strangler_beside.to_owned())),
        };
        match program.filter(|path| path.is_file()) {
            Some(program) => found.push((peer, program)),
            None => println!("{} is not here and is left out (make bench-setup installs the peers)", peer.name()),
        }
    }
    found
}

/// `make bench-setup` puts Envoy into a virtual environment below `target/`.
fn envoy_of_setup() -> Option<PathBuf> {
    let target = env::current_exe().ok()?.parent()?.parent()?.to_owned();
    let libraries = fs::read_dir(target.join("bench-venv/lib")).ok()?;
    libraries.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy")).find(|path| path.is_file())
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Servers live in sbin, which is not in every user's PATH.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn pinned(cpu: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cpu.to_string()).arg(program);
    command
}

fn first_line(running: &mut Running) -> io::Result<String> {
    let stdout = running.child().stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(line)
}

fn print_table(scenario: Scenario, samples: &Samples) {
    if !samples.keys().any(|(name, _)| *name == scenario.name()) {
        return;
    }
    let measure = samples.get(&(scenario.measured_against().name(), Peer::Nginx.name()));
    let against = if scenario == Scenario::Compare { "ratio to nginx's mirror" } else { "ratio to nginx" };
    let unit = if scenario == Scenario::Idle { "bytes each" } else { "CPU us/req" };
    println!(
        "\n{:12}{:>26}{:>26}{:>10}{:>16}{:>12}{:>8}{:>8}",
        scenario.name(),
        unit,
        against,
        "req/s",
        "p50/p99 us",
        "MB/CPU-s",
        "copies",
        "errors"
    );
    for peer in Peer::ALL {
        let Some(got) = samples.get(&(scenario.name(), peer.name())) else { continue };
        let of = |pick: fn(&Sample) -> f64| got.iter().map(pick).collect::<Vec<f64>>();
        let ratios = measure
            .map(|measure| got.iter().zip(measure).map(|(a, b)| a.cost / b.cost.max(1e-9)).collect::<Vec<f64>>());
        println!(
            "{:12}{:>26}{:>26}{:>10.0}{:>16}{:>12.0}{:>8}{:>8}",
            peer.name(),
            spread(&of(|it| it.cost)),
            ratios.as_deref().map_or_else(|| "-".to_owned(), spread),
            median(&of(|it| it.per_second)),
            format!("{:.0}/{:.0}", median(&of(|it| it.p50_us)), median(&of(|it| it.p99_us))),
            median(&of(|it| it.bytes_per_cpu_second)) / 1e6,
            if matches!(scenario, Scenario::Mirror | Scenario::Compare) {
                format!("{:.3}", range(&of(|it| it.copies)).0)
            } else {
                "-".to_owned()
            },
            got.iter().map(|it| it.errors).sum::<u64>()
        );
    }
    if matches!(scenario, Scenario::Mirror | Scenario::Compare) {
        println!("{:12}copies: the least of the rounds, per request answered; a copy that is dropped is no saving", "");
    }
}

/// `median (least-greatest)`.
fn spread(values: &[f64]) -> String {
    let (low, high) = range(values);
    format!("{:.2} ({low:.2}-{high:.2})", median(values))
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count / 1_000_000).unwrap_or(u32::MAX)) * 1e6
        + f64::from(u32::try_from(count % 1_000_000).unwrap_or(0))
}

/// One line that overwrites itself, for people who wait.
fn progress(text: &str) {
    let mut out = io::stderr();
    let _ = write!(out, "\r\x1b[K{text}");
    let _ = out.flush();
}
