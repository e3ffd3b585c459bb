//! Connections to backends, and the first bytes with them.

use super::*;

impl Readiness {
    pub(super) fn connect(
        &mut self,
        token: Token,
        to: &Address,
        from: Option<IpAddr>,
        options: ConnectOptions,
        first: Option<Parcel>,
    ) -> Option<Outcome> {
        let (socket, waits) = match self.start_connect(to, from) {
            Ok(started) => started,
            Err(failure) => {
                return Some(Outcome::NotConnected { failure: Some(failure), first });
            }
        };
        let is_tcp = matches!(to, Address::Ip(_));
        let slot = self.insert(socket, Park::DIALED, is_tcp, is_tcp && options.nodelay);
        match (first, waits) {
            // Send before the kernel says that the connection stands: on a short path it does by
            // now, and a turn of the loop is saved. If not, the send would block.
            (Some(parcel), _) => match self.connect_and_send(slot, parcel) {
                Attempt::Over(outcome) => Some(outcome),
                Attempt::Waits(first) => self.park_connect(slot, token, first),
            },
            (None, false) => Some(Outcome::Connected { socket: SocketId(slot), first: None }),
            (None, true) => self.park_connect(slot, token, None),
        }
    }

    pub(super) fn start_connect(
        &self,
        to: &Address,
        from: Option<IpAddr>,
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
                let waits = match socket.connect(&SockAddr::from(*address)) {
                    Ok(()) => false,
                    Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
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
                    Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                        Ok((socket, true))
                    }
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
    ) -> Option<Outcome> {
        if let Err(error) = self.watch(slot, true) {
            drop(self.entries.remove(slot));
            let failure = Some(errno::failure(&error));
            return Some(Outcome::NotConnected { failure, first });
        }
        self.entry(slot).park.filled();
        self.entries.put_out(slot, Out::Connect { token, first });
        self.connecting.insert(token, slot);
        None
    }

    /// An edge came for a connecting socket.
    pub(super) fn continue_connect(
        &mut self,
        slot: u32,
        token: Token,
        first: Option<Parcel>,
    ) -> Option<Outcome> {
        let entry = self.entry(slot);
        let error = if entry.park.is_broken() { entry.socket.take_error() } else { Ok(None) };
        let attempt = match (error, first) {
            (Ok(Some(error)) | Err(error), first) => {
                Attempt::Over(self.connect_failed(slot, &error, first))
            }
            (Ok(None), Some(parcel)) => self.connect_and_send(slot, parcel),
            (Ok(None), None) => {
                Attempt::Over(Outcome::Connected { socket: SocketId(slot), first: None })
            }
        };
        match attempt {
            Attempt::Over(outcome) => {
                self.connecting.remove(&token);
                Some(outcome)
            }
            Attempt::Waits(first) => {
                self.entry(slot).park.filled();
                self.entries.put_out(slot, Out::Connect { token, first });
                None
            }
        }
    }

    pub(super) fn connect_and_send(&mut self, slot: u32, parcel: Parcel) -> Attempt {
        match self.send(slot, parcel, false) {
            Ok(sent) => {
                Attempt::Over(Outcome::Connected { socket: SocketId(slot), first: Some(sent) })
            }
            Err((error, parcel)) if would_block(&error) => Attempt::Waits(Some(parcel)),
            Err((error, parcel)) => Attempt::Over(self.connect_failed(slot, &error, Some(parcel))),
        }
    }

    pub(super) fn connect_failed(
        &mut self,
        slot: u32,
        error: &io::Error,
        first: Option<Parcel>,
    ) -> Outcome {
        drop(self.entries.remove(slot));
        // EPIPE: it stood for a moment and was reset before it took a byte.
        let failure = match errno::failure(error) {
            Failure::Closed => Failure::Reset,
            failure => failure,
        };
        Outcome::NotConnected { failure: Some(failure), first }
    }
}

/// A connect that is over, or one that goes on with its parcel.
pub(super) enum Attempt {
    Over(Outcome),
    Waits(Option<Parcel>),
}

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

fn local_address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}
