//! A clock that says when the next request of an open loop is due, to the microsecond where the system can.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

/// Where there is a timer that the poll can wait for, it is used; elsewhere the poll wakes each millisecond.
#[derive(Debug)]
pub struct Ticker {
    start: Instant,
    interval: Duration,
    given: u32,
    #[cfg(target_os = "linux")]
    timer: rustix::fd::OwnedFd,
}

impl Ticker {
    /// Starts now. `interval` is more than nothing.
    #[cfg(target_os = "linux")]
    pub fn start(registry: &Registry, token: Token, interval: Duration) -> io::Result<Ticker> {
        use rustix::fd::AsRawFd;
        use rustix::time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
        };
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let every = Timespec::try_from(interval).map_err(|_| io::Error::other("the interval is out of range"))?;
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: every, it_value: every })?;
        let fd = timer.as_raw_fd();
        registry.register(&mut mio::unix::SourceFd(&fd), token, mio::Interest::READABLE)?;
        Ok(Ticker { start: Instant::now(), interval, given: 0, timer })
    }

    /// Starts now. `interval` is more than nothing.
    #[cfg(not(target_os = "linux"))]
    pub fn start(_registry: &Registry, _token: Token, interval: Duration) -> io::Result<Ticker> {
        Ok(Ticker { start: Instant::now(), interval, given: 0 })
    }

    /// The longest that a poll may wait.
    pub fn patience(&self) -> Duration {
        if cfg!(target_os = "linux") { Duration::from_millis(100) } else { Duration::from_millis(1) }
    }

    /// The moment of the next request, if it has come. Ask until it answers `None`.
    pub fn next_due(&mut self) -> Option<Instant> {
        let due = self.start + self.interval * self.given;
        if due > Instant::now() {
            self.rearm();
            return None;
        }
        self.given += 1;
        Some(due)
    }

    /// An edge is told once: it has to be read for the next to be told.
    #[cfg(target_os = "linux")]
    fn rearm(&self) {
        // Nothing to read is as well.
        let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
    }

    #[cfg(not(target_os = "linux"))]
    fn rearm(&self) {}
}
