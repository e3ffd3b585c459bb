//! The buffers and pipes of a `SimPoller`, few enough to run out of.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use evenkeel::transfer::{Lane, Parcel};

use crate::dice;
use crate::faults::Faults;
use crate::kernel::{EndId, Kernel, Source};

/// Buffers, pipes and who waits for them.
pub struct Store {
    buffers: Vec<Slot>,
    pipes: Vec<Slot>,
    buffer_size: usize,
    pipe_size: usize,
    /// Sockets whose pull waits for a buffer, first come first served.
    starving: VecDeque<u32>,
    starved: u64,
    /// The numbers of free buffers and pipes.
    free: [Vec<u32>; 2],
}

#[derive(Default)]
struct Slot {
    lent: bool,
    data: Vec<u8>,
    source: Option<Source>,
    /// Where the parcel out on this slot begins, and its length.
    extent: (u32, u32),
}

impl Store {
    pub fn new(faults: &Faults) -> Store {
        let slots = |n| (0..n).map(|_| Slot::default()).collect();
        Store {
            buffers: slots(faults.buffers),
            pipes: slots(faults.pipes),
            buffer_size: faults.buffer_size,
            pipe_size: faults.pipe_size,
            starving: VecDeque::new(),
            starved: 0,
            free: [(0..faults.buffers as u32).collect(), (0..faults.pipes as u32).collect()],
        }
    }

    /// A free slot for a pull of a socket: a pipe if that was wished for and there is one,
    /// otherwise a buffer. `None` puts the socket in the queue.
    pub fn lend(&mut self, socket: u32, wish: Lane) -> Option<(Lane, u32, usize)> {
        if wish == Lane::Pipe
            && let Some(slot) = self.free[1].pop()
        {
            self.forget(socket);
            self.pipes[slot as usize].lent = true;
            return Some((Lane::Pipe, slot, self.pipe_size));
        }
        let first = self.starving.front().is_none_or(|first| *first == socket);
        if !first || self.free[0].is_empty() {
            if !self.starving.contains(&socket) {
                self.starving.push_back(socket);
                self.starved += 1;
            }
            return None;
        }
        self.forget(socket);
        let slot = self.free[0].pop().expect("one was free");
        self.buffers[slot as usize].lent = true;
        Some((Lane::Buffer, slot, self.buffer_size))
    }

    /// The socket no longer waits for a buffer.
    pub fn forget(&mut self, socket: u32) {
        self.starving.retain(|other| *other != socket);
    }

    /// Who is to have the next buffer, if there is one.
    pub fn first_starved(&self) -> Option<u32> {
        if self.free[0].is_empty() { None } else { self.starving.front().copied() }
    }

    /// Puts bytes of a stream into a slot.
    pub fn fill(
        &mut self,
        lane: Lane,
        slot: u32,
        bytes: usize,
        kernel: &Kernel,
        stream: EndId,
        from: u64,
    ) {
        let at = self.slot(lane, slot);
        at.extent = (0, bytes as u32);
        at.source = Some(Source::Stream(stream, from));
        if lane == Lane::Buffer {
            at.data.clear();
            at.data.resize(bytes, 0);
            if kernel.ends[stream].pieces.is_empty() {
                dice::fill(&mut at.data, stream, from);
            } else {
                for (i, byte) in at.data.iter_mut().enumerate() {
                    *byte = kernel.byte(stream, from + i as u64);
                }
            }
        }
    }

    /// A buffer with bytes of our own.
    pub fn compose(&mut self, bytes: &[u8]) -> Option<Parcel> {
        let len = NonZeroU32::new(bytes.len() as u32)?;
        if bytes.len() > self.buffer_size {
            return None;
        }
        let slot = self.free[0].pop()?;
        let at = &mut self.buffers[slot as usize];
        at.lent = true;
        at.data = bytes.to_vec();
        at.extent = (0, len.get());
        at.source = Some(Source::Composed(bytes.to_vec()));
        Some(Parcel::new(Lane::Buffer, slot, 0, len))
    }

    pub fn bytes(&self, parcel: &Parcel) -> Option<&[u8]> {
        let from = parcel.offset() as usize;
        let to = from + parcel.len().get() as usize;
        match parcel.lane() {
            Lane::Buffer => Some(&self.buffers[parcel.slot() as usize].data[from..to]),
            Lane::Pipe => None,
        }
    }

    /// Where the bytes of a parcel came from, checked against what the buffer really holds.
    pub fn source(&mut self, parcel: &Parcel) -> Source {
        let at = self.known(parcel);
        let from = parcel.offset() as usize;
        match at.source.as_ref().expect("a lent slot was filled") {
            Source::Composed(bytes) => Source::Composed(bytes[from..].to_vec()),
            Source::Stream(stream, offset) => {
                Source::Stream(*stream, offset + u64::from(parcel.offset()))
            }
        }
    }

    /// What is left of a parcel after some of it went out; the slot is free when nothing is.
    pub fn advance(&mut self, parcel: Parcel, bytes: NonZeroU32) -> Option<Parcel> {
        let (lane, slot) = (parcel.lane(), parcel.slot());
        self.known(&parcel);
        match parcel.advance(bytes) {
            Some(rest) => {
                self.slot(lane, slot).extent = (rest.offset(), rest.len().get());
                Some(rest)
            }
            None => {
                self.vacate(lane, slot);
                None
            }
        }
    }

    /// Takes a parcel back.
    pub fn take_back(&mut self, parcel: Parcel) {
        self.known(&parcel);
        self.vacate(parcel.lane(), parcel.slot());
    }

    /// Parcels out, buffers and pipes with bytes in them, pulls ever starved.
    pub fn gauges(&self) -> (usize, usize, usize, u64) {
        let buffers = self.buffers.len() - self.free[0].len();
        let pipes = self.pipes.len() - self.free[1].len();
        (buffers + pipes, buffers, pipes, self.starved)
    }

    fn vacate(&mut self, lane: Lane, slot: u32) {
        let at = self.slot(lane, slot);
        at.lent = false;
        at.source = None;
        self.free[usize::from(lane == Lane::Pipe)].push(slot);
    }

    fn known(&mut self, parcel: &Parcel) -> &mut Slot {
        let at = self.slot(parcel.lane(), parcel.slot());
        assert!(at.lent, "{parcel:?} was given back before");
        let extent = (parcel.offset(), parcel.len().get());
        assert_eq!(at.extent, extent, "{parcel:?} is not the parcel that was lent");
        at
    }

    fn slot(&mut self, lane: Lane, slot: u32) -> &mut Slot {
        match lane {
            Lane::Buffer => &mut self.buffers[slot as usize],
            Lane::Pipe => &mut self.pipes[slot as usize],
        }
    }
}
