//! Round robin, and smooth weighted round robin.

/// A rotation over backends by weight.
///
/// Smooth weighted round robin as nginx has it (`ngx_http_upstream_round_robin.c`): each pick adds
/// every weight to its backend's credit, takes the backend with the most and charges it the sum. At
/// 5:1:1 that gives a a b a c a a, not a a a a a b c. Where all weights are equal it is a plain
/// rotation, and done as one.
#[derive(Debug)]
pub struct Rotation {
    weights: Vec<u16>,
    credits: Vec<i64>,
    equal: bool,
    cursor: usize,
}

impl Rotation {
    /// A rotation for worker number `worker` of `workers`, which starts that far into it.
    pub fn new(weights: impl Iterator<Item = u16>, worker: usize, workers: usize) -> Rotation {
        let weights: Vec<u16> = weights.collect();
        let credits = vec![0; weights.len()];
        let mut used = weights.iter().copied().filter(|&weight| weight > 0);
        let first = used.next().unwrap_or(0);
        let equal = used.all(|weight| weight == first);
        let mut rotation = Rotation { weights, credits, equal, cursor: 0 };
        let round: usize = if equal {
            rotation.weights.len()
        } else {
            rotation.weights.iter().map(|&weight| usize::from(weight)).sum()
        };
        for _ in 0..round * worker / workers.max(1) {
            let weights = rotation.weights.clone();
            rotation.next(|at| weights[at] > 0);
        }
        rotation
    }

    /// The next backend of those that may be chosen.
    pub fn next(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        if self.equal { self.next_equal(may) } else { self.next_by_weight(may) }
    }

    fn next_equal(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.weights.len();
        let at = (0..count).map(|step| (self.cursor + step) % count).find(|&at| may(at))?;
        self.cursor = (at + 1) % count;
        Some(at)
    }

    fn next_by_weight(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for (at, &weight) in self.weights.iter().enumerate() {
            if !may(at) {
                continue;
            }
            let weight = i64::from(weight);
            sum += weight;
            self.credits[at] += weight;
            if best.is_none_or(|best| self.credits[at] > self.credits[best]) {
                best = Some(at);
            }
        }
        let best = best?;
        self.credits[best] -= sum;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weights: &[u16], worker: usize, workers: usize, count: usize) -> Vec<usize> {
        let mut rotation = Rotation::new(weights.iter().copied(), worker, workers);
        let may = |at: usize| weights[at] > 0;
        (0..count).map(|_| rotation.next(may).expect("somebody may")).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(picks(&[1, 1, 1], 0, 1, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(picks(&[7, 7], 0, 1, 4), [0, 1, 0, 1]);
    }

    #[test]
    fn weights_are_met_exactly_in_every_round_and_smoothly_within_it() {
        assert_eq!(picks(&[5, 1, 1], 0, 1, 7), [0, 0, 1, 0, 2, 0, 0]);
        let picked = picks(&[3, 2, 1], 0, 1, 600);
        let share = |at| picked.iter().filter(|&&pick| pick == at).count();
        assert_eq!([share(0), share(1), share(2)], [300, 200, 100]);
        let longest = picked.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
        assert!(longest <= Some(3), "no run of one backend is longer than its weight");
    }

    #[test]
    fn weight_zero_gets_nothing() {
        assert_eq!(picks(&[1, 0, 1], 0, 1, 4), [0, 2, 0, 2]);
        assert!(!picks(&[2, 0, 1], 0, 1, 30).contains(&1));
        let mut none = Rotation::new([0, 0].into_iter(), 0, 1);
        assert_eq!(none.next(|_| false), None);
    }

    #[test]
    fn workers_start_at_different_places() {
        assert_eq!(picks(&[1, 1, 1], 1, 3, 3), [1, 2, 0]);
        let starts: Vec<_> = (0..2).map(|worker| picks(&[3, 2, 1], worker, 2, 6)).collect();
        assert_ne!(starts[0], starts[1]);
    }

    #[test]
    fn one_that_may_not_be_chosen_is_passed_over_and_not_forgotten() {
        let mut rotation = Rotation::new([1, 1, 1].into_iter(), 0, 1);
        assert_eq!(rotation.next(|at| at != 0), Some(1));
        assert_eq!(rotation.next(|_| true), Some(2));
        assert_eq!(rotation.next(|_| true), Some(0));
        assert_eq!(rotation.next(|_| false), None);
    }
}
