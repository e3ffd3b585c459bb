//! Listening sockets on a ring.
//!
//! A multishot accept takes in whoever comes, asked for or not: nobody can tell the kernel "one only".
//! So it is armed while the worker has [`room`](crate::poller::Op::Accept) for as many as a listener's queue
//! may hold, and taken back when nobody asks any more. With less room, connections are accepted one
//! by one, by accept(2) on a poll, and those beyond the limit stay in the kernel's queue.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{cqueue, opcode};
use nix::libc;
use socket2::{SockRef, Socket};

use super::{Peers, Ring, kind, user_data};
use crate::net::{Listener, Peer};
use crate::poller::errno;
use crate::poller::park::Edge;
use crate::poller::readiness::accept;
use crate::poller::readiness::queue::{Key, LISTENER, News};
use crate::transfer::Failure;

/// The listening sockets, by slot.
#[derive(Debug, Default)]
pub(super) struct Doors(Vec<Option<Door>>);

#[derive(Debug)]
struct Door {
    generation: u32,
    is_tcp: bool,
    /// Whether the kernel has no multishot accept.
    by_hand: bool,
    multishot: Armed,
    polled: bool,
    /// Somebody waits for a connection.
    asked: bool,
    /// Accepted and not asked for yet.
    inbox: VecDeque<Result<OwnedFd, Failure>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    No,
    Yes,
    TakenBack,
}

impl Doors {
    pub(super) fn open(&mut self, listener: &Listener, key: Key) {
        let slot = key.slot as usize;
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(Door {
            generation: key.generation,
            is_tcp: listener.is_tcp(),
            by_hand: false,
            multishot: Armed::No,
            polled: false,
            asked: false,
            inbox: VecDeque::new(),
        });
    }

    fn door(&mut self, key: Key) -> Option<&mut Door> {
        let door = self.0.get_mut(key.slot as usize)?.as_mut()?;
        (door.generation == key.generation | LISTENER).then_some(door)
    }

    /// A multishot accept has something to say.
    pub(super) fn accepted(
        &mut self,
        key: Key,
        result: i32,
        more: bool,
        tell: &mut impl FnMut(Key, News),
    ) {
        let accepted = u32::try_from(result).map_err(|_| -result);
        let Some(door) = self.door(key) else {
            accepted.map(reset).unwrap_or(());
            return;
        };
        if !more {
            door.multishot = Armed::No;
        }
        match accepted {
            Ok(fd) => door.inbox.push_back(Ok(owned(fd))),
            Err(libc::ECANCELED) => {}
            Err(libc::EINVAL) => door.by_hand = true,
            Err(number) if errno::is_one_connections_fault(number) => {}
            Err(number) => {
                let error = std::io::Error::from_raw_os_error(number);
                door.inbox.push_back(Err(errno::failure(&error)));
            }
        }
        tell(door_key(key), News::Edge(READABLE));
    }

    /// A poll has something to say.
    pub(super) fn polled(&mut self, key: Key, more: bool, tell: &mut impl FnMut(Key, News)) {
        let Some(door) = self.door(key) else { return };
        door.polled &= more;
        tell(door_key(key), News::Edge(READABLE));
    }

    /// Resets connections that nobody took, here or among the completions.
    pub(super) fn forget_all<'a>(&mut self, completions: impl Iterator<Item = cqueue::Entry> + 'a) {
        for completion in completions {
            if completion.user_data() & kind::MASK == kind::ACCEPT
                && let Ok(fd) = u32::try_from(completion.result())
            {
                reset(fd);
            }
        }
        for door in self.0.drain(..).flatten() {
            door.inbox.into_iter().flatten().for_each(reset_socket);
        }
    }
}

impl Ring {
    pub(super) fn accept_at_door(
        &mut self,
        listener: &Listener,
        key: Key,
        room: u32,
    ) -> Option<Result<(OwnedFd, Peer), Failure>> {
        let multishot = self.features.multishot_accept;
        let peers = self.peers;
        let door = self.doors.door(key)?;
        door.asked = false;
        if let Some(accepted) = door.inbox.pop_front() {
            let is_tcp = door.is_tcp;
            return Some(accepted.map(|fd| {
                let peer = if is_tcp { peer(&fd, peers) } else { Peer::Unix };
                (fd, peer)
            }));
        }
        let fd = Fd(listener.as_raw_fd());
        if multishot && !door.by_hand && room >= ROOM_TO_SPARE {
            door.asked = true;
            if door.multishot == Armed::No {
                door.multishot = Armed::Yes;
                let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                let accept = opcode::AcceptMulti::new(fd).flags(flags).build();
                self.push(accept.user_data(kind::ACCEPT | user_data(key)));
            }
            return None;
        }
        if door.multishot == Armed::Yes {
            door.multishot = Armed::TakenBack;
            self.take_back(kind::ACCEPT | user_data(key));
        }
        let accepted = accept(listener);
        if accepted.is_none()
            && let Some(door) = self.doors.door(key)
        {
            door.asked = true;
            if !door.polled {
                door.polled = true;
                let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
                self.push(poll.user_data(kind::DOOR | user_data(key)));
            }
        }
        accepted
    }

    /// Takes back the accepts that nobody asks for any more: accepting pauses, or the limit is
    /// reached.
    pub(super) fn quiet_doors(&mut self) {
        for slot in 0..self.doors.0.len() {
            let Some(door) = &mut self.doors.0[slot] else { continue };
            let idle = !door.asked && (door.inbox.is_empty() || door.inbox.len() > INBOX_MAX);
            if door.multishot == Armed::Yes && idle {
                door.multishot = Armed::TakenBack;
                let key = Key { slot: slot as u32, generation: door.generation };
                self.take_back(kind::ACCEPT | user_data(key));
            }
        }
    }

    pub(super) fn close_door(&mut self, listener: Listener, key: Key) {
        let Some(door) = self.doors.0.get_mut(key.slot as usize).and_then(Option::take) else {
            return;
        };
        // An armed entry holds the socket, and it would go on listening.
        if door.multishot != Armed::No {
            self.take_back_now(kind::ACCEPT | user_data(key));
        }
        if door.polled {
            self.take_back_now(kind::DOOR | user_data(key));
        }
        drop(listener);
        door.inbox.into_iter().flatten().for_each(reset_socket);
    }
}

/// The key as the poller knows it.
fn door_key(key: Key) -> Key {
    Key { generation: key.generation | LISTENER, ..key }
}

fn peer(fd: &OwnedFd, peers: Peers) -> Peer {
    match peers {
        Peers::Untold => Peer::Untold,
        Peers::Told => {
            // A connection that was reset since has no peer any more.
            let address = SockRef::from(fd).peer_addr().ok();
            address.and_then(|address| address.as_socket()).map_or(Peer::Untold, Peer::Ip)
        }
    }
}

fn reset(fd: u32) {
    reset_socket(owned(fd));
}

/// As the kernel does with who is in the queue of a listener that closes.
fn reset_socket(fd: OwnedFd) {
    let socket = Socket::from(fd);
    let _ = socket.set_linger(Some(Duration::ZERO));
}

#[allow(unsafe_code)]
fn owned(fd: u32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, in the result of an accept, and nobody else
    // knows it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

const READABLE: Edge = Edge {
    readable: true,
    writable: false,
    finished: false,
    broken: false,
    urgent: false,
    unsure: false,
    unwatched: false,
    unwatched_for_write: false,
};

/// `net.core.somaxconn`, the bound of a listener's queue, is 4,096 by default.
const ROOM_TO_SPARE: u32 = 4096;

/// Accepted connections that may wait for the worker to ask for them, before accepting stops.
const INBOX_MAX: usize = 256;
