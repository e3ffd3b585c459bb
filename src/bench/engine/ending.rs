//! What goes wrong, what comes after that, and the last count.

use std::time::Duration;

use super::{Engine, Slot, Stage, State};
use crate::bench::Work;
use crate::bench::pace::{Pace, Pacer};
use crate::bench::tally::Fault;
use crate::time::Moment;

impl Engine {
    /// An alarm rang.
    pub(super) fn rang(&mut self, index: u32, now: Moment) {
        let slot = &self.slots[index as usize];
        match slot.state {
            State::Down => self.retry(index),
            State::Connecting => self.broken(index, Fault::ConnectTimeout),
            State::Streaming if slot.moved_at + self.timeout > now => {
                self.alarms.set(index, slot.moved_at + self.timeout);
            }
            State::Asking | State::Finishing | State::Streaming | State::Flushing => {
                self.broken(index, Fault::Timeout);
            }
            State::Up => {} // its last operation silenced it
        }
    }

    /// A connection, or the attempt at one, is over before its time: counts what that means, and
    /// closes it.
    pub(super) fn broken(&mut self, index: u32, fault: Fault) {
        let Slot { state, has_served, .. } = self.slots[index as usize];
        // The kernel's patience with SYNs is one of connecting.
        let fault = match (state, fault) {
            (State::Connecting, Fault::Timeout) => Fault::ConnectTimeout,
            (_, fault) => fault,
        };
        if state == State::Connecting {
            self.tally.connects.fail(fault);
            if fault == Fault::ConnectTimeout {
                self.opening.limit = u32::MAX;
            }
        }
        match (&self.work, state) {
            (_, State::Down) => unreachable!("what is down does not break"),
            (Work::Connect { .. }, _)
            | (Work::Request { .. }, State::Asking)
            | (Work::Stream { .. }, State::Flushing) => {
                self.under_way -= 1;
                self.tally.operations.fail(fault);
            }
            (Work::Request { .. }, State::Connecting) => {}
            (Work::Request { .. }, _) => self.tally.lost.fail(fault),
            (Work::Stream { .. } | Work::Idle { .. }, _) => self.tally.operations.fail(fault),
        }
        self.hang_up(index);
        self.tried(index);
        match self.work {
            Work::Idle { .. } => {}
            // A schedule waits for nobody.
            Work::Connect { .. } if !self.is_closed_loop() => self.set_free(index),
            // A server may end a connection that was kept and is not used; that is no trouble.
            Work::Request { .. } if state == State::Up && fault == Fault::Closed && has_served => {
                self.retry(index);
            }
            _ => self.alarms.set(index, self.clock.now() + PAUSE),
        }
    }

    /// Uses a slot that is down again, if there is still a use for it.
    pub(super) fn retry(&mut self, index: u32) {
        match self.work {
            Work::Connect { .. } => self.set_free(index),
            Work::Request { .. } => {
                let is_of_use = match &self.stage {
                    Stage::Opening | Stage::Waiting | Stage::Running(_) => true,
                    Stage::Draining(pacer, _) => pacer.owed(self.clock.now()) > 0,
                    Stage::Over => false,
                };
                if is_of_use {
                    self.reconnect(index);
                }
            }
            Work::Stream { .. } => {
                if !matches!(self.stage, Stage::Draining(..) | Stage::Over) {
                    self.reconnect(index);
                }
            }
            Work::Idle { .. } => {}
        }
    }

    /// What was due and never started.
    pub(super) fn settle_owed(&mut self, pacer: Pacer, now: Moment) {
        self.tally.operations.fail_many(Fault::NotStarted, pacer.owed(now));
    }

    /// The end of the run, for every slot.
    pub(super) fn settle(&mut self) {
        self.look_at_held();
        let is_stream = matches!(self.work, Work::Stream { .. });
        let operations = &mut self.tally.operations;
        for slot in &self.slots {
            match (&self.work, slot.state) {
                (_, State::Down) => {}
                (Work::Idle { .. }, State::Up) => operations.ok += 1,
                (Work::Stream { .. }, State::Up) => operations.fail(Fault::NotStarted),
                (Work::Request { .. } | Work::Connect { .. }, State::Up) => {}
                // The end of the run is a stream's proper end, if it was a stream at all.
                (_, State::Streaming) if slot.moved > 0 => operations.ok += 1,
                (Work::Request { .. }, State::Connecting) => {
                    self.tally.connects.fail(Fault::Unfinished);
                }
                (_, State::Connecting) => {
                    self.tally.connects.fail(Fault::Unfinished);
                    operations.fail(Fault::Unfinished);
                }
                (_, State::Asking | State::Finishing | State::Streaming | State::Flushing) => {
                    operations.fail(Fault::Unfinished);
                }
            }
        }
        if matches!(self.work, Work::Idle { .. } | Work::Stream { .. }) {
            let unopened = self.slots.len() - self.opening.next;
            operations.fail_many(Fault::NotStarted, unopened as u64);
        }
        if is_stream {
            let moved = || self.slots.iter().map(|slot| slot.moved_in_time);
            self.tally.extremes = moved().min().zip(moved().max());
        }
        // The progress tells what is open; from here on it is what was at the end.
        self.slots.clear();
    }

    /// Tries every held connection: whoever ended it by now did so before the end of the run, whether
    /// or not we have been told.
    fn look_at_held(&mut self) {
        for index in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[index as usize];
            if slot.state == State::Up && matches!(self.work, Work::Idle { .. }) {
                slot.readable = true;
                self.watch(index);
            }
        }
    }

    fn is_closed_loop(&self) -> bool {
        matches!(self.pace, Pace::Closed)
    }

    /// Whether the measured time has begun and not ended.
    pub(super) fn is_in_time(&self, now: Moment) -> bool {
        match &self.stage {
            Stage::Running(pacer) | Stage::Draining(pacer, _) => now < pacer.ends(),
            Stage::Opening | Stage::Waiting | Stage::Over => false,
        }
    }
}

/// Before a slot whose connection broke is used again: a target that refuses is not to be asked as
/// fast as this machine can ask.
const PAUSE: Duration = Duration::from_millis(10);
