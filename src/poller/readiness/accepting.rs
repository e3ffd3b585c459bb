//! Connections off the listeners' queues.

use super::*;

impl<Q: Queue> Readiness<Q> {
    pub(super) fn accept(
        &mut self,
        token: Token,
        listener: ListenerId,
        room: u32,
    ) -> Option<Outcome> {
        self.listeners[listener.0 as usize].room = room;
        if let Some(accepted) = self.try_accept(listener.0) {
            return Some(self.accepted(accepted));
        }
        self.listeners[listener.0 as usize].accepts.push_back(token);
        None
    }

    /// Accepts one connection; `None` when none waits.
    pub(super) fn try_accept(&mut self, slot: u32) -> Option<Result<(OwnedFd, Peer), Failure>> {
        let tap = &mut self.listeners[slot as usize];
        if !tap.ready {
            return None;
        }
        let key = Key { slot, generation: tap.generation | LISTENER };
        let accepted = self.queue.accept(&tap.listener, key, tap.room);
        tap.ready = accepted.is_some();
        accepted
    }

    pub(super) fn accepted(&mut self, accepted: Result<(OwnedFd, Peer), Failure>) -> Outcome {
        match accepted {
            Ok((fd, peer)) => {
                let socket = self.adopt(fd, peer);
                Outcome::Accepted { socket, peer }
            }
            Err(failure) => Outcome::Failed(failure),
        }
    }
}
