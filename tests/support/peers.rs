//! Both ends of a proxied connection, played by the test.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::folder::Folder;
use super::ports::free_port;

/// How a socket is reached. Every statement about relaying is checked over all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    Unix,
}

/// All families, and those that know resets.
pub const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Unix];
pub const IP_FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Where something listens, written as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    /// A place of this family where nobody listens.
    pub fn free(family: Family, folder: &Folder) -> Place {
        let port = free_port();
        match family {
            Family::V4 => Place::Ip((Ipv4Addr::LOCALHOST, port).into()),
            Family::V6 => Place::Ip((Ipv6Addr::LOCALHOST, port).into()),
            Family::Unix => Place::Unix(folder.file(&format!("s{port}"))),
        }
    }

    /// The port, zero for a Unix socket.
    pub fn port(&self) -> u16 {
        match self {
            Place::Ip(address) => address.port(),
            Place::Unix(_) => 0,
        }
    }

    fn domain(&self) -> Domain {
        match self {
            Place::Ip(address) => Domain::for_address(*address),
            Place::Unix(_) => Domain::UNIX,
        }
    }

    fn address(&self) -> SockAddr {
        match self {
            Place::Ip(address) => SockAddr::from(*address),
            Place::Unix(path) => SockAddr::unix(path).expect("test folders have short paths"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Ip(address) => address.fmt(f),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How a stream of bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A FIN: the peer has said everything.
    Finished,
    /// A RST.
    Reset,
    /// Nothing came for as long as the reader was ready to wait.
    Silent,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Peer {
    socket: Socket,
    /// Did a send learn of a reset? The kernel tells of it once: the next read would say "end".
    reset: AtomicBool,
}

impl Peer {
    /// Connects, and panics if that fails.
    pub fn connect(place: &Place) -> Peer {
        Peer::try_connect(place)
            .unwrap_or_else(|error| panic!("cannot connect to {place}: {error}"))
    }

    /// Connects.
    pub fn try_connect(place: &Place) -> io::Result<Peer> {
        Peer::with(place, |_| Ok(()))
    }

    /// Connects, but waits no longer than `limit` for it.
    pub fn try_connect_within(place: &Place, limit: Duration) -> io::Result<Peer> {
        Peer::within(place, limit, |_| Ok(()))
    }

    /// Connects a socket that `prepare` has seen before.
    pub fn with(
        place: &Place,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Peer> {
        Peer::within(place, PATIENCE, prepare)
    }

    fn within(
        place: &Place,
        limit: Duration,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Peer> {
        let socket = Socket::new(place.domain(), Type::STREAM, None)?;
        prepare(&socket)?;
        match place {
            Place::Ip(_) => connect(&socket, &place.address(), limit)?,
            Place::Unix(_) => socket.connect(&place.address())?,
        }
        Ok(Peer::new(socket))
    }

    fn new(socket: Socket) -> Peer {
        let peer = Peer { socket, reset: AtomicBool::new(false) };
        peer.patience(PATIENCE);
        peer
    }

    /// The socket itself, for options.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Its local port.
    pub fn port(&self) -> u16 {
        port_of(self.socket.local_addr())
    }

    /// The port of the other end.
    pub fn peer_port(&self) -> u16 {
        port_of(self.socket.peer_addr())
    }

    /// How long a read or a write waits.
    pub fn patience(&self, limit: Duration) {
        self.socket.set_read_timeout(Some(limit)).expect("a timeout is allowed");
        self.socket.set_write_timeout(Some(limit)).expect("a timeout is allowed");
    }

    /// Sends all of `bytes`.
    pub fn send(&self, bytes: &[u8]) {
        self.try_send(bytes).expect("the bytes are taken");
    }

    /// Sends all of `bytes`, or says what stood in the way.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = (&self.socket).write_all(bytes);
        if sent.as_ref().is_err_and(is_reset) {
            self.reset.store(true, Ordering::Relaxed);
        }
        sent
    }

    /// Sends until nobody takes more for `limit`, at most `most` bytes; how many were taken.
    pub fn stuff(&self, bytes: &[u8], limit: Duration) -> usize {
        self.socket.set_write_timeout(Some(limit)).expect("a timeout is allowed");
        let mut sent = 0;
        while sent < bytes.len() {
            match (&self.socket).write(&bytes[sent..]) {
                Ok(size) => sent += size,
                Err(error) if is_timeout(&error) => break,
                Err(error) => panic!("stuffing ended with {error} after {sent} bytes"),
            }
        }
        self.socket.set_write_timeout(Some(PATIENCE)).expect("a timeout is allowed");
        sent
    }

    /// Says that nothing more will be sent (FIN).
    pub fn finish(&self) {
        self.socket.shutdown(Shutdown::Write).expect("the connection stands");
    }

    /// Breaks the connection off (RST).
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("lingering can be set");
    }

    /// Exactly `len` bytes.
    pub fn receive(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut had = 0;
        while had < len {
            match (&self.socket).read(&mut bytes[had..]) {
                Ok(0) => panic!("the stream ended after {had} of {len} bytes"),
                Ok(size) => had += size,
                Err(error) => panic!("reading ended with {error} after {had} of {len} bytes"),
            }
        }
        bytes
    }

    /// One read of at most `len` bytes: what came, or how it ended.
    pub fn receive_some(&self, len: usize) -> Result<Vec<u8>, End> {
        let mut bytes = vec![0; len];
        match (&self.socket).read(&mut bytes) {
            Ok(0) if self.reset.load(Ordering::Relaxed) => Err(End::Reset),
            Ok(0) => Err(End::Finished),
            Ok(size) => {
                bytes.truncate(size);
                Ok(bytes)
            }
            Err(error) if is_timeout(&error) => Err(End::Silent),
            Err(error) if is_reset(&error) => Err(End::Reset),
            Err(error) => panic!("reading ended with {error}"),
        }
    }

    /// Everything up to the end, and the kind of end.
    pub fn receive_all(&self) -> (Vec<u8>, End) {
        let mut all = Vec::new();
        loop {
            match self.receive_some(1 << 16) {
                Ok(bytes) => all.extend_from_slice(&bytes),
                Err(end) => return (all, end),
            }
        }
    }

    /// How the stream ends if nothing more arrives; bytes are a surprise.
    pub fn end(&self) -> End {
        match self.receive_some(64) {
            Ok(bytes) => panic!("expected an end, got {} bytes: {bytes:02x?}", bytes.len()),
            Err(end) => end,
        }
    }

    /// Is nothing to be read for `span`?
    pub fn is_silent_for(&self, span: Duration) -> bool {
        self.socket.set_read_timeout(Some(span)).expect("a timeout is allowed");
        let silent = self.receive_some(1) == Err(End::Silent);
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is allowed");
        silent
    }

    /// Sends `bytes` to a peer that echoes and checks what comes back.
    pub fn round_trip(&self, bytes: &[u8]) {
        self.send(bytes);
        assert!(self.receive(bytes.len()) == bytes, "the echo differs from what was sent");
    }

    /// As `round_trip`, as a question.
    pub fn try_round_trip(&self, bytes: &[u8]) -> Result<(), String> {
        self.try_send(bytes).map_err(|error| format!("sending: {error}"))?;
        let mut back = vec![0; bytes.len()];
        (&self.socket).read_exact(&mut back).map_err(|error| format!("receiving: {error}"))?;
        if back == bytes { Ok(()) } else { Err("the echo differs".into()) }
    }
}

/// A listening socket of the test.
pub struct Listener {
    socket: Socket,
    place: Place,
}

impl Listener {
    /// Listens at a free place of `family`.
    pub fn new(family: Family, folder: &Folder) -> Listener {
        Listener::at(Place::free(family, folder), 1024)
    }

    /// Listens at `place` with a queue of `backlog`.
    pub fn at(place: Place, backlog: i32) -> Listener {
        let socket =
            Socket::new(place.domain(), Type::STREAM, None).expect("a socket is to be had");
        if matches!(place, Place::Ip(_)) {
            socket.set_reuse_address(true).expect("a fresh socket takes options");
        }
        socket.bind(&place.address()).unwrap_or_else(|error| panic!("bind {place}: {error}"));
        socket.listen(backlog).expect("a bound socket can listen");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is allowed");
        Listener { socket, place }
    }

    /// Where it listens.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The socket itself, for options.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The next connection; waits for it.
    pub fn accept(&self) -> Peer {
        let (socket, _) = self.socket.accept().expect("a connection arrives in time");
        Peer::new(socket)
    }

    /// Makes the receive buffer of every connection small, so that a reader can be slow.
    pub fn shrink(&self) {
        self.socket.set_recv_buffer_size(4_096).expect("the size can be set");
    }

    /// Does nobody connect for `span`?
    pub fn is_silent_for(&self, span: Duration) -> bool {
        self.socket.set_read_timeout(Some(span)).expect("a timeout is allowed");
        let silent = self.socket.accept().is_err();
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is allowed");
        silent
    }
}

/// A backend that does the same with every connection, each on a thread of its own.
pub struct Backend {
    place: Place,
    socket: Arc<Socket>,
    stopping: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Serves every connection with `serve`.
    pub fn start(listener: Listener, serve: impl Fn(Peer) + Send + Sync + 'static) -> Backend {
        let Listener { socket, place } = listener;
        socket.set_read_timeout(None).expect("a timeout can be taken back");
        let socket = Arc::new(socket);
        let stopping = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let serve = Arc::new(serve);
        let thread = thread::spawn({
            let (socket, stopping, accepted) = (socket.clone(), stopping.clone(), accepted.clone());
            move || {
                while let Ok((peer, _)) = socket.accept() {
                    // SeqCst: test code, read by another thread after it saw the bytes.
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let serve = serve.clone();
                    thread::spawn(move || serve(Peer::new(peer)));
                }
            }
        });
        Backend { place, socket, stopping, accepted, thread: Some(thread) }
    }

    /// Sends back what it gets; a FIN too.
    pub fn echo(family: Family, folder: &Folder) -> Backend {
        Backend::start(Listener::new(family, folder), echo)
    }

    /// Where it listens.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How many connections it was given.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Linux ends a blocked accept on shutdown; elsewhere one more connection does it.
        let _ = self.socket.shutdown(Shutdown::Both);
        let _ = Peer::try_connect(&self.place);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends everything back until the peer finishes or breaks off.
pub fn echo(peer: Peer) {
    peer.patience(Duration::from_secs(60));
    while let Ok(bytes) = peer.receive_some(1 << 16) {
        if peer.try_send(&bytes).is_err() {
            return;
        }
    }
}

/// A blocking connect, which on Linux obeys the write timeout. A connection that is established and
/// then reset at once has succeeded; a poll for readiness would see the reset only.
#[cfg(target_os = "linux")]
fn connect(socket: &Socket, address: &SockAddr, limit: Duration) -> io::Result<()> {
    socket.set_write_timeout(Some(limit))?;
    socket.connect(address)
}

#[cfg(not(target_os = "linux"))]
fn connect(socket: &Socket, address: &SockAddr, limit: Duration) -> io::Result<()> {
    socket.connect_timeout(address, limit)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn port_of(address: io::Result<SockAddr>) -> u16 {
    address.ok().and_then(|address| address.as_socket()).map_or(0, |address| address.port())
}

/// How long a peer waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);
