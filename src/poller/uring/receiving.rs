//! Bytes that the ring takes in by itself: multishot receives into buffers it chooses from a ring of
//! them (`IORING_REGISTER_PBUF_RING`).
//!
//! The buffers are slots of the poller's arena, lent to the kernel until a completion names them.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode};
use nix::libc;

use super::{Ring, kind, user_data};
use crate::poller::errno;
use crate::poller::readiness::queue::{Key, Memory, Received};
use crate::transfer::Failure;

/// The buffers that the kernel may choose from.
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    tail: u16,
    /// How many are with the kernel.
    lent: usize,
}

#[allow(unsafe_code)]
// SAFETY: the memory behind the pointer is ours alone, and the kernel's; it is tied to no thread.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Shows the kernel an empty ring.
    ///
    /// # Errors
    /// When the kernel knows no such thing (before Linux 5.19), or refuses it.
    #[allow(unsafe_code)]
    pub(super) fn register(ring: &IoUring) -> io::Result<Buffers> {
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { alloc_zeroed(LAYOUT) };
        let entries = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let buffers = Buffers { entries, tail: 0, lent: 0 };
        // SAFETY: it is page-aligned memory of so many entries, and lives until it has been
        // unregistered, see `drop` of `Ring`.
        unsafe {
            let address = entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(address, ENTRIES, GROUP, 0)?;
        }
        Ok(buffers)
    }

    /// Lends the kernel one more.
    #[allow(unsafe_code)]
    pub(super) fn provide(&mut self, slot: u16, memory: Memory) {
        let at = usize::from(self.tail % ENTRIES);
        self.tail = self.tail.wrapping_add(1);
        self.lent += 1;
        // SAFETY: `at` is within the entries. The kernel reads an entry only when the tail has gone
        // past it, and the tail is a field of the first entry that its setters do not touch; only we
        // write it.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(at);
            entry.set_addr(memory.start as u64);
            entry.set_len(memory.len);
            entry.set_bid(slot);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    pub(super) fn wanted(&self) -> usize {
        usize::from(ENTRIES) - self.lent
    }

    pub(super) fn lent(&self) -> usize {
        self.lent
    }
}

impl Drop for Buffers {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and the kernel has let go of it.
        unsafe { dealloc(self.entries.as_ptr().cast(), LAYOUT) };
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("lent", &self.lent).finish_non_exhaustive()
    }
}

impl Ring {
    pub(super) fn start_receiving(&mut self, socket: BorrowedFd<'_>, key: Key) -> bool {
        if self.buffers.is_none() || !self.features.multishot_receive {
            return false;
        }
        let receive = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).build();
        self.push(receive.user_data(kind::RECEIVE | user_data(key)));
        true
    }

    /// What a completion of a receive brought.
    pub(super) fn received(&mut self, completion: &cqueue::Entry) -> Received {
        let (result, flags) = (completion.result(), completion.flags());
        let buffer = cqueue::buffer_select(flags);
        if buffer.is_some()
            && let Some(buffers) = &mut self.buffers
        {
            buffers.lent -= 1;
        }
        let slot = buffer.map(u32::from);
        let over = !cqueue::more(flags);
        match u32::try_from(result) {
            Ok(0) => Received { slot, len: 0, over, end: Some(Ok(())) },
            Ok(len) => Received { slot, len, over, end: None },
            Err(_) => {
                let end = match -result {
                    // Taken back; out of buffers; not known to this kernel.
                    libc::ECANCELED | libc::ENOBUFS => None,
                    libc::EINVAL | libc::EOPNOTSUPP => {
                        self.features.multishot_receive = false;
                        None
                    }
                    number => {
                        let error = io::Error::from_raw_os_error(number);
                        Some(Err::<(), Failure>(errno::failure(&error)))
                    }
                };
                Received { slot, len: 0, over, end }
            }
        }
    }
}

/// The one group of buffers.
pub(super) const GROUP: u16 = 0;

/// A power of two. As many as one run of the kernel over sockets with bytes may use up; who finds none
/// is received from by a call of our own.
const ENTRIES: u16 = 64;

/// `sysconf(_SC_PAGESIZE)` is larger on some systems; the kernel asks for alignment to its pages.
const PAGE: usize = 64 * 1024;

const LAYOUT: Layout =
    match Layout::from_size_align(ENTRIES as usize * size_of::<BufRingEntry>(), PAGE) {
        Ok(layout) => layout,
        Err(_) => panic!("a power of two"),
    };
