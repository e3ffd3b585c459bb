//! Fewest live connections per weight.

use crate::pool::Candidate;

/// Least connections over the shared tallies: exact up to 32 backends, the better of two
/// random ones above, where a full scan would cost more than it gains.
#[derive(Debug)]
pub struct LeastConnections {
    /// Where the scan starts, so that ties are broken by turns.
    cursor: usize,
}

/// The largest pool that is scanned whole.
pub const EXACT_MAX: usize = 32;

impl LeastConnections {
    /// One that starts its scans at the backend with the worker's number.
    pub fn new(worker: usize) -> LeastConnections {
        LeastConnections { cursor: worker }
    }

    /// The least loaded of those that may be chosen; `dice` is 32 random bits.
    pub fn next(
        &mut self,
        candidates: &[Candidate],
        may: impl Fn(usize) -> bool,
        dice: u32,
    ) -> Option<usize> {
        let count = candidates.len();
        self.cursor = (self.cursor + 1) % count.max(1);
        if count > EXACT_MAX {
            let (one, other) = ((dice & 0xffff) as usize % count, (dice >> 16) as usize % count);
            let other = if one == other { (one + 1) % count } else { other };
            let drawn = least(candidates, [one, other].into_iter().filter(|&at| may(at)));
            if drawn.is_some() {
                return drawn;
            }
        }
        let from_cursor = (0..count).map(|step| (self.cursor + step) % count);
        least(candidates, from_cursor.filter(|&at| may(at)))
    }
}

/// The first of those with the fewest connections per weight, were it to get one more.
fn least(candidates: &[Candidate], among: impl Iterator<Item = usize>) -> Option<usize> {
    among
        .map(|at| {
            let candidate = &candidates[at];
            (at, u64::from(candidate.tally.live()) + 1, u64::from(candidate.weight))
        })
        .reduce(|best, next| {
            // next.load / next.weight < best.load / best.weight, without dividing.
            if next.1 * best.2 < best.1 * next.2 { next } else { best }
        })
        .map(|(at, _, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Tally;
    use std::sync::Arc;

    fn candidates(weights: &[u16]) -> Vec<Candidate> {
        let candidate =
            |&weight| Candidate { address: None, weight, tally: Arc::new(Tally::default()) };
        weights.iter().map(candidate).collect()
    }

    #[test]
    fn a_burst_fills_the_emptiest_first() {
        let pool = candidates(&[1, 1, 1]);
        for _ in 0..100 {
            pool[0].tally.enter();
        }
        let mut least = LeastConnections::new(0);
        for _ in 0..200 {
            let at = least.next(&pool, |_| true, 0).expect("somebody may");
            pool[at].tally.enter();
        }
        assert_eq!(pool.iter().map(|one| one.tally.live()).collect::<Vec<_>>(), [100, 100, 100]);
    }

    #[test]
    fn load_is_per_weight_and_ties_take_turns() {
        let pool = candidates(&[3, 1]);
        let mut least = LeastConnections::new(0);
        for _ in 0..400 {
            let at = least.next(&pool, |_| true, 0).expect("somebody may");
            pool[at].tally.enter();
        }
        assert_eq!((pool[0].tally.live(), pool[1].tally.live()), (300, 100));

        let even = candidates(&[1, 1, 1]);
        let picks: Vec<_> = (0..3).filter_map(|_| least.next(&even, |_| true, 0)).collect();
        assert_eq!(picks.len(), 3);
        assert!((0..3).all(|at| picks.contains(&at)), "{picks:?}");
    }

    #[test]
    fn a_large_pool_takes_the_better_of_two_and_never_one_that_may_not() {
        let pool = candidates(&[1; 100]);
        let mut least = LeastConnections::new(0);
        pool[7].tally.enter();
        assert_eq!(least.next(&pool, |_| true, 9 << 16 | 7), Some(9));
        let only = least.next(&pool, |at| at == 50, 9 << 16 | 7);
        assert_eq!(only, Some(50));
    }
}
