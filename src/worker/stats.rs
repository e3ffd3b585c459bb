//! A worker's counters: written by that worker alone, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::session::End;

/// What one worker has counted. One writer each, so that adding is a load and a store.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Stats {
    /// Connections taken in.
    pub accepted: Counter,
    /// Connections accepted and handed to a worker with less to do; they count as taken in there.
    pub handed_over: Counter,
    /// Sessions open now.
    pub open: Counter,
    /// Bytes from clients that backends' kernels took.
    pub bytes_up: Counter,
    /// Bytes from backends that clients' kernels took.
    pub bytes_down: Counter,
    /// Those of both that were spliced.
    pub bytes_spliced: Counter,
    /// Attempts to connect beyond each session's first.
    pub retries: Counter,
    /// Times that accepting was paused for want of descriptors or memory.
    pub pauses: Counter,
    /// Access records dropped because their reader did not keep up.
    pub records_dropped: Counter,
    /// Pipes with bytes in them.
    pub pipes: Counter,
    /// Buffers with bytes in them.
    pub buffers: Counter,
    closed: [Counter; End::ALL.len()],
}

impl Stats {
    /// Sessions that ended so.
    pub fn closed(&self, end: End) -> &Counter {
        let at = End::ALL.iter().position(|&one| one == end).expect("ALL has every end");
        &self.closed[at]
    }
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the one writer may.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Says what it is; only the one writer may.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// What it is.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
