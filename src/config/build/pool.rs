//! Pools and their backends.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::datum::{Datum, Item, Record};
use super::super::error::Place;
use super::super::plan::{Affinity, Algorithm, BackendPlan, PoolPlan, RetryPlan, Target, Timeouts};
use super::super::units::quote;
use super::Builder;
use crate::net::Address;

impl Builder<'_> {
    pub(super) fn pool(
        &mut self,
        record: &Record,
        name: Option<&str>,
        timeouts: &Timeouts,
        retry: &RetryPlan,
    ) -> PoolPlan {
        let sources = match record.get("source_addresses").map(|item| &item.datum) {
            Some(Datum::List(items)) => items
                .iter()
                .filter_map(|item| if let Datum::Source(ip) = item.datum { Some(ip) } else { None })
                .collect(),
            _ => Vec::new(),
        };
        let pool = PoolPlan {
            name: name.unwrap_or_default().to_owned(),
            algorithm: self.bounded(record, algorithm(record.filled("algorithm", Datum::word))),
            affinity: match record.filled("affinity", Datum::word) {
                "source_ip" => {
                    Affinity::SourceIp { ttl: record.filled("affinity_ttl", Datum::timeout) }
                }
                _ => Affinity::Off,
            },
            backends: self.backends(record),
            timeouts: self.timeouts(record.map("timeouts"), Some(*timeouts)),
            retry: self.retry(record.map("retry"), Some(*retry)),
            source_addresses: sources,
            fastopen: record.filled("fastopen", Datum::truth),
        };
        self.check_health_check(record);
        self.refuse_foreign_sources(record, &pool);
        pool
    }

    /// The algorithm with its bound, which only one of them has.
    fn bounded(&mut self, record: &Record, algorithm: Algorithm) -> Algorithm {
        let Some(item) = record.get("bounded_load") else { return algorithm };
        let bound = item.datum.limit().flatten();
        if matches!(algorithm, Algorithm::SourceHash { .. }) {
            return Algorithm::SourceHash { bounded_load: bound };
        }
        if bound.is_some() {
            let message = "has no effect without `algorithm: source_hash`";
            self.findings.warn(item.place, &item.path, message);
        }
        algorithm
    }

    pub(super) fn backends(&mut self, record: &Record) -> Vec<BackendPlan> {
        let Some(list) = record.get("backends") else { return Vec::new() };
        let items = backend_items(record);
        if items.is_empty() && matches!(&list.datum, Datum::List(items) if items.is_empty()) {
            self.findings.error(list.place, &list.path, "is empty (give at least one backend)");
        }
        let mut names: HashMap<String, Place> = HashMap::new();
        let mut targets: HashMap<Target, Place> = HashMap::new();
        let mut backends = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let (named, target, weight, priority, zone) = match &item.datum {
                Datum::Target(target) => (None, target.clone(), 1, 0, None),
                Datum::Map(fields) => {
                    let Some(Datum::Target(target)) = fields.get("address").map(|item| &item.datum)
                    else {
                        continue;
                    };
                    let weight = fields.filled("weight", Datum::whole);
                    let priority = fields.filled("priority", Datum::whole);
                    (
                        fields.get("name"),
                        target.clone(),
                        u16::try_from(weight).unwrap_or(u16::MAX),
                        u8::try_from(priority).unwrap_or(u8::MAX),
                        fields.read("zone", Datum::text),
                    )
                }
                _ => continue,
            };
            let name = named
                .and_then(|item| item.datum.text())
                .unwrap_or_else(|| format!("b{}", index + 1));
            let (place, path) =
                named.map_or((item.place, &item.path), |item| (item.place, &item.path));
            if let Some(first) = names.insert(name.clone(), place) {
                let first = self.findings.whereabouts(first);
                let name = quote(&name);
                let message = format!(
                    "another backend of this pool is called {name} already ({first}; give each its \
                     own name)"
                );
                self.findings.error(place, path, message);
            }
            if let Some(first) = targets.insert(target.clone(), item.place) {
                let first = self.findings.whereabouts(first);
                let message = format!(
                    "{target} is in this pool already ({first}; use weight for a larger share)"
                );
                self.findings.warn(item.place, &item.path, message);
            }
            backends.push(BackendPlan { name, target, weight, priority, zone });
        }
        if !backends.is_empty()
            && backends.len() == items.len()
            && backends.iter().all(|backend| backend.weight == 0)
        {
            let message = "every backend has weight 0, so no session is served";
            self.findings.warn(list.place, &list.path, message);
        }
        backends
    }

    pub(super) fn check_health_check(&mut self, record: &Record) {
        if let Some(check) = record.map("health_check") {
            self.in_order(
                check,
                ("interval", check.filled("interval", Datum::duration)),
                ("timeout", check.filled("timeout", Datum::duration)),
            );
        }
    }

    /// A pool that can only connect from addresses of the other family reaches nobody.
    fn refuse_foreign_sources(&mut self, record: &Record, pool: &PoolPlan) {
        let Some(item) = record.get("source_addresses") else { return };
        for backend in &pool.backends {
            let Target::Address(Address::Ip(address)) = &backend.target else { continue };
            let fits = |source: &IpAddr| source.is_ipv4() == address.is_ipv4();
            if !pool.source_addresses.is_empty() && !pool.source_addresses.iter().any(fits) {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                let message =
                    format!("has no {family} address to connect to {address} from (add one)");
                self.findings.error(item.place, &item.path, message);
                return;
            }
        }
    }
}

/// The backends as they were written, those that could not be read left out.
pub(super) fn backend_items(record: &Record) -> Vec<&Item> {
    match record.get("backends").map(|item| &item.datum) {
        Some(Datum::List(items)) => items
            .iter()
            .filter(|item| match &item.datum {
                Datum::Target(_) => true,
                Datum::Map(fields) => fields.get("address").is_some(),
                _ => false,
            })
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn algorithm(word: &str) -> Algorithm {
    match word {
        "least_connections" => Algorithm::LeastConnections,
        "p2c" => Algorithm::P2c,
        "random" => Algorithm::Random,
        "source_hash" => Algorithm::SourceHash { bounded_load: None },
        "peak_ewma" => Algorithm::PeakEwma,
        "first" => Algorithm::First,
        _ => Algorithm::RoundRobin,
    }
}
