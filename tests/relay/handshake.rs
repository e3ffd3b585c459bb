//! How connections begin: which segments are spared, who may wait for whom, and that nobody else
//! does.

use std::time::Duration;

use crate::support::clock::now;
use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, Family, Listener, Peer, echo};
use crate::support::proxy::{Proxy, Setup};

/// Less than the kernel's longest delay of an acknowledgement (200 ms), and enough for a busy
/// machine in the best of some tries.
const AT_ONCE: Duration = Duration::from_millis(150);

/// The shortest of some tries, for a machine may be slow at times, but not always.
fn best_of_five(mut attempt: impl FnMut() -> Duration) -> Duration {
    (0..5).map(|_| attempt()).min().expect("there were five")
}

/// Says hello, and then echoes.
fn greet(peer: Peer) {
    peer.send(GREETING);
    echo(peer);
}

const GREETING: &[u8] = b"220 at your service";

#[test]
fn t16_a_server_that_speaks_first_is_not_kept_waiting() {
    let folder = Folder::new();
    let backend = Backend::start(Listener::new(Family::V4, &folder), greet);
    let proxy = Setup::to(&[&backend]).start();
    let wait = best_of_five(|| time_to_greeting(&proxy));
    assert!(wait < AT_ONCE, "the greeting took {wait:?}");
}

fn time_to_greeting(proxy: &Proxy) -> Duration {
    let start = now();
    let client = proxy.client();
    assert_eq!(client.receive(GREETING.len()), GREETING);
    let wait = start.elapsed();
    client.round_trip(b"thank you");
    wait
}

#[test]
fn a_silent_client_is_passed_on_at_once() {
    let folder = Folder::new();
    let listener = Listener::new(Family::V4, &folder);
    let proxy = Setup::to(&[&listener]).start();
    let wait = best_of_five(|| {
        let start = now();
        let _client = proxy.client();
        listener.accept();
        start.elapsed()
    });
    assert!(wait < AT_ONCE, "the backend saw it after {wait:?}");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use nix::sys::signal::Signal;
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::{libc, setsockopt_impl, sockopt_impl};

    use super::*;
    use crate::needs;
    use crate::support::clock::{SOON, holds_for, until};
    use crate::support::peers::{End, Place};
    use crate::support::proxy::{GLANCE, count};
    use crate::support::{namespace, vitals};

    /// A counter of this network namespace, from a table under /proc/net that has names in one line
    /// and numbers in the next.
    fn counter(table: &str, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).expect("Linux has it");
        let mut lines = text.lines();
        while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
            let at = names.split_whitespace().position(|word| word == name);
            if let Some(number) = at.and_then(|at| numbers.split_whitespace().nth(at)) {
                return number.parse().expect("counters are numbers");
            }
        }
        panic!("{table} has no {name}");
    }

    /// Does something that the proxy finds done, all of it, at its next look.
    fn while_it_stands_still<T>(proxy: &Proxy, act: impl FnOnce() -> T) -> T {
        proxy.signal(Signal::SIGSTOP);
        until("the proxy to stop", SOON, || vitals::is_stopped(proxy.pid()).then_some(()));
        let done = act();
        proxy.signal(Signal::SIGCONT);
        done
    }

    /// A client whose bytes, or the first of many, are there when the proxy accepts it.
    fn client_with(proxy: &Proxy, bytes: &[u8]) -> Peer {
        while_it_stands_still(proxy, || {
            let client = proxy.client();
            client.send(bytes);
            client
        })
    }

    /// TCP segments sent so far, once no more are: not even delayed acknowledgements.
    fn segments() -> u64 {
        loop {
            let before = counter("snmp", "OutSegs");
            if holds_for(GLANCE, || counter("snmp", "OutSegs") == before) {
                return before;
            }
        }
    }

    #[test]
    fn the_handshakes_last_ack_rides_on_bytes_in_hand() {
        needs!("unshare", "ip");
        let name = "handshake::linux::the_handshakes_last_ack_rides_on_bytes_in_hand";
        if !namespace::entered(name) {
            return;
        }
        let folder = Folder::new();
        let listener = Listener::new(Family::V4, &folder);
        let proxy = Setup::to(&[&listener]).start();
        // Kept, so that no end of theirs is counted.
        let mut peers = Vec::new();
        for _ in 0..3 {
            let (client, before) = while_it_stands_still(&proxy, || {
                let client = proxy.client();
                client.send(b"hello");
                (client, segments())
            });
            let backend = listener.accept();
            assert_eq!(backend.receive(5), b"hello");
            // SYN, SYN-ACK, the bytes with the ACK, and their ACK.
            assert_eq!(segments() - before, 4);
            peers.push((client, backend));
        }
    }

    #[test]
    fn a_deferred_accept_holds_back_whoever_says_nothing_and_nobody_else() {
        let folder = Folder::new();
        let listener = Listener::new(Family::V4, &folder);
        let proxy = Setup::to(&[&listener]).listener("defer_accept", "true").start();
        let start = now();
        let silent = proxy.client();
        let wait = best_of_five(|| {
            let start = now();
            let client = proxy.client();
            client.send(b"hello");
            let backend = listener.accept();
            let wait = start.elapsed();
            assert_eq!(backend.receive(5), b"hello", "the silent one came first");
            wait
        });
        assert!(wait < AT_ONCE, "a client that spoke was held back for {wait:?}");
        let backend = listener.accept();
        let wait = start.elapsed();
        assert!(wait > Duration::from_millis(900), "the silent one came after {wait:?}");
        // Nothing is wrong with it, it was only late.
        backend.send(b"well?");
        assert_eq!(silent.receive(5), b"well?");
        silent.send(b"hello");
        assert_eq!(backend.receive(5), b"hello");
    }

    /// Enters a namespace in which the system allows TCP Fast Open both ways.
    fn entered_with_fastopen(name: &str) -> bool {
        let inside = namespace::entered(&format!("handshake::linux::{name}"));
        if inside {
            fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3").expect("the namespace is ours");
        }
        inside
    }

    sockopt_impl!(
        /// How many connections may have sent bytes before their handshake is over.
        FastOpen,
        SetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        i32
    );

    /// A backend's socket that takes bytes with the SYN.
    fn open_listener(folder: &Folder) -> Listener {
        let listener = Listener::new(Family::V4, folder);
        setsockopt(listener.socket(), FastOpen, &16).expect("Linux has it");
        listener
    }

    #[test]
    fn it_says_so_where_the_system_has_fastopen_off() {
        needs!("unshare", "ip");
        for (bits, missing) in [(0, ["listener", "pool"].as_slice()), (1, &["listener"]), (3, &[])]
        {
            if !entered_with_fastopen("it_says_so_where_the_system_has_fastopen_off") {
                return;
            }
            fs::write("/proc/sys/net/ipv4/tcp_fastopen", bits.to_string()).expect("ours");
            let folder = Folder::new();
            let backend = Backend::echo(Family::V4, &folder);
            let setup = Setup::to(&[&backend]);
            let proxy = setup.listener("fastopen", "true").pool("fastopen", "true").start();
            client_with(&proxy, b"hello").receive(5);
            let said = proxy.lines().join("\n");
            for what in ["listener", "pool"] {
                let warns =
                    said.contains(&format!("{what} \\\"")) && said.contains("fastopen is off");
                assert_eq!(warns, missing.contains(&what), "with {bits}:\n{said}");
            }
        }
    }

    #[test]
    fn clients_may_send_with_their_syn() {
        needs!("unshare", "ip");
        if !entered_with_fastopen("clients_may_send_with_their_syn") {
            return;
        }
        let folder = Folder::new();
        let backend = Backend::echo(Family::V4, &folder);
        for (fastopen, passed) in [("true", 2), ("false", 0)] {
            let proxy = Setup::to(&[&backend]).listener("fastopen", fastopen).start();
            let before = counter("netstat", "TCPFastOpenPassive");
            for seed in 0..3 {
                let opened = |socket: &socket2::Socket| {
                    Ok(setsockopt(socket, sockopt::TcpFastOpenConnect, &true)?)
                };
                let client = Peer::with(proxy.place(), opened).expect("it connects");
                client.round_trip(&Pattern::bytes(seed, 3_000));
            }
            // The first had no cookie yet.
            assert_eq!(counter("netstat", "TCPFastOpenPassive") - before, passed, "{fastopen}");
        }
    }

    #[test]
    fn first_bytes_go_with_the_syn_where_the_backend_takes_them() {
        needs!("unshare", "ip");
        if !entered_with_fastopen("first_bytes_go_with_the_syn_where_the_backend_takes_them") {
            return;
        }
        let folder = Folder::new();
        let modern = Backend::start(open_listener(&folder), echo);
        let plain = Backend::echo(Family::V4, &folder);
        for (fastopen, active) in [("true", 5), ("false", 0)] {
            let proxy = Setup::to(&[&modern, &plain]).pool("fastopen", fastopen).start();
            let before = counter("netstat", "TCPFastOpenActive");
            // From one byte to more than fits into a SYN, and more than a buffer.
            for (seed, len) in [1, 1, 100, 100, 1_500, 16_000, 16_384, 70_000, 100, 200, 300, 400]
                .into_iter()
                .enumerate()
            {
                let bytes = Pattern::bytes(seed as u64, len);
                let client = client_with(&proxy, &bytes);
                assert!(client.receive(len) == bytes, "{len} bytes were changed");
                client.finish();
                assert_eq!(client.end(), End::Finished);
            }
            // Half of them, and the first of those was for the cookie.
            assert_eq!(counter("netstat", "TCPFastOpenActive") - before, active, "{fastopen}");
            assert!(proxy.terms(12).iter().all(|term| term == "--"));
        }
    }

    #[test]
    fn a_cookie_makes_no_server_wait_that_speaks_first() {
        needs!("unshare", "ip");
        if !entered_with_fastopen("a_cookie_makes_no_server_wait_that_speaks_first") {
            return;
        }
        let folder = Folder::new();
        let backend = Backend::start(open_listener(&folder), greet);
        let proxy = Setup::to(&[&backend]).pool("fastopen", "true").start();
        let before = counter("netstat", "TCPFastOpenActive");
        for _ in 0..2 {
            let client = client_with(&proxy, b"hello");
            assert_eq!(client.receive(GREETING.len() + 5), [GREETING, b"hello"].concat());
        }
        assert_eq!(counter("netstat", "TCPFastOpenActive") - before, 1, "the cookie is known");
        let wait = best_of_five(|| time_to_greeting(&proxy));
        assert!(wait < AT_ONCE, "the greeting took {wait:?}");
    }

    #[test]
    fn bytes_that_were_sent_with_a_refused_syn_go_elsewhere() {
        needs!("unshare", "ip", "nft");
        if !entered_with_fastopen("bytes_that_were_sent_with_a_refused_syn_go_elsewhere") {
            return;
        }
        let folder = Folder::new();
        let good = Backend::echo(Family::V4, &folder);
        for lost in [Lost::Closed, Lost::Silent] {
            let listener = open_listener(&folder);
            let place = listener.place().clone();
            let proxy = Setup::to(&[&place, &good])
                .pool("fastopen", "true")
                .set("timeouts", "{connect: 200ms, connect_total: 5s}")
                .start();
            let backend = Backend::start(listener, echo);
            // One session each, so that the cookie of the first is known.
            for _ in 0..2 {
                let client = client_with(&proxy, b"a cookie, please");
                assert_eq!(client.receive(16), b"a cookie, please");
                client.finish();
                assert_eq!(client.end(), End::Finished);
            }
            lost.lose(backend, &place);
            for (seed, len) in [20, 1_400, 16_000].into_iter().enumerate() {
                for _ in 0..2 {
                    let bytes = Pattern::bytes(seed as u64, len);
                    let client = client_with(&proxy, &bytes);
                    assert!(client.receive(len) == bytes, "{lost:?}: {len} bytes were changed");
                    client.finish();
                    assert_eq!(client.end(), End::Finished);
                }
            }
            let records = proxy.records_of(8);
            assert!(records.iter().all(|record| record["term"] == "--"), "{records:#?}");
            let retried = records.iter().filter(|record| count(record, "attempts") == 2).count();
            assert!(retried >= 3, "{lost:?}: {records:#?}");
        }
    }

    /// How a backend that had given a cookie is lost.
    #[derive(Clone, Copy, Debug)]
    enum Lost {
        /// Nobody listens there any more.
        Closed,
        /// Its packets are dropped.
        Silent,
    }

    impl Lost {
        fn lose(self, backend: Backend, place: &Place) {
            match self {
                Lost::Closed => drop(backend),
                Lost::Silent => {
                    crate::network::filter(&format!("tcp dport {} drop", place.port()));
                    // Its last accept would hang in the filter, and the process ends anyway.
                    std::mem::forget(backend);
                }
            }
        }
    }
}
