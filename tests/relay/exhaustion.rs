//! Running out of descriptors and of ports: a local shortage is ours, not the backend's fault, and
//! nobody who is already connected notices.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use socket2::SockAddr;

use crate::needs;
use crate::support::clock::{SOON, until};
use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::namespace;
use crate::support::peers::{Backend, End, Family, Peer, Place, echo};
use crate::support::process::run;
use crate::support::proxy::{Proxy, Setup, Target, count, term};
use crate::support::{tools, vitals};

#[test]
fn r1_without_descriptors_it_waits_quietly_and_goes_on() {
    needs!("prlimit");
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).start();
    let mut living: Vec<Peer> = (0..4).map(|_| proxy.client()).collect();
    living.iter().for_each(|client| client.round_trip(b"early"));
    let highest = vitals::descriptors(proxy.pid()).len();
    limit_descriptors(&proxy, highest + 10);
    let waiting: Vec<Peer> = (0..30).map(|_| proxy.client()).collect();
    waiting.iter().for_each(|client| client.send(b"late"));
    // Let it run into the wall, then watch it stand there.
    assert!(living[0].is_silent_for(Duration::from_millis(500)));
    let before = vitals::cpu_time(proxy.pid());
    assert!(living[0].is_silent_for(Duration::from_secs(2)));
    let burnt = vitals::cpu_time(proxy.pid()) - before;
    assert!(burnt < Duration::from_millis(100), "{burnt:?} of CPU in 2 s of waiting");
    for client in &living {
        client.round_trip(&Pattern::bytes(1, 100_000));
    }
    for client in living.drain(..) {
        client.finish();
        assert_eq!(client.end(), End::Finished);
    }
    limit_descriptors(&proxy, 1_000);
    let mut answered = 0;
    for client in waiting {
        // Some may have been turned away for want of a descriptor; none may be left hanging.
        match client.receive_some(4) {
            Err(End::Silent) => panic!("a client was forgotten when descriptors came back"),
            Err(_) => {}
            Ok(_) => answered += 1,
        }
    }
    println!("{answered} of 30 clients were served after waiting");
    assert!(answered > 4, "ten descriptors were left, and then many: {answered} were served");
    for _ in 0..20 {
        proxy.client().round_trip(b"as before");
    }
}

fn limit_descriptors(proxy: &Proxy, limit: usize) {
    let mut command = Command::new(tools::path("prlimit"));
    command.args(["--pid", &proxy.pid().to_string(), &format!("--nofile={limit}:20000")]);
    run("prlimit", &mut command, SOON);
}

#[test]
fn r5_without_ports_the_connection_ends_as_ours_and_the_backend_stays() {
    needs!("unshare", "ip");
    let name = "exhaustion::r5_without_ports_the_connection_ends_as_ours_and_the_backend_stays";
    if !namespace::entered(name) {
        return;
    }
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let (proxy, ports) = few_ports(&backend, "[]");
    let mut living: Vec<Peer> = Vec::new();
    for number in 0..ports {
        let client = client_from(&proxy, number);
        client.round_trip(b"there is a port");
        living.push(client);
    }
    for number in 0..3 {
        let client = client_from(&proxy, ports + number);
        let _ = client.try_send(b"there is none");
        let (received, end) = client.receive_all();
        assert!(received.is_empty() && end != End::Silent, "the eleventh: {end:?}");
    }
    for record in proxy.records_of(3) {
        assert_eq!(term(&record), "RC", "{record}");
    }
    living.iter().for_each(|client| client.round_trip(b"still there"));
    let leaving = living.swap_remove(0);
    leaving.finish();
    assert_eq!(leaving.end(), End::Finished);
    proxy.records_of(4);
    // The backend was not blamed: as soon as a port is free again, it is used.
    until("a new connection to get the freed port", SOON, || {
        client_from(&proxy, ports + 10).try_round_trip(b"a port again").ok()
    });
}

#[test]
fn r5_a_second_source_address_has_ports_of_its_own() {
    needs!("unshare", "ip");
    if !namespace::entered("exhaustion::r5_a_second_source_address_has_ports_of_its_own") {
        return;
    }
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let (proxy, ports) = few_ports(&backend, "[127.0.0.21, 127.0.0.22]");
    let living: Vec<Peer> = (0..2 * ports)
        .map(|number| {
            let client = client_from(&proxy, number);
            client.round_trip(b"there is a port");
            client
        })
        .collect();
    living.iter().for_each(|client| client.round_trip(b"still there"));
    let client = client_from(&proxy, 2 * ports);
    let _ = client.try_send(b"there is none");
    assert_ne!(client.receive_all().1, End::Silent);
    assert_eq!(proxy.term(), "RC");
}

/// A proxy in a network whose clients have ten ports per address and destination.
fn few_ports(backend: &Backend, sources: &str) -> (Proxy, usize) {
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40001 40010")
        .expect("the namespace's own settings can be changed");
    let target: &dyn Target = backend;
    let proxy = Setup::to(&[target])
        .pool("source_addresses", sources)
        .set("timeouts", "{connect: 1s, connect_total: 2s}")
        .start();
    (proxy, 10)
}

/// A client that takes no port of the ten: a port that somebody has bound, on whatever address, is
/// not given to outgoing connections.
fn client_from(proxy: &Proxy, number: usize) -> Peer {
    let port = 50_000 + u16::try_from(number).expect("few clients");
    let source = SockAddr::from(SocketAddr::from(([127, 0, 1, 1], port)));
    Peer::with(proxy.place(), |socket| socket.bind(&source)).expect("the proxy listens")
}

#[test]
fn descriptors_return_to_where_they_were() {
    let folder = Folder::new();
    let backend = Backend::start(crate::support::peers::Listener::new(Family::V4, &folder), echo);
    for lane in ["always", "never"] {
        let proxy = Setup::to(&[&backend]).set("zero_copy", lane).start();
        let round = || {
            let clients: Vec<Peer> = (0..100).map(|_| proxy.client()).collect();
            clients.iter().for_each(|client| client.round_trip(&Pattern::bytes(1, 5_000)));
        };
        round();
        proxy.records_of(100);
        let before = vitals::descriptors(proxy.pid()).len();
        round();
        proxy.records_of(200);
        until("the descriptors to return", SOON, || {
            (vitals::descriptors(proxy.pid()).len() <= before).then_some(())
        });
    }
}

/// With one local port left, and the same as the dead backend's, TCP connects to itself: without
/// a look the client would talk to its own echo.
#[test]
fn t26_a_connection_to_itself_is_a_backend_that_refused() {
    needs!("unshare", "ip");
    if !namespace::entered("exhaustion::t26_a_connection_to_itself_is_a_backend_that_refused") {
        return;
    }
    let folder = Folder::new();
    let dead = Place::free(Family::V4, &folder);
    let backend = Backend::echo(Family::V4, &folder);
    let range = format!("{0} {0}", dead.port());
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range)
        .expect("the namespace's own settings can be changed");
    let proxy = Setup::to(&[&dead, &backend]).start();
    for number in 0..4 {
        let client = client_from(&proxy, number);
        client.round_trip(b"who is there?");
        client.finish();
        assert_eq!(client.end(), End::Finished);
    }
    assert_eq!(backend.accepted(), 4, "every one of them reached a backend, and not itself");
    assert!(proxy.records_of(4).iter().any(|record| count(record, "attempts") == 2));
}
