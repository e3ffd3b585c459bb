//! What the poller needs of a kernel's event queue: epoll and kqueue have it, and so has io_uring.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::Socket;

use crate::net::{Listener, Peer};
use crate::poller::Waker;
use crate::poller::park::{Edge, Park};
use crate::transfer::Failure;

/// A slot of the poller and which of its owners is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The slot, of connections or of listeners.
    pub slot: u32,
    /// [`GENERATION_BITS`] that tell owners apart, and [`LISTENER`].
    pub generation: u32,
}

impl Key {
    /// Whether it is a listener's.
    pub fn is_listener(self) -> bool {
        self.generation & LISTENER != 0
    }
}

/// How many bits of a generation tell owners of a slot apart.
pub const GENERATION_BITS: u32 = 28;

/// In a generation: the slot is a listener's.
pub const LISTENER: u32 = 1 << 31;

/// Tells of edges: that something has happened to a socket since it was last told of.
///
/// A connection is watched for bytes from the first operation on that has to wait, and for room when one
/// has to wait for that; the state at that time counts as an edge, so nothing is missed.
pub trait Queue: Sized {
    /// Watches a connection for bytes and, if `for_write`, for room; `watched` says what it is
    /// watched for already.
    ///
    /// # Errors
    /// When the kernel has no room for another watch.
    fn watch(
        &mut self,
        socket: BorrowedFd<'_>,
        key: Key,
        watched: Park,
        for_write: bool,
    ) -> io::Result<()>;

    /// Takes a connection out and closes it: no later than the next [`wait`](Queue::wait).
    fn close(&mut self, socket: Socket, key: Key, watched: Park);

    /// Watches a listening socket.
    ///
    /// # Errors
    /// As for [`watch`](Queue::watch).
    fn listen(&mut self, listener: &Listener, key: Key) -> io::Result<()>;

    /// Takes a listening socket out. It listens no more when this returns, unless another process or
    /// thread has a handle on it.
    fn unlisten(&mut self, listener: Listener, key: Key);

    /// Takes a connection off a listener's queue; `None` when none waits: an edge tells of the next.
    /// There is `room` for so many, so that some may be taken ahead.
    fn accept(
        &mut self,
        listener: &Listener,
        key: Key,
        room: u32,
    ) -> Option<Result<(OwnedFd, Peer), Failure>>;

    /// Sleeps until there are edges or the time is over (`None`: for as long as it takes).
    ///
    /// # Errors
    /// When the kernel's queue itself fails.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Tells of the edges that the last [`wait`](Queue::wait) brought.
    fn edges(&mut self, tell: impl FnMut(Key, Edge));

    /// A handle by which other threads end a [`wait`](Queue::wait).
    fn waker(&self) -> Waker;
}
