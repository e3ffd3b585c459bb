//! What a session hears and says, and what it is asked to respect.

use std::time::Duration;

use super::{End, Policy};
use crate::time::Moment;
use crate::transfer::{Condition, Failure, Lane, Manner, Parcel, Sent, Side};

/// What a session is asked to respect; the same for all sessions of a listener and pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// One attempt to connect.
    pub connect: Duration,
    /// All attempts of a session, waits between them included.
    pub connect_total: Duration,
    /// Without a byte in either direction; `None`: for ever.
    pub idle: Option<Duration>,
    /// Without a byte once one side has finished; `None`: for ever.
    pub half_close: Option<Duration>,
    /// From accept to end, busy or not; `None`: for ever.
    pub lifetime: Option<Lifetime>,
    /// How long a side may leave bytes unacknowledged, retransmitted and all; `None`: as long as the
    /// kernel tries.
    pub user_timeout: Option<Duration>,
    /// How many attempts to connect, the first included.
    pub attempts: u8,
    /// The pause before a backend is tried that was tried already.
    pub backoff: Backoff,
    /// Copy or splice.
    pub policy: Policy,
    /// Whether the worker wants to know how long a backend takes to answer.
    pub is_measured: bool,
}

/// How long a session may live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lifetime {
    /// At the most.
    pub longest: Duration,
    /// By how much sooner the first of many ends, so that what began together does not end
    /// together.
    pub jitter: Duration,
}

impl Lifetime {
    /// The life of one session, whose `haste` is a share of the jitter, in 65,536ths.
    pub(super) fn of(&self, haste: u16) -> Duration {
        self.longest.saturating_sub(self.jitter.saturating_mul(u32::from(haste)) / (1 << 16))
    }
}

/// Exponential backoff with full jitter: a random share of `base * multiplier^n`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The longest first pause.
    pub base: Duration,
    /// By how much the longest pause grows each time.
    pub multiplier: f64,
    /// The longest pause of all.
    pub max: Duration,
}

impl Backoff {
    /// The pause before repeat number `n` (from 0), with 32 random bits.
    pub(super) fn pause(&self, n: u8, dice: u32) -> Duration {
        let longest = self.base.as_secs_f64() * self.multiplier.powi(i32::from(n));
        let longest = longest.min(self.max.as_secs_f64());
        Duration::try_from_secs_f64(longest * f64::from(dice) / f64::from(u32::MAX))
            .unwrap_or(self.max)
    }
}

/// What every event comes with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Moment,
    /// The limits of this session.
    pub limits: &'a Limits,
    /// 32 random bits.
    pub dice: u32,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The client's connection was accepted. The first event of a session.
    Accepted,
    /// A backend was chosen, as [`Action::Choose`] asked.
    Chosen {
        /// Every backend there is was tried before.
        again: bool,
    },
    /// No backend can be chosen.
    NoBackend,
    /// The connection to the backend stands.
    Dialed {
        /// What became of the first parcel, where the dial had one.
        first: Option<Sent>,
    },
    /// The connection to the backend did not come about.
    DialFailed {
        /// Why; `None` when it was cancelled.
        failure: Option<Failure>,
        /// The first parcel, untouched, where the dial had one.
        first: Option<Parcel>,
    },
    /// Bytes came from `side`.
    Pulled {
        /// From whom.
        side: Side,
        /// The bytes.
        parcel: Parcel,
        /// It is known to have finished with them.
        last: bool,
    },
    /// `side` finished (FIN).
    Ended {
        /// Who.
        side: Side,
    },
    /// Pulling from `side` failed.
    PullFailed {
        /// From whom.
        side: Side,
        /// Why.
        failure: Failure,
    },
    /// Bytes went to `side`.
    Pushed {
        /// To whom.
        side: Side,
        /// How many, and what is left.
        sent: Sent,
    },
    /// Pushing to `side` failed; the bytes are lost.
    PushFailed {
        /// To whom.
        side: Side,
        /// Why.
        failure: Failure,
    },
    /// FIN went to `side`, or could not.
    Shut {
        /// To whom.
        side: Side,
        /// Why it could not.
        failure: Option<Failure>,
    },
    /// The socket of `side` is gone, and every operation on it is over.
    Closed {
        /// Whose.
        side: Side,
    },
    /// The answer to [`Action::Look`].
    Looked {
        /// At whom.
        side: Side,
        /// How it is.
        condition: Condition,
    },
    /// The time that [`Session::deadline`](super::Session::deadline) named has come (or nearly: too early does no harm).
    Deadline,
    /// The session shall end now, for a reason of ours.
    Kill(End),
}

/// What the worker shall do. Actions of one event are carried out in order.
#[derive(Debug)]
pub enum Action {
    /// Choose a backend that this session has not tried; answer by `Chosen` or `NoBackend`.
    Choose,
    /// Connect to the backend chosen last.
    Dial {
        /// Bytes for it, where there are any yet.
        first: Option<Parcel>,
    },
    /// Give up connecting; `Dialed` or `DialFailed` still comes.
    CancelDial,
    /// Pull from a side.
    Pull {
        /// From whom.
        side: Side,
        /// By which lane, if possible.
        lane: Lane,
    },
    /// Note that the backend's first bytes came so long after the last bytes of the client, or after
    /// its connection where it speaks first. Only where [`Limits::is_measured`].
    NoteAnswer {
        /// How long it took.
        took: Duration,
    },
    /// Push to a side.
    Push {
        /// To whom.
        side: Side,
        /// What.
        parcel: Parcel,
        /// FIN follows.
        last: bool,
    },
    /// Send FIN to a side.
    Shut {
        /// To whom.
        side: Side,
    },
    /// Close the socket of a side.
    Close {
        /// Whose.
        side: Side,
        /// By FIN or RST.
        manner: Manner,
    },
    /// Give back a parcel that has nowhere to go.
    Release(Parcel),
    /// Say how a side is; answer by `Looked`.
    Look {
        /// Which.
        side: Side,
    },
    /// Give both sockets what long connections need (keep-alive).
    Settle,
    /// Forget the session: nothing of it is in flight.
    Retire,
}
