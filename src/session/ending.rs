//! Closing both sides, and being done.

use super::*;

impl Session {
    /// No backend, or no client any more: nothing was relayed, so RST is the honest answer.
    pub(super) fn give_up(&mut self, end: End, actions: &mut Vec<Action>) {
        self.end.get_or_insert(end);
        self.close_both(Manner::Reset, actions);
    }

    pub(super) fn kill(&mut self, cx: Context<'_>, end: End, actions: &mut Vec<Action>) {
        let relaying = match self.phase {
            Phase::Closing | Phase::Retired => return,
            Phase::Relaying(_) => true,
            Phase::Reaching { .. } | Phase::Settling(_) => false,
        };
        // FIN is for a connection that is whole: both sides may speak, and neither has for a while.
        let whole = relaying
            && self.fault().is_none()
            && !self.up.is_owed()
            && !self.down.is_owed()
            && !self.is_half_closed()
            && cx.now - self.active >= QUIET;
        let manner = if whole { Manner::Graceful } else { Manner::Reset };
        self.end.get_or_insert(end);
        self.close_both(manner, actions);
    }

    pub(super) fn cancel_dial(&mut self, actions: &mut Vec<Action>) {
        if self.backend == Socket::Dialing {
            self.backend = Socket::Cancelling;
            actions.push(Action::CancelDial);
        }
    }

    pub(super) fn close_both(&mut self, manner: Manner, actions: &mut Vec<Action>) {
        if let Phase::Reaching { first, .. } = &mut self.phase {
            actions.extend(first.take().map(Action::Release));
        }
        self.phase = Phase::Closing;
        self.close(Side::Client, manner, actions);
        self.close(Side::Backend, manner, actions);
        self.cancel_dial(actions);
        self.retire_when_over(actions);
    }

    pub(super) fn close(&mut self, side: Side, manner: Manner, actions: &mut Vec<Action>) {
        let socket = match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        };
        if *socket == Socket::Open {
            *socket = Socket::Closing;
            actions.push(Action::Close { side, manner });
        }
    }

    pub(super) fn closed(&mut self, side: Side, actions: &mut Vec<Action>) {
        match side {
            Side::Client => self.client = Socket::Absent,
            Side::Backend => self.backend = Socket::Absent,
        }
        if matches!(self.phase, Phase::Reaching { step: Step::Redialing, .. }) {
            self.choose(actions);
        }
        self.retire_when_over(actions);
    }

    pub(super) fn retire_when_over(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Closing
            && self.client == Socket::Absent
            && self.backend == Socket::Absent
        {
            self.phase = Phase::Retired;
            actions.push(Action::Retire);
        }
    }
}
