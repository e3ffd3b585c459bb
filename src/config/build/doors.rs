//! Addresses in front: none bound twice, and none that leads back to itself.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::super::datum::{Datum, Item, Record};
use super::super::error::Place;
use super::super::plan::{BackendPlan, Bind, ListenerPlan, PoolPlan, Target};
use super::super::units::quote;
use super::Builder;
use crate::net::Address;

impl Builder<'_> {
    /// One listener's addresses, none of which anyone may have taken before.
    pub(super) fn binds(
        &mut self,
        record: &Record,
        key: &str,
        owner: &str,
        places: &mut Places,
    ) -> Vec<Bind> {
        let Some(item) = record.get(key) else { return Vec::new() };
        let items = match &item.datum {
            Datum::List(items) => items.iter().collect(),
            _ => vec![item],
        };
        if items.is_empty() {
            self.findings.error(item.place, &item.path, "is empty (give at least one address)");
        }
        let mut binds = Vec::new();
        for item in items {
            let Datum::Bind(address) = &item.datum else { continue };
            if let Some(taken) = places.claim(address, owner, item.place) {
                let owner = quote(&taken.owner);
                let place = self.findings.whereabouts(taken.place);
                let message = if taken.address == *address {
                    format!("{address} is bound already (listener {owner}, {place})")
                } else {
                    let other = taken.address;
                    format!(
                        "{address} overlaps {other} (listener {owner}, {place}; bind the wildcard \
                         alone, or only single addresses)"
                    )
                };
                self.findings.error(item.place, &item.path, message);
            }
            binds.push(Bind::Address(address.clone()));
        }
        binds
    }

    /// A listener must not reach itself through its pool, not even through other listeners.
    pub(super) fn refuse_loops(
        &mut self,
        listeners: &[ListenerPlan],
        pools: &[PoolPlan],
        items: &[Vec<&Item>],
    ) {
        let owner: HashMap<Door, usize> = listeners
            .iter()
            .enumerate()
            .flat_map(|(index, listener)| {
                listener.binds.iter().map(move |bind| (door(bind), index))
            })
            .collect();
        // Which listeners each pool leads to, and through which backend.
        let leads: Vec<Vec<(usize, usize)>> = pools
            .iter()
            .map(|pool| {
                let hop = |(index, backend): (usize, &BackendPlan)| {
                    let listener =
                        doors(&backend.target).iter().find_map(|door| owner.get(door))?;
                    Some((index, *listener))
                };
                pool.backends.iter().enumerate().filter_map(hop).collect()
            })
            .collect();
        for (start, listener) in listeners.iter().enumerate() {
            for (backend, first) in leads.get(listener.pool).into_iter().flatten() {
                let mut reached = vec![false; listeners.len()];
                let mut open = vec![*first];
                while let Some(next) = open.pop() {
                    if std::mem::replace(&mut reached[next], true) {
                        continue;
                    }
                    let onward = leads.get(listeners[next].pool).into_iter().flatten();
                    open.extend(onward.map(|(_, listener)| *listener));
                }
                if !reached[start] {
                    continue;
                }
                let Some(item) = items.get(listener.pool).and_then(|items| items.get(*backend))
                else {
                    continue;
                };
                let target = pools.get(listener.pool).and_then(|pool| pool.backends.get(*backend));
                let target = target.map(|backend| backend.target.to_string()).unwrap_or_default();
                let name = quote(&listener.name);
                let message = if *first == start {
                    format!(
                        "{target} is listener {name} itself, which would connect to itself (name \
                         the backend behind it)"
                    )
                } else {
                    let through = quote(&listeners[*first].name);
                    format!(
                        "{target} is listener {through}, which leads back to listener {name} in a \
                         circle (name the backend behind it)"
                    )
                };
                self.findings.error(item.place, &item.path, message);
            }
        }
    }
}

/// Addresses taken so far.
#[derive(Default)]
pub(super) struct Places {
    taken: Vec<Taken>,
    by_port: HashMap<(bool, u16), Vec<usize>>,
    by_path: HashMap<Address, usize>,
}

#[derive(Clone)]
struct Taken {
    address: Address,
    owner: String,
    place: Place,
}

impl Places {
    /// Takes an address, and says who stands in the way: the same, or a wildcard on the same port.
    fn claim(&mut self, address: &Address, owner: &str, place: Place) -> Option<Taken> {
        let index = self.taken.len();
        let rival = match address {
            Address::Unix(_) => self.by_path.insert(address.clone(), index),
            Address::Ip(ip) => {
                let neighbours = self.by_port.entry((ip.is_ipv4(), ip.port())).or_default();
                let clash = |taken: &Taken| match &taken.address {
                    Address::Ip(other) => {
                        other == ip || other.ip().is_unspecified() || ip.ip().is_unspecified()
                    }
                    Address::Unix(_) => false,
                };
                let taken = &self.taken;
                let rival =
                    neighbours.iter().copied().find(|index| taken.get(*index).is_some_and(clash));
                neighbours.push(index);
                rival
            }
        };
        self.taken.push(Taken { address: address.clone(), owner: owner.to_owned(), place });
        rival.and_then(|index| self.taken.get(index).cloned())
    }
}

/// What a listener takes, as far as the text alone can tell.
#[derive(PartialEq, Eq, Hash)]
enum Door {
    Address(Address),
    /// Every address of this machine.
    Wildcard {
        is_v4: bool,
        port: u16,
    },
}

fn door(Bind::Address(address): &Bind) -> Door {
    match address {
        Address::Ip(ip) if ip.ip().is_unspecified() => {
            Door::Wildcard { is_v4: ip.is_ipv4(), port: ip.port() }
        }
        address => Door::Address(address.clone()),
    }
}

/// Doors of this machine that a connection to `target` would go through. Other addresses of this
/// machine are unknown here, so a loop through them is not seen.
fn doors(target: &Target) -> Vec<Door> {
    let address = match target {
        Target::Address(address) => address.clone(),
        Target::Host { name, port } if name.trim_end_matches('.') == "localhost" => {
            Address::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port))
        }
        Target::Host { .. } => return Vec::new(),
    };
    let wildcard = match &address {
        Address::Ip(ip) if ip.ip().is_loopback() => {
            Some(Door::Wildcard { is_v4: ip.is_ipv4(), port: ip.port() })
        }
        _ => None,
    };
    std::iter::once(Door::Address(address)).chain(wildcard).collect()
}
