//! What goes wrong in a run, and how often.
//!
//! Swarmed: each seed switches a random subset off and weighs the rest wildly, because faults that
//! are all on all the time hide one another.

use crate::dice::Dice;

/// Weights (in 1024) of the faults of one run, and the sizes of its little world.
#[derive(Clone, Debug)]
pub struct Faults {
    /// An operation is answered by return value where it could be.
    pub inline: u32,
    /// An outcome is only told after the next wait.
    pub late: u32,
    /// A pull gets less than there is.
    pub short_pull: u32,
    /// A push gets rid of less than there is room for.
    pub short_push: u32,
    /// A wait ends although nothing happened.
    pub spurious: u32,
    /// A wait ends later than it was asked to.
    pub oversleep: u32,
    /// A cancelled operation is attempted once more before it is given up.
    pub cancel_race: u32,
    /// `Pulled::last` is told when it is known.
    pub tell_last: u32,
    /// A connect is refused.
    pub refused: u32,
    /// A connect is never answered.
    pub black_hole: u32,
    /// The first SYN is lost.
    pub syn_lost: u32,
    /// A connect is answered by "no way there".
    pub unreachable: u32,
    /// A connection is reset as soon as it stands.
    pub reset_at_once: u32,
    /// A connect fails for want of something of ours.
    pub shortage: u32,
    /// The accept queue of a Unix backend is full.
    pub busy: u32,
    /// The kernel does not take the first parcel at once.
    pub first_waits: u32,
    /// An accept fails.
    pub accept_fails: u32,
    /// Buffers of the arena.
    pub buffers: usize,
    /// Bytes in each.
    pub buffer_size: usize,
    /// Pipes.
    pub pipes: usize,
    /// Bytes in each.
    pub pipe_size: usize,
    /// Bytes a send buffer holds.
    pub send_buffer: u64,
    /// Bytes a receive window admits.
    pub window: u64,
    /// One-way latency at most, in nanoseconds.
    pub latency_max: u64,
}

impl Faults {
    /// A world where nothing goes wrong, for the law suite.
    pub fn none() -> Faults {
        Faults {
            inline: 512,
            late: 0,
            short_pull: 0,
            short_push: 0,
            spurious: 0,
            oversleep: 0,
            cancel_race: 0,
            tell_last: 512,
            refused: 0,
            black_hole: 0,
            syn_lost: 0,
            unreachable: 0,
            reset_at_once: 0,
            shortage: 0,
            busy: 0,
            first_waits: 0,
            accept_fails: 0,
            buffers: 16,
            buffer_size: 16 * 1024,
            pipes: 4,
            pipe_size: 64 * 1024,
            send_buffer: 64 * 1024,
            window: 64 * 1024,
            latency_max: 50_000,
        }
    }

    /// Turns it into a world with room for more than a session may move in one turn.
    pub fn make_room(&mut self) {
        let room = 4 << 20;
        (self.send_buffer, self.window) = (room, room);
        (self.buffer_size, self.pipe_size) = (64 << 10, 1 << 20);
        (self.inline, self.short_pull, self.short_push) = (1024, 0, 0);
    }

    /// Whether every connect succeeds in time.
    pub fn are_easy(&self) -> bool {
        let Faults { refused, black_hole, unreachable, reset_at_once, shortage, busy, .. } = self;
        let failing = refused + black_hole + unreachable + reset_at_once + shortage + busy;
        failing + self.first_waits + self.syn_lost == 0
    }

    /// The faults of a seed.
    pub fn swarm(dice: &mut Dice) -> Faults {
        let small = dice.chance(512);
        Faults {
            inline: dice.pick(&[0, 100, 512, 900, 1024]),
            late: weight(dice, 700),
            short_pull: weight(dice, 900),
            short_push: weight(dice, 900),
            spurious: weight(dice, 200),
            oversleep: weight(dice, 100),
            cancel_race: weight(dice, 1024),
            tell_last: dice.pick(&[0, 512, 1024]),
            refused: weight(dice, 300),
            black_hole: weight(dice, 100),
            syn_lost: weight(dice, 300),
            unreachable: weight(dice, 100),
            reset_at_once: weight(dice, 200),
            shortage: weight(dice, 100),
            busy: weight(dice, 300),
            first_waits: weight(dice, 500),
            accept_fails: weight(dice, 300),
            buffers: dice.spread(2, 64) as usize,
            buffer_size: dice.spread(if small { 16 } else { 512 }, 16 * 1024) as usize,
            pipes: dice.below(6) as usize,
            pipe_size: dice.spread(512, 64 * 1024) as usize,
            send_buffer: dice.spread(if small { 64 } else { 2048 }, 64 * 1024),
            window: dice.spread(if small { 64 } else { 2048 }, 64 * 1024),
            latency_max: dice.spread(20_000, 200_000_000),
        }
    }
}

/// Off half of the time, otherwise anything up to `max`.
fn weight(dice: &mut Dice, max: u64) -> u32 {
    if dice.chance(512) { 0 } else { dice.between(1, max) as u32 }
}
