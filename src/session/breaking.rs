//! A side broke: the other one gets what it is owed, and then learns of it.

use super::*;

impl Session {
    pub(super) fn pull_failed(
        &mut self,
        cx: Context<'_>,
        side: Side,
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        let had = match &self.phase {
            Phase::Relaying(relaying) => relaying.fault,
            Phase::Reaching { .. } => {
                // Only the client is pulled from before there is a backend.
                let end = if failure.is_local() { End::LocalResource } else { End::ClientAbort };
                self.give_up(end, actions);
                return;
            }
            Phase::Settling(settling) if settling.side == side => {
                self.close(side, Manner::Graceful, actions);
                self.phase = Phase::Closing;
                return;
            }
            Phase::Settling(_) | Phase::Closing | Phase::Retired => return,
        };
        if had.is_none() && self.may_redial(cx, side, failure) {
            // It is a new connection to reach, with the time and the care that one has.
            self.phase = Phase::reaching(cx.now, Step::Redialing);
            self.active = cx.now;
            self.down.state = State::Idle;
            self.close(Side::Backend, Manner::Graceful, actions);
            return;
        }
        self.end.get_or_insert(end_by(side, failure));
        let fault = had.unwrap_or(Fault { side, manner: manner_of(failure) });
        self.settle(cx, Fault { side, ..fault }, actions);
    }

    /// A backend that accepted and reset before it took or gave a byte is as good as one that
    /// refused.
    pub(super) fn may_redial(&self, cx: Context<'_>, side: Side, failure: Failure) -> bool {
        side == Side::Backend
            && failure == Failure::Reset
            && self.bytes.up == 0
            && self.bytes.down == 0
            && self.up.state == State::Pulling
            && self.attempts < cx.limits.attempts
    }

    pub(super) fn push_failed(
        &mut self,
        cx: Context<'_>,
        side: Side,
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        self.flow_from(side.opposite()).state = State::Cut;
        let had = match &self.phase {
            Phase::Relaying(relaying) => relaying.fault,
            Phase::Reaching { .. } | Phase::Settling(_) | Phase::Closing | Phase::Retired => return,
        };
        if let Some(fault) = had {
            if fault.side != side {
                // Both are broken now; nobody is owed anything.
                self.close_both(Manner::Reset, actions);
            }
            return;
        }
        self.end.get_or_insert(end_by(side, failure));
        let fault = Fault { side, manner: manner_of(failure) };
        match self.flow_from(side).state {
            // It still has bytes for the other side, in its kernel queue or on the way: they are
            // delivered first. The next pull that ends or fails comes after the last of them.
            State::Pulling | State::Pushing { .. } => self.falter(cx, fault),
            // It had finished, and refuses what still comes: the other side gets all of it, and
            // FIN.
            State::Shutting | State::Done => {
                self.settle(cx, Fault { side, manner: Manner::Graceful }, actions);
            }
            State::Idle | State::Holding { .. } | State::Ended | State::Cut => {
                self.settle(cx, fault, actions);
            }
        }
    }

    /// `fault.side` takes nothing any more; what it sent before is passed on for as long as it
    /// moves.
    pub(super) fn falter(&mut self, cx: Context<'_>, fault: Fault) {
        if let Phase::Relaying(relaying) = &mut self.phase {
            relaying.fault = Some(fault);
        }
        self.active = cx.now;
    }

    /// `fault.side` is gone; the other side gets what it is owed, then FIN or RST.
    pub(super) fn settle(&mut self, cx: Context<'_>, fault: Fault, actions: &mut Vec<Action>) {
        let side = fault.side.opposite();
        let gone = self.flow_from(fault.side);
        let fin_owed = !gone.is_over();
        gone.state = if fin_owed { State::Cut } else { State::Done };
        let left = self.flow_from(side);
        let had = left.state;
        left.state = State::Cut;
        self.close(fault.side, fault.manner, actions);
        if fault.manner == Manner::Graceful {
            if fin_owed {
                actions.push(Action::Shut { side });
            }
            match had {
                // It has finished as well: closing its socket says FIN, and cannot say RST.
                State::Ended | State::Shutting | State::Done => {
                    self.close(side, Manner::Graceful, actions);
                    self.phase = Phase::Closing;
                    return;
                }
                // A pull is in flight; what it brings is thrown away, see `discard_more`.
                State::Pulling => {}
                State::Idle | State::Holding { .. } | State::Pushing { .. } | State::Cut => {
                    actions.push(Action::Pull { side, lane: Lane::Buffer });
                }
            }
        }
        self.linger(cx, side, fault.manner, actions);
    }

    /// Closes a side as soon as it has everything.
    pub(super) fn linger(
        &mut self,
        cx: Context<'_>,
        side: Side,
        manner: Manner,
        actions: &mut Vec<Action>,
    ) {
        self.phase = Phase::Settling(Settling {
            side,
            manner,
            unacknowledged: u32::MAX,
            until: cx.now + GRACE,
            look_at: cx.now,
            looks: 0,
        });
        actions.push(Action::Look { side });
    }

    pub(super) fn looked(
        &mut self,
        cx: Context<'_>,
        side: Side,
        condition: Condition,
        actions: &mut Vec<Action>,
    ) {
        let Condition { broken, unacknowledged, mute } = condition;
        match &mut self.phase {
            Phase::Settling(settling) if settling.side == side => {
                let left = unacknowledged.unwrap_or(0);
                if left < settling.unacknowledged {
                    settling.unacknowledged = left;
                    settling.until = cx.now + GRACE;
                }
                let pause = LOOK_PAUSE.0.saturating_mul(1 << settling.looks.min(16));
                settling.look_at = cx.now + pause.min(LOOK_PAUSE.1);
                settling.looks = settling.looks.saturating_add(1);
                // Where the kernel does not say what is acknowledged, RST might destroy what is
                // owed, and FIN cannot.
                let manner = match (settling.manner, unacknowledged) {
                    (Manner::Reset, Some(_)) => Manner::Reset,
                    (Manner::Reset, None) | (Manner::Graceful, _) => Manner::Graceful,
                };
                if broken.is_some() || left == 0 || cx.now >= settling.until {
                    self.close(side, manner, actions);
                    self.phase = Phase::Closing;
                }
            }
            Phase::Relaying(relaying) => match (broken, relaying.fault) {
                (Some(failure), None) => {
                    self.end.get_or_insert(end_by(side, failure));
                    self.falter(cx, Fault { side, manner: manner_of(failure) });
                }
                (None, None) => self.listen_for_life(cx, side, unacknowledged, mute, actions),
                (_, Some(_)) => {}
            },
            Phase::Reaching { .. } => {
                if broken.is_some() {
                    self.give_up(End::ClientAbort, actions);
                }
            }
            Phase::Settling(_) | Phase::Closing | Phase::Retired => {}
        }
    }

    /// A side that leaves bytes unacknowledged for the user timeout has vanished.
    ///
    /// The kernel's own TCP_USER_TIMEOUT does not do, because it also ends connections whose peer
    /// answers every window probe and only does not read (net/ipv4/tcp_timer.c, tcp_probe_timer).
    fn listen_for_life(
        &mut self,
        cx: Context<'_>,
        side: Side,
        unacknowledged: Option<u32>,
        mute: bool,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Relaying(relaying) = &mut self.phase else { return };
        relaying.unverified |= unacknowledged.is_some_and(|left| left > 0);
        let Some(timeout) = cx.limits.user_timeout else { return };
        let since = &mut relaying.mute_since[side as usize];
        *since = if mute { Beat::from(cx.now).min(*since) } else { Beat::NEVER };
        if cx.now < *since + timeout {
            return;
        }
        self.end.get_or_insert(end_by(side, Failure::TimedOut));
        let fault = Fault { side, manner: Manner::Reset };
        if self.flow_from(side).is_owed() {
            // What it sent before is still on its way to the other.
            self.falter(cx, fault);
        } else {
            self.settle(cx, fault, actions);
        }
    }
}

/// The end that a failure on one side means while data flows.
pub(super) fn end_by(side: Side, failure: Failure) -> End {
    match (side, failure) {
        (_, Failure::Shortage(_)) => End::LocalResource,
        (Side::Client, Failure::TimedOut) => End::ClientIdle,
        (Side::Backend, Failure::TimedOut) => End::BackendIdle,
        (Side::Client, _) => End::ClientReset,
        (Side::Backend, _) => End::BackendReset,
    }
}

/// How the other side shall learn of a failure: a side that had finished before it broke did not
/// break off anything.
pub(super) fn manner_of(failure: Failure) -> Manner {
    match failure {
        Failure::Closed => Manner::Graceful,
        Failure::Refused
        | Failure::Reset
        | Failure::TimedOut
        | Failure::Unreachable
        | Failure::Busy
        | Failure::Shortage(_)
        | Failure::Loop
        | Failure::Other(_) => Manner::Reset,
    }
}
