//! When an operation is due, and how late it was: the honest half of a latency.
//!
//! Knows: time, as a number it is told. Does not know: sockets, clocks, who carries operations out.
//!
//! A closed loop starts the next operation when one is over, so a target that stalls is simply asked
//! less and the stall shows once, in one latency. That is *coordinated omission*. An open loop has a
//! schedule that nobody can delay: what a stall holds up stays due, and its latency counts from the
//! moment it was due ([`Ticket::response`]), not from the moment somebody got round to it
//! ([`Ticket::service`]).
//!
//! ```text
//!   due ─────────────── started ──────────────────── over
//!    │   held up by others  │   the target's own time  │
//!    └──────────────────────┴─────────── response ─────┘
//!                           └─────────── service ──────┘
//! ```

use std::time::Duration;

use crate::time::Moment;

/// How operations follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one when one is over.
    Closed,
    /// By a schedule.
    Open(Schedule),
}

/// Evenly spaced moments. Several threads share one schedule, each its own part of it, so that
/// together they start exactly what was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Operations per second, of all parts together; more than zero.
    pub per_second: f64,
    /// Which part this is, from zero.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
}

impl Schedule {
    /// When the operation with this number (of this part, from zero) is due after the begin.
    fn offset(&self, number: u64) -> Duration {
        let place = u64::from(self.part) + number * u64::from(self.parts);
        // Exact to the nanosecond for the first hundred days.
        Duration::from_nanos((place as f64 * 1e9 / self.per_second) as u64)
    }
}

/// One operation's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// When it should have started.
    pub due: Moment,
    /// When it did.
    pub started: Moment,
}

impl Ticket {
    /// What the target took.
    pub fn service(&self, over: Moment) -> Duration {
        over.since(self.started)
    }

    /// What somebody who wanted it done on time had to wait.
    pub fn response(&self, over: Moment) -> Duration {
        over.since(self.due)
    }
}

/// Hands out operations, from the begin to the end of a run.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    pace: Pace,
    begins: Moment,
    ends: Moment,
    taken: u64,
}

impl Pacer {
    /// Operations are due from `begins` until just before `ends`.
    pub fn new(pace: Pace, begins: Moment, ends: Moment) -> Pacer {
        Pacer { pace, begins, ends, taken: 0 }
    }

    /// When the first operation is due.
    pub fn begins(&self) -> Moment {
        self.begins
    }

    /// The moment at which no more become due.
    pub fn ends(&self) -> Moment {
        self.ends
    }

    /// Nothing becomes due from `now` on. What was due before is still handed out.
    pub fn end(&mut self, now: Moment) {
        self.ends = self.ends.min(now);
    }

    /// When the operation that is due at `now` was due, if there is one. Whoever asks starts it.
    pub fn take(&mut self, now: Moment) -> Option<Moment> {
        let due = self.next(now).filter(|due| *due <= now)?;
        self.taken += 1;
        Some(due)
    }

    /// When the next operation is due, now or later; in a closed loop that is always now.
    pub fn next(&self, now: Moment) -> Option<Moment> {
        let due = match &self.pace {
            Pace::Closed => now.max(self.begins),
            Pace::Open(schedule) => self.begins + schedule.offset(self.taken),
        };
        (due < self.ends).then_some(due)
    }

    /// How many are due by `now` and were not handed out. In a closed loop none ever is.
    pub fn owed(&self, now: Moment) -> u64 {
        let Pace::Open(schedule) = &self.pace else { return 0 };
        let is_due = |number| {
            let due = self.begins + schedule.offset(number);
            due <= now && due < self.ends
        };
        // Dues only ever rise: find the first that is not, by doubling and then halving.
        let mut low = self.taken;
        let mut high = self.taken + 1;
        while is_due(high) {
            low = high;
            high = high.saturating_mul(2);
        }
        if !is_due(low) {
            return 0;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if is_due(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low + 1 - self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tally::Latency;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn open(per_second: f64) -> Pace {
        Pace::Open(Schedule { per_second, part: 0, parts: 1 })
    }

    /// One connection against a target that answers in 1 ms, except that it answers nothing
    /// between 500 ms and 1,500 ms; ten seconds of it, in virtual time.
    fn against_a_stall(pace: Pace) -> (Latency, Latency) {
        let mut pacer = Pacer::new(pace, at(0), at(10_000));
        let (mut service, mut response) = (Latency::new(), Latency::new());
        let mut now = at(0);
        while let Some(next) = pacer.next(now) {
            now = now.max(next);
            let due = pacer.take(now).expect("it is due now");
            let ticket = Ticket { due, started: now };
            now = now + MS;
            if now > at(500) && now < at(1_500) {
                now = at(1_500);
            }
            service.record(ticket.service(now));
            response.record(ticket.response(now));
        }
        (service, response)
    }

    #[test]
    fn a_stall_shows_in_the_response_time_of_everything_it_held_up() {
        let (service, response) = against_a_stall(open(100.0));
        assert_eq!((service.count(), response.count()), (1_000, 1_000));
        // One request in a thousand met the stall itself.
        assert!(service.quantile(0.99) < 2 * MS, "{:?}", service.quantile(0.99));
        assert!(service.max() > 990 * MS);
        // A tenth of them, those that were due in that second, waited: 1 s, 0.99 s, 0.98 s …
        assert!(response.quantile(0.5) < 2 * MS);
        assert!(response.quantile(0.95) > 400 * MS, "{:?}", response.quantile(0.95));
        assert!(response.quantile(0.99) > 850 * MS, "{:?}", response.quantile(0.99));
    }

    #[test]
    fn a_closed_loop_cannot_see_it() {
        let (service, response) = against_a_stall(Pace::Closed);
        assert_eq!(service.quantile(0.99), response.quantile(0.99));
        assert!(response.quantile(0.999) < 2 * MS);
        assert!(response.max() > 990 * MS);
    }

    #[test]
    fn a_schedule_holds_as_many_as_the_rate_says() {
        for (per_second, ms, expected) in
            [(100.0, 1_000, 100), (0.5, 10_000, 5), (3.0, 1_000, 3), (1e6, 250, 250_000)]
        {
            let pacer = Pacer::new(open(per_second), at(7), at(7 + ms));
            assert_eq!(pacer.owed(at(7 + ms)), expected, "{per_second}/s for {ms} ms");
            assert_eq!(pacer.owed(at(1_000_000)), expected, "none is due after the end");
            assert_eq!(pacer.owed(at(6)), 0);
        }
    }

    #[test]
    fn the_parts_of_a_schedule_are_the_schedule() {
        let dues = |parts: u32| {
            let mut dues = Vec::new();
            for part in 0..parts {
                let pace = Pace::Open(Schedule { per_second: 700.0, part, parts });
                let mut pacer = Pacer::new(pace, at(0), at(1_000));
                dues.extend(std::iter::from_fn(|| pacer.take(at(2_000))));
            }
            dues.sort();
            dues
        };
        assert_eq!(dues(1).len(), 700);
        assert_eq!(dues(3), dues(1));
    }

    #[test]
    fn what_is_owed_shrinks_by_what_is_taken() {
        let mut pacer = Pacer::new(open(1_000.0), at(0), at(60_000));
        assert_eq!(pacer.take(at(0)), Some(at(0)));
        assert_eq!(pacer.take(at(0)), None, "the next one is due in a millisecond");
        assert_eq!(pacer.owed(at(99)), 99);
        assert_eq!(pacer.take(at(99)), Some(at(1)));
        assert_eq!(pacer.owed(at(99)), 98);
        pacer.end(at(50));
        assert_eq!(pacer.owed(at(99)), 48, "those from 2 ms to 49 ms");
    }

    #[test]
    fn a_closed_loop_owes_nothing_and_ends_on_time() {
        let mut pacer = Pacer::new(Pace::Closed, at(10), at(20));
        assert_eq!(pacer.take(at(9)), None);
        assert_eq!(pacer.next(at(9)), Some(at(10)));
        assert_eq!(pacer.take(at(19)), Some(at(19)));
        assert_eq!(pacer.take(at(20)), None);
        assert_eq!(pacer.owed(at(20)), 0);
    }
}
