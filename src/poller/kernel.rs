//! System calls that no crate of ours wraps: what the kernel knows of a TCP connection, and the end
//! of two descriptors at once.

use std::os::fd::{BorrowedFd, OwnedFd};

/// Bytes (and FIN) sent and not acknowledged, sent or not; `None` where the kernel does not say.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn unacknowledged(socket: BorrowedFd<'_>) -> Option<u32> {
    use nix::libc;
    use std::os::fd::AsRawFd;

    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ, tcp(7)) writes one int through its argument,
    // `count` is one and outlives the call, and the descriptor is open while it is borrowed.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut count) };
    if result == 0 { u32::try_from(count).ok() } else { None }
}

/// Whether the peer leaves retransmissions or window probes unanswered, two in a row at least.
///
/// A live peer that does not read answers every probe (its window is zero, it is not), and that
/// sets the kernel's counts back.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn is_mute(socket: BorrowedFd<'_>) -> bool {
    use nix::libc;
    use std::os::fd::AsRawFd;

    // SAFETY: tcp_info is made of integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: TCP_INFO (tcp(7)) writes at most `len` bytes through its argument, `info` has as many
    // and outlives the call, and the descriptor is open while it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut len,
        )
    };
    result == 0 && (info.tcpi_retransmits >= 2 || info.tcpi_probes >= 2)
}

/// Closes two descriptors, in one system call if their numbers are neighbours.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn close_two(one: OwnedFd, other: OwnedFd) {
    use nix::libc;
    use std::os::fd::{FromRawFd, IntoRawFd};

    let (one, other) = (one.into_raw_fd(), other.into_raw_fd());
    let (first, last) = (one.min(other), one.max(other));
    if last - first == 1 {
        // By number, for older C libraries do not know it.
        // SAFETY: close_range(2) closes the descriptors from `first` to `last` and touches no
        // memory. There are two of them, and both are ours to close.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        if result == 0 {
            return;
        }
        // A kernel before 5.9 or a sandbox does not let us; then nothing was closed.
    }
    for fd in [one, other] {
        // SAFETY: it was an `OwnedFd` a moment ago and has not been closed since.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// Closes two descriptors.
#[cfg(not(target_os = "linux"))]
pub fn close_two(one: OwnedFd, other: OwnedFd) {
    drop((one, other));
}

/// Not asked on this platform.
#[cfg(not(target_os = "linux"))]
pub fn unacknowledged(_socket: BorrowedFd<'_>) -> Option<u32> {
    None
}

/// Not asked on this platform.
#[cfg(not(target_os = "linux"))]
pub fn is_mute(_socket: BorrowedFd<'_>) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn two_are_closed_and_no_third() {
        let pair = || UnixStream::pair().expect("there are descriptors");
        let is_over = |mut end: &UnixStream| matches!(end.read(&mut [0]), Ok(0));
        for swapped in [false, true] {
            let close_two = |one: UnixStream, other: UnixStream| {
                let (one, other) = if swapped { (other, one) } else { (one, other) };
                close_two(one.into(), other.into());
            };
            // Descriptors are given in order, but another test may have taken one in between.
            let ((a, b), (c, d)) = (0..100)
                .map(|_| (pair(), pair()))
                .find(|((a, b), (c, d))| {
                    let [a, b, c, d] = [a, b, c, d].map(AsRawFd::as_raw_fd);
                    (b, c, d) == (a + 1, a + 2, a + 3)
                })
                .expect("four in a row");
            close_two(b, c);
            assert!(is_over(&a) && is_over(&d), "neighbours");
            let (mut e, mut f) = pair(); // which has their numbers now, or others in between
            close_two(a, d);
            e.write_all(b"x").expect("it was not ours to close");
            f.read_exact(&mut [0]).expect("it was not ours to close");
            let ((a, b), (c, d)) = (pair(), pair());
            close_two(a, d);
            assert!(is_over(&b) && is_over(&c), "not neighbours");
        }
    }
}
