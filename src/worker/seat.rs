//! A session among the others of its worker.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use crate::net::Peer;
use crate::pool::{BackendId, Tried};
use crate::session::Session;
use crate::time::Moment;
use crate::transfer::{Side, SocketId};

/// A session and what the machine must not know.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: Session,
    pub(super) generation: u32,
    pub(super) sockets: Sockets,
    pub(super) origin: Origin,
    pub(super) listener: u16,
    pub(super) chosen: Option<BackendId>,
    /// The chosen backend's tally counts us.
    pub(super) counted: bool,
    pub(super) tried: Tried,
    /// When the last dial began, in units of 64 ns, the upper bits cut off: they come round after 274 s,
    /// and no kernel tries to connect for that long.
    pub(super) dialed: u32,
}

const _: () = assert!(size_of::<Seat>() <= 152, "every connection pays for one");

impl Seat {
    /// A dial begins.
    pub(super) fn dial(&mut self, now: Moment) {
        self.dialed = (now.nanos() >> DIALED_BITS) as u32;
    }

    /// How long ago the last one began.
    pub(super) fn since_dial(&self, now: Moment) -> Duration {
        let passed = ((now.nanos() >> DIALED_BITS) as u32).wrapping_sub(self.dialed);
        Duration::from_nanos(u64::from(passed) << DIALED_BITS)
    }
}

const DIALED_BITS: u32 = 6;

/// Who connected, as [`Peer`] has it, without the flow label of IPv6 that a record has no use for.
#[derive(Debug)]
pub(super) enum Origin {
    V4(SocketAddrV4),
    V6 { ip: Ipv6Addr, port: u16, scope: u32 },
    Unix,
    Untold,
}

impl Origin {
    /// The address, where there is one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Origin::V4(address) => Some((*address.ip()).into()),
            Origin::V6 { ip, .. } => Some((*ip).into()),
            Origin::Unix | Origin::Untold => None,
        }
    }
}

impl From<Peer> for Origin {
    fn from(peer: Peer) -> Origin {
        match peer {
            Peer::Ip(SocketAddr::V4(address)) => Origin::V4(address),
            Peer::Ip(SocketAddr::V6(address)) => {
                Origin::V6 { ip: *address.ip(), port: address.port(), scope: address.scope_id() }
            }
            Peer::Unix => Origin::Unix,
            Peer::Untold => Origin::Untold,
        }
    }
}

impl From<Origin> for Peer {
    fn from(origin: Origin) -> Peer {
        match origin {
            Origin::V4(address) => Peer::Ip(address.into()),
            Origin::V6 { ip, port, scope } => {
                Peer::Ip(SocketAddrV6::new(ip, port, 0, scope).into())
            }
            Origin::Unix => Peer::Unix,
            Origin::Untold => Peer::Untold,
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_peer_again() {
        for address in ["192.0.2.1:80", "[2001:db8::1]:443", "[fe80::1%3]:9"] {
            let peer = Peer::Ip(address.parse().expect("an address"));
            let origin = Origin::from(peer);
            assert_eq!(origin.ip(), Some(SocketAddr::ip(&address.parse().expect("an address"))));
            assert_eq!(Peer::from(origin), peer);
        }
        assert_eq!(Peer::from(Origin::from(Peer::Unix)), Peer::Unix);
    }

    #[test]
    fn a_socket_is_there_until_it_is_taken() {
        let mut sockets = Sockets::new(SocketId(0));
        assert_eq!(
            (sockets.get(Side::Client), sockets.get(Side::Backend)),
            (Some(SocketId(0)), None)
        );
        sockets.set(Side::Backend, SocketId(7));
        assert_eq!(sockets.take(Side::Client), Some(SocketId(0)));
        assert_eq!(
            (sockets.get(Side::Client), sockets.get(Side::Backend)),
            (None, Some(SocketId(7)))
        );
    }
}
