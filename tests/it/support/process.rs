//! What the system knows of a process.

/// A line of its status in KiB, as `VmRSS`, in bytes.
pub(crate) fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|it| it.starts_with(line) && it[line.len()..].starts_with(':')).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Seconds of processor time so far, at 100 ticks a second.
pub(crate) fn busy_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

/// Descriptors it has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// How many descriptors a process may have from now on.
pub(crate) fn allow_descriptors(pid: u32, most: usize) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limit = rustix::process::Rlimit { current: Some(most as u64), ..own };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
}

/// Lets this process have as many as the system allows.
pub(crate) fn raise_own_descriptors() -> u64 {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: own.maximum, ..own };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    own.maximum.unwrap_or(u64::MAX)
}
