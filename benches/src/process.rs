//! Processes that are started, looked at and stopped again.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Children that run now, for the thread that waits for signals.
static CHILDREN: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM end all children and let no other start, so that the caller falls through to its end by errors.
pub fn end_children_on_signals() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal as listen};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let context = runtime.enter();
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    drop(context);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        });
        INTERRUPTED.store(true, Ordering::SeqCst);
        for pid in children().iter().copied() {
            signal(pid, Signal::TERM);
        }
    });
    Ok(())
}

fn children() -> std::sync::MutexGuard<'static, Vec<u32>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that does not outlive this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> io::Result<Running> {
        let shown = command.get_program().to_owned();
        let describe =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot start {}: {error}", shown.display()));
        // Held over the start: a signal finds the child, or stops it from starting.
        let mut children = children();
        if INTERRUPTED.load(Ordering::SeqCst) {
            return Err(io::Error::other("interrupted"));
        }
        let child = command.spawn().map_err(describe)?;
        children.push(child.id());
        Ok(Running { child })
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until something accepts at `address`.
    ///
    /// # Errors
    /// It has ended, or nothing accepts in 15 s.
    pub fn wait_for(&mut self, address: SocketAddr) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status} before it listened on {address}")));
            }
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!("it does not listen on {address} after 15 s")));
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    /// Processor time that it and its descendants have used so far, from the scheduler's own count.
    pub fn cpu(&self) -> Duration {
        let nanos = tree(self.child.id()).into_iter().flat_map(tasks).map(|task| {
            let text = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Its memory and its descendants', shared pages counted by their share, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let pss = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
        };
        tree(self.child.id()).into_iter().map(pss).sum()
    }
}

impl Drop for Running {
    /// Asks it to end; after 2 s it is made to, with what it has started.
    fn drop(&mut self) {
        children().retain(|pid| *pid != self.child.id());
        let descendants = tree(self.child.id());
        signal(self.child.id(), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        for pid in descendants.into_iter().rev() {
            signal(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as well.
        let _ = kill_process(pid, signal);
    }
}

/// A process and its descendants, parents first.
fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        for task in tasks(pid) {
            let text = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

fn tasks(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().to_string_lossy().into_owned()).collect()
}

/// Addresses of the loopback at which nothing listens now, all different.
pub fn free_addresses(count: usize) -> io::Result<Vec<SocketAddr>> {
    let held = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<io::Result<Vec<_>>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_its_value() {
        let mut running = Running::start(Command::new("sleep").arg("600")).unwrap();
        let pid = running.child().id();
        assert!(fs::exists(format!("/proc/{pid}/task")).unwrap());
        drop(running);
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    }

    #[test]
    fn one_that_ends_early_is_not_waited_for() {
        let mut running = Running::start(&mut Command::new("false")).unwrap();
        let error = running.wait_for(free_addresses(1).unwrap()[0]).unwrap_err();
        assert!(error.to_string().contains("before it listened"), "{error}");
    }

    #[test]
    fn free_addresses_differ() {
        let addresses = free_addresses(4).unwrap();
        assert!(addresses.iter().enumerate().all(|(at, it)| !addresses[..at].contains(it)));
    }
}
