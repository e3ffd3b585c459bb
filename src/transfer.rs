//! The words that sessions and pollers share: sides, lanes, parcels, failures.
//!
//! Knows: nothing of ours. Everything here is data; who moves it and why is decided elsewhere.

use std::fmt;
use std::num::NonZeroU32;

/// One of the two peers of a proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Whoever connected to us.
    Client,
    /// Whoever we connected to.
    Backend,
}

impl Side {
    /// The other one.
    pub const fn opposite(self) -> Side {
        match self {
            Side::Client => Side::Backend,
            Side::Backend => Side::Client,
        }
    }
}

/// How bytes travel through us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Copied into a buffer of the poller's arena and out again.
    Buffer,
    /// Spliced through a kernel pipe: the bytes never enter user space.
    Pipe,
}

/// A connected socket of a poller. Valid from the outcome that names it until its `Close` is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// A listening socket of a poller, for as long as it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// An owned claim on bytes that a poller holds, in a buffer or in a pipe.
///
/// Not `Clone`: a parcel is owed back to the poller that lent it, by pushing it or by
/// [`release`](crate::poller::Poller::release). The fields mean something to that poller only.
#[must_use = "a parcel is owed back: push it or release it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Parcel {
    slot: u32,
    offset: u32,
    len: NonZeroU32,
    lane: Lane,
}

impl Parcel {
    /// For pollers: a claim on `len` bytes from `offset` in buffer or pipe number `slot`.
    pub const fn new(lane: Lane, slot: u32, offset: u32, len: NonZeroU32) -> Parcel {
        Parcel { slot, offset, len, lane }
    }

    /// How many bytes it holds; never none.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> NonZeroU32 {
        self.len
    }

    /// The lane the bytes are on, which need not be the one that was wished for.
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// For pollers: the number of the buffer or pipe.
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// For pollers: where in the buffer the bytes begin.
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// For pollers: what is left after the first `sent` bytes went out; `None` when nothing is.
    pub fn advance(self, sent: NonZeroU32) -> Option<Parcel> {
        let len = NonZeroU32::new(self.len.get().checked_sub(sent.get())?)?;
        Some(Parcel { offset: self.offset + sent.get(), len, ..self })
    }
}

/// How much of a parcel went out.
#[must_use = "the rest is owed back: push it or release it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bytes taken by the kernel.
    pub bytes: NonZeroU32,
    /// What it did not take; `None` when all of it went.
    pub rest: Option<Parcel>,
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// FIN after everything already handed to the kernel.
    Graceful,
    /// RST at once; what the kernel still holds for the peer is dropped.
    Reset,
}

/// What is known of a socket without waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The connection is over (RST or an error), although no operation was there to say so.
    pub broken: Option<Failure>,
    /// Bytes (and FIN) that the peer has not acknowledged; `None` where the kernel does not tell.
    pub unacknowledged: Option<u32>,
    /// Nothing comes back of what was sent twice and more: the peer may be gone. One that lives and
    /// does not read is not mute, for it answers window probes.
    pub mute: bool,
}

/// Why an operation did not do what it was asked.
///
/// The variants answer two questions: whose fault it was, and whether trying elsewhere can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Nobody listens there (ECONNREFUSED; for a Unix path also ENOENT).
    Refused,
    /// The peer ended the connection by RST (ECONNRESET).
    Reset,
    /// The peer had finished (FIN) and then refused what we still sent (EPIPE).
    Closed,
    /// The peer stopped answering (ETIMEDOUT: keep-alive, user timeout, SYN retries).
    TimedOut,
    /// No way there (EHOSTUNREACH, ENETUNREACH, a firewall's EACCES or EPERM).
    Unreachable,
    /// The peer's accept queue is full (EAGAIN of a Unix connect).
    Busy,
    /// We have run out of something ourselves: never the peer's fault.
    Shortage(Shortage),
    /// The connection turned out to lead back to its own socket (TCP self-connect).
    Loop,
    /// Any other errno.
    Other(i32),
}

/// What we ran out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shortage {
    /// File descriptors of the process (EMFILE).
    Descriptors,
    /// File descriptors of the machine (ENFILE).
    SystemDescriptors,
    /// Local ports towards one destination (EADDRNOTAVAIL).
    Ports,
    /// Kernel memory (ENOBUFS, ENOMEM) or epoll watches (ENOSPC).
    Memory,
}

impl Failure {
    /// Whether it was our own doing, and no reason to think less of the peer.
    pub const fn is_local(self) -> bool {
        matches!(self, Failure::Shortage(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Refused => "connection refused",
            Failure::Reset => "connection reset",
            Failure::Closed => "peer closed",
            Failure::TimedOut => "timed out",
            Failure::Unreachable => "unreachable",
            Failure::Busy => "accept queue full",
            Failure::Shortage(Shortage::Descriptors) => "out of file descriptors",
            Failure::Shortage(Shortage::SystemDescriptors) => "system out of file descriptors",
            Failure::Shortage(Shortage::Ports) => "out of local ports",
            Failure::Shortage(Shortage::Memory) => "out of kernel memory",
            Failure::Loop => "connected to itself",
            Failure::Other(errno) => return write!(f, "error {errno}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Parcel {
        Parcel::new(Lane::Buffer, 1, 10, NonZeroU32::new(4).expect("four"))
    }

    #[test]
    fn a_parcel_sent_in_part_keeps_the_rest() {
        let rest = four().advance(NonZeroU32::new(3).expect("three")).expect("one byte is left");
        assert_eq!((rest.offset(), rest.len().get(), rest.slot()), (13, 1, 1));
        assert!(rest.advance(NonZeroU32::MIN).is_none());
    }
}
