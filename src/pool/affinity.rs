//! Which backend a client had last.
//!
//! All workers share one table of a pool, because a client's next connection may come to any of
//! them. It is a cache of fixed size, made at the start: [`SHARDS`] parts with a lock each, in a part
//! [`SETS`] sets of [`WAYS`] clients. A connection takes one lock, for eight comparisons; that of a
//! client who is new, two. Where a set is full, the client who was seen least recently is forgotten.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::BackendId;
use super::balance::key_of;
use crate::time::{Beat, Moment};

/// Locks of a table: many more than workers, so that two rarely want the same.
pub const SHARDS: usize = 64;
/// Sets behind one lock.
pub const SETS: usize = 256;
/// Clients of a set.
pub const WAYS: usize = 8;

/// The clients of one pool and their backends: 131,072 at the most, in 3 MiB.
#[derive(Debug)]
pub struct Affinity {
    shards: Vec<Mutex<Vec<Set>>>,
    ttl: Option<Duration>,
}

type Set = [Entry; WAYS];

#[derive(Clone, Copy, Debug)]
struct Entry {
    client: Ipv6Addr,
    backend: BackendId,
    /// `None`: the entry is free.
    seen: Option<Beat>,
}

impl Affinity {
    /// A table that knows nobody yet, and forgets whom it has not seen for `ttl`; `None`: only whom
    /// it has no room for.
    pub fn new(ttl: Option<Duration>) -> Affinity {
        let free = Entry { client: Ipv6Addr::UNSPECIFIED, backend: BackendId(0), seen: None };
        let shard = |_| Mutex::new(vec![[free; WAYS]; SETS]);
        Affinity { shards: (0..SHARDS).map(shard).collect(), ttl }
    }

    /// The backend that a client had last, if it is remembered; this counts as having been seen.
    pub fn recall(&self, client: IpAddr, now: Moment) -> Option<BackendId> {
        let (client, mut shard, set) = self.find(client);
        let entry = shard[set].iter_mut().find(|entry| self.knows(entry, client, now))?;
        entry.seen = Some(now.into());
        Some(entry.backend)
    }

    /// Remembers a client's new backend in the place of `unusable`, the one it had; and says which it has
    /// now, for another worker may have been quicker.
    pub fn learn(
        &self,
        client: IpAddr,
        backend: BackendId,
        unusable: Option<BackendId>,
        now: Moment,
    ) -> BackendId {
        let (client, mut shard, set) = self.find(client);
        let known = shard[set].iter_mut().find(|entry| self.knows(entry, client, now));
        if let Some(entry) = known {
            if unusable == Some(entry.backend) {
                entry.backend = backend;
            }
            return entry.backend;
        }
        // A free one is older than all others.
        let oldest = shard[set].iter_mut().min_by_key(|entry| match entry.client == client {
            true => None, // its own, too old: nobody has two
            false => entry.seen,
        });
        if let Some(entry) = oldest {
            *entry = Entry { client, backend, seen: Some(now.into()) };
        }
        backend
    }

    fn knows(&self, entry: &Entry, client: Ipv6Addr, now: Moment) -> bool {
        let is_fresh = |seen: Beat| self.ttl.is_none_or(|ttl| now < seen + ttl);
        entry.client == client && entry.seen.is_some_and(is_fresh)
    }

    fn find(&self, client: IpAddr) -> (Ipv6Addr, MutexGuard<'_, Vec<Set>>, usize) {
        let key = key_of(client) as usize;
        let address = match client.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        // Whoever panicked with the lock held left an entry as it was or as it was to be.
        let shard = self.shards[key % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        (address, shard, key / SHARDS % SETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
    const A: BackendId = BackendId(0);
    const B: BackendId = BackendId(1);

    #[test]
    fn a_client_is_known_until_it_was_away_for_as_long_as_it_may() {
        let table = Affinity::new(HOUR);
        assert_eq!(table.recall(client(1), at(0)), None);
        assert_eq!(table.learn(client(1), B, None, at(0)), B);
        assert_eq!(table.recall(client(2), at(1)), None);
        assert_eq!(table.recall(client(1), at(3590)), Some(B), "and seen again");
        assert_eq!(table.recall(client(1), at(3590 + 3590)), Some(B));
        assert_eq!(table.recall(client(1), at(3590 + 3590 + 3600)), None);
        assert_eq!(table.learn(client(1), A, None, at(11_000)), A, "it may have another now");
        let forever = Affinity::new(None);
        forever.learn(client(1), B, None, at(0));
        assert_eq!(forever.recall(client(1), at(1_000_000)), Some(B));
    }

    #[test]
    fn of_two_workers_the_quicker_one_decides() {
        let table = Affinity::new(HOUR);
        assert_eq!(table.learn(client(1), A, None, at(0)), A);
        assert_eq!(table.learn(client(1), B, None, at(0)), A);
        assert_eq!(
            table.learn(client(1), B, Some(A), at(0)),
            B,
            "but one that is down is replaced"
        );
        assert_eq!(table.recall(client(1), at(0)), Some(B));
        let mapped = Ipv4Addr::from_bits(0x0a00_0001).to_ipv6_mapped();
        assert_eq!(table.recall(mapped.into(), at(0)), Some(B), "the same client");
    }

    #[test]
    fn a_full_table_forgets_whom_it_saw_least_recently() {
        let table = Affinity::new(HOUR);
        let room = (SHARDS * SETS * WAYS) as u32;
        table.learn(client(0), B, None, at(0));
        for number in 1..room * 2 {
            table.learn(client(number), A, None, at(1));
            if number % 8_192 == 0 {
                assert_eq!(table.recall(client(0), at(2)), Some(B), "seen all the time");
            }
        }
        let known = (1..room * 2).filter(|&at_| table.recall(client(at_), at(3)).is_some()).count();
        assert!((room / 2..=room).contains(&(known as u32)), "{known} of {room}");
    }
}
