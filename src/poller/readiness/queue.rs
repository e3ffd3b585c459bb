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

/// What a queue tells of a socket.
#[derive(Clone, Copy, Debug)]
pub enum News {
    /// Something has happened to it.
    Edge(Edge),
    /// The queue took bytes in.
    Received(Received),
}

/// What a queue took in by itself.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The buffer it is in, which is the poller's again.
    pub slot: Option<u32>,
    /// How many bytes.
    pub len: u32,
    /// Nothing more will be received unless it is asked for.
    pub over: bool,
    /// The connection has ended behind these bytes: by FIN, or as it says.
    pub end: Option<Result<(), Failure>>,
}

/// A buffer, for a kernel that writes to it later.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its first byte.
    pub start: *mut u8,
    /// How many bytes it has.
    pub len: u32,
}

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

    /// Whether its edges tell of urgent data. A read stops short at its mark, and a splice for good;
    /// where nobody tells, only a read that would block proves that there is nothing to read.
    const TELLS_OF_URGENT_DATA: bool = true;

    /// Whether this queue can take bytes in by itself.
    const RECEIVES: bool = false;

    /// Takes in what comes for a connection from now on, until that is over, and tells of it. `false`:
    /// it cannot, and the connection must be watched.
    fn receive(&mut self, _socket: BorrowedFd<'_>, _key: Key) -> bool {
        false
    }

    /// Asks for that to be over. What was taken in until then is still told.
    fn stop_receiving(&mut self, _key: Key) {}

    /// Watches a connection no longer for bytes.
    fn unwatch(&mut self, _key: Key) {}

    /// How many more buffers to receive into it has a use for.
    fn buffers_wanted(&self) -> usize {
        0
    }

    /// How many it has.
    fn buffers_lent(&self) -> usize {
        0
    }

    /// Lends it one, until it tells of bytes in it.
    fn provide(&mut self, _slot: u16, _memory: Memory) {}

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

    /// Tells what the last [`wait`](Queue::wait) brought.
    fn news(&mut self, tell: impl FnMut(Key, News));

    /// A handle by which other threads end a [`wait`](Queue::wait).
    fn waker(&self) -> Waker;
}
