//! What the kernel tells of a TCP connection only through calls that no crate of ours wraps.

use std::os::fd::BorrowedFd;

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
