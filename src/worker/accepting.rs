//! Clients in, as long as there is room for them.

use super::*;

impl<P: Poller> Worker<P> {
    pub(super) fn accept_more(&mut self) {
        while !self.waiting.is_empty() {
            if !self.admission.enter() {
                return;
            }
            if let Some((listener, socket, peer)) = self.waiting.pop_front() {
                self.welcome(listener, socket, peer);
            }
        }
        if self.now < self.paused_until {
            return;
        }
        for at in 0..self.taps.len() {
            match self.taps[at].accepting {
                Accepting::Idle | Accepting::Full => {
                    self.accept_from(at, self.plan.limits.accepts_per_wake);
                }
                Accepting::InFlight | Accepting::Closing | Accepting::Closed => {}
            }
        }
    }

    pub(super) fn accept_from(&mut self, at: usize, budget: u32) {
        for _ in 0..budget.max(1) {
            // A place first, the connection then: what finds no place stays in the kernel's queue.
            let listener = self.taps[at].listener;
            if !self.admission.enter() {
                self.taps[at].accepting = Accepting::Full;
                return;
            }
            let token = Token::new(at as u32, 0, role::ACCEPT);
            let room = self.admission.room();
            let accept = Op::Accept { listener: self.taps[at].id, room };
            let outcome = self.poller.submit(token, accept);
            match outcome {
                Some(Outcome::Accepted { socket, peer }) => self.welcome(listener, socket, peer),
                Some(Outcome::Failed(failure)) => {
                    self.admission.leave();
                    self.pause(failure);
                    self.taps[at].accepting = Accepting::Idle;
                    return;
                }
                Some(other) => unreachable!("an accept ended {other:?}"),
                None => {
                    self.admission.leave();
                    self.taps[at].accepting = Accepting::InFlight;
                    return;
                }
            }
        }
        self.taps[at].accepting = Accepting::Idle;
    }

    /// No descriptor, port or memory: whoever waits to be accepted waits a little longer, and the
    /// live connections go on and will give some back.
    pub(super) fn pause(&mut self, failure: Failure) {
        if self.now >= self.paused_until {
            self.stats.pauses.add(1);
            // Said by another thread: a log that blocks shall not block us. The channel is full
            // when nobody listens, and then the counter must do.
            let _ = self.notices.try_send(Notice::Paused(failure));
        }
        self.paused_until = self.now + ACCEPT_PAUSE;
    }

    /// Gives back the places of a session.
    pub(super) fn leave(&self, listener: usize) {
        self.admission.leave();
        if let Some(admission) = &self.listener_admissions[listener] {
            admission.leave();
        }
    }

    /// Takes in a connection that has its place in the process, or hands it to a worker with less to do.
    pub(super) fn welcome(&mut self, listener: usize, socket: SocketId, peer: Peer) {
        let dice = self.dice();
        let mut socket = socket;
        // Whoever drains may be told to finish any moment, and so may the others.
        if self.drained_by.is_none()
            && let Some(to) = self.crew.emptier(self.index, dice)
        {
            let fd = self.poller.part(socket);
            match self.crew.hand(to, Arrival { listener, fd, peer }) {
                Ok(()) => {
                    self.stats.handed_over.add(1);
                    return;
                }
                Err(Arrival { fd, .. }) => socket = self.poller.adopt(fd, peer),
            }
        }
        self.crew.enter(self.index);
        self.admit(listener, socket, peer);
    }

    /// Takes in a connection that another worker accepted.
    pub(super) fn take_over(&mut self, Arrival { listener, fd, peer }: Arrival) {
        let socket = self.poller.adopt(fd, peer);
        if self.cut {
            self.crew.leave(self.index);
            self.admission.leave();
            self.stats.accepted.add(1);
            self.refuse(listener, socket, peer, End::Drain);
        } else {
            self.admit(listener, socket, peer);
        }
    }

    /// Makes a session of a connection that has its place in the process and with us; unless its
    /// listener has none left, and then it is reset.
    pub(super) fn admit(&mut self, listener: usize, socket: SocketId, peer: Peer) {
        self.stats.accepted.add(1);
        if let Some(admission) = &self.listener_admissions[listener]
            && !admission.try_enter()
        {
            self.admission.leave();
            self.crew.leave(self.index);
            self.refuse(listener, socket, peer, End::Limit);
            return;
        }
        self.stats.open.add(1);
        let session = Session::new(self.now, self.limits[listener].policy);
        self.generation = (self.generation + 1) & GENERATION_MASK;
        let slot = self.sessions.insert(Seat {
            session,
            generation: self.generation,
            sockets: Sockets::new(socket),
            origin: peer.into(),
            listener: listener as u16,
            chosen: None,
            counted: false,
            tried: Tried::default(),
            dialed: 0,
        });
        self.drive(slot as u32, Some(Event::Accepted), None);
    }
}
