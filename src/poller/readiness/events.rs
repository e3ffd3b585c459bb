//! Edges from epoll or kqueue, through mio.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use socket2::Socket;

use super::queue::{Key, News, Queue};
use crate::net::{Listener, Peer};
use crate::poller::park::{Edge, Park};
use crate::poller::{Waker, errno, kernel};
use crate::transfer::Failure;

/// The event queue of epoll or kqueue.
#[derive(Debug)]
pub struct Events {
    poll: Poll,
    events: mio::Events,
    waker: Arc<mio::Waker>,
    /// A socket whose close waits for that of its neighbour.
    hanging: Option<OwnedFd>,
}

impl Events {
    /// A queue of its own.
    ///
    /// # Errors
    /// When the kernel has no event queue or descriptor to give.
    pub fn new() -> io::Result<Events> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        let events = mio::Events::with_capacity(EVENTS_PER_WAIT);
        Ok(Events { poll, events, waker, hanging: None })
    }
}

impl Queue for Events {
    fn watch(
        &mut self,
        socket: BorrowedFd<'_>,
        key: Key,
        watched: Park,
        for_write: bool,
    ) -> io::Result<()> {
        if watched.is_watched() && (!for_write || watched.is_watched_for_write()) {
            return Ok(());
        }
        let mut interest = Interest::READABLE;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            interest |= Interest::PRIORITY;
        }
        if for_write {
            interest |= Interest::WRITABLE;
        }
        let fd = socket.as_raw_fd();
        if watched.is_watched() {
            self.poll.registry().reregister(&mut SourceFd(&fd), token(key), interest)
        } else {
            self.poll.registry().register(&mut SourceFd(&fd), token(key), interest)
        }
    }

    /// Closing takes it out, too. It is not done at once, but with the next one: the two sockets of a
    /// session are mostly made one after the other, so their numbers are neighbours, and sessions
    /// mostly close both at once: one system call of fourteen is saved.
    fn close(&mut self, socket: Socket, _: Key, _: Park) {
        match self.hanging.take() {
            Some(other) => kernel::close_two(other, socket.into()),
            None => self.hanging = Some(socket.into()),
        }
    }

    fn listen(&mut self, listener: &Listener, key: Key) -> io::Result<()> {
        let fd = listener.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), token(key), Interest::READABLE)
    }

    fn unlisten(&mut self, listener: Listener, _: Key) {
        // Dropped descriptors leave an epoll set by themselves only when no other process or
        // thread holds a copy; a listener may be shared.
        let fd = listener.as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    fn accept(
        &mut self,
        listener: &Listener,
        _: Key,
        _: u32,
    ) -> Option<Result<(OwnedFd, Peer), Failure>> {
        accept(listener)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.hanging = None;
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn news(&mut self, mut tell: impl FnMut(Key, News)) {
        for event in &self.events {
            if event.token() == WAKER {
                continue;
            }
            let broken = event.is_error();
            // HUP, or both directions over: by our FIN and theirs, or by RST.
            let over = event.is_write_closed();
            let edge = Edge {
                readable: event.is_readable() || event.is_read_closed(),
                writable: event.is_writable() || over,
                finished: event.is_read_closed() && !over && !broken,
                broken,
                unsure: broken || over,
                urgent: is_urgent(event),
                ..Edge::default()
            };
            tell(key(event.token()), News::Edge(edge));
        }
    }

    fn waker(&self) -> Waker {
        let waker = Arc::clone(&self.waker);
        // It can fail only when the kernel has no memory for an event: the poller then wakes by
        // its next deadline.
        Waker::new(move || drop(waker.wake()))
    }
}

/// Accepts one connection by accept(2); `None` when none waits.
pub(in crate::poller) fn accept(listener: &Listener) -> Option<Result<(OwnedFd, Peer), Failure>> {
    for _ in 0..ACCEPT_SKIPS {
        match listener.accept() {
            Ok(accepted) => return Some(Ok(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(0);
                if !errno::is_one_connections_fault(number) {
                    return Some(Err(errno::failure(&error)));
                }
            }
        }
    }
    Some(Err(Failure::Reset))
}

fn token(key: Key) -> Token {
    Token((u64::from(key.generation) << 32 | u64::from(key.slot)) as usize)
}

fn key(token: Token) -> Key {
    Key { slot: token.0 as u32, generation: (token.0 as u64 >> 32) as u32 }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_urgent(event: &mio::event::Event) -> bool {
    event.is_priority()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_urgent(_event: &mio::event::Event) -> bool {
    false
}

const _: () = assert!(usize::BITS == 64, "a mio token holds a slot and a generation");

const WAKER: Token = Token(usize::MAX);
/// Events taken from the kernel in one call.
const EVENTS_PER_WAIT: usize = 512;
/// Connections that may be gone before their accept, one after the other, before we look up.
const ACCEPT_SKIPS: usize = 16;
