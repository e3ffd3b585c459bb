//! The workers among themselves: how full each of them is, and connections handed to one that is
//! emptier.
//!
//! The kernel spreads connections over the workers' listening sockets by a hash of their addresses,
//! whatever the load. With few clients, or long-lived connections, one worker can have most of the work; so
//! whoever accepts a connection and is fuller than another by more than `slack` hands it over.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::net::Peer;
use crate::poller::Waker;

/// All workers of a process.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
    wakers: OnceLock<Vec<Waker>>,
}

/// One worker as the others see it, alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Member {
    /// Its sessions, and connections on their way to it.
    load: AtomicU32,
    sender: Sender<Arrival>,
    receiver: Receiver<Arrival>,
}

/// A connection handed over, accepted and with its places in the limits.
#[derive(Debug)]
pub struct Arrival {
    /// The place of its listener in the plan.
    pub listener: usize,
    /// The connection.
    pub fd: OwnedFd,
    /// Who connected.
    pub peer: Peer,
}

impl Crew {
    /// So many workers, all without work.
    pub fn new(workers: usize) -> Crew {
        let member = |_| {
            let (sender, receiver) = bounded(ARRIVALS);
            Member { load: AtomicU32::new(0), sender, receiver }
        };
        Crew { members: (0..workers).map(member).collect(), wakers: OnceLock::new() }
    }

    /// How the workers are woken, in their order; said once, before they run. Before that, nothing is
    /// handed over.
    pub fn notify(&self, wakers: Vec<Waker>) {
        let _ = self.wakers.set(wakers);
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.members.len()
    }

    /// The sessions of a worker, and the connections on their way to it.
    pub fn load(&self, worker: usize) -> u32 {
        // SeqCst, here and below: a worker that finds nobody left must not have been given somebody since.
        self.members[worker].load.load(Ordering::SeqCst)
    }

    pub(super) fn enter(&self, worker: usize) {
        self.members[worker].load.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn leave(&self, worker: usize) {
        let before = self.members[worker].load.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "a session leaves once");
    }

    pub(super) fn arrivals(&self, worker: usize) -> Receiver<Arrival> {
        self.members[worker].receiver.clone()
    }

    /// A worker with so much less to do than `from` that handing over is worth it: the emptier of two
    /// drawn by `dice`, since with many workers a look at each would cost more than it brings.
    pub(super) fn emptier(&self, from: usize, dice: u32) -> Option<usize> {
        let others = self.members.len().checked_sub(1).filter(|&others| others > 0)?;
        self.wakers.get()?;
        let other = |draw: u32| {
            let other = draw as usize % others;
            if other < from { other } else { other + 1 }
        };
        let (one, two) = (other(dice & 0xffff), other(dice >> 16));
        let emptier = if self.load(two) < self.load(one) { two } else { one };
        let least = self.load(emptier);
        (self.load(from) >= least + slack(least)).then_some(emptier)
    }

    /// Hands a connection over; it comes back when the other has too many on their way already.
    pub(super) fn hand(&self, to: usize, arrival: Arrival) -> Result<(), Arrival> {
        self.enter(to);
        match self.members[to].sender.try_send(arrival) {
            Ok(()) => {
                if let Some(wakers) = self.wakers.get() {
                    wakers[to].wake();
                }
                Ok(())
            }
            Err(error) => {
                self.leave(to);
                Err(error.into_inner())
            }
        }
    }
}

/// By how many sessions a worker must be fuller than one with `least`. A hand-over costs a wake-up and
/// some cache misses, and a difference of an eighth costs nobody anything.
fn slack(least: u32) -> u32 {
    SLACK + least / 8
}

const SLACK: u32 = 8;

/// Connections on their way to one worker.
const ARRIVALS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn crew(loads: &[u32]) -> Crew {
        let crew = Crew::new(loads.len());
        crew.notify(loads.iter().map(|_| Waker::new(|| ())).collect());
        for (worker, &load) in loads.iter().enumerate() {
            (0..load).for_each(|_| crew.enter(worker));
        }
        crew
    }

    #[test]
    fn nobody_hands_over_within_the_slack_or_alone() {
        assert_eq!(crew(&[1000]).emptier(0, 7), None);
        assert_eq!(crew(&[7, 0]).emptier(0, 7), None);
        assert_eq!(crew(&[8, 0]).emptier(0, 7), Some(1));
        assert_eq!(crew(&[1132, 1000]).emptier(0, 7), None);
        assert_eq!(crew(&[1133, 1000]).emptier(0, 7), Some(1));
        assert_eq!(crew(&[0, 1133]).emptier(0, 7), None);
    }

    #[test]
    fn the_emptier_of_two_is_taken_and_everybody_is_drawn() {
        let crew = crew(&[100, 20, 100, 10]);
        let drawn: Vec<_> = (0..3u32)
            .flat_map(|one| (0..3u32).map(move |two| one | two << 16))
            .map(|dice| crew.emptier(0, dice))
            .collect();
        let of = |worker| drawn.iter().filter(|&&to| to == Some(worker)).count();
        // Nine draws of two: 3 is in five of them and 1 in the three more without it.
        assert_eq!((of(3), of(1), of(2), of(0)), (5, 3, 0, 0));
    }
}
