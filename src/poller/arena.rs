//! Buffers of one size, lent and given back; the hottest first.
//!
//! Memory is taken in chunks when a slot is first needed and touched by the kernel only as far as
//! bytes arrive, so a poller that never has many parcels out never holds much.

use super::readiness::queue::Memory;

/// A pool of equal buffers, bounded.
#[derive(Debug)]
pub struct Arena {
    chunks: Vec<Box<[u8]>>,
    free: Vec<u32>,
    slot_size: usize,
    slots_max: usize,
    lent: usize,
}

impl Arena {
    /// An arena of at most `slots_max` buffers of `slot_size` bytes each; none is allocated yet.
    pub fn new(slot_size: usize, slots_max: usize) -> Arena {
        assert!(slot_size > 0 && slots_max > 0, "an arena without buffers can carry nothing");
        Arena { chunks: Vec::new(), free: Vec::new(), slot_size, slots_max, lent: 0 }
    }

    /// Lends a buffer; `None` when all are out.
    pub fn lend(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            self.grow();
        }
        let slot = self.free.pop()?;
        self.lent += 1;
        Some(slot)
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, slot: u32) {
        debug_assert!(!self.free.contains(&slot), "buffer {slot} was given back twice");
        self.lent -= 1;
        self.free.push(slot);
    }

    /// The bytes of a lent buffer.
    pub fn slot(&self, slot: u32) -> &[u8] {
        let (chunk, start) = self.place(slot);
        &self.chunks[chunk][start..start + self.slot_size]
    }

    /// The same, to be filled.
    pub fn slot_mut(&mut self, slot: u32) -> &mut [u8] {
        let (chunk, start) = self.place(slot);
        &mut self.chunks[chunk][start..start + self.slot_size]
    }

    /// A lent buffer, for a kernel that writes to it until it is given back.
    pub fn memory(&mut self, slot: u32) -> Memory {
        let space = self.slot_mut(slot);
        Memory { start: space.as_mut_ptr(), len: space.len() as u32 }
    }

    /// How many there may be.
    pub fn slots_max(&self) -> usize {
        self.slots_max
    }

    /// Whether a buffer could be lent right now.
    pub fn has_room(&self) -> bool {
        self.lent < self.slots_max
    }

    /// How many buffers are out.
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// How many bytes one buffer holds.
    pub fn slot_size(&self) -> usize {
        self.slot_size
    }

    fn place(&self, slot: u32) -> (usize, usize) {
        let slot = slot as usize;
        (slot / SLOTS_PER_CHUNK, slot % SLOTS_PER_CHUNK * self.slot_size)
    }

    fn grow(&mut self) {
        let have = self.chunks.len() * SLOTS_PER_CHUNK;
        let add = SLOTS_PER_CHUNK.min(self.slots_max.saturating_sub(have));
        if add == 0 {
            return;
        }
        self.chunks.push(vec![0; add * self.slot_size].into_boxed_slice());
        // The lowest slot is lent first, and again and again while one is enough.
        self.free.extend((have..have + add).rev().map(|slot| slot as u32));
    }
}

/// Large enough that the allocator maps a chunk instead of clearing it by hand.
const SLOTS_PER_CHUNK: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_as_many_as_it_may_and_no_more() {
        let mut arena = Arena::new(64, 20);
        let slots: Vec<_> = std::iter::from_fn(|| arena.lend()).collect();
        assert_eq!(slots.len(), 20);
        assert_eq!((arena.lent(), arena.has_room()), (20, false));
        arena.give_back(slots[7]);
        assert_eq!(arena.lend(), Some(slots[7]), "the one given back last is the hottest");
    }

    #[test]
    fn slots_do_not_overlap() {
        let mut arena = Arena::new(8, 40);
        let slots: Vec<_> = std::iter::from_fn(|| arena.lend()).collect();
        for &slot in &slots {
            arena.slot_mut(slot).fill(slot as u8);
        }
        for &slot in &slots {
            assert_eq!(arena.slot(slot), [slot as u8; 8]);
        }
    }
}
