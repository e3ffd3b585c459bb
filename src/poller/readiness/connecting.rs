//! Connections to backends, and the first bytes with them.

use super::*;

impl<Q: Queue> Readiness<Q> {
    pub(super) fn connect(
        &mut self,
        token: Token,
        to: &Address,
        from: Option<IpAddr>,
        options: ConnectOptions,
        first: Option<Parcel>,
    ) -> Option<Outcome> {
        let opening = match &first {
            None => Opening::Silent,
            // What went into a pipe and out again cannot be sent a second time.
            Some(parcel) if options.fastopen && parcel.lane() == Lane::Buffer => Opening::Fast,
            Some(_) => Opening::Ready,
        };
        let (socket, waits) = match self.start_connect(to, from, opening) {
            Ok(started) => started,
            Err(failure) => {
                return Some(Outcome::NotConnected { failure: Some(failure), first });
            }
        };
        let is_tcp = matches!(to, Address::Ip(_));
        let slot = self.insert(socket, Park::DIALED, is_tcp, is_tcp && options.nodelay);
        let attempt = match (first, waits) {
            // The peer's cookie is here, and the SYN is sent with the bytes.
            (Some(parcel), false) if opening == Opening::Fast && is_tcp => {
                self.connect_with(slot, parcel)
            }
            // Send before the kernel says that the connection stands: on a short path it does by
            // now, and a turn of the loop is saved. If not, the send would block.
            (Some(parcel), _) => self.connect_and_send(slot, parcel),
            (None, false) => {
                Attempt::Over(Outcome::Connected { socket: SocketId(slot), first: None })
            }
            (None, true) => Attempt::Waits { first: None, early: None },
        };
        match attempt {
            Attempt::Over(outcome) => Some(outcome),
            Attempt::Waits { first, early } => self.park_connect(slot, token, first, early),
        }
    }

    pub(super) fn start_connect(
        &self,
        to: &Address,
        from: Option<IpAddr>,
        opening: Opening,
    ) -> Result<(Socket, bool), Failure> {
        match to {
            Address::Ip(address) => {
                let domain = Domain::for_address(*address);
                let socket = stream_socket(domain, Some(Protocol::TCP))
                    .map_err(|error| errno::failure(&error))?;
                if let Some(ip) = from {
                    #[cfg(target_os = "linux")]
                    let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
                    socket
                        .bind(&SocketAddr::new(ip, 0).into())
                        .map_err(|error| errno::failure(&error))?;
                }
                prepare(&socket, opening);
                let waits = match socket.connect(&SockAddr::from(*address)) {
                    Ok(()) => false,
                    Err(error) if is_in_progress(&error) => true,
                    Err(error) => return Err(errno::failure(&error)),
                };
                // TCP connects to itself when the kernel picks the port that nobody listens on.
                let may_loop = self.ephemeral.contains(&address.port());
                if may_loop && local_address(&socket) == Some(*address) {
                    return Err(Failure::Loop);
                }
                Ok((socket, waits))
            }
            Address::Unix(path) => {
                let socket =
                    stream_socket(Domain::UNIX, None).map_err(|error| errno::failure(&error))?;
                let address =
                    SockAddr::unix(path).map_err(|error| errno::unix_connect_failure(&error))?;
                match socket.connect(&address) {
                    Ok(()) => Ok((socket, false)),
                    Err(error) if is_in_progress(&error) => Ok((socket, true)),
                    Err(error) => Err(errno::unix_connect_failure(&error)),
                }
            }
        }
    }

    pub(super) fn park_connect(
        &mut self,
        slot: u32,
        token: Token,
        first: Option<Parcel>,
        early: Option<NonZeroU32>,
    ) -> Option<Outcome> {
        if let Err(error) = self.watch(slot, true) {
            self.discard(slot);
            let failure = Some(errno::failure(&error));
            return Some(Outcome::NotConnected { failure, first });
        }
        self.entry(slot).park.filled();
        self.entries.put_out(slot, Out::Connect { token, first, early });
        self.connecting.insert(token, slot);
        None
    }

    /// An edge came for a connecting socket.
    pub(super) fn continue_connect(
        &mut self,
        slot: u32,
        token: Token,
        first: Option<Parcel>,
        early: Option<NonZeroU32>,
    ) -> Option<Outcome> {
        let entry = self.entry(slot);
        let error = if entry.park.is_broken() { entry.socket.take_error() } else { Ok(None) };
        let attempt = match (error, first, early) {
            (Ok(Some(error)) | Err(error), first, _) => {
                Attempt::Over(self.connect_failed(slot, &error, first))
            }
            (Ok(None), Some(parcel), Some(early)) => {
                Attempt::Over(self.connected_with(slot, parcel, early))
            }
            (Ok(None), Some(parcel), None) => self.connect_and_send(slot, parcel),
            (Ok(None), None, _) => {
                Attempt::Over(Outcome::Connected { socket: SocketId(slot), first: None })
            }
        };
        match attempt {
            Attempt::Over(outcome) => {
                self.connecting.remove(&token);
                Some(outcome)
            }
            Attempt::Waits { first, early } => {
                self.entry(slot).park.filled();
                self.entries.put_out(slot, Out::Connect { token, first, early });
                // It is watched already, or may be: nothing is there that could fail.
                let _ = self.watch(slot, true);
                None
            }
        }
    }

    fn connect_and_send(&mut self, slot: u32, parcel: Parcel) -> Attempt {
        match self.send(slot, parcel, false) {
            Ok(sent) => {
                Attempt::Over(Outcome::Connected { socket: SocketId(slot), first: Some(sent) })
            }
            Err((error, parcel)) if would_block(&error) => {
                Attempt::Waits { first: Some(parcel), early: None }
            }
            Err((error, parcel)) => Attempt::Over(self.connect_failed(slot, &error, Some(parcel))),
        }
    }

    /// Sends the SYN, and bytes with it. Those count as sent once the connection stands: until
    /// then it may be refused, and all of them are wanted elsewhere.
    fn connect_with(&mut self, slot: u32, parcel: Parcel) -> Attempt {
        match self.offer(slot, &parcel, false) {
            Ok(early) if self.entry(slot).socket.peer_addr().is_ok() => {
                Attempt::Over(self.connected_with(slot, parcel, early))
            }
            Ok(early) => Attempt::Waits { first: Some(parcel), early: Some(early) },
            // The SYN went without them.
            Err(error) if would_block(&error) || is_in_progress(&error) => {
                Attempt::Waits { first: Some(parcel), early: None }
            }
            Err(error) => Attempt::Over(self.connect_failed(slot, &error, Some(parcel))),
        }
    }

    fn connected_with(&mut self, slot: u32, parcel: Parcel, early: NonZeroU32) -> Outcome {
        let sent = self.sent(slot, parcel, early);
        Outcome::Connected { socket: SocketId(slot), first: Some(sent) }
    }

    pub(super) fn connect_failed(
        &mut self,
        slot: u32,
        error: &io::Error,
        first: Option<Parcel>,
    ) -> Outcome {
        self.discard(slot);
        // EPIPE: it stood for a moment and was reset before it took a byte.
        let failure = match errno::failure(error) {
            Failure::Closed => Failure::Reset,
            failure => failure,
        };
        Outcome::NotConnected { failure: Some(failure), first }
    }
}

/// A connect that is over, or one that goes on with its parcel.
enum Attempt {
    Over(Outcome),
    Waits { first: Option<Parcel>, early: Option<NonZeroU32> },
}

/// What there is to send when a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Nothing: the server may be the one that speaks first.
    Silent,
    /// Bytes, as soon as it stands.
    Ready,
    /// Bytes, with the SYN if the peer allows.
    Fast,
}

/// Has the kernel open a connection in the way that suits what will be sent. What it refuses, it
/// does as usual.
#[cfg(target_os = "linux")]
fn prepare(socket: &Socket, opening: Opening) {
    match opening {
        // With quick acknowledgements off, the last ACK of the handshake waits for something to
        // ride on, at most 200 ms (TCP_DELACK_MAX): so much later would a server accept, and greet,
        // that speaks first.
        Opening::Silent => {}
        // Here the bytes in hand carry it: a short connection had 16.5 segments instead of 18.6.
        Opening::Ready | Opening::Fast => {
            let _ = socket.set_tcp_quickack(false);
        }
    }
    if opening == Opening::Fast {
        let _ = setsockopt(socket, sockopt::TcpFastOpenConnect, &true);
    }
}

#[cfg(not(target_os = "linux"))]
fn prepare(_socket: &Socket, _opening: Opening) {}

fn stream_socket(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), protocol)?;
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let socket = {
        let socket = Socket::new(domain, Type::STREAM, protocol)?;
        socket.set_nonblocking(true)?;
        socket
    };
    Ok(socket)
}

fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}

fn local_address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}
