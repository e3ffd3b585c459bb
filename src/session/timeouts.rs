//! What happens when nothing happens.

use super::breaking::end_by;
use super::*;

impl Session {
    pub(super) fn deadline_passed(&mut self, cx: Context<'_>, actions: &mut Vec<Action>) {
        match &mut self.phase {
            &mut Phase::Waiting { until, give_up, next } => {
                if cx.now < until {
                    return;
                }
                match next {
                    _ if cx.now >= give_up => self.give_up(self.refusal, actions),
                    Next::Dial => self.dial(cx, give_up, actions),
                    Next::Choose => {
                        self.phase = Phase::Choosing;
                        actions.push(Action::Choose);
                    }
                }
            }
            Phase::Dialing { until, .. } => {
                if cx.now >= *until {
                    *until = Moment::NEVER;
                    self.cancel_dial(actions);
                } else if self.up.is_owed() && cx.now >= self.checked + STALL_CHECK {
                    // With its first bytes in hand nothing is pulled from the client.
                    self.checked = cx.now;
                    actions.push(Action::Look { side: Side::Client });
                }
            }
            Phase::Relaying => self.relaying_too_long(cx, actions),
            Phase::Settling(settling) => {
                if cx.now >= settling.look_at.min(settling.until) {
                    actions.push(Action::Look { side: settling.side });
                }
            }
            Phase::Choosing | Phase::Redialing | Phase::Closing | Phase::Retired => {}
        }
    }

    pub(super) fn relaying_too_long(&mut self, cx: Context<'_>, actions: &mut Vec<Action>) {
        if cx.now >= self.expires {
            self.kill(cx, End::Lifetime, actions);
            return;
        }
        if cx.now >= self.silence_ends(cx.limits) {
            self.kill(cx, self.who_is_silent(), actions);
            return;
        }
        if !self.settled && cx.now >= self.dialed + SETTLE_AGE {
            self.settled = true;
            actions.push(Action::Settle);
        }
        if let Some(side) = self.stalled_source()
            && cx.now >= self.checked + STALL_CHECK
        {
            self.checked = cx.now;
            actions.push(Action::Look { side });
        }
        if let (true, Some(timeout)) = (self.unverified, cx.limits.user_timeout)
            && cx.now >= self.verified + timeout / VERIFY_SHARE
        {
            self.verified = cx.now;
            self.unverified = false;
            actions.push(Action::Look { side: Side::Client });
            actions.push(Action::Look { side: Side::Backend });
        }
    }

    /// When the present silence has lasted too long.
    pub(super) fn silence_ends(&self, limits: &Limits) -> Moment {
        if self.fault.is_some() {
            return self.active + GRACE;
        }
        let limit = if self.is_half_closed() { limits.half_close } else { limits.idle };
        limit.map_or(Moment::NEVER, |limit| self.active + limit)
    }

    /// Who should have done something: a side that does not take what it is owed, one that has not
    /// finished while the other has, or one that has not answered the last bytes.
    pub(super) fn who_is_silent(&self) -> End {
        let silent = match (self.up.is_owed(), self.down.is_owed()) {
            (_, true) => Side::Client,
            (true, false) => Side::Backend,
            (false, false) if self.up.is_over() => Side::Backend,
            (false, false) if self.down.is_over() => Side::Client,
            (false, false) => self.spoke.opposite(),
        };
        end_by(silent, Failure::TimedOut)
    }

    /// The source of a direction whose target takes nothing: no operation on it is in flight that
    /// would tell of its end.
    pub(super) fn stalled_source(&self) -> Option<Side> {
        match (self.up.is_owed(), self.down.is_owed()) {
            (true, false) => Some(Side::Client),
            (false, true) => Some(Side::Backend),
            // With neither, both are pulled from; with both, both are pushed to.
            (false, false) | (true, true) => None,
        }
    }
}
