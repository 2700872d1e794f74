//! Whether a read can bring anything.
//!
//! The library reads whenever it is polled, and it is polled for many reasons: the answer has come, a write is through. Each of
//! those reads would go down through every layer to find nothing. A read that found nothing leaves a waker of its own behind, and
//! until that one is woken the next read finds nothing, either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// The reads of one connection.
#[derive(Default)]
pub(super) struct Reads {
    /// Made at the first read.
    waits: Option<(Arc<Waits>, Waker)>,
    /// Whether the last read found nothing.
    is_waiting: bool,
}

struct Waits {
    is_woken: AtomicBool,
    outer: Mutex<Waker>,
}

impl Reads {
    /// As `read`, which is not asked while there is nothing to read.
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>, read: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let (waits, waker) = self.waits.get_or_insert_with(|| {
            let waits = Arc::new(Waits { is_woken: AtomicBool::new(false), outer: Mutex::new(Waker::noop().clone()) });
            (Arc::clone(&waits), Waker::from(waits))
        });
        // Noted before the look: who wakes after it finds the right one.
        waits.outer.lock().clone_from(cx.waker());
        if !waits.is_woken.swap(false, Ordering::Acquire) && self.is_waiting {
            return Poll::Pending;
        }
        let outcome = read(&mut Context::from_waker(waker));
        self.is_waiting = outcome.is_pending();
        outcome
    }
}

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        let outer = self.outer.lock().clone();
        outer.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicU32);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_read_that_found_nothing_is_made_again_only_once_it_is_woken() {
        let (one, two) = (Arc::<Counter>::default(), Arc::<Counter>::default());
        let (mut reads, mut made, mut left) = (Reads::default(), 0, None);
        let mut poll = |by: &Arc<Counter>, is_there: bool, left: &mut Option<Waker>| {
            let waker = Waker::from(Arc::clone(by));
            let outcome = reads.poll(&mut Context::from_waker(&waker), |cx| {
                made += 1;
                *left = Some(cx.waker().clone());
                if is_there { Poll::Ready(()) } else { Poll::Pending }
            });
            (outcome.is_ready(), made)
        };
        assert_eq!(poll(&one, true, &mut left), (true, 1));
        assert_eq!(poll(&one, true, &mut left), (true, 2), "there may be more");
        assert_eq!(poll(&one, false, &mut left), (false, 3));
        assert_eq!(poll(&one, true, &mut left), (false, 3), "nothing has come");
        // Another task has taken the connection over: it is the one to be woken.
        assert_eq!(poll(&two, true, &mut left), (false, 3));
        left.take().unwrap().wake();
        assert_eq!((one.0.load(Ordering::Relaxed), two.0.load(Ordering::Relaxed)), (0, 1));
        assert_eq!(poll(&two, true, &mut left), (true, 4));
    }

    #[test]
    fn what_comes_while_a_read_is_made_is_read_next() {
        let mut reads = Reads::default();
        let mut cx = Context::from_waker(Waker::noop());
        // Woken at once, as by a runtime that wants the task to give way.
        assert!(
            reads
                .poll(&mut cx, |cx| {
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                })
                .is_pending()
        );
        assert!(reads.poll(&mut cx, |_| Poll::Ready(())).is_ready());
    }
}
