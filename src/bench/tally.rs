//! What a run has counted: outcomes by kind, and latencies.
//!
//! Knows: error numbers. Does not know: who adds to it, how it is printed.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::errno::Errno;

/// Why an operation did not come to its end. Every one that was started or due and did not succeed
/// is counted under exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody listens there (RST to our SYN).
    Refused,
    /// No way there, or the kernel gave up trying.
    Unreachable,
    /// The connection was not established in time.
    ConnectTimeout,
    /// It broke off with RST.
    Reset,
    /// It ended in good order, too early.
    Closed,
    /// It was established; what should have happened on it did not happen in time.
    Timeout,
    /// The answer was none, or another one.
    BadAnswer,
    /// An HTTP status from 400 up.
    BadStatus,
    /// This machine has no local port left for that target.
    OutOfPorts,
    /// This process or machine has no descriptor left.
    OutOfDescriptors,
    /// The kernel has no memory for it.
    OutOfMemory,
    /// Anything else the system said.
    Other,
    /// It was due and never started.
    NotStarted,
    /// It was cut off by the end of the run.
    Unfinished,
}

impl Fault {
    /// All of them, in the order they are reported in.
    pub const ALL: [Fault; 14] = [
        Fault::Refused,
        Fault::Unreachable,
        Fault::ConnectTimeout,
        Fault::Reset,
        Fault::Closed,
        Fault::Timeout,
        Fault::BadAnswer,
        Fault::BadStatus,
        Fault::OutOfPorts,
        Fault::OutOfDescriptors,
        Fault::OutOfMemory,
        Fault::Other,
        Fault::NotStarted,
        Fault::Unfinished,
    ];

    /// Its key in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Refused => "refused",
            Fault::Unreachable => "unreachable",
            Fault::ConnectTimeout => "connect_timeout",
            Fault::Reset => "reset",
            Fault::Closed => "closed",
            Fault::Timeout => "timeout",
            Fault::BadAnswer => "bad_answer",
            Fault::BadStatus => "bad_status",
            Fault::OutOfPorts => "out_of_ports",
            Fault::OutOfDescriptors => "out_of_descriptors",
            Fault::OutOfMemory => "out_of_memory",
            Fault::Other => "other",
            Fault::NotStarted => "not_started",
            Fault::Unfinished => "unfinished",
        }
    }

    /// What it means, in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Fault::Refused => "nobody listens there",
            Fault::Unreachable => "no way to the target",
            Fault::ConnectTimeout => "not connected in time (--timeout)",
            Fault::Reset => "broken off by the peer (RST)",
            Fault::Closed => "ended by the peer before it was done",
            Fault::Timeout => "no answer in time (--timeout)",
            Fault::BadAnswer => "the answer was not what was asked for",
            Fault::BadStatus => "an HTTP status of 400 or more",
            Fault::OutOfPorts => {
                "no local port left: fewer connections, or widen net.ipv4.ip_local_port_range"
            }
            Fault::OutOfDescriptors => "no file descriptor left: raise ulimit -n or fs.file-max",
            Fault::OutOfMemory => "the kernel has no memory for it",
            Fault::Other => "another error of the system",
            Fault::NotStarted => "due, but never started",
            Fault::Unfinished => "cut off by the end of the run",
        }
    }

    /// What an error of a socket call is.
    pub fn of(error: &io::Error) -> Fault {
        let Some(number) = error.raw_os_error() else { return Fault::Other };
        match Errno::from_raw(number) {
            Errno::ECONNREFUSED => Fault::Refused,
            Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::EHOSTDOWN
            | Errno::EACCES
            | Errno::EPERM => Fault::Unreachable,
            // The kernel's own patience with SYNs, or with what is unacknowledged.
            Errno::ETIMEDOUT => Fault::Timeout,
            // EPIPE is a RST that came behind a FIN, or that another call was told of.
            Errno::ECONNRESET | Errno::ECONNABORTED | Errno::EPIPE => Fault::Reset,
            Errno::EADDRNOTAVAIL | Errno::EADDRINUSE => Fault::OutOfPorts,
            Errno::EMFILE | Errno::ENFILE => Fault::OutOfDescriptors,
            Errno::ENOBUFS | Errno::ENOMEM => Fault::OutOfMemory,
            _ => Fault::Other,
        }
    }

    fn place(self) -> usize {
        Fault::ALL.iter().position(|one| *one == self).expect("ALL has every fault")
    }
}

/// Successes, and failures by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many succeeded.
    pub ok: u64,
    faults: [u64; Fault::ALL.len()],
}

impl Counts {
    /// Counts a failure.
    pub fn fail(&mut self, fault: Fault) {
        self.fail_many(fault, 1);
    }

    /// Counts failures of one kind.
    pub fn fail_many(&mut self, fault: Fault, count: u64) {
        self.faults[fault.place()] += count;
    }

    /// How many failed so.
    pub fn failed_by(&self, fault: Fault) -> u64 {
        self.faults[fault.place()]
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Counts) {
        self.ok += other.ok;
        for (mine, theirs) in self.faults.iter_mut().zip(&other.faults) {
            *mine += theirs;
        }
    }
}

/// A distribution of durations, to three digits, from a nanosecond to an hour.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// An empty one.
    pub fn new() -> Latency {
        let max = LATENCY_MAX.as_nanos() as u64;
        Latency(Histogram::new_with_max(max, 3).expect("these bounds are valid"))
    }

    /// Adds one. What is longer than the longest counts as the longest.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that a share (from 0 to 1) of them did not exceed; zero where there is none.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(share))
    }

    /// The longest; zero where there is none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The average; zero where there is none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.0.mean() as u64)
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("all have the same bounds");
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

/// What one thread has counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Attempts to connect.
    pub connects: Counts,
    /// How long those took that succeeded.
    pub connect: Latency,
    /// What the mode is about: connections, requests, streams or held connections.
    pub operations: Counts,
    /// Those of `operations.ok` that were over before the end of the measured time.
    pub in_time: u64,
    /// From start to end, of successful operations.
    pub service: Latency,
    /// From due to end, of successful operations.
    pub response: Latency,
    /// Kept connections that ended while nothing was asked on them; those were opened again.
    pub lost: Counts,
    /// All bytes sent and received.
    pub bytes: Bytes,
    /// Those that moved within the measured time.
    pub bytes_in_time: Bytes,
    /// Bytes within the measured time of the streams that moved least and most.
    pub extremes: Option<(u64, u64)>,
}

impl Tally {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Tally) {
        self.connects.add(&other.connects);
        self.connect.add(&other.connect);
        self.operations.add(&other.operations);
        self.in_time += other.in_time;
        self.service.add(&other.service);
        self.response.add(&other.response);
        self.lost.add(&other.lost);
        self.bytes.add(other.bytes);
        self.bytes_in_time.add(other.bytes_in_time);
        self.extremes = match (self.extremes, other.extremes) {
            (Some(mine), Some(theirs)) => Some((mine.0.min(theirs.0), mine.1.max(theirs.1))),
            (mine, theirs) => mine.or(theirs),
        };
    }
}

/// Bytes by direction, as seen from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Taken by our kernel.
    pub sent: u64,
    /// Given to us by our kernel.
    pub received: u64,
}

impl Bytes {
    /// Adds another's.
    pub fn add(&mut self, other: Bytes) {
        self.sent += other.sent;
        self.received += other.received;
    }

    /// In both directions.
    pub fn both(self) -> u64 {
        self.sent + self.received
    }
}

/// An hour: longer than any operation that is worth its place in a percentile.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_every_fault_once() {
        for (place, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(fault.place(), place);
        }
    }

    #[test]
    fn errors_have_kinds() {
        for (errno, fault) in [
            (Errno::ECONNREFUSED, Fault::Refused),
            (Errno::ECONNRESET, Fault::Reset),
            (Errno::EADDRNOTAVAIL, Fault::OutOfPorts),
            (Errno::EMFILE, Fault::OutOfDescriptors),
            (Errno::EINVAL, Fault::Other),
        ] {
            assert_eq!(Fault::of(&io::Error::from_raw_os_error(errno as i32)), fault, "{errno}");
        }
        assert_eq!(Fault::of(&io::Error::other("no number")), Fault::Other);
    }

    #[test]
    fn latencies_are_exact_to_three_digits_and_add_up() {
        let (mut one, mut other) = (Latency::new(), Latency::new());
        (1..=500).for_each(|us| one.record(Duration::from_micros(us)));
        (501..=1000).for_each(|us| other.record(Duration::from_micros(us)));
        one.add(&other);
        assert_eq!(one.count(), 1000);
        for (share, us) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = one.quantile(share).as_secs_f64() * 1e6;
            assert!((found - us).abs() / us < 0.002, "{share}: {found}");
        }
        one.record(Duration::from_secs(100_000));
        assert!(one.max() >= LATENCY_MAX, "too long is not lost");
    }

    #[test]
    fn a_tally_adds_up() {
        let mut all = Tally::default();
        for (least, most) in [(5, 9), (3, 4)] {
            let mut part = Tally { extremes: Some((least, most)), in_time: 1, ..Tally::default() };
            part.operations.ok = 2;
            part.operations.fail(Fault::Reset);
            part.connects.fail_many(Fault::Refused, 3);
            all.add(&part);
        }
        assert_eq!((all.operations.ok, all.operations.failed(), all.in_time), (4, 2, 2));
        assert_eq!(all.connects.failed_by(Fault::Refused), 6);
        assert_eq!(all.extremes, Some((3, 9)));
    }
}
