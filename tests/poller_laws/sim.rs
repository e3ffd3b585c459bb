//! The rig of the simulator.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use evenkeel::net::Address;
use evenkeel::poller::Poller;
use evenkeel::transfer::{ListenerId, Manner};

use crate::faults::Faults;
use crate::kernel::{App, Source, Trace, across};
use crate::net::{SimListener, SimPoller};
use crate::rig::{Hand, Heard, Kind, Rig};
use crate::world::{Answer, World};

pub struct SimRig {
    world: Rc<RefCell<World>>,
    poller: SimPoller,
    addresses: u16,
}

impl SimRig {
    fn address(&mut self, kind: Kind) -> Address {
        self.addresses += 1;
        match kind {
            Kind::Tcp => Address::Ip(([10, 0, 0, 1], self.addresses).into()),
            Kind::Unix => Address::Unix(format!("/run/{}", self.addresses).into()),
        }
    }
}

impl Rig for SimRig {
    type P = SimPoller;

    fn new(buffers: usize, pipes: usize) -> SimRig {
        // Laws hold whatever the freedoms are used for, so each rig uses them a little.
        let faults = Faults { buffers, pipes, late: 200, ..Faults::none() };
        let world = Rc::new(RefCell::new(World::new(7, faults, Trace::Off)));
        SimRig { poller: SimPoller::new(world.clone()), world, addresses: 0 }
    }

    fn poller(&mut self) -> &mut SimPoller {
        &mut self.poller
    }

    fn listen(&mut self, kind: Kind) -> ListenerId {
        let address = self.address(kind);
        let door = self.world.borrow_mut().door(address);
        self.poller.listen(SimListener { door }).expect("it listens")
    }

    fn knock(&mut self, listener: ListenerId) -> Hand {
        Hand(self.world.borrow_mut().knock(listener.0 as usize, App::Hand, Duration::ZERO))
    }

    fn target(&mut self, kind: Kind) -> Address {
        let address = self.address(kind);
        self.world.borrow_mut().target(address.clone(), Answer::Weighted, None);
        address
    }

    fn taken(&mut self, target: &Address) -> Option<Hand> {
        let mut world = self.world.borrow_mut();
        let target = world.targets.iter_mut().find(|t| t.address == *target)?;
        target.accepted.pop_front().map(Hand)
    }

    fn nobody(&mut self, kind: Kind) -> Address {
        self.address(kind)
    }

    fn black_hole(&mut self) -> Option<Address> {
        let address = self.address(Kind::Tcp);
        self.world.borrow_mut().target(address.clone(), Answer::Never, None);
        Some(address)
    }

    fn send(&mut self, hand: Hand, bytes: &[u8]) -> usize {
        let kernel = &mut self.world.borrow_mut().kernel;
        let sent = kernel.room(hand.0).min(bytes.len() as u64);
        if sent > 0 {
            let at = kernel.ends[hand.0].written;
            let source = Source::Composed(bytes[..sent as usize].to_vec());
            kernel.ends[hand.0].pieces.push((at, source));
            kernel.write(hand.0, sent);
        }
        sent as usize
    }

    fn read(&mut self, hand: Hand, most: usize) -> Heard {
        let kernel = &mut self.world.borrow_mut().kernel;
        let bytes = kernel.readable(hand.0).min(most as u64);
        if bytes > 0 {
            let stream = across(hand.0);
            let from = kernel.ends[stream].read;
            kernel.read(hand.0, bytes);
            return Heard::Bytes((from..from + bytes).map(|at| kernel.byte(stream, at)).collect());
        }
        if kernel.at_eof(hand.0) {
            Heard::Finished
        } else if kernel.ends[hand.0].reset {
            Heard::Reset
        } else {
            Heard::Nothing
        }
    }

    fn finish(&mut self, hand: Hand) {
        self.world.borrow_mut().kernel.finish(hand.0);
    }

    fn reset(&mut self, hand: Hand) {
        self.world.borrow_mut().kernel.close(hand.0, Manner::Reset);
    }

    fn close(&mut self, hand: Hand) {
        self.world.borrow_mut().kernel.close(hand.0, Manner::Graceful);
    }
}
