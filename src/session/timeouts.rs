//! What happens when nothing happens.

use super::breaking::end_by;
use super::*;

impl Session {
    pub(super) fn deadline_passed(&mut self, cx: Context<'_>, actions: &mut Vec<Action>) {
        match &self.phase {
            Phase::Reaching { .. } => self.reaching_too_long(cx, actions),
            Phase::Relaying(_) => self.relaying_too_long(cx, actions),
            Phase::Settling(settling) => {
                if cx.now >= settling.look_at.min(settling.until) {
                    actions.push(Action::Look { side: settling.side });
                }
            }
            Phase::Closing | Phase::Retired => {}
        }
    }

    fn reaching_too_long(&mut self, cx: Context<'_>, actions: &mut Vec<Action>) {
        let too_late = cx.now >= self.patience_ends(cx.limits);
        let with_bytes = self.is_dialing_with_bytes();
        let Phase::Reaching { step, until, checked, refusal, .. } = &mut self.phase else { return };
        if cx.now < *until {
            if with_bytes && cx.now >= *checked + STALL_CHECK {
                *checked = cx.now.into();
                actions.push(Action::Look { side: Side::Client });
            }
            return;
        }
        match step {
            Step::Waiting(_) if too_late => {
                let refusal = *refusal;
                self.give_up(refusal, actions);
            }
            Step::Waiting(Next::Dial) => self.dial(cx, actions),
            Step::Waiting(Next::Choose) => self.choose(actions),
            Step::Dialing => {
                *until = Moment::NEVER;
                self.cancel_dial(actions);
            }
            Step::Choosing | Step::Redialing => {} // these take as long as they take
        }
    }

    fn relaying_too_long(&mut self, cx: Context<'_>, actions: &mut Vec<Action>) {
        let Phase::Relaying(relaying) = &self.phase else { return };
        if cx.now >= self.life_ends(relaying, cx.limits) {
            self.kill(cx, End::Lifetime, actions);
            return;
        }
        if cx.now >= self.silence_ends(relaying, cx.limits) {
            self.kill(cx, self.who_is_silent(relaying), actions);
            return;
        }
        let stalled = self.stalled_source();
        let Phase::Relaying(relaying) = &mut self.phase else { return };
        if !relaying.settled && cx.now >= relaying.since + SETTLE_AGE {
            relaying.settled = true;
            actions.push(Action::Settle);
        }
        if let Some(side) = stalled
            && cx.now >= relaying.checked + STALL_CHECK
        {
            relaying.checked = cx.now.into();
            actions.push(Action::Look { side });
        }
        if let (true, Some(timeout)) = (relaying.unverified, cx.limits.user_timeout)
            && cx.now >= relaying.verified + timeout / VERIFY_SHARE
        {
            relaying.verified = cx.now.into();
            relaying.unverified = false;
            actions.push(Action::Look { side: Side::Client });
            actions.push(Action::Look { side: Side::Backend });
        }
    }

    /// When it has lived as long as it may.
    pub(super) fn life_ends(&self, relaying: &Relaying, limits: &Limits) -> Moment {
        limits.lifetime.map_or(Moment::NEVER, |life| self.started + life.of(relaying.haste))
    }

    /// When the present silence has lasted too long.
    pub(super) fn silence_ends(&self, relaying: &Relaying, limits: &Limits) -> Moment {
        if relaying.fault.is_some() {
            return self.active + GRACE;
        }
        let limit = if self.is_half_closed() { limits.half_close } else { limits.idle };
        limit.map_or(Moment::NEVER, |limit| self.active + limit)
    }

    /// Who should have done something: a side that does not take what it is owed, one that has not
    /// finished while the other has, or one that has not answered the last bytes.
    pub(super) fn who_is_silent(&self, relaying: &Relaying) -> End {
        let silent = match (self.up.is_owed(), self.down.is_owed()) {
            (_, true) => Side::Client,
            (true, false) => Side::Backend,
            (false, false) if self.up.is_over() => Side::Backend,
            (false, false) if self.down.is_over() => Side::Client,
            (false, false) => relaying.spoke.opposite(),
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
