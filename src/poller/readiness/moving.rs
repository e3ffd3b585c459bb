//! Bytes in and bytes out, by buffer or by pipe.

use super::*;

impl<Q: Queue> Readiness<Q> {
    pub(super) fn pull(&mut self, token: Token, from: SocketId, lane: Lane) -> Option<Outcome> {
        debug_assert!(self.entry(from.0).pull().is_none(), "one pull at a time on a socket");
        if self.is_streamed(from.0) {
            match self.pull_stream(from.0, lane) {
                Found::Outcome(outcome) => return Some(outcome),
                Found::Nothing => {
                    self.entry(from.0).put_pull(token, lane);
                    return None;
                }
                Found::Socket => {}
            }
        }
        if self.entry(from.0).park.is_readable() {
            let outcome = self.try_pull(from.0, lane);
            if outcome.is_some() {
                return outcome;
            }
        }
        self.entry(from.0).put_pull(token, lane);
        if let Err(error) = self.await_bytes(from.0, lane) {
            self.entry(from.0).take_pull();
            return Some(Outcome::Failed(errno::failure(&error)));
        }
        None
    }

    /// Has the queue tell of bytes for a pull that waits, or take them in.
    pub(super) fn await_bytes(&mut self, slot: u32, lane: Lane) -> io::Result<()> {
        if self.start_stream(slot, lane) { Ok(()) } else { self.watch(slot, false) }
    }

    pub(super) fn try_pull(&mut self, slot: u32, lane: Lane) -> Option<Outcome> {
        let entry = self.entries.entry(slot);
        if lane == Lane::Pipe
            && entry.traits.splices()
            && !entry.park.is_urgent()
            && let Some(pipe) = self.pipes.lend(self.now)
        {
            return self.splice_in(slot, pipe);
        }
        self.copy_in(slot)
    }

    pub(super) fn copy_in(&mut self, slot: u32) -> Option<Outcome> {
        // Whoever waits for a buffer comes first.
        let may_lend = self.starved.is_empty() || self.entries.starving(slot) == Starving::Served;
        let Some(buffer) = may_lend.then(|| self.arena.lend()).flatten() else {
            if self.entries.starving(slot) == Starving::No {
                self.entries.starve(slot, Starving::Queued);
                let generation = self.entry(slot).generation;
                self.starved.push_back(Key { slot, generation });
                self.starved_ever += 1;
            }
            return None;
        };
        let space = self.arena.slot_mut(buffer);
        let room = space.len();
        let entry = self.entries.entry_mut(slot);
        let read = loop {
            match (&entry.socket).read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        if let Ok(count) = read
            && let Some(len) = NonZeroU32::new(count as u32)
        {
            let mut last = false;
            if count < room {
                last = entry.park.is_finished();
                entry.park.fell_short();
            }
            entry.park.pulled();
            return Some(Outcome::Pulled {
                parcel: Parcel::new(Lane::Buffer, buffer, 0, len),
                last,
            });
        }
        self.arena.give_back(buffer);
        self.nothing_pulled(slot, read)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn splice_in(&mut self, slot: u32, pipe: u32) -> Option<Outcome> {
        use nix::fcntl::{SpliceFFlags, splice};

        let entry = self.entries.entry(slot);
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let moved = loop {
            let target = &self.pipes.pipe(pipe).write;
            match splice(&entry.socket, None, target, None, SPLICE_MAX, flags) {
                Err(nix::Error::EINTR) => {}
                moved => break moved.map_err(io::Error::from),
            }
        };
        if let Ok(count) = moved
            && let Some(len) = NonZeroU32::new(count as u32)
        {
            // A short splice says nothing: a pipe is full by slots long before it is by bytes.
            return Some(Outcome::Pulled {
                parcel: Parcel::new(Lane::Pipe, pipe, 0, len),
                last: false,
            });
        }
        self.pipes.give_back(pipe);
        match &moved {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.entry(slot).traits.refused_splice();
                self.copy_in(slot)
            }
            // The end, or the mark of urgent data with FIN somewhere behind it: only a read tells.
            Ok(_) => self.copy_in(slot),
            // The same without FIN, where no edge told of the mark.
            Err(error) if would_block(error) && !Q::TELLS_OF_URGENT_DATA => self.copy_in(slot),
            Err(_) => self.nothing_pulled(slot, moved),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn splice_in(&mut self, slot: u32, pipe: u32) -> Option<Outcome> {
        self.pipes.give_back(pipe);
        self.copy_in(slot)
    }

    pub(super) fn nothing_pulled(
        &mut self,
        slot: u32,
        result: io::Result<usize>,
    ) -> Option<Outcome> {
        match result {
            // Behind a failure that a push was told, the end of the queue is no FIN.
            Ok(_) => Some(self.entries.failed(slot).map_or(Outcome::Ended, Outcome::Failed)),
            Err(error) if would_block(&error) => {
                self.entry(slot).park.drained();
                None
            }
            Err(error) => Some(Outcome::Failed(errno::failure(&error))),
        }
    }

    // Pushing.

    pub(super) fn push(
        &mut self,
        token: Token,
        to: SocketId,
        parcel: Parcel,
        last: bool,
    ) -> Option<Outcome> {
        if self.entry(to.0).park.is_writable() {
            self.try_push(to.0, token, parcel, last)
        } else {
            self.park_push(to.0, token, parcel, last)
        }
    }

    pub(super) fn try_push(
        &mut self,
        slot: u32,
        token: Token,
        parcel: Parcel,
        last: bool,
    ) -> Option<Outcome> {
        match self.send(slot, parcel, last) {
            Ok(sent) => Some(Outcome::Pushed(sent)),
            Err((error, parcel)) if would_block(&error) => {
                self.park_push(slot, token, parcel, last)
            }
            Err((error, parcel)) => {
                self.release(parcel);
                // The kernel says EPIPE from its second answer on, whatever it said at first.
                let failure = match (errno::failure(&error), self.entries.failed(slot)) {
                    (Failure::Closed, Some(earlier)) => earlier,
                    (failure, _) => failure,
                };
                if failure != Failure::Closed && !failure.is_local() {
                    self.entries.fail(slot, failure);
                }
                Some(Outcome::Failed(failure))
            }
        }
    }

    pub(super) fn park_push(
        &mut self,
        slot: u32,
        token: Token,
        parcel: Parcel,
        last: bool,
    ) -> Option<Outcome> {
        self.entry(slot).park.filled();
        if let Err(error) = self.watch(slot, true) {
            self.release(parcel);
            return Some(Outcome::Failed(errno::failure(&error)));
        }
        self.entries.put_out(slot, Out::Push { token, parcel, last });
        None
    }

    /// Hands bytes to the kernel. The parcel comes back with the error when it took none.
    pub(super) fn send(
        &mut self,
        slot: u32,
        parcel: Parcel,
        last: bool,
    ) -> Result<Sent, (io::Error, Parcel)> {
        match self.offer(slot, &parcel, last) {
            Ok(bytes) => Ok(self.sent(slot, parcel, bytes)),
            Err(error) => Err((error, parcel)),
        }
    }

    /// Hands bytes to the kernel and says how many it took; the parcel is none the wiser.
    pub(super) fn offer(
        &mut self,
        slot: u32,
        parcel: &Parcel,
        last: bool,
    ) -> io::Result<NonZeroU32> {
        let entry = self.entries.entry_mut(slot);
        if entry.traits.nodelay_is_due() {
            let _ = entry.socket.set_tcp_nodelay(true);
            entry.traits.has_nodelay();
        }
        let count = loop {
            let result = match parcel.lane() {
                Lane::Buffer => {
                    let start = parcel.offset() as usize;
                    let bytes =
                        &self.arena.slot(parcel.slot())[start..][..parcel.len().get() as usize];
                    let more = if last { MSG_MORE } else { 0 };
                    entry.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL | more)
                }
                Lane::Pipe => splice_out(&self.pipes, parcel, &entry.socket, last),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let Some(bytes) = NonZeroU32::new(count as u32) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        entry.traits.pushed();
        Ok(bytes)
    }

    /// What is left of a parcel after the kernel took so many bytes of it.
    pub(super) fn sent(&mut self, slot: u32, parcel: Parcel, bytes: NonZeroU32) -> Sent {
        let (lane, number) = (parcel.lane(), parcel.slot());
        let rest = parcel.advance(bytes);
        match (&rest, lane) {
            (Some(_), _) => self.entry(slot).park.filled(),
            (None, Lane::Buffer) => self.arena.give_back(number),
            (None, Lane::Pipe) => self.pipes.give_back(number),
        }
        Sent { bytes, rest }
    }
}

#[cfg(target_os = "linux")]
fn splice_out(pipes: &Pipes, parcel: &Parcel, to: &Socket, last: bool) -> io::Result<usize> {
    use nix::fcntl::{SpliceFFlags, splice};

    let mut flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    if last {
        flags |= SpliceFFlags::SPLICE_F_MORE;
    }
    let source = &pipes.pipe(parcel.slot()).read;
    Ok(splice(source, None, to, None, parcel.len().get() as usize, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn splice_out(_: &Pipes, _: &Parcel, _: &Socket, _: bool) -> io::Result<usize> {
    unreachable!("no parcel is in a pipe where pipes are not lent")
}
