//! Finding a backend: refused, slow, silent and unreachable ones, and what the client may notice.

use std::thread;

use crate::support::clock::{SOON, now, until};
use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, FAMILIES, Family, Listener, Peer, Place, echo};
use crate::support::proxy::{GLANCE, Setup, count, term};

#[test]
fn b1_one_refusing_backend_of_three_is_never_noticed() {
    refusals_are_hidden(1);
}

#[test]
fn b1_two_refusing_backends_of_three_are_never_noticed() {
    refusals_are_hidden(2);
}

/// Three backends, `refusing` of them closed: no client may fail, and what a client sent before its
/// backend was found must arrive once and whole.
fn refusals_are_hidden(refusing: usize) {
    for family in FAMILIES {
        let folder = Folder::new();
        let closed: Vec<Place> = (0..refusing).map(|_| Place::free(family, &folder)).collect();
        let open: Vec<Backend> = (refusing..3).map(|_| Backend::echo(family, &folder)).collect();
        let mut targets: Vec<&dyn crate::support::proxy::Target> = Vec::new();
        closed.iter().for_each(|place| targets.push(place));
        open.iter().for_each(|backend| targets.push(backend));
        let proxy = Setup::to(&targets).on(family).start();
        for seed in 0..100 {
            let client = proxy.client();
            let early = Pattern::bytes(seed, 1 + (seed as usize * 331) % 30_000);
            client.send(&early);
            client.finish();
            let (received, end) = client.receive_all();
            assert_eq!(end, End::Finished, "{family:?}, connection {seed}");
            assert!(received == early, "{family:?}, connection {seed}: early data was changed");
        }
        let records = proxy.records_of(100);
        assert!(records.iter().all(|record| record["term"] == "--"), "{family:?}: {records:#?}");
        let attempts: u64 = records.iter().map(|record| count(record, "attempts")).sum();
        assert!(attempts > 100, "{family:?}: {attempts} attempts cannot have met a closed one");
        let accepted: usize = open.iter().map(Backend::accepted).sum();
        assert_eq!(accepted, 100, "{family:?}: one connection to a backend for each client");
    }
}

#[test]
fn b10_when_all_refuse_the_client_is_told_at_once() {
    for family in FAMILIES {
        let folder = Folder::new();
        let closed = [(); 3].map(|()| Place::free(family, &folder));
        let [a, b, c] = &closed;
        let proxy = Setup::to(&[a, b, c]).on(family).start();
        let start = now();
        let client = proxy.client();
        let (received, end) = client.receive_all();
        assert!(received.is_empty() && end != End::Silent, "{family:?}: {end:?}");
        assert!(start.elapsed() < SOON / 2, "{family:?}: took {:?}", start.elapsed());
        let record = proxy.records_of(1).remove(0);
        assert!(["SC", "PX"].contains(&term(&record).as_str()), "{family:?}: {record}");
    }
}

#[test]
fn t17_early_data_waits_for_a_slow_backend_and_arrives_whole() {
    let folder = Folder::new();
    let (listener, filler) = full(&folder);
    let proxy = Setup::to(&[&listener]).start();
    let client = proxy.client();
    let early = Pattern::bytes(17, 1 << 20);
    let sender = thread::spawn(move || {
        client.send(&early);
        client.finish();
        client.receive_all()
    });
    // The SYN was dropped; once there is room again the next one comes through.
    until("the proxy to dial", SOON, || dials(listener.place().port()).then_some(()));
    drop(filler);
    let served = Backend::start(listener, echo);
    let (received, end) = sender.join().expect("the client is well");
    assert_eq!(end, End::Finished);
    assert!(received == Pattern::bytes(17, 1 << 20), "early data was changed");
    drop(served);
}

#[test]
fn b2_a_silent_backend_is_left_for_another() {
    let folder = Folder::new();
    let (silent, _filler) = full(&folder);
    let good = Backend::echo(Family::V4, &folder);
    let proxy =
        Setup::to(&[&silent, &good]).set("timeouts", "{connect: 200ms, connect_total: 5s}").start();
    for seed in 0..4 {
        let client = proxy.client();
        client.round_trip(&Pattern::bytes(seed, 5_000));
        client.finish();
        assert_eq!(client.end(), End::Finished);
    }
    assert!(proxy.terms(4).iter().all(|term| term == "--"));
    assert_eq!(good.accepted(), 4);
}

#[test]
fn b2_only_silent_backends_end_in_a_connect_timeout() {
    let folder = Folder::new();
    let (silent, _filler) = full(&folder);
    let proxy =
        Setup::to(&[&silent]).set("timeouts", "{connect: 300ms, connect_total: 600ms}").start();
    let client = proxy.client();
    client.send(b"is anybody there?");
    let start = now();
    let (received, end) = client.receive_all();
    assert!(received.is_empty());
    assert_ne!(end, End::Silent);
    assert!(start.elapsed() < SOON / 2, "took {:?}", start.elapsed());
    assert_eq!(proxy.term(), "sC");
}

#[test]
fn cc_a_client_that_leaves_while_dialing_is_not_served() {
    let folder = Folder::new();
    let (silent, filler) = full(&folder);
    let proxy = Setup::to(&[&silent]).start();
    let client = proxy.client();
    client.send(b"never mind");
    until("the proxy to dial", SOON, || dials(silent.place().port()).then_some(()));
    client.reset();
    assert_eq!(proxy.term(), "CC");
    drop(filler);
}

/// A listener whose queue is full, so that the kernel drops further SYNs, and what fills it.
fn full(folder: &Folder) -> (Listener, Vec<Peer>) {
    let listener = Listener::at(Place::free(Family::V4, folder), 0);
    let place = listener.place().clone();
    let mut filler = Vec::new();
    // A backlog of zero holds one connection; the second attempt to enter finds it full.
    while let Ok(peer) = Peer::try_connect_within(&place, GLANCE) {
        filler.push(peer);
        assert!(filler.len() < 10, "a full queue still takes connections");
    }
    (listener, filler)
}

/// Is somebody trying to connect to `port`?
#[cfg(target_os = "linux")]
fn dials(port: u16) -> bool {
    const SYN_SENT: u8 = 2;
    let table = crate::support::vitals::tcp_table();
    table.iter().any(|row| row.remote == port && row.state == SYN_SENT)
}

/// Elsewhere there is no table to look into; what follows holds with or without the wait.
#[cfg(not(target_os = "linux"))]
fn dials(_port: u16) -> bool {
    true
}

#[test]
fn t25_a_backend_may_be_a_unix_socket() {
    let folder = Folder::new();
    let unix = Backend::echo(Family::Unix, &folder);
    let v6 = Backend::echo(Family::V6, &folder);
    let proxy = Setup::to(&[&unix, &v6]).start();
    for seed in 0..10 {
        proxy.client().round_trip(&Pattern::bytes(seed, 50_000));
    }
    assert_eq!((unix.accepted(), v6.accepted()), (5, 5));
    for record in proxy.records_of(10) {
        assert!(record["backend"].as_str().is_some_and(|name| name.contains('b')), "{record}");
    }
}

#[test]
fn t26_a_backend_that_is_the_listener_is_refused() {
    for family in FAMILIES {
        let folder = Folder::new();
        let place = Place::free(family, &folder);
        let (code, said) = Setup::to(&[&place]).at(place).refused();
        assert_eq!(code, Some(2), "{family:?}: {said}");
        assert!(said.contains("backend"), "{family:?}: the message names the key: {said}");
    }
}
