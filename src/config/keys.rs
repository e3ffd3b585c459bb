//! Every key a configuration may have: its type, its default, and whether this version acts on it.
//!
//! The decoder, the list of suggestions and the JSON Schema all read this one table, so they cannot
//! disagree.

/// One key of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As it would stand in a file; what an absent key means.
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
    pub(super) stage: Stage,
    /// Values of a `Later` or `Advisory` key that ask for nothing this version lacks. An empty
    /// list or map and `off` never do.
    pub(super) neutral: &'static [&'static str],
    pub(super) doc: &'static str,
}

/// What this version does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Works,
    /// Checked for shape, then left alone with a warning: nothing is less safe without it.
    Advisory,
    /// Refused: it asks for protection or routing that this version would not give.
    Later,
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    Whole {
        min: u64,
        max: u64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Duration {
        min_ms: u64,
        max_ms: u64,
        step_ms: u64,
    },
    Size,
    Percent,
    Rate,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// This prefix, then at least one character.
    Prefixed(&'static str),
    /// What names a listener, pool or backend in metrics and on the command line.
    Name,
    Text,
    /// A path that cannot be mistaken for a word: it has a slash.
    Path,
    Bind,
    Target,
    Source,
    Network,
    List(&'static Kind),
    Map(&'static [Key]),
    /// Like `Map`, but absent keys stay absent: the values of an outer map show through.
    Override(&'static [Key]),
    /// Any map of texts.
    Texts,
    /// Anything; for features whose shape is still to be fixed.
    Any,
    /// The first that fits; the last one explains what would.
    OneOf(&'static [Kind]),
}

impl Key {
    const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Key {
        let (default, required, neutral) = (None, false, &[] as &[&str]);
        Key { name, kind, default, required, stage: Stage::Works, neutral, doc }
    }

    const fn or(mut self, default: &'static str) -> Key {
        self.default = Some(default);
        self
    }

    const fn required(mut self) -> Key {
        self.required = true;
        self
    }

    const fn later(mut self, neutral: &'static [&'static str]) -> Key {
        self.stage = Stage::Later;
        self.neutral = neutral;
        self
    }

    const fn advisory(mut self, neutral: &'static [&'static str]) -> Key {
        self.stage = Stage::Advisory;
        self.neutral = neutral;
        self
    }
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key::new(name, kind, doc)
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max }
}

const OFF: Kind = Kind::Choice(&["off"]);
const AUTO: Kind = Kind::Choice(&["auto"]);
const U32: u64 = u32::MAX as u64;
const TEN_YEARS_MS: u64 = 315_360_000_000;
const DURATION: Kind = Kind::Duration { min_ms: 1, max_ms: TEN_YEARS_MS, step_ms: 1 };
const DURATION_OR_ZERO: Kind = Kind::Duration { min_ms: 0, max_ms: TEN_YEARS_MS, step_ms: 1 };
const DURATION_OR_OFF: Kind = Kind::OneOf(&[OFF, DURATION]);
/// The kernel counts keepalive in seconds, in 15 bits.
const KEEPALIVE_SECONDS: Kind =
    Kind::Duration { min_ms: 1_000, max_ms: 32_767_000, step_ms: 1_000 };
/// As far as the kernel's TCP_USER_TIMEOUT goes, which people know: 2^31 - 1 milliseconds.
const USER_TIMEOUT: Kind =
    Kind::OneOf(&[OFF, Kind::Duration { min_ms: 1, max_ms: i32::MAX as u64, step_ms: 1 }]);
/// Clients are remembered to an eighth of a second.
const TTL: Kind = Kind::Duration { min_ms: 1_000, max_ms: TEN_YEARS_MS, step_ms: 1 };
const ADDRESSES: Kind = Kind::OneOf(&[Kind::Bind, Kind::List(&Kind::Bind)]);
const TEXT_OR_OFF: Kind = Kind::OneOf(&[OFF, Kind::Text]);
const TEXTS: Kind = Kind::List(&Kind::Text);
const NETWORKS: Kind = Kind::List(&Kind::Network);

/// The top level, both forms.
pub(super) const ROOT: &[Key] = &[
    key(
        "workers",
        Kind::OneOf(&[AUTO, whole(1, 1024)]),
        "data-plane threads: auto = one per core this process may run on, or a number",
    )
    .or("auto"),
    key("pin_workers", Kind::Bool, "tie each worker to one core").or("false"),
    key(
        "poller",
        Kind::Choice(&["auto", "epoll", "kqueue", "io_uring"]),
        "kernel interface of the data plane",
    )
    .or("auto"),
    key(
        "zero_copy",
        Kind::Choice(&["auto", "always", "never"]),
        "move bytes through a pipe in the kernel: auto = once a session moved enough for it to pay",
    )
    .or("auto"),
    key("zone", TEXT_OR_OFF, "where this process stands: backends of the same zone are preferred")
        .or("off"),
    key("admin", Kind::Map(ADMIN), "administration of the running instance"),
    key("log", Kind::Map(LOG), "what is logged, how and where").or("{}"),
    key("timeouts", Kind::Map(TIMEOUTS), "defaults for every listener and pool").or("{}"),
    key("tcp", Kind::Map(TCP), "socket options of both ends of a session").or("{}"),
    key("retry", Kind::Map(RETRY), "what follows a failed attempt to connect").or("{}"),
    key("limits", Kind::Map(LIMITS), "ceilings of the whole process").or("{}"),
    key("listeners", Kind::List(&Kind::Map(LISTENER)), "where clients connect (full form)"),
    key("pools", Kind::List(&Kind::Map(POOL)), "backends that serve the same thing (full form)"),
    key("listen", ADDRESSES, "where clients connect (simple form)"),
    ALGORITHM,
    key("backends", BACKENDS, "the backends of the one pool (simple form)"),
    key("health_check", HEALTH_CHECK_OR_OFF, "active checks of the one pool (simple form)")
        .advisory(&[]),
    key("migrations", Kind::OneOf(&[OFF, Kind::List(&Kind::Any)]), "staged moves between pools")
        .later(&[]),
    key("autoscale", Kind::OneOf(&[OFF, Kind::List(&Kind::Any)]), "pools that grow and shrink")
        .later(&[]),
];

const ADMIN: &[Key] = &[
    key("socket", Kind::OneOf(&[OFF, Kind::Path]), "Unix socket for `evenkeel ctl`").advisory(&[]),
    key("http", Kind::OneOf(&[OFF, Kind::Bind]), "dashboard, metrics, health, REST").advisory(&[]),
    key("token_file", Kind::OneOf(&[OFF, Kind::Path]), "file with the bearer token").advisory(&[]),
];

const LOG: &[Key] = &[
    key(
        "level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "least severe message that is written",
    )
    .or("info"),
    key("format", Kind::Choice(&["text", "json"]), "for people or for machines").or("text"),
    key(
        "access",
        Kind::Choice(&["all", "errors", "off", "sampled"]),
        "which sessions leave an access record",
    )
    .or("all"),
    key("access_sample", whole(1, U32), "with `access: sampled`: one session in this many")
        .or("100"),
    key(
        "output",
        Kind::OneOf(&[Kind::Choice(&["stderr", "stdout"]), Kind::Path]),
        "where the log goes: stderr, stdout or the path of a file",
    )
    .or("stderr"),
];

const CONNECT: Key = key("connect", DURATION, "one attempt to connect");
const CONNECT_TOTAL: Key = key("connect_total", DURATION, "all attempts of one session");
const IDLE: Key = key("idle", DURATION_OR_OFF, "no byte in either direction");
const HALF_CLOSE: Key = key("half_close", DURATION_OR_OFF, "one side finished, the other silent");
const QUEUE_WAIT: Key =
    key("queue", DURATION_OR_OFF, "waiting for a backend below its max_connections").advisory(&[]);
const MAX_LIFETIME: Key = key("max_lifetime", DURATION_OR_OFF, "accept to end, busy or not");
const LIFETIME_JITTER: Key =
    key("lifetime_jitter", Kind::Percent, "how much of max_lifetime is spread at random");

const TIMEOUTS: &[Key] = &[
    CONNECT.or("5s"),
    CONNECT_TOTAL.or("10s"),
    IDLE.or("1h"),
    HALF_CLOSE.or("5m"),
    QUEUE_WAIT,
    MAX_LIFETIME.or("off"),
    LIFETIME_JITTER.or("10%"),
    key("drain", DURATION_OR_ZERO, "how long a graceful stop waits for open sessions").or("5m"),
];

const SESSION_TIMEOUTS: &[Key] =
    &[CONNECT, CONNECT_TOTAL, IDLE, HALF_CLOSE, QUEUE_WAIT, MAX_LIFETIME, LIFETIME_JITTER];

const TCP: &[Key] = &[
    key("nodelay", Kind::Bool, "send small segments at once").or("true"),
    key("keepalive", Kind::OneOf(&[OFF, Kind::Map(KEEPALIVE)]), "probe silent peers, or off")
        .or("{}"),
    key("user_timeout", USER_TIMEOUT, "how long sent bytes may stay unacknowledged").or("120s"),
    key("backlog", whole(1, i32::MAX as u64), "connections the kernel may hold for us").or("65535"),
];

const KEEPALIVE: &[Key] = &[
    key("idle", KEEPALIVE_SECONDS, "silence before the first probe").or("60s"),
    key("interval", KEEPALIVE_SECONDS, "between probes").or("15s"),
    key("count", whole(1, 127), "unanswered probes before the connection is dead").or("4"),
];

const ATTEMPTS: Key = key("attempts", whole(1, 255), "attempts of one session, the first included");
const BUDGET: Key =
    key("budget", Kind::OneOf(&[OFF, Kind::Percent]), "retries as a share of all attempts")
        .advisory(&[]);
const BUDGET_MIN: Key =
    key("budget_min", whole(0, U32), "retries at once that are always allowed").advisory(&[]);
const BACKOFF_BASE: Key = key("backoff_base", DURATION_OR_ZERO, "wait before the second attempt");
const BACKOFF_MULTIPLIER: Key = key(
    "backoff_multiplier",
    Kind::Number { min: 1.0, max: 100.0 },
    "how much longer each wait is than the one before",
);
const BACKOFF_MAX: Key = key("backoff_max", DURATION_OR_ZERO, "no wait is longer");

const RETRY: &[Key] = &[
    ATTEMPTS.or("3"),
    BUDGET,
    BUDGET_MIN,
    BACKOFF_BASE.or("50ms"),
    BACKOFF_MULTIPLIER.or("1.5"),
    BACKOFF_MAX.or("5s"),
];

const POOL_RETRY: &[Key] =
    &[ATTEMPTS, BUDGET, BUDGET_MIN, BACKOFF_BASE, BACKOFF_MULTIPLIER, BACKOFF_MAX];

const LIMITS: &[Key] = &[
    key(
        "max_connections",
        Kind::OneOf(&[AUTO, whole(1, U32)]),
        "sessions at once: auto = what the limit on open files allows, or a number",
    )
    .or("auto"),
    key("accepts_per_wake", whole(1, 1024), "connections a worker accepts in one go").or("16"),
    key(
        "buffers",
        Kind::OneOf(&[AUTO, whole(1, U32)]),
        "16 KiB buffers per worker: auto = derived from the connections, or a number",
    )
    .or("auto"),
];

const LISTENER: &[Key] = &[
    key("name", Kind::Name, "unique among listeners").required(),
    key("bind", ADDRESSES, "address:port, [v6]:port or unix:/path; or a list of them").required(),
    key("pool", Kind::Name, "the pool that serves it").required(),
    key("routes", Kind::List(&Kind::Map(ROUTE)), "other pools by first bytes or source").later(&[]),
    key("inspect", Kind::OneOf(&[OFF, Kind::Map(INSPECT)]), "how first bytes are awaited")
        .advisory(&[]),
    key(
        "accept_proxy",
        Kind::OneOf(&[Kind::Choice(&["off", "required"]), Kind::Map(ACCEPT_PROXY)]),
        "PROXY protocol from clients",
    )
    .later(&[]),
    key("tls", Kind::OneOf(&[OFF, Kind::Map(TLS)]), "TLS termination; absent = pass-through")
        .later(&[]),
    key("limits", Kind::OneOf(&[OFF, Kind::Map(LISTENER_LIMITS)]), "ceilings of this listener"),
    key("allow", NETWORKS, "only clients from these networks").later(&[]),
    key("deny", NETWORKS, "no clients from these networks").later(&[]),
    key(
        "when_no_backend",
        Kind::Choice(&["reset", "hold", "stop_listening"]),
        "what a client sees when no backend is left",
    )
    .later(&["reset"]),
    key("hold", DURATION_OR_OFF, "with `when_no_backend: hold`: how long").later(&[]),
    key(
        "defer_accept",
        Kind::Bool,
        "accept when the client has sent something: saves a wake-up, and costs a second where the \
         server speaks first",
    )
    .or("false"),
    key(
        "fastopen",
        Kind::Bool,
        "clients may send with their SYN (TCP Fast Open), which a server may then see twice",
    )
    .or("false"),
    key("timeouts", Kind::Override(SESSION_TIMEOUTS), "where they differ from the pool's"),
];

const ROUTE: &[Key] = &[
    key("sni", TEXTS, "server names; *.example.com matches one label"),
    key("alpn", TEXTS, "application protocols"),
    key("source", NETWORKS, "client networks"),
    key("http_host", TEXTS, "Host headers"),
    key("pool", Kind::Name, "the pool that serves it").required(),
];

const INSPECT: &[Key] = &[
    key("timeout", DURATION, "how long to wait for first bytes"),
    key("max", Kind::Size, "how many of them"),
    key("on_timeout", Kind::Choice(&["default", "reject"]), "what then"),
];

const ACCEPT_PROXY: &[Key] =
    &[key("trusted", NETWORKS, "networks whose headers are believed").required()];

const TLS: &[Key] = &[
    key("certificates", Kind::List(&Kind::Map(CERTIFICATE)), "chosen by server name").required(),
    key("min_version", Kind::Choice(&["1.2", "1.3"]), "oldest version spoken"),
    key("alpn", TEXTS, "application protocols offered"),
];

const CERTIFICATE: &[Key] = &[
    key("cert", Kind::Text, "path of the chain in PEM").required(),
    key("key", Kind::Text, "path of the key in PEM").required(),
];

const LISTENER_LIMITS: &[Key] = &[
    key(
        "max_connections",
        Kind::OneOf(&[OFF, whole(1, U32)]),
        "sessions of this listener at once, or off",
    )
    .or("off"),
    key("per_source", Kind::OneOf(&[OFF, whole(0, U32)]), "sessions of one client").later(&["0"]),
    key("per_source_rate", Kind::OneOf(&[OFF, Kind::Rate]), "new sessions of one client")
        .later(&[]),
    key("rate", Kind::OneOf(&[OFF, Kind::Rate]), "new sessions").later(&[]),
    key("action", Kind::Choice(&["reset", "close", "drop"]), "what a refused client sees")
        .later(&["reset"]),
    key("dry_run", Kind::Bool, "count, but refuse nobody").later(&["false"]),
];

const ALGORITHM: Key = key(
    "algorithm",
    Kind::Choice(&[
        "round_robin",
        "least_connections",
        "p2c",
        "random",
        "source_hash",
        "peak_ewma",
        "first",
    ]),
    "which backend is next",
);

const POOL: &[Key] = &[
    key("name", Kind::Name, "unique among pools").required(),
    ALGORITHM.or("round_robin"),
    key(
        "affinity",
        Kind::OneOf(&[
            Kind::Prefixed("http_cookie:"),
            Kind::Choice(&["off", "source_ip", "sni", "rdp_cookie"]),
        ]),
        "the same client to the same backend",
    )
    .or("off")
    .later(&["source_ip"]),
    key(
        "affinity_ttl",
        Kind::OneOf(&[OFF, TTL]),
        "how long a client that stays away is remembered; off = as long as there is room",
    )
    .or("1h"),
    key(
        "bounded_load",
        Kind::OneOf(&[OFF, whole(101, 1000)]),
        "with source_hash: the most a backend may have, in percent of the mean per weight, before \
         clients go to the next",
    )
    .or("off"),
    key("backends", BACKENDS, "an address, or a map with more to say").required(),
    key("discovery", Kind::OneOf(&[OFF, Kind::Map(DISCOVERY)]), "backends from elsewhere")
        .later(&[]),
    key("health_check", HEALTH_CHECK_OR_OFF, "active checks").advisory(&[]),
    key("outlier", Kind::OneOf(&[OFF, Kind::Map(OUTLIER)]), "passive checks").advisory(&[]),
    key("queue", Kind::OneOf(&[OFF, Kind::Map(QUEUE)]), "sessions waiting for a backend")
        .advisory(&[]),
    key(
        "on_down",
        Kind::Choice(&["keep", "close", "drain"]),
        "sessions of a backend that went down",
    )
    .advisory(&["keep"]),
    key("on_down_drain", DURATION_OR_OFF, "with `on_down: drain`: how long").advisory(&[]),
    key(
        "on_all_down",
        Kind::Choice(&["auto", "open", "closed"]),
        "whether a pool without a healthy backend is used all the same",
    )
    .advisory(&["auto"]),
    key("send_proxy", Kind::Choice(&["off", "v1", "v2"]), "PROXY protocol to backends").later(&[]),
    key("source_addresses", Kind::List(&Kind::Source), "local addresses to connect from").or("[]"),
    key(
        "fastopen",
        Kind::Bool,
        "send first bytes with the SYN (TCP Fast Open), which a backend may then see twice",
    )
    .or("false"),
    key("timeouts", Kind::Override(SESSION_TIMEOUTS), "where they differ from the defaults"),
    key("retry", Kind::Override(POOL_RETRY), "where it differs from the defaults"),
];

const BACKENDS: Kind = Kind::List(&Kind::OneOf(&[Kind::Map(BACKEND), Kind::Target]));

const BACKEND: &[Key] = &[
    key("name", Kind::Name, "unique in its pool; b1, b2, … when absent"),
    key("address", Kind::Target, "ip:port, host:port, [v6]:port or unix:/path").required(),
    key("weight", whole(0, 256), "its share; 0 takes no new sessions").or("1"),
    key("max_connections", Kind::OneOf(&[OFF, whole(0, U32)]), "sessions at once; 0 is no limit")
        .later(&["0"]),
    key(
        "priority",
        whole(0, 255),
        "used only when all with a lower number are unavailable, or have weight 0",
    )
    .or("0"),
    key("zone", TEXT_OR_OFF, "where it stands; within a priority, our own zone comes first")
        .or("off"),
];

const DISCOVERY: &[Key] = &[
    key("dns", Kind::Text, "host:port, every address a backend"),
    key("srv", Kind::Text, "SRV record"),
    key("file", Kind::Text, "file with a list of backends"),
];

const HEALTH_CHECK_OR_OFF: Kind = Kind::OneOf(&[OFF, Kind::Map(HEALTH_CHECK)]);

const HEALTH_CHECK: &[Key] = &[
    key(
        "type",
        Kind::Choice(&["tcp", "http", "https", "tls", "send_expect", "off"]),
        "what a probe does",
    )
    .or("tcp"),
    key("interval", DURATION, "between probes").or("2s"),
    key("timeout", DURATION, "one probe").or("1s"),
    key("fall", whole(1, 1000), "failures in a row that take a backend down"),
    key("rise", whole(1, 1000), "successes in a row that bring it back"),
    key("jitter", Kind::Percent, "how much of the interval is spread at random"),
    key("path", Kind::Text, "http: what is asked for"),
    key("host", Kind::Text, "http: Host header"),
    key("method", Kind::Text, "http: method"),
    key(
        "expect_status",
        Kind::List(&Kind::OneOf(&[whole(100, 599), Kind::Text])),
        "http: statuses that pass, such as 200-299",
    ),
    key("expect_body", Kind::Text, "http: text that must appear"),
    key("headers", Kind::Texts, "http: more headers"),
    key("send", Kind::Text, "send_expect: what is sent"),
    key("expect", Kind::Text, "send_expect: what must come back"),
    key("port", whole(1, 65535), "another port"),
    key("address", Kind::Target, "another address"),
    key("slow_start", DURATION_OR_OFF, "how long a recovered backend takes to its full share"),
];

const OUTLIER: &[Key] = &[
    key("consecutive_failures", whole(1, U32), "failures in a row that eject a backend"),
    key("early_close", whole(1, U32), "sessions in a row closed without a byte"),
    key("eject", DURATION, "first ejection, longer each time"),
    key("max_eject", DURATION, "longest ejection"),
    key("max_ejected", Kind::Percent, "share of a pool that may be ejected"),
];

const QUEUE: &[Key] = &[key("max", whole(0, U32), "sessions that may wait")];
