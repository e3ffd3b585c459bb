//! How a session ended: the termination code of its access record.

use std::fmt;

/// Why a session ended; the first cause wins.
///
/// The codes are HAProxy's two letters (first the event: upper case for an act, lower case for a
/// timeout; then the phase), so that what people and tools know of them carries over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both sides finished and nothing was left to deliver.
    Ok,
    /// The client was gone before a backend was reached.
    ClientAbort,
    /// The client reset the connection while data flowed.
    ClientReset,
    /// The client was silent, or left data unacknowledged, for longer than a timeout allows.
    ClientIdle,
    /// No backend took the connection.
    BackendRefused,
    /// No backend answered in time.
    ConnectTimeout,
    /// The backend reset the connection while data flowed.
    BackendReset,
    /// The backend was silent, or left data unacknowledged, for longer than a timeout allows.
    BackendIdle,
    /// No backend could be chosen.
    NoBackend,
    /// A limit of its listener was reached.
    Limit,
    /// We ran out of descriptors, ports or memory.
    LocalResource,
    /// `max_lifetime` had passed.
    Lifetime,
    /// We are stopping, and the drain time is over.
    Drain,
}

impl End {
    /// Every way a session can end.
    pub const ALL: [End; 13] = [
        End::Ok,
        End::ClientAbort,
        End::ClientReset,
        End::ClientIdle,
        End::BackendRefused,
        End::ConnectTimeout,
        End::BackendReset,
        End::BackendIdle,
        End::NoBackend,
        End::Limit,
        End::LocalResource,
        End::Lifetime,
        End::Drain,
    ];

    /// Two letters, as HAProxy has them where it has them.
    pub const fn code(self) -> &'static str {
        match self {
            End::Ok => "--",
            End::ClientAbort => "CC",
            End::ClientReset => "CD",
            End::ClientIdle => "cD",
            End::BackendRefused => "SC",
            End::ConnectTimeout => "sC",
            End::BackendReset => "SD",
            End::BackendIdle => "sD",
            End::NoBackend => "PX",
            End::Limit => "PC",
            End::LocalResource => "RC",
            End::Lifetime | End::Drain => "LD",
        }
    }

    /// The same in a word.
    pub const fn slug(self) -> &'static str {
        match self {
            End::Ok => "ok",
            End::ClientAbort => "client_abort_connect",
            End::ClientReset => "client_reset",
            End::ClientIdle => "client_idle",
            End::BackendRefused => "backend_refused",
            End::ConnectTimeout => "connect_timeout",
            End::BackendReset => "backend_reset",
            End::BackendIdle => "backend_idle",
            End::NoBackend => "no_backend",
            End::Limit => "limit",
            End::LocalResource => "local_resource",
            End::Lifetime => "lifetime",
            End::Drain => "drain",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_end_has_a_slug_of_its_own() {
        let slugs: HashSet<_> = End::ALL.iter().map(|end| end.slug()).collect();
        assert_eq!(slugs.len(), End::ALL.len());
    }
}
