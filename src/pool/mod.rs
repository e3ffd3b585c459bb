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

pub mod affinity;
pub mod balance;
pub mod board;
mod tiers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Algorithm, PoolPlan, Target};
use crate::net::Address;
use crate::time::Moment;
use affinity::Affinity;
use balance::{Draw, LeastConnections, Load, Maglev, PowerOfTwo, Roll, Rotation};
pub use board::{Board, Shared, Tally};
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
    affinity: Option<Arc<Affinity>>,
    /// Whether somebody asks how long backends take to answer.
    is_measured: bool,
}

/// For whom a backend is chosen, and when.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The client's address, where it has one and it was told.
    pub client: Option<IpAddr>,
    /// The time of this turn.
    pub now: Moment,
    /// 32 random bits.
    pub dice: u32,
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
    SourceHash { table: Arc<Maglev>, bounded_load: Option<u32> },
    PeakEwma { of_two: PowerOfTwo, mean_weight: f64 },
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
        shared: &Shared,
        resolved: &[Option<Address>],
        zone: Option<&str>,
        worker: usize,
        workers: usize,
    ) -> Pool {
        let candidates: Vec<_> = plan
            .backends
            .iter()
            .zip(shared.tallies.iter().zip(resolved))
            .map(|(backend, (tally, address))| Candidate {
                address: match &backend.target {
                    Target::Address(address) => Some(address.clone()),
                    Target::Host { .. } => address.clone(),
                },
                weight: backend.weight,
                tally: Arc::clone(tally),
            })
            .collect();
        let tiers = tiers(plan, zone).into_iter().enumerate().map(|(tier, members)| {
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
                Algorithm::SourceHash { bounded_load } => {
                    let table = Arc::clone(&shared.tables[tier]);
                    Chooser::SourceHash { table, bounded_load }
                }
                Algorithm::PeakEwma => {
                    let sum: f64 = weights.clone().map(f64::from).sum();
                    let used = weights.clone().filter(|&weight| weight > 0).count();
                    let mean_weight = sum / used.max(1) as f64;
                    Chooser::PeakEwma { of_two: PowerOfTwo::new(weights), mean_weight }
                }
                Algorithm::First => Chooser::First,
            };
            Tier { members, chooser }
        });
        Pool {
            tiers: tiers.collect(),
            candidates,
            affinity: shared.affinity.clone(),
            is_measured: plan.algorithm == Algorithm::PeakEwma,
        }
    }

    /// Chooses a backend that is not among `tried`. `None` when there is none left.
    ///
    /// With affinity, a client goes where it was last, as long as that backend may be chosen and
    /// no better tier has anybody. Otherwise it gets another, and stays with that one: also when the first
    /// one comes back.
    pub fn choose(&mut self, tried: &Tried, ask: Ask) -> Option<BackendId> {
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
        let Some((affinity, client)) = self.affinity.as_ref().zip(ask.client) else {
            return tier.choose(candidates, may, ask);
        };
        let is_here = |id: BackendId| may(id) && tier.members.binary_search(&id).is_ok();
        let known = affinity.recall(client, ask.now);
        if known.is_some_and(is_here) {
            return known;
        }
        let chosen = tier.choose(candidates, may, ask)?;
        let learnt = affinity.learn(client, chosen, known, ask.now);
        let is_here = |id: BackendId| may(id) && tier.members.binary_search(&id).is_ok();
        Some(if is_here(learnt) { learnt } else { chosen })
    }

    /// Whether somebody asks how long backends take to answer.
    pub fn is_measured(&self) -> bool {
        self.is_measured
    }

    /// Takes in how long a backend took to answer, where somebody asks.
    pub fn observe(&self, id: BackendId, sample: Duration, now: Moment) {
        if self.is_measured {
            self.candidate(id).tally.observe(sample, now);
        }
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
        ask: Ask,
    ) -> Option<BackendId> {
        let dice = ask.dice;
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
            Chooser::SourceHash { table, bounded_load } => {
                // Whoever has no address (a Unix socket) is nobody's, and shall not be all one's.
                let at_random = || Roll::new(dice).below(u32::MAX).into();
                let key = ask.client.map_or_else(at_random, balance::key_of);
                match *bounded_load {
                    Some(percent) => table.next_below(key, percent, may, load),
                    None => table.next(key, may),
                }
            }
            Chooser::PeakEwma { of_two, mean_weight } => {
                let cost = |at: usize| {
                    let latency = candidates[usize::from(members[at].0)].tally.latency(ask.now);
                    balance::cost(latency, load(at), *mean_weight)
                };
                of_two.better(may, |other, one| cost(other) < cost(one), dice)
            }
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

    const ALGORITHMS: [&str; 7] =
        ["round_robin", "least_connections", "p2c", "random", "source_hash", "peak_ewma", "first"];

    fn ask(client: Option<&str>, seconds: u64) -> Ask {
        let client = client.map(|text| text.parse().expect("an address"));
        Ask { client, now: Moment::ZERO + Duration::from_secs(seconds), dice: 0x1234_5678 }
    }

    /// Two workers of one process.
    fn pools(plan: &Plan) -> [Pool; 2] {
        let board = Board::new(plan);
        let nowhere = vec![None; plan.pools[0].backends.len()];
        let view = |worker| Pool::new(&plan.pools[0], board.pool(0), &nowhere, None, worker, 2);
        [view(0), view(1)]
    }

    fn sticky(backends: &str) -> Plan {
        let text = format!(
            "listeners: [{{name: a, bind: 127.0.0.1:80, pool: a}}]\n\
             pools: [{{name: a, affinity: source_ip, affinity_ttl: 60s, backends: [{backends}]}}]\n"
        );
        parse(&text, "test.yaml", Format::Yaml, &|_| None).expect("a good one").plan
    }

    #[test]
    fn a1_4_a_client_stays_with_its_backend_on_every_worker_until_it_is_forgotten() {
        let plan = sticky("10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80");
        let [mut one, mut two] = pools(&plan);
        let none = Tried::default();
        let client = Some("192.0.2.1");
        let first = one.choose(&none, ask(client, 0)).expect("all may");
        for second in 1..50 {
            assert_eq!(one.choose(&none, ask(client, second)), Some(first));
            assert_eq!(two.choose(&none, ask(client, second)), Some(first));
            one.choose(&none, ask(Some("192.0.2.2"), second));
        }
        // It fails: another is found, and kept when the first one is back.
        let mut tried = Tried::default();
        tried.add(first);
        let second = two.choose(&tried, ask(client, 50)).expect("two are left");
        assert_ne!(second, first);
        assert_eq!(one.choose(&none, ask(client, 51)), Some(second));
        // Forgotten, it takes its turn like everybody.
        let later: Vec<_> =
            (0..3).map(|turn| one.choose(&none, ask(client, 120 + 61 * turn))).collect();
        assert!(later[0] != later[1] && later[1] != later[2] && later[0] != later[2], "{later:?}");
        // Who has no address is nobody's.
        let nobody: Vec<_> = (0..3).map(|_| one.choose(&none, ask(None, 400))).collect();
        assert!(nobody[0] != nobody[1] && nobody[1] != nobody[2], "{nobody:?}");
    }

    #[test]
    fn a_client_comes_back_from_a_backup() {
        let plan = sticky("10.0.0.1:80, {address: 10.0.0.2:80, priority: 1}");
        let [mut one, _] = pools(&plan);
        let client = ask(Some("192.0.2.1"), 0);
        let mut tried = Tried::default();
        tried.add(BackendId(0));
        assert_eq!(one.choose(&tried, client), Some(BackendId(1)));
        assert_eq!(one.choose(&Tried::default(), client), Some(BackendId(0)));
    }

    #[test]
    fn a_hash_is_the_same_on_every_worker_and_spreads_who_has_no_address() {
        let plan = plan("source_hash", "10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80, 10.0.0.4:80");
        let [mut one, mut two] = pools(&plan);
        let none = Tried::default();
        let mut seen = [false; 4];
        for last in 0..100 {
            let client = format!("192.0.2.{last}");
            let chosen = one.choose(&none, ask(Some(&client), 0)).expect("all may");
            assert_eq!(two.choose(&none, ask(Some(&client), 9)), Some(chosen));
            seen[usize::from(chosen.0)] = true;
        }
        assert_eq!(seen, [true; 4]);
        let dice = |dice| Ask { dice, ..ask(None, 0) };
        let chosen: Vec<_> = (0..30).map(|number| one.choose(&none, dice(number))).collect();
        assert!((0..4).all(|id| chosen.contains(&Some(BackendId(id)))), "{chosen:?}");
    }

    #[test]
    fn what_is_observed_of_a_backend_counts_for_all_workers() {
        let plan = plan("peak_ewma", "10.0.0.1:80, 10.0.0.2:80");
        let [mut one, two] = pools(&plan);
        let now = ask(None, 0).now;
        two.observe(BackendId(0), Duration::from_millis(9), now);
        two.observe(BackendId(1), Duration::from_millis(3), now);
        for dice in 0..20 {
            let ask = Ask { dice, ..ask(None, 0) };
            assert_eq!(one.choose(&Tried::default(), ask), Some(BackendId(1)));
        }
    }

    fn pool(plan: &Plan) -> Pool {
        let nowhere = vec![None; plan.pools[0].backends.len()];
        let zone = plan.zone.as_deref();
        Pool::new(&plan.pools[0], Board::new(plan).pool(0), &nowhere, zone, 0, 1)
    }

    #[test]
    fn every_algorithm_tries_all_of_a_tier_before_the_next() {
        for algorithm in ALGORITHMS {
            let mut pool = pool(&plan(
                algorithm,
                "{address: 10.0.0.1:80, priority: 1}, {address: 10.0.0.2:80}, \
                 {address: 10.0.0.3:80, weight: 0}, {address: 10.0.0.4:80, weight: 7}, \
                 {address: 10.0.0.5:80, priority: 2}, unknown.test:80",
            ));
            let mut tried = Tried::default();
            let mut order = Vec::new();
            while let Some(id) = pool.choose(&tried, ask(Some("192.0.2.1"), 0)) {
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
