//! The clock of the load generator, and waiting until it says a certain time.
//!
//! Knows: the system's monotonic clock; nobody else in `bench` reads it. Does not know: what for.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::time::Moment;

/// A clock that all threads of a run share: their moments can be compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "a load generator measures; here it reads the clock"
    )]
    pub(super) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a load generator measures; here it reads the clock"
    )]
    pub(super) fn now(&self) -> Moment {
        let nanos = Instant::now().duration_since(self.origin).as_nanos();
        Moment::from_nanos(nanos as u64)
    }
}

/// Waits for events, or for a moment: to the millisecond, or exactly.
///
/// epoll_wait(2) counts in milliseconds, so a schedule of thousands a second would come in lumps.
/// Linux has a timer for the exact ones; kqueue counts in nanoseconds anyway.
#[derive(Debug)]
pub(super) struct Waiting {
    #[cfg(target_os = "linux")]
    timer: linux::Timer,
}

impl Waiting {
    pub(super) fn new(poll: &Poll) -> io::Result<Waiting> {
        #[cfg(target_os = "linux")]
        return Ok(Waiting { timer: linux::Timer::new(poll.registry())? });
        #[cfg(not(target_os = "linux"))]
        return {
            let _ = poll;
            Ok(Waiting {})
        };
    }

    /// Waits for events, at the longest until `exact` or about until `rough`.
    pub(super) fn wait(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        now: Moment,
        exact: Option<Moment>,
        rough: Option<Moment>,
    ) -> io::Result<()> {
        let left = |at: Moment| at.since(now);
        #[cfg(target_os = "linux")]
        let timeout = {
            // The timer only has to know of what comes before the rough end.
            let timer = exact.filter(|exact| rough.is_none_or(|rough| *exact < rough));
            match timer {
                Some(exact) if exact <= now => Some(Duration::ZERO),
                Some(exact) => {
                    self.timer.set(exact, left(exact))?;
                    rough.map(left)
                }
                None => rough.map(left),
            }
        };
        #[cfg(not(target_os = "linux"))]
        let timeout = [exact, rough].into_iter().flatten().min().map(left);
        match poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry};
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    use crate::bench::engine::TIMER;
    use crate::time::Moment;

    #[derive(Debug)]
    pub(super) struct Timer {
        timer: TimerFd,
        set_to: Moment,
    }

    impl Timer {
        pub(super) fn new(registry: &Registry) -> io::Result<Timer> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            let fd = timer.as_fd().as_raw_fd();
            // Edge-triggered: each expiry is one event, whether or not it is ever read.
            registry.register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
            Ok(Timer { timer, set_to: Moment::ZERO })
        }

        pub(super) fn set(&mut self, at: Moment, left: Duration) -> io::Result<()> {
            if self.set_to == at {
                return Ok(());
            }
            self.set_to = at;
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            Ok(self.timer.set(once, TimerSetTimeFlags::empty())?)
        }
    }
}
