//! One proxied connection, as a machine: events and the time go in, actions come out.
//!
//! Knows: time, and the words of `transfer`. Does not know: sockets, clocks, pollers, backends.
//!
//! **Invariant:** `session` performs no I/O, reads no clock and allocates nothing.
//!
//! ```text
//!              ┌───────────── failed, attempts left ─────────────┐
//!              ▼                                                 │
//! Accepted ▶ Choosing ──chosen──▶ Dialing ──dialed──▶ Relaying ──┤ (reset before any byte)
//!              ▲   │                 │                   │  │
//!              │   └─wait─▶ Waiting  │ no attempts left  │  └──a side broke──▶ Settling
//!              └───────────────┘     ▼                   ▼                       │
//!         (steps of Reaching)     Closing ◀──both ends done──◀───delivered───────┘
//!                                    └──last completion──▶ Retired
//! ```
//!
//! What TCP peers may expect of it:
//! - FIN is passed on after every byte before it, and the other direction goes on for as long as
//!   the half-close timeout says.
//! - RST is passed on, but never past bytes already taken from the side that broke: those are
//!   pushed and acknowledged first (no longer than [`GRACE`] without progress). Where the side that
//!   broke had finished (FIN) before, the other gets FIN, not RST.
//! - A connection cut in mid-stream by us ends with RST, so that it cannot be mistaken for a
//!   complete one.
//! - Until a backend took a byte, nothing is lost by trying another: the first parcel is kept, the
//!   rest stays in the kernel.

mod breaking;
mod dialing;
pub mod end;
mod ending;
pub mod flow;
pub mod lane;
mod relaying;
mod timeouts;
mod words;

use std::time::Duration;

use crate::time::{Beat, Lapse, Moment};
use crate::transfer::{Condition, Failure, Lane, Manner, Parcel, Sent, Side};

pub use end::End;
use flow::{Flow, State};
pub use lane::Policy;
pub use words::{Action, Backoff, Context, Event, Lifetime, Limits};

/// The state of one connection pair; the sockets are the worker's.
///
/// There are as many of these as connections, most of them silent, so what matters only for a while
/// is in the `Phase` of that while, and what need not be exact is small.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    up: Flow,
    down: Flow,
    bytes: Bytes,
    client: Socket,
    backend: Socket,
    /// The first cause of the end.
    end: Option<End>,
    attempts: u8,
    half_closed: bool,
    started: Moment,
    /// When bytes or FIN last moved, or a side was found broken. Until there is a backend it stands
    /// still, from the accept or from the first dial: all attempts together are timed by it.
    active: Moment,
    /// From the start to the backend's connection.
    connected: Option<Lapse>,
    /// From the start to the backend's first byte.
    answered: Option<Lapse>,
}

const _: () = assert!(size_of::<Session>() <= 96, "every connection pays for one");

/// Bytes that the other side's kernel took.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    /// From the client.
    up: u64,
    /// From the backend.
    down: u64,
    /// Those of both that were spliced.
    spliced: u64,
}

/// Where the session as a whole stands; see the diagram of the module.
#[derive(Debug, PartialEq)]
enum Phase {
    /// There is no backend yet, or none any more.
    Reaching {
        step: Step,
        /// When the step has lasted too long, or long enough.
        until: Moment,
        /// The first parcel, while it is in our hands and not with the dial.
        first: Option<Parcel>,
        /// When it was last looked whether the client is still there.
        checked: Beat,
        /// What giving up now would be called: how the last attempt to connect failed.
        refusal: End,
    },
    /// Bytes go both ways.
    Relaying(Relaying),
    /// One side is gone, and the other is still owed bytes.
    Settling(Settling),
    /// Both sides are being closed.
    Closing,
    /// Nothing is in flight.
    Retired,
}

/// What is being done to reach a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Choosing,
    Waiting(Next),
    Dialing,
    /// The backend that broke before any byte is being closed; a choice follows.
    Redialing,
}

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Whoever is chosen then, after a shortage of ours.
    Choose,
    /// The backend chosen already, after a pause, because it failed before.
    Dial,
}

/// What a session that passes bytes on remembers.
#[derive(Debug, PartialEq)]
struct Relaying {
    since: Beat,
    /// By how much sooner than others it ends, where a session's life has a limit.
    haste: u16,
    /// Who sent the last bytes that were passed on; the other one is due.
    spoke: Side,
    fault: Option<Fault>,
    settled: bool,
    /// When it was last looked whether a stalled source is still there.
    checked: Beat,
    /// Bytes were pushed since it was last seen that all were acknowledged.
    unverified: bool,
    /// When it was last looked for what is not acknowledged.
    verified: Beat,
    /// Since when the client has been mute, and the backend.
    mute_since: [Beat; 2],
}

/// What is waited for when one side is gone.
#[derive(Debug, PartialEq)]
struct Settling {
    side: Side,
    manner: Manner,
    unacknowledged: u32,
    until: Moment,
    look_at: Moment,
    /// How many times it was looked.
    looks: u8,
}

/// A side stopped taking bytes, and what it sent before is still on its way to the other.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fault {
    side: Side,
    manner: Manner,
}

/// Where one of the two sockets stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Absent,
    Dialing,
    /// The dial is to be given up, and is not over yet.
    Cancelling,
    Open,
    Closing,
}

/// How long a peer that is owed bytes by a broken one may go without taking any, and how long a
/// session may linger for the last acknowledgement.
pub const GRACE: Duration = Duration::from_secs(5);

/// From this age on, a connection gets keep-alive: a short one is over before.
pub const SETTLE_AGE: Duration = Duration::from_secs(1);

/// A connection that we end may have been in the middle of something unless it was silent for so
/// long.
const QUIET: Duration = Duration::from_secs(1);

/// How often a session whose target takes nothing looks whether the source is still there.
const STALL_CHECK: Duration = Duration::from_secs(1);

/// Into how many parts the user timeout is cut by looks at what is not acknowledged.
const VERIFY_SHARE: u32 = 4;

/// The pause after a shortage of our own before the next attempt.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// How soon a settling session looks again, at first and at most.
const LOOK_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

impl Session {
    /// A session whose client was accepted at `now`.
    pub fn new(now: Moment, policy: Policy) -> Session {
        Session {
            phase: Phase::reaching(now, Step::Choosing),
            up: Flow::new(policy),
            down: Flow::new(policy),
            bytes: Bytes::default(),
            client: Socket::Open,
            backend: Socket::Absent,
            end: None,
            attempts: 0,
            half_closed: false,
            started: now,
            active: now,
            connected: None,
            answered: None,
        }
    }

    /// Takes an event in and says what to do about it.
    pub fn handle(&mut self, cx: Context<'_>, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Accepted => {
                self.pull(Side::Client, actions);
                actions.push(Action::Choose);
            }
            Event::Chosen { again } => self.chosen(cx, again, actions),
            Event::NoBackend => {
                if self.is_choosing() {
                    self.give_up(End::NoBackend, actions);
                }
            }
            Event::Dialed { first } => self.dialed(cx, first, actions),
            Event::DialFailed { failure, first } => self.dial_failed(cx, failure, first, actions),
            Event::Pulled { side, parcel, last } => self.pulled(cx, side, parcel, last, actions),
            Event::Ended { side } => self.ended(cx, side, actions),
            Event::PullFailed { side, failure } => self.pull_failed(cx, side, failure, actions),
            Event::Pushed { side, sent } => self.pushed(cx, side, sent, actions),
            Event::PushFailed { side, failure } => self.push_failed(cx, side, failure, actions),
            Event::Shut { side, failure } => self.shut(cx, side, failure, actions),
            Event::Closed { side } => self.closed(side, actions),
            Event::Looked { side, condition } => self.looked(cx, side, condition, actions),
            Event::Deadline => self.deadline_passed(cx, actions),
            Event::Kill(end) => self.kill(cx, end, actions),
        }
    }

    /// When the session wants [`Event::Deadline`]; [`Moment::NEVER`] when it does not.
    pub fn deadline(&self, limits: &Limits) -> Moment {
        match &self.phase {
            Phase::Reaching { until, checked, .. } if self.is_dialing_with_bytes() => {
                (*until).min(*checked + STALL_CHECK)
            }
            Phase::Reaching { until, .. } => *until,
            Phase::Relaying(relaying) => {
                let silence_ends = self.silence_ends(relaying, limits);
                let mut deadline = silence_ends.min(self.life_ends(relaying, limits));
                if !relaying.settled {
                    deadline = deadline.min(relaying.since + SETTLE_AGE);
                }
                if self.stalled_source().is_some() {
                    deadline = deadline.min(relaying.checked + STALL_CHECK);
                }
                if let (true, Some(timeout)) = (relaying.unverified, limits.user_timeout) {
                    deadline = deadline.min(relaying.verified + timeout / VERIFY_SHARE);
                }
                deadline
            }
            Phase::Settling(settling) => settling.look_at.min(settling.until),
            Phase::Closing | Phase::Retired => Moment::NEVER,
        }
    }

    /// Why it ended; `None` while it has not.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes that the other side's kernel took: from the client, from the backend.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes.up, self.bytes.down)
    }

    /// How many of those were spliced, both directions together.
    pub fn spliced(&self) -> u64 {
        self.bytes.spliced
    }

    /// How many attempts to connect were made.
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// When it began.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// How long after the start the backend's connection stood, if it ever did; to seven digits.
    pub fn connected(&self) -> Option<Duration> {
        self.connected.map(Lapse::span)
    }

    /// How long after the start the backend's first byte came, if it ever did; to seven digits.
    pub fn answered(&self) -> Option<Duration> {
        self.answered.map(Lapse::span)
    }

    /// Whether one side ever went on after the other had finished.
    pub fn was_half_closed(&self) -> bool {
        self.half_closed
    }

    fn is_half_closed(&self) -> bool {
        self.up.is_over() != self.down.is_over()
    }

    /// The side that has stopped taking bytes, while what it sent before is still on its way.
    fn fault(&self) -> Option<Fault> {
        match &self.phase {
            Phase::Relaying(relaying) => relaying.fault,
            Phase::Reaching { .. } | Phase::Settling(_) | Phase::Closing | Phase::Retired => None,
        }
    }

    fn pull(&mut self, side: Side, actions: &mut Vec<Action>) {
        let flow = self.flow_from(side);
        flow.state = State::Pulling;
        let lane = flow.choice.lane();
        actions.push(Action::Pull { side, lane });
    }

    fn flow_from(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }
}

impl Phase {
    fn reaching(now: Moment, step: Step) -> Phase {
        Phase::Reaching {
            step,
            until: Moment::NEVER,
            first: None,
            checked: now.into(),
            refusal: End::BackendRefused,
        }
    }
}

impl Relaying {
    fn new(now: Moment, haste: u16) -> Relaying {
        let now = Beat::from(now);
        Relaying {
            since: now,
            haste,
            spoke: Side::Backend,
            fault: None,
            settled: false,
            checked: now,
            unverified: false,
            verified: now,
            mute_since: [Beat::NEVER; 2],
        }
    }
}

#[cfg(test)]
mod tests;
