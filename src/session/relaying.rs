//! Passing bytes and FIN on, both ways.

use super::breaking::{end_by, manner_of};
use super::*;

impl Session {
    pub(super) fn pulled(
        &mut self,
        cx: Context<'_>,
        side: Side,
        parcel: Parcel,
        last: bool,
        actions: &mut Vec<Action>,
    ) {
        let policy = cx.limits.policy;
        if side == Side::Backend && self.answered.is_none() {
            self.answered = Some((cx.now - self.started).into());
            if cx.limits.is_measured {
                actions.push(Action::NoteAnswer { took: cx.now - self.active });
            }
        }
        let flow = self.flow_from(side);
        if flow.state != State::Pulling {
            actions.push(Action::Release(parcel));
            self.discard_more(side, last, actions);
            return;
        }
        flow.choice.observe(policy, parcel.len());
        flow.carrying = parcel.lane();
        match &mut self.phase {
            Phase::Relaying(_) => {
                self.flow_from(side).state = State::Pushing { last };
                self.active = cx.now;
                actions.push(Action::Push { side: side.opposite(), parcel, last });
            }
            Phase::Reaching { first, .. } => {
                *first = Some(parcel);
                self.flow_from(side).state = State::Holding { last };
            }
            Phase::Settling(_) | Phase::Closing | Phase::Retired => {
                actions.push(Action::Release(parcel));
            }
        }
    }

    /// A settling side that had its FIN may go on sending; what it sends is read, so that the
    /// kernel does not answer it with RST, and thrown away.
    pub(super) fn discard_more(&mut self, side: Side, last: bool, actions: &mut Vec<Action>) {
        match &self.phase {
            Phase::Settling(settling)
                if settling.side == side && settling.manner == Manner::Graceful => {}
            Phase::Settling(_)
            | Phase::Reaching { .. }
            | Phase::Relaying(_)
            | Phase::Closing
            | Phase::Retired => return,
        }
        if last {
            self.close(side, Manner::Graceful, actions);
            self.phase = Phase::Closing;
        } else {
            actions.push(Action::Pull { side, lane: Lane::Buffer });
        }
    }

    pub(super) fn ended(&mut self, cx: Context<'_>, side: Side, actions: &mut Vec<Action>) {
        let state = self.flow_from(side).state;
        if state != State::Pulling {
            self.discard_more(side, true, actions);
            return;
        }
        match &self.phase {
            Phase::Relaying(relaying) => {
                self.active = cx.now;
                match relaying.fault {
                    // It had stopped taking bytes before; now everything it sent is with the
                    // other side's kernel.
                    Some(fault) if fault.side == side => self.settle(cx, fault, actions),
                    Some(_) | None => self.source_finished(side, actions),
                }
            }
            Phase::Reaching { .. } => self.flow_from(side).state = State::Ended,
            Phase::Settling(_) | Phase::Closing | Phase::Retired => {}
        }
    }

    /// `side` has finished and everything before its FIN was pushed.
    pub(super) fn source_finished(&mut self, side: Side, actions: &mut Vec<Action>) {
        self.flow_from(side).state = State::Shutting;
        match self.flow_from(side.opposite()).state {
            // Both directions are over: closing says FIN as well as a shutdown would.
            State::Shutting | State::Done => {
                self.end.get_or_insert(End::Ok);
                self.close_both(Manner::Graceful, actions);
            }
            State::Idle
            | State::Pulling
            | State::Holding { .. }
            | State::Ended
            | State::Pushing { .. }
            | State::Cut => {
                self.half_closed = true;
                actions.push(Action::Shut { side: side.opposite() });
            }
        }
    }

    pub(super) fn pushed(
        &mut self,
        cx: Context<'_>,
        side: Side,
        sent: Sent,
        actions: &mut Vec<Action>,
    ) {
        let source = side.opposite();
        let State::Pushing { last } = self.flow_from(source).state else {
            actions.extend(sent.rest.map(Action::Release));
            return;
        };
        let bytes = u64::from(sent.bytes.get());
        match source {
            Side::Client => self.bytes.up += bytes,
            Side::Backend => self.bytes.down += bytes,
        }
        if self.flow_from(source).carrying == Lane::Pipe {
            self.bytes.spliced += bytes;
        }
        if let Phase::Relaying(relaying) = &mut self.phase {
            relaying.spoke = source;
            relaying.unverified = true;
        }
        self.active = cx.now;
        match sent.rest {
            Some(parcel) => actions.push(Action::Push { side, parcel, last }),
            None if last => match self.fault() {
                Some(fault) if fault.side == source => self.settle(cx, fault, actions),
                Some(_) | None => self.source_finished(source, actions),
            },
            None => self.pull(source, actions),
        }
    }

    pub(super) fn shut(
        &mut self,
        cx: Context<'_>,
        side: Side,
        failure: Option<Failure>,
        actions: &mut Vec<Action>,
    ) {
        let flow = self.flow_from(side.opposite());
        if flow.state == State::Shutting {
            flow.state = State::Done;
        }
        // It can only fail on a connection that is already over. Where bytes may still come from
        // there, the pull says how it ended, after the last of them.
        if let (Some(failure), Phase::Relaying(Relaying { fault: None, .. })) =
            (failure, &self.phase)
        {
            self.end.get_or_insert(end_by(side, failure));
            if self.flow_from(side).is_over() {
                self.settle(cx, Fault { side, manner: Manner::Graceful }, actions);
            } else {
                self.falter(cx, Fault { side, manner: manner_of(failure) });
            }
        }
    }
}
