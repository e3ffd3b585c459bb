//! One thread's share of the traffic: the loop that brings sessions and a poller together.
//!
//! Knows: sessions, pools, a poller. Does not know: the control side, other workers, or which kind
//! of poller it has. Nothing here is shared with another thread but atomics and two channels.
//!
//! A turn is: wait, carry out what completed, go on with what had used up its share of the last
//! turn, let timers fire, accept, take commands. Each step is bounded: a session moves at most
//! [`TURN_BYTES`] before the others have theirs.

mod accepting;
pub mod admission;
pub mod crew;
mod driving;
mod ending;
pub mod recorder;
mod seat;
pub mod stats;
pub mod timers;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use slab::Slab;

use crate::config::{Algorithm, Plan, ZeroCopy};
use crate::net::{Address, Peer};
use crate::observe::access_log::Record;
use crate::poller::{Completion, ConnectOptions, Keepalive, Lifelines, Op, Outcome, Poller, Waker};
use crate::pool::{Ask, BackendId, Board, Pool, Tried};
use crate::session::{Action, Backoff, Context, End, Event, Lifetime, Limits, Policy, Session};
use crate::time::Moment;
use crate::token::{GENERATION_MASK, Token};
use crate::transfer::{Failure, ListenerId, Manner, Parcel, Shortage, Side, SocketId};
use admission::Admission;
use crew::{Arrival, Crew};
use recorder::Recorder;
use seat::{Seat, Sockets};
use stats::Stats;
use timers::Timers;

/// The most bytes that one session moves in one go while others wait.
pub const TURN_BYTES: u64 = 1024 * 1024;

/// What a worker is made of, besides its poller.
#[derive(Debug)]
pub struct Setup<L> {
    /// What it does.
    pub plan: Arc<Plan>,
    /// The backends' shared numbers.
    pub board: Arc<Board>,
    /// The addresses of backends given by name, by pool and backend; `None` where there is none.
    pub resolved: Arc<Vec<Vec<Option<Address>>>>,
    /// Its listening sockets, each with its listener's place in the plan.
    pub listeners: Vec<(usize, L)>,
    /// The limit of the whole process.
    pub admission: Arc<Admission>,
    /// The limit of each listener of the plan that has one.
    pub listener_admissions: Vec<Option<Arc<Admission>>>,
    /// What the control side wants.
    pub commands: Receiver<Command>,
    /// Where it says what an operator should know; never waited for.
    pub notices: Sender<Notice>,
    /// Where access records go, if anywhere.
    pub recorder: Option<Recorder>,
    /// Where it counts.
    pub stats: Arc<Stats>,
    /// Which of the workers it is, from 0.
    pub index: usize,
    /// All of them.
    pub crew: Arc<Crew>,
    /// Seeds jitter and random choices.
    pub seed: u64,
}

/// What a worker has to say to the control side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It has stopped accepting for a moment, because it ran out of something.
    Paused(Failure),
}

/// What the control side may want of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Accept nobody any more; finish when the last session has ended, or after this time.
    Drain(Duration),
    /// End every session now, and finish.
    Stop,
}

/// Whether there will be another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Yes.
    Running,
    /// No: it drained, and every session has ended.
    Finished,
}

/// One thread's loop, over any poller.
#[derive(Debug)]
pub struct Worker<P: Poller> {
    poller: P,
    plan: Arc<Plan>,
    taps: Vec<Tap>,
    pools: Vec<Pool>,
    /// The limits of sessions, by listener of the plan.
    limits: Vec<Limits>,
    lifelines: Lifelines,
    sessions: Slab<Seat>,
    timers: Timers,
    /// Actions put off because their session had its share of the turn.
    later: VecDeque<(Token, Action)>,
    /// Connections accepted beyond the limit by a race with another worker; they wait.
    waiting: VecDeque<(usize, SocketId, Peer)>,
    actions: Vec<Action>,
    admission: Arc<Admission>,
    listener_admissions: Vec<Option<Arc<Admission>>>,
    commands: Receiver<Command>,
    notices: Sender<Notice>,
    recorder: Option<Recorder>,
    stats: Arc<Stats>,
    now: Moment,
    generation: u32,
    random: u64,
    /// Accepting is paused until then, for want of something.
    paused_until: Moment,
    /// Sessions are ended then.
    drained_by: Option<Moment>,
    /// They were ended: whoever still comes is turned away.
    cut: bool,
    /// Connections that never became a session and whose close is in flight.
    turned_away: usize,
    /// Tells those closes apart.
    turned_away_ever: u32,
    /// Which local address was used last, where there are several.
    source: usize,
    index: usize,
    crew: Arc<Crew>,
    /// Connections that others handed to us.
    arrivals: Receiver<Arrival>,
}

/// A listening socket.
#[derive(Debug)]
struct Tap {
    id: ListenerId,
    listener: usize,
    accepting: Accepting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    /// An accept is in flight.
    InFlight,
    /// None is, and one should be tried in this turn or the next.
    Idle,
    /// The limit is reached; a free place wakes us.
    Full,
    /// Listening is over, but an accept in flight may still bring somebody.
    Closing,
    /// It is all over.
    Closed,
}

impl<P: Poller> Worker<P> {
    /// A worker that has not accepted anybody yet.
    ///
    /// # Errors
    /// When a listening socket cannot be watched.
    pub fn new(mut poller: P, setup: Setup<P::Listener>) -> io::Result<Worker<P>> {
        let plan = setup.plan;
        let mut taps = Vec::with_capacity(setup.listeners.len());
        for (listener, socket) in setup.listeners {
            taps.push(Tap { id: poller.listen(socket)?, listener, accepting: Accepting::Idle });
        }
        let pool = |(at, pool)| {
            let (shared, addresses) = (setup.board.pool(at), &setup.resolved[at]);
            let zone = plan.zone.as_deref();
            Pool::new(pool, shared, addresses, zone, setup.index, setup.crew.workers())
        };
        Ok(Worker {
            pools: plan.pools.iter().enumerate().map(pool).collect(),
            limits: (0..plan.listeners.len()).map(|at| limits(&plan, at)).collect(),
            lifelines: lifelines(&plan),
            poller,
            plan,
            taps,
            sessions: Slab::with_capacity(ROOM),
            timers: Timers::default(),
            later: VecDeque::new(),
            waiting: VecDeque::new(),
            actions: Vec::new(),
            admission: setup.admission,
            listener_admissions: setup.listener_admissions,
            commands: setup.commands,
            notices: setup.notices,
            recorder: setup.recorder,
            stats: setup.stats,
            now: Moment::ZERO,
            generation: 0,
            random: setup.seed | 1,
            paused_until: Moment::ZERO,
            drained_by: None,
            cut: false,
            turned_away: 0,
            turned_away_ever: 0,
            source: 0,
            index: setup.index,
            arrivals: setup.crew.arrivals(setup.index),
            crew: setup.crew,
        })
    }

    /// One turn of the loop.
    ///
    /// # Errors
    /// When the poller's event queue fails; the worker cannot go on.
    pub fn turn(&mut self) -> io::Result<Turn> {
        self.now = self.poller.wait(Some(self.deadline()))?;
        while let Some(completion) = self.poller.next() {
            self.complete(completion);
        }
        for _ in 0..self.later.len() {
            let Some((token, action)) = self.later.pop_front() else { break };
            if self.is_current(token) {
                self.drive(token.slot(), None, Some(action));
            }
        }
        while let Some(slot) = self.timers.expire(self.now) {
            self.drive(slot, Some(Event::Deadline), None);
        }
        if self.drained_by.is_some_and(|by| self.now >= by) {
            self.drained_by = Some(Moment::NEVER);
            self.kill_all(End::Drain);
        }
        self.accept_more();
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.take_over(arrival);
        }
        // After accepting, so that whoever was in a listener's queue is in before it closes.
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        if let Some(recorder) = &mut self.recorder
            && self.now >= recorder.deadline()
        {
            recorder.flush(self.now, &self.stats);
        }
        let gauges = self.poller.gauges();
        self.stats.pipes.set(gauges.pipes as u64);
        self.stats.buffers.set(gauges.buffers as u64);
        if self.drained_by.is_some() && self.is_empty() {
            if let Some(recorder) = &mut self.recorder {
                recorder.flush(self.now, &self.stats);
            }
            return Ok(Turn::Finished);
        }
        Ok(Turn::Running)
    }

    /// The poller, for whoever looks on.
    pub fn poller(&mut self) -> &mut P {
        &mut self.poller
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Ends the wait of a turn from another thread.
    pub fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Whether nobody is here, nobody waits, and nobody can come in or is on the way out.
    fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.crew.load(self.index) == 0
            && self.waiting.is_empty()
            && self.turned_away == 0
            && self.taps.iter().all(|tap| tap.accepting == Accepting::Closed)
    }

    fn deadline(&self) -> Moment {
        if !self.later.is_empty() {
            return self.now;
        }
        let mut deadline = self.timers.next();
        // While accepting pauses, a place that becomes free wakes us for nothing, so the end of the
        // pause must; and while somebody waits for a place, only a free place helps.
        let paused = self.now < self.paused_until;
        let wants_accept = self.taps.iter().any(|tap| match tap.accepting {
            Accepting::Idle => paused || self.waiting.is_empty(),
            Accepting::Full => paused,
            Accepting::InFlight | Accepting::Closing | Accepting::Closed => false,
        });
        if wants_accept || paused && !self.waiting.is_empty() {
            deadline = deadline.min(self.paused_until);
        }
        if let Some(recorder) = &self.recorder {
            deadline = deadline.min(recorder.deadline());
        }
        deadline.min(self.drained_by.unwrap_or(Moment::NEVER))
    }

    /// 32 random bits (xorshift64*, Vigna 2016): for jitter and draws, not for secrets.
    fn dice(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// Sessions that there is room for from the beginning, for the reason that the timers have.
const ROOM: usize = 1024;

/// How long accepting pauses when we ran out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the operations of a session are for: the role byte of their tokens.
mod role {
    use crate::transfer::Side;

    pub(super) const NONE: u8 = 0;
    pub(super) const ACCEPT: u8 = 1;
    pub(super) const DIAL: u8 = 2;
    pub(super) const PULL: u8 = 4;
    pub(super) const PUSH: u8 = 6;
    pub(super) const SHUT: u8 = 8;
    pub(super) const CLOSE: u8 = 10;
    pub(super) const TURN_AWAY: u8 = 12;

    /// The role of an operation on one side.
    pub(super) fn of(role: u8, side: Side) -> u8 {
        match side {
            Side::Client => role,
            Side::Backend => role + 1,
        }
    }

    /// The role without its side, and the side.
    pub(super) fn split(role: u8) -> (u8, Side) {
        (role & !1, if role & 1 == 0 { Side::Client } else { Side::Backend })
    }
}

fn limits(plan: &Plan, listener: usize) -> Limits {
    let listener = &plan.listeners[listener];
    let pool = &plan.pools[listener.pool];
    Limits {
        connect: listener.timeouts.connect,
        connect_total: listener.timeouts.connect_total,
        idle: listener.timeouts.idle,
        half_close: listener.timeouts.half_close,
        lifetime: listener.timeouts.max_lifetime.map(|longest| Lifetime {
            longest,
            jitter: longest.mul_f64(listener.timeouts.lifetime_jitter.clamp(0.0, 1.0)),
        }),
        user_timeout: plan.tcp.user_timeout,
        attempts: pool.retry.attempts,
        backoff: Backoff {
            base: pool.retry.backoff_base,
            multiplier: pool.retry.backoff_multiplier,
            max: pool.retry.backoff_max,
        },
        policy: match plan.zero_copy {
            ZeroCopy::Auto => Policy::Auto,
            ZeroCopy::Always => Policy::AlwaysPipe,
            ZeroCopy::Never => Policy::AlwaysBuffer,
        },
        is_measured: pool.algorithm == Algorithm::PeakEwma,
    }
}

/// The plan's keep-alive as the kernel takes it.
pub fn lifelines(plan: &Plan) -> Lifelines {
    let seconds = |span: Duration| u32::try_from(span.as_secs().max(1)).unwrap_or(u32::MAX);
    Lifelines {
        keepalive: plan.tcp.keepalive.as_ref().map(|keepalive| Keepalive {
            idle_s: seconds(keepalive.idle),
            interval_s: seconds(keepalive.interval),
            count: keepalive.count,
        }),
    }
}
