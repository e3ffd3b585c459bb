//! Reaching a backend: choosing, connecting, trying again.

use super::*;

impl Session {
    pub(super) fn choose(&mut self, actions: &mut Vec<Action>) {
        if let Phase::Reaching { step, until, .. } = &mut self.phase {
            (*step, *until) = (Step::Choosing, Moment::NEVER);
            actions.push(Action::Choose);
        }
    }

    pub(super) fn chosen(&mut self, cx: Context<'_>, again: bool, actions: &mut Vec<Action>) {
        if !self.is_choosing() {
            return; // the client left while we were asking
        }
        if again {
            let pause = cx.limits.backoff.pause(self.attempts.saturating_sub(1), cx.dice);
            self.wait(cx, pause, Next::Dial);
        } else {
            self.dial(cx, actions);
        }
    }

    pub(super) fn dial(&mut self, cx: Context<'_>, actions: &mut Vec<Action>) {
        let over = (cx.now + cx.limits.connect).min(self.patience_ends(cx.limits));
        let first = match &mut self.phase {
            Phase::Reaching { step, until, first, .. } => {
                (*step, *until) = (Step::Dialing, over);
                first.take()
            }
            Phase::Relaying(_) | Phase::Settling(_) | Phase::Closing | Phase::Retired => return,
        };
        actions.push(Action::Dial { first });
        self.attempts = self.attempts.saturating_add(1);
        self.backend = Socket::Dialing;
    }

    /// Lets some time pass, unless all attempts together have lasted too long by then.
    fn wait(&mut self, cx: Context<'_>, pause: Duration, next: Next) {
        let over = (cx.now + pause).min(self.patience_ends(cx.limits));
        if let Phase::Reaching { step, until, .. } = &mut self.phase {
            (*step, *until) = (Step::Waiting(next), over);
        }
    }

    /// When all attempts together have lasted too long.
    pub(super) fn patience_ends(&self, limits: &Limits) -> Moment {
        self.active + limits.connect_total
    }

    pub(super) fn is_choosing(&self) -> bool {
        matches!(self.phase, Phase::Reaching { step: Step::Choosing, .. })
    }

    /// Whether the client's first bytes wait for a dial. Nothing is pulled from it then, so nothing
    /// would say that it is gone.
    pub(super) fn is_dialing_with_bytes(&self) -> bool {
        self.up.is_owed() && matches!(self.phase, Phase::Reaching { step: Step::Dialing, .. })
    }

    pub(super) fn dialed(
        &mut self,
        cx: Context<'_>,
        first: Option<Sent>,
        actions: &mut Vec<Action>,
    ) {
        self.backend = Socket::Open;
        let held = match &mut self.phase {
            Phase::Reaching { step: Step::Dialing, first, .. } => first.take(),
            Phase::Reaching { .. }
            | Phase::Relaying(_)
            | Phase::Settling(_)
            | Phase::Closing
            | Phase::Retired => {
                // The cancel came too late.
                let sent = first.is_some();
                actions.extend(first.and_then(|sent| sent.rest).map(Action::Release));
                if sent && self.end == Some(End::ClientAbort) {
                    // It hears of the client's RST after the bytes that came before it.
                    self.linger(cx, Side::Backend, Manner::Reset, actions);
                } else {
                    self.close(Side::Backend, Manner::Reset, actions);
                }
                return;
            }
        };
        self.phase = Phase::Relaying(Relaying::new(cx.now, (cx.dice >> 16) as u16));
        self.connected = Some((cx.now - self.started).into());
        self.active = cx.now;
        match self.up.state {
            State::Holding { last } => {
                self.up.state = State::Pushing { last };
                match (first, held) {
                    (Some(sent), _) => self.pushed(cx, Side::Backend, sent, actions),
                    (None, Some(parcel)) => {
                        actions.push(Action::Push { side: Side::Backend, parcel, last });
                    }
                    (None, None) => unreachable!("a held parcel is with us or with the dial"),
                }
            }
            State::Ended => self.source_finished(Side::Client, actions),
            State::Idle
            | State::Pulling
            | State::Pushing { .. }
            | State::Shutting
            | State::Done
            | State::Cut => {}
        }
        if matches!(self.phase, Phase::Relaying(_)) && self.down.state == State::Idle {
            self.pull(Side::Backend, actions);
        }
    }

    pub(super) fn dial_failed(
        &mut self,
        cx: Context<'_>,
        failure: Option<Failure>,
        first: Option<Parcel>,
        actions: &mut Vec<Action>,
    ) {
        self.backend = Socket::Absent;
        match &mut self.phase {
            Phase::Reaching { step: Step::Dialing, first: held, .. } => {
                *held = held.take().or(first);
                // Only our own timeout cancels a dial in this phase.
                self.try_again(cx, failure.unwrap_or(Failure::TimedOut), actions);
            }
            Phase::Reaching { .. }
            | Phase::Relaying(_)
            | Phase::Settling(_)
            | Phase::Closing
            | Phase::Retired => {
                actions.extend(first.map(Action::Release));
                self.retire_when_over(actions);
            }
        }
    }

    fn try_again(&mut self, cx: Context<'_>, failure: Failure, actions: &mut Vec<Action>) {
        let cause = match failure {
            Failure::TimedOut => End::ConnectTimeout,
            Failure::Shortage(_) => End::LocalResource,
            Failure::Refused
            | Failure::Reset
            | Failure::Closed
            | Failure::Unreachable
            | Failure::Busy
            | Failure::Loop
            | Failure::Other(_) => End::BackendRefused,
        };
        if let Phase::Reaching { refusal, .. } = &mut self.phase {
            *refusal = cause;
        }
        let is_local = failure.is_local();
        if cx.now >= self.patience_ends(cx.limits)
            || !is_local && self.attempts >= cx.limits.attempts
        {
            self.give_up(cause, actions);
        } else if is_local {
            // Not the backend's fault, so it costs no attempt; the next one may find the
            // descriptor or the port that another session gives back.
            self.attempts = self.attempts.saturating_sub(1);
            self.wait(cx, SHORTAGE_PAUSE, Next::Choose);
        } else {
            self.choose(actions);
        }
    }
}
