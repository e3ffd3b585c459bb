//! A plan as a configuration file: the full form, every value spelt out, and it reads back to the
//! same plan.

use std::fmt::{self, Write};

use serde_json::{Map, Number, Value};

use super::plan::*;
use super::units::{print_duration, print_percent};

impl Plan {
    /// The plan as a configuration in JSON; it reads back to the same plan.
    pub fn to_json(&self) -> Value {
        to_json(&document(self))
    }
}

/// The plan as a configuration in YAML; it reads back to the same plan.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        if let Out::Map(entries) = document(self) {
            write_map(&mut out, &entries, 0);
        }
        f.write_str(out.trim_end())
    }
}

/// What both notations have in common; maps keep the order in which people read them.
enum Out {
    Bool(bool),
    Whole(u64),
    Number(f64),
    /// Text that could be mistaken for something else, and so may need quotes.
    Text(String),
    /// A word, duration or share, which cannot.
    Word(String),
    List(Vec<Out>),
    Map(Vec<(&'static str, Out)>),
}

fn document(plan: &Plan) -> Out {
    Out::Map(vec![
        (
            "workers",
            match plan.workers {
                Workers::Auto => word("auto"),
                Workers::Count(count) => Out::Whole(count.into()),
            },
        ),
        ("pin_workers", Out::Bool(plan.pin_workers)),
        (
            "poller",
            word(match plan.poller {
                PollerKind::Auto => "auto",
                PollerKind::Epoll => "epoll",
                PollerKind::Kqueue => "kqueue",
                PollerKind::IoUring => "io_uring",
            }),
        ),
        (
            "zero_copy",
            word(match plan.zero_copy {
                ZeroCopy::Auto => "auto",
                ZeroCopy::Always => "always",
                ZeroCopy::Never => "never",
            }),
        ),
        ("zone", text_or_off(plan.zone.as_ref())),
        ("log", log(&plan.log)),
        ("timeouts", Out::Map(vec![("drain", duration(plan.drain))])),
        ("tcp", tcp(&plan.tcp)),
        (
            "limits",
            Out::Map(vec![
                ("max_connections", limit(plan.limits.max_connections, "auto")),
                ("accepts_per_wake", Out::Whole(plan.limits.accepts_per_wake.into())),
                ("buffers", limit(plan.limits.buffers, "auto")),
            ]),
        ),
        ("listeners", list(&plan.listeners, |listener| self::listener(plan, listener))),
        ("pools", list(&plan.pools, pool)),
    ])
}

fn log(plan: &LogPlan) -> Out {
    let level = match plan.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let format = match plan.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let (access, sample) = match plan.access {
        Access::All => ("all", None),
        Access::Errors => ("errors", None),
        Access::Off => ("off", None),
        Access::Sampled(sample) => ("sampled", Some(sample)),
    };
    let output = match &plan.output {
        LogOutput::Stderr => word("stderr"),
        LogOutput::Stdout => word("stdout"),
        LogOutput::File(path) => Out::Text(path.display().to_string()),
    };
    let mut entries =
        vec![("level", word(level)), ("format", word(format)), ("access", word(access))];
    entries.extend(sample.map(|sample| ("access_sample", Out::Whole(sample.into()))));
    entries.push(("output", output));
    Out::Map(entries)
}

fn tcp(plan: &TcpPlan) -> Out {
    let keepalive = plan.keepalive.map_or(word("off"), |keepalive| {
        Out::Map(vec![
            ("idle", duration(keepalive.idle)),
            ("interval", duration(keepalive.interval)),
            ("count", Out::Whole(keepalive.count.into())),
        ])
    });
    Out::Map(vec![
        ("nodelay", Out::Bool(plan.nodelay)),
        ("keepalive", keepalive),
        ("user_timeout", timeout(plan.user_timeout)),
        ("backlog", Out::Whole(plan.backlog.into())),
    ])
}

fn listener(plan: &Plan, listener: &ListenerPlan) -> Out {
    let binds = match listener.binds.as_slice() {
        [bind] => Out::Text(bind.to_string()),
        binds => list(binds, |bind| Out::Text(bind.to_string())),
    };
    let pool = plan.pools.get(listener.pool).map(|pool| pool.name.clone()).unwrap_or_default();
    let limits = Out::Map(vec![("max_connections", limit(listener.max_connections, "off"))]);
    Out::Map(vec![
        ("name", Out::Text(listener.name.clone())),
        ("bind", binds),
        ("pool", Out::Text(pool)),
        ("limits", limits),
        ("defer_accept", Out::Bool(listener.defer_accept)),
        ("fastopen", Out::Bool(listener.fastopen)),
        ("timeouts", timeouts(&listener.timeouts)),
    ])
}

fn pool(pool: &PoolPlan) -> Out {
    let algorithm = match pool.algorithm {
        Algorithm::RoundRobin => "round_robin",
        Algorithm::LeastConnections => "least_connections",
        Algorithm::P2c => "p2c",
        Algorithm::Random => "random",
        Algorithm::SourceHash { .. } => "source_hash",
        Algorithm::PeakEwma => "peak_ewma",
        Algorithm::First => "first",
    };
    let bounded_load = match pool.algorithm {
        Algorithm::SourceHash { bounded_load } => bounded_load,
        _ => None,
    };
    let affinity = match pool.affinity {
        Affinity::Off => vec![("affinity", word("off"))],
        Affinity::SourceIp { ttl } => {
            vec![("affinity", word("source_ip")), ("affinity_ttl", timeout(ttl))]
        }
    };
    let retry = Out::Map(vec![
        ("attempts", Out::Whole(pool.retry.attempts.into())),
        ("backoff_base", duration(pool.retry.backoff_base)),
        ("backoff_multiplier", Out::Number(pool.retry.backoff_multiplier)),
        ("backoff_max", duration(pool.retry.backoff_max)),
    ]);
    let mut entries = vec![
        ("name", Out::Text(pool.name.clone())),
        ("algorithm", word(algorithm)),
        ("bounded_load", limit(bounded_load, "off")),
    ];
    entries.extend(affinity);
    entries.extend([
        (
            "backends",
            list(&pool.backends, |backend| {
                Out::Map(vec![
                    ("name", Out::Text(backend.name.clone())),
                    ("address", Out::Text(backend.target.to_string())),
                    ("weight", Out::Whole(backend.weight.into())),
                    ("priority", Out::Whole(backend.priority.into())),
                    ("zone", text_or_off(backend.zone.as_ref())),
                ])
            }),
        ),
        ("timeouts", timeouts(&pool.timeouts)),
        ("retry", retry),
        ("source_addresses", list(&pool.source_addresses, |ip| Out::Text(ip.to_string()))),
        ("fastopen", Out::Bool(pool.fastopen)),
    ]);
    Out::Map(entries)
}

fn timeouts(timeouts: &Timeouts) -> Out {
    Out::Map(vec![
        ("connect", duration(timeouts.connect)),
        ("connect_total", duration(timeouts.connect_total)),
        ("idle", timeout(timeouts.idle)),
        ("half_close", timeout(timeouts.half_close)),
        ("max_lifetime", timeout(timeouts.max_lifetime)),
        ("lifetime_jitter", Out::Word(print_percent(timeouts.lifetime_jitter))),
    ])
}

fn word(word: &str) -> Out {
    Out::Word(word.to_owned())
}

fn duration(duration: std::time::Duration) -> Out {
    Out::Word(print_duration(duration))
}

fn timeout(timeout: Option<std::time::Duration>) -> Out {
    timeout.map_or(word("off"), duration)
}

fn text_or_off(text: Option<&String>) -> Out {
    text.map_or(word("off"), |text| Out::Text(text.clone()))
}

fn limit(limit: Option<u32>, none: &str) -> Out {
    limit.map_or(word(none), |limit| Out::Whole(limit.into()))
}

fn list<T>(items: &[T], out: impl Fn(&T) -> Out) -> Out {
    Out::List(items.iter().map(out).collect())
}

fn to_json(out: &Out) -> Value {
    match out {
        Out::Bool(value) => Value::Bool(*value),
        Out::Whole(value) => Value::Number((*value).into()),
        Out::Number(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Out::Text(text) => Value::String(escape(text)),
        Out::Word(word) => Value::String(word.clone()),
        Out::List(items) => Value::Array(items.iter().map(to_json).collect()),
        Out::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), to_json(value)));
            Value::Object(entries.collect::<Map<String, Value>>())
        }
    }
}

/// Block notation, with what is small on one line.
fn write_map(out: &mut String, entries: &[(&'static str, Out)], depth: usize) {
    for (index, (key, value)) in entries.iter().enumerate() {
        // The first key of a list item stands behind its dash.
        if index > 0 || !out.ends_with("- ") {
            out.push_str(&INDENT.repeat(depth));
        }
        let flow = flow(value);
        let is_section = depth == 0 && matches!(value, Out::Map(_));
        match value {
            Out::Map(inner) if is_section || flow.len() > FLOW_MAX => {
                let _ = writeln!(out, "{key}:");
                write_map(out, inner, depth + 1);
            }
            Out::List(items) if items.iter().any(|item| matches!(item, Out::Map(_))) => {
                let _ = writeln!(out, "{key}:");
                for item in items {
                    write_item(out, item, depth + 1);
                }
            }
            _ => {
                let _ = writeln!(out, "{key}: {flow}");
            }
        }
    }
}

fn write_item(out: &mut String, item: &Out, depth: usize) {
    let _ = write!(out, "{}- ", INDENT.repeat(depth));
    match item {
        Out::Map(entries) if entries.iter().any(|(_, value)| matches!(value, Out::Map(_))) => {
            write_map(out, entries, depth + 1);
        }
        item => {
            let _ = writeln!(out, "{}", flow(item));
        }
    }
}

fn flow(out: &Out) -> String {
    match out {
        Out::Bool(value) => value.to_string(),
        Out::Whole(value) => value.to_string(),
        Out::Number(value) => value.to_string(),
        Out::Word(word) => word.clone(),
        Out::Text(text) => scalar(&escape(text)),
        Out::List(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Out::Map(entries) => {
            let entry = |(key, value): &(&str, Out)| format!("{key}: {}", flow(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Quotes what YAML would otherwise take apart, or for a number, a truth or nothing.
fn scalar(text: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | ':' | '-');
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !text.ends_with(':')
        && text.chars().all(is_safe)
        && text.parse::<f64>().is_err()
        && !["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

/// Keeps what looks like a variable from being one.
fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

const INDENT: &str = "  ";

/// Longer maps get a line per key.
const FLOW_MAX: usize = 120;
