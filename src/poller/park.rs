//! What is known of a socket's readiness between two edges.
//!
//! A socket is registered once, edge-triggered, and not before an operation on it has to wait: the
//! kernel reports the state at registration, so nothing is missed, and a connection that never
//! waits never registers. Between edges the bits here spare the calls that would only say
//! "would block".

/// The bits of one socket.
///
/// | bit | set by | cleared by |
/// |---|---|---|
/// | readable | an edge | a read that would block, or fell short (which empties the queue) |
/// | writable | birth, an edge | a write that would block, or fell short |
/// | finished | an edge that says FIN and no error | never |
/// | broken | an edge that says error | never |
/// | urgent | an edge that says urgent data | never: a splice stops for good at the mark |
/// | unsure | an edge that says error, urgent data, or the end of both directions | never: a short read proves nothing |
/// | pulled, familiar | the first bytes, the second; of what we dialed, birth | never |
/// | watched | registration | an edge that says so |
/// | watched for write | registration, modification | an edge that says so |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Park(u16);

impl Park {
    /// A socket just accepted: the client may have sent already, and has all the room there is.
    pub const ACCEPTED: Park = Park(READABLE | WRITABLE);

    /// A socket just connected: it has room, and an answer is not there yet. If it is, because the
    /// server speaks first, registration tells.
    pub const DIALED: Park = Park(WRITABLE | PULLED | FAMILIAR);

    /// The same, where a read that falls short proves nothing. Of a Unix socket: there it stops behind
    /// bytes that carried descriptors, however many are queued after them (net/unix/af_unix.c,
    /// unix_stream_read_generic). And where edges do not tell of urgent data.
    pub const fn unsure(self) -> Park {
        Park(self.0 | UNSURE)
    }

    /// Whether a read is worth a try.
    pub const fn is_readable(self) -> bool {
        self.0 & READABLE != 0
    }

    /// Whether a write is worth a try.
    pub const fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// Whether the peer's FIN is in, so that a read that falls short has reached it.
    pub const fn is_finished(self) -> bool {
        self.0 & (FINISHED | BROKEN | UNSURE) == FINISHED
    }

    /// Whether the connection is over by RST or error.
    pub const fn is_broken(self) -> bool {
        self.0 & BROKEN != 0
    }

    /// Whether urgent data was about: splice(2) takes its mark for the end of the stream.
    pub const fn is_urgent(self) -> bool {
        self.0 & URGENT != 0
    }

    /// Whether the kernel tells of bytes.
    pub const fn is_watched(self) -> bool {
        self.0 & WATCHED != 0
    }

    /// Whether the kernel tells of room.
    pub const fn is_watched_for_write(self) -> bool {
        self.0 & WATCHED_FOR_WRITE != 0
    }

    /// Takes note of an edge.
    pub fn edge(&mut self, edge: Edge) {
        let mut set = 0;
        if edge.readable || edge.finished || edge.broken || edge.unsure || edge.urgent {
            set |= READABLE;
        }
        if edge.writable || edge.broken {
            set |= WRITABLE;
        }
        if edge.finished {
            set |= FINISHED;
        }
        if edge.broken {
            set |= BROKEN;
        }
        if edge.urgent {
            set |= URGENT | UNSURE;
        }
        if edge.unsure {
            set |= UNSURE;
        }
        let mut clear = 0;
        if edge.unwatched {
            clear |= WATCHED;
        }
        if edge.unwatched_for_write {
            clear |= WATCHED_FOR_WRITE;
        }
        self.0 = self.0 & !clear | set;
    }

    /// A read would have blocked.
    pub fn drained(&mut self) {
        self.0 &= !READABLE;
    }

    /// A read brought less than was asked for: the queue is empty, and a new edge will tell of more.
    /// Unless the edge that told of the end has been (no other comes), or urgent data is about (a
    /// read stops short at its mark).
    pub fn fell_short(&mut self) {
        if self.0 & UNSURE == 0 {
            self.0 &= !READABLE;
        }
    }

    /// A write would have blocked, or took less than was offered.
    pub fn filled(&mut self) {
        self.0 &= !WRITABLE;
    }

    /// Bytes came.
    pub fn pulled(&mut self) {
        self.0 |= if self.0 & PULLED == 0 { PULLED } else { FAMILIAR };
    }

    /// Whether it has been heard of often enough to expect more. A client may be about to say everything in one
    /// go; what we dialed owes us an answer.
    pub const fn is_familiar(self) -> bool {
        self.0 & FAMILIAR != 0
    }

    /// It is watched for bytes no longer.
    pub fn unwatch(&mut self) {
        self.0 &= !WATCHED;
    }

    /// It was registered.
    pub fn watch(&mut self, for_write: bool) {
        self.0 |= WATCHED | if for_write { WATCHED_FOR_WRITE } else { 0 };
    }
}

/// What an edge said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// There are bytes.
    pub readable: bool,
    /// There is room.
    pub writable: bool,
    /// The peer's FIN is in, and nothing is wrong.
    pub finished: bool,
    /// Something is wrong.
    pub broken: bool,
    /// There is urgent data.
    pub urgent: bool,
    /// A read that falls short proves nothing from now on.
    pub unsure: bool,
    /// It is watched for bytes no longer.
    pub unwatched: bool,
    /// It is watched for room no longer.
    pub unwatched_for_write: bool,
}

const READABLE: u16 = 1;
const WRITABLE: u16 = 1 << 1;
const FINISHED: u16 = 1 << 2;
const BROKEN: u16 = 1 << 3;
const UNSURE: u16 = 1 << 4;
const WATCHED: u16 = 1 << 5;
const WATCHED_FOR_WRITE: u16 = 1 << 6;
const URGENT: u16 = 1 << 7;
const PULLED: u16 = 1 << 8;
const FAMILIAR: u16 = 1 << 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_read_means_drained_unless_something_else_may_end_it() {
        let mut park = Park::ACCEPTED;
        park.fell_short();
        assert!(!park.is_readable());
        park.edge(Edge { unsure: true, ..Edge::default() });
        park.fell_short();
        assert!(park.is_readable(), "it may have stopped at urgent data, or before the end");
        park.drained();
        assert!(!park.is_readable());
    }

    #[test]
    fn an_error_takes_the_word_of_fin_back() {
        let mut park = Park::ACCEPTED;
        park.edge(Edge { finished: true, ..Edge::default() });
        assert!(park.is_finished());
        park.edge(Edge { broken: true, ..Edge::default() });
        assert!(!park.is_finished() && park.is_broken());
    }
}
