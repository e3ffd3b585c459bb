//! From the kernel's edges to the operations that waited for them.

use super::accepting::try_accept;
use super::*;

impl Readiness {
    pub(super) fn take_edges(&mut self) {
        for event in &self.events {
            let token = event.token();
            if token == WAKER {
                continue;
            }
            let key = Key { slot: token.0 as u32, generation: (token.0 as u64 >> 32) as u32 };
            if key.generation & LISTENER != 0 {
                let generation = key.generation & !LISTENER;
                if let Some(tap) = self.listeners.get_mut(key.slot as usize)
                    && tap.generation == generation
                {
                    tap.ready = true;
                    self.ready.push_back(key);
                }
                continue;
            }
            let Some(entry) = self.entries.get_mut(key.slot) else { continue };
            if entry.generation != key.generation {
                continue;
            }
            let broken = event.is_error();
            // HUP, or both directions over: by our FIN and theirs, or by RST.
            let over = event.is_write_closed();
            entry.park.edge(Edge {
                readable: event.is_readable() || event.is_read_closed(),
                writable: event.is_writable() || over,
                finished: event.is_read_closed() && !over && !broken,
                broken,
                unsure: broken || over,
                urgent: is_urgent(event),
            });
            self.ready.push_back(key);
        }
    }

    /// Attempts one parked operation of a ready socket; the socket stays on the list while there
    /// may be another.
    pub(super) fn attempt(&mut self, key: Key) -> Option<Completion> {
        if key.generation & LISTENER != 0 {
            return self.attempt_accept(key);
        }
        let entry = self.entries.get_mut(key.slot)?;
        if entry.generation != key.generation {
            return None;
        }
        if entry.park.is_writable() && entry.may_want_room() {
            let pulls = entry.pull().is_some() && entry.park.is_readable();
            let attempted = match self.entries.take_out(key.slot) {
                Out::Nothing => None,
                Out::Push { token, parcel, last } => {
                    Some((token, self.try_push(key.slot, token, parcel, last)))
                }
                Out::Connect { token, first } => {
                    Some((token, self.continue_connect(key.slot, token, first)))
                }
            };
            if let Some((token, Some(outcome))) = attempted {
                if pulls {
                    self.ready.push_front(key);
                }
                return Some(Completion { token, outcome });
            }
        }
        let entry = self.entries.get_mut(key.slot)?;
        let (token, lane) = entry.pull()?;
        if !entry.park.is_readable() {
            return None;
        }
        let outcome = self.try_pull(key.slot, lane)?;
        self.entry(key.slot).take_pull();
        Some(Completion { token, outcome })
    }

    pub(super) fn attempt_accept(&mut self, key: Key) -> Option<Completion> {
        let tap = self.listeners.get_mut(key.slot as usize)?;
        if tap.generation != key.generation & !LISTENER || !tap.ready || tap.accepts.is_empty() {
            return None;
        }
        let accepted = try_accept(tap)?;
        let token = tap.accepts.pop_front()?;
        self.ready.push_front(key);
        let outcome = self.accepted(accepted);
        Some(Completion { token, outcome })
    }

    /// The pull that has waited longest for a buffer, when there is one again.
    pub(super) fn attempt_starved(&mut self) -> Option<Completion> {
        while self.arena.has_room() {
            let key = self.starved.pop_front()?;
            let Some(entry) = self.entries.get_mut(key.slot) else { continue };
            if entry.generation != key.generation {
                continue;
            }
            let pull = entry.pull();
            self.entries.starve(key.slot, Starving::Served);
            let outcome = pull.and_then(|(_, lane)| self.try_pull(key.slot, lane));
            self.entries.starve(key.slot, Starving::No);
            if let (Some((token, _)), Some(outcome)) = (pull, outcome) {
                self.entry(key.slot).take_pull();
                return Some(Completion { token, outcome });
            }
        }
        None
    }

    pub(super) fn shutdown(&mut self, socket: SocketId) -> Outcome {
        let entry = self.entry(socket.0);
        match entry.socket.shutdown(std::net::Shutdown::Write) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(errno::failure(&error)),
        }
    }

    pub(super) fn close(
        &mut self,
        token: Token,
        socket: SocketId,
        manner: Manner,
    ) -> Option<Outcome> {
        let (mut entry, out) = self.entries.remove(socket.0);
        let pull = entry.take_pull();
        if manner == Manner::Reset && entry.traits.is_tcp() {
            let _ = entry.socket.set_linger(Some(Duration::ZERO));
        }
        drop(entry.socket); // which takes it out of the event queue, too
        let before = self.done.len();
        if let Some(pull) = pull {
            self.done.push_back(Completion { token: pull, outcome: Outcome::Cancelled });
        }
        match out {
            Out::Nothing => {}
            Out::Push { token, parcel, .. } => {
                self.release(parcel);
                self.done.push_back(Completion { token, outcome: Outcome::Cancelled });
            }
            Out::Connect { .. } => unreachable!("a socket has no id before it is connected"),
        }
        if self.done.len() == before {
            return Some(Outcome::Done);
        }
        self.done.push_back(Completion { token, outcome: Outcome::Done });
        None
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_urgent(event: &mio::event::Event) -> bool {
    event.is_priority()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_urgent(_event: &mio::event::Event) -> bool {
    false
}
