//! Between a session and the poller: outcomes become events, actions become operations.

use super::*;

impl<P: Poller> Worker<P> {
    pub(super) fn complete(&mut self, Completion { token, outcome }: Completion) {
        if token.role() == role::ACCEPT {
            self.accept_completed(token.slot() as usize, outcome);
        } else if token.role() == role::TURN_AWAY {
            self.turned_away -= 1;
        } else {
            assert!(self.is_current(token), "a session is kept until its last completion");
            let event = self.event_of(token, outcome);
            if event.is_some() {
                self.drive(token.slot(), event, None);
            }
        }
    }

    pub(super) fn accept_completed(&mut self, at: usize, outcome: Outcome) {
        let tap = &mut self.taps[at];
        tap.accepting = match tap.accepting {
            Accepting::Closing => Accepting::Closed,
            Accepting::InFlight | Accepting::Idle | Accepting::Full => Accepting::Idle,
            Accepting::Closed => unreachable!("nothing is in flight on a closed listener"),
        };
        let listener = tap.listener;
        match outcome {
            Outcome::Accepted { socket, peer } => {
                if self.cut {
                    self.stats.accepted.add(1);
                    self.refuse(listener, socket, peer, End::Drain);
                } else if self.waiting.is_empty() && self.admission.enter() {
                    self.welcome(listener, socket, peer);
                    // The rest of the queue has its turn after the other completions.
                } else {
                    self.waiting.push_back((listener, socket, peer));
                }
            }
            Outcome::Failed(failure) => self.pause(failure),
            Outcome::Cancelled => {}
            other => unreachable!("an accept ended {other:?}"),
        }
    }

    pub(super) fn is_current(&self, token: Token) -> bool {
        self.sessions
            .get(token.slot() as usize)
            .is_some_and(|seat| seat.generation == token.generation())
    }

    /// What an outcome means to the session. `None`: nothing, because it closed the socket under
    /// the operation.
    pub(super) fn event_of(&mut self, token: Token, outcome: Outcome) -> Option<Event> {
        let (role, side) = role::split(token.role());
        Some(match (role, outcome) {
            (role::DIAL, Outcome::Connected { socket, first }) => {
                self.sessions[token.slot() as usize].sockets.set(Side::Backend, socket);
                self.measure_dial(token.slot(), None);
                Event::Dialed { first }
            }
            (role::DIAL, Outcome::NotConnected { failure, first }) => {
                self.measure_dial(token.slot(), failure);
                self.uncount(token.slot());
                Event::DialFailed { failure, first }
            }
            (_, Outcome::Cancelled) => return None,
            (role::PULL, Outcome::Pulled { parcel, last }) => Event::Pulled { side, parcel, last },
            (role::PULL, Outcome::Ended) => Event::Ended { side },
            (role::PULL, Outcome::Failed(failure)) => Event::PullFailed { side, failure },
            (role::PUSH, Outcome::Pushed(sent)) => Event::Pushed { side, sent },
            (role::PUSH, Outcome::Failed(failure)) => Event::PushFailed { side, failure },
            (role::SHUT, Outcome::Done) => Event::Shut { side, failure: None },
            (role::SHUT, Outcome::Failed(failure)) => Event::Shut { side, failure: Some(failure) },
            (role::CLOSE, Outcome::Done | Outcome::Failed(_)) => Event::Closed { side },
            (role, outcome) => unreachable!("operation {role} ended {outcome:?}"),
        })
    }

    /// Lets a session take in an event, or carries out an action put off, and all that follows at
    /// once from it.
    pub(super) fn drive(&mut self, slot: u32, event: Option<Event>, action: Option<Action>) {
        let mut actions = std::mem::take(&mut self.actions);
        actions.extend(action);
        if let Some(event) = event {
            self.handle(slot, event, &mut actions);
        }
        let mut moved = 0;
        let mut at = 0;
        let mut retired = false;
        while at < actions.len() {
            let action = std::mem::replace(&mut actions[at], Action::Settle);
            at += 1;
            if let Action::Pull { .. } = action
                && moved >= TURN_BYTES
            {
                let token = self.token(slot, role::NONE);
                self.later.push_back((token, action));
                continue;
            }
            retired |= matches!(action, Action::Retire);
            if let Some(event) = self.act(slot, action) {
                if let Event::Pulled { parcel, .. } = &event {
                    moved += u64::from(parcel.len().get());
                }
                self.handle(slot, event, &mut actions);
            }
        }
        actions.clear();
        self.actions = actions;
        if retired {
            self.retire(slot);
        } else {
            let seat = &self.sessions[slot as usize];
            let deadline = seat.session.deadline(&self.limits[usize::from(seat.listener)]);
            self.timers.set(slot, deadline);
        }
    }

    pub(super) fn handle(&mut self, slot: u32, event: Event, actions: &mut Vec<Action>) {
        let dice = self.dice();
        let seat = &mut self.sessions[slot as usize];
        let limits = &self.limits[usize::from(seat.listener)];
        seat.session.handle(Context { now: self.now, limits, dice }, event, actions);
    }

    pub(super) fn token(&self, slot: u32, role: u8) -> Token {
        Token::new(slot, self.sessions[slot as usize].generation, role)
    }

    /// Carries out one action; what is over at once comes back as the next event.
    pub(super) fn act(&mut self, slot: u32, action: Action) -> Option<Event> {
        let seat = &mut self.sessions[slot as usize];
        let (op, role) = match action {
            Action::Choose => return Some(self.choose(slot)),
            Action::Dial { first } => return self.dial(slot, first),
            Action::CancelDial => {
                let token = self.token(slot, role::DIAL);
                self.poller.cancel(token);
                return None;
            }
            Action::Pull { side, lane } => {
                let from = seat.sockets.get(side)?; // closed since: nobody waits for it
                (Op::Pull { from, lane }, role::of(role::PULL, side))
            }
            Action::Push { side, parcel, last } => {
                let Some(to) = seat.sockets.get(side) else {
                    self.poller.release(parcel);
                    return None;
                };
                (Op::Push { to, parcel, last }, role::of(role::PUSH, side))
            }
            Action::Shut { side } => {
                let socket = seat.sockets.get(side)?;
                (Op::ShutdownWrite { socket }, role::of(role::SHUT, side))
            }
            Action::Close { side, manner } => {
                let socket = seat.sockets.take(side).expect("a session closes what it has, once");
                (Op::Close { socket, manner }, role::of(role::CLOSE, side))
            }
            Action::Release(parcel) => {
                self.poller.release(parcel);
                return None;
            }
            Action::Look { side } => {
                let socket = seat.sockets.get(side)?;
                let condition = self.poller.condition(socket);
                return Some(Event::Looked { side, condition });
            }
            Action::Settle => {
                let sockets = [Side::Client, Side::Backend].map(|side| seat.sockets.get(side));
                for socket in sockets.into_iter().flatten() {
                    self.poller.settle(socket, &self.lifelines);
                }
                return None;
            }
            Action::NoteAnswer { took } => {
                if let Some((at, id)) = self.chosen(slot) {
                    self.pools[at].observe(id, took, self.now);
                }
                return None;
            }
            Action::Retire => return None,
        };
        let token = self.token(slot, role);
        let outcome = self.poller.submit(token, op)?;
        self.event_of(token, outcome)
    }

    pub(super) fn choose(&mut self, slot: u32) -> Event {
        self.uncount(slot);
        let (now, dice) = (self.now, self.dice());
        let seat = &mut self.sessions[slot as usize];
        let ask = Ask { client: seat.origin.ip(), now, dice };
        let pool = &mut self.pools[self.plan.listeners[usize::from(seat.listener)].pool];
        let mut again = false;
        let chosen = pool.choose(&seat.tried, ask).or_else(|| {
            again = !seat.tried.is_empty();
            seat.tried = Tried::default();
            pool.choose(&seat.tried, ask)
        });
        let Some(id) = chosen else {
            seat.chosen = None;
            return Event::NoBackend;
        };
        seat.tried.add(id);
        seat.chosen = Some(id);
        Event::Chosen { again }
    }

    pub(super) fn dial(&mut self, slot: u32, mut first: Option<Parcel>) -> Option<Event> {
        let token = self.token(slot, role::DIAL);
        let seat = &mut self.sessions[slot as usize];
        let at = self.plan.listeners[usize::from(seat.listener)].pool;
        let id = seat.chosen.expect("a session dials what was chosen");
        seat.dial(self.now);
        let candidate = self.pools[at].candidate(id);
        if !seat.counted {
            seat.counted = true;
            candidate.tally.enter();
        }
        let to = candidate.address.as_ref().expect("one without an address is not chosen");
        let pool = &self.plan.pools[at];
        let options = ConnectOptions { nodelay: self.plan.tcp.nodelay, fastopen: pool.fastopen };
        let sources = &pool.source_addresses;
        // With several local addresses, one whose ports are used up gives way to the next.
        let mut others = sources.len().saturating_sub(1);
        let outcome = loop {
            let from = source(sources, to, &mut self.source);
            match self.poller.submit(token, Op::Connect { to, from, options, first }) {
                Some(Outcome::NotConnected {
                    failure: Some(Failure::Shortage(Shortage::Ports)),
                    first: returned,
                }) if others > 0 => {
                    others -= 1;
                    first = returned;
                }
                outcome => break outcome?,
            }
        };
        if let Outcome::NotConnected { failure: Some(failure), .. } = outcome
            && failure.is_local()
        {
            self.pause(failure);
        }
        self.event_of(token, outcome)
    }

    /// How long a dial took, for whoever asks. One that was given up took that long at least; a
    /// refusal is quick, and must not make a backend look good: it counts as the longest wait.
    fn measure_dial(&self, slot: u32, failure: Option<Failure>) {
        let Some((at, id)) = self.chosen(slot) else { return };
        if !self.pools[at].is_measured() || failure.is_some_and(Failure::is_local) {
            return;
        }
        let took = match failure {
            None => self.sessions[slot as usize].since_dial(self.now),
            Some(_) => self.plan.pools[at].timeouts.connect,
        };
        self.pools[at].observe(id, took, self.now);
    }

    /// The pool of a session, and the backend chosen last.
    fn chosen(&self, slot: u32) -> Option<(usize, BackendId)> {
        let seat = &self.sessions[slot as usize];
        Some((self.plan.listeners[usize::from(seat.listener)].pool, seat.chosen?))
    }

    pub(super) fn uncount(&mut self, slot: u32) {
        let seat = &mut self.sessions[slot as usize];
        if std::mem::take(&mut seat.counted)
            && let Some(id) = seat.chosen
        {
            let at = self.plan.listeners[usize::from(seat.listener)].pool;
            self.pools[at].candidate(id).tally.leave();
        }
    }
}

/// The local address to connect from: each in turn, of those of the right family.
fn source(sources: &[IpAddr], to: &Address, turn: &mut usize) -> Option<IpAddr> {
    let wants_v4 = to.ip()?.is_ipv4();
    for _ in 0..sources.len() {
        *turn = (*turn + 1) % sources.len();
        if sources[*turn].is_ipv4() == wants_v4 {
            return Some(sources[*turn]);
        }
    }
    None
}
