//! The same client to the same backend, without a memory: Maglev hashing.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use super::Load;

/// Slots of a table: Maglev's own number (Eisenbud et al., NSDI 2016, section 5.3), a prime, as the
/// permutations need it. It is at least 100 times as many as there are backends up to 655 of them; with
/// more, shares get uneven.
pub const SIZE: usize = 65_537;

/// Which backend serves whom, by the hash of the client's address.
///
/// Built from the backends' addresses as they are written and their weights, and from nothing else: every
/// node with the same backends has the same table, in whatever order its file names them, whoever is
/// up. Where the backend of a slot may not be chosen, the next slot of the table is asked, and so on
/// round it: that moves nobody but its own clients, who spread over the others, and they come back
/// when it does.
#[derive(Debug, PartialEq, Eq)]
pub struct Maglev {
    /// Places of backends; empty where no backend has a weight.
    slots: Vec<u16>,
    /// All places by name: who is asked when nobody with a slot may be chosen.
    order: Vec<u16>,
}

impl Maglev {
    /// A table for backends by name and weight, in the order of their places.
    pub fn new(backends: &[(String, u16)]) -> Maglev {
        let mut order: Vec<u16> = (0u16..).take(backends.len()).collect();
        order.sort_by_key(|&at| &backends[usize::from(at)]);
        let heaviest = backends.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or(0);
        if heaviest == 0 {
            return Maglev { slots: Vec::new(), order };
        }
        let mut claims: Vec<Claim> =
            order.iter().map(|&at| Claim::new(at, &backends[usize::from(at)])).collect();
        let mut slots = vec![NOBODY; SIZE];
        let mut free = SIZE;
        // The heaviest takes a slot in every round, the others as often as their weight says.
        for round in 1u64.. {
            for claim in &mut claims {
                if claim.taken * heaviest >= round * claim.weight {
                    continue;
                }
                claim.taken += 1;
                let slot = claim.next_free(&slots);
                slots[slot] = claim.at;
                free -= 1;
                if free == 0 {
                    return Maglev { slots, order };
                }
            }
        }
        unreachable!("each round fills a slot")
    }

    /// The backend of a key, among those that may be chosen.
    pub fn next(&self, key: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let start = (key % SIZE as u64) as usize;
        let own = self.slots.get(start).copied().map(usize::from);
        if own.is_some_and(&may) {
            return own;
        }
        // A walk round the table for nothing would take long.
        let one_at_least = self.order.iter().copied().map(usize::from).find(|&at| may(at))?;
        let walk = self.slots.iter().cycle().skip(start).take(self.slots.len());
        walk.copied().map(usize::from).find(|&at| may(at)).or(Some(one_at_least))
    }

    /// The same with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2016): a backend that has
    /// `percent` of the mean per weight, the new connection counted, is passed over for the next in the walk.
    pub fn next_below(
        &self,
        key: u64,
        percent: u32,
        may: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> Load,
    ) -> Option<usize> {
        let (mut live, mut weight) = (1, 0);
        for load in (0..self.order.len()).filter(|&at| may(at)).map(&load) {
            live += u64::from(load.live);
            weight += u64::from(load.weight);
        }
        let bound = live.saturating_mul(percent.into());
        let has_room = |at: usize| {
            let load = load(at);
            (u64::from(load.live) * 100).saturating_mul(weight)
                < bound.saturating_mul(load.weight.into())
        };
        // Counts change while we look: should nobody have room, the plain choice stands.
        self.next(key, |at| may(at) && has_room(at)).or_else(|| self.next(key, may))
    }
}

/// One backend's walk through the slots while the table is filled.
struct Claim {
    at: u16,
    weight: u64,
    /// Slots it has.
    taken: u64,
    slot: usize,
    step: usize,
}

impl Claim {
    fn new(at: u16, (name, weight): &(String, u16)) -> Claim {
        let hash = |key| SipHasher13::new_with_keys(key, 0).hash(name.as_bytes());
        let slot = (hash(OFFSET) % SIZE as u64) as usize;
        let step = (hash(SKIP) % (SIZE as u64 - 1)) as usize + 1;
        Claim { at, weight: (*weight).into(), taken: 0, slot, step }
    }

    /// The first free slot of the rest of its permutation; there is one.
    fn next_free(&mut self, slots: &[u16]) -> usize {
        loop {
            let slot = self.slot;
            self.slot = (slot + self.step) % SIZE;
            if slots[slot] == NOBODY {
                return slot;
            }
        }
    }
}

/// The hash of a client: of its IP address alone, so that all its connections have the same. An IPv4
/// address mapped into IPv6 counts as what it is.
pub fn key_of(client: IpAddr) -> u64 {
    let hasher = SipHasher13::new_with_keys(CLIENT, 0);
    match client.to_canonical() {
        IpAddr::V4(ip) => hasher.hash(&ip.octets()),
        IpAddr::V6(ip) => hasher.hash(&ip.octets()),
    }
}

// Keys of the hash. Any would do, but all nodes must have the same, for ever: with others, an upgrade of
// half the nodes would send clients elsewhere.
const OFFSET: u64 = 1;
const SKIP: u64 = 2;
const CLIENT: u64 = 3;

/// No place is this high: a pool that large would need a file of more than 10 MiB.
const NOBODY: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn named(count: usize) -> Vec<(String, u16)> {
        (0..count).map(|at| (format!("10.0.{}.{}:80", at / 250, at % 250), 1)).collect()
    }

    fn shares(table: &Maglev, count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        table.slots.iter().for_each(|&at| shares[usize::from(at)] += 1);
        shares
    }

    fn clients(count: u32) -> impl Iterator<Item = u64> {
        (0..count).map(|at| key_of(Ipv4Addr::from_bits(0x0a00_0000 + at).into()))
    }

    #[test]
    fn every_node_has_the_same_table_whatever_the_order_of_its_file() {
        let mut backends = named(9);
        backends[4].1 = 5;
        let table = Maglev::new(&backends);
        let mut shuffled = backends.clone();
        shuffled.rotate_left(4);
        shuffled.swap(0, 5);
        let other = Maglev::new(&shuffled);
        let names = |table: &Maglev, backends: &[(String, u16)]| -> Vec<String> {
            table.slots.iter().map(|&at| backends[usize::from(at)].0.clone()).collect()
        };
        assert_eq!(names(&table, &backends), names(&other, &shuffled));
        for key in clients(1_000) {
            // Two are down, others than in the order of the places.
            let up = |name: &str| !name.ends_with(".1:80") && !name.ends_with(".7:80");
            let at = table.next(key, |at| up(&backends[at].0)).expect("seven are up");
            let also = other.next(key, |at| up(&shuffled[at].0)).expect("seven are up");
            assert_eq!(backends[at].0, shuffled[also].0);
        }
    }

    /// Other versions and machines must have these as well.
    #[test]
    fn the_table_is_the_one_of_every_other_version() {
        let table = Maglev::new(&named(5));
        let digest = table
            .slots
            .iter()
            .fold(0u64, |digest, &at| digest.wrapping_mul(0x0100_0000_01b3) ^ u64::from(at));
        assert_eq!(digest, GOLDEN_TABLE);
        assert_eq!(key_of(Ipv4Addr::new(192, 0, 2, 1).into()), GOLDEN_CLIENT);
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        assert_eq!(key_of(mapped.into()), GOLDEN_CLIENT);
    }

    const GOLDEN_TABLE: u64 = 11_924_715_614_761_556_531;
    const GOLDEN_CLIENT: u64 = 14_869_004_417_513_556_658;

    #[test]
    fn shares_are_even_and_by_weight() {
        for count in [1, 2, 3, 10, 100, 655] {
            let shares = shares(&Maglev::new(&named(count)), count);
            let (most, least) = (shares.iter().max(), shares.iter().min());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{count}");
        }
        let weights = [256, 128, 0, 3, 1];
        let mut backends = named(5);
        backends.iter_mut().zip(weights).for_each(|(backend, weight)| backend.1 = weight);
        let shares = shares(&Maglev::new(&backends), 5);
        for (share, weight) in shares.into_iter().zip(weights) {
            let fair = SIZE as f64 * f64::from(weight) / 388.0;
            assert!((share as f64 - fair).abs() <= 1.0 + fair * 0.01, "{weight}: {share}");
        }
    }

    #[test]
    fn clients_spread_within_a_few_percent() {
        let table = Maglev::new(&named(10));
        let mut counts = [0u32; 10];
        for key in clients(100_000) {
            counts[table.next(key, |_| true).expect("all may")] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn a1_4_one_backend_less_moves_its_own_clients_and_one_percent_of_the_others() {
        for count in [2, 3, 5, 10, 50, 100] {
            let backends = named(count);
            let before = Maglev::new(&backends);
            for gone in [0, count / 2, count - 1] {
                let mut others = backends.clone();
                others.remove(gone);
                let after = Maglev::new(&others);
                let (mut moved, mut stayed) = (0, 0);
                for (&old, &new) in before.slots.iter().zip(&after.slots) {
                    if usize::from(old) != gone {
                        let is_same = backends[usize::from(old)] == others[usize::from(new)];
                        if is_same { stayed += 1 } else { moved += 1 }
                    }
                }
                let share = f64::from(moved) / f64::from(moved + stayed);
                assert!(share <= 0.01, "{gone} of {count}: {share:.4} of the others moved");
            }
        }
    }

    #[test]
    fn one_that_is_down_moves_nobody_else_and_its_clients_spread() {
        let table = Maglev::new(&named(5));
        let mut taken = [0u32; 5];
        for key in clients(10_000) {
            let before = table.next(key, |_| true).expect("all may");
            let during = table.next(key, |at| at != 2).expect("four may");
            assert!(before == during || before == 2);
            taken[during] += u32::from(before == 2);
        }
        let moved: u32 = taken.iter().sum();
        assert_eq!(taken[2], 0);
        for taken in [0, 1, 3, 4].map(|at| taken[at]) {
            assert!(taken.abs_diff(moved / 4) < moved / 20, "{taken} of {moved}");
        }
    }

    #[test]
    fn one_without_a_slot_is_found_when_it_is_the_only_one() {
        let mut backends = named(400);
        backends[1..].iter_mut().for_each(|backend| backend.1 = 256);
        let table = Maglev::new(&backends);
        assert_eq!(shares(&table, 400)[0], 1, "the first round gives everybody one");
        for key in clients(100) {
            assert_eq!(table.next(key, |at| at == 0), Some(0));
            assert_eq!(table.next(key, |_| false), None);
        }
        backends.iter_mut().for_each(|backend| backend.1 = 0);
        assert_eq!(Maglev::new(&backends).next(7, |_| false), None);
    }

    #[test]
    fn with_bounded_loads_nobody_has_more_than_the_bound_and_most_clients_stay() {
        let table = Maglev::new(&named(10));
        let mut live = [0u32; 10];
        let mut stayed = 0;
        // Half of the clients are one.
        for (number, key) in (0u32..).zip(clients(5_000)) {
            let key = if number % 2 == 0 { 42 } else { key };
            let load = |at: usize| Load { live: live[at], weight: 1 };
            let at = table.next_below(key, 125, |_| true, load).expect("all may");
            stayed += u32::from(Some(at) == table.next(key, |_| true));
            live[at] += 1;
            let bound = (f64::from(number + 1) * 1.25 / 10.0).ceil() as u32;
            assert!(live[at] <= bound, "{live:?} after {number}");
        }
        assert!(stayed > 2_000, "{stayed} of 5,000 stayed");
        let load = |_| Load { live: 1_000, weight: 1 };
        assert_eq!(table.next_below(7, 101, |at| at == 3, load), Some(3));
    }
}
