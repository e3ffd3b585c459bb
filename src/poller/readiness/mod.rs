//! The poller that attempts operations itself and has a [`Queue`] tell when to attempt them again:
//! epoll on Linux, kqueue on macOS and the BSDs, both through mio; io_uring's polls are one as well
//! (see [`uring`](super::uring)).
//!
//! An operation is attempted at once, and parked on its socket when it would block; an edge for
//! the socket puts the socket on the `ready` list, and [`Poller::next`] attempts what is parked
//! there, one operation at a time. So what was pulled is pushed before the next socket is looked
//! at. A socket is registered when its first operation parks, and never before.

mod accepting;
mod connecting;
mod entry;
mod events;
mod moving;
pub mod queue;
mod streams;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::libc;
#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt};
use slab::Slab;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::arena::Arena;
use super::errno;
use super::kernel;
use super::park::{Edge, Park};
use super::pipes::Pipes;
use super::{
    Completion, Condition, ConnectOptions, Gauges, Lifelines, Op, Outcome, Poller, Sent, Waker,
};
use crate::net::{Address, Listener, Peer};
use crate::time::Moment;
use crate::token::Token;
use crate::transfer::{Failure, Lane, ListenerId, Manner, Parcel, SocketId};
use entry::{Entries, Entry, Out, Starving, Traits};
pub use events::Events;
pub(super) use events::accept;
use queue::{GENERATION_BITS, Key, LISTENER, News, Queue, Received};
use streams::{Found, Piece, Stream};

/// How much a [`Readiness`] may use.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Buffers, each of `buffer_size` bytes.
    pub buffers_max: usize,
    /// The most that one pull copies, in bytes.
    pub buffer_size: usize,
    /// Pipes; 0 turns splicing off.
    pub pipes_max: usize,
    /// What a pipe is grown to, in bytes, where the kernel allows.
    pub pipe_size: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { buffers_max: 4096, buffer_size: 16 * 1024, pipes_max: 256, pipe_size: PIPE_SIZE }
    }
}

/// The size of a pipe. A prototype spliced, on Linux 6.18 over loopback, at 45 to 55 ms of CPU per GiB with 512 KiB to 1 MiB, 54 to 70 with 256 KiB, 75
/// to 95 with the kernel's own 64 KiB; and of 512 KiB an unprivileged user may have 128.
pub const PIPE_SIZE: usize = 512 * 1024;

/// The poller over a queue of edges: by default that of epoll or kqueue.
#[derive(Debug)]
pub struct Readiness<Q = Events> {
    queue: Q,
    entries: Entries,
    listeners: Slab<Tap>,
    /// Connects that are parked, for [`Poller::cancel`].
    connecting: HashMap<Token, u32>,
    arena: Arena,
    pipes: Pipes,
    /// Outcomes that have been decided and not been told.
    done: VecDeque<Completion>,
    /// Sockets with an edge and, perhaps, an operation to attempt.
    ready: VecDeque<Key>,
    /// Sockets whose watch ended, to be watched again.
    unwatched: Vec<u32>,
    /// What the queue receives by itself, by slot.
    streams: Vec<Stream>,
    /// What it has just told.
    received: Vec<(Key, Received)>,
    /// What it received and nobody has pulled.
    pieces: Slab<Piece>,
    /// Pulls waiting for a buffer, first come first served.
    starved: VecDeque<Key>,
    starved_ever: u64,
    generation: u32,
    origin: Instant,
    now: Moment,
    ephemeral: std::ops::RangeInclusive<u16>,
}

/// A listening socket.
#[derive(Debug)]
struct Tap {
    listener: Listener,
    generation: u32,
    ready: bool,
    /// How many connections there was room for when one was last asked for.
    room: u32,
    accepts: VecDeque<Token>,
}

impl Readiness {
    /// A poller with an event queue of its own.
    ///
    /// # Errors
    /// When the kernel has no event queue or descriptor to give.
    pub fn new(settings: Settings) -> io::Result<Readiness> {
        Ok(Readiness::over(Events::new()?, settings))
    }
}

impl<Q: Queue> Readiness<Q> {
    /// A poller over `queue`.
    #[allow(clippy::disallowed_methods)] // this is where the clock is read
    pub fn over(queue: Q, settings: Settings) -> Readiness<Q> {
        Readiness {
            queue,
            entries: Entries::new(),
            listeners: Slab::new(),
            connecting: HashMap::new(),
            arena: Arena::new(settings.buffer_size, settings.buffers_max),
            pipes: Pipes::new(settings.pipes_max, settings.pipe_size),
            done: VecDeque::new(),
            ready: VecDeque::new(),
            unwatched: Vec::new(),
            streams: Vec::with_capacity(if Q::RECEIVES { entry::ROOM } else { 0 }),
            received: Vec::new(),
            pieces: Slab::new(),
            starved: VecDeque::new(),
            starved_ever: 0,
            generation: 0,
            origin: *ORIGIN.get_or_init(Instant::now),
            now: Moment::ZERO,
            ephemeral: ephemeral_ports(),
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = (self.generation + 1) & ((1 << GENERATION_BITS) - 1);
        self.generation
    }

    fn insert(&mut self, socket: Socket, park: Park, is_tcp: bool, nodelay: bool) -> u32 {
        let generation = self.next_generation();
        let mut traits = if is_tcp { Traits::TCP } else { Traits::UNIX };
        if nodelay {
            traits = traits.nodelay();
        }
        if INHERITS && park == Park::ACCEPTED {
            traits = traits.settled();
        }
        let park = if is_tcp && Q::TELLS_OF_URGENT_DATA { park } else { park.unsure() };
        self.entries.insert(socket, generation, park, traits)
    }

    fn entry(&mut self, slot: u32) -> &mut Entry {
        self.entries.entry_mut(slot)
    }

    /// Registers a socket whose operation has to wait, or widens its registration.
    fn watch(&mut self, slot: u32, for_write: bool) -> io::Result<()> {
        let entry = self.entries.entry_mut(slot);
        if entry.park.is_watched() && (!for_write || entry.park.is_watched_for_write()) {
            return Ok(());
        }
        let key = Key { slot, generation: entry.generation };
        self.queue.watch(entry.socket.as_fd(), key, entry.park, for_write)?;
        entry.park.watch(for_write);
        Ok(())
    }

    /// Closes a socket that nothing is in flight on.
    fn discard(&mut self, slot: u32) {
        let (entry, _) = self.entries.remove(slot);
        let key = Key { slot, generation: entry.generation };
        self.queue.close(entry.socket, key, entry.park);
    }
}

impl<Q: Queue> Poller for Readiness<Q> {
    type Listener = Listener;

    fn listen(&mut self, listener: Listener) -> io::Result<ListenerId> {
        let generation = self.next_generation();
        let tap = Tap { listener, generation, ready: true, room: 1, accepts: VecDeque::new() };
        let slot = self.listeners.insert(tap) as u32;
        let key = Key { slot, generation: generation | LISTENER };
        if let Err(error) = self.queue.listen(&self.listeners[slot as usize].listener, key) {
            drop(self.listeners.remove(slot as usize));
            return Err(error);
        }
        Ok(ListenerId(slot))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        let tap = self.listeners.remove(listener.0 as usize);
        for token in tap.accepts {
            self.done.push_back(Completion { token, outcome: Outcome::Cancelled });
        }
        let key = Key { slot: listener.0, generation: tap.generation | LISTENER };
        self.queue.unlisten(tap.listener, key);
    }

    fn submit(&mut self, token: Token, op: Op<'_>) -> Option<Outcome> {
        match op {
            Op::Accept { listener, room } => self.accept(token, listener, room),
            Op::Connect { to, from, options, first } => {
                self.connect(token, to, from, options, first)
            }
            Op::Pull { from, lane } => self.pull(token, from, lane),
            Op::Push { to, parcel, last } => self.push(token, to, parcel, last),
            Op::ShutdownWrite { socket } => Some(self.shutdown(socket)),
            Op::Close { socket, manner } => self.close(token, socket, manner),
        }
    }

    fn cancel(&mut self, token: Token) {
        if let Some(slot) = self.connecting.remove(&token) {
            let Out::Connect { first, .. } = self.entries.take_out(slot) else {
                unreachable!("a parked connect is what its socket waits for")
            };
            self.discard(slot);
            let outcome = Outcome::NotConnected { failure: None, first };
            self.done.push_back(Completion { token, outcome });
            return;
        }
        // Anything else is given up so rarely that looking through everything will do.
        for (_, tap) in &mut self.listeners {
            if let Some(at) = tap.accepts.iter().position(|&waits| waits == token) {
                tap.accepts.remove(at);
                self.done.push_back(Completion { token, outcome: Outcome::Cancelled });
                return;
            }
        }
        if let Some(slot) = self.entries.with_pull(token) {
            self.entry(slot).take_pull();
            self.done.push_back(Completion { token, outcome: Outcome::Cancelled });
        } else if let Some(slot) = self.entries.with_push(token)
            && let Out::Push { parcel, .. } = self.entries.take_out(slot)
        {
            self.release(parcel);
            self.done.push_back(Completion { token, outcome: Outcome::Cancelled });
        }
    }

    fn release(&mut self, parcel: Parcel) {
        match parcel.lane() {
            Lane::Buffer => self.arena.give_back(parcel.slot()),
            Lane::Pipe => self.pipes.discard(parcel.slot()),
        }
    }

    fn bytes(&self, parcel: &Parcel) -> Option<&[u8]> {
        match parcel.lane() {
            Lane::Buffer => {
                let slot = self.arena.slot(parcel.slot());
                Some(&slot[parcel.offset() as usize..][..parcel.len().get() as usize])
            }
            Lane::Pipe => None,
        }
    }

    fn compose(&mut self, bytes: &[u8]) -> Option<Parcel> {
        let len = NonZeroU32::new(u32::try_from(bytes.len()).ok()?)?;
        if bytes.len() > self.arena.slot_size() {
            return None;
        }
        let slot = self.arena.lend()?;
        self.arena.slot_mut(slot)[..bytes.len()].copy_from_slice(bytes);
        Some(Parcel::new(Lane::Buffer, slot, 0, len))
    }

    fn settle(&mut self, socket: SocketId, options: &Lifelines) {
        let entry = self.entry(socket.0);
        if entry.traits.is_settled() {
            return;
        }
        entry.traits = entry.traits.settled();
        set_lifelines(&entry.socket, options);
    }

    fn part(&mut self, socket: SocketId) -> OwnedFd {
        let (entry, _) = self.entries.remove(socket.0);
        debug_assert!(!entry.park.is_watched(), "nothing was asked of it yet");
        entry.socket.into()
    }

    fn adopt(&mut self, fd: OwnedFd, peer: Peer) -> SocketId {
        let is_tcp = peer != Peer::Unix;
        SocketId(self.insert(Socket::from(fd), Park::ACCEPTED, is_tcp, false))
    }

    fn condition(&mut self, socket: SocketId) -> Condition {
        // A socket that never waited is not watched yet; from now on its end is noticed.
        let watched = if self.is_streamed(socket.0) { Ok(()) } else { self.watch(socket.0, false) };
        let failed = self.entries.failed(socket.0);
        let entry = self.entries.entry(socket.0);
        if entry.park.is_broken() && failed.is_none() {
            // Asking takes the error away from the pull that comes later, so it is kept for it.
            // The kernel says EPIPE where FIN had come before the RST.
            if let Ok(Some(error)) = entry.socket.take_error() {
                match errno::failure(&error) {
                    Failure::Closed => {}
                    failure => self.entries.fail(socket.0, failure),
                }
            }
        }
        let broken = match watched {
            Ok(()) => self.entries.failed(socket.0),
            Err(error) => Some(errno::failure(&error)),
        };
        let entry = self.entries.entry(socket.0);
        let unacknowledged = if entry.traits.is_tcp() {
            kernel::unacknowledged(entry.socket.as_fd())
        } else {
            // What a Unix peer was sent is in its queue already and survives our close.
            Some(0)
        };
        let mute = unacknowledged != Some(0) && kernel::is_mute(entry.socket.as_fd());
        Condition { broken, unacknowledged, mute }
    }

    fn wait(&mut self, deadline: Option<Moment>) -> io::Result<Moment> {
        let may_feed = !self.starved.is_empty() && self.arena.has_room();
        let busy = !self.done.is_empty() || !self.ready.is_empty() || may_feed;
        let timeout = match deadline {
            _ if busy => Some(Duration::ZERO),
            Some(Moment::NEVER) | None => None,
            Some(deadline) => Some(deadline.since(self.read_clock())),
        };
        if Q::RECEIVES {
            self.provide();
        }
        self.queue.wait(timeout)?;
        self.take_edges();
        self.now = self.now.max(self.read_clock());
        Ok(self.now)
    }

    fn next(&mut self) -> Option<Completion> {
        if let Some(completion) = self.done.pop_front() {
            return Some(completion);
        }
        if !self.starved.is_empty() {
            let completion = self.attempt_starved();
            if completion.is_some() {
                return completion;
            }
        }
        while let Some(key) = self.ready.pop_front() {
            let completion = self.attempt(key);
            if completion.is_some() {
                return completion;
            }
        }
        None
    }

    fn waker(&self) -> Waker {
        self.queue.waker()
    }

    fn gauges(&self) -> Gauges {
        let buffers = self.arena.lent() - self.queue.buffers_lent();
        let pipes = self.pipes.lent();
        Gauges {
            sockets: self.entries.len(),
            parcels: buffers - self.pieces.len() + pipes,
            buffers,
            pipes,
            starved: self.starved_ever,
        }
    }
}

impl<Q> Readiness<Q> {
    #[allow(clippy::disallowed_methods)] // this is where the clock is read
    fn read_clock(&self) -> Moment {
        let nanos = Instant::now().duration_since(self.origin).as_nanos();
        Moment::from_nanos(nanos as u64)
    }
}

/// Sets what finds out about a vanished peer; also on listeners, whose connections inherit it.
pub(crate) fn set_lifelines(socket: &Socket, options: &Lifelines) {
    if let Some(keepalive) = options.keepalive {
        let probes = TcpKeepalive::new()
            .with_time(Duration::from_secs(u64::from(keepalive.idle_s)))
            .with_interval(Duration::from_secs(u64::from(keepalive.interval_s)))
            .with_retries(keepalive.count);
        let _ = SockRef::from(socket).set_tcp_keepalive(&probes);
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The ports that the kernel gives to connections: only there can TCP meet itself.
fn ephemeral_ports() -> std::ops::RangeInclusive<u16> {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| {
            let mut numbers = text.split_whitespace().map(str::parse);
            Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
        })
        .unwrap_or(1024..=u16::MAX)
}

/// Where the clock of every poller of this process begins, so that workers may compare moments.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// The most bytes of one splice.
#[cfg(target_os = "linux")]
const SPLICE_MAX: usize = 1024 * 1024;
/// Accepted sockets have the listener's options on Linux (tcp(7) does not promise it, the kernel's
/// sk_clone copies them); elsewhere they are set when a connection has reached some age.
const INHERITS: bool = cfg!(target_os = "linux");
#[cfg(any(target_os = "linux", target_os = "android"))]
const MSG_MORE: libc::c_int = libc::MSG_MORE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MSG_MORE: libc::c_int = 0;
