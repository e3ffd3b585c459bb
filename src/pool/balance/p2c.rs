//! The power of two choices.

use super::{Draw, Load, Roll};

/// The better of two drawn (Mitzenmacher 2001): nearly as even as looking at all, at the price of
/// two, and no herd, because different workers draw different pairs.
///
/// The two are different ones, drawn by weight, and the one with fewer connections per weight wins;
/// with equal loads, the one drawn first. So an idle pool is shared by weight like a random one, and a busy
/// one has its connections in proportion to the weights.
#[derive(Debug)]
pub struct PowerOfTwo {
    draw: Draw,
}

impl PowerOfTwo {
    /// Over backends of these weights.
    pub fn new(weights: impl Iterator<Item = u16>) -> PowerOfTwo {
        PowerOfTwo { draw: Draw::new(weights) }
    }

    /// The next backend of those that may be chosen; `dice` is 32 random bits.
    pub fn next(
        &self,
        may: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> Load,
        dice: u32,
    ) -> Option<usize> {
        self.better(may, |other, one| load(other).is_below(load(one)), dice)
    }

    /// The same by another measure: whether the second one drawn is better than the first.
    pub fn better(
        &self,
        may: impl Fn(usize) -> bool,
        is_better: impl Fn(usize, usize) -> bool,
        dice: u32,
    ) -> Option<usize> {
        let mut roll = Roll::new(dice);
        let one = self.draw.next(&may, &mut roll)?;
        let other = self.draw.next(|at| at != one && may(at), &mut roll);
        other.filter(|&other| is_better(other, one)).or(Some(one))
    }
}
