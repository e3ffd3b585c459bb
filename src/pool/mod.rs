//! Backends that stand in for each other, and the choice among them.
//!
//! Knows: the plan, time. Does not know: sockets, sessions, workers.
//!
//! A [`Board`] is shared by all workers: what changes about a backend while traffic flows is an
//! atomic there. A [`Pool`] is one worker's own view of a pool: the rotation it walks, the
//! addresses it dials.
//!
//! A choice first settles on a tier, see [`tiers()`], then the pool's algorithm chooses
//! within it.

pub mod balance;
pub mod board;
mod tiers;

use std::sync::Arc;

use crate::config::{Algorithm, PoolPlan, Target};
use crate::net::Address;
use balance::{Draw, LeastConnections, Load, PowerOfTwo, Roll, Rotation};
pub use board::{Board, Tally};
pub use tiers::tiers;

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
    /// In the order in which they are asked; never empty, and none of them is.
    tiers: Vec<Tier>,
}

/// Backends that are chosen among before the next tier is asked.
#[derive(Debug)]
struct Tier {
    /// In the order of the plan.
    members: Vec<BackendId>,
    chooser: Chooser,
}

#[derive(Debug)]
enum Chooser {
    RoundRobin(Rotation),
    LeastConnections(LeastConnections),
    PowerOfTwo(PowerOfTwo),
    Random(Draw),
    First,
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
    /// The view of worker number `worker` of `workers`, in this zone: each starts its rotation
    /// elsewhere, so that they do not all begin with the first backend.
    pub fn new(
        plan: &PoolPlan,
        board: &[Arc<Tally>],
        resolved: &[Option<Address>],
        zone: Option<&str>,
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
        let tiers = tiers(plan, zone).into_iter().map(|members| {
            let weights = members.iter().map(|id| candidates[usize::from(id.0)].weight);
            let chooser = match plan.algorithm {
                Algorithm::RoundRobin => {
                    Chooser::RoundRobin(Rotation::new(weights, worker, workers))
                }
                Algorithm::LeastConnections => {
                    Chooser::LeastConnections(LeastConnections::new(weights, worker))
                }
                Algorithm::P2c => Chooser::PowerOfTwo(PowerOfTwo::new(weights)),
                Algorithm::Random => Chooser::Random(Draw::new(weights)),
                Algorithm::First => Chooser::First,
            };
            Tier { members, chooser }
        });
        Pool { tiers: tiers.collect(), candidates }
    }

    /// Chooses a backend that is not among `tried`; `dice` is 32 random bits. `None` when there is
    /// none left.
    pub fn choose(&mut self, tried: &Tried, dice: u32) -> Option<BackendId> {
        let candidates = &self.candidates;
        let may = |id: BackendId| {
            let candidate = &candidates[usize::from(id.0)];
            candidate.weight > 0
                && candidate.address.is_some()
                && (tried.is_empty() || !tried.has(id))
        };
        let tier = match self.tiers.as_mut_slice() {
            [only] => only,
            tiers => tiers.iter_mut().find(|tier| tier.members.iter().any(|id| may(*id)))?,
        };
        tier.choose(candidates, may, dice)
    }

    /// What is known of a backend.
    pub fn candidate(&self, id: BackendId) -> &Candidate {
        &self.candidates[usize::from(id.0)]
    }
}

impl Tier {
    fn choose(
        &mut self,
        candidates: &[Candidate],
        may: impl Fn(BackendId) -> bool,
        dice: u32,
    ) -> Option<BackendId> {
        let members = &self.members;
        let may = |at: usize| may(members[at]);
        let load = |at: usize| {
            let candidate = &candidates[usize::from(members[at].0)];
            Load { live: candidate.tally.live(), weight: candidate.weight }
        };
        let at = match &mut self.chooser {
            Chooser::RoundRobin(rotation) => rotation.next(may),
            Chooser::LeastConnections(least) => least.next(may, load, dice),
            Chooser::PowerOfTwo(of_two) => of_two.next(may, load, dice),
            Chooser::Random(draw) => draw.next(may, &mut Roll::new(dice)),
            Chooser::First => balance::first(members.len(), may),
        };
        at.map(|at| members[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Format, Plan, parse};

    fn plan(algorithm: &str, backends: &str) -> Plan {
        let text =
            format!("listen: 127.0.0.1:80\nalgorithm: {algorithm}\nbackends: [{backends}]\n");
        parse(&text, "test.yaml", Format::Yaml, &|_| None).expect("a good one").plan
    }

    fn pool(plan: &Plan) -> Pool {
        let nowhere = vec![None; plan.pools[0].backends.len()];
        let zone = plan.zone.as_deref();
        Pool::new(&plan.pools[0], Board::new(plan).pool(0), &nowhere, zone, 0, 1)
    }

    #[test]
    fn every_algorithm_tries_all_of_a_tier_before_the_next() {
        for algorithm in ["round_robin", "least_connections", "p2c", "random", "first"] {
            let mut pool = pool(&plan(
                algorithm,
                "{address: 10.0.0.1:80, priority: 1}, {address: 10.0.0.2:80}, \
                 {address: 10.0.0.3:80, weight: 0}, {address: 10.0.0.4:80, weight: 7}, \
                 {address: 10.0.0.5:80, priority: 2}, unknown.test:80",
            ));
            let mut tried = Tried::default();
            let mut order = Vec::new();
            while let Some(id) = pool.choose(&tried, 0x1234_5678) {
                assert!(!tried.has(id), "{algorithm} chose {id:?} again");
                tried.add(id);
                order.push(id.0);
            }
            order[..2].sort_unstable();
            assert_eq!(
                order,
                [1, 3, 0, 4],
                "{algorithm}: no weight 0, and none without an address"
            );
        }
    }

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
