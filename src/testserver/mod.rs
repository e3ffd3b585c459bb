//! Scripted TCP peers: backends to try a balancer with, and clients' nightmares on purpose.
//!
//! Knows: sockets and threads of std. Does not know: anything else of ours.
//!
//! This is a test tool, so a connection simply has a thread and blocks in it: what a peer does
//! then reads like its script. Threads have small stacks and are used again, which is enough for
//! thousands of connections. One further thread accepts on every listener.

mod accept;
mod http;
mod peers;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::{Domain, Protocol, Socket, Type};

pub use peers::pattern;

/// What a scripted peer does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends back what it receives; ends its side when the other side has ended.
    Echo,
    /// Answers HTTP/1.1 requests and names itself in every answer.
    Http,
    /// Receives and discards.
    Sink,
    /// Sends [`pattern`] bytes, then ends its side and discards what comes.
    Source {
        /// How many; `None` goes on until the other side closes.
        bytes: Option<u64>,
    },
    /// Sends one byte and takes at most one byte per interval.
    Slow {
        /// Between two bytes.
        interval: Duration,
    },
    /// Accepts and resets (RST) at once.
    Reset,
    /// Accepts, then never reads, writes or closes.
    Hang,
    /// Echoes on the first connections of each listener, then closes the listener: who comes later
    /// is refused. Connections the kernel had already queued behind those are reset.
    RefuseAfter {
        /// How many connections a listener accepts.
        connections: u64,
    },
}

/// A running group of scripted peers. Dropping it ends them with all their connections.
#[derive(Debug)]
pub struct TestServer {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    waker: mio::Waker,
    acceptor: Option<JoinHandle<()>>,
    /// Never sent on. Dropping it tells peers that pause (see [`Shared::pause`]) to give up.
    running: Option<Sender<()>>,
}

impl TestServer {
    /// Binds to every address (port 0: a free one) and starts serving.
    ///
    /// `name` is what an HTTP peer calls itself; without one it is the address it listens on.
    ///
    /// # Errors
    /// When an address cannot be bound, with the address in the message, or when the machine is
    /// out of descriptors or threads.
    pub fn start(mode: Mode, name: Option<&str>, listen: &[SocketAddr]) -> io::Result<TestServer> {
        let listeners = listen.iter().map(|&at| bind(at)).collect::<io::Result<Vec<_>>>()?;
        let addresses =
            listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let (running, stopped) = bounded(0);
        let shared = Arc::new(Shared {
            mode,
            name: name.map(str::to_owned),
            stopping: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            live: Mutex::new(HashMap::new()),
            stopped,
        });
        let (waker, acceptor) = accept::spawn(listeners, Arc::clone(&shared))?;
        Ok(TestServer {
            addresses,
            shared,
            waker,
            acceptor: Some(acceptor),
            running: Some(running),
        })
    }

    /// Where it listens: the given addresses, in order, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The first address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.first().copied()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections open right now.
    pub fn open(&self) -> usize {
        self.shared.live().len()
    }

    /// HTTP requests answered so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Stops listening and closes every connection, as a crashed process would. The ports refuse
    /// connections once this returns.
    pub fn stop(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.running = None;
        if let Some(acceptor) = self.acceptor.take()
            && self.waker.wake().is_ok()
        {
            // A panic there has been printed already and nothing here depends on it.
            let _ = acceptor.join();
        }
        // Only now: nobody adds connections any more.
        for (_, stream) in self.shared.live().drain() {
            // Fails where the peer was first, which is just as well.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shut();
    }
}

/// What the threads of one [`TestServer`] share.
#[derive(Debug)]
struct Shared {
    mode: Mode,
    name: Option<String>,
    stopping: AtomicBool,
    accepted: AtomicU64,
    requests: AtomicU64,
    /// Open connections by number, so that they can be ended from outside their threads.
    live: Mutex<HashMap<u64, Arc<TcpStream>>>,
    stopped: Receiver<()>,
}

impl Shared {
    /// Waits; `false` when the server stops meanwhile.
    fn pause(&self, span: Duration) -> bool {
        use crossbeam_channel::RecvTimeoutError::{Disconnected, Timeout};
        match self.stopped.recv_timeout(span) {
            Err(Timeout) => true,
            Ok(()) | Err(Disconnected) => false,
        }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Arc<TcpStream>>> {
        // A thread that panicked leaves the map whole: each use is one insert, remove or drain.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An accepted connection; registered while it lives.
#[derive(Debug)]
struct Connection {
    number: u64,
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    local: SocketAddr,
    shared: Arc<Shared>,
}

impl Connection {
    /// Plays the script until the connection is over.
    fn serve(&self) {
        let stream = &*self.stream;
        // Every error here is the other side's doing (or our stopping), and ends the connection.
        let _ = match self.shared.mode {
            Mode::Echo | Mode::RefuseAfter { .. } => peers::echo(stream),
            Mode::Http => http::serve(self),
            Mode::Sink => peers::sink(stream),
            Mode::Source { bytes } => peers::source(stream, bytes),
            Mode::Slow { interval } => peers::slow(stream, &|| self.shared.pause(interval)),
            // Done with by the acceptor: they need no thread.
            Mode::Reset | Mode::Hang => Ok(()),
        };
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.live().remove(&self.number);
    }
}

fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    listen().map_err(|error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {at}: {}", explain(&error)))
    })
}

/// The error in the system's words, without the number that Rust appends.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// std's 128 would drop SYNs when thousands connect at once; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;
