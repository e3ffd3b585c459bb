//! One thread of a run: an event loop with a fixed number of slots, a connection in each.
//!
//! Knows: mio, the clock, the pacer. Does not know: other threads, beyond what [`Shared`] says.
//!
//! ```text
//!          ┌────────────── pause, or at once ─────────────┐
//!          ▼                                              │
//! Down ─▶ Connecting ─▶ Up ─▶ Asking ─▶ Up …             Down
//!              │         └─▶ Streaming ─▶ Flushing ───────▲   (stream)
//!              ├─▶ Asking ─▶ Finishing ───────────────────┤   (connect)
//!              └─▶ Asking ─▶ Up, held to the end ─────────┘   (idle)
//! ```
//!
//! A token is a slot's number. An event of a socket that has left its slot already may still reach
//! the next one: it only makes it try, and trying in vain changes nothing.

mod asking;
mod connecting;
mod ending;
mod streaming;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Poll, Token, Waker};

use super::alarms::Alarms;
use super::clock::{Clock, Waiting};
use super::exchange::{Exchange, Question};
use super::pace::{Pace, Pacer, Schedule, Ticket};
use super::run::Shared;
use super::tally::Tally;
use super::{Job, Work};
use crate::time::Moment;

/// The token of the timer that [`Waiting`] uses.
pub(super) const TIMER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

#[derive(Debug)]
pub(super) struct Engine {
    thread: usize,
    target: SocketAddr,
    work: Work,
    question: Option<Question>,
    pace: Pace,
    duration: Duration,
    timeout: Duration,
    clock: Clock,
    poll: Poll,
    waiting: Waiting,
    slots: Vec<Slot>,
    alarms: Alarms,
    stage: Stage,
    opening: Opening,
    /// Slots that an operation can start on, longest idle first.
    free: VecDeque<u32>,
    /// Slots that stopped for fairness and have more to do.
    hungry: VecDeque<u32>,
    /// Operations whose end the end of the run waits for.
    under_way: u32,
    /// Connections that stand.
    open: u32,
    /// Questions asked so far.
    asked: u64,
    scratch: Box<[u8]>,
    tally: Tally,
}

#[derive(Debug)]
struct Slot {
    state: State,
    stream: Option<TcpStream>,
    /// Of the operation, or else of the attempt to connect.
    ticket: Ticket,
    exchange: Exchange,
    /// It is in the queue of free ones.
    is_free: bool,
    /// It is in the queue of hungry ones.
    is_hungry: bool,
    /// Its first attempt to connect is not over.
    is_opening: bool,
    /// An answer came on this connection.
    has_served: bool,
    /// The kernel told of something to read that was not read to its end.
    readable: bool,
    /// The kernel told of room that was not used up.
    writable: bool,
    /// The kernel told of the peer's FIN: a short read does not mean that nothing is left.
    read_closed: bool,
    /// When a stream moved its last byte.
    moved_at: Moment,
    /// Bytes of the present stream.
    moved: u64,
    /// Bytes within the measured time, of all streams in this slot.
    moved_in_time: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not connected.
    Down,
    Connecting,
    /// Connected, and nothing is asked.
    Up,
    /// A question is on its way, or its answer.
    Asking,
    /// All is said; the peer's end is awaited.
    Finishing,
    Streaming,
    /// The measured time is over, and so is what we send; the peer may still have to read it.
    Flushing,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Opening,
    /// For the other threads to have opened theirs.
    Waiting,
    Running(Pacer),
    Draining(Pacer, Moment),
    Over,
}

/// Opening connections before the measured time.
#[derive(Debug)]
struct Opening {
    /// The first slot whose turn has not come.
    next: usize,
    under_way: u32,
    /// How many at once: more would overflow the target's queue, and a SYN that is dropped is sent
    /// again after a second. Lifted when one was not answered at all, so that a target that is not
    /// there takes one timeout and not one for each batch.
    limit: u32,
    /// How fast, where that was asked for.
    pacer: Option<Pacer>,
}

impl Engine {
    /// Prepares thread number `thread` of a job.
    pub(super) fn new(job: &Job, thread: u32, clock: Clock) -> io::Result<(Engine, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let waiting = Waiting::new(&poll)?;
        let more = u32::from(thread < job.connections % job.threads);
        let slots = job.connections / job.threads + more;
        let pace = job.rate.map_or(Pace::Closed, |per_second| {
            Pace::Open(Schedule { per_second, part: thread, parts: job.threads })
        });
        let is_kept = !matches!(job.work, Work::Connect { .. });
        // Idle connections are opened by the schedule; after that there is nothing to start.
        let opens_by_rate = matches!(job.work, Work::Idle { .. }) && job.rate.is_some();
        let opener = opens_by_rate.then(|| Pacer::new(pace, clock.now(), Moment::NEVER));
        let pace = if opens_by_rate { Pace::Closed } else { pace };
        let ask = job.work.ask();
        let engine = Engine {
            thread: thread as usize,
            target: job.target,
            work: job.work.clone(),
            question: ask.map(|ask| Question::new(ask, job.target, !is_kept)),
            pace,
            duration: job.duration,
            timeout: job.timeout,
            clock,
            poll,
            waiting,
            slots: (0..slots).map(|_| Slot::new()).collect(),
            alarms: Alarms::new(slots as usize),
            stage: Stage::Opening,
            opening: Opening {
                next: if is_kept { 0 } else { slots as usize },
                under_way: 0,
                limit: (OPENING_MAX / job.threads).max(1),
                pacer: opener,
            },
            free: VecDeque::new(),
            hungry: VecDeque::new(),
            under_way: 0,
            open: 0,
            asked: 0,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            tally: Tally::default(),
        };
        Ok((engine, waker))
    }

    /// Works until the run is over.
    pub(super) fn run(mut self, shared: &Shared) -> io::Result<Tally> {
        let mut events = Events::with_capacity(EVENTS_PER_WAIT);
        if self.opening.next > 0 {
            (0..self.slots.len() as u32).for_each(|index| self.set_free(index));
        }
        loop {
            let now = self.clock.now();
            if shared.is_stopped() {
                self.cut(now);
                break;
            }
            // First, so that what may take until the very end is late, not cut.
            while let Some(index) = self.alarms.ring(now) {
                self.rang(index, now);
            }
            self.advance(now, shared);
            if matches!(self.stage, Stage::Over) {
                break;
            }
            self.start_due();
            let now = self.clock.now();
            let (exact, rough) = (self.next_start(now), self.alarms.next());
            self.waiting.wait(&mut self.poll, &mut events, now, exact, rough)?;
            for event in &events {
                if event.token() != TIMER && event.token() != WAKER {
                    self.note(event);
                }
            }
            for _ in 0..self.hungry.len() {
                let index = self.hungry.pop_front().expect("it was counted");
                self.slots[index as usize].is_hungry = false;
                self.go_on(index);
            }
            self.publish(shared);
        }
        self.settle();
        self.publish(shared);
        Ok(self.tally)
    }

    /// Moves on to the stage that `now` belongs to.
    fn advance(&mut self, now: Moment, shared: &Shared) {
        if matches!(self.stage, Stage::Opening) {
            self.open_more(now);
            if self.opening.under_way == 0 && self.opening.next == self.slots.len() {
                self.stage = Stage::Waiting;
                shared.opened();
            }
        }
        if let (Stage::Waiting, Some(begins)) = (self.stage, shared.begins()) {
            self.stage = Stage::Running(Pacer::new(self.pace, begins, begins + self.duration));
            self.begin_streams();
        }
        if let Stage::Running(pacer) = self.stage
            && now >= pacer.ends()
        {
            let until = pacer.ends() + self.timeout;
            self.stage = Stage::Draining(pacer, until);
            self.end_streams(until);
        }
        if let Stage::Draining(pacer, until) = self.stage {
            let is_drained = self.under_way == 0 && pacer.owed(now) == 0;
            if is_drained || now >= until || matches!(self.work, Work::Idle { .. }) {
                self.stage = Stage::Over;
                self.settle_owed(pacer, now);
            }
        }
    }

    /// Ends it here: nothing more becomes due, and nothing is waited for.
    fn cut(&mut self, now: Moment) {
        if let Stage::Running(mut pacer) | Stage::Draining(mut pacer, _) = self.stage {
            pacer.end(now);
            self.settle_owed(pacer, now);
        }
        self.stage = Stage::Over;
    }

    /// Starts operations that are due on slots that are free, but looks up after some.
    fn start_due(&mut self) {
        for _ in 0..STARTS_PER_TURN {
            let Some(index) = self.next_free() else { return };
            let now = self.clock.now();
            let (Stage::Running(pacer) | Stage::Draining(pacer, _)) = &mut self.stage else {
                return;
            };
            let Some(due) = pacer.take(now) else { return };
            self.free.pop_front();
            self.slots[index as usize].is_free = false;
            self.under_way += 1;
            let ticket = Ticket { due, started: now };
            match self.work {
                Work::Connect { .. } => self.connect(index, ticket),
                Work::Request { .. } => self.ask(index, ticket),
                Work::Stream { .. } | Work::Idle { .. } => {
                    unreachable!("the slots of streams and held connections are never free")
                }
            }
        }
    }

    /// The moment that something is to be started or to end, by this thread's own will.
    fn next_start(&mut self, now: Moment) -> Option<Moment> {
        if !self.hungry.is_empty() {
            return Some(now);
        }
        let has_free = self.next_free().is_some();
        match &self.stage {
            Stage::Opening if self.opening.next < self.slots.len() => {
                let is_full = self.opening.under_way >= self.opening.limit;
                let pacer = self.opening.pacer.as_ref().filter(|_| !is_full)?;
                pacer.next(now)
            }
            Stage::Opening | Stage::Waiting | Stage::Over => None,
            Stage::Running(pacer) => {
                let next = if has_free { pacer.next(now) } else { None };
                Some(next.unwrap_or(pacer.ends()).min(pacer.ends()))
            }
            Stage::Draining(pacer, until) => {
                let next = if has_free { pacer.next(now) } else { None };
                Some(next.unwrap_or(*until).min(*until))
            }
        }
    }

    fn next_free(&mut self) -> Option<u32> {
        let can_start = |engine: &Engine, index: u32| {
            let state = engine.slots[index as usize].state;
            match engine.work {
                Work::Connect { .. } => state == State::Down,
                Work::Request { .. } => state == State::Up,
                Work::Stream { .. } | Work::Idle { .. } => false,
            }
        };
        while let Some(&index) = self.free.front() {
            if can_start(self, index) {
                return Some(index);
            }
            // Its connection was lost while it stood in the queue.
            self.free.pop_front();
            self.slots[index as usize].is_free = false;
        }
        None
    }

    fn set_free(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.is_free {
            slot.is_free = true;
            self.free.push_back(index);
        }
    }

    /// Takes an event to the slot it is for.
    fn note(&mut self, event: &Event) {
        let index = event.token().0 as u32;
        let slot = &mut self.slots[index as usize];
        slot.readable |= event.is_readable() || event.is_error();
        slot.writable |= event.is_writable();
        slot.read_closed |= event.is_read_closed() || event.is_error();
        if !slot.is_hungry {
            self.go_on(index);
        }
    }

    /// Has a slot go on after the others had their turn.
    fn set_hungry(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.is_hungry {
            slot.is_hungry = true;
            self.hungry.push_back(index);
        }
    }

    /// Does whatever can be done on a slot now.
    fn go_on(&mut self, index: u32) {
        match self.slots[index as usize].state {
            State::Down => {}
            State::Connecting => self.look_connected(index),
            State::Up => self.watch(index),
            State::Asking => self.converse(index),
            State::Finishing => self.await_end(index),
            State::Streaming => self.pump(index),
            State::Flushing => self.await_flushed(index),
        }
    }

    fn publish(&self, shared: &Shared) {
        let live = shared.live(self.thread);
        let (is_kept, is_request) = match self.work {
            Work::Connect { .. } => (false, false),
            Work::Request { .. } => (false, true),
            Work::Stream { .. } | Work::Idle { .. } => (true, false),
        };
        let done = if is_kept { u64::from(self.open) } else { self.tally.operations.ok };
        let unconnected = if is_request { self.tally.connects.failed() } else { 0 };
        // Relaxed: these are looked at, nothing is concluded from them.
        live.done.store(done, Ordering::Relaxed);
        live.failed.store(self.tally.operations.failed() + unconnected, Ordering::Relaxed);
        live.bytes.store(self.tally.bytes.both(), Ordering::Relaxed);
    }
}

impl Slot {
    fn new() -> Slot {
        Slot {
            state: State::Down,
            stream: None,
            ticket: Ticket { due: Moment::ZERO, started: Moment::ZERO },
            exchange: Exchange::new(0),
            is_free: false,
            is_hungry: false,
            is_opening: false,
            has_served: false,
            readable: false,
            writable: false,
            read_closed: false,
            moved_at: Moment::ZERO,
            moved: 0,
            moved_in_time: 0,
        }
    }

    /// The socket, in a state that has one.
    fn socket(&self) -> &TcpStream {
        self.stream.as_ref().expect("only a slot that is down has no socket")
    }
}

/// Events taken from the kernel in one call.
const EVENTS_PER_WAIT: usize = 1024;
/// Operations started before looking at events again.
const STARTS_PER_TURN: usize = 256;
/// Connections being opened at once, of all threads, before the measured time.
const OPENING_MAX: u32 = 256;
/// What one read can take.
const SCRATCH: usize = 256 * 1024;
