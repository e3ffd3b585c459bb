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
//!                                 Closing ◀──both ends done──◀───delivered───────┘
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

use crate::time::Moment;
use crate::transfer::{Condition, Failure, Lane, Manner, Parcel, Sent, Side};

pub use end::End;
use flow::{Flow, State};
pub use lane::Policy;
pub use words::{Action, Backoff, Context, Event, Limits};

/// The state of one connection pair, 264 bytes at the most; the sockets are the worker's.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    up: Flow,
    down: Flow,
    client: Socket,
    backend: Socket,
    /// The first parcel, while it is in our hands and not with the dial.
    first: Option<Parcel>,
    /// The first cause of the end.
    end: Option<End>,
    /// What giving up now would be called: how the last attempt to connect failed.
    refusal: End,
    /// Who sent the last bytes that were passed on; the other one is due.
    spoke: Side,
    fault: Option<Fault>,
    attempts: u8,
    settled: bool,
    cancelled: bool,
    half_closed: bool,
    started: Moment,
    dialed: Moment,
    answered: Moment,
    active: Moment,
    checked: Moment,
    verified: Moment,
    /// Bytes were pushed since it was last seen that all were acknowledged.
    unverified: bool,
    /// Since when the client has been mute, and the backend.
    mute_since: [Moment; 2],
    expires: Moment,
}

/// Where the session as a whole stands; see the diagram of the module.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Choosing,
    Waiting { until: Moment, give_up: Moment, next: Next },
    Dialing { until: Moment, give_up: Moment },
    Redialing,
    Relaying,
    Settling(Settling),
    Closing,
    Retired,
}

/// What a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Whoever is chosen then, after a shortage of ours.
    Choose,
    /// The backend chosen already, after a pause, because it failed before.
    Dial,
}

/// One side is gone, and the other is still owed bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Settling {
    side: Side,
    manner: Manner,
    unacknowledged: u32,
    until: Moment,
    look_at: Moment,
    pause: Duration,
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
    /// A session whose client was accepted at `now` and which must be over at `expires`
    /// ([`Moment::NEVER`]: no maximum).
    pub fn new(now: Moment, expires: Moment, policy: Policy) -> Session {
        Session {
            phase: Phase::Choosing,
            up: Flow::new(policy),
            down: Flow::new(policy),
            client: Socket::Open,
            backend: Socket::Absent,
            first: None,
            end: None,
            refusal: End::BackendRefused,
            spoke: Side::Backend,
            fault: None,
            attempts: 0,
            settled: false,
            cancelled: false,
            half_closed: false,
            started: now,
            dialed: Moment::NEVER,
            answered: Moment::NEVER,
            active: now,
            checked: now,
            verified: now,
            unverified: false,
            mute_since: [Moment::NEVER; 2],
            expires,
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
                if self.phase == Phase::Choosing {
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
        match self.phase {
            Phase::Choosing | Phase::Redialing | Phase::Closing | Phase::Retired => Moment::NEVER,
            Phase::Waiting { until, .. } => until,
            Phase::Dialing { until, .. } if self.up.is_owed() => {
                until.min(self.checked + STALL_CHECK)
            }
            Phase::Dialing { until, .. } => until,
            Phase::Settling(settling) => settling.look_at.min(settling.until),
            Phase::Relaying => {
                let mut deadline = self.silence_ends(limits).min(self.expires);
                if !self.settled {
                    deadline = deadline.min(self.dialed + SETTLE_AGE);
                }
                if self.stalled_source().is_some() {
                    deadline = deadline.min(self.checked + STALL_CHECK);
                }
                if let (true, Some(timeout)) = (self.unverified, limits.user_timeout) {
                    deadline = deadline.min(self.verified + timeout / VERIFY_SHARE);
                }
                deadline
            }
        }
    }

    /// Why it ended; `None` while it has not.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes that the other side's kernel took: from the client, from the backend.
    pub fn bytes(&self) -> (u64, u64) {
        (self.up.bytes, self.down.bytes)
    }

    /// How many of those were spliced, both directions together.
    pub fn spliced(&self) -> u64 {
        self.up.spliced + self.down.spliced
    }

    /// How many attempts to connect were made.
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// When it began.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// When the backend's connection stood, if it ever did.
    pub fn dialed_at(&self) -> Option<Moment> {
        (self.dialed != Moment::NEVER).then_some(self.dialed)
    }

    /// When the backend's first byte came, if it ever did.
    pub fn answered_at(&self) -> Option<Moment> {
        (self.answered != Moment::NEVER).then_some(self.answered)
    }

    /// Whether one side ever went on after the other had finished.
    pub fn was_half_closed(&self) -> bool {
        self.half_closed
    }

    fn is_half_closed(&self) -> bool {
        self.up.is_over() != self.down.is_over()
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

#[cfg(test)]
mod tests;
