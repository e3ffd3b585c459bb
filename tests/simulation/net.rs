//! `SimPoller`: the poller of the simulation, over the simulated kernel, in virtual time.
//!
//! Every freedom that the laws leave to a poller is taken at random: answers inline or late, short
//! pulls and pushes, outcomes of unrelated operations in any order, cancels that come too late.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use evenkeel::net::{Address, Peer};
use evenkeel::poller::{
    Completion, Condition, Gauges, Lifelines, Op, Outcome, Poller, Sent, Waker,
};
use evenkeel::time::Moment;
use evenkeel::token::Token;
use evenkeel::transfer::{Failure, Lane, ListenerId, Manner, Parcel, Shortage, SocketId};

use crate::kernel::{App, EndId, Event, Fate, across};
use crate::oracle;
use crate::store::Store;
use crate::world::World;

/// A poller over a [`World`].
pub struct SimPoller {
    world: Rc<RefCell<World>>,
    store: Store,
    sockets: Vec<Option<Socket>>,
    /// Socket numbers that are free; the one freed last is used first, to provoke mix-ups.
    vacant: Vec<u32>,
    /// Which socket an end is.
    by_end: HashMap<EndId, u32>,
    dials: HashMap<usize, Dial>,
    dials_ever: usize,
    accepts: Vec<VecDeque<Pending>>,
    /// Where each token in flight is.
    places: HashMap<Token, Place>,
    /// Heads of queues that are over and may be told.
    reports: Vec<Place>,
    /// The same, but only after the next wait.
    late: Vec<Place>,
    /// Sockets to look at.
    touched: Vec<u32>,
    alarm: Arc<Alarm>,
    /// Waits since something last happened.
    spins: u32,
}

/// What a law test or the simulation hands to [`Poller::listen`].
pub struct SimListener {
    /// The number of the door.
    pub door: usize,
}

struct Socket {
    end: EndId,
    pulls: VecDeque<Pending>,
    writes: VecDeque<Pending>,
    closing: Option<(Token, Manner)>,
    /// The kernel's socket is closed; only the outcome is still to be told.
    gone: bool,
}

struct Pending {
    token: Token,
    work: Work,
    outcome: Option<Outcome>,
}

enum Work {
    Accept,
    Pull(Lane),
    Push(Option<Parcel>),
    Finish,
}

struct Dial {
    token: Token,
    first: Option<Parcel>,
    /// The connection stands; the first parcel waits to be taken.
    end: Option<EndId>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Accept(usize),
    Pull(u32),
    Write(u32),
    Close(u32),
    Dial(usize),
}

#[derive(Default)]
struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl SimPoller {
    /// A poller in a world.
    pub fn new(world: Rc<RefCell<World>>) -> SimPoller {
        let store = Store::new(&world.borrow().kernel.faults);
        SimPoller {
            world,
            store,
            sockets: Vec::new(),
            vacant: Vec::new(),
            by_end: HashMap::new(),
            dials: HashMap::new(),
            dials_ever: 0,
            accepts: Vec::new(),
            places: HashMap::new(),
            reports: Vec::new(),
            late: Vec::new(),
            touched: Vec::new(),
            alarm: Arc::default(),
            spins: 0,
        }
    }

    /// Whether there is anything that was not told yet, or somebody who was not accepted.
    pub fn is_restless(&self) -> bool {
        let world = self.world.borrow();
        !self.reports.is_empty()
            || !self.late.is_empty()
            || world.doors.iter().any(|door| !door.queue.is_empty())
    }

    fn socket(&mut self, id: u32) -> &mut Socket {
        self.sockets
            .get_mut(id as usize)
            .and_then(Option::as_mut)
            .unwrap_or_else(|| panic!("socket {id} is not open: used after its close"))
    }

    fn adopt(&mut self, end: EndId) -> SocketId {
        self.world.borrow_mut().kernel.ends[end].app = App::Poller;
        let socket = Socket {
            end,
            pulls: VecDeque::new(),
            writes: VecDeque::new(),
            closing: None,
            gone: false,
        };
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() as u32 - 1
        });
        self.sockets[id as usize] = Some(socket);
        self.by_end.insert(end, id);
        SocketId(id)
    }

    fn chance(&self, weight: impl Fn(&crate::faults::Faults) -> u32) -> bool {
        let mut world = self.world.borrow_mut();
        let weight = weight(&world.kernel.faults);
        world.kernel.dice.chance(weight)
    }

    fn note(&self, line: impl FnOnce() -> String) {
        self.world.borrow_mut().kernel.note(line);
    }

    /// Puts the head of a queue, which is over, where `next` finds it.
    fn report(&mut self, place: Place) {
        if self.chance(|faults| faults.late) {
            self.late.push(place);
        } else {
            self.reports.push(place);
        }
    }

    /// Free a parcel's slot; a starved pull may go on.
    fn free(&mut self, parcel: Parcel) {
        self.store.take_back(parcel);
        self.feed();
    }

    fn feed(&mut self) {
        if let Some(first) = self.store.first_starved() {
            self.touched.push(first);
        }
    }

    /// Attempts what a socket has parked.
    fn attempt(&mut self, id: u32) {
        if self.sockets[id as usize].is_none() {
            return;
        }
        if let Some(Pending { work: Work::Pull(lane), outcome: None, .. }) =
            self.socket(id).pulls.front()
        {
            let lane = *lane;
            if let Some(outcome) = self.try_pull(id, lane) {
                let queue = &mut self.socket(id).pulls;
                queue.front_mut().expect("the head was there").outcome = Some(outcome);
                self.report(Place::Pull(id));
            }
        }
        if let Some(head) = self.socket(id).writes.front_mut()
            && head.outcome.is_none()
        {
            let mut work = std::mem::replace(&mut head.work, Work::Finish);
            let outcome = self.try_write(id, &mut work);
            let head = self.socket(id).writes.front_mut().expect("the head was there");
            head.work = work;
            if outcome.is_some() {
                head.outcome = outcome;
                self.report(Place::Write(id));
            }
        }
        self.try_close(id);
    }

    fn try_pull(&mut self, id: u32, lane: Lane) -> Option<Outcome> {
        let end = self.socket(id).end;
        let world = self.world.clone();
        let mut world = world.borrow_mut();
        let kernel = &mut world.kernel;
        let there = kernel.readable(end);
        if there > 0 {
            let Some((lane, slot, room)) = self.store.lend(id, lane) else {
                kernel.ends[end].starved = true;
                kernel.note(|| format!("  socket {id} is starved of buffers"));
                return None;
            };
            let mut bytes = there.min(room as u64);
            if bytes > 1 && kernel.dice.chance(kernel.faults.short_pull) {
                bytes = kernel.dice.spread(1, bytes);
            }
            let stream = across(end);
            let from = kernel.ends[stream].read;
            kernel.read(end, bytes);
            kernel.ends[end].starved = false;
            self.store.fill(lane, slot, bytes as usize, kernel, stream, from);
            let known = kernel.at_eof(end) && kernel.dice.chance(kernel.faults.tell_last);
            let len = NonZeroU32::new(bytes as u32).expect("there was at least a byte");
            // Whoever else is starved may have been let past by this one.
            drop(world);
            self.feed();
            return Some(Outcome::Pulled { parcel: Parcel::new(lane, slot, 0, len), last: known });
        }
        if kernel.at_eof(end) {
            return Some(Outcome::Ended);
        }
        // Linux tells the error once and then reads an end of file (tcp_recvmsg); a poller has to
        // remember, because `Ended` means that the peer finished.
        let error = kernel.ends[end].error.unwrap_or(Failure::Reset);
        kernel.ends[end].reset.then_some(Outcome::Failed(error))
    }

    fn try_write(&mut self, id: u32, work: &mut Work) -> Option<Outcome> {
        let end = self.socket(id).end;
        let world = self.world.clone();
        let mut world = world.borrow_mut();
        let kernel = &mut world.kernel;
        match work {
            Work::Finish => {
                if kernel.ends[end].reset {
                    // ENOTCONN; some pollers look, some do not.
                    return Some(if kernel.dice.chance(512) {
                        Outcome::Done
                    } else {
                        Outcome::Failed(kernel.ends[end].error.unwrap_or(Failure::Closed))
                    });
                }
                kernel.finish(end);
                Some(Outcome::Done)
            }
            Work::Push(parcel) => {
                if kernel.ends[end].reset || kernel.ends[end].finished {
                    let failure = kernel.ends[end].error.unwrap_or(Failure::Closed);
                    let parcel = parcel.take().expect("a parked push holds its parcel");
                    drop(world);
                    self.free(parcel);
                    return Some(Outcome::Failed(failure));
                }
                let len =
                    u64::from(parcel.as_ref().expect("a parked push holds its parcel").len().get());
                let mut bytes = kernel.room(end).min(len);
                if bytes == 0 {
                    return None;
                }
                if bytes > 1 && kernel.dice.chance(kernel.faults.short_push) {
                    bytes = kernel.dice.spread(1, bytes);
                }
                let parcel = parcel.take().expect("a parked push holds its parcel");
                oracle::on_push(kernel, end, self.store.source(&parcel), bytes);
                kernel.write(end, bytes);
                drop(world);
                Some(Outcome::Pushed(self.sent(parcel, bytes)))
            }
            Work::Accept | Work::Pull(_) => unreachable!("not in the queue of writes"),
        }
    }

    /// Takes the bytes that went out off a parcel.
    fn sent(&mut self, parcel: Parcel, bytes: u64) -> Sent {
        let bytes = NonZeroU32::new(bytes as u32).expect("a push moves at least a byte");
        let rest = self.store.advance(parcel, bytes);
        if rest.is_none() {
            self.feed();
        }
        Sent { bytes, rest }
    }

    fn try_close(&mut self, id: u32) {
        let socket = self.socket(id);
        let Some((_, manner)) = socket.closing else { return };
        if socket.gone || !socket.pulls.is_empty() || !socket.writes.is_empty() {
            return;
        }
        socket.gone = true;
        let end = socket.end;
        self.by_end.remove(&end);
        self.world.borrow_mut().kernel.close(end, manner);
        self.report(Place::Close(id));
    }

    fn try_accept(&mut self, listener: usize) -> Option<Outcome> {
        let world = self.world.clone();
        let mut world = world.borrow_mut();
        let end = world.doors[listener].queue.front().copied()?;
        let faults = &world.kernel.faults;
        let fails = faults.accept_fails;
        if world.kernel.dice.chance(fails) {
            let failure = world.kernel.dice.pick(&[
                Failure::Shortage(Shortage::Descriptors),
                Failure::Shortage(Shortage::SystemDescriptors),
                Failure::Shortage(Shortage::Memory),
                Failure::Other(ECONNABORTED),
            ]);
            if failure == Failure::Other(ECONNABORTED) {
                world.doors[listener].queue.pop_front();
                world.kernel.ends[end].closed = true;
                world.kernel.send_reset(end);
            }
            return Some(Outcome::Failed(failure));
        }
        world.doors[listener].queue.pop_front();
        let unix = world.doors[listener].address.path().is_some();
        drop(world);
        let socket = self.adopt(end);
        let port = 1024 + (end / 2 % 60_000) as u16;
        let peer = if unix { Peer::Unix } else { Peer::Ip(([192, 0, 2, 7], port).into()) };
        Some(Outcome::Accepted { socket, peer })
    }

    fn knocked(&mut self, listener: usize) {
        if self.accepts[listener].front().is_some_and(|head| head.outcome.is_none())
            && let Some(outcome) = self.try_accept(listener)
        {
            self.accepts[listener].front_mut().expect("it was there").outcome = Some(outcome);
            self.report(Place::Accept(listener));
        }
    }

    /// A connect was decided, or its first parcel is to be tried again.
    fn dialed(&mut self, dial: usize, fate: Option<Fate>) {
        let Some(mut entry) = self.dials.remove(&dial) else { return };
        if entry.outcome.is_none() {
            match fate {
                Some(Fate::Failed(failure)) => {
                    let first = entry.first.take();
                    entry.outcome = Some(Outcome::NotConnected { failure: Some(failure), first });
                }
                Some(Fate::Accepted { target }) => {
                    entry.end = Some(self.world.borrow_mut().establish(target, false));
                }
                Some(Fate::AcceptedAndReset { target }) => {
                    entry.end = Some(self.world.borrow_mut().establish(target, true));
                }
                Some(Fate::Cancelled) if entry.end.is_none() => {
                    let first = entry.first.take();
                    entry.outcome = Some(Outcome::NotConnected { failure: None, first });
                }
                Some(Fate::Cancelled) | None => {}
            }
            if entry.outcome.is_none() {
                entry.outcome = self.connected(dial, &mut entry);
            }
            if entry.outcome.is_some() {
                self.report(Place::Dial(dial));
            }
        }
        self.dials.insert(dial, entry);
    }

    /// The connection stands: the first parcel goes out, or waits until a byte of it can.
    fn connected(&mut self, dial: usize, entry: &mut Dial) -> Option<Outcome> {
        let end = entry.end.expect("it is only asked for connections that stand");
        let Some(first) = entry.first.take() else {
            return Some(Outcome::Connected { socket: self.adopt(end), first: None });
        };
        let world = self.world.clone();
        let mut world = world.borrow_mut();
        let kernel = &mut world.kernel;
        if kernel.ends[end].reset {
            let failure = kernel.ends[end].error;
            kernel.close(end, Manner::Graceful);
            return Some(Outcome::NotConnected { failure, first: Some(first) });
        }
        let waits = kernel.dice.chance(kernel.faults.first_waits);
        let mut bytes = kernel.room(end).min(u64::from(first.len().get()));
        if bytes > 1 && kernel.dice.chance(kernel.faults.short_push) {
            bytes = kernel.dice.spread(1, bytes);
        }
        if waits || bytes == 0 {
            entry.first = Some(first);
            let span = Duration::from_nanos(kernel.dice.spread(1_000, 1_000_000_000));
            kernel.after(span, Event::Retry { dial });
            return None;
        }
        oracle::on_push(kernel, end, self.store.source(&first), bytes);
        kernel.write(end, bytes);
        drop(world);
        let socket = self.adopt(end);
        Some(Outcome::Connected { socket, first: Some(self.sent(first, bytes)) })
    }

    /// Fetches what the world has for us.
    fn look(&mut self) {
        let mut world = self.world.borrow_mut();
        let touched = std::mem::take(&mut world.kernel.touched);
        let dialed = std::mem::take(&mut world.dialed);
        let knocks = std::mem::take(&mut world.knocks);
        drop(world);
        self.touched.extend(touched.iter().filter_map(|end| self.by_end.get(end)));
        for (dial, fate) in dialed {
            self.dialed(dial, fate);
        }
        for door in knocks {
            if door < self.accepts.len() {
                self.knocked(door);
            }
        }
    }

    fn busy(&self) -> bool {
        let world = self.world.borrow();
        !(self.touched.is_empty()
            && self.reports.is_empty()
            && world.kernel.touched.is_empty()
            && world.dialed.is_empty()
            && world.knocks.is_empty()
            && !world.ticked)
    }

    /// Takes a finished head out of its queue.
    fn tell(&mut self, place: Place) -> Completion {
        let (token, outcome) = match place {
            Place::Accept(listener) => over(&mut self.accepts[listener]),
            Place::Pull(id) => over(&mut self.socket(id).pulls),
            Place::Write(id) => over(&mut self.socket(id).writes),
            Place::Close(id) => {
                let socket = self.sockets[id as usize].take().expect("its close was not told yet");
                self.vacant.push(id);
                (socket.closing.expect("it was closed").0, Outcome::Done)
            }
            Place::Dial(dial) => {
                let dial = self.dials.remove(&dial).expect("it was not told yet");
                (dial.token, dial.outcome.expect("it is over"))
            }
        };
        if self.queue(place).and_then(|queue| queue.front()).is_some_and(|op| op.outcome.is_some())
        {
            self.report(place);
        }
        match place {
            Place::Accept(listener) => self.knocked(listener),
            Place::Pull(id) | Place::Write(id) => self.touched.push(id),
            Place::Close(_) | Place::Dial(_) => {}
        }
        if let (Place::Pull(id) | Place::Write(id), Outcome::Failed(_)) = (place, &outcome) {
            // Linux tells an error once. Who reports outcomes in any order must not let the second
            // failure (EPIPE) be heard before the first (ECONNRESET): `Closed` means FIN.
            let end = self.socket(id).end;
            self.world.borrow_mut().kernel.ends[end].error = None;
        }
        if let (Place::Pull(id) | Place::Write(id), Outcome::Pulled { .. } | Outcome::Pushed(_)) =
            (place, &outcome)
        {
            let end = self.socket(id).end;
            let kernel = &mut self.world.borrow_mut().kernel;
            kernel.ends[end].moved = kernel.now;
        }
        self.places.remove(&token);
        Completion { token, outcome }
    }

    fn queue(&mut self, place: Place) -> Option<&mut VecDeque<Pending>> {
        match place {
            Place::Accept(listener) => Some(&mut self.accepts[listener]),
            Place::Pull(id) => Some(&mut self.socket(id).pulls),
            Place::Write(id) => Some(&mut self.socket(id).writes),
            Place::Close(_) | Place::Dial(_) => None,
        }
    }

    /// Ends what is parked in a queue (all of it or one token); what is over stays to be told.
    fn cancel_parked(&mut self, place: Place, only: Option<Token>) {
        let Some(queue) = self.queue(place) else { return };
        let over = queue.front().is_some_and(|head| head.outcome.is_some());
        let mut parcels = Vec::new();
        for op in queue.iter_mut() {
            if op.outcome.is_none() && only.is_none_or(|token| token == op.token) {
                op.outcome = Some(Outcome::Cancelled);
                if let Work::Push(parcel) = &mut op.work {
                    parcels.extend(parcel.take());
                }
            }
        }
        let told = !over && queue.front().is_some_and(|head| head.outcome.is_some());
        for parcel in parcels {
            self.free(parcel);
        }
        if told {
            self.report(place);
        }
        if let Place::Pull(id) = place {
            self.store.forget(id);
            self.feed();
            self.touched.push(id);
        }
    }

    fn in_time(&mut self, place: Place, inline: bool) -> Option<Outcome> {
        if !inline {
            return None;
        }
        let told = [&mut self.reports, &mut self.late]
            .into_iter()
            .find_map(|list| list.iter().position(|p| *p == place).map(|at| list.swap_remove(at)));
        told.map(|place| self.tell(place).outcome)
    }
}

fn over(queue: &mut VecDeque<Pending>) -> (Token, Outcome) {
    let pending = queue.pop_front().expect("a report has its head");
    (pending.token, pending.outcome.expect("a reported head is over"))
}

impl Poller for SimPoller {
    type Listener = SimListener;

    fn listen(&mut self, listener: SimListener) -> io::Result<ListenerId> {
        self.world.borrow_mut().doors[listener.door].open = true;
        while self.accepts.len() <= listener.door {
            self.accepts.push(VecDeque::new());
        }
        Ok(ListenerId(listener.door as u32))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let id = listener.0 as usize;
        self.cancel_parked(Place::Accept(id), None);
        self.world.borrow_mut().shut(id);
    }

    fn submit(&mut self, token: Token, op: Op<'_>) -> Option<Outcome> {
        self.note(|| format!("submit {token:?} {}", Brief(&op)));
        assert!(!self.places.contains_key(&token), "token {token:?} is in flight twice (law 8)");
        let inline = self.chance(|faults| faults.inline);
        let outcome = self.start(token, op, inline);
        if let Some(outcome) = &outcome {
            self.note(|| format!("  inline {token:?} {outcome:?}"));
            self.places.remove(&token);
            self.spins = 0;
        }
        outcome
    }

    fn cancel(&mut self, token: Token) {
        self.note(|| format!("cancel {token:?}"));
        let Some(place) = self.places.get(&token).copied() else { return };
        match place {
            Place::Close(_) => {}
            Place::Dial(dial) => self.cancel_dial(dial),
            Place::Pull(id) | Place::Write(id) => {
                if self.chance(|faults| faults.cancel_race) {
                    self.attempt(id);
                }
                self.cancel_parked(place, Some(token));
            }
            Place::Accept(_) => self.cancel_parked(place, Some(token)),
        }
    }

    fn release(&mut self, parcel: Parcel) {
        self.free(parcel);
    }

    fn bytes(&self, parcel: &Parcel) -> Option<&[u8]> {
        self.store.bytes(parcel)
    }

    fn compose(&mut self, bytes: &[u8]) -> Option<Parcel> {
        self.store.compose(bytes)
    }

    fn part(&mut self, _: SocketId) -> OwnedFd {
        unreachable!("the only worker has nobody to hand a connection to")
    }

    fn adopt(&mut self, _: OwnedFd, _: Peer) -> SocketId {
        unreachable!("the only worker is handed none")
    }

    fn settle(&mut self, socket: SocketId, _: &Lifelines) {
        self.socket(socket.0);
    }

    fn condition(&mut self, socket: SocketId) -> Condition {
        let end = self.socket(socket.0).end;
        assert!(!self.socket(socket.0).gone, "the condition of a socket that was closed");
        let world = self.world.borrow();
        let broken = world.kernel.ends[end]
            .reset
            .then(|| world.kernel.ends[end].error.unwrap_or(Failure::Closed));
        let unacknowledged = world.kernel.unacknowledged(end);
        Condition { broken, unacknowledged: Some(unacknowledged as u32), mute: false }
    }

    fn wait(&mut self, deadline: Option<Moment>) -> io::Result<Moment> {
        self.reports.append(&mut self.late);
        self.spins += 1;
        assert!(self.spins < SPINS_MAX, "the loop spins: {SPINS_MAX} waits and nothing happened");
        let deadline = deadline.filter(|deadline| *deadline != Moment::NEVER);
        let world = self.world.clone();
        let start = world.borrow().kernel.now;
        // Looking at the clock takes time, too.
        let floor =
            start + Duration::from_nanos(world.borrow_mut().kernel.dice.between(100, 5_000));
        let spurious = self.chance(|faults| faults.spurious);
        world.borrow_mut().ticked = false;
        while !self.busy() && !spurious && !self.alarm.take() {
            let next = world.borrow().kernel.next_at();
            let limit = deadline.unwrap_or(Moment::NEVER);
            match next {
                Some(next) if next <= limit => {
                    world.borrow_mut().step();
                    self.spins = 0;
                }
                _ if deadline.is_some() => {
                    let overslept = self.chance(|faults| faults.oversleep);
                    let kernel = &mut world.borrow_mut().kernel;
                    kernel.now = kernel.now.max(limit);
                    if overslept {
                        let extra = Duration::from_nanos(kernel.dice.spread(1, 1_000_000_000));
                        kernel.now = kernel.now + extra;
                    }
                    break;
                }
                _ => {
                    assert!(self.alarm.wait(), "nothing will ever happen and nobody wakes us");
                    break;
                }
            }
        }
        let kernel = &mut world.borrow_mut().kernel;
        kernel.now = kernel.now.max(floor);
        if kernel.now - start > Duration::from_micros(10) {
            self.spins = 0;
        }
        Ok(kernel.now)
    }

    fn next(&mut self) -> Option<Completion> {
        loop {
            self.look();
            let (attempts, reports) = (self.touched.len(), self.reports.len());
            if attempts + reports == 0 {
                return None;
            }
            let pick = {
                let dice = &mut self.world.borrow_mut().kernel.dice;
                dice.below((attempts + reports) as u64) as usize
            };
            if pick < attempts {
                let id = self.touched.swap_remove(pick);
                self.attempt(id);
                continue;
            }
            let place = self.reports.swap_remove(pick - attempts);
            let completion = self.tell(place);
            self.spins = 0;
            self.note(|| format!("  next {:?} {:?}", completion.token, completion.outcome));
            return Some(completion);
        }
    }

    fn waker(&self) -> Waker {
        let alarm = self.alarm.clone();
        Waker::new(move || alarm.ring())
    }

    fn gauges(&self) -> Gauges {
        let (parcels, buffers, pipes, starved) = self.store.gauges();
        let sockets = self.sockets.iter().flatten().count() + self.dials.len();
        Gauges { sockets, parcels, buffers, pipes, starved }
    }
}

impl SimPoller {
    fn start(&mut self, token: Token, op: Op<'_>, inline: bool) -> Option<Outcome> {
        match op {
            Op::Accept { listener, .. } => {
                let id = listener.0 as usize;
                self.accepts[id].push_back(Pending { token, work: Work::Accept, outcome: None });
                self.places.insert(token, Place::Accept(id));
                if self.accepts[id].len() == 1 {
                    self.knocked(id);
                    return self.in_time(Place::Accept(id), inline);
                }
                None
            }
            Op::Connect { to, first, .. } => self.dial(token, to, first, inline),
            Op::Pull { from, lane } => {
                let id = self.usable(from);
                self.own(token, id);
                self.places.insert(token, Place::Pull(id));
                let pending = Pending { token, work: Work::Pull(lane), outcome: None };
                self.socket(id).pulls.push_back(pending);
                self.try_now(id, Place::Pull(id), inline)
            }
            Op::Push { to, parcel, .. } => {
                let id = self.usable(to);
                self.own(token, id);
                self.places.insert(token, Place::Write(id));
                let pending = Pending { token, work: Work::Push(Some(parcel)), outcome: None };
                self.socket(id).writes.push_back(pending);
                self.try_now(id, Place::Write(id), inline)
            }
            Op::ShutdownWrite { socket } => {
                let id = self.usable(socket);
                self.own(token, id);
                self.places.insert(token, Place::Write(id));
                let pending = Pending { token, work: Work::Finish, outcome: None };
                self.socket(id).writes.push_back(pending);
                self.try_now(id, Place::Write(id), inline)
            }
            Op::Close { socket, manner } => {
                let id = self.usable(socket);
                self.own(token, id);
                self.judge_close(id);
                self.places.insert(token, Place::Close(id));
                self.socket(id).closing = Some((token, manner));
                self.cancel_parked(Place::Pull(id), None);
                self.cancel_parked(Place::Write(id), None);
                self.try_close(id);
                self.in_time(Place::Close(id), inline)
            }
        }
    }

    /// Attempts an operation just queued, if it is alone; otherwise it is attempted by `next`.
    fn try_now(&mut self, id: u32, place: Place, inline: bool) -> Option<Outcome> {
        let socket = self.socket(id);
        let queue = if matches!(place, Place::Pull(_)) { &socket.pulls } else { &socket.writes };
        let alone = queue.len() == 1;
        if !inline || !alone {
            self.touched.push(id);
            return None;
        }
        self.attempt(id);
        self.in_time(place, true)
    }

    fn usable(&mut self, socket: SocketId) -> u32 {
        let held = self.socket(socket.0);
        assert!(held.closing.is_none(), "an operation on socket {} after its close", socket.0);
        socket.0
    }

    /// The oracles look at the moment of the decision: outcomes told later could not change it.
    fn judge_close(&mut self, id: u32) {
        let end = self.socket(id).end;
        let mut world = self.world.borrow_mut();
        if world.kernel.judged {
            oracle::on_close(&mut world.kernel, end);
        }
    }

    /// Remembers which session works on a connection: the oracles pair them up by that.
    fn own(&mut self, token: Token, id: u32) {
        let end = self.socket(id).end;
        let mut world = self.world.borrow_mut();
        if world.kernel.judged {
            oracle::on_use(&mut world.kernel, end, token);
        }
    }

    fn dial(
        &mut self,
        token: Token,
        to: &Address,
        first: Option<Parcel>,
        inline: bool,
    ) -> Option<Outcome> {
        let dial = self.dials_ever;
        self.dials_ever += 1;
        let decided = self.world.borrow_mut().dial(dial, to);
        let mut entry = Dial { token, first, end: None, outcome: None };
        self.places.insert(token, Place::Dial(dial));
        if let Err(failure) = decided {
            let first = entry.first.take();
            let outcome = Outcome::NotConnected { failure: Some(failure), first };
            if inline {
                return Some(outcome);
            }
            entry.outcome = Some(outcome);
            self.dials.insert(dial, entry);
            self.report(Place::Dial(dial));
            return None;
        }
        self.dials.insert(dial, entry);
        None
    }

    fn cancel_dial(&mut self, dial: usize) {
        let race = self.chance(|faults| faults.cancel_race);
        let Some(entry) = self.dials.get_mut(&dial) else { return };
        if entry.outcome.is_some() {
            return;
        }
        if let Some(end) = entry.end {
            if race {
                // It stands, and its first byte is as good as gone.
                return;
            }
            self.world.borrow_mut().kernel.close(end, Manner::Reset);
        } else if race {
            let kernel = &mut self.world.borrow_mut().kernel;
            let span = Duration::from_nanos(kernel.dice.spread(1_000, 2_000_000_000));
            return kernel.after(span, Event::Dialed { dial, fate: Fate::Cancelled });
        }
        let entry = self.dials.get_mut(&dial).expect("it was there");
        let first = entry.first.take();
        entry.outcome = Some(Outcome::NotConnected { failure: None, first });
        self.report(Place::Dial(dial));
    }
}

impl Alarm {
    fn ring(&self) {
        *self.rung.lock().expect("no panic while ringing") = true;
        self.bell.notify_all();
    }

    fn take(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().expect("no panic while ringing"))
    }

    /// Waits for another thread to ring, in real time; false when it does not.
    fn wait(&self) -> bool {
        let rung = self.rung.lock().expect("no panic while ringing");
        let (mut rung, _) = self
            .bell
            .wait_timeout_while(rung, Duration::from_secs(5), |rung| !*rung)
            .expect("no panic while ringing");
        std::mem::take(&mut *rung)
    }
}

/// An operation as a short word for traces.
struct Brief<'a, 'b>(&'a Op<'b>);

impl std::fmt::Display for Brief<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Op::Accept { listener, .. } => write!(f, "Accept on {}", listener.0),
            Op::Connect { to, first, .. } => {
                write!(
                    f,
                    "Connect to {to} with {} bytes",
                    first.as_ref().map_or(0, |p| p.len().get())
                )
            }
            Op::Pull { from, lane } => write!(f, "Pull from {} {lane:?}", from.0),
            Op::Push { to, parcel, last } => {
                write!(f, "Push to {} {} bytes last={last}", to.0, parcel.len())
            }
            Op::ShutdownWrite { socket } => write!(f, "ShutdownWrite {}", socket.0),
            Op::Close { socket, manner } => write!(f, "Close {} {manner:?}", socket.0),
        }
    }
}

const ECONNABORTED: i32 = 103;
/// A worker that waits so often without any outcome is in an endless loop.
const SPINS_MAX: u32 = 20_000;
