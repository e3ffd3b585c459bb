//! Dice that fall the same way for the same seed (splitmix64).
//!
//! Knows: nothing. Everything random in the simulation comes from here, so a seed is a bug report.

/// A stream of numbers that looks random and is a pure function of its seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice for a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(mix(seed ^ 0x5eed_0fe7_e94e_e100))
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `n`; zero when `n` is zero.
    pub fn below(&mut self, n: u64) -> u64 {
        // The high half of the product is even enough for a simulation.
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number from `low` to `high`, small ones as likely as large ones.
    pub fn spread(&mut self, low: u64, high: u64) -> u64 {
        let bits = u64::from(64 - (high / low.max(1)).leading_zeros());
        let scale = 1u64 << self.below(bits + 1).min(62);
        self.between(low, high.min(low.saturating_mul(scale)))
    }

    /// True `n` times in 1024.
    pub fn chance(&mut self, n: u32) -> bool {
        n > 0 && (self.next() >> 54) < u64::from(n)
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.below(several.len() as u64) as usize]
    }
}

/// Stirs 64 bits.
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The content of a stream at an offset: what every sender sends and every receiver expects.
pub fn content(stream: usize, offset: u64) -> u8 {
    (mix((stream as u64) << 40 ^ (offset >> 3)) >> ((offset & 7) * 8)) as u8
}

/// Fills a buffer with the content of a stream from an offset on.
pub fn fill(buffer: &mut [u8], stream: usize, offset: u64) {
    let mut at = offset;
    let mut word = mix((stream as u64) << 40 ^ (at >> 3));
    for byte in buffer {
        *byte = (word >> ((at & 7) * 8)) as u8;
        at += 1;
        if at & 7 == 0 {
            word = mix((stream as u64) << 40 ^ (at >> 3));
        }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
