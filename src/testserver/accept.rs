//! The thread that accepts for every listener, and the pool of threads behind it.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::SockRef;

use super::{Connection, Mode, Shared};

/// Starts the accepting thread; the waker makes it look at `shared.stopping`.
pub(super) fn spawn(
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
) -> io::Result<(Waker, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let left = match shared.mode {
        Mode::RefuseAfter { connections } => connections,
        _ => u64::MAX,
    };
    let mut doors = Vec::new();
    for listener in listeners {
        let mut listener = mio::net::TcpListener::from_std(listener);
        poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
        doors.push(Door { listener, left });
    }
    let acceptor = Acceptor { poll, doors, shared, threads: Threads::new() };
    let thread = thread::Builder::new()
        .name("testserver-accept".into())
        .stack_size(STACK)
        .spawn(move || acceptor.run())?;
    Ok((waker, thread))
}

struct Acceptor {
    poll: Poll,
    doors: Vec<Door>,
    shared: Arc<Shared>,
    threads: Threads,
}

/// A listener, and how many it still lets in.
struct Door {
    listener: mio::net::TcpListener,
    left: u64,
}

impl Acceptor {
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut starved = false;
        loop {
            self.doors.retain(|door| door.left > 0);
            // Out of descriptors the kernel tells us nothing when one comes free: ask again.
            let timeout = starved.then_some(RETRY);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    log::error!("test server cannot wait for connections: {error}");
                    return;
                }
                Ok(()) | Err(_) => {}
            }
            if self.shared.stopping.load(Ordering::Acquire) {
                return;
            }
            let hungry = starved;
            starved = false;
            for door in &mut self.doors {
                if let Err(error) = drain(door, &self.shared, &self.threads) {
                    starved = true;
                    if !hungry {
                        log::warn!("test server cannot accept: {error}");
                    }
                }
            }
        }
    }
}

/// Accepts until the queue is empty: the poll is edge-triggered.
fn drain(door: &mut Door, shared: &Arc<Shared>, threads: &Threads) -> io::Result<()> {
    while door.left > 0 {
        match door.listener.accept() {
            Ok((stream, peer)) => {
                door.left -= 1;
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
                let stream = TcpStream::from(stream);
                // One that its peer has torn down already is no reason to stop accepting.
                let _ = admit(shared, threads, number, stream, peer);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                _ => return Err(error),
            },
        }
    }
    Ok(())
}

fn admit(
    shared: &Arc<Shared>,
    threads: &Threads,
    number: u64,
    stream: TcpStream,
    peer: std::net::SocketAddr,
) -> io::Result<()> {
    if shared.mode == Mode::Reset {
        // Closing with a linger time of zero is what sends RST instead of FIN.
        return SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream = Arc::new(stream);
    shared.live().insert(number, Arc::clone(&stream));
    if shared.mode != Mode::Hang {
        threads.run(Connection { number, stream, peer, local, shared: Arc::clone(shared) });
    }
    Ok(())
}

/// A thread for every connection that is open, kept a while for the next one.
struct Threads {
    /// Rendezvous: a connection goes through only when an idle thread stands at the other end.
    idle: Sender<Connection>,
    next: Receiver<Connection>,
}

impl Threads {
    fn new() -> Threads {
        let (idle, next) = bounded(0);
        Threads { idle, next }
    }

    fn run(&self, connection: Connection) {
        let connection = match self.idle.try_send(connection) {
            Ok(()) => return,
            Err(TrySendError::Full(connection) | TrySendError::Disconnected(connection)) => {
                connection
            }
        };
        let next = self.next.clone();
        let spawned =
            thread::Builder::new().name("testserver".into()).stack_size(STACK).spawn(move || {
                connection.serve();
                drop(connection);
                while let Ok(connection) = next.recv_timeout(KEEP) {
                    connection.serve();
                }
            });
        if let Err(error) = spawned {
            // The connection went with the closure and is closed: its peer sees that much.
            log::warn!("test server is out of threads, one connection is dropped: {error}");
        }
    }
}

const WAKE: Token = Token(1);
const RETRY: Duration = Duration::from_millis(100);
const KEEP: Duration = Duration::from_secs(5);
/// Buffers are on the heap, so this is ample.
const STACK: usize = 128 * 1024;
