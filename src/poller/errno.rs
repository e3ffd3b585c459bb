//! What an errno means to a relay: whose fault, and whether elsewhere can help.

use std::io;

use nix::libc;

use crate::transfer::{Failure, Shortage};

/// The failure behind an error of `socket`, `connect`, `send`, `recv`, `splice` or `epoll_ctl`.
pub fn failure(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(errno) => from_errno(errno),
        None => Failure::Other(0),
    }
}

/// The same for a connect to a Unix path, where some numbers mean something else.
pub fn unix_connect_failure(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        // The listener's accept queue is full: connect(2) does not wait on a non-blocking socket.
        Some(libc::EAGAIN) => Failure::Busy,
        Some(libc::ENOENT | libc::ENOTSOCK | libc::EPROTOTYPE) => Failure::Refused,
        Some(errno) => from_errno(errno),
        None => Failure::Other(0),
    }
}

/// Whether an accept that failed so says nothing about the listener: the connection is gone, or
/// the network reported an error of its own through it (accept(2), "Error handling").
pub fn is_one_connections_fault(errno: i32) -> bool {
    #[cfg(target_os = "linux")]
    if matches!(errno, libc::ENONET) {
        return true;
    }
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EPROTO
            | libc::EPERM
            | libc::EINTR
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::ETIMEDOUT
            | libc::ECONNRESET
    )
}

fn from_errno(errno: i32) -> Failure {
    match errno {
        libc::ECONNREFUSED => Failure::Refused,
        libc::ECONNRESET | libc::ECONNABORTED | libc::ENOTCONN => Failure::Reset,
        libc::EPIPE => Failure::Closed,
        libc::ETIMEDOUT => Failure::TimedOut,
        libc::EHOSTUNREACH
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::ENETDOWN
        | libc::EACCES
        | libc::EPERM => Failure::Unreachable,
        libc::EMFILE => Failure::Shortage(Shortage::Descriptors),
        libc::ENFILE => Failure::Shortage(Shortage::SystemDescriptors),
        // EAGAIN: only from connect(2), "no more free local ports"; elsewhere it is not a failure.
        libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EAGAIN => Failure::Shortage(Shortage::Ports),
        // ENOSPC: epoll_ctl(2), fs.epoll.max_user_watches.
        libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC => Failure::Shortage(Shortage::Memory),
        other => Failure::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_run_out_of_is_never_the_peers_fault() {
        for errno in [
            libc::EMFILE,
            libc::ENFILE,
            libc::EADDRNOTAVAIL,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::ENOSPC,
        ] {
            assert!(from_errno(errno).is_local(), "errno {errno}");
        }
        for errno in [libc::ECONNREFUSED, libc::ECONNRESET, libc::ETIMEDOUT, libc::EHOSTUNREACH] {
            assert!(!from_errno(errno).is_local(), "errno {errno}");
        }
    }

    #[test]
    fn a_unix_path_that_is_not_there_is_nobody_listening() {
        let error = |errno| io::Error::from_raw_os_error(errno);
        assert_eq!(unix_connect_failure(&error(libc::ENOENT)), Failure::Refused);
        assert_eq!(unix_connect_failure(&error(libc::EAGAIN)), Failure::Busy);
    }
}
