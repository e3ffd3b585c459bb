//! Reaching a backend: choosing, connecting, trying again.

use super::*;

impl Session {
    pub(super) fn chosen(&mut self, cx: Context<'_>, again: bool, actions: &mut Vec<Action>) {
        if self.phase != Phase::Choosing {
            return; // the client left while we were asking
        }
        // `active` stands still from the accept, or from the first dial, until bytes flow.
        let give_up = self.active + cx.limits.connect_total;
        if again {
            let pause = cx.limits.backoff.pause(self.attempts.saturating_sub(1), cx.dice);
            let until = (cx.now + pause).min(give_up);
            self.phase = Phase::Waiting { until, give_up, next: Next::Dial };
        } else {
            self.dial(cx, give_up, actions);
        }
    }

    pub(super) fn dial(&mut self, cx: Context<'_>, give_up: Moment, actions: &mut Vec<Action>) {
        self.attempts = self.attempts.saturating_add(1);
        self.backend = Socket::Dialing;
        self.cancelled = false;
        self.phase = Phase::Dialing { until: (cx.now + cx.limits.connect).min(give_up), give_up };
        actions.push(Action::Dial { first: self.first.take() });
    }

    pub(super) fn dialed(
        &mut self,
        cx: Context<'_>,
        first: Option<Sent>,
        actions: &mut Vec<Action>,
    ) {
        self.backend = Socket::Open;
        if !matches!(self.phase, Phase::Dialing { .. }) {
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
        self.phase = Phase::Relaying;
        self.dialed = cx.now;
        self.active = cx.now;
        match self.up.state {
            State::Holding { last } => {
                self.up.state = State::Pushing { last };
                match (first, self.first.take()) {
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
        if self.phase == Phase::Relaying && self.down.state == State::Idle {
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
        let Phase::Dialing { give_up, .. } = self.phase else {
            actions.extend(first.map(Action::Release));
            self.retire_when_over(actions);
            return;
        };
        self.first = self.first.take().or(first);
        // Only our own timeout cancels a dial in this phase.
        let failure = failure.unwrap_or(Failure::TimedOut);
        self.try_again(cx, failure, give_up, actions);
    }

    pub(super) fn try_again(
        &mut self,
        cx: Context<'_>,
        failure: Failure,
        give_up: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.refusal = match failure {
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
        if cx.now >= give_up {
            self.give_up(self.refusal, actions);
        } else if failure.is_local() {
            // Not the backend's fault, so it costs no attempt; the next one may find the
            // descriptor or the port that another session gives back.
            self.attempts = self.attempts.saturating_sub(1);
            let until = (cx.now + SHORTAGE_PAUSE).min(give_up);
            self.phase = Phase::Waiting { until, give_up, next: Next::Choose };
        } else if self.attempts >= cx.limits.attempts {
            self.give_up(self.refusal, actions);
        } else {
            self.phase = Phase::Choosing;
            actions.push(Action::Choose);
        }
    }
}
