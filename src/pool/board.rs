//! What all workers know of the backends while traffic flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::affinity::Affinity;
use super::balance::{Latency, Maglev};
use super::{BackendId, tiers};
use crate::config::{self, Algorithm, Plan, PoolPlan};
use crate::time::Moment;

/// One backend's numbers, alone on its cache lines: every worker writes them, at selection and at
/// the end of a connection, never per byte.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    live: AtomicU32,
    selected: AtomicU64,
    /// A [`Latency`]. A store may undo what another worker has just stored: one of many samples.
    latency: AtomicU64,
}

impl Tally {
    /// Counts a connection in, at selection: counting at establishment would let a burst herd onto
    /// the backend that was the emptiest when it began.
    pub fn enter(&self) {
        // Relaxed: a count, which orders nothing.
        self.live.fetch_add(1, Ordering::Relaxed);
        self.selected.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts it out.
    pub fn leave(&self) {
        let before = self.live.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a connection leaves once");
    }

    /// Takes in how long it took to answer.
    pub fn observe(&self, sample: Duration, now: Moment) {
        let latency = Latency::from_bits(self.latency.load(Ordering::Relaxed));
        self.latency.store(latency.with(sample, now).to_bits(), Ordering::Relaxed);
    }

    /// How long it took lately, in nanoseconds; 0 when nothing was ever observed.
    pub fn latency(&self, now: Moment) -> f64 {
        Latency::from_bits(self.latency.load(Ordering::Relaxed)).at(now)
    }

    /// Connections that were selected and have not ended.
    pub fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Connections that were ever selected.
    pub fn selected(&self) -> u64 {
        self.selected.load(Ordering::Relaxed)
    }
}

/// What the workers share of every pool, in the order of the plan.
#[derive(Debug)]
pub struct Board {
    pools: Vec<Shared>,
}

/// What the workers share of one pool.
#[derive(Debug)]
pub struct Shared {
    pub(super) tallies: Vec<Arc<Tally>>,
    /// With `source_hash`, the table of each tier.
    pub(super) tables: Vec<Arc<Maglev>>,
    pub(super) affinity: Option<Arc<Affinity>>,
}

impl Board {
    /// A board for the pools of a plan.
    pub fn new(plan: &Plan) -> Board {
        let shared = |pool| Shared::new(pool, plan.zone.as_deref());
        Board { pools: plan.pools.iter().map(shared).collect() }
    }

    /// What is shared of one pool.
    pub fn pool(&self, pool: usize) -> &Shared {
        &self.pools[pool]
    }

    /// Live connections of all pools together.
    pub fn live(&self) -> u64 {
        let tallies = self.pools.iter().flat_map(|pool| &pool.tallies);
        tallies.map(|tally| u64::from(tally.live())).sum()
    }
}

impl Shared {
    fn new(plan: &PoolPlan, zone: Option<&str>) -> Shared {
        // A backend is known by its address as written: names are looked up on each node, and may
        // come to something else there.
        let named = |id: &BackendId| {
            let backend = &plan.backends[usize::from(id.0)];
            (backend.target.to_string(), backend.weight)
        };
        let table = |tier: Vec<BackendId>| {
            Arc::new(Maglev::new(&tier.iter().map(named).collect::<Vec<_>>()))
        };
        Shared {
            tallies: plan.backends.iter().map(|_| Arc::default()).collect(),
            tables: match plan.algorithm {
                Algorithm::SourceHash { .. } => tiers(plan, zone).into_iter().map(table).collect(),
                _ => Vec::new(),
            },
            affinity: match plan.affinity {
                config::Affinity::Off => None,
                config::Affinity::SourceIp { ttl } => Some(Arc::new(Affinity::new(ttl))),
            },
        }
    }
}
