//! Round trips, and the orderly end of a connection behind them.

use std::io::{self, Write};
use std::net::Shutdown;

use super::connecting::Left;
use super::{Engine, State};
use crate::bench::Work;
use crate::bench::exchange::{Exchange, Progress};
use crate::bench::pace::Ticket;
use crate::bench::tally::Fault;
use crate::time::Moment;

impl Engine {
    /// Begins a round trip that has a ticket of its own.
    pub(super) fn ask(&mut self, index: u32, ticket: Ticket) {
        self.slots[index as usize].ticket = ticket;
        self.alarms.set(index, ticket.started + self.timeout);
        self.put(index);
    }

    /// Puts the question. The answer is looked for when an event says that there is one.
    pub(super) fn put(&mut self, index: u32) {
        self.asked += 1;
        let slot = &mut self.slots[index as usize];
        slot.state = State::Asking;
        slot.exchange = Exchange::new(self.asked);
        slot.writable = true;
        match self.say(index) {
            Ok(()) if self.slots[index as usize].readable => self.hear(index),
            Ok(()) => {}
            Err(error) => self.broken(index, Fault::of(&error)),
        }
    }

    pub(super) fn converse(&mut self, index: u32) {
        match self.say(index) {
            Ok(()) => self.hear(index),
            Err(error) => self.broken(index, Fault::of(&error)),
        }
    }

    /// Sends what is left of the question, as far as there is room.
    fn say(&mut self, index: u32) -> io::Result<()> {
        let question = self.question.as_ref().expect("who asks has a question");
        let slot = &mut self.slots[index as usize];
        while slot.writable {
            let bytes = slot.exchange.unsent(question);
            if bytes.is_empty() {
                break;
            }
            let mut socket = slot.stream.as_ref().expect("only a slot that is down has no socket");
            match socket.write(bytes) {
                Ok(sent) => {
                    slot.exchange.sent(sent);
                    self.tally.bytes.sent += sent as u64;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => slot.writable = false,
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Reads as much of the answer as there is.
    fn hear(&mut self, index: u32) {
        loop {
            let read = self.read(index);
            let question = self.question.as_ref().expect("who asks has a question");
            let slot = &mut self.slots[index as usize];
            let progress = match read {
                Ok(None) => return,
                Ok(Some(0)) => slot.exchange.end(),
                Ok(Some(bytes)) => slot.exchange.take(question, &self.scratch[..bytes]),
                Err(error) => return self.broken(index, Fault::of(&error)),
            };
            if let Progress::Over { keep, fault } = progress {
                return self.answered(index, keep, fault);
            }
        }
    }

    fn answered(&mut self, index: u32, keep: bool, fault: Option<Fault>) {
        let now = self.clock.now();
        match (&self.work, fault) {
            (Work::Connect { .. }, None) if keep => self.finish(index),
            (Work::Connect { .. }, None) => {
                // The peer said that it ends first.
                self.slots[index as usize].state = State::Finishing;
                self.await_end(index);
            }
            (Work::Request { .. }, fault) if keep => {
                self.judge(index, now, fault);
                self.is_up(index);
            }
            (Work::Request { .. }, None) => {
                self.judge(index, now, None);
                self.hang_up(index);
                self.retry(index);
            }
            (Work::Idle { .. }, None) if keep => {
                self.tally.service.record(self.slots[index as usize].ticket.service(now));
                self.is_up(index);
            }
            (Work::Idle { .. }, None) => self.broken(index, Fault::Closed),
            (_, Some(fault)) => self.broken(index, fault),
            (Work::Stream { .. }, None) => unreachable!("nothing is asked on a stream"),
        }
    }

    /// Counts an operation that came to its end, well or not.
    fn judge(&mut self, index: u32, now: Moment, fault: Option<Fault>) {
        self.under_way -= 1;
        self.slots[index as usize].has_served = true;
        match fault {
            Some(fault) => self.tally.operations.fail(fault),
            None => self.succeeded(index, now),
        }
    }

    /// Counts a success with its latencies.
    fn succeeded(&mut self, index: u32, now: Moment) {
        let ticket = self.slots[index as usize].ticket;
        self.tally.operations.ok += 1;
        self.tally.service.record(ticket.service(now));
        self.tally.response.record(ticket.response(now));
        self.tally.in_time += u64::from(self.is_in_time(now));
    }

    /// Says that this was all (FIN), and waits for the peer to say the same.
    pub(super) fn finish(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Finishing;
        if slot.socket().shutdown(Shutdown::Write).is_err() {
            // It has broken, and the read says how.
            slot.readable = true;
        }
        if slot.readable {
            self.await_end(index);
        }
    }

    pub(super) fn await_end(&mut self, index: u32) {
        match self.discard(index) {
            Ok(Left::More | Left::Nothing) => {}
            Ok(Left::Ended) => {
                let now = self.clock.now();
                self.judge(index, now, None);
                self.hang_up(index);
                self.set_free(index);
            }
            Err(error) => self.broken(index, Fault::of(&error)),
        }
    }
}
