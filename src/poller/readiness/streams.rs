//! Bytes that the queue takes in by itself, where it can (see [`Queue::RECEIVES`]): for connections
//! that go on speaking in small pieces.
//!
//! A socket is read by a call of our own first. Only when it has been heard of before, and a pull into a
//! buffer has to wait, is the queue asked to *receive* from it; from then on it is not watched for bytes, and
//! what comes waits in the inbox of its stream for the pulls. It ends, and the socket is read as before, when
//! bytes are to go by pipe, when nobody takes them, and when the queue is out of buffers.

use super::*;
use crate::poller::readiness::queue::Received;

/// What the queue does for one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    state: State,
    /// The end has come, behind what is in the inbox; the entry knows if it was a failure.
    ended: bool,
    /// How many pieces are in the inbox.
    count: u8,
    first: u32,
    last: u32,
}

const _: () = assert!(size_of::<Stream>() == 12, "every socket pays for one");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Off,
    Receiving,
    /// It was told to stop, and what it had taken in by then may still come.
    Stopping,
    /// It has stopped.
    Over,
}

/// Bytes that came for a socket and were not pulled yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    slot: u32,
    len: NonZeroU32,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// Pieces that may wait for one socket before the queue is told to stop.
const INBOX_MAX: u8 = 8;

impl Stream {
    pub(super) const OFF: Stream =
        Stream { state: State::Off, ended: false, count: 0, first: NONE, last: NONE };
}

/// What a pull finds.
pub(super) enum Found {
    Outcome(Outcome),
    /// Nothing yet.
    Nothing,
    /// No stream: the socket is to be read.
    Socket,
}

impl<Q: Queue> Readiness<Q> {
    pub(super) fn is_streamed(&self, slot: u32) -> bool {
        Q::RECEIVES
            && self.streams.get(slot as usize).is_some_and(|stream| stream.state != State::Off)
    }

    /// Has the queue receive for a pull that waits, if that suits the socket.
    pub(super) fn start_stream(&mut self, slot: u32, lane: Lane) -> bool {
        let starving = self.entries.starving(slot) != Starving::No;
        let entry = self.entries.entry_mut(slot);
        let suits = entry.traits.is_tcp() && entry.park.is_familiar();
        if !Q::RECEIVES || lane != Lane::Buffer || starving || !suits {
            return false;
        }
        let key = Key { slot, generation: entry.generation };
        if !self.queue.receive(entry.socket.as_fd(), key) {
            return false;
        }
        if entry.park.is_watched() {
            self.queue.unwatch(key);
            entry.park.unwatch();
        }
        let at = slot as usize;
        if self.streams.len() <= at {
            self.streams.resize(at + 1, Stream::OFF);
        }
        self.streams[at] = Stream { state: State::Receiving, ..Stream::OFF };
        true
    }

    /// Looks for the next piece of a stream, or its end.
    pub(super) fn pull_stream(&mut self, slot: u32, lane: Lane) -> Found {
        let failed = self.entries.failed(slot);
        let entry = self.entries.entry_mut(slot);
        let stream = &mut self.streams[slot as usize];
        if stream.first != NONE {
            let piece = self.pieces.remove(stream.first as usize);
            stream.first = piece.next;
            stream.count -= 1;
            entry.park.pulled();
            return Found::Outcome(Outcome::Pulled {
                parcel: Parcel::new(Lane::Buffer, piece.slot, 0, piece.len),
                last: stream.first == NONE && stream.ended && failed.is_none(),
            });
        }
        if stream.ended {
            return Found::Outcome(failed.map_or(Outcome::Ended, Outcome::Failed));
        }
        match stream.state {
            State::Receiving if lane == Lane::Buffer => Found::Nothing,
            State::Receiving => {
                stream.state = State::Stopping;
                self.queue.stop_receiving(Key { slot, generation: entry.generation });
                Found::Nothing
            }
            State::Stopping => Found::Nothing,
            State::Over | State::Off => {
                *stream = Stream::OFF;
                entry.park.edge(Edge { readable: true, ..Edge::default() });
                Found::Socket
            }
        }
    }

    /// Takes in what came, by itself, for the socket of `key`.
    pub(super) fn received(&mut self, key: Key, received: Received) {
        let Received { slot, len, over, end } = received;
        let entry = self.entries.get_mut(key.slot);
        let entry = entry.filter(|entry| entry.generation == key.generation);
        let pulls = entry.as_ref().is_some_and(|entry| entry.pull().is_some());
        let (Some(_), Some(stream)) = (entry, self.streams.get_mut(key.slot as usize)) else {
            // It was closed meanwhile.
            if let Some(slot) = slot {
                self.arena.give_back(slot);
            }
            return;
        };
        match (slot, NonZeroU32::new(len)) {
            (Some(slot), Some(len)) => {
                let piece = self.pieces.insert(Piece { slot, len, next: NONE }) as u32;
                if stream.first == NONE {
                    stream.first = piece;
                } else {
                    self.pieces[stream.last as usize].next = piece;
                }
                stream.last = piece;
                stream.count = stream.count.saturating_add(1);
            }
            (Some(slot), None) => self.arena.give_back(slot),
            (None, _) => {}
        }
        match end {
            Some(Ok(())) => stream.ended = true,
            Some(Err(failure)) => {
                stream.ended = true;
                if self.entries.failed(key.slot).is_none() {
                    self.entries.fail(key.slot, failure);
                }
            }
            None => {}
        }
        if over {
            stream.state = State::Over;
        } else if stream.count >= INBOX_MAX && stream.state == State::Receiving {
            stream.state = State::Stopping;
            self.queue.stop_receiving(key);
        }
        if pulls {
            self.ready.push_back(key);
        }
    }

    /// Gives up the stream of a socket that is being closed.
    pub(super) fn end_stream(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key.slot as usize) else { return };
        let stream = std::mem::replace(stream, Stream::OFF);
        if matches!(stream.state, State::Receiving | State::Stopping) {
            self.queue.stop_receiving(key);
        }
        let mut next = stream.first;
        while next != NONE {
            let piece = self.pieces.remove(next as usize);
            self.arena.give_back(piece.slot);
            next = piece.next;
        }
    }

    /// Lends the queue buffers to receive into, up to a quarter of all.
    pub(super) fn provide(&mut self) {
        let most = self.arena.slots_max() / 4;
        for _ in 0..self.queue.buffers_wanted().min(most.saturating_sub(self.queue.buffers_lent()))
        {
            let Some(slot) = self.arena.lend() else { return };
            let Ok(number) = u16::try_from(slot) else {
                self.arena.give_back(slot);
                return;
            };
            let memory = self.arena.memory(slot);
            self.queue.provide(number, memory);
        }
    }
}
