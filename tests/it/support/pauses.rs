//! Times in which the machine let the proxy, or this process, do nothing: what was asked for then says nothing of the proxy.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A look that is so late was paused itself.
const LATE: Duration = Duration::from_secs(1);

/// Pauses by their ends; a few at most in a run.
static PAUSES: Mutex<Vec<(Instant, Instant)>> = Mutex::new(Vec::new());

/// Ends the watch when dropped.
pub(crate) struct Watch(std::sync::Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Notes when a process is stopped, by SIGSTOP or a debugger, and when this one is.
pub(crate) fn watch(pid: u32) -> Watch {
    let end = std::sync::Arc::<AtomicBool>::default();
    let told = std::sync::Arc::clone(&end);
    std::thread::spawn(move || {
        let mut last = Instant::now();
        while !told.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY);
            let now = Instant::now();
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let is_stopped = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't']));
            if is_stopped || now - last > LATE {
                note(last, now);
            }
            last = now;
        }
    });
    Watch(end)
}

fn note(from: Instant, to: Instant) {
    let mut pauses = PAUSES.lock().unwrap();
    match pauses.last_mut() {
        Some(last) if last.1 + LATE >= from => last.1 = to,
        _ => pauses.push((from, to)),
    }
}

/// How long the process was paused between two times; a little is added on both sides.
pub(crate) fn paused(from: Instant, to: Instant) -> Duration {
    let pauses = PAUSES.lock().unwrap();
    let within = pauses.iter().map(|(begin, end)| {
        let begin = begin.checked_sub(LOOK_EVERY).unwrap_or(*begin).max(from);
        let end = (*end + LATE).min(to);
        end.saturating_duration_since(begin)
    });
    within.sum()
}

/// All pauses so far.
pub(crate) fn total() -> Duration {
    PAUSES.lock().unwrap().iter().map(|(from, to)| *to - *from).sum()
}

/// Time between two moments without the pauses.
pub(crate) fn awake(from: Instant, to: Instant) -> Duration {
    (to - from).saturating_sub(paused(from, to))
}
