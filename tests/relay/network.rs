//! A network that loses peers and says so, or does not: each test has one of its own, with a packet
//! filter in front of it.

use std::process::Command;
use std::time::Duration;

use crate::needs;
use crate::support::clock::{SOON, now};
use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, Family, Listener, Place};
use crate::support::process::run;
use crate::support::proxy::{Setup, term};
use crate::support::{namespace, tools};

/// Adds one rule to the packet filter of this namespace.
pub fn filter(rule: &str) {
    let rules = format!(
        "add table inet test; add chain inet test guard {{ type filter hook input priority 0; }}; \
         add rule inet test guard {rule}"
    );
    run("nft", Command::new(tools::path("nft")).arg(rules), SOON);
}

#[test]
fn t13_a_client_that_vanished_while_idle_is_noticed_by_keepalive() {
    needs!("unshare", "ip", "nft");
    let name = "network::t13_a_client_that_vanished_while_idle_is_noticed_by_keepalive";
    if !namespace::entered(name) {
        return;
    }
    let folder = Folder::new();
    let listener = Listener::new(Family::V4, &folder);
    let proxy = Setup::to(&[&listener])
        .set("tcp", "{keepalive: {idle: 1s, interval: 1s, count: 2}, user_timeout: 3s}")
        .start();
    let client = proxy.client();
    let backend = listener.accept();
    client.send(b"hello");
    assert_eq!(backend.receive(5), b"hello");
    let port = client.port();
    filter(&format!("tcp sport {port} drop"));
    let start = now();
    assert_ne!(backend.end(), End::Silent, "the dead client was never noticed");
    assert!(start.elapsed() > Duration::from_secs(1), "after {:?}", start.elapsed());
    let record = proxy.records_of(1).remove(0);
    assert!(["CD", "cD"].contains(&term(&record).as_str()), "{record}");
}

#[test]
fn t14_a_client_that_vanished_with_bytes_under_way_is_noticed_by_user_timeout() {
    needs!("unshare", "ip", "nft");
    let name =
        "network::t14_a_client_that_vanished_with_bytes_under_way_is_noticed_by_user_timeout";
    if !namespace::entered(name) {
        return;
    }
    let folder = Folder::new();
    let listener = Listener::new(Family::V4, &folder);
    let proxy = Setup::to(&[&listener]).set("tcp", "{user_timeout: 2s}").start();
    let client = proxy.client();
    let backend = listener.accept();
    client.send(b"hello");
    assert_eq!(backend.receive(5), b"hello");
    filter(&format!("tcp sport {} drop", client.port()));
    backend.send(&Pattern::bytes(14, 10_000));
    let start = now();
    assert_ne!(backend.end(), End::Silent, "the dead client was never noticed");
    assert!(start.elapsed() > Duration::from_secs(1), "after {:?}", start.elapsed());
    let record = proxy.records_of(1).remove(0);
    assert!(["CD", "cD"].contains(&term(&record).as_str()), "{record}");
}

#[test]
fn t10_a_client_that_lives_but_does_not_read_outlasts_the_user_timeout() {
    needs!("unshare", "ip");
    let name = "network::t10_a_client_that_lives_but_does_not_read_outlasts_the_user_timeout";
    if !namespace::entered(name) {
        return;
    }
    let folder = Folder::new();
    let listener = Listener::new(Family::V4, &folder);
    let proxy = Setup::to(&[&listener]).set("tcp", "{user_timeout: 2s}").start();
    let client = proxy.client();
    let backend = listener.accept();
    // Window probes are answered all the time, so the client is not dead, only slow.
    let bytes = Pattern::bytes(10, 16 << 20);
    let sent = backend.stuff(&bytes, Duration::from_secs(6));
    backend.finish();
    let (received, end) = client.receive_all();
    assert_eq!(end, End::Finished);
    assert!(received == bytes[..sent], "{} of {sent} bytes", received.len());
}

#[test]
fn b15_an_unreachable_backend_is_left_for_another() {
    needs!("unshare", "ip", "nft");
    if !namespace::entered("network::b15_an_unreachable_backend_is_left_for_another") {
        return;
    }
    let folder = Folder::new();
    let lost = Place::free(Family::V4, &folder);
    let good = Backend::echo(Family::V4, &folder);
    filter(&format!("tcp dport {} reject with icmpx type host-unreachable", lost.port()));
    let proxy = Setup::to(&[&lost, &good]).set("timeouts", "{connect: 500ms}").start();
    for seed in 0..10 {
        let client = proxy.client();
        client.round_trip(&Pattern::bytes(seed, 5_000));
        client.finish();
        assert_eq!(client.end(), End::Finished);
    }
    assert!(proxy.terms(10).iter().all(|term| term == "--"));
}
