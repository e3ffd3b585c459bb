//! A worker over the real poller, a client and a backend, all in one thread. Over loopback what one
//! writes is mostly there for the next to read before the write returns; where it is not (the kernel
//! hands it to another thread when it is busy), they try again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use evenkeel::net::{Address, Listener};
use evenkeel::poller::Waker;
use evenkeel::poller::readiness::{Readiness, Settings};
use evenkeel::worker::{Turn, Worker};

/// The worker, and where it can be reached.
pub struct Relay {
    worker: Worker<Readiness>,
    waker: Waker,
    front: SocketAddr,
    backend: TcpListener,
    scratch: Vec<u8>,
}

/// A connection through the worker: its two ends.
pub struct Line {
    client: TcpStream,
    backend: TcpStream,
}

impl Relay {
    /// With one backend.
    pub fn new() -> Relay {
        let backend = TcpListener::bind("127.0.0.1:0").expect("a free port");
        backend.set_nonblocking(true).expect("a socket can be non-blocking");
        let to = backend.local_addr().expect("it is bound").to_string();
        let free = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let listener = Listener::bind(&free, 1024).expect("a free port");
        let Ok(Address::Ip(front)) = listener.address() else { panic!("it is bound to an IP") };
        let poller = Readiness::new(Settings::default()).expect("an event queue");
        let worker = super::worker(poller, super::plan(&[to]), listener);
        let waker = worker.waker();
        Relay { worker, waker, front, backend, scratch: vec![0; 1 << 20] }
    }

    /// A client comes, and the worker connects it.
    pub fn open(&mut self) -> Line {
        let client = TcpStream::connect(self.front).expect("the kernel takes it for us");
        client.set_nonblocking(true).expect("a socket can be non-blocking");
        client.set_nodelay(true).expect("so can Nagle's algorithm");
        for turn in 0..PATIENCE {
            self.turn(turn > 0);
            match self.backend.accept() {
                Ok((backend, _)) => {
                    backend.set_nonblocking(true).expect("a socket can be non-blocking");
                    backend.set_nodelay(true).expect("so can Nagle's algorithm");
                    return Line { client, backend };
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        panic!("nobody came to the backend");
    }

    /// The client sends, then the backend does.
    pub fn round_trip(&mut self, line: &Line, request: &[u8], answer: &[u8]) {
        self.carry(&line.client, &line.backend, request);
        self.carry(&line.backend, &line.client, answer);
    }

    /// Both sides say that this was all, and hear it of each other.
    pub fn close(&mut self, line: Line) {
        for (from, to) in [(&line.client, &line.backend), (&line.backend, &line.client)] {
            from.shutdown(Shutdown::Write).expect("the connection stands");
            self.carry_until(to, |read| read == 0);
        }
    }

    fn carry(&mut self, mut from: &TcpStream, to: &TcpStream, bytes: &[u8]) {
        assert_eq!(from.write(bytes).expect("room"), bytes.len(), "a buffer takes it whole");
        let mut left = bytes.len();
        self.carry_until(to, |read| {
            left -= read;
            left == 0
        });
    }

    /// Turns the worker until the reader has what it wants.
    fn carry_until(&mut self, mut to: &TcpStream, mut is_enough: impl FnMut(usize) -> bool) {
        for turn in 0..PATIENCE {
            self.turn(turn > 0);
            match to.read(&mut self.scratch) {
                Ok(read) if is_enough(read) => return,
                Ok(read) => assert!(read > 0, "the connection ended early"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        panic!("what was sent does not come out");
    }

    /// One turn of the worker. The first one for something new has an event to come; a worker without
    /// one would sleep, so later ones are woken.
    fn turn(&mut self, again: bool) {
        if again {
            self.waker.wake();
        }
        assert_eq!(self.worker.turn().expect("an event queue that works"), Turn::Running);
    }
}

/// Turns that one thing may take; more than one is rare.
const PATIENCE: usize = 1_000_000;
