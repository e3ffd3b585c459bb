//! The poller over io_uring (Linux 5.19 and later).
//!
//! What the ring is better at is everything around a transfer, and small pieces that keep coming; so
//! that is what it does, under the poller of [`readiness`](super::readiness):
//!
//! - connections come in by a multishot accept (`doors`);
//! - a connection that goes on speaking is received from by the ring, into buffers it chooses
//!   itself (`receiving`): no watch, no `recv`, and no buffer while it is silent;
//! - other sockets are watched by multishot polls, and read, written and spliced by calls of our own. A
//!   `send` through the ring cost as much CPU as the call in prototypes on Linux 6.18, and `IORING_OP_SPLICE`
//!   goes to a kernel thread every time;
//! - polls, receives and closes are entries of the submission queue, and one `io_uring_enter` per
//!   turn hands all of them in and waits.
//!
//! **Order.** A socket is closed by an entry behind the one that takes its poll back, because an armed
//! poll holds the socket open and no FIN goes out; a completion that comes later than that carries a
//! key whose generation has passed.
//!
//! **Threads.** The kernel allows one thread to submit, the one that enables the ring. A ring is made
//! disabled by whoever sets a worker up and enabled by the worker's first wait.

mod doors;
mod features;
mod receiving;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use socket2::Socket;

use super::Waker;
use super::park::{Edge, Park};
use super::readiness::queue::{GENERATION_BITS, Key, Memory, News, Queue};
use super::readiness::{Readiness, Settings};
use crate::net::{Listener, Peer};
use crate::transfer::Failure;
use doors::Doors;
pub use features::{Features, available};
use receiving::{Buffers, GROUP};

/// The poller over io_uring.
pub type Uring = Readiness<Ring>;

impl Uring {
    /// A poller with a ring of its own, as good as this kernel has it.
    ///
    /// # Errors
    /// When the kernel has no io_uring, refuses it, or lacks what we cannot do without.
    pub fn open(settings: Settings, peers: Peers) -> io::Result<Uring> {
        Ok(Readiness::over(Ring::new(Features::probe()?, peers)?, settings))
    }
}

/// Whether accepted connections are asked who they are: a multishot accept does not tell, so it costs
/// a system call each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Somebody wants to know.
    Told,
    /// Nobody does: they are [`Peer::Untold`].
    Untold,
}

/// The queue of a ring.
pub struct Ring {
    ring: IoUring,
    features: Features,
    enabled: bool,
    doors: Doors,
    /// What the kernel may receive into; `None` where it cannot.
    buffers: Option<Buffers>,
    waker: Arc<EventFd>,
    peers: Peers,
}

impl Ring {
    /// A ring with these features.
    ///
    /// # Errors
    /// When the kernel does not make one.
    pub fn new(features: Features, peers: Peers) -> io::Result<Ring> {
        Ring::sized(features, peers, ENTRIES, COMPLETIONS)
    }

    /// A ring with queues of these sizes.
    ///
    /// # Errors
    /// As for [`Ring::new`].
    pub fn sized(
        features: Features,
        peers: Peers,
        entries: u32,
        completions: u32,
    ) -> io::Result<Ring> {
        let ring = features.build(entries, completions)?;
        let buffers = features.multishot_receive.then(|| Buffers::register(&ring).ok()).flatten();
        let mut ring = Ring {
            ring,
            buffers,
            features,
            enabled: false,
            doors: Doors::default(),
            waker: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?),
            peers,
        };
        ring.watch_waker();
        Ok(ring)
    }

    /// The counter is never read: each write is an edge, and 2^64 of them do not come.
    fn watch_waker(&mut self) {
        let fd = Fd(self.waker.as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.push(poll.user_data(kind::WAKER));
    }

    /// Puts an entry into the submission queue; the kernel sees it at the next wait, or earlier when
    /// the queue is full.
    #[allow(unsafe_code)]
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: no entry of ours points to memory: they carry descriptors, masks and keys.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.flush();
        }
    }

    fn reap(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Hands in what is in the submission queue.
    fn flush(&mut self) {
        if self.enable().is_err() {
            return;
        }
        // It fails when completions have overflown, for one; the next wait makes room for them, and
        // what was not handed in stays in the queue.
        let _ = self.ring.submit();
    }

    /// From now on the ring belongs to the thread that calls this.
    fn enable(&mut self) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        Ok(())
    }

    /// Takes back a poll or an accept. Its last completion still comes.
    fn take_back(&mut self, user_data: u64) {
        // All of them: a poll that ended may have been set up again before we heard of its end.
        let which = CancelBuilder::user_data(user_data).all();
        let remove = opcode::AsyncCancel2::new(which).build();
        self.push(remove.user_data(kind::NOBODY).flags(squeue::Flags::SKIP_SUCCESS));
    }

    /// The same, and does not return before it is gone.
    fn take_back_now(&mut self, user_data: u64) {
        self.flush();
        let _ = self
            .ring
            .submitter()
            .register_sync_cancel(None, CancelBuilder::user_data(user_data).all());
    }
}

impl Queue for Ring {
    fn watch(
        &mut self,
        socket: BorrowedFd<'_>,
        key: Key,
        watched: Park,
        for_write: bool,
    ) -> io::Result<()> {
        let fd = Fd(socket.as_raw_fd());
        if !watched.is_watched() {
            let mask = libc::POLLIN | libc::POLLRDHUP;
            let poll = opcode::PollAdd::new(fd, mask as u32).multi(true).build();
            self.push(poll.user_data(kind::BYTES | user_data(key)));
        }
        // A poll for room would tell of it at once, so there is none before it is missed. It stays
        // then: every poll also tells of a peer's FIN, and one for a single edge would tell
        // of nothing else where FIN has come.
        if for_write && !watched.is_watched_for_write() {
            let poll = opcode::PollAdd::new(fd, libc::POLLOUT as u32).multi(true).build();
            self.push(poll.user_data(kind::ROOM | user_data(key)));
        }
        Ok(())
    }

    /// A completion repeats what the socket said when it woke the poll, and TCP says "urgent" with
    /// every byte that comes (sock_def_readable in net/core/sock.c).
    const TELLS_OF_URGENT_DATA: bool = false;

    const RECEIVES: bool = true;

    fn receive(&mut self, socket: BorrowedFd<'_>, key: Key) -> bool {
        self.start_receiving(socket, key)
    }

    fn stop_receiving(&mut self, key: Key) {
        self.take_back(kind::RECEIVE | user_data(key));
    }

    fn unwatch(&mut self, key: Key) {
        self.take_back(kind::BYTES | user_data(key));
    }

    fn buffers_wanted(&self) -> usize {
        self.buffers.as_ref().map_or(0, Buffers::wanted)
    }

    fn buffers_lent(&self) -> usize {
        self.buffers.as_ref().map_or(0, Buffers::lent)
    }

    fn provide(&mut self, slot: u16, memory: Memory) {
        if let Some(buffers) = &mut self.buffers {
            buffers.provide(slot, memory);
        }
    }

    fn close(&mut self, socket: Socket, key: Key, watched: Park) {
        if watched.is_watched() {
            self.take_back(kind::BYTES | user_data(key));
        }
        if watched.is_watched_for_write() {
            self.take_back(kind::ROOM | user_data(key));
        }
        let close = opcode::Close::new(Fd(socket.into_raw_fd())).build();
        self.push(close.user_data(kind::NOBODY).flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn listen(&mut self, listener: &Listener, key: Key) -> io::Result<()> {
        self.doors.open(listener, key);
        Ok(())
    }

    fn unlisten(&mut self, listener: Listener, key: Key) {
        self.close_door(listener, key);
    }

    fn accept(
        &mut self,
        listener: &Listener,
        key: Key,
        room: u32,
    ) -> Option<Result<(OwnedFd, Peer), Failure>> {
        self.accept_at_door(listener, key, room)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.enable()?;
        self.quiet_doors();
        let result = match timeout {
            Some(Duration::ZERO) => self.ring.submit(),
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                let args = SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match result {
            Ok(_) => Ok(()),
            // The time is over; a signal; completions have overflown or memory is short for the
            // moment, and both are better when the completions that are there have been taken.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn news(&mut self, mut tell: impl FnMut(Key, News)) {
        let mut lost_waker = false;
        while let Some(completion) = self.reap() {
            let (user_data, result) = (completion.user_data(), completion.result());
            let more = cqueue::more(completion.flags());
            let key = key(user_data);
            match user_data & kind::MASK {
                kind::BYTES => tell(key, News::Edge(Edge { unwatched: !more, ..edge(result) })),
                kind::ROOM => {
                    tell(key, News::Edge(Edge { unwatched_for_write: !more, ..edge(result) }));
                }
                kind::RECEIVE => {
                    let received = self.received(&completion);
                    tell(key, News::Received(received));
                }
                kind::ACCEPT => self.doors.accepted(key, result, more, &mut tell),
                kind::DOOR => self.doors.polled(key, more, &mut tell),
                kind::WAKER => lost_waker = !more,
                _ => {} // a close or a taking back that found nothing to do
            }
        }
        if lost_waker {
            self.watch_waker();
        }
    }

    fn waker(&self) -> Waker {
        let waker = Arc::clone(&self.waker);
        // It can fail only when the counter is full: then the poller is awake.
        Waker::new(move || {
            let _ = waker.write(1);
        })
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closes that have not been handed in; and what is armed holds sockets open until the kernel gets
        // round to taking the ring apart, which would keep ports busy after we are gone.
        self.flush();
        if self.enabled {
            let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        }
        let _ = self.ring.submitter().unregister_buf_ring(GROUP);
        self.doors.forget_all(self.ring.completion());
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("features", &self.features).finish_non_exhaustive()
    }
}

/// What the result of a poll says.
fn edge(result: i32) -> Edge {
    let Ok(mask) = u32::try_from(result) else {
        // Taken back, or the kernel could not arm it: an attempt will say what the matter is.
        return Edge { readable: true, writable: true, ..Edge::default() };
    };
    let has = |bits: libc::c_short| mask & bits as u32 != 0;
    let broken = has(libc::POLLERR);
    // Both directions over: by our FIN and theirs, or by RST.
    let over = has(libc::POLLHUP);
    Edge {
        readable: has(libc::POLLIN | libc::POLLRDHUP) || over || broken,
        writable: has(libc::POLLOUT) || over || broken,
        finished: has(libc::POLLRDHUP) && !over && !broken,
        broken,
        unsure: broken || over,
        ..Edge::default()
    }
}

/// Whose completion it is: the top bits of its user data.
mod kind {
    pub(super) const MASK: u64 = 0xf << 60;
    pub(super) const NOBODY: u64 = 0;
    /// A connection has bytes, or has ended.
    pub(super) const BYTES: u64 = 1 << 60;
    /// A connection has room.
    pub(super) const ROOM: u64 = 2 << 60;
    /// A listener's multishot accept.
    pub(super) const ACCEPT: u64 = 3 << 60;
    /// A listener's poll, where it is accepted from by hand.
    pub(super) const DOOR: u64 = 4 << 60;
    pub(super) const WAKER: u64 = 5 << 60;
    /// Bytes of a connection.
    pub(super) const RECEIVE: u64 = 6 << 60;
}

/// A key without its listener bit, which the kind of the completion says.
fn user_data(key: Key) -> u64 {
    u64::from(key.generation & GENERATION) << 32 | u64::from(key.slot)
}

fn key(user_data: u64) -> Key {
    Key { slot: user_data as u32, generation: (user_data >> 32) as u32 & GENERATION }
}

const GENERATION: u32 = (1 << GENERATION_BITS) - 1;

/// Entries of the submission queue: what one turn sets up and takes back; when it is full it is handed in.
const ENTRIES: u32 = 1024;

/// Entries of the completion queue. More than that are kept by the kernel, at a cost.
const COMPLETIONS: u32 = 16 * 1024;
