//! A load generator: connections, requests, streams or idle connections against one target, and
//! what became of them.
//!
//! Knows: sockets, mio. Does not know: the balancer; a target is an address.
//!
//! A run has stages, the same for all threads:
//!
//! ```text
//! opening ──all open or failed once──▶ running ──duration──▶ draining ──nothing left──▶ over
//!    └─────────────── stop ────────────────┴──────── stop ───────┴──── timeout ──────────▲
//! ```
//!
//! Only *running* is measured time. While *draining*, what was started or due in it is brought to
//! its end, so nothing is lost at the edge: every operation ends in [`tally::Counts`] as a success
//! or under one [`tally::Fault`].

mod alarms;
mod clock;
mod engine;
mod exchange;
mod http;
pub mod pace;
mod report;
mod run;
pub mod tally;

use std::net::SocketAddr;
use std::time::Duration;

pub use report::Report;
pub use run::{Progress, Run, Stage};

/// What to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where to.
    pub target: SocketAddr,
    /// What to do there.
    pub work: Work,
    /// Connections at once, of all threads together; at least one for each thread.
    pub connections: u32,
    /// How long to measure.
    pub duration: Duration,
    /// Operations per second; without it, the next one starts when one is over.
    pub rate: Option<f64>,
    /// How long a connection, an answer or a byte of a stream may take.
    pub timeout: Duration,
    /// Threads; at least one.
    pub threads: u32,
}

/// What is done on connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Opens them, ends them in good order, opens others. An operation is a whole connection.
    Connect {
        /// One round trip on each.
        ask: Option<Ask>,
    },
    /// Keeps them and asks again and again. An operation is a round trip.
    Request {
        /// What to ask.
        ask: Ask,
    },
    /// Moves bytes as fast as they go. An operation is a stream.
    Stream {
        /// Which way.
        direction: Direction,
    },
    /// Opens them and holds them. An operation is a connection that is still there at the end.
    Idle {
        /// One round trip on each, before it is held.
        ask: Option<Ask>,
    },
}

impl Work {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Work::Connect { .. } => "connect",
            Work::Request { .. } => "request",
            Work::Stream { .. } => "stream",
            Work::Idle { .. } => "idle",
        }
    }

    /// What is asked on a connection, if anything.
    pub fn ask(&self) -> Option<&Ask> {
        match self {
            Work::Connect { ask } | Work::Idle { ask } => ask.as_ref(),
            Work::Request { ask } => Some(ask),
            Work::Stream { .. } => None,
        }
    }
}

/// A question with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Bytes, which should come back as they are.
    Echo {
        /// How many; at least one.
        bytes: u64,
    },
    /// `GET` by HTTP/1.1.
    Http {
        /// From where; starts with a slash.
        path: String,
    },
}

/// Which way the bytes of a stream go, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the target.
    Up,
    /// From the target.
    Down,
    /// Both at once.
    Both,
}

impl Direction {
    /// Whether we send.
    pub fn sends(self) -> bool {
        matches!(self, Direction::Up | Direction::Both)
    }

    /// Whether what is received counts.
    pub fn receives(self) -> bool {
        matches!(self, Direction::Down | Direction::Both)
    }
}

/// Descriptors that a run needs for `connections` and `threads`: a socket for each connection; event
/// queue, waker and timer for each thread; a reserve for what the process has open anyway.
pub fn descriptors(connections: u32, threads: u32) -> u64 {
    u64::from(connections) + PER_THREAD * u64::from(threads) + RESERVE
}

/// How many connections so many descriptors allow; see [`descriptors`].
pub fn connections_possible(descriptors: u64, threads: u32) -> u64 {
    descriptors.saturating_sub(PER_THREAD * u64::from(threads) + RESERVE)
}

const PER_THREAD: u64 = 4;
const RESERVE: u64 = 16;
