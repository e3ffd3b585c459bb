//! Sessions out, one by one or all at once.

use super::*;

impl<P: Poller> Worker<P> {
    pub(super) fn retire(&mut self, slot: u32) {
        self.uncount(slot);
        self.timers.clear(slot);
        let seat = self.sessions.remove(slot as usize);
        let listener = usize::from(seat.listener);
        self.leave(listener);
        self.crew.leave(self.index);
        let session = &seat.session;
        let (bytes_up, bytes_down) = session.bytes();
        let end = session.end().expect("a session ends for a reason");
        self.stats.open.set(self.sessions.len() as u64);
        self.stats.closed(end).add(1);
        self.stats.bytes_up.add(bytes_up);
        self.stats.bytes_down.add(bytes_down);
        self.stats.bytes_spliced.add(session.spliced());
        self.stats.retries.add(u64::from(session.attempts().saturating_sub(1)));
        if let Some(recorder) = &mut self.recorder {
            let record = Record {
                listener: seat.listener,
                pool: self.plan.listeners[listener].pool as u16,
                backend: seat.chosen.map(|id| id.0),
                peer: seat.origin.into(),
                started: session.started(),
                duration: self.now - session.started(),
                connected: session.connected(),
                answered: session.answered(),
                bytes_up,
                bytes_down,
                spliced: session.spliced(),
                attempts: session.attempts(),
                half_closed: session.was_half_closed(),
                end,
            };
            recorder.record(self.now, record, &self.stats);
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Drain(patience) => {
                self.stop_listening();
                self.drained_by = Some(self.now + patience);
            }
            Command::Stop => {
                self.stop_listening();
                self.drained_by = Some(self.now);
            }
        }
    }

    /// Takes who is in the kernel's queue already, as far as there is room for them, and then closes
    /// the listening sockets.
    pub(super) fn stop_listening(&mut self) {
        for at in 0..self.taps.len() {
            match self.taps[at].accepting {
                Accepting::Idle | Accepting::Full => {}
                Accepting::InFlight => continue, // the queue was empty
                Accepting::Closing | Accepting::Closed => continue,
            }
            let batches = self.plan.tcp.backlog / self.plan.limits.accepts_per_wake.max(1);
            for _ in 0..=batches {
                self.accept_from(at, self.plan.limits.accepts_per_wake);
                if self.taps[at].accepting != Accepting::Idle || self.now < self.paused_until {
                    break;
                }
            }
        }
        for tap in &mut self.taps {
            tap.accepting = match tap.accepting {
                Accepting::InFlight => Accepting::Closing,
                Accepting::Idle | Accepting::Full => Accepting::Closed,
                Accepting::Closing | Accepting::Closed => continue,
            };
            self.poller.unlisten(tap.id);
        }
    }

    pub(super) fn kill_all(&mut self, end: End) {
        let slots: Vec<u32> = self.sessions.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            if self.sessions.contains(slot as usize) {
                self.drive(slot, Some(Event::Kill(end)), None);
            }
        }
        for (listener, socket, peer) in std::mem::take(&mut self.waiting) {
            self.stats.accepted.add(1);
            self.refuse(listener, socket, peer, end);
        }
        self.cut = true;
    }

    /// Resets a connection that there is no place for, so that it never becomes a session, and says so.
    pub(super) fn refuse(&mut self, listener: usize, socket: SocketId, peer: Peer, end: End) {
        self.stats.closed(end).add(1);
        if let Some(recorder) = &mut self.recorder {
            let record = Record {
                listener: listener as u16,
                pool: self.plan.listeners[listener].pool as u16,
                backend: None,
                peer,
                started: self.now,
                duration: Duration::ZERO,
                connected: None,
                answered: None,
                bytes_up: 0,
                bytes_down: 0,
                spliced: 0,
                attempts: 0,
                half_closed: false,
                end,
            };
            recorder.record(self.now, record, &self.stats);
        }
        self.turned_away_ever = self.turned_away_ever.wrapping_add(1);
        let token = Token::new(self.turned_away_ever, 0, role::TURN_AWAY);
        let close = Op::Close { socket, manner: Manner::Reset };
        if self.poller.submit(token, close).is_none() {
            self.turned_away += 1;
        }
    }
}
