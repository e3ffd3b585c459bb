//! From decoded values to the plan: names become indices, and what contradicts is refused.

mod doors;
mod pool;
mod timing;

use std::collections::HashMap;

use super::datum::{Datum, Item, Record};
use super::error::{Findings, Place};
use super::keys::ROOT;
use super::plan::*;
use super::suggest::advice;
use super::units::quote;
use doors::Places;
use pool::{algorithm, backend_items};

/// The plan that `root` asks for; worth something only if there are no findings that are errors.
pub(super) fn build(root: &Record, findings: &mut Findings) -> Plan {
    let mut builder = Builder { findings };
    let timeouts = builder.timeouts(root.map("timeouts"), None);
    let retry = builder.retry(root.map("retry"), None);
    let (listeners, pools) = builder.form(root, &timeouts, &retry);
    builder.check_zone(root, &pools);
    Plan {
        workers: match root.filled("workers", Datum::limit) {
            None => Workers::Auto,
            Some(count) => Workers::Count(u16::try_from(count).unwrap_or(u16::MAX)),
        },
        pin_workers: root.filled("pin_workers", Datum::truth),
        poller: match root.filled("poller", Datum::word) {
            "epoll" => PollerKind::Epoll,
            "kqueue" => PollerKind::Kqueue,
            "io_uring" => PollerKind::IoUring,
            _ => PollerKind::Auto,
        },
        zero_copy: match root.filled("zero_copy", Datum::word) {
            "always" => ZeroCopy::Always,
            "never" => ZeroCopy::Never,
            _ => ZeroCopy::Auto,
        },
        zone: root.read("zone", Datum::text),
        log: log(inner(root, "log")),
        tcp: tcp(inner(root, "tcp")),
        limits: limits(inner(root, "limits")),
        drain: inner(root, "timeouts").filled("drain", Datum::duration),
        listeners,
        pools,
    }
}

struct Builder<'f> {
    findings: &'f mut Findings,
}

impl Builder<'_> {
    /// Listeners and pools, in whichever form they were given.
    fn form(
        &mut self,
        root: &Record,
        timeouts: &Timeouts,
        retry: &RetryPlan,
    ) -> (Vec<ListenerPlan>, Vec<PoolPlan>) {
        let given = |keys: &[&'static str]| -> Vec<&'static str> {
            keys.iter().copied().filter(|key| root.was_given(key)).collect()
        };
        let full = given(&["listeners", "pools"]);
        let simple = given(&["listen", "algorithm", "backends", "health_check"]);
        match (full.is_empty(), simple.is_empty()) {
            (false, true) => self.full_form(root, timeouts, retry),
            (true, false) => self.simple_form(root, timeouts, retry),
            (false, false) => {
                let others = full.join(" and ");
                for key in simple {
                    let place = root.get(key).map_or(root.place, |item| item.place);
                    let advice = match key {
                        "listen" => "move it to `bind` of a listener",
                        _ => "move it into a pool",
                    };
                    let message = format!("cannot stand beside {others} ({advice})");
                    self.findings.error(place, key, message);
                }
                (Vec::new(), Vec::new())
            }
            (true, true) => {
                if !root.has_unknown() {
                    let message = "there is nothing to balance (give listen and backends, \
                                   or listeners and pools)";
                    self.findings.error(Place::default(), "", message);
                }
                (Vec::new(), Vec::new())
            }
        }
    }

    fn simple_form(
        &mut self,
        root: &Record,
        timeouts: &Timeouts,
        retry: &RetryPlan,
    ) -> (Vec<ListenerPlan>, Vec<PoolPlan>) {
        for (key, other) in [("listen", "backends"), ("backends", "listen")] {
            if !root.was_given(key) {
                let message = format!("is missing (the simple form needs it beside {other})");
                self.findings.error(root.place, key, message);
            }
        }
        let pool = PoolPlan {
            name: "main".to_owned(),
            algorithm: root.read("algorithm", Datum::word).map_or(Algorithm::RoundRobin, algorithm),
            affinity: Affinity::Off,
            backends: self.backends(root),
            timeouts: *timeouts,
            retry: *retry,
            source_addresses: Vec::new(),
            fastopen: false,
        };
        self.check_health_check(root);
        let mut places = Places::default();
        let listener = ListenerPlan {
            name: "main".to_owned(),
            binds: self.binds(root, "listen", "main", &mut places),
            pool: 0,
            timeouts: *timeouts,
            max_connections: None,
            defer_accept: false,
            fastopen: false,
        };
        let pools = vec![pool];
        let listeners = vec![listener];
        self.refuse_loops(&listeners, &pools, &[backend_items(root)]);
        (listeners, pools)
    }

    fn full_form(
        &mut self,
        root: &Record,
        timeouts: &Timeouts,
        retry: &RetryPlan,
    ) -> (Vec<ListenerPlan>, Vec<PoolPlan>) {
        let pool_items = self.entries(root, "pools");
        let listener_items = self.entries(root, "listeners");
        let pool_names = self.names(&pool_items, "pool");
        let listener_names = self.names(&listener_items, "listener");

        let mut pools: Vec<PoolPlan> = Vec::new();
        for (record, name) in pool_items.iter().zip(&pool_names) {
            pools.push(self.pool(record, name.as_deref(), timeouts, retry));
        }
        let mut used = vec![false; pools.len()];
        let mut places = Places::default();
        let mut listeners = Vec::new();
        for (record, name) in listener_items.iter().zip(&listener_names) {
            let pool = self.pool_index(record, &pool_names);
            if let Some(used) = pool.and_then(|index| used.get_mut(index)) {
                *used = true;
            }
            let inherited =
                pool.and_then(|index| pools.get(index)).map_or(*timeouts, |p| p.timeouts);
            let name = name.clone().unwrap_or_default();
            let limits = record.map("limits");
            listeners.push(ListenerPlan {
                binds: self.binds(record, "bind", &name, &mut places),
                pool: pool.unwrap_or(NO_POOL),
                timeouts: self.timeouts(record.map("timeouts"), Some(inherited)),
                max_connections: limits.and_then(|l| l.filled("max_connections", Datum::limit)),
                defer_accept: record.filled("defer_accept", Datum::truth),
                fastopen: record.filled("fastopen", Datum::truth),
                name,
            });
        }
        let all_resolved =
            listener_items.iter().all(|record| record.read("pool", Datum::text).is_some());
        for (record, used) in pool_items.iter().zip(used) {
            if !used && all_resolved && !listener_items.is_empty() {
                let name = record.read("name", Datum::text).unwrap_or_default();
                let message = format!(
                    "no listener uses the pool {} (remove it, or name it in a listener)",
                    quote(&name)
                );
                self.findings.warn(record.place, &record.path, message);
            }
        }
        let targets: Vec<Vec<&Item>> =
            pool_items.iter().map(|record| backend_items(record)).collect();
        self.refuse_loops(&listeners, &pools, &targets);
        (listeners, pools)
    }

    /// A zone without a backend in it is likely to be misspelt.
    fn check_zone(&mut self, root: &Record, pools: &[PoolPlan]) {
        let Some((item, zone)) = root.get("zone").and_then(|item| Some((item, item.datum.text()?)))
        else {
            return;
        };
        let mut zones: Vec<&str> = pools
            .iter()
            .flat_map(|pool| &pool.backends)
            .filter_map(|backend| backend.zone.as_deref())
            .collect();
        zones.sort_unstable();
        zones.dedup();
        if !zones.contains(&zone.as_str()) {
            let advice = match zones.is_empty() {
                true => "give backends a zone".to_owned(),
                false => advice(&zone, "zones", zones.into_iter()),
            };
            let message = format!("no backend stands in {} ({advice})", quote(&zone));
            self.findings.warn(item.place, &item.path, message);
        }
    }

    /// The maps of a list that must not be empty.
    fn entries<'r>(&mut self, root: &'r Record, key: &str) -> Vec<&'r Record> {
        let Some(item) = root.get(key) else {
            if !root.was_given(key) {
                let message = "is missing (the full form needs listeners and pools)";
                self.findings.error(root.place, key, message);
            }
            return Vec::new();
        };
        let Datum::List(items) = &item.datum else { return Vec::new() };
        if items.is_empty() {
            self.findings.error(item.place, &item.path, "is empty (give at least one)");
        }
        items
            .iter()
            .filter_map(
                |item| if let Datum::Map(record) = &item.datum { Some(record) } else { None },
            )
            .collect()
    }

    /// The names of all entries; `None` for one that could not be read.
    fn names(&mut self, records: &[&Record], what: &str) -> Vec<Option<String>> {
        let mut first: HashMap<String, Place> = HashMap::new();
        let mut names = Vec::new();
        for record in records {
            let Some((item, name)) =
                record.get("name").and_then(|item| Some((item, item.datum.text()?)))
            else {
                names.push(None);
                continue;
            };
            if let Some(place) = first.get(&name) {
                let place = self.findings.whereabouts(*place);
                let name = quote(&name);
                let message = format!(
                    "another {what} is called {name} already ({place}; give each its own name)"
                );
                self.findings.error(item.place, &item.path, message);
            } else {
                first.insert(name.clone(), item.place);
            }
            names.push(Some(name));
        }
        names
    }

    fn pool_index(&mut self, record: &Record, names: &[Option<String>]) -> Option<usize> {
        let item = record.get("pool")?;
        let wanted = item.datum.text()?;
        let found = names.iter().position(|name| name.as_deref() == Some(&wanted));
        // A pool whose own name could not be read may be the one that is meant.
        if found.is_none() && !names.is_empty() && names.iter().all(Option::is_some) {
            let mut sorted: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
            sorted.sort_unstable();
            let advice = advice(&wanted, "pools", sorted.into_iter());
            let message = format!("no pool is called {} ({advice})", quote(&wanted));
            self.findings.error(item.place, &item.path, message);
        }
        found
    }
}

fn log(record: &Record) -> LogPlan {
    LogPlan {
        level: match record.filled("level", Datum::word) {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        format: match record.filled("format", Datum::word) {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        },
        access: match record.filled("access", Datum::word) {
            "errors" => Access::Errors,
            "off" => Access::Off,
            "sampled" => Access::Sampled(record.filled("access_sample", Datum::limit).unwrap_or(1)),
            _ => Access::All,
        },
        output: match record.get("output").map(|item| &item.datum) {
            Some(Datum::Path(path)) => LogOutput::File(path.clone()),
            Some(Datum::Word("stdout")) => LogOutput::Stdout,
            _ => LogOutput::Stderr,
        },
    }
}

fn tcp(record: &Record) -> TcpPlan {
    TcpPlan {
        nodelay: record.filled("nodelay", Datum::truth),
        keepalive: record.map("keepalive").map(|keepalive| KeepalivePlan {
            idle: keepalive.filled("idle", Datum::duration),
            interval: keepalive.filled("interval", Datum::duration),
            count: keepalive.filled("count", Datum::limit).unwrap_or(1),
        }),
        user_timeout: record.filled("user_timeout", Datum::timeout),
        backlog: record.filled("backlog", Datum::limit).unwrap_or(u32::MAX),
    }
}

fn limits(record: &Record) -> LimitsPlan {
    LimitsPlan {
        max_connections: record.filled("max_connections", Datum::limit),
        accepts_per_wake: record.filled("accepts_per_wake", Datum::limit).unwrap_or(1),
        buffers: record.filled("buffers", Datum::limit),
    }
}

fn inner<'r>(root: &'r Record, key: &str) -> &'r Record {
    match root.map(key) {
        Some(record) => record,
        None => unreachable!("the table of {} keys gives {key} a default map", ROOT.len()),
    }
}

/// Stands in for a pool that was not found; that was reported, so no such plan gets out.
const NO_POOL: usize = usize::MAX;
