//! Monotonic time as a plain number, so that whoever needs it takes it as an argument.
//!
//! Knows: nothing of ours. Does not know: where a moment comes from. A [`crate::poller::Poller`]
//! reads the clock, once per turn; the simulator makes time up.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the poller's monotonic clock, in nanoseconds since an origin of its own.
///
/// 64 bits of nanoseconds last 584 years, so nothing here wraps; arithmetic saturates all the
/// same, because durations come from configuration files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin of the clock.
    pub const ZERO: Moment = Moment(0);
    /// Later than anything that happens: the deadline of what has none.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero where `earlier` is the later one.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    /// Saturates at [`Moment::NEVER`]: a timeout longer than the clock means no timeout.
    fn add(self, span: Duration) -> Moment {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(nanos))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_more_than_the_clock_holds_is_never() {
        assert_eq!(Moment::from_nanos(7) + Duration::MAX, Moment::NEVER);
        assert_eq!(Moment::NEVER + Duration::from_secs(1), Moment::NEVER);
    }

    #[test]
    fn a_span_never_runs_backwards() {
        let (early, late) = (Moment::from_nanos(5), Moment::from_nanos(9));
        assert_eq!(late - early, Duration::from_nanos(4));
        assert_eq!(early - late, Duration::ZERO);
    }
}
