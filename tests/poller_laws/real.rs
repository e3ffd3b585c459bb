//! The rig of the real pollers: std sockets on loopback.
//!
//! A new poller implements [`Real`] here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use evenkeel::net::{Address, Listener};
use evenkeel::poller::Poller;
use evenkeel::poller::readiness::{Readiness, Settings};
#[cfg(target_os = "linux")]
use evenkeel::poller::uring::{Features, Peers, Ring, Uring};
use evenkeel::transfer::ListenerId;
use socket2::{Domain, SockRef, Socket, Type};

use crate::rig::{Hand, Heard, Kind, Rig};

/// A poller over real sockets.
pub trait Real {
    type P: Poller;

    /// Whether the kernel has it; if not, this says so.
    fn runs() -> bool {
        true
    }
    /// A poller with so many buffers and pipes.
    fn open(buffers: usize, pipes: usize) -> Self::P;
    /// Has it listen; says where.
    fn listen(poller: &mut Self::P, address: &Address) -> (ListenerId, Address);
}

pub struct RealRig<B: Real> {
    poller: B::P,
    doors: Vec<(ListenerId, Address)>,
    targets: Vec<(Address, Listening)>,
    hands: Vec<Option<Stream>>,
    /// Connections that keep a black hole's queue full.
    stuffing: Vec<Socket>,
    paths: Vec<PathBuf>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn calm(self) -> Stream {
        match &self {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        }
        .expect("a socket can be made non-blocking");
        self
    }
}

impl<B: Real> RealRig<B> {
    fn path(&mut self) -> PathBuf {
        static PATHS: AtomicU32 = AtomicU32::new(0);
        // Only the number matters, and nothing is published by it.
        let number = PATHS.fetch_add(1, Ordering::Relaxed);
        let name = format!("evenkeel-laws-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        self.paths.push(path.clone());
        path
    }

    fn hold(&mut self, stream: Stream) -> Hand {
        self.hands.push(Some(stream.calm()));
        Hand(self.hands.len() - 1)
    }

    fn hand(&mut self, hand: Hand) -> &mut Stream {
        self.hands[hand.0].as_mut().expect("the peer has not closed yet")
    }
}

impl<B: Real> Rig for RealRig<B> {
    type P = B::P;

    fn runs() -> bool {
        B::runs()
    }

    fn new(buffers: usize, pipes: usize) -> RealRig<B> {
        RealRig {
            poller: B::open(buffers, pipes),
            doors: Vec::new(),
            targets: Vec::new(),
            hands: Vec::new(),
            stuffing: Vec::new(),
            paths: Vec::new(),
        }
    }

    fn poller(&mut self) -> &mut B::P {
        &mut self.poller
    }

    fn listen(&mut self, kind: Kind) -> ListenerId {
        let address = match kind {
            Kind::Tcp => Address::Ip(([127, 0, 0, 1], 0).into()),
            Kind::Unix => Address::Unix(self.path()),
        };
        let (id, address) = B::listen(&mut self.poller, &address);
        self.doors.push((id, address));
        id
    }

    fn knock(&mut self, listener: ListenerId) -> Hand {
        let door = self.doors.iter().find(|(id, _)| *id == listener).expect("it listens");
        let stream = match &door.1 {
            Address::Ip(address) => TcpStream::connect(address).map(Stream::Tcp),
            Address::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        };
        self.hold(stream.expect("the kernel takes the connection"))
    }

    fn target(&mut self, kind: Kind) -> Address {
        let (address, listening) = match kind {
            Kind::Tcp => {
                let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
                listener.set_nonblocking(true).expect("it can be made non-blocking");
                let address = listener.local_addr().expect("it is bound");
                (Address::Ip(address), Listening::Tcp(listener))
            }
            Kind::Unix => {
                let path = self.path();
                let listener = UnixListener::bind(&path).expect("the path is new");
                listener.set_nonblocking(true).expect("it can be made non-blocking");
                (Address::Unix(path), Listening::Unix(listener))
            }
        };
        self.targets.push((address.clone(), listening));
        address
    }

    fn taken(&mut self, target: &Address) -> Option<Hand> {
        let (_, listening) = self.targets.iter().find(|(address, _)| address == target)?;
        let stream = match listening {
            Listening::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listening::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        match stream {
            Ok(stream) => Some(self.hold(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept: {error}"),
        }
    }

    fn nobody(&mut self, kind: Kind) -> Address {
        match kind {
            // A port that was just free: nobody else is quick enough to listen there.
            Kind::Tcp => {
                let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
                Address::Ip(listener.local_addr().expect("it is bound"))
            }
            Kind::Unix => Address::Unix(self.path()),
        }
    }

    fn black_hole(&mut self) -> Option<Address> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        // Linux drops the SYNs for a full accept queue.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        listener.bind(&any.into()).expect("a port is free");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().expect("it is bound");
        for _ in 0..4 {
            let filler = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            filler.set_nonblocking(true).expect("it can be made non-blocking");
            let _ = filler.connect(&address);
            self.stuffing.push(filler);
        }
        self.stuffing.push(listener);
        Some(Address::Ip(address.as_socket().expect("it is an IP address")))
    }

    fn send(&mut self, hand: Hand, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let sent = match self.hand(hand) {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        };
        match sent {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("send: {error}"),
        }
    }

    fn read(&mut self, hand: Hand, most: usize) -> Heard {
        let mut bytes = vec![0; most];
        let read = match self.hand(hand) {
            Stream::Tcp(stream) => stream.read(&mut bytes),
            Stream::Unix(stream) => stream.read(&mut bytes),
        };
        match read {
            Ok(0) => Heard::Finished,
            Ok(n) => {
                bytes.truncate(n);
                Heard::Bytes(bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Heard::Reset,
            Err(error) => panic!("read: {error}"),
        }
    }

    fn finish(&mut self, hand: Hand) {
        match self.hand(hand) {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("the connection stands");
    }

    fn reset(&mut self, hand: Hand) {
        match self.hands[hand.0].take().expect("the peer has not closed yet") {
            Stream::Tcp(stream) => {
                SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .expect("a socket can be told to reset");
            }
            Stream::Unix(_) => panic!("a Unix socket cannot reset"),
        }
    }

    fn close(&mut self, hand: Hand) {
        self.hands[hand.0] = None;
    }
}

impl<B: Real> Drop for RealRig<B> {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// io_uring, as good as this kernel has it.
#[cfg(target_os = "linux")]
pub struct BestRing;

/// io_uring as an older kernel has it: no deferred work, no multishot accept.
#[cfg(target_os = "linux")]
pub struct OldRing;

/// io_uring with queues that overflow all the time.
#[cfg(target_os = "linux")]
pub struct CrampedRing;

#[cfg(target_os = "linux")]
impl Real for CrampedRing {
    type P = Uring;

    fn runs() -> bool {
        has_uring()
    }

    fn open(buffers: usize, pipes: usize) -> Uring {
        let settings = Settings { buffers_max: buffers, pipes_max: pipes, ..Settings::default() };
        let features = Features::probe().expect("io_uring");
        Readiness::over(Ring::sized(features, Peers::Untold, 1, 2).expect("a ring"), settings)
    }

    fn listen(poller: &mut Uring, address: &Address) -> (ListenerId, Address) {
        listen(poller, address)
    }
}

#[cfg(target_os = "linux")]
fn has_uring() -> bool {
    match evenkeel::poller::uring::available() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("NOT RUN: no io_uring here: {error}");
            false
        }
    }
}

#[cfg(target_os = "linux")]
fn ring(features: Features, buffers: usize, pipes: usize) -> Uring {
    let settings = Settings { buffers_max: buffers, pipes_max: pipes, ..Settings::default() };
    Readiness::over(Ring::new(features, Peers::Told).expect("a ring"), settings)
}

#[cfg(target_os = "linux")]
impl Real for BestRing {
    type P = Uring;

    fn runs() -> bool {
        has_uring()
    }

    fn open(buffers: usize, pipes: usize) -> Uring {
        ring(Features::probe().expect("io_uring"), buffers, pipes)
    }

    fn listen(poller: &mut Uring, address: &Address) -> (ListenerId, Address) {
        listen(poller, address)
    }
}

#[cfg(target_os = "linux")]
impl Real for OldRing {
    type P = Uring;

    fn runs() -> bool {
        has_uring()
    }

    fn open(buffers: usize, pipes: usize) -> Uring {
        let old = Features { deferred: false, multishot_accept: false, multishot_receive: false };
        ring(old, buffers, pipes)
    }

    fn listen(poller: &mut Uring, address: &Address) -> (ListenerId, Address) {
        listen(poller, address)
    }
}

fn listen<P: Poller<Listener = Listener>>(
    poller: &mut P,
    address: &Address,
) -> (ListenerId, Address) {
    let listener = Listener::bind(address, 128).expect("the address is free");
    let address = listener.address().expect("it is bound");
    (poller.listen(listener).expect("it can be watched"), address)
}

/// epoll or kqueue.
pub struct Mio;

impl Real for Mio {
    type P = Readiness;

    fn open(buffers: usize, pipes: usize) -> Readiness {
        let settings = Settings { buffers_max: buffers, pipes_max: pipes, ..Settings::default() };
        Readiness::new(settings).expect("the kernel has an event queue for us")
    }

    fn listen(poller: &mut Readiness, address: &Address) -> (ListenerId, Address) {
        listen(poller, address)
    }
}
