//! From a slot that is down to one that is up, and back.

use std::io;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::{Engine, Stage, State};
use crate::bench::Work;
use crate::bench::pace::{Pacer, Ticket};
use crate::bench::tally::Fault;
use crate::time::Moment;

impl Engine {
    /// Opens connections before the measured time, as many at once as may be.
    pub(super) fn open_more(&mut self, now: Moment) {
        while self.opening.next < self.slots.len()
            && self.opening.under_way < self.opening.limit
            && self.opening.pacer.as_mut().is_none_or(|pacer| Pacer::take(pacer, now).is_some())
        {
            let index = self.opening.next;
            self.opening.next += 1;
            self.opening.under_way += 1;
            self.slots[index].is_opening = true;
            self.reconnect(index as u32);
        }
    }

    /// Connects a slot whose operation comes later.
    pub(super) fn reconnect(&mut self, index: u32) {
        let now = self.clock.now();
        self.connect(index, Ticket { due: now, started: now });
    }

    pub(super) fn connect(&mut self, index: u32, ticket: Ticket) {
        let slot = &mut self.slots[index as usize];
        slot.state = State::Connecting;
        slot.ticket = ticket;
        (slot.readable, slot.writable, slot.read_closed) = (false, false, false);
        slot.has_served = false;
        slot.moved = 0;
        self.alarms.set(index, ticket.started + self.timeout);
        if let Err(error) = self.dial(index) {
            self.broken(index, Fault::of(&error));
        }
    }

    /// Asks the kernel for a connection. Whether it stands, an event tells, over loopback too.
    fn dial(&mut self, index: u32) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.target)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index as usize), interest)?;
        self.slots[index as usize].stream = Some(stream);
        Ok(())
    }

    /// An event came: is it the connection?
    pub(super) fn look_connected(&mut self, index: u32) {
        let socket = self.slots[index as usize].socket();
        let error = match socket.take_error() {
            Ok(None) => match socket.peer_addr() {
                Ok(_) => return self.connected(index),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
                Err(error) => error,
            },
            Ok(Some(error)) | Err(error) => error,
        };
        self.broken(index, Fault::of(&error));
    }

    fn connected(&mut self, index: u32) {
        let now = self.clock.now();
        let slot = &self.slots[index as usize];
        self.tally.connects.ok += 1;
        self.tally.connect.record(now - slot.ticket.started);
        self.open += 1;
        match &self.work {
            Work::Connect { ask: None } => self.finish(index),
            // One question and its answer are never held back by Nagle's algorithm.
            Work::Connect { ask: Some(_) } => self.put(index),
            Work::Idle { ask: Some(_) } => {
                self.set_nodelay(index);
                self.ask(index, Ticket { due: now, started: now });
            }
            Work::Request { .. } | Work::Stream { .. } | Work::Idle { ask: None } => {
                self.set_nodelay(index);
                self.is_up(index);
            }
        }
    }

    fn set_nodelay(&mut self, index: u32) {
        // It fails on a connection that has broken meanwhile; the next call says so.
        let _ = self.slots[index as usize].socket().set_nodelay(true);
    }

    /// A connection stands, and nothing is asked on it.
    pub(super) fn is_up(&mut self, index: u32) {
        self.slots[index as usize].state = State::Up;
        self.alarms.set(index, Moment::NEVER);
        self.tried(index);
        if matches!(self.work, Work::Request { .. }) {
            self.set_free(index);
        }
        match self.work {
            // The event that told of the connection may have told of its end, too.
            Work::Request { .. } | Work::Idle { .. } if self.slots[index as usize].readable => {
                self.watch(index);
            }
            Work::Request { .. } => {}
            Work::Stream { .. } => {
                if matches!(self.stage, Stage::Running(_)) {
                    self.begin_stream(index);
                }
            }
            Work::Connect { .. } | Work::Idle { .. } => {}
        }
    }

    /// The first attempt on a slot is over, one way or the other.
    pub(super) fn tried(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.is_opening {
            slot.is_opening = false;
            self.opening.under_way -= 1;
        }
    }

    /// Nothing is asked, and yet something came: the end, or bytes that nobody wants.
    pub(super) fn watch(&mut self, index: u32) {
        let left = match self.work {
            // They are for the measured time, which has not begun.
            Work::Stream { .. } => return,
            Work::Request { .. } => self.read(index).map(|bytes| match bytes {
                None => Left::Nothing,
                Some(0) => Left::Ended,
                Some(_) => Left::More,
            }),
            Work::Connect { .. } | Work::Idle { .. } => self.discard(index),
        };
        match left {
            Ok(Left::Nothing) => {}
            Ok(Left::More) if matches!(self.work, Work::Request { .. }) => {
                self.broken(index, Fault::BadAnswer);
            }
            Ok(Left::More) => {}
            Ok(Left::Ended) => self.broken(index, Fault::Closed),
            Err(error) => self.broken(index, Fault::of(&error)),
        }
    }

    /// Reads and forgets, a bounded number of bytes.
    pub(super) fn discard(&mut self, index: u32) -> io::Result<Left> {
        for _ in 0..super::streaming::READS_PER_TURN {
            match self.read(index)? {
                Some(0) => return Ok(Left::Ended),
                Some(_) => {}
                None => return Ok(Left::Nothing),
            }
        }
        self.set_hungry(index);
        Ok(Left::More)
    }

    /// Reads into the scratch buffer; `None` when there is nothing to read.
    pub(super) fn read(&mut self, index: u32) -> io::Result<Option<usize>> {
        use std::io::Read;

        let slot = &mut self.slots[index as usize];
        while slot.readable {
            let mut socket = slot.stream.as_ref().expect("only a slot that is down has no socket");
            match socket.read(&mut self.scratch) {
                Ok(bytes) => {
                    // A short read took everything, unless the end stands behind it.
                    slot.readable = bytes == self.scratch.len() || slot.read_closed;
                    self.tally.bytes.received += bytes as u64;
                    if matches!(self.stage, Stage::Running(_)) {
                        self.tally.bytes_in_time.received += bytes as u64;
                    }
                    return Ok(Some(bytes));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => slot.readable = false,
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(None)
    }

    /// Closes a slot's socket, if it has one.
    pub(super) fn hang_up(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let stood = !matches!(slot.state, State::Down | State::Connecting);
        self.open -= u32::from(stood);
        slot.state = State::Down;
        slot.stream = None;
        self.alarms.set(index, Moment::NEVER);
    }
}

/// What is left to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    More,
    Nothing,
    Ended,
}
