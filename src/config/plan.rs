//! The plan: everything a configuration says, with every default filled in and every
//! contradiction already refused.
//!
//! **Invariant:** nothing here is optional because someone forgot it; `None` means "off" or "auto",
//! as said at the field. Who holds a `Plan` checks nothing again.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::net::Address;

/// What this process is to do: listeners in front, pools behind, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How many data-plane threads.
    pub workers: Workers,
    /// Whether each worker is tied to one core.
    pub pin_workers: bool,
    /// Which kernel interface moves the bytes.
    pub poller: PollerKind,
    /// When bytes go through a pipe instead of our memory.
    pub zero_copy: ZeroCopy,
    /// What is logged, how and where.
    pub log: LogPlan,
    /// Where this process stands; backends in the same zone are preferred. `None` prefers nobody.
    pub zone: Option<String>,
    /// Socket options of both ends of a session.
    pub tcp: TcpPlan,
    /// Ceilings of the whole process.
    pub limits: LimitsPlan,
    /// How long a graceful stop waits for open sessions; zero stops at once.
    pub drain: Duration,
    /// In the order of the file; never empty.
    pub listeners: Vec<ListenerPlan>,
    /// In the order of the file; never empty. `ListenerPlan::pool` is an index into it.
    pub pools: Vec<PoolPlan>,
}

/// How many data-plane threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One per core this process may run on.
    Auto,
    /// Exactly this many, at least one.
    Count(u16),
}

/// Which kernel interface moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollerKind {
    /// The best one this system has.
    Auto,
    /// Linux readiness.
    Epoll,
    /// BSD and macOS readiness.
    Kqueue,
    /// Linux completion.
    IoUring,
}

/// When bytes go through a pipe instead of our memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// When a session has moved enough for it to pay.
    Auto,
    /// From the first byte.
    Always,
    /// Not at all.
    Never,
}

/// What is logged, how and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The least severe message that is written.
    pub level: LogLevel,
    /// For people or for machines.
    pub format: LogFormat,
    /// Which sessions leave an access record.
    pub access: Access,
    /// Where both go.
    pub output: LogOutput,
}

/// Severity of a log message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What we want to know.
    Debug,
    /// Every step.
    Trace,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Which sessions leave an access record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every one.
    All,
    /// Those that did not end well.
    Errors,
    /// None.
    Off,
    /// One in this many, at least one.
    Sampled(u32),
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// Socket options of both ends of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpPlan {
    /// Send small segments at once.
    pub nodelay: bool,
    /// Probe silent peers; `None` is off.
    pub keepalive: Option<KeepalivePlan>,
    /// How long sent bytes may stay unacknowledged, in whole milliseconds; `None` leaves it to the
    /// kernel.
    pub user_timeout: Option<Duration>,
    /// Connections the kernel may hold for us before we accept them; it clamps this to somaxconn.
    pub backlog: u32,
}

/// How a silent peer is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePlan {
    /// Silence before the first probe, in whole seconds.
    pub idle: Duration,
    /// Between probes, in whole seconds.
    pub interval: Duration,
    /// Unanswered probes before the connection is dead.
    pub count: u32,
}

/// Ceilings of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsPlan {
    /// Sessions at once; `None` derives it from the limit on open files.
    pub max_connections: Option<u32>,
    /// Connections a worker accepts before it looks at its sessions again.
    pub accepts_per_wake: u32,
    /// 16 KiB buffers per worker; `None` derives it from the connections.
    pub buffers: Option<u32>,
}

/// One listener: where clients connect, and which pool serves them.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    /// Unique among listeners.
    pub name: String,
    /// Never empty, and no two listeners share one. `0.0.0.0:80` and `[::]:80` may both be bound,
    /// so a v6 socket takes v6 only.
    pub binds: Vec<Bind>,
    /// Index into `Plan::pools`.
    pub pool: usize,
    /// For sessions that came in here: the defaults, under what the pool says, under what the
    /// listener says.
    pub timeouts: Timeouts,
    /// Sessions of this listener at once; `None` is no limit of its own.
    pub max_connections: Option<u32>,
    /// Connections are accepted when bytes came, or a second later.
    pub defer_accept: bool,
    /// Clients may send bytes with the SYN.
    pub fastopen: bool,
}

/// Where a listener accepts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bind {
    /// We bind it ourselves.
    Address(Address),
}

/// Backends that serve the same thing.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPlan {
    /// Unique among pools.
    pub name: String,
    /// Who is next.
    pub algorithm: Algorithm,
    /// Whether a client comes back.
    pub affinity: Affinity,
    /// In the order of the file; never empty.
    pub backends: Vec<BackendPlan>,
    /// The defaults, under what the pool says; `connect` and `connect_total` matter here.
    pub timeouts: Timeouts,
    /// What follows a failed attempt to connect.
    pub retry: RetryPlan,
    /// Local addresses to connect from, in turn; empty leaves the choice to the kernel.
    pub source_addresses: Vec<IpAddr>,
    /// The first bytes of a session go with the SYN, where a backend allows it.
    pub fastopen: bool,
}

/// Whether a client comes back to the backend it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// No.
    Off,
    /// A client is known by its IP address.
    SourceIp {
        /// Forgotten after that long without a new session; `None` remembers as long as there is room.
        ttl: Option<Duration>,
    },
}

impl PoolPlan {
    /// Whether the choice of a backend depends on who the client is.
    pub fn asks_for_client(&self) -> bool {
        self.affinity != Affinity::Off || matches!(self.algorithm, Algorithm::SourceHash { .. })
    }
}

/// Who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, smoothly by weight.
    RoundRobin,
    /// The one with the fewest open sessions per weight.
    LeastConnections,
    /// The better of two drawn by weight: the one with fewer open sessions per weight.
    P2c,
    /// Drawn by weight.
    Random,
    /// By the client's address, the same on every node (Maglev).
    SourceHash {
        /// The most a backend may have, in percent of the mean per weight; `None` is no bound.
        bounded_load: Option<u32>,
    },
    /// The better of two drawn by weight: the one with the lower latency times open sessions.
    PeakEwma,
    /// The first in the order of the file.
    First,
}

/// What follows a failed attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPlan {
    /// Attempts of one session in all, the first one included; at least one.
    pub attempts: u8,
    /// Before the second attempt; may be zero.
    pub backoff_base: Duration,
    /// From one wait to the next; at least 1.
    pub backoff_multiplier: f64,
    /// No wait is longer; at least `backoff_base`.
    pub backoff_max: Duration,
}

/// One backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendPlan {
    /// Unique in its pool.
    pub name: String,
    /// Where it answers.
    pub target: Target,
    /// Its share, 0 to 256; zero takes no new sessions.
    pub weight: u16,
    /// Used only when every backend with a lower number is unavailable.
    pub priority: u8,
    /// Where it stands; `None` is nowhere in particular.
    pub zone: Option<String>,
}

/// Where a backend answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Known as it stands.
    Address(Address),
    /// To be looked up.
    Host {
        /// A host name, lower case; a final dot keeps the search list out of it.
        name: String,
        /// Never zero.
        port: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bind::Address(address) = self;
        address.fmt(f)
    }
}

/// How long a session may take over what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// One attempt to connect.
    pub connect: Duration,
    /// All attempts of one session; at least `connect`.
    pub connect_total: Duration,
    /// Without a byte in either direction; `None` is off.
    pub idle: Option<Duration>,
    /// One side finished, the other silent; `None` is off.
    pub half_close: Option<Duration>,
    /// From accept to the end, busy or not; `None` is off.
    pub max_lifetime: Option<Duration>,
    /// How much of `max_lifetime` is spread at random, 0.0 to 1.0.
    pub lifetime_jitter: f64,
}
