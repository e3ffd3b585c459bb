//! Fewest expected waits: latencies as they were lately, times what is waiting already.
//!
//! Finagle's measure ("Peak EWMA", `com.twitter.finagle.loadbalancer.PeakEwma`): a moving average
//! that follows a rise at once and a fall slowly, so a backend that gets slow is left alone after
//! the first slow answer. It forgets with time even when nobody asks: what was slow is tried again.

use std::time::Duration;

use super::Load;
use crate::time::Moment;

/// How long a latency is remembered: after this time an old one counts for 1/e. Finagle's default.
pub const DECAY: Duration = Duration::from_secs(10);

/// A moving average of latencies, small enough for one atomic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// As it was then; 0: nothing was ever measured.
    nanos: f32,
    /// When, in units of 2^20 ns, the upper bits cut off: they come round in 52 days.
    tick: u32,
}

impl Latency {
    /// With one more measured.
    pub fn with(self, sample: Duration, now: Moment) -> Latency {
        let tick = tick(now);
        // Nothing takes no time: 0 would mean "never measured".
        let sample = (sample.as_nanos() as f64).max(1.0);
        let keep = self.keep(tick);
        let old = f64::from(self.nanos);
        let nanos = if sample > old * keep { sample } else { old * keep + sample * (1.0 - keep) };
        Latency { nanos: nanos as f32, tick }
    }

    /// What is left of it by now, in nanoseconds.
    pub fn at(self, now: Moment) -> f64 {
        f64::from(self.nanos) * self.keep(tick(now))
    }

    /// For an atomic.
    pub fn to_bits(self) -> u64 {
        u64::from(self.nanos.to_bits()) << 32 | u64::from(self.tick)
    }

    /// Out of an atomic.
    pub fn from_bits(bits: u64) -> Latency {
        Latency { nanos: f32::from_bits((bits >> 32) as u32), tick: bits as u32 }
    }

    /// How much of it counts by then.
    fn keep(self, tick: u32) -> f64 {
        // Another worker's turn may have begun a little later than ours.
        let is_ahead = self.tick.wrapping_sub(tick) < AHEAD;
        let passed = if is_ahead { 0 } else { tick.wrapping_sub(self.tick) };
        (-f64::from(passed) * TICK_NANOS / DECAY.as_nanos() as f64).exp()
    }
}

/// What choosing this backend would cost: its latency times the connections it would have, in shares
/// of the mean weight.
///
/// One that was never measured costs nothing, so it is tried; and more than any other as long as that first
/// try lasts, so it is tried once.
pub fn cost(latency: f64, load: Load, mean_weight: f64) -> f64 {
    if latency == 0.0 && load.live > 0 {
        return UNKNOWN * f64::from(load.live);
    }
    latency * (f64::from(load.live) * mean_weight / f64::from(load.weight) + 1.0)
}

fn tick(moment: Moment) -> u32 {
    (moment.nanos() >> 20) as u32
}

const TICK_NANOS: f64 = (1u64 << 20) as f64;

/// Ticks that workers may differ by: ten seconds.
const AHEAD: u32 = 10_000;

/// More than any latency times any number of connections: 2^64 ns are 584 years, and there are 2^32.
const UNKNOWN: f64 = 1e30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::balance::{PowerOfTwo, Roll};

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    fn ms(latency: f64) -> f64 {
        latency / 1e6
    }

    #[test]
    fn it_follows_a_rise_at_once_and_a_fall_slowly() {
        let mut latency = Latency::default();
        for second in 0..100 {
            latency = latency.with(Duration::from_millis(2), at(second * 1000));
        }
        assert!((ms(latency.at(at(99_000))) - 2.0).abs() < 0.01);
        latency = latency.with(Duration::from_millis(500), at(100_000));
        assert!((ms(latency.at(at(100_000))) - 500.0).abs() < 0.01);
        latency = latency.with(Duration::from_millis(2), at(110_000));
        let tenth = ms(latency.at(at(110_000)));
        assert!((tenth - (500.0 / std::f64::consts::E + 1.26)).abs() < 0.5, "{tenth}");
        assert_eq!(Latency::from_bits(latency.to_bits()), latency);
    }

    #[test]
    fn clocks_a_little_apart_and_ones_that_came_round_do_no_harm() {
        let late = Latency::default().with(Duration::from_millis(9), at(1_000));
        assert!((ms(late.at(at(995))) - 9.0).abs() < 0.01, "our turn began earlier");
        let round = Moment::from_nanos((1u64 << 52) + 1_000_000);
        let before = Moment::from_nanos((1u64 << 52) - 1_000_000);
        let latency = Latency::default().with(Duration::from_millis(9), before);
        assert!((ms(latency.at(round)) - 9.0).abs() < 0.01);
        assert!(latency.at(round + Duration::from_secs(200)) < 1.0);
    }

    /// Three backends in virtual time: a connection every millisecond, which lasts as long as its backend
    /// takes. Which ones were chosen from `from` on.
    fn play(until_ms: u64, from_ms: u64, millis: impl Fn(usize, u64) -> u64) -> [u32; 3] {
        let of_two = PowerOfTwo::new([1, 1, 1].into_iter());
        let mut latencies = [Latency::default(); 3];
        let mut open: Vec<(u64, usize, u64)> = Vec::new();
        let mut live = [0u32; 3];
        let mut counts = [0; 3];
        let mut roll = Roll::new(7);
        for now in 0..until_ms {
            open.retain(|&(over, backend, took)| {
                if over <= now {
                    live[backend] -= 1;
                    latencies[backend] =
                        latencies[backend].with(Duration::from_millis(took), at(now));
                }
                over > now
            });
            let cost = |backend: usize| {
                let load = Load { live: live[backend], weight: 1 };
                cost(latencies[backend].at(at(now)), load, 1.0)
            };
            let dice = roll.below(u32::MAX);
            let is_better = |other, one| cost(other) < cost(one);
            let chosen = of_two.better(|_| true, is_better, dice).expect("all may");
            let took = millis(chosen, now);
            open.push((now + took, chosen, took));
            live[chosen] += 1;
            counts[chosen] += u32::from(now >= from_ms);
        }
        counts
    }

    #[test]
    fn a_slow_backend_is_avoided_and_used_again_when_it_recovers() {
        let slow = |backend, _| if backend == 1 { 400 } else { 4 };
        let avoided = play(20_000, 10_000, slow);
        assert!(avoided[1] < 500, "{avoided:?} while it is slow");
        let recovering = |backend, now| if backend == 1 && now < 20_000 { 400 } else { 4 };
        let back = play(120_000, 110_000, recovering);
        assert!(back.iter().all(|&count| count > 2_000), "{back:?} long after");
    }

    #[test]
    fn a_new_backend_is_tried_by_one_until_it_answered() {
        let fresh = |live| cost(0.0, Load { live, weight: 1 }, 1.0);
        let known = |live| cost(1e9, Load { live, weight: 1 }, 1.0);
        assert!(fresh(0) < known(0), "it is tried");
        assert!(fresh(1) > known(1_000_000), "and then waited for");
        assert!(fresh(1) < fresh(2));
    }

    #[test]
    fn connections_count_by_weight() {
        let heavy = cost(1e6, Load { live: 6, weight: 3 }, 2.0);
        let light = cost(1e6, Load { live: 2, weight: 1 }, 2.0);
        assert!((heavy - light).abs() < 1e-6, "{heavy} {light}");
    }
}
