//! What is known of each socket, in 24 bytes, and beside it what only some have at a time.
//!
//! A proxied connection that is silent has two entries, each with a pull that waits, and nothing
//! else. A connect in flight, a push without room, a failure to remember: those are kept apart, in a
//! table that is as long as there ever were of them at once.

use std::num::NonZeroU32;

use slab::Slab;
use socket2::Socket;

use super::super::park::Park;
use crate::token::Token;
use crate::transfer::{Failure, Lane, Parcel};

/// The sockets of a poller.
#[derive(Debug)]
pub(super) struct Entries {
    entries: Slab<Entry>,
    asides: Slab<Aside>,
}

/// A connected or connecting socket.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) socket: Socket,
    pub(super) generation: u32,
    pub(super) park: Park,
    pub(super) traits: Traits,
    /// The lane that the waiting pull wishes for; `None`: no pull waits.
    pulling: Option<Lane>,
    /// Whose pull that is, or was.
    puller: Token,
    /// The number of its aside, or [`NONE`].
    aside: u32,
}

const _: () = assert!(size_of::<Option<Entry>>() == 24, "every connection pays for two");

/// What few sockets have, and most of them not for long.
#[derive(Debug)]
struct Aside {
    out: Out,
    failed: Option<Failure>,
    starving: Starving,
}

/// Whether a pull waits for a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starving {
    No,
    Queued,
    /// It was taken off the queue and gets its buffer now.
    Served,
}

/// What waits for room on a socket, or for its connection.
#[derive(Debug)]
pub(super) enum Out {
    Nothing,
    /// `early` bytes of the first parcel went with the SYN (TCP Fast Open), and may be lost with it.
    Connect {
        token: Token,
        first: Option<Parcel>,
        early: Option<NonZeroU32>,
    },
    Push {
        token: Token,
        parcel: Parcel,
        last: bool,
    },
}

/// No aside has this number: there would be 2^32 others.
const NONE: u32 = u32::MAX;

/// Sockets that there is room for from the beginning: 128 KiB and more, which an allocator maps on
/// their own. So the table grows by moving pages and leaves no hole behind, and what is not touched
/// costs nothing.
pub(super) const ROOM: usize = 8192;

impl Entries {
    /// None yet.
    pub(super) fn new() -> Entries {
        Entries { entries: Slab::with_capacity(ROOM), asides: Slab::new() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a socket in, and numbers it.
    pub(super) fn insert(
        &mut self,
        socket: Socket,
        generation: u32,
        park: Park,
        traits: Traits,
    ) -> u32 {
        self.entries.insert(Entry {
            socket,
            generation,
            park,
            traits,
            pulling: None,
            puller: Token::new(0, 0, 0),
            aside: NONE,
        }) as u32
    }

    /// Lets a socket go, with what waited for room on it.
    pub(super) fn remove(&mut self, slot: u32) -> (Entry, Out) {
        let entry = self.entries.remove(slot as usize);
        let aside = self.asides.try_remove(entry.aside as usize);
        (entry, aside.map_or(Out::Nothing, |aside| aside.out))
    }

    /// The entry of a socket, as long as there is one.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)
    }

    /// The entry of a socket that is there.
    pub(super) fn entry(&self, slot: u32) -> &Entry {
        self.entries.get(slot as usize).expect(IS_THERE)
    }

    /// The same, to be changed.
    pub(super) fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        self.entries.get_mut(slot as usize).expect(IS_THERE)
    }

    /// The socket whose waiting pull is `token`'s; looks through all of them.
    pub(super) fn with_pull(&self, token: Token) -> Option<u32> {
        let mut entries = self.entries.iter();
        let (slot, _) = entries.find(|(_, entry)| entry.pull().is_some_and(|(t, _)| t == token))?;
        Some(slot as u32)
    }

    /// The socket whose waiting push is `token`'s; looks through all of them.
    pub(super) fn with_push(&self, token: Token) -> Option<u32> {
        let mut entries = self.entries.iter();
        let (slot, _) = entries.find(|(_, entry)| {
            let aside = self.asides.get(entry.aside as usize);
            aside.is_some_and(|Aside { out, .. }| {
                matches!(out, Out::Push { token: waits, .. } if *waits == token)
            })
        })?;
        Some(slot as u32)
    }

    /// What waits for room on a socket does not any more.
    pub(super) fn take_out(&mut self, slot: u32) -> Out {
        self.change(slot, |aside| std::mem::replace(&mut aside.out, Out::Nothing))
            .unwrap_or(Out::Nothing)
    }

    /// Something waits for room on a socket where nothing did.
    pub(super) fn put_out(&mut self, slot: u32, out: Out) {
        self.make(slot).out = out;
    }

    /// A failure that an operation was told, for the pull that finds the queue empty behind it.
    pub(super) fn failed(&self, slot: u32) -> Option<Failure> {
        self.aside(slot)?.failed
    }

    /// Remembers one.
    pub(super) fn fail(&mut self, slot: u32, failure: Failure) {
        self.make(slot).failed = Some(failure);
    }

    /// Whether the pull of a socket waits for a buffer.
    pub(super) fn starving(&self, slot: u32) -> Starving {
        self.aside(slot).map_or(Starving::No, |aside| aside.starving)
    }

    /// It does now, or not any more.
    pub(super) fn starve(&mut self, slot: u32, starving: Starving) {
        if starving == Starving::No {
            self.change(slot, |aside| aside.starving = Starving::No);
        } else {
            self.make(slot).starving = starving;
        }
    }

    fn aside(&self, slot: u32) -> Option<&Aside> {
        self.asides.get(self.entry(slot).aside as usize)
    }

    /// The aside of a socket, a new one if it has none.
    fn make(&mut self, slot: u32) -> &mut Aside {
        let entry = self.entries.get_mut(slot as usize).expect(IS_THERE);
        if entry.aside == NONE {
            let empty = Aside { out: Out::Nothing, failed: None, starving: Starving::No };
            entry.aside = self.asides.insert(empty) as u32;
        }
        &mut self.asides[entry.aside as usize]
    }

    /// Changes the aside of a socket, where it has one, and puts it away when nothing is left in it.
    fn change<T>(&mut self, slot: u32, change: impl FnOnce(&mut Aside) -> T) -> Option<T> {
        let entry = self.entries.get_mut(slot as usize).expect(IS_THERE);
        let aside = self.asides.get_mut(entry.aside as usize)?;
        let changed = change(aside);
        if let Aside { out: Out::Nothing, failed: None, starving: Starving::No } = aside {
            self.asides.remove(entry.aside as usize);
            entry.aside = NONE;
        }
        Some(changed)
    }
}

const IS_THERE: &str = "a socket id is good until its close is over";

impl Entry {
    /// The pull that waits, and the lane it wishes for.
    pub(super) fn pull(&self) -> Option<(Token, Lane)> {
        Some((self.puller, self.pulling?))
    }

    /// A pull waits from now on.
    pub(super) fn put_pull(&mut self, token: Token, lane: Lane) {
        (self.puller, self.pulling) = (token, Some(lane));
    }

    /// It does not any more.
    pub(super) fn take_pull(&mut self) -> Option<Token> {
        self.pulling.take().map(|_| self.puller)
    }

    /// Whether something may wait for room: there is an aside.
    pub(super) fn may_want_room(&self) -> bool {
        self.aside != NONE
    }
}

/// What a socket is, and which of its options are set.
///
/// TCP_NODELAY is set before the second push: Nagle's algorithm cannot delay the first, because
/// nothing is unacknowledged then, and a connection with one request is spared the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits(u8);

impl Traits {
    /// A Unix socket.
    pub(super) const UNIX: Traits = Traits(SETTLED);
    /// A TCP socket.
    pub(super) const TCP: Traits = Traits(TCP);

    /// The same, with TCP_NODELAY wanted.
    pub(super) const fn nodelay(self) -> Traits {
        Traits(self.0 | WANTS_NODELAY)
    }

    /// The same, with its keep-alive set, or inherited.
    pub(super) const fn settled(self) -> Traits {
        Traits(self.0 | SETTLED)
    }

    /// Whether it is a TCP socket.
    pub(super) const fn is_tcp(self) -> bool {
        self.0 & TCP != 0
    }

    /// Whether it has its keep-alive, or can have none.
    pub(super) const fn is_settled(self) -> bool {
        self.0 & SETTLED != 0
    }

    /// Whether the kernel has not yet refused to splice from it.
    pub(super) const fn splices(self) -> bool {
        self.0 & REFUSED_SPLICE == 0
    }

    /// The kernel refused to splice from it.
    pub(super) fn refused_splice(&mut self) {
        self.0 |= REFUSED_SPLICE;
    }

    /// Whether TCP_NODELAY is due before the next push.
    pub(super) const fn nodelay_is_due(self) -> bool {
        self.0 & (WANTS_NODELAY | PUSHED) == WANTS_NODELAY | PUSHED
    }

    /// TCP_NODELAY was set.
    pub(super) fn has_nodelay(&mut self) {
        self.0 &= !WANTS_NODELAY;
    }

    /// A push took bytes.
    pub(super) fn pushed(&mut self) {
        self.0 |= PUSHED;
    }
}

const TCP: u8 = 1;
const SETTLED: u8 = 1 << 1;
const REFUSED_SPLICE: u8 = 1 << 2;
const WANTS_NODELAY: u8 = 1 << 3;
const PUSHED: u8 = 1 << 4;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn socket() -> Socket {
        let (near, _) = UnixStream::pair().expect("a pair of sockets");
        near.into()
    }

    fn entries(count: u32) -> Entries {
        let mut entries = Entries::new();
        for slot in 0..count {
            assert_eq!(entries.insert(socket(), 1, Park::ACCEPTED, Traits::UNIX), slot);
        }
        entries
    }

    fn push(role: u8) -> Out {
        let parcel = Parcel::new(Lane::Buffer, 3, 0, NonZeroU32::MIN);
        Out::Push { token: Token::new(9, 9, role), parcel, last: false }
    }

    #[test]
    fn an_aside_lasts_as_long_as_something_is_in_it() {
        let mut entries = entries(2);
        entries.put_out(1, push(4));
        entries.fail(1, Failure::Reset);
        entries.starve(1, Starving::Queued);
        assert!(matches!(entries.take_out(0), Out::Nothing));
        assert!(matches!(entries.take_out(1), Out::Push { .. }));
        assert!(matches!(entries.take_out(1), Out::Nothing));
        entries.starve(1, Starving::No);
        assert_eq!(entries.failed(1), Some(Failure::Reset));
        assert_eq!((entries.failed(0), entries.starving(0)), (None, Starving::No));
        assert_eq!(entries.asides.len(), 1, "the failure is remembered");
        entries.starve(0, Starving::Queued);
        entries.starve(0, Starving::Served);
        assert_eq!((entries.starving(0), entries.starving(1)), (Starving::Served, Starving::No));
        entries.starve(0, Starving::No);
        assert_eq!(entries.asides.len(), 1);
        drop(entries.remove(1));
        assert!(entries.asides.is_empty(), "an aside goes with its socket");
    }

    #[test]
    fn what_waits_is_found_by_its_token_and_leaves_with_its_socket() {
        let mut entries = entries(3);
        let pull = Token::new(0, 0, 0);
        assert_eq!(entries.with_pull(pull), None, "a token that never pulled");
        entries.entry_mut(2).put_pull(pull, Lane::Pipe);
        entries.put_out(1, push(4));
        assert_eq!(entries.entry(2).pull(), Some((pull, Lane::Pipe)));
        assert_eq!(entries.with_pull(pull), Some(2));
        assert_eq!(entries.with_push(Token::new(9, 9, 4)), Some(1));
        assert_eq!(entries.with_push(Token::new(9, 9, 5)), None);
        assert_eq!(entries.entry_mut(2).take_pull(), Some(pull));
        assert_eq!((entries.with_pull(pull), entries.entry_mut(2).take_pull()), (None, None));
        assert!(matches!(entries.remove(1), (_, Out::Push { .. })));
        assert!(matches!(entries.remove(2), (_, Out::Nothing)));
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn nodelay_is_due_before_the_second_push_and_once() {
        let mut traits = Traits::TCP.nodelay();
        assert!(!traits.nodelay_is_due(), "the first is not held back");
        traits.pushed();
        assert!(traits.nodelay_is_due());
        traits.has_nodelay();
        traits.pushed();
        assert!(!traits.nodelay_is_due(), "once is enough");
        let mut traits = Traits::TCP;
        traits.pushed();
        assert!(!traits.nodelay_is_due(), "not wanted");
        assert!(traits.is_tcp() && traits.splices() && !traits.is_settled());
    }
}
