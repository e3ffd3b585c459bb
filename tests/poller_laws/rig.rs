//! What a law test needs of the world: a poller, and peers that do as they are told.

use evenkeel::net::Address;
use evenkeel::poller::{Completion, Op, Outcome, Poller};
use evenkeel::time::Moment;
use evenkeel::token::Token;
use evenkeel::transfer::{ListenerId, Manner, Parcel, SocketId};
use std::time::Duration;

/// TCP or Unix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Unix,
}

pub const KINDS: [Kind; 2] = [Kind::Tcp, Kind::Unix];

/// A peer of the poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hand(pub usize);

/// What a peer saw when it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    Bytes(Vec<u8>),
    Finished,
    Reset,
}

/// One poller and its surroundings. No method blocks.
pub trait Rig {
    type P: Poller;

    /// Whether it can be judged here; if not, it has said why.
    fn runs() -> bool {
        true
    }
    /// A poller with so many buffers, and so many pipes.
    fn new(buffers: usize, pipes: usize) -> Self;
    fn poller(&mut self) -> &mut Self::P;
    /// Has the poller listen.
    fn listen(&mut self, kind: Kind) -> ListenerId;
    /// Connects to where the poller listens.
    fn knock(&mut self, listener: ListenerId) -> Hand;
    /// Somewhere to connect to.
    fn target(&mut self, kind: Kind) -> Address;
    /// Who connected there.
    fn taken(&mut self, target: &Address) -> Option<Hand>;
    /// An address where nobody listens.
    fn nobody(&mut self, kind: Kind) -> Address;
    /// An address that never answers, if there is such a thing.
    fn black_hole(&mut self) -> Option<Address>;
    /// Sends what there is room for.
    fn send(&mut self, hand: Hand, bytes: &[u8]) -> usize;
    /// Reads at most so many bytes.
    fn read(&mut self, hand: Hand, most: usize) -> Heard;
    fn finish(&mut self, hand: Hand);
    fn reset(&mut self, hand: Hand);
    fn close(&mut self, hand: Hand);
}

/// A rig with what all laws need: fresh tokens, and outcomes that can be waited for.
pub struct Bench<R: Rig> {
    pub rig: R,
    pub now: Moment,
    told: Vec<Completion>,
    flying: Vec<Token>,
    tokens: u32,
}

impl<R: Rig> Bench<R> {
    pub fn new() -> Bench<R> {
        Bench::sized(16, 4)
    }

    pub fn sized(buffers: usize, pipes: usize) -> Bench<R> {
        let rig = R::new(buffers, pipes);
        Bench { rig, now: Moment::ZERO, told: Vec::new(), flying: Vec::new(), tokens: 0 }
    }

    /// Submits under a fresh token; the outcome is kept until it is asked for.
    pub fn start(&mut self, op: Op<'_>) -> Token {
        self.tokens += 1;
        let token = Token::new(self.tokens, 1, 0);
        self.flying.push(token);
        if let Some(outcome) = self.rig.poller().submit(token, op) {
            self.told(Completion { token, outcome });
        }
        token
    }

    fn told(&mut self, completion: Completion) {
        let at = self.flying.iter().position(|token| *token == completion.token);
        let at =
            at.unwrap_or_else(|| panic!("law 1: {completion:?} was told before, or never asked"));
        self.flying.remove(at);
        self.told.push(completion);
    }

    /// Lets the poller run once, for a short while.
    pub fn turn(&mut self) {
        let deadline = self.now + Duration::from_millis(2);
        let now = self.rig.poller().wait(Some(deadline)).expect("the poller waits");
        assert!(now >= self.now, "law 8: {now} is before {}", self.now);
        self.now = now;
        while let Some(completion) = self.rig.poller().next() {
            self.told(completion);
        }
    }

    /// Turns until something is there.
    pub fn until<T>(&mut self, what: &str, mut is: impl FnMut(&mut Bench<R>) -> Option<T>) -> T {
        for _ in 0..TURNS {
            if let Some(it) = is(self) {
                return it;
            }
            self.turn();
        }
        panic!("{what}: not after {TURNS} turns");
    }

    /// The outcome of an operation, if it is told already.
    pub fn outcome_now(&mut self, token: Token) -> Option<Outcome> {
        let at = self.told.iter().position(|completion| completion.token == token)?;
        Some(self.told.remove(at).outcome)
    }

    /// The outcome of an operation.
    pub fn outcome(&mut self, token: Token) -> Outcome {
        self.until("an outcome", |bench| bench.outcome_now(token))
    }

    /// The tokens told, in order, and their outcomes.
    pub fn story(&mut self) -> &mut Vec<Completion> {
        &mut self.told
    }

    /// Whether an operation is still in flight after some turns.
    pub fn still_flying(&mut self, token: Token) -> bool {
        for _ in 0..5 {
            self.turn();
        }
        self.flying.contains(&token)
    }

    pub fn run(&mut self, op: Op<'_>) -> Outcome {
        let token = self.start(op);
        self.outcome(token)
    }

    /// A connection from a peer to the poller.
    pub fn accepted(&mut self, kind: Kind) -> (SocketId, Hand) {
        let listener = self.rig.listen(kind);
        let hand = self.rig.knock(listener);
        match self.run(Op::Accept { listener, room: u32::MAX }) {
            Outcome::Accepted { socket, .. } => (socket, hand),
            other => panic!("accept ended {other:?}"),
        }
    }

    /// A connection from the poller to a peer.
    pub fn connected(&mut self, kind: Kind) -> (SocketId, Hand) {
        let to = self.rig.target(kind);
        let socket = match self.run(connect(&to, None)) {
            Outcome::Connected { socket, first: None } => socket,
            other => panic!("connect ended {other:?}"),
        };
        let hand = self.until("the other end", |bench| bench.rig.taken(&to));
        (socket, hand)
    }

    /// Has a peer send all of it.
    pub fn send(&mut self, hand: Hand, bytes: &[u8]) {
        let mut sent = 0;
        self.until("room to send", |bench| {
            sent += bench.rig.send(hand, &bytes[sent..]);
            (sent == bytes.len()).then_some(())
        });
    }

    /// What a peer reads until it has so many bytes.
    pub fn hear(&mut self, hand: Hand, bytes: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        self.until("bytes for a peer", |bench| {
            if heard.len() < bytes {
                match bench.rig.read(hand, bytes - heard.len()) {
                    Heard::Bytes(more) => heard.extend(more),
                    Heard::Nothing => {}
                    end => panic!("{end:?} after {} of {bytes} bytes", heard.len()),
                }
            }
            (heard.len() == bytes).then_some(())
        });
        heard
    }

    /// How the stream to a peer ends, after any bytes.
    pub fn hear_end(&mut self, hand: Hand) -> Heard {
        self.until("the end for a peer", |bench| match bench.rig.read(hand, 4096) {
            Heard::Bytes(_) | Heard::Nothing => None,
            end => Some(end),
        })
    }

    /// Pushes a parcel, as often as it takes.
    pub fn push_all(&mut self, to: SocketId, parcel: Parcel) {
        let mut left = Some(parcel);
        while let Some(parcel) = left.take() {
            match self.run(Op::Push { to, parcel, last: false }) {
                Outcome::Pushed(sent) => left = sent.rest,
                other => panic!("push ended {other:?}"),
            }
        }
    }

    /// Bytes of a parcel whatever its lane: a pipe is pushed to a fresh peer that reads them.
    pub fn contents(&mut self, parcel: Parcel) -> Vec<u8> {
        if let Some(bytes) = self.rig.poller().bytes(&parcel) {
            let bytes = bytes.to_vec();
            self.rig.poller().release(parcel);
            return bytes;
        }
        let len = parcel.len().get() as usize;
        let (to, hand) = self.connected(Kind::Unix);
        let mut bytes = Vec::new();
        let mut left = Some(parcel);
        while let Some(parcel) = left.take() {
            let token = self.start(Op::Push { to, parcel, last: false });
            let outcome = self.until("a push while its peer reads", |bench| {
                if let Heard::Bytes(more) = bench.rig.read(hand, 1 << 20) {
                    bytes.extend(more);
                }
                bench.outcome_now(token)
            });
            match outcome {
                Outcome::Pushed(sent) => left = sent.rest,
                other => panic!("push ended {other:?}"),
            }
        }
        let rest = len - bytes.len();
        bytes.extend(self.hear(hand, rest));
        self.shut(to);
        bytes
    }

    pub fn shut(&mut self, socket: SocketId) {
        let outcome = self.run(Op::Close { socket, manner: Manner::Graceful });
        assert!(matches!(outcome, Outcome::Done), "close ended {outcome:?}");
    }

    /// Law 3, at rest: nothing is in flight, and nothing is lent.
    pub fn rest(mut self, sockets: usize) {
        assert!(self.flying.is_empty(), "in flight at the end: {:?}", self.flying);
        assert!(self.told.is_empty(), "untold at the end: {:?}", self.told);
        let gauges = self.rig.poller().gauges();
        assert_eq!((gauges.parcels, gauges.buffers, gauges.pipes), (0, 0, 0), "law 3: {gauges:?}");
        assert_eq!(gauges.sockets, sockets, "{gauges:?}");
    }
}

/// A plain connect.
pub fn connect(to: &Address, first: Option<Parcel>) -> Op<'_> {
    Op::Connect { to, from: None, options: Default::default(), first }
}

/// Bytes that tell their place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// After so many turns something that should happen never will.
const TURNS: usize = 2_000;
