//! Copy or splice: which lane the next pull of one direction should take.

use std::num::NonZeroU32;

use crate::transfer::Lane;

/// How an operator wants bytes to travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// By behaviour: copy at first, splice when a direction turns out to be bulk.
    #[default]
    Auto,
    /// Splice from the first byte on.
    AlwaysPipe,
    /// Copy always.
    AlwaysBuffer,
}

/// Chooses the lane of one direction by what its last pulls were like.
///
/// ```text
///            a pull of BULK_BYTES or more
///   Buffer ────────────────────────────────▶ Pipe
///      ▲                                       │
///      └───── SMALL_PULLS in a row below ──────┘
/// ```
///
/// Break-even of copying and splicing on this path is at 8 to 16 KiB per pull, and whether one or
/// two large pulls make the case made no measurable difference; the direction keeps its lane over
/// the requests of a connection, because traffic of a connection resembles itself.
#[derive(Clone, Copy, Debug)]
pub struct LaneChoice {
    lane: Lane,
    smalls: u8,
}

impl LaneChoice {
    /// Where a direction starts under `policy`.
    pub fn new(policy: Policy) -> LaneChoice {
        let lane = match policy {
            Policy::Auto | Policy::AlwaysBuffer => Lane::Buffer,
            Policy::AlwaysPipe => Lane::Pipe,
        };
        LaneChoice { lane, smalls: 0 }
    }

    /// The lane to wish for in the next pull.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Takes note of what a pull brought.
    pub fn observe(&mut self, policy: Policy, len: NonZeroU32) {
        if policy != Policy::Auto {
            return;
        }
        if len.get() >= BULK_BYTES {
            self.lane = Lane::Pipe;
            self.smalls = 0;
        } else if self.lane == Lane::Pipe {
            self.smalls += 1;
            if self.smalls >= SMALL_PULLS {
                *self = LaneChoice { lane: Lane::Buffer, smalls: 0 };
            }
        }
    }
}

/// A pull of this many bytes fills a buffer: there was at least as much, and likely more.
pub const BULK_BYTES: u32 = 16 * 1024;

/// Pulls below [`BULK_BYTES`], one after the other, that take a direction back to copying.
pub const SMALL_PULLS: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(policy: Policy, pulls: &[u32]) -> Lane {
        let mut choice = LaneChoice::new(policy);
        for &len in pulls {
            choice.observe(policy, NonZeroU32::new(len).expect("pulls are not empty"));
        }
        choice.lane()
    }

    #[test]
    fn starts_by_copying_and_splices_after_one_full_buffer() {
        assert_eq!(after(Policy::Auto, &[]), Lane::Buffer);
        assert_eq!(after(Policy::Auto, &[BULK_BYTES - 1]), Lane::Buffer);
        assert_eq!(after(Policy::Auto, &[BULK_BYTES]), Lane::Pipe);
    }

    #[test]
    fn goes_back_to_copying_after_eight_small_pulls_in_a_row() {
        let mut pulls = vec![BULK_BYTES];
        pulls.extend([100; SMALL_PULLS as usize - 1]);
        assert_eq!(after(Policy::Auto, &pulls), Lane::Pipe);
        pulls.push(100);
        assert_eq!(after(Policy::Auto, &pulls), Lane::Buffer);
    }

    #[test]
    fn one_large_pull_among_small_ones_keeps_the_pipe() {
        let mut pulls = vec![BULK_BYTES];
        for _ in 0..10 {
            pulls.extend([100; SMALL_PULLS as usize - 1]);
            pulls.push(BULK_BYTES);
        }
        assert_eq!(after(Policy::Auto, &pulls), Lane::Pipe);
    }

    #[test]
    fn a_fixed_policy_stays_put() {
        assert_eq!(after(Policy::AlwaysBuffer, &[BULK_BYTES; 3]), Lane::Buffer);
        assert_eq!(after(Policy::AlwaysPipe, &[1; 20]), Lane::Pipe);
    }
}
