//! One thread's window on the kernel: operations go in, outcomes come out, each exactly once.
//!
//! Knows: sockets, buffers, pipes, time. Does not know: sessions, pools, configuration.
//!
//! The vocabulary is the relay's, not the kernel's: *pull* bytes from a socket, *push* them to
//! another. Bytes travel as a [`Parcel`], an owned claim on a buffer or a pipe of the poller, so
//! an idle connection holds no memory at all and the kernel never touches what somebody else could
//! drop. Readiness (epoll, kqueue) and completion (io_uring) fit behind it alike.
//!
//! # The laws
//!
//! `tests/poller_laws.rs` holds every implementation to them:
//!
//! 1. Every submitted operation ends in exactly one [`Outcome`]: by return value of
//!    [`submit`](Poller::submit) or by [`next`](Poller::next), never by callback.
//! 2. A pulled parcel is never empty, zero bytes is [`Outcome::Ended`]; "would block" and
//!    "interrupted" are never seen. After an RST without FIN no pull is ever `Ended`: bytes that
//!    came before can be pulled, and then it fails as the first to fail on that socket did.
//! 3. Parcels are conserved: lent = pushed whole + released + handed back by a connect that failed
//!    + lost to a push that failed or was cancelled. At rest none is out.
//! 4. Pulls on one socket complete in order, so do pushes, and each is submitted when the one before
//!    is over; nothing is promised between sockets.
//! 5. `Close` ends after every other operation on that socket; those that had not ended, end
//!    [`Outcome::Cancelled`].
//! 6. [`cancel`](Poller::cancel) is a request: bytes already moved are still reported.
//! 7. Out of buffers is not an error: the pull waits its turn, first come first served.
//! 8. [`wait`](Poller::wait) returns a time no earlier than the last; no token is in flight twice.

pub mod arena;
pub mod errno;
mod kernel;
pub mod park;
pub mod pipes;
pub mod readiness;
#[cfg(target_os = "linux")]
pub mod uring;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::net::{Address, Peer};
use crate::time::Moment;
use crate::token::Token;
pub use crate::transfer::{Condition, Sent};
use crate::transfer::{Failure, Lane, ListenerId, Manner, Parcel, SocketId};

/// What a worker asks of the kernel, and how it hears the answer. See the module for the laws.
pub trait Poller {
    /// A listening socket as this poller takes it over.
    type Listener;

    /// Takes over a listening socket; connections come out by [`Op::Accept`].
    ///
    /// # Errors
    /// What the kernel says when the socket cannot be watched.
    fn listen(&mut self, listener: Self::Listener) -> io::Result<ListenerId>;

    /// Stops listening and closes the socket. An accept in flight ends [`Outcome::Cancelled`].
    fn unlisten(&mut self, listener: ListenerId);

    /// Starts an operation. `Some` is its outcome, already; with `None` the outcome comes by
    /// [`next`](Poller::next).
    fn submit(&mut self, token: Token, op: Op<'_>) -> Option<Outcome>;

    /// Asks for an operation to be given up. Its outcome still comes, and may be a success.
    fn cancel(&mut self, token: Token);

    /// Gives back a parcel that nobody will push.
    fn release(&mut self, parcel: Parcel);

    /// A look at the bytes of a parcel; `None` when they are in a pipe.
    fn bytes(&self, parcel: &Parcel) -> Option<&[u8]>;

    /// A parcel made of our own bytes (a PROXY header); `None` when no buffer is free or `bytes`
    /// is empty or longer than a buffer.
    fn compose(&mut self, bytes: &[u8]) -> Option<Parcel>;

    /// Applies what only a connection of some age needs (keep-alive), so that short
    /// ones are spared the system calls. Failures are of no consequence and not reported.
    fn settle(&mut self, socket: SocketId, options: &Lifelines);

    /// Lets go of a socket that no operation was ever submitted on, for another poller.
    fn part(&mut self, socket: SocketId) -> OwnedFd;

    /// Takes over a connection that another poller accepted and let go of.
    fn adopt(&mut self, fd: OwnedFd, peer: Peer) -> SocketId;

    /// What is known of a socket without waiting.
    fn condition(&mut self, socket: SocketId) -> Condition;

    /// Sleeps until something happens, the deadline passes (`None`: no deadline) or somebody
    /// [wakes](Waker::wake) us, and returns the time: the only clock in the loop.
    ///
    /// # Errors
    /// When the kernel's event queue itself fails; there is no going on after that.
    fn wait(&mut self, deadline: Option<Moment>) -> io::Result<Moment>;

    /// The next outcome, if there is one; never blocks. Parked operations are attempted here, one
    /// at a time, so that what was pulled is pushed while it is hot in the cache.
    fn next(&mut self) -> Option<Completion>;

    /// A handle by which other threads end a [`wait`](Poller::wait).
    fn waker(&self) -> Waker;

    /// What is in use right now.
    fn gauges(&self) -> Gauges;
}

/// An operation.
#[derive(Debug)]
pub enum Op<'a> {
    /// Takes one connection off a listener's queue.
    Accept {
        /// From which listener.
        listener: ListenerId,
        /// How many connections there is room for: as many may be taken off the queue ahead of
        /// the operations that ask for them.
        room: u32,
    },
    /// Opens a connection.
    Connect {
        /// To where.
        to: &'a Address,
        /// From which local address; the kernel chooses when `None`.
        from: Option<IpAddr>,
        /// Socket options of the new connection.
        options: ConnectOptions,
        /// Bytes to send as soon as the connection stands, or earlier where that saves a round
        /// trip. They come back in [`Outcome::NotConnected`], all of them, when no connection
        /// stood to take them.
        first: Option<Parcel>,
    },
    /// Takes whatever bytes a socket has, as soon as it has any.
    Pull {
        /// From where.
        from: SocketId,
        /// The lane wished for; the parcel says which it got.
        lane: Lane,
    },
    /// Hands bytes to a socket: as many as it takes, at least one.
    Push {
        /// To where.
        to: SocketId,
        /// What.
        parcel: Parcel,
        /// The write side will be shut, or the socket closed, right after: the last segment may
        /// wait for the FIN and carry it.
        last: bool,
    },
    /// Ends our direction of a connection: FIN after the bytes already pushed.
    ShutdownWrite {
        /// Of which socket.
        socket: SocketId,
    },
    /// Ends a connection and frees its socket.
    Close {
        /// Which.
        socket: SocketId,
        /// By FIN or by RST.
        manner: Manner,
    },
}

/// How an operation ended. "Would block" is not among them.
#[must_use = "an outcome may own a parcel or a socket"]
#[derive(Debug)]
pub enum Outcome {
    /// A connection came in.
    Accepted {
        /// The new socket.
        socket: SocketId,
        /// Who it is.
        peer: Peer,
    },
    /// A connection stands.
    Connected {
        /// The new socket.
        socket: SocketId,
        /// What became of the first parcel, where there was one.
        first: Option<Sent>,
    },
    /// No connection came about, and nobody saw a byte of the first parcel.
    NotConnected {
        /// Why; `None` when it was cancelled.
        failure: Option<Failure>,
        /// The first parcel, untouched.
        first: Option<Parcel>,
    },
    /// Bytes came.
    Pulled {
        /// The bytes.
        parcel: Parcel,
        /// The peer is already known to have finished after these: a further pull would end.
        last: bool,
    },
    /// The peer finished (FIN) and every byte before that was pulled.
    Ended,
    /// Bytes went out.
    Pushed(Sent),
    /// A shutdown or a close is over.
    Done,
    /// It was given up, by [`Poller::cancel`] or by a close of its socket.
    Cancelled,
    /// It failed. Unless `failure.is_local()`, the socket is broken.
    Failed(Failure),
}

/// An outcome and whose it is.
#[derive(Debug)]
pub struct Completion {
    /// The token the operation was submitted with.
    pub token: Token,
    /// How it ended.
    pub outcome: Outcome,
}

/// Options of a connection to a backend that matter from its first segment on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Send small segments at once (TCP_NODELAY). A poller may set it as late as before the second
    /// push: Nagle's algorithm holds nothing back while nothing is unacknowledged.
    pub nodelay: bool,
    /// Send the first bytes with the SYN where the peer gave us a cookie for that before (TCP Fast
    /// Open, RFC 7413), and ask for one otherwise. Such bytes may reach the peer twice. Without
    /// first bytes in a buffer, and where the system lacks it, the handshake is the usual one.
    pub fastopen: bool,
}

/// What finds out about a peer that vanished: set on connections that outlive their first second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifelines {
    /// Keep-alive probes; `None` leaves them off.
    pub keepalive: Option<Keepalive>,
}

/// TCP keep-alive, in whole seconds as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe, in seconds.
    pub idle_s: u32,
    /// Between probes, in seconds.
    pub interval_s: u32,
    /// Probes without an answer that end the connection.
    pub count: u32,
}

/// What a poller has in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connected and connecting sockets.
    pub sockets: usize,
    /// Parcels lent and not given back.
    pub parcels: usize,
    /// Buffers with bytes in them.
    pub buffers: usize,
    /// Pipes with bytes in them.
    pub pipes: usize,
    /// Pulls that had to wait for a free buffer, ever.
    pub starved: u64,
}

/// Ends a [`Poller::wait`] from another thread. A wake that comes while nobody waits is not lost.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Waker {
        Waker(Arc::new(wake))
    }

    /// Wakes the poller.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}
