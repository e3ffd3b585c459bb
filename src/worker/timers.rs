//! A hierarchical timer wheel: one deadline per session, set and cleared in constant time.
//!
//! Varghese and Lauck's scheme 7: six wheels of 64 slots, each a doubly linked list in a ring,
//! threaded through one node per owner. A deadline goes into the level whose span covers it and
//! moves down as its time comes near, so it fires within a tick of when it should, however far off
//! it was set.

use std::time::Duration;

use crate::time::Moment;

/// Deadlines of owners that are numbered like the slots of a slab.
#[derive(Debug)]
pub struct Timers {
    /// One for each list, which is its beginning and its end, and then one for each owner.
    nodes: Vec<Node>,
    /// A bit for each slot whose list has somebody in it.
    occupied: [u64; LEVELS],
    /// The next tick that has not been looked at.
    tick: u64,
    /// The first tick from there on at which a slot is to be looked at; [`u64::MAX`]: none has a
    /// list. It is asked for every turn and rarely another one than before.
    soonest: u64,
}

/// A place in a ring: of a list that begins and ends with its own node, an empty one with nothing
/// else.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// [`NOBODY`] in an owner that is in no list.
    next: u32,
    prev: u32,
    tick: u64,
}

const _: () = assert!(size_of::<Node>() == 16, "every session pays for one");

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
/// The resolution.
const TICK: Duration = Duration::from_millis(1);
/// 64^6 ms are 2.2 years; what is later is looked at again by then.
const HORIZON: u64 = 1 << (SLOT_BITS * LEVELS as u32);
/// The list of owners that are due and have not been told. Those of the slots come before it, level
/// by level.
const DUE: u32 = (LEVELS * SLOTS) as u32;
/// How many lists there are: the node of owner 0 comes after theirs.
const LISTS: u32 = DUE + 1;
const NOBODY: u32 = u32::MAX;
/// Nodes that there is room for from the beginning. It costs nothing until it is touched, and from
/// 128 KiB on an allocator maps it on its own: then it grows by moving pages instead of bytes, and
/// leaves no hole behind.
const ROOM: usize = 8192;

impl Default for Timers {
    fn default() -> Timers {
        let empty = |list| Node { next: list, prev: list, tick: 0 };
        let mut nodes = Vec::with_capacity(ROOM);
        nodes.extend((0..LISTS).map(empty));
        Timers { nodes, occupied: [0; LEVELS], tick: 0, soonest: u64::MAX }
    }
}

impl Timers {
    /// Sets the deadline of `owner` to `at`, or to none at all by [`Moment::NEVER`].
    ///
    /// A deadline moved to later costs nothing now: it stays where it is, and the owner is told
    /// early, asked again, and set anew. Deadlines of busy connections move with every byte.
    pub fn set(&mut self, owner: u32, at: Moment) {
        let owner = LISTS + owner;
        let index = owner as usize;
        if index >= self.nodes.len() {
            let idle = Node { next: NOBODY, prev: NOBODY, tick: 0 };
            self.nodes.resize(index + 1, idle);
        }
        // Rounded up: never early by the wheel's own doing.
        let tick = at.nanos().div_ceil(TICK.as_nanos() as u64);
        let node = &self.nodes[index];
        if at == Moment::NEVER || (node.next != NOBODY && node.tick <= tick) {
            return;
        }
        self.unlink(owner);
        self.nodes[index].tick = tick;
        self.link(owner);
    }

    /// Forgets the deadline of `owner`.
    pub fn clear(&mut self, owner: u32) {
        if ((LISTS + owner) as usize) < self.nodes.len() {
            self.unlink(LISTS + owner);
        }
    }

    /// When somebody is due next, or must be moved to a finer wheel; [`Moment::NEVER`]: nobody.
    pub fn next(&self) -> Moment {
        if self.first(DUE).is_some() {
            return Moment::ZERO;
        }
        // What is as far off as that multiplication saturates is as good as never.
        Moment::from_nanos(self.soonest.saturating_mul(TICK.as_nanos() as u64))
    }

    /// One owner that is due at `now`, whose deadline is cleared; `None` when nobody is left.
    pub fn expire(&mut self, now: Moment) -> Option<u32> {
        let now = now.nanos() / TICK.as_nanos() as u64;
        loop {
            if let Some(owner) = self.first(DUE) {
                self.unlink(owner);
                return Some(owner - LISTS);
            }
            if self.soonest > now {
                return None;
            }
            let (tick, level) = self.next_list()?;
            self.tick = tick;
            self.sort_anew(level, slot_of(tick, level));
        }
    }

    /// The first tick at which a slot is to be looked at, and on which level.
    fn next_list(&self) -> Option<(u64, usize)> {
        (0..LEVELS).filter_map(|level| Some((self.next_in(level)?, level))).min()
    }

    /// Some slot has a list now that had none, or the other way round.
    fn occupation_changed(&mut self) {
        self.soonest = self.next_list().map_or(u64::MAX, |(tick, _)| tick);
    }

    /// The first tick at which a slot of `level` is to be looked at.
    fn next_in(&self, level: usize) -> Option<u64> {
        let occupied = self.occupied[level];
        if occupied == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let here = self.tick >> shift;
        let slot = (here % SLOTS as u64) as u32;
        // Slots from here on come in this round, those behind in the next.
        let distance = u64::from(occupied.rotate_right(slot).trailing_zeros());
        Some(((here + distance) << shift).max(self.tick))
    }

    /// Moves everybody in a slot to where they belong now: to finer wheels, or among those due.
    fn sort_anew(&mut self, level: usize, slot: usize) {
        let list = list_of(level, slot);
        let mut owner = self.nodes[list as usize].next;
        self.nodes[list as usize] = Node { next: list, prev: list, tick: 0 };
        self.occupied[level] &= !(1 << slot);
        self.occupation_changed();
        while owner != list {
            let next = self.nodes[owner as usize].next;
            self.link(owner);
            owner = next;
        }
    }

    /// The first in a list.
    fn first(&self, list: u32) -> Option<u32> {
        let first = self.nodes[list as usize].next;
        (first != list).then_some(first)
    }

    /// Puts an owner that is in no list into the one of its tick.
    fn link(&mut self, owner: u32) {
        let list = self.list_for(self.nodes[owner as usize].tick);
        if let Some((level, slot)) = slot_of_list(list)
            && self.occupied[level] & 1 << slot == 0
        {
            self.occupied[level] |= 1 << slot;
            self.occupation_changed();
        }
        let next = std::mem::replace(&mut self.nodes[list as usize].next, owner);
        self.nodes[next as usize].prev = owner;
        let node = &mut self.nodes[owner as usize];
        (node.next, node.prev) = (next, list);
    }

    /// The list where somebody belongs now who is to be told at `tick`.
    fn list_for(&self, tick: u64) -> u32 {
        if tick <= self.tick {
            return DUE;
        }
        let target = self.tick + (tick - self.tick).min(HORIZON - 1);
        // The highest bit in which the tick differs from now says which wheel tells them apart.
        // Past the last wheel's present round it is that wheel all the same, no farther ahead than
        // the slot just behind us.
        let differs = 63 - (target ^ self.tick).leading_zeros();
        let level = ((differs / SLOT_BITS) as usize).min(LEVELS - 1);
        let shift = SLOT_BITS * level as u32;
        let here = self.tick >> shift;
        let there = (target >> shift).min(here + SLOTS as u64 - 1);
        list_of(level, (there % SLOTS as u64) as usize)
    }

    fn unlink(&mut self, owner: u32) {
        let Node { next, prev, .. } = self.nodes[owner as usize];
        if next == NOBODY {
            return;
        }
        self.nodes[prev as usize].next = next;
        self.nodes[next as usize].prev = prev;
        self.nodes[owner as usize].next = NOBODY;
        // With the same neighbour on both sides, nobody but the list itself was there.
        if next == prev
            && let Some((level, slot)) = slot_of_list(next)
        {
            self.occupied[level] &= !(1 << slot);
            self.occupation_changed();
        }
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS
}

fn list_of(level: usize, slot: usize) -> u32 {
    (level * SLOTS + slot) as u32
}

/// The wheel and the slot of a list; the one of those due has none.
fn slot_of_list(list: u32) -> Option<(usize, usize)> {
    (list != DUE).then_some((list as usize / SLOTS, list as usize % SLOTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    /// Lets the wheel run as a loop would, from one `next` to another.
    fn run(timers: &mut Timers, until: u64) -> Vec<(u64, u32)> {
        let mut fired = Vec::new();
        loop {
            let next = timers.next();
            if next > at(until) {
                return fired;
            }
            while let Some(owner) = timers.expire(next) {
                fired.push((next.nanos() / 1_000_000, owner));
            }
        }
    }

    #[test]
    fn everyone_is_told_at_their_tick_however_far_off() {
        let mut timers = Timers::default();
        let when = [1, 63, 64, 65, 4095, 4096, 5000, 262_144, 3_600_000, 49 * 86_400_000];
        for (owner, &millis) in when.iter().enumerate() {
            timers.set(owner as u32, at(millis));
        }
        let fired = run(&mut timers, u64::MAX / 4_000_000);
        let told: Vec<_> = when.iter().enumerate().map(|(o, &ms)| (ms, o as u32)).collect();
        assert_eq!(fired, told);
    }

    #[test]
    fn random_deadlines_set_at_random_times_fire_on_their_tick() {
        let mut timers = Timers::default();
        let mut state = 88_172_645_463_325_252u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut now = 0;
        let mut wanted = std::collections::HashMap::new();
        for _ in 0..20_000 {
            let owner = (random() % 64) as u32;
            let far = random() % 1u64.wrapping_shl((random() % 24) as u32 + 1).max(1);
            if let std::collections::hash_map::Entry::Vacant(place) = wanted.entry(owner) {
                timers.set(owner, at(now + far));
                place.insert(now + far);
            } else if random() % 4 == 0 {
                timers.clear(owner);
                wanted.remove(&owner);
            }
            let next = timers.next();
            let earliest = wanted.values().min().copied();
            assert!(next <= earliest.map_or(Moment::NEVER, at), "nobody is told late");
            now += random() % 40;
            while let Some(owner) = timers.expire(at(now)) {
                let due = wanted.remove(&owner).expect("told once, and only who asked");
                assert!(due <= now, "{owner} was told {} ms early", due - now);
            }
            assert!(wanted.values().all(|&due| due > now), "everyone due by {now} was told");
        }
    }

    #[test]
    fn a_deadline_moved_later_is_told_early_and_one_moved_earlier_is_not_told_late() {
        let mut timers = Timers::default();
        timers.set(0, at(100));
        timers.set(0, at(500));
        assert_eq!(run(&mut timers, 200), [(100, 0)]);
        timers.set(0, at(500));
        timers.set(0, at(300));
        assert_eq!(run(&mut timers, 1000), [(300, 0)]);
    }

    #[test]
    fn beyond_the_horizon_is_looked_at_again_by_then() {
        let mut timers = Timers::default();
        timers.set(0, at(HORIZON * 3));
        timers.set(1, Moment::NEVER);
        assert!(timers.next() < at(HORIZON + 1));
        let fired = run(&mut timers, HORIZON * 4);
        assert_eq!(fired, [(HORIZON * 3, 0)]);
    }

    #[test]
    fn a_cleared_deadline_is_not_told() {
        let mut timers = Timers::default();
        timers.set(3, at(10));
        timers.set(4, at(10));
        timers.clear(3);
        timers.clear(99);
        assert_eq!(run(&mut timers, 100), [(10, 4)]);
        assert_eq!(timers.next(), Moment::NEVER);
    }
}
