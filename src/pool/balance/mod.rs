//! The balancing algorithms: pure, each owned by one worker.
//!
//! All of them answer the same question, "which of those that `may` be chosen is next?", by their
//! place in a tier of the pool. What they need of the world (dice, loads, latencies, who the client
//! is) they are told. None of them ever returns one that may not be chosen, or nobody while somebody
//! may be.

mod draw;
mod first;
mod least_connections;
mod maglev;
mod p2c;
mod peak_ewma;
mod rotation;

pub use draw::{Draw, Roll};
pub use first::first;
pub use least_connections::LeastConnections;
pub use maglev::{Maglev, key_of};
pub use p2c::PowerOfTwo;
pub use peak_ewma::{Latency, cost};
pub use rotation::Rotation;

/// How much a backend has to do, beside how much it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Connections that were selected and have not ended, on all workers.
    pub live: u32,
    /// Its weight; more than 0.
    pub weight: u16,
}

impl Load {
    /// Whether it has less per weight than another, by cross-multiplication.
    pub fn is_below(self, other: Load) -> bool {
        self.times(other.weight, 0) < other.times(self.weight, 0)
    }

    /// The same, were each to get one more connection.
    pub fn would_be_below(self, other: Load) -> bool {
        self.times(other.weight, 1) < other.times(self.weight, 1)
    }

    fn times(self, weight: u16, more: u64) -> u64 {
        (u64::from(self.live) + more) * u64::from(weight)
    }
}

#[cfg(test)]
mod laws;
