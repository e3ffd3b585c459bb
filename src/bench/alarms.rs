//! One alarm for each of many slots, where most alarms are put off before they ring.
//!
//! Knows: time, as a number it is told. Does not know: what an alarm is for.
//!
//! A slot's deadline moves with every operation; the queue behind it is only told when it comes
//! nearer. An entry that comes up too early is put back by what the slot says by then, so each slot
//! costs the queue about one entry per timeout, not one per operation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Moment;

/// The alarms of slots 0 to n.
#[derive(Debug)]
pub struct Alarms {
    /// When each slot's alarm is to ring, and the earliest entry of it in the queue.
    slots: Vec<Alarm>,
    queue: BinaryHeap<Reverse<(Moment, u32)>>,
}

#[derive(Clone, Copy, Debug)]
struct Alarm {
    due: Moment,
    queued: Moment,
}

impl Alarms {
    /// For so many slots, all silent.
    pub fn new(slots: usize) -> Alarms {
        let silent = Alarm { due: Moment::NEVER, queued: Moment::NEVER };
        Alarms { slots: vec![silent; slots], queue: BinaryHeap::new() }
    }

    /// Sets the one alarm of a slot; [`Moment::NEVER`] silences it.
    pub fn set(&mut self, slot: u32, due: Moment) {
        let alarm = &mut self.slots[slot as usize];
        alarm.due = due;
        if due < alarm.queued {
            alarm.queued = due;
            self.queue.push(Reverse((due, slot)));
        }
    }

    /// The next slot whose alarm rings by `now`; it is silent from then on.
    pub fn ring(&mut self, now: Moment) -> Option<u32> {
        while let Some(&Reverse((at, slot))) = self.queue.peek() {
            if at > now {
                return None;
            }
            self.queue.pop();
            let alarm = &mut self.slots[slot as usize];
            if alarm.queued != at {
                continue; // an earlier entry has taken its place
            }
            alarm.queued = Moment::NEVER;
            let due = alarm.due;
            if due <= now {
                alarm.due = Moment::NEVER;
                return Some(slot);
            }
            if due < Moment::NEVER {
                self.set(slot, due);
            }
        }
        None
    }

    /// No alarm rings before this.
    pub fn next(&self) -> Option<Moment> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn ringing(alarms: &mut Alarms, now: u64) -> Vec<u32> {
        let mut slots: Vec<u32> = std::iter::from_fn(|| alarms.ring(at(now))).collect();
        slots.sort();
        slots
    }

    #[test]
    fn an_alarm_rings_once_and_not_early() {
        let mut alarms = Alarms::new(3);
        alarms.set(0, at(10));
        alarms.set(1, at(20));
        assert!(ringing(&mut alarms, 9).is_empty());
        assert_eq!(ringing(&mut alarms, 10), [0]);
        assert_eq!(ringing(&mut alarms, 30), [1]);
        assert!(ringing(&mut alarms, 1_000).is_empty());
    }

    #[test]
    fn one_that_is_put_off_rings_at_its_last_time_only() {
        let mut alarms = Alarms::new(1);
        for due in 10..1_000 {
            alarms.set(0, at(due));
        }
        assert!(alarms.queue.len() < 3, "putting off costs the queue nothing");
        assert!(ringing(&mut alarms, 998).is_empty());
        assert_eq!(ringing(&mut alarms, 999), [0]);
        assert!(ringing(&mut alarms, 5_000).is_empty());
    }

    #[test]
    fn one_that_is_brought_forward_rings_early_and_once() {
        let mut alarms = Alarms::new(1);
        alarms.set(0, at(100));
        alarms.set(0, at(10));
        assert_eq!(ringing(&mut alarms, 10), [0]);
        alarms.set(0, at(50));
        assert_eq!(ringing(&mut alarms, 60), [0]);
        assert!(ringing(&mut alarms, 200).is_empty(), "the first entry is stale");
    }

    #[test]
    fn a_silenced_one_does_not_ring() {
        let mut alarms = Alarms::new(2);
        alarms.set(0, at(10));
        alarms.set(1, at(10));
        alarms.set(0, Moment::NEVER);
        assert_eq!(ringing(&mut alarms, 100), [1]);
        assert_eq!(alarms.next(), None);
    }
}
