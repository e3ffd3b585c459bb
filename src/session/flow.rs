//! One direction of a session: bytes from a source to a target, then the source's FIN.

use super::lane::{LaneChoice, Policy};
use crate::transfer::Lane;

/// Where one direction stands.
///
/// ```text
///            ┌────────────── pushed, more to come ─────────────┐
///            ▼                                                 │
/// Idle ──▶ Pulling ──pulled──▶ Holding ──backend there──▶ Pushing
///            │                 (only while dialing)            │
///            │ ended                                 pushed, the last
///            ▼                                                 │
///          Ended ──backend there──▶ Shutting ◀─────────────────┘
///      (only while dialing)            │ shut
///                                      ▼
///   any ── a side broke ──▶ Cut      Done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was asked for yet.
    Idle,
    /// A pull from the source is in flight.
    Pulling,
    /// The first parcel is in hand, or with the connect in flight.
    Holding {
        /// The source finished with it.
        last: bool,
    },
    /// The source finished before there was a target.
    Ended,
    /// A push to the target is in flight.
    Pushing {
        /// The source finished with it.
        last: bool,
    },
    /// The source's FIN is being passed on.
    Shutting,
    /// Everything was passed on, FIN included.
    Done,
    /// The target is gone, or the source is: what still comes is thrown away.
    Cut,
}

/// One direction of a session.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Where it stands.
    pub state: State,
    /// How its bytes should travel.
    pub choice: LaneChoice,
    /// How the bytes in hand do travel.
    pub carrying: Lane,
}

impl Flow {
    /// A direction in which nothing happened yet.
    pub fn new(policy: Policy) -> Flow {
        Flow { state: State::Idle, choice: LaneChoice::new(policy), carrying: Lane::Buffer }
    }

    /// Whether bytes are on their way that the target has not taken.
    pub fn is_owed(&self) -> bool {
        matches!(self.state, State::Pushing { .. } | State::Holding { .. })
    }

    /// Whether the source finished, and the FIN went on or is about to.
    pub fn is_over(&self) -> bool {
        match self.state {
            State::Shutting | State::Done => true,
            State::Idle
            | State::Pulling
            | State::Holding { .. }
            | State::Ended
            | State::Pushing { .. }
            | State::Cut => false,
        }
    }
}
