//! Monotonic time as a plain number, so that whoever needs it takes it as an argument.
//!
//! Knows: nothing of ours. Does not know: where a moment comes from. A [`crate::poller::Poller`]
//! reads the clock, once per turn; the simulator makes time up.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the pollers' monotonic clock, in nanoseconds since an origin of their own, the same for
/// all of a process: workers compare moments with each other's.
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

/// A moment in half the space, to an eighth of a second: for what is looked after now and then.
///
/// Rounded down, so whoever waits for a span to pass since then waits an eighth of a second less at
/// the worst, and never more. 32 bits of them last 18 years; from then on a moment is
/// [`Beat::NEVER`], and what would have followed it never comes, which is better than at once and
/// for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beat(u32);

impl Beat {
    /// As [`Moment::NEVER`].
    pub const NEVER: Beat = Beat(u32::MAX);

    /// When it began.
    pub const fn moment(self) -> Moment {
        if self.0 == u32::MAX { Moment::NEVER } else { Moment((self.0 as u64) << BEAT_BITS) }
    }
}

impl From<Moment> for Beat {
    fn from(moment: Moment) -> Beat {
        Beat(u32::try_from(moment.0 >> BEAT_BITS).unwrap_or(u32::MAX))
    }
}

impl Add<Duration> for Beat {
    type Output = Moment;

    /// Saturates as moments do.
    fn add(self, span: Duration) -> Moment {
        self.moment() + span
    }
}

/// How many bits of nanoseconds make a [`Beat`]: 134 ms.
const BEAT_BITS: u32 = 27;

/// A span of time to seven digits, with a place left for `None` in four bytes: for reports.
///
/// Rounded down, so that a part is never longer than the whole it was measured with. No time at all
/// counts as a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lapse(
    /// The bits of a 32 bit floating-point number of nanoseconds, 1.0 or more.
    NonZeroU32,
);

impl Lapse {
    /// The span again, as far as it was kept.
    pub fn span(self) -> Duration {
        Duration::from_nanos(f32::from_bits(self.0.get()) as u64)
    }
}

impl From<Duration> for Lapse {
    fn from(span: Duration) -> Lapse {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1);
        // More digits than the number has room for are cut off here, for it would round them.
        let spare = (u64::BITS - nanos.leading_zeros()).saturating_sub(f32::MANTISSA_DIGITS);
        let kept = (nanos >> spare << spare) as f32;
        Lapse(
            NonZeroU32::new(kept.to_bits())
                .expect("only 0.0 has no bit set, and this is 1 or more"),
        )
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

    #[test]
    fn a_beat_is_the_eighth_of_a_second_it_began_in() {
        let moment = Moment::from_nanos(3_600_000_000_000);
        let behind = moment - Beat::from(moment).moment();
        assert!(behind < Duration::from_millis(135), "{behind:?}");
        assert_eq!(Beat::from(Beat::from(moment).moment()), Beat::from(moment));
        assert!(Beat::from(moment + Duration::from_millis(135)) > Beat::from(moment));
        assert_eq!(Beat::from(Moment::ZERO) + Duration::from_nanos(7), Moment::from_nanos(7));
    }

    #[test]
    fn beats_last_18_years_and_then_nothing_follows_them() {
        let year = Duration::from_secs(365 * 86_400);
        assert_ne!(Beat::from(Moment::ZERO + year * 18), Beat::NEVER);
        assert_eq!(Beat::from(Moment::ZERO + year * 19), Beat::NEVER);
        assert_eq!(Beat::from(Moment::NEVER) + Duration::from_secs(1), Moment::NEVER);
    }

    #[test]
    fn a_lapse_keeps_seven_digits_and_is_never_longer_than_the_span() {
        let mut nanos = 1;
        while nanos < u64::MAX / 3 {
            let span = Duration::from_nanos(nanos);
            let kept = Lapse::from(span).span();
            assert!(kept <= span && span - kept <= span / 8_000_000, "{span:?} became {kept:?}");
            nanos = nanos * 3 + 1;
        }
        assert_eq!(Lapse::from(Duration::from_micros(16_777)).span().as_micros(), 16_777);
        assert_eq!(Lapse::from(Duration::ZERO).span(), Duration::from_nanos(1));
        assert!(Lapse::from(Duration::MAX).span() > Duration::from_secs(584 * 365 * 86_400));
        assert_eq!(size_of::<Option<Lapse>>(), 4);
    }
}
