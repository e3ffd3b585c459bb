//! Kernel pipes for splicing, pooled.
//!
//! **Invariant:** a pipe in the pool is empty. One that may still hold bytes is closed instead:
//! the bytes belong to a session, and the next borrower is another.
//!
//! Pipes are rationed: beyond `fs.pipe-user-pages-soft` (16,384 pages a user by default) the kernel
//! refuses to grow a pipe and makes new ones of one or two pages. So a pipe is lent while bytes are
//! in it, not while a connection is open, and one too small to be worth its system calls is not
//! kept: callers copy instead.

use std::os::fd::OwnedFd;
use std::time::Duration;

use slab::Slab;

use crate::time::Moment;

/// A pool of pipes, bounded.
#[derive(Debug)]
pub struct Pipes {
    pipes: Slab<Pipe>,
    free: Vec<u32>,
    pipes_max: usize,
    size_wanted: usize,
    refused_until: Moment,
}

/// A pipe, both ends non-blocking.
#[derive(Debug)]
pub struct Pipe {
    /// Where bytes come out.
    pub read: OwnedFd,
    /// Where bytes go in.
    pub write: OwnedFd,
}

impl Pipes {
    /// A pool of at most `pipes_max` pipes, each grown to `size_wanted` bytes where the kernel
    /// allows. None is made yet.
    pub fn new(pipes_max: usize, size_wanted: usize) -> Pipes {
        Pipes {
            pipes: Slab::new(),
            free: Vec::new(),
            pipes_max,
            size_wanted,
            refused_until: Moment::ZERO,
        }
    }

    /// Lends an empty pipe; `None` when all are out or the kernel gives no useful one.
    pub fn lend(&mut self, now: Moment) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.pipes.len() >= self.pipes_max || now < self.refused_until {
            return None;
        }
        match make(self.size_wanted) {
            Some(pipe) => Some(self.pipes.insert(pipe) as u32),
            None => {
                self.refused_until = now + REFUSAL_PAUSE;
                None
            }
        }
    }

    /// Takes back a pipe that is empty.
    pub fn give_back(&mut self, slot: u32) {
        debug_assert!(!self.free.contains(&slot), "pipe {slot} was given back twice");
        self.free.push(slot);
    }

    /// Takes back a pipe that may hold bytes, and closes it.
    pub fn discard(&mut self, slot: u32) {
        drop(self.pipes.remove(slot as usize));
    }

    /// A lent pipe.
    pub fn pipe(&self, slot: u32) -> &Pipe {
        &self.pipes[slot as usize]
    }

    /// How many are lent.
    pub fn lent(&self) -> usize {
        self.pipes.len() - self.free.len()
    }
}

/// How long the kernel is not asked again after it refused a useful pipe.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// A smaller pipe moves less per system call than a copy does.
#[cfg(target_os = "linux")]
const SIZE_USEFUL: usize = 64 * 1024;

#[cfg(target_os = "linux")]
fn make(size_wanted: usize) -> Option<Pipe> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    let (read, write) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).ok()?;
    let mut size = size_wanted;
    while size > SIZE_USEFUL {
        // EPERM beyond pipe-max-size or the user's ration; a smaller one may be granted.
        if fcntl(&write, FcntlArg::F_SETPIPE_SZ(size as i32)).is_ok() {
            return Some(Pipe { read, write });
        }
        size /= 2;
    }
    let size = fcntl(&write, FcntlArg::F_GETPIPE_SZ).ok()?;
    (size as usize >= SIZE_USEFUL).then_some(Pipe { read, write })
}

#[cfg(not(target_os = "linux"))]
fn make(_size_wanted: usize) -> Option<Pipe> {
    None // splice is Linux's
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_comes_back_for_the_next_borrower_and_a_discarded_one_does_not() {
        let mut pipes = Pipes::new(1, 256 * 1024);
        let slot = pipes.lend(Moment::ZERO).expect("this machine has pipes");
        assert_eq!(pipes.lend(Moment::ZERO), None, "one is all there may be");
        pipes.give_back(slot);
        assert_eq!((pipes.lent(), pipes.pipes.len()), (0, 1));
        let slot = pipes.lend(Moment::ZERO).expect("the pooled one");
        pipes.discard(slot);
        assert_eq!((pipes.lent(), pipes.pipes.len()), (0, 0));
    }
}
