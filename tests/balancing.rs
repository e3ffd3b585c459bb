//! Who gets which backend, through the real program: each algorithm, backups, zones, affinity.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crossbeam_channel::after;
use socket2::SockAddr;

use support::folder::Folder;
use support::peers::{Backend, Family, Listener, Peer};
use support::proxy::{Proxy, Setup};

/// Backends that say their number to everybody who says something, and then finish.
struct Farm {
    backends: Vec<Option<Backend>>,
    _folder: Folder,
}

impl Farm {
    fn new(count: u8) -> Farm {
        Farm::with(count, |_| None)
    }

    /// Some of them take their time.
    fn with(count: u8, pause: impl Fn(u8) -> Option<Duration>) -> Farm {
        let folder = Folder::new();
        let backend = |number: u8| {
            let pause = pause(number);
            let serve = move |peer: Peer| {
                if peer.receive_some(64).is_ok() {
                    if let Some(pause) = pause {
                        let _ = after(pause).recv();
                    }
                    let _ = peer.try_send(&[number]);
                    let _ = peer.receive_some(64); // until the client has gone
                }
            };
            Some(Backend::start(Listener::new(Family::V4, &folder), serve))
        };
        Farm { backends: (0..count).map(backend).collect(), _folder: folder }
    }

    fn setup(&self) -> Setup {
        let backends: Vec<_> = self.backends.iter().flatten().collect();
        match backends.as_slice() {
            [a, b] => Setup::to(&[*a, *b]),
            [a, b, c] => Setup::to(&[*a, *b, *c]),
            _ => panic!("two or three backends"),
        }
    }

    fn kill(&mut self, number: u8) {
        self.backends[usize::from(number)] = None;
    }
}

/// A connection from `from`, and the backend that answered.
fn visit_and_stay(proxy: &Proxy, from: Ipv4Addr) -> (Peer, u8) {
    let bind = SockAddr::from(SocketAddr::from((from, 0)));
    let client = Peer::with(proxy.place(), |socket| socket.bind(&bind)).expect("a connection");
    client.send(b"who are you?");
    let number = client.receive(1)[0];
    (client, number)
}

fn visit(proxy: &Proxy, from: Ipv4Addr) -> u8 {
    let (client, number) = visit_and_stay(proxy, from);
    client.finish();
    number
}

fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number)
}

/// How often each of three backends answered `count` connections.
fn counts(proxy: &Proxy, count: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    for _ in 0..count {
        counts[usize::from(visit(proxy, Ipv4Addr::LOCALHOST))] += 1;
    }
    counts
}

/// With nobody else asking who a client is, the pool alone must have it asked.
#[test]
fn a1_4_source_hash_keeps_clients_where_they_are_and_spreads_them() {
    for poller in ["epoll", "auto"] {
        let mut farm = Farm::new(3);
        let setup = farm.setup().pool("algorithm", "source_hash").set("workers", "3");
        let proxy = setup.set("poller", poller).unlogged().start();
        let homes: Vec<u8> = (1..=60).map(|number| visit(&proxy, client(number))).collect();
        for number in 1..=60 {
            for _ in 0..5 {
                assert_eq!(visit(&proxy, client(number)), homes[usize::from(number) - 1]);
            }
        }
        for backend in 0..3 {
            let has = homes.iter().filter(|&&home| home == backend).count();
            assert!((5..=40).contains(&has), "{poller}: {backend} has {has} of 60 clients");
        }
        farm.kill(1);
        for (number, &home) in (1..).zip(&homes) {
            let now = visit(&proxy, client(number));
            assert!(if home == 1 { now != 1 } else { now == home }, "{poller}: {home}, then {now}");
            assert_eq!(visit(&proxy, client(number)), now, "{poller}: the next is always the same");
        }
    }
}

#[test]
fn a1_4_affinity_holds_on_all_workers_and_learns_anew() {
    for poller in ["epoll", "auto"] {
        let mut farm = Farm::new(3);
        let setup = farm.setup().pool("affinity", "source_ip").set("workers", "4");
        let proxy = setup.set("poller", poller).unlogged().start();
        let homes: Vec<u8> = (1..=30).map(|number| visit(&proxy, client(number))).collect();
        assert!((0..3).all(|backend| homes.contains(&backend)), "{homes:?}");
        for _ in 0..5 {
            let again: Vec<u8> = (1..=30).map(|number| visit(&proxy, client(number))).collect();
            assert_eq!(again, homes, "{poller}");
        }
        farm.kill(2);
        let moved: Vec<u8> = (1..=30).map(|number| visit(&proxy, client(number))).collect();
        for _ in 0..5 {
            let again: Vec<u8> = (1..=30).map(|number| visit(&proxy, client(number))).collect();
            assert_eq!(again, moved, "{poller}");
        }
        for (home, now) in homes.into_iter().zip(moved) {
            assert!(if home == 2 { now != 2 } else { now == home }, "{poller}: {home}, then {now}");
        }
    }
}

#[test]
fn backups_serve_when_all_before_them_are_down() {
    let mut farm = Farm::new(3);
    let setup = farm.setup().backend(0, "priority: 2").backend(1, "priority: 1");
    let proxy = setup.start();
    assert_eq!(counts(&proxy, 50), [0, 0, 50]);
    farm.kill(2);
    assert_eq!(counts(&proxy, 50), [0, 50, 0]);
    farm.kill(1);
    assert_eq!(counts(&proxy, 50), [50, 0, 0]);
}

#[test]
fn our_own_zone_serves_as_long_as_it_can() {
    let mut farm = Farm::new(3);
    let setup = farm.setup().set("zone", "east");
    let setup = setup.backend(0, "zone: west").backend(1, "zone: east").backend(2, "zone: east");
    let proxy = setup.start();
    assert_eq!(counts(&proxy, 50), [0, 25, 25]);
    farm.kill(1);
    farm.kill(2);
    assert_eq!(counts(&proxy, 50), [50, 0, 0]);
}

#[test]
fn first_fills_the_first() {
    let mut farm = Farm::new(3);
    let proxy = farm.setup().pool("algorithm", "first").backend(0, "weight: 0").start();
    assert_eq!(counts(&proxy, 100), [0, 100, 0]);
    farm.kill(1);
    assert_eq!(counts(&proxy, 50), [0, 0, 50]);
}

/// Five standard deviations either way: 300 draws at 1/2, 1/3 and 1/6.
#[test]
fn a1_3_random_draws_by_weight() {
    let farm = Farm::new(3);
    let setup = farm.setup().pool("algorithm", "random");
    let proxy = setup.backend(0, "weight: 3").backend(1, "weight: 2").start();
    let counts = counts(&proxy, 300);
    for (count, (fair, bound)) in counts.into_iter().zip([(150, 44), (100, 41), (50, 33)]) {
        assert!(count.abs_diff(fair) <= bound, "{counts:?}");
    }
}

#[test]
fn a1_2_the_better_of_two_evens_out_connections_that_stay() {
    let farm = Farm::new(3);
    let setup = farm.setup().pool("algorithm", "p2c").set("workers", "2");
    let proxy = setup.backend(0, "weight: 2").start();
    let mut counts = [0usize; 3];
    let stay: Vec<_> = (0..200).map(|_| visit_and_stay(&proxy, Ipv4Addr::LOCALHOST)).collect();
    stay.iter().for_each(|(_, number)| counts[usize::from(*number)] += 1);
    for (count, fair) in counts.into_iter().zip([100, 50, 50]) {
        assert!(count.abs_diff(fair) <= 5, "{counts:?}");
    }
}

#[test]
fn peak_ewma_leaves_a_slow_backend_alone() {
    let slow = |number| (number == 1).then_some(Duration::from_millis(150));
    let farm = Farm::with(3, slow);
    let proxy = farm.setup().pool("algorithm", "peak_ewma").set("workers", "2").start();
    let counts = counts(&proxy, 200);
    assert!(counts[1] <= 10, "{counts:?}: it is tried, and then left alone");
    assert!(counts[0] > 20 && counts[2] > 20, "{counts:?}");
}
