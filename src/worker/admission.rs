//! How many connections there may be at once, on all workers together.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::poller::Waker;

/// A limit shared by all workers: of the process, or of one listener.
///
/// Touched once when a connection begins and once when it ends.
#[derive(Debug)]
pub struct Admission {
    limit: u32,
    open: AtomicU32,
    /// A worker found it full and wants to hear of a free place.
    wanted: AtomicBool,
    wakers: OnceLock<Vec<Waker>>,
}

impl Admission {
    /// At most `limit` connections.
    pub fn new(limit: u32) -> Admission {
        Admission {
            limit,
            open: AtomicU32::new(0),
            wanted: AtomicBool::new(false),
            wakers: OnceLock::new(),
        }
    }

    /// Who is woken when a place becomes free; said once, before the workers run.
    pub fn notify(&self, wakers: Vec<Waker>) {
        let _ = self.wakers.set(wakers);
    }

    /// Takes a place. When there is none, the next one that becomes free wakes the workers.
    pub fn enter(&self) -> bool {
        if self.try_enter() {
            return true;
        }
        // SeqCst: either we see the place that is given back, or who gives it back sees us.
        self.wanted.store(true, Ordering::SeqCst);
        self.try_enter()
    }

    /// Takes a place; where there is none, nobody waits for one.
    pub fn try_enter(&self) -> bool {
        let take = |open| (open < self.limit).then_some(open + 1);
        self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        let before = self.open.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "a place is given back once");
        if self.wanted.load(Ordering::SeqCst) && self.wanted.swap(false, Ordering::SeqCst) {
            for waker in self.wakers.get().into_iter().flatten() {
                waker.wake();
            }
        }
    }

    /// How many there are.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many more there may be.
    pub fn room(&self) -> u32 {
        self.limit.saturating_sub(self.open())
    }

    /// How many there may be.
    pub fn limit(&self) -> u32 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn the_limit_is_exact_and_a_free_place_wakes_once() {
        let woken = Arc::new(AtomicUsize::new(0));
        let admission = Admission::new(2);
        let count = Arc::clone(&woken);
        admission.notify(vec![Waker::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })]);
        assert!(admission.enter() && admission.enter() && !admission.enter());
        assert_eq!(admission.open(), 2);
        admission.leave();
        admission.leave();
        assert_eq!((admission.open(), woken.load(Ordering::Relaxed)), (0, 1));
        assert!(admission.enter());
        admission.leave();
        assert_eq!(woken.load(Ordering::Relaxed), 1, "nobody waited this time");
    }
}
