//! Drawing by weight.

/// Weights, ready to be drawn from.
///
/// One binary search where whoever is drawn may be chosen, as nearly always; otherwise a second draw
/// among those that may, which costs a scan. Either way each has its weight's share of what those
/// that may be chosen have together.
#[derive(Debug)]
pub struct Draw {
    /// The sum of the weights up to and with each place.
    sums: Vec<u32>,
}

impl Draw {
    /// A draw by these weights.
    pub fn new(weights: impl Iterator<Item = u16>) -> Draw {
        let mut sum = 0;
        let add = |weight| {
            sum += u32::from(weight);
            sum
        };
        Draw { sums: weights.map(add).collect() }
    }

    /// One of those that may be chosen.
    pub fn next(&self, may: impl Fn(usize) -> bool, roll: &mut Roll) -> Option<usize> {
        let total = self.sums.last().copied().filter(|&total| total > 0)?;
        let point = roll.below(total);
        let drawn = self.sums.partition_point(|&sum| sum <= point);
        if may(drawn) {
            return Some(drawn);
        }
        let count = self.sums.len();
        let open = (0..count).filter(|&at| may(at)).map(|at| self.weight(at)).sum();
        let mut point = if open > 0 { roll.below(open) } else { return None };
        (0..count).filter(|&at| may(at)).find(|&at| match point.checked_sub(self.weight(at)) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        })
    }

    /// The weight of a place.
    pub fn weight(&self, at: usize) -> u32 {
        self.sums[at] - if at == 0 { 0 } else { self.sums[at - 1] }
    }
}

/// As many random numbers as a choice needs, out of the 32 random bits it is given (SplitMix64,
/// Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Roll(u64);

impl Roll {
    /// From 32 random bits.
    pub fn new(dice: u32) -> Roll {
        Roll(u64::from(dice) << 32 | u64::from(dice))
    }

    /// A number below `end`, which is not 0; off an even spread by `end` in 2^32 at the most.
    pub fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (((mixed >> 32) * u64::from(end)) >> 32) as u32
    }
}
