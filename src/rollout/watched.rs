//! Keeps the rollouts' thread running: what a panic ended begins again, after a while that grows.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::rollout::locked;

/// From a panic to the first new begin; twice as long after each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// At most.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A life this long was a sound one: the pause begins at its shortest again.
const SOUND_AFTER: Duration = Duration::from_secs(300);

/// How the thread is.
#[derive(Debug, Default)]
pub struct Condition {
    restarts: AtomicU64,
    down: Mutex<Option<String>>,
}

impl Condition {
    /// Why no rollout is looked at now, so that all of them stay where they are; `None`: they are.
    pub fn down(&self) -> Option<String> {
        locked(&self.down).clone()
    }

    /// How often it had to begin again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    fn is_down(&self, why: Option<String>) {
        *locked(&self.down) = why;
    }
}

/// Calls `live` until it returns, again and again after panics: at most once a second, and once a minute in the end. Between two lives every
/// rollout stays where it is. `stop` ends the waiting.
pub fn keep_running(condition: &Arc<Condition>, stop: &watch::Receiver<bool>, mut live: impl FnMut()) {
    let mut pause = PAUSE_MIN;
    loop {
        let begun = Instant::now();
        condition.is_down(None);
        let Err(panic) = catch_unwind(AssertUnwindSafe(&mut live)) else { return };
        let why = said(panic.as_ref());
        condition.restarts.fetch_add(1, Ordering::Relaxed);
        if begun.elapsed() >= SOUND_AFTER {
            pause = PAUSE_MIN;
        }
        tracing::error!(
            why,
            ?pause,
            "what moves rollouts has ended by a fault of its own: all of them stay where they are, and it begins again"
        );
        condition
            .is_down(Some(format!("what moves rollouts has ended by a fault of its own ({why}) and begins again")));
        let waiting = Instant::now();
        while waiting.elapsed() < pause {
            if *stop.borrow() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it does not say which".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_ended_begins_again_and_says_so_meanwhile() {
        let condition = Arc::<Condition>::default();
        let (_stop, stopping) = watch::channel(false);
        let mut lives = 0;
        let seen = Arc::clone(&condition);
        let watcher = std::thread::spawn(move || {
            let begun = Instant::now();
            while seen.down().is_none() && begun.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(5));
            }
            seen.down()
        });
        keep_running(&condition, &stopping, || {
            lives += 1;
            assert!(lives > 1, "a planted fault");
        });
        let told = watcher.join().expect("a watcher").expect("it was down for a while");
        assert!(told.contains("a planted fault"), "{told}");
        assert_eq!((lives, condition.restarts(), condition.down()), (2, 1, None));
    }

    #[test]
    fn whoever_stops_does_not_wait_for_the_next_life() {
        let condition = Arc::<Condition>::default();
        let (stop, stopping) = watch::channel(false);
        let mut lives = 0;
        keep_running(&condition, &stopping, || {
            lives += 1;
            stop.send(true).expect("somebody listens");
            panic!("and again");
        });
        assert_eq!((lives, condition.restarts()), (1, 1));
        assert!(condition.down().is_some());
    }
}
