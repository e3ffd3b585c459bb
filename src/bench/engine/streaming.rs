//! Streams: bytes as fast as they go.

use std::io::{self, Write};
use std::net::Shutdown;

use super::connecting::Left;
use super::{Engine, Stage, State};
use crate::bench::exchange::pattern;
use crate::bench::tally::Fault;
use crate::bench::{Direction, Work};
use crate::time::Moment;

impl Engine {
    /// The measured time begins: so do all streams.
    pub(super) fn begin_streams(&mut self) {
        if !matches!(self.work, Work::Stream { .. }) {
            return;
        }
        for index in 0..self.slots.len() as u32 {
            if self.slots[index as usize].state == State::Up {
                self.begin_stream(index);
            }
        }
    }

    pub(super) fn begin_stream(&mut self, index: u32) {
        let now = self.clock.now();
        let slot = &mut self.slots[index as usize];
        slot.state = State::Streaming;
        // What came while nobody looked is to be found by trying.
        (slot.readable, slot.writable) = (true, true);
        slot.ticket.started = now;
        slot.moved_at = now;
        self.alarms.set(index, now + self.timeout);
        self.set_hungry(index);
    }

    /// Moves what can be moved, up to a limit, so that other streams have their turn.
    pub(super) fn pump(&mut self, index: u32) {
        let direction = self.direction();
        let before = self.slots[index as usize].moved;
        for _ in 0..READS_PER_TURN {
            let wrote = if direction.sends() { self.write_some(index) } else { Ok(false) };
            let read = self.read(index);
            let read = match (wrote, read) {
                (Err(error), _) | (_, Err(error)) => return self.broken(index, Fault::of(&error)),
                (Ok(_), Ok(Some(0))) => return self.stream_ended(index),
                (Ok(false), Ok(None)) => break,
                (Ok(true), Ok(None)) => continue,
                (Ok(_), Ok(Some(bytes))) => bytes as u64,
            };
            if direction.receives() {
                self.moved(index, read);
            }
        }
        let slot = &mut self.slots[index as usize];
        if slot.moved > before {
            slot.moved_at = self.clock.now();
        }
        if slot.readable || (direction.sends() && slot.writable) {
            self.set_hungry(index);
        }
    }

    /// One write; whether anything was taken.
    fn write_some(&mut self, index: u32) -> io::Result<bool> {
        let slot = &mut self.slots[index as usize];
        if !slot.writable {
            return Ok(false);
        }
        let mut socket = slot.stream.as_ref().expect("only a slot that is down has no socket");
        match socket.write(pattern(0, u64::MAX)) {
            Ok(bytes) => {
                self.tally.bytes.sent += bytes as u64;
                if matches!(self.stage, Stage::Running(_)) {
                    self.tally.bytes_in_time.sent += bytes as u64;
                }
                self.moved(index, bytes as u64);
                Ok(true)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    slot.writable = false;
                    Ok(false)
                }
                io::ErrorKind::Interrupted => Ok(true),
                _ => Err(error),
            },
        }
    }

    fn moved(&mut self, index: u32, bytes: u64) {
        let slot = &mut self.slots[index as usize];
        slot.moved += bytes;
        if matches!(self.stage, Stage::Running(_)) {
            slot.moved_in_time += bytes;
        }
    }

    /// The peer has said everything. That is a download's good end, and nothing else's.
    fn stream_ended(&mut self, index: u32) {
        if self.direction() != Direction::Down || self.slots[index as usize].moved == 0 {
            return self.broken(index, Fault::Closed);
        }
        let now = self.clock.now();
        self.tally.operations.ok += 1;
        self.tally.service.record(self.slots[index as usize].ticket.service(now));
        self.tally.in_time += u64::from(self.is_in_time(now));
        self.hang_up(index);
        self.retry(index);
    }

    /// The measured time is over. What we sent is brought to its end, which may take until then.
    pub(super) fn end_streams(&mut self, until: Moment) {
        let Work::Stream { direction } = self.work else { return };
        if !direction.sends() {
            return; // the peer would never end; what is open counts when the run is settled
        }
        for index in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[index as usize];
            if slot.state != State::Streaming {
                continue;
            }
            slot.state = State::Flushing;
            // Of one that has broken, the read says how.
            let _ = slot.socket().shutdown(Shutdown::Write);
            slot.readable = true;
            self.under_way += 1;
            self.alarms.set(index, until);
            self.set_hungry(index);
        }
    }

    pub(super) fn await_flushed(&mut self, index: u32) {
        match self.discard(index) {
            Ok(Left::More | Left::Nothing) => {}
            Ok(Left::Ended) => {
                self.under_way -= 1;
                self.tally.operations.ok += 1;
                self.hang_up(index);
            }
            Err(error) => self.broken(index, Fault::of(&error)),
        }
    }

    pub(super) fn direction(&self) -> Direction {
        match self.work {
            Work::Stream { direction } => direction,
            _ => unreachable!("only a stream has a direction"),
        }
    }
}

/// Reads, or reads and writes, of one connection before another one has its turn.
pub(super) const READS_PER_TURN: usize = 8;
