//! Fewest live connections per weight.

use super::{Load, PowerOfTwo};

/// Least connections over the shared tallies: exact up to `EXACT_MAX` backends, the better of two
/// random ones above, where a full scan would cost more than it gains.
#[derive(Debug)]
pub struct LeastConnections {
    count: usize,
    /// Where the scan starts, so that ties are broken by turns.
    cursor: usize,
    of_two: PowerOfTwo,
}

/// The largest pool that is scanned whole.
pub const EXACT_MAX: usize = 32;

impl LeastConnections {
    /// One that starts its scans at the backend with the worker's number.
    pub fn new(weights: impl Iterator<Item = u16> + Clone, worker: usize) -> LeastConnections {
        let count = weights.clone().count();
        LeastConnections { count, cursor: worker, of_two: PowerOfTwo::new(weights) }
    }

    /// The least loaded of those that may be chosen; `dice` is 32 random bits.
    pub fn next(
        &mut self,
        may: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> Load,
        dice: u32,
    ) -> Option<usize> {
        if self.count > EXACT_MAX {
            return self.of_two.next(may, load, dice);
        }
        self.cursor = (self.cursor + 1) % self.count.max(1);
        let from_cursor = (0..self.count).map(|step| (self.cursor + step) % self.count);
        from_cursor
            .filter(|&at| may(at))
            .map(|at| (at, load(at)))
            .reduce(|best, next| if next.1.would_be_below(best.1) { next } else { best })
            .map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        least: LeastConnections,
        weights: Vec<u16>,
        live: Vec<u32>,
    }

    impl Lab {
        fn new(weights: &[u16]) -> Lab {
            Lab {
                least: LeastConnections::new(weights.iter().copied(), 0),
                weights: weights.to_vec(),
                live: vec![0; weights.len()],
            }
        }

        fn next(&mut self, may: impl Fn(usize) -> bool, dice: u32) -> Option<usize> {
            let load = |at: usize| Load { live: self.live[at], weight: self.weights[at] };
            self.least.next(may, load, dice)
        }

        fn enter(&mut self, times: usize) {
            for _ in 0..times {
                let at = self.next(|_| true, 0).expect("somebody may");
                self.live[at] += 1;
            }
        }
    }

    #[test]
    fn a_burst_fills_the_emptiest_first() {
        let mut lab = Lab::new(&[1, 1, 1]);
        lab.live[0] = 100;
        lab.enter(200);
        assert_eq!(lab.live, [100, 100, 100]);
    }

    #[test]
    fn load_is_per_weight_and_ties_take_turns() {
        let mut lab = Lab::new(&[3, 1]);
        lab.enter(400);
        assert_eq!(lab.live, [300, 100]);

        let mut even = Lab::new(&[1, 1, 1]);
        let picks: Vec<_> = (0..3).filter_map(|_| even.next(|_| true, 0)).collect();
        assert_eq!(picks.len(), 3);
        assert!((0..3).all(|at| picks.contains(&at)), "{picks:?}");
    }

    #[test]
    fn a_large_pool_takes_the_better_of_two_and_never_one_that_may_not() {
        let mut lab = Lab::new(&[1; 100]);
        let first = lab.next(|_| true, 9).expect("somebody may");
        lab.live[first] = 1;
        let second = lab.next(|_| true, 9).expect("somebody may");
        assert_ne!(second, first, "the other one of the two is emptier now");
        lab.live[second] = 2;
        assert_eq!(lab.next(|_| true, 9), Some(first));
        assert_eq!(lab.next(|at| at == 50, 9), Some(50));
        assert_eq!(lab.next(|_| false, 9), None);
    }
}
