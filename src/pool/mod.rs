//! Backends that stand in for each other, and the choice among them.
//!
//! Knows: the plan, time. Does not know: sockets, sessions, workers.
//!
//! A [`Board`] is shared by all workers: what changes about a backend while traffic flows is an
//! atomic there. A [`Pool`] is one worker's own view of a pool: the rotation it walks, the
//! addresses it dials.

pub mod balance;
pub mod board;

use std::sync::Arc;

use crate::config::{Algorithm, PoolPlan, Target};
use crate::net::Address;
use balance::{LeastConnections, Rotation};
pub use board::{Board, Tally};

/// A backend within its pool, by its place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u16);

/// What a balancer needs to know of one backend.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it answers; `None` while its name does not resolve.
    pub address: Option<Address>,
    /// Its share of new connections relative to the others; 0: none.
    pub weight: u16,
    /// Its live connections, on all workers.
    pub tally: Arc<Tally>,
}

/// One worker's view of a pool.
#[derive(Debug)]
pub struct Pool {
    candidates: Vec<Candidate>,
    chooser: Chooser,
}

#[derive(Debug)]
enum Chooser {
    RoundRobin(Rotation),
    LeastConnections(LeastConnections),
}

/// The backends that one session has tried in vain.
///
/// A bit for each of 64: in a larger pool some share one, and then an untried backend may be passed
/// over for another, but none is tried twice while there are others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried(u64);

impl Tried {
    /// Adds one.
    pub fn add(&mut self, id: BackendId) {
        self.0 |= Tried::bit(id);
    }

    /// Whether it is among them, or shares a bit with one.
    pub fn has(&self, id: BackendId) -> bool {
        self.0 & Tried::bit(id) != 0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn bit(id: BackendId) -> u64 {
        1 << (id.0 % 64)
    }
}

impl Pool {
    /// The view of worker number `worker` of `workers`: each starts its rotation elsewhere, so that
    /// they do not all begin with the first backend.
    pub fn new(
        plan: &PoolPlan,
        board: &[Arc<Tally>],
        resolved: &[Option<Address>],
        worker: usize,
        workers: usize,
    ) -> Pool {
        let candidates: Vec<_> = plan
            .backends
            .iter()
            .zip(board.iter().zip(resolved))
            .map(|(backend, (tally, address))| Candidate {
                address: match &backend.target {
                    Target::Address(address) => Some(address.clone()),
                    Target::Host { .. } => address.clone(),
                },
                weight: backend.weight,
                tally: Arc::clone(tally),
            })
            .collect();
        let weights = candidates.iter().map(|candidate| candidate.weight);
        let chooser = match plan.algorithm {
            Algorithm::RoundRobin => Chooser::RoundRobin(Rotation::new(weights, worker, workers)),
            Algorithm::LeastConnections => Chooser::LeastConnections(LeastConnections::new(worker)),
        };
        Pool { candidates, chooser }
    }

    /// Chooses a backend that is not among `tried`; `dice` is 32 random bits. `None` when there is
    /// none left.
    pub fn choose(&mut self, tried: &Tried, dice: u32) -> Option<BackendId> {
        let candidates = &self.candidates;
        let may = |at: usize| {
            let candidate = &candidates[at];
            candidate.weight > 0
                && candidate.address.is_some()
                && (tried.is_empty() || !tried.has(BackendId(at as u16)))
        };
        let at = match &mut self.chooser {
            Chooser::RoundRobin(rotation) => rotation.next(may),
            Chooser::LeastConnections(least) => least.next(candidates, may, dice),
        };
        at.map(|at| BackendId(at as u16))
    }

    /// What is known of a backend.
    pub fn candidate(&self, id: BackendId) -> &Candidate {
        &self.candidates[usize::from(id.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tried_remembers_each_of_64_and_more_of_them_together() {
        let mut tried = Tried::default();
        for id in 0..64 {
            assert!(!tried.has(BackendId(id)), "{id} is not tried yet");
            tried.add(BackendId(id));
            assert!((0..=id).all(|id| tried.has(BackendId(id))));
        }
        let mut tried = Tried::default();
        tried.add(BackendId(100));
        assert!(tried.has(BackendId(100)) && tried.has(BackendId(36)) && !tried.has(BackendId(37)));
    }
}
