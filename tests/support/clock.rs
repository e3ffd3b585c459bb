//! Waiting for something real, with a deadline.
//!
//! Nothing here is a pause for its own sake: a wait ends as soon as its condition holds, and a
//! condition that never holds ends in a message that says what was missing.

use std::time::{Duration, Instant};

use crossbeam_channel::tick;

/// How long a thing that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// The time by the clock on the wall of the test.
#[allow(clippy::disallowed_methods, reason = "a test watches the proxy by the real clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `condition` again and again until it answers; panics with `what` once `limit` is over.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = now();
    let ticks = tick(Duration::from_millis(2));
    loop {
        if let Some(answer) = condition() {
            return answer;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        let _ = ticks.recv();
    }
}

/// Watches `condition` for the whole of `span`: true if it held every time it was asked.
pub fn holds_for(span: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = now();
    let ticks = tick(Duration::from_millis(10));
    while start.elapsed() < span {
        if !condition() {
            return false;
        }
        let _ = ticks.recv();
    }
    true
}
