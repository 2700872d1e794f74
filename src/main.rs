//! temporary
use strangler::run::options::Options;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let args: Vec<String> =
        std::env::args().flat_map(|a| a.split('=').map(str::to_owned).collect::<Vec<_>>()).collect();
    let get = |name: &str| args.iter().position(|a| a == name).map(|at| args[at + 1].clone());
    let _guard = strangler::telemetry::logs::start(None);
    let options = Options {
        routes: get("--routes").unwrap().into(),
        listen: vec![get("--listen").unwrap().parse().unwrap()],
        admin: get("--admin").unwrap().parse().unwrap(),
        telemetry: None,
        state_dir: get("--state-dir").unwrap().into(),
        threads: get("--threads").and_then(|t| t.parse().ok()).unwrap_or(1),
        access_log: None,
        strict: false,
        keys_file: None,
        admin_token_file: None,
        trusted: get("--trusted-proxies").map(|t| t.parse().unwrap()).into_iter().collect(),
        expose_decision: false,
        drain_deadline: std::time::Duration::from_secs(30),
    };
    match strangler::run::run(options) {
        Ok(()) => 0.into(),
        Err(error) => {
            eprintln!("{error}: {:?}", std::error::Error::source(&error));
            error.exit_code().into()
        }
    }
}
