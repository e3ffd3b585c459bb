//! What all workers know of the backends while traffic flows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::config::Plan;

/// One backend's numbers, alone on its cache lines: every worker writes them, at selection and at
/// the end of a connection, never per byte.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    live: AtomicU32,
    selected: AtomicU64,
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

    /// Connections that were selected and have not ended.
    pub fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Connections that were ever selected.
    pub fn selected(&self) -> u64 {
        self.selected.load(Ordering::Relaxed)
    }
}

/// The tallies of every backend of every pool, in the order of the plan.
#[derive(Debug)]
pub struct Board {
    pools: Vec<Vec<Arc<Tally>>>,
}

impl Board {
    /// A board for the backends of a plan.
    pub fn new(plan: &Plan) -> Board {
        let tallies = |count| (0..count).map(|_| Arc::new(Tally::default())).collect();
        Board { pools: plan.pools.iter().map(|pool| tallies(pool.backends.len())).collect() }
    }

    /// The tallies of one pool.
    pub fn pool(&self, pool: usize) -> &[Arc<Tally>] {
        &self.pools[pool]
    }

    /// Live connections of all pools together.
    pub fn live(&self) -> u64 {
        self.pools.iter().flatten().map(|tally| u64::from(tally.live())).sum()
    }
}
