//! A session among the others of its worker.

use crate::net::Peer;
use crate::pool::{BackendId, Tried};
use crate::session::Session;
use crate::transfer::{Side, SocketId};

/// A session and what the machine must not know.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: Session,
    pub(super) generation: u32,
    pub(super) sockets: Sockets,
    pub(super) peer: Peer,
    pub(super) listener: u16,
    pub(super) chosen: Option<BackendId>,
    /// The chosen backend's tally counts us.
    pub(super) counted: bool,
    pub(super) tried: Tried,
}

const _: () = assert!(size_of::<Seat>() <= 160, "every connection pays for one");

/// The sockets of a session, as two `Option<SocketId>`, in half the space.
#[derive(Debug)]
pub(super) struct Sockets([u32; 2]);

/// A poller numbers its sockets like the slots of a slab: none has this number.
const NONE: u32 = u32::MAX;

impl Sockets {
    /// With the client's alone.
    pub(super) fn new(client: SocketId) -> Sockets {
        Sockets([client.0, NONE])
    }

    /// The socket of a side.
    pub(super) fn get(&self, side: Side) -> Option<SocketId> {
        let id = self.0[side as usize];
        (id != NONE).then_some(SocketId(id))
    }

    /// There is a socket on this side now.
    pub(super) fn set(&mut self, side: Side, socket: SocketId) {
        self.0[side as usize] = socket.0;
    }

    /// The socket of a side, which is given up.
    pub(super) fn take(&mut self, side: Side) -> Option<SocketId> {
        let socket = self.get(side);
        self.0[side as usize] = NONE;
        socket
    }
}
