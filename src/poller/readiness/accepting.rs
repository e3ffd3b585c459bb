//! Connections off the listeners' queues.

use super::*;

impl Readiness {
    pub(super) fn accept(&mut self, token: Token, listener: ListenerId) -> Option<Outcome> {
        let tap = self.listeners.get_mut(listener.0 as usize)?;
        let outcome = if tap.ready { try_accept(tap) } else { None };
        match outcome {
            Some(accepted) => Some(self.accepted(accepted)),
            None => {
                self.listeners[listener.0 as usize].accepts.push_back(token);
                None
            }
        }
    }

    pub(super) fn accepted(&mut self, accepted: Result<(OwnedFd, Peer), Failure>) -> Outcome {
        match accepted {
            Ok((fd, peer)) => {
                let is_tcp = matches!(peer, Peer::Ip(_));
                let slot = self.insert(Socket::from(fd), Park::ACCEPTED, is_tcp, false);
                Outcome::Accepted { socket: SocketId(slot), peer }
            }
            Err(failure) => Outcome::Failed(failure),
        }
    }
}

/// Accepts one connection; `None` when none waits.
pub(super) fn try_accept(tap: &mut Tap) -> Option<Result<(OwnedFd, Peer), Failure>> {
    for _ in 0..ACCEPT_SKIPS {
        match tap.listener.accept() {
            Ok(accepted) => return Some(Ok(accepted)),
            Err(error) if would_block(&error) => {
                tap.ready = false;
                return None;
            }
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(0);
                if !errno::is_one_connections_fault(number) {
                    return Some(Err(errno::failure(&error)));
                }
            }
        }
    }
    Some(Err(Failure::Reset))
}
