//! Addresses as an operator writes them, and the listening sockets behind them.
//!
//! Knows: nothing of ours. Does not know: who accepts from a listener.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Where a listener binds or a backend answers: `1.2.3.4:80`, `[::1]:80` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IPv4 or IPv6 address with its port (and scope, for link-local ones).
    Ip(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl Address {
    /// The port of an IP address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Ip(address) => Some(address.port()),
            Address::Unix(_) => None,
        }
    }

    /// The IP address without its port.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(address) => Some(address.ip()),
            Address::Unix(_) => None,
        }
    }

    /// The path of a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Ip(_) => None,
            Address::Unix(path) => Some(path),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who connected to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over IP, from here.
    Ip(SocketAddr),
    /// Over a Unix socket; such a peer has no address.
    Unix,
    /// Over IP; from where was not asked, or cannot be known any more.
    Untold,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
            Peer::Untold => f.write_str("unknown"),
        }
    }
}

/// A listening socket, non-blocking; accepted sockets are non-blocking and close-on-exec too.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Listener {
    /// Binds and listens. A port of 0 is filled in by the kernel, see [`Listener::address`].
    ///
    /// # Errors
    /// What the kernel says: the address is in use, is not ours, or needs a privilege.
    pub fn bind(address: &Address, backlog: u32) -> io::Result<Listener> {
        Listener::bind_shared(address, backlog, false)
    }

    /// The same; with `share`, other sockets of this user may listen on the same TCP port and the
    /// kernel spreads connections over them (SO_REUSEPORT).
    ///
    /// # Errors
    /// As for [`Listener::bind`].
    pub fn bind_shared(address: &Address, backlog: u32, share: bool) -> io::Result<Listener> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        match address {
            Address::Ip(address) => {
                let socket = unbound(*address)?;
                if share {
                    socket.set_reuse_port(true)?;
                }
                socket.bind(&SockAddr::from(*address))?;
                socket.listen(backlog)?;
                socket.set_nonblocking(true)?;
                Ok(Listener(Kind::Tcp(mio::net::TcpListener::from_std(socket.into()))))
            }
            Address::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                remove_stale(path)?;
                socket.bind(&SockAddr::unix(path)?)?;
                socket.listen(backlog)?;
                socket.set_nonblocking(true)?;
                Ok(Listener(Kind::Unix(mio::net::UnixListener::from_std(socket.into()))))
            }
        }
    }

    /// Whether an address could be listened on alone, and which one it is (a port of 0 is filled
    /// in). Nobody can connect in the meantime.
    ///
    /// # Errors
    /// As for [`Listener::bind`].
    pub fn probe(address: &Address) -> io::Result<Address> {
        let Address::Ip(ip) = address else { return Ok(address.clone()) };
        let socket = unbound(*ip)?;
        socket.bind(&SockAddr::from(*ip))?;
        Ok(socket.local_addr()?.as_socket().map_or_else(|| address.clone(), Address::Ip))
    }

    /// Another handle on the same socket, for another poller.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn duplicate(&self) -> io::Result<Listener> {
        let socket = SockRef::from(self).try_clone()?;
        Ok(Listener(match &self.0 {
            Kind::Tcp(_) => Kind::Tcp(mio::net::TcpListener::from_std(socket.into())),
            Kind::Unix(_) => Kind::Unix(mio::net::UnixListener::from_std(socket.into())),
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn address(&self) -> io::Result<Address> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Address::Ip),
            Kind::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
                Ok(Address::Unix(path.to_owned()))
            }
        }
    }

    /// Whether its connections are TCP's.
    pub fn is_tcp(&self) -> bool {
        matches!(self.0, Kind::Tcp(_))
    }

    /// Has the kernel hold connections back until their first bytes came, or for a second
    /// (TCP_DEFER_ACCEPT). A Unix listener cannot and need not.
    ///
    /// # Errors
    /// What the kernel says; or that it knows no such thing.
    pub fn defer_accept(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Tcp(listener) => options::defer_accept(listener),
            Kind::Unix(_) => Ok(()),
        }
    }

    /// Lets clients that have been here before send bytes with their SYN (TCP Fast Open, RFC 7413).
    /// A Unix listener has no SYN.
    ///
    /// # Errors
    /// What the kernel says; or that it knows no such thing.
    pub fn fastopen(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Tcp(listener) => options::fastopen(listener),
            Kind::Unix(_) => Ok(()),
        }
    }

    /// Takes one connection off the queue.
    ///
    /// # Errors
    /// What accept(2) says, "would block" included.
    pub fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((stream.into(), Peer::Ip(peer)))
            }
            Kind::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((stream.into(), Peer::Unix))
            }
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match &self.0 {
            Kind::Tcp(listener) => listener.as_raw_fd(),
            Kind::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match &self.0 {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A TCP socket for a listener at `address`.
fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections in TIME_WAIT shall not keep a restarted balancer from its port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means IPv6; whoever wants both binds both.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Removes the file that a Unix listener left behind when it was killed. One that still answers is
/// left alone, and so is anything that is not a socket: binding then says "in use".
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;

    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    // Without blocking: one whose queue is full is alive.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Options of listening sockets that no crate of ours has by name.
#[cfg(target_os = "linux")]
mod options {
    use std::io;
    use std::os::fd::AsFd;

    use nix::sys::socket::setsockopt;
    use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(
        /// Seconds for which a connection without bytes is held back, rounded up to
        /// retransmissions of the SYN-ACK.
        DeferAccept,
        Both,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        i32
    );
    sockopt_impl!(
        /// How many connections may have sent bytes and not finished their handshake.
        FastOpen,
        Both,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        i32
    );

    pub(super) fn defer_accept(listener: &impl AsFd) -> io::Result<()> {
        Ok(setsockopt(listener, DeferAccept, &DEFER_S)?)
    }

    pub(super) fn fastopen(listener: &impl AsFd) -> io::Result<()> {
        Ok(setsockopt(listener, FastOpen, &FASTOPEN_MAX)?)
    }

    /// The least there is: the kernel's first retransmission comes after a second.
    const DEFER_S: i32 = 1;

    /// Beyond it the kernel does the usual handshake. A cookie can be collected by one and spent by
    /// many, so these are the connections that forged addresses may hold open.
    const FASTOPEN_MAX: i32 = 256;
}

#[cfg(not(target_os = "linux"))]
mod options {
    use std::io;

    pub(super) fn defer_accept<T>(_listener: &T) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn fastopen<T>(_listener: &T) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
