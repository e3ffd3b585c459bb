//! From the kernel's edges to the operations that waited for them.

use super::*;

impl<Q: Queue> Readiness<Q> {
    pub(super) fn take_edges(&mut self) {
        let Readiness { queue, listeners, entries, ready, unwatched, received, .. } = self;
        queue.news(|key, news| {
            let edge = match news {
                News::Edge(edge) => edge,
                News::Received(bytes) => {
                    received.push((key, bytes));
                    return;
                }
            };
            if key.is_listener() {
                let generation = key.generation & !LISTENER;
                if let Some(tap) = listeners.get_mut(key.slot as usize)
                    && tap.generation == generation
                {
                    tap.ready = true;
                    ready.push_back(key);
                }
            } else if let Some(entry) = entries.get_mut(key.slot)
                && entry.generation == key.generation
            {
                entry.park.edge(edge);
                ready.push_back(key);
                if edge.unwatched || edge.unwatched_for_write {
                    unwatched.push(key.slot);
                }
            }
        });
        if !self.received.is_empty() {
            let mut received = std::mem::take(&mut self.received);
            received.drain(..).for_each(|(key, bytes)| self.received(key, bytes));
            self.received = received;
        }
        while let Some(slot) = self.unwatched.pop() {
            let for_write = self.entry(slot).may_want_room();
            if self.is_streamed(slot) && !for_write {
                continue;
            }
            // It cannot fail where a watch ends by itself.
            let _ = self.watch(slot, for_write);
        }
    }

    /// Attempts one parked operation of a ready socket; the socket stays on the list while there
    /// may be another.
    pub(super) fn attempt(&mut self, key: Key) -> Option<Completion> {
        if key.is_listener() {
            return self.attempt_accept(key);
        }
        let entry = self.entries.get_mut(key.slot)?;
        if entry.generation != key.generation {
            return None;
        }
        if entry.park.is_writable() && entry.may_want_room() {
            let waits = entry.pull().is_some();
            let pulls = waits && (entry.park.is_readable() || self.is_streamed(key.slot));
            let attempted = match self.entries.take_out(key.slot) {
                Out::Nothing => None,
                Out::Push { token, parcel, last } => {
                    Some((token, self.try_push(key.slot, token, parcel, last)))
                }
                Out::Connect { token, first, early } => {
                    Some((token, self.continue_connect(key.slot, token, first, early)))
                }
            };
            if let Some((token, Some(outcome))) = attempted {
                if pulls {
                    self.ready.push_front(key);
                }
                return Some(Completion { token, outcome });
            }
        }
        let (token, lane) = self.entries.get_mut(key.slot)?.pull()?;
        if self.is_streamed(key.slot) {
            match self.pull_stream(key.slot, lane) {
                Found::Outcome(outcome) => {
                    self.entry(key.slot).take_pull();
                    return Some(Completion { token, outcome });
                }
                Found::Nothing => return None,
                Found::Socket => {}
            }
        }
        if !self.entry(key.slot).park.is_readable() {
            return None;
        }
        let Some(outcome) = self.try_pull(key.slot, lane) else {
            // It is watched already, or was received from.
            let _ = self.await_bytes(key.slot, lane);
            return None;
        };
        self.entry(key.slot).take_pull();
        Some(Completion { token, outcome })
    }

    pub(super) fn attempt_accept(&mut self, key: Key) -> Option<Completion> {
        let tap = self.listeners.get_mut(key.slot as usize)?;
        if tap.generation != key.generation & !LISTENER || !tap.ready || tap.accepts.is_empty() {
            return None;
        }
        let accepted = self.try_accept(key.slot)?;
        let token = self.listeners[key.slot as usize].accepts.pop_front()?;
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
        let key = Key { slot: socket.0, generation: entry.generation };
        self.end_stream(key);
        self.queue.close(entry.socket, key, entry.park);
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
