//! The simulated kernel: connections, their buffers and windows, FIN and RST as Linux does them.
//!
//! Knows: virtual time and dice. Does not know: pollers, actors, what the bytes are for.
//!
//! A connection is two ends, `2n` and `2n + 1`. What an end writes is the stream with the same
//! number, read by the end across ([`across`]).
//!
//! ```text
//! written ──▶ [send buffer] ──transmitted──▶ (latency) ──delivered──▶ [receive queue] ──▶ read
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use evenkeel::time::Moment;
use evenkeel::transfer::{Failure, Manner};

use crate::dice::{Dice, content};
use crate::faults::Faults;
use crate::oracle;

/// One end of a connection, and the stream that it writes.
pub type EndId = usize;

/// The end at the other side of the connection.
pub const fn across(end: EndId) -> EndId {
    end ^ 1
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// Still in an accept queue.
    Nobody,
    /// The poller under test.
    Poller,
    /// A scripted peer.
    Actor(usize),
    /// A law test.
    Hand,
}

/// Where bytes of a stream came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are the content of that stream from an offset on.
    Stream(EndId, u64),
    /// They were made up by the worker.
    Composed(Vec<u8>),
}

/// One end of a connection with the stream it writes.
#[derive(Debug)]
pub struct End {
    pub app: App,
    /// One-way latency of its connection.
    pub latency: Duration,
    /// Bytes written by the application.
    pub written: u64,
    /// Of those, bytes on the wire.
    pub transmitted: u64,
    /// Of those, bytes in the receive queue across.
    pub delivered: u64,
    /// Of those, bytes read by the application across.
    pub read: u64,
    /// The application shut its write side.
    pub finished: bool,
    /// The FIN is on the wire.
    pub fin_sent: bool,
    /// The FIN arrived across.
    pub fin_delivered: bool,
    /// Nothing of this stream moves any more.
    pub dead: bool,
    /// The application closed its socket.
    pub closed: bool,
    /// Closed at.
    pub closed_at: Moment,
    /// An RST arrived here.
    pub reset: bool,
    /// An RST was sent from here.
    pub reset_sent: bool,
    /// The pending error of the socket.
    pub error: Option<Failure>,
    /// Bytes this end did not make up itself: position in the stream and source.
    pub pieces: Vec<(u64, Source)>,
    /// When the worker was last told of a byte that moved here.
    pub moved: Moment,
    /// When it came about.
    pub since: Moment,
    /// When bytes or FIN of this stream last arrived across.
    pub acknowledged: Moment,
    /// When something last arrived here.
    pub news: Moment,
    /// The poller's end of the connection that this one is relayed to.
    pub partner: Option<EndId>,
    /// A session works on it.
    pub used: bool,
    /// A pull waits for a buffer.
    pub starved: bool,
    /// The worker ended it because nothing happened for long enough.
    pub timed_out: bool,
    last_arrival: Moment,
}

/// What happens at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes of a stream, and its FIN, arrive.
    Segment { stream: EndId, bytes: u64, fin: bool },
    /// An RST arrives.
    Reset { to: EndId },
    /// The reader of a stream made room.
    Window { stream: EndId },
    /// A connect of the poller is decided.
    Dialed { dial: usize, fate: Fate },
    /// The poller tries the first parcel once more.
    Retry { dial: usize },
    /// A client's SYN arrives at our door.
    Knock { client: EndId, door: usize },
    /// A scripted peer does something.
    Actor { actor: usize },
    /// Nothing; but somebody waits no longer.
    Tick,
}

/// What becomes of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The other side accepts; it is this service's backend.
    Accepted { target: usize },
    /// The same, and the RST comes along.
    AcceptedAndReset { target: usize },
    /// It fails.
    Failed(Failure),
    /// It was cancelled, and only now gives up.
    Cancelled,
}

/// Connections, events and time.
pub struct Kernel {
    pub now: Moment,
    pub dice: Dice,
    pub faults: Faults,
    pub ends: Vec<End>,
    /// Ends of the poller with news.
    pub touched: Vec<EndId>,
    /// Actors with news.
    pub stirred: Vec<usize>,
    /// Whether the oracles look on.
    pub judged: bool,
    /// What the oracles found.
    pub verdicts: Vec<String>,
    /// How long the worker waits for what.
    pub limits: Limits,
    /// From when on the worker may end everything, because it was told to.
    pub cut_at: Moment,
    /// Which session (slot and generation) works on which of our ends: client's and backend's.
    pub owners: HashMap<(u32, u32), [Option<EndId>; 2]>,
    pub trace: Trace,
    events: BinaryHeap<Reverse<Entry>>,
    serial: u64,
}

impl Kernel {
    pub fn new(seed: u64, faults: Faults, trace: Trace) -> Kernel {
        Kernel {
            now: Moment::from_nanos(1_000_000),
            dice: Dice::new(seed),
            faults,
            ends: Vec::new(),
            touched: Vec::new(),
            stirred: Vec::new(),
            judged: false,
            verdicts: Vec::new(),
            limits: Limits::default(),
            cut_at: Moment::NEVER,
            owners: HashMap::new(),
            trace,
            events: BinaryHeap::new(),
            serial: 0,
        }
    }

    /// Plans an event.
    pub fn at(&mut self, time: Moment, event: Event) {
        self.serial += 1;
        self.events.push(Reverse(Entry { time, serial: self.serial, event }));
    }

    /// Plans an event some time from now.
    pub fn after(&mut self, span: Duration, event: Event) {
        self.at(self.now + span, event);
    }

    /// When the next event is due.
    pub fn next_at(&self) -> Option<Moment> {
        self.events.peek().map(|entry| entry.0.time)
    }

    /// The next event, with the clock set to it.
    pub fn pop(&mut self) -> Option<Event> {
        let Reverse(entry) = self.events.pop()?;
        self.now = self.now.max(entry.time);
        Some(entry.event)
    }

    /// A line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace != Trace::Off {
            let line = format!("{} {}", self.now, line());
            match &mut self.trace {
                Trace::Off => {}
                Trace::Print => println!("{line}"),
                Trace::Keep(lines) => lines.push(line),
            }
        }
    }

    /// A fault found by an oracle.
    pub fn verdict(&mut self, fault: String) {
        self.note(|| format!("ORACLE {fault}"));
        self.verdicts.push(format!("at {}: {fault}", self.now));
    }

    /// A new connection; returns its even end, the one that connected.
    pub fn connection(&mut self, opener: App, acceptor: App, latency: Duration) -> EndId {
        let id = self.ends.len();
        let end = |app| End {
            app,
            latency,
            written: 0,
            transmitted: 0,
            delivered: 0,
            read: 0,
            finished: false,
            fin_sent: false,
            fin_delivered: false,
            dead: false,
            closed: false,
            closed_at: Moment::NEVER,
            reset: false,
            reset_sent: false,
            error: None,
            pieces: Vec::new(),
            moved: self.now,
            since: self.now,
            acknowledged: self.now,
            news: self.now,
            partner: None,
            used: false,
            starved: false,
            timed_out: false,
            last_arrival: Moment::ZERO,
        };
        self.ends.extend([end(opener), end(acceptor)]);
        id
    }

    /// A latency for a new connection.
    pub fn latency(&mut self) -> Duration {
        let max = self.faults.latency_max;
        Duration::from_nanos(self.dice.between(max / 10, max))
    }

    /// Bytes the send buffer of an end has room for.
    pub fn room(&self, end: EndId) -> u64 {
        let end = &self.ends[end];
        self.faults.send_buffer.saturating_sub(end.written - end.delivered)
    }

    /// Writes bytes that there is room for.
    pub fn write(&mut self, end: EndId, bytes: u64) {
        debug_assert!(bytes <= self.room(end) && !self.ends[end].finished);
        self.ends[end].written += bytes;
        self.transmit(end);
    }

    /// Bytes waiting to be read at an end.
    pub fn readable(&self, end: EndId) -> u64 {
        let stream = &self.ends[across(end)];
        stream.delivered - stream.read
    }

    /// Whether the FIN of the other side is the next thing to read.
    pub fn at_eof(&self, end: EndId) -> bool {
        let stream = &self.ends[across(end)];
        stream.fin_delivered && stream.delivered == stream.read
    }

    /// Takes bytes from the receive queue; the sender hears of the room.
    pub fn read(&mut self, end: EndId, bytes: u64) {
        let stream = across(end);
        debug_assert!(bytes <= self.readable(end));
        self.ends[stream].read += bytes;
        if self.ends[stream].transmitted < self.ends[stream].written {
            let latency = self.ends[stream].latency;
            self.after(latency, Event::Window { stream });
        }
    }

    /// Shuts the write side: a FIN goes after the bytes already written.
    pub fn finish(&mut self, end: EndId) {
        if self.ends[end].finished {
            return;
        }
        self.ends[end].finished = true;
        if self.judged && self.ends[end].app == App::Poller {
            oracle::on_finish(self, end);
        }
        self.transmit(end);
    }

    /// Closes a socket as Linux does: by RST when bytes were left unread or it was asked for.
    pub fn close(&mut self, end: EndId, manner: Manner) {
        if self.ends[end].closed {
            return;
        }
        self.ends[end].closed = true;
        self.ends[end].closed_at = self.now;
        if self.ends[end].reset {
            return;
        }
        if manner == Manner::Reset || self.readable(end) > 0 {
            self.send_reset(end);
        } else {
            self.finish(end);
        }
    }

    /// Bytes and FIN that the other side's kernel has not got.
    pub fn unacknowledged(&self, end: EndId) -> u64 {
        let end = &self.ends[end];
        if end.dead {
            return 0;
        }
        end.written - end.delivered + u64::from(end.finished && !end.fin_delivered)
    }

    /// The byte at a position of a stream.
    pub fn byte(&self, stream: EndId, position: u64) -> u8 {
        let pieces = &self.ends[stream].pieces;
        match pieces.iter().rev().find(|(from, _)| *from <= position) {
            None => content(stream, position),
            Some((from, Source::Stream(source, offset))) => {
                self.byte(*source, offset + position - from)
            }
            Some((from, Source::Composed(bytes))) => bytes[(position - from) as usize],
        }
    }

    /// Deals with a segment, an RST or a window update.
    pub fn arrive(&mut self, event: Event) {
        match event {
            Event::Segment { stream, bytes, fin } => self.segment(stream, bytes, fin),
            Event::Reset { to } => self.reset(to),
            Event::Window { stream } => self.transmit(stream),
            other => unreachable!("{other:?} is no affair of the kernel's"),
        }
    }

    /// Tells whoever holds an end that there is news.
    pub fn touch(&mut self, end: EndId) {
        self.ends[end].news = self.now;
        match self.ends[end].app {
            App::Poller => self.touched.push(end),
            App::Actor(actor) => self.stirred.push(actor),
            App::Nobody | App::Hand => {}
        }
    }

    /// Sends an RST and drops everything not yet on the wire.
    pub fn send_reset(&mut self, end: EndId) {
        if self.ends[end].reset_sent || self.ends[end].reset {
            return;
        }
        self.ends[end].reset_sent = true;
        self.ends[end].dead = true;
        if self.judged && self.ends[end].app == App::Poller {
            oracle::on_reset(self, end);
        }
        self.note(|| format!("  wire: RST from end {end}"));
        let time = self.arrival(end);
        self.at(time, Event::Reset { to: across(end) });
    }

    fn transmit(&mut self, stream: EndId) {
        let window = self.faults.window;
        let end = &mut self.ends[stream];
        if end.dead {
            return;
        }
        let admitted = window.saturating_sub(end.transmitted - end.read);
        let bytes = admitted.min(end.written - end.transmitted);
        end.transmitted += bytes;
        let fin = end.finished && !end.fin_sent && end.transmitted == end.written;
        end.fin_sent |= fin;
        if bytes > 0 || fin {
            let time = self.arrival(stream);
            self.at(time, Event::Segment { stream, bytes, fin });
        }
    }

    /// Segments of a stream arrive in order.
    fn arrival(&mut self, stream: EndId) -> Moment {
        let end = &mut self.ends[stream];
        end.last_arrival = end.last_arrival.max(self.now + end.latency);
        end.last_arrival
    }

    fn segment(&mut self, stream: EndId, bytes: u64, fin: bool) {
        let reader = across(stream);
        if self.ends[reader].reset_sent || self.ends[reader].reset {
            return;
        }
        if self.ends[reader].closed && bytes > 0 {
            // Bytes for a socket that nobody holds: the kernel answers by RST.
            self.send_reset(reader);
            return;
        }
        self.sign_of_life(reader);
        self.sign_of_life(stream);
        self.ends[stream].delivered += bytes;
        self.ends[stream].fin_delivered |= fin;
        self.ends[stream].acknowledged = self.now;
        self.touch(reader);
        self.touch(stream);
    }

    fn sign_of_life(&mut self, end: EndId) {
        if self.judged && self.ends[end].app == App::Poller {
            oracle::on_news(self, end);
        }
    }

    fn reset(&mut self, to: EndId) {
        let end = &self.ends[to];
        if end.reset || end.reset_sent {
            return;
        }
        self.sign_of_life(to);
        // In CLOSE_WAIT the error is EPIPE (net/ipv4/tcp_input.c, tcp_reset).
        let after_fin = self.ends[across(to)].fin_delivered;
        let end = &mut self.ends[to];
        end.reset = true;
        end.dead = true;
        end.error = Some(if after_fin { Failure::Closed } else { Failure::Reset });
        self.touch(to);
    }
}

/// How long the worker waits, as the oracles need to know it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// The same, when one side has finished.
    pub half_close: Duration,
    /// For a peer to take what it is owed by one that is gone.
    pub grace: Duration,
    /// For anything at all, and then some: a session that is older without news is stuck.
    pub longest: Duration,
}

/// Where the trace goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    Off,
    Print,
    Keep(Vec<String>),
}

struct Entry {
    time: Moment,
    serial: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.time, self.serial).cmp(&(other.time, other.serial))
    }
}
