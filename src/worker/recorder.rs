//! Access records on their way from a worker to whoever writes them.
//!
//! Records leave in batches: one wake of the reader for many of them, and one a tenth of a second
//! at the most when there are few. A reader that does not keep up loses records, and they are
//! counted; the worker never waits.

use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender};

use super::stats::Stats;
use crate::observe::access_log::{Batch, Record};
use crate::session::End;
use crate::time::Moment;

/// A worker's end of the record channel.
#[derive(Debug)]
pub struct Recorder {
    batches: Sender<Batch>,
    empties: Receiver<Vec<Record>>,
    records: Vec<Record>,
    keep: Keep,
    seen: u64,
    flush_at: Moment,
}

/// Which records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Every one.
    All,
    /// Those that did not end well.
    Errors,
    /// One in so many, and those that did not end well.
    OneIn(u32),
}

const BATCH: usize = 256;
const DELAY: Duration = Duration::from_millis(100);

impl Recorder {
    /// A recorder that sends `batches` and gets the emptied ones back by `empties`.
    pub fn new(batches: Sender<Batch>, empties: Receiver<Vec<Record>>, keep: Keep) -> Recorder {
        let records = Vec::with_capacity(BATCH);
        Recorder { batches, empties, records, keep, seen: 0, flush_at: Moment::NEVER }
    }

    /// Takes a record, if it is one to keep.
    pub fn record(&mut self, now: Moment, record: Record, stats: &Stats) {
        self.seen += 1;
        let keep = match self.keep {
            Keep::All => true,
            Keep::Errors => record.end != End::Ok,
            Keep::OneIn(n) => {
                record.end != End::Ok || self.seen.is_multiple_of(u64::from(n.max(1)))
            }
        };
        if !keep {
            return;
        }
        if self.records.is_empty() {
            self.flush_at = now + DELAY;
        }
        self.records.push(record);
        if self.records.len() >= BATCH {
            self.flush(now, stats);
        }
    }

    /// When [`Recorder::flush`] is due.
    pub fn deadline(&self) -> Moment {
        self.flush_at
    }

    /// Sends what there is.
    pub fn flush(&mut self, now: Moment, stats: &Stats) {
        self.flush_at = Moment::NEVER;
        if self.records.is_empty() {
            return;
        }
        let empty = self.empties.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        let records = std::mem::replace(&mut self.records, empty);
        let batch = Batch { records, now, wall: SystemTime::now() };
        if let Err(refused) = self.batches.try_send(batch) {
            let mut records = refused.into_inner().records;
            stats.records_dropped.add(records.len() as u64);
            records.clear();
            self.records = records;
        }
    }
}
