//! A poller without a kernel: what is asked for is done at once, and costs next to nothing. What a
//! worker over it takes is the worker's own.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use evenkeel::net::Peer;
use evenkeel::poller::{
    Completion, Condition, Gauges, Lifelines, Op, Outcome, Poller, Sent, Waker,
};
use evenkeel::time::Moment;
use evenkeel::token::Token;
use evenkeel::transfer::{Lane, ListenerId, Parcel, SocketId};
use evenkeel::worker::{Turn, Worker};
use slab::Slab;

/// The poller. Peers are numbers of bytes: what they send is there at once, what they are sent is
/// taken at once.
#[derive(Debug)]
pub struct Still {
    sockets: Slab<Wire>,
    /// Connections that nobody accepted yet.
    knocking: u32,
    accept: Option<Token>,
    done: VecDeque<Completion>,
    nanos: u64,
    /// The sockets that came about last: accepted, and connected.
    newest: Line,
}

/// A connection through the worker: its two sockets.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    client: SocketId,
    backend: SocketId,
}

#[derive(Debug, Default)]
struct Wire {
    pull: Option<Token>,
    unread: u32,
    finished: bool,
}

impl Still {
    fn new() -> Still {
        Still {
            sockets: Slab::new(),
            knocking: 0,
            accept: None,
            done: VecDeque::new(),
            nanos: 0,
            newest: Line { client: SocketId(0), backend: SocketId(0) },
        }
    }

    /// A client connects.
    pub fn knock(&mut self) {
        self.knocking += 1;
        if let Some(token) = self.accept.take() {
            let outcome = self.accepted();
            self.done.push_back(Completion { token, outcome });
        }
    }

    /// The peer of a socket sends so many bytes.
    pub fn send(&mut self, socket: SocketId, bytes: u32) {
        let wire = &mut self.sockets[socket.0 as usize];
        wire.unread += bytes;
        self.tell(socket);
    }

    /// The peer of a socket has said everything.
    pub fn finish(&mut self, socket: SocketId) {
        self.sockets[socket.0 as usize].finished = true;
        self.tell(socket);
    }

    fn tell(&mut self, socket: SocketId) {
        if let Some(token) = self.sockets[socket.0 as usize].pull.take() {
            let outcome = self.sockets[socket.0 as usize].pulled();
            let outcome = outcome.expect("who tells has something to tell");
            self.done.push_back(Completion { token, outcome });
        }
    }

    fn accepted(&mut self) -> Outcome {
        self.knocking -= 1;
        self.newest.client = self.socket();
        Outcome::Accepted { socket: self.newest.client, peer: Peer::Unix }
    }

    fn socket(&mut self) -> SocketId {
        SocketId(self.sockets.insert(Wire::default()) as u32)
    }
}

impl Wire {
    fn pulled(&mut self) -> Option<Outcome> {
        match NonZeroU32::new(std::mem::take(&mut self.unread)) {
            Some(bytes) => {
                let parcel = Parcel::new(Lane::Buffer, 0, 0, bytes);
                Some(Outcome::Pulled { parcel, last: false })
            }
            None if self.finished => Some(Outcome::Ended),
            None => None,
        }
    }
}

impl Poller for Still {
    type Listener = ();

    fn listen(&mut self, (): ()) -> io::Result<ListenerId> {
        Ok(ListenerId(0))
    }

    fn unlisten(&mut self, _: ListenerId) {}

    fn submit(&mut self, token: Token, op: Op<'_>) -> Option<Outcome> {
        match op {
            Op::Accept { .. } if self.knocking > 0 => Some(self.accepted()),
            Op::Accept { .. } => {
                self.accept = Some(token);
                None
            }
            Op::Connect { first, .. } => {
                let first = first.map(|parcel| Sent { bytes: parcel.len(), rest: None });
                self.newest.backend = self.socket();
                Some(Outcome::Connected { socket: self.newest.backend, first })
            }
            Op::Pull { from, .. } => {
                let wire = &mut self.sockets[from.0 as usize];
                let outcome = wire.pulled();
                if outcome.is_none() {
                    wire.pull = Some(token);
                }
                outcome
            }
            Op::Push { parcel, .. } => {
                Some(Outcome::Pushed(Sent { bytes: parcel.len(), rest: None }))
            }
            Op::ShutdownWrite { .. } => Some(Outcome::Done),
            Op::Close { socket, .. } => {
                let Some(pull) = self.sockets.remove(socket.0 as usize).pull else {
                    return Some(Outcome::Done);
                };
                for (token, outcome) in [(pull, Outcome::Cancelled), (token, Outcome::Done)] {
                    self.done.push_back(Completion { token, outcome });
                }
                None
            }
        }
    }

    fn cancel(&mut self, _: Token) {}

    fn release(&mut self, _: Parcel) {}

    fn bytes(&self, _: &Parcel) -> Option<&[u8]> {
        None
    }

    fn compose(&mut self, _: &[u8]) -> Option<Parcel> {
        None
    }

    fn settle(&mut self, _: SocketId, _: &Lifelines) {}

    fn part(&mut self, _: SocketId) -> OwnedFd {
        unreachable!("the only worker has nobody to hand a connection to")
    }

    fn adopt(&mut self, _: OwnedFd, _: Peer) -> SocketId {
        unreachable!("the only worker is handed none")
    }

    fn condition(&mut self, _: SocketId) -> Condition {
        Condition { unacknowledged: Some(0), ..Condition::default() }
    }

    fn wait(&mut self, _: Option<Moment>) -> io::Result<Moment> {
        self.nanos += 1_000;
        Ok(Moment::from_nanos(self.nanos))
    }

    fn next(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    fn waker(&self) -> Waker {
        Waker::new(|| {})
    }

    fn gauges(&self) -> Gauges {
        Gauges { sockets: self.sockets.len(), ..Gauges::default() }
    }
}

/// A worker over it.
pub struct Relay {
    worker: Worker<Still>,
}

impl Relay {
    /// With one backend.
    pub fn new() -> Relay {
        let plan = super::plan(&["127.0.0.1:2".to_owned()]);
        let mut relay = Relay { worker: super::worker(Still::new(), plan, ()) };
        relay.turn();
        relay
    }

    /// A client comes, and the worker connects it.
    pub fn open(&mut self) -> Line {
        self.worker.poller().knock();
        self.turn();
        self.worker.poller().newest
    }

    /// The client sends, then the backend does.
    pub fn round_trip(&mut self, line: Line, request: u32, answer: u32) {
        self.worker.poller().send(line.client, request);
        self.turn();
        self.worker.poller().send(line.backend, answer);
        self.turn();
    }

    /// Both sides say that this was all.
    pub fn close(&mut self, line: Line) {
        self.worker.poller().finish(line.client);
        self.turn();
        self.worker.poller().finish(line.backend);
        self.turn();
    }

    /// Bytes that wait to be relayed, and sockets.
    pub fn at_rest(&mut self) -> (u32, usize) {
        let sockets = &self.worker.poller().sockets;
        (sockets.iter().map(|(_, wire)| wire.unread).sum(), sockets.len())
    }

    fn turn(&mut self) {
        let turn = self.worker.turn().expect("nothing can fail without a kernel");
        assert_eq!(turn, Turn::Running);
    }
}
