//! Bytes on their way: every size, both directions, early, slow and urgent ones.

use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, FAMILIES, Family, IP_FAMILIES, Listener, Peer};
use crate::support::proxy::{GLANCE, Setup, count};

const LANES: [&str; 3] = ["auto", "always", "never"];

#[test]
fn t9_one_byte_at_a_time() {
    for family in FAMILIES {
        for lane in LANES {
            let folder = Folder::new();
            let backend = Backend::echo(family, &folder);
            let proxy = Setup::to(&[&backend]).on(family).set("zero_copy", lane).start();
            let client = proxy.client();
            for byte in Pattern::bytes(9, 300) {
                client.round_trip(&[byte]);
            }
        }
    }
}

#[test]
fn t11_both_directions_at_once_arrive_whole() {
    for family in FAMILIES {
        for lane in LANES {
            let folder = Folder::new();
            let listener = Listener::new(family, &folder);
            let proxy = Setup::to(&[&listener]).on(family).set("zero_copy", lane).start();
            let client = proxy.client();
            let backend = listener.accept();
            let talkers = [(client, 1), (backend, 2)].map(|(peer, seed)| {
                let other = 3 - seed;
                thread::spawn(move || talk_and_listen(&peer, seed, other))
            });
            for talker in talkers {
                talker.join().unwrap_or_else(|_| panic!("{family:?}, zero_copy {lane}"));
            }
            let record = proxy.records_of(1).remove(0);
            assert_eq!(record["term"], "--", "{family:?}, zero_copy {lane}: {record}");
            assert_eq!(count(&record, "bytes_in"), BULK as u64, "{record}");
            assert_eq!(count(&record, "bytes_out"), BULK as u64, "{record}");
            if lane == "never" {
                assert_eq!(count(&record, "splice_bytes"), 0, "{record}");
            }
        }
    }
}

/// TCP wakes every poll with "urgent", and a poller that believed it copied everything: urgent data
/// cannot be spliced.
#[cfg(target_os = "linux")]
#[test]
fn bulk_goes_by_pipe() {
    for family in IP_FAMILIES {
        for lane in ["auto", "always"] {
            let folder = Folder::new();
            let listener = Listener::new(family, &folder);
            let proxy = Setup::to(&[&listener]).on(family).set("zero_copy", lane).start();
            let client = proxy.client();
            let backend = listener.accept();
            let bulk = Pattern::bytes(3, 4 * BULK);
            thread::scope(|scope| {
                scope.spawn(|| {
                    // Small pieces first: an exchange that turns out to be bulk.
                    for _ in 0..5 {
                        backend.round_trip(b"a piece");
                    }
                    backend.send(&bulk);
                    backend.finish();
                });
                for _ in 0..5 {
                    assert_eq!(client.receive(7), b"a piece");
                    client.send(b"a piece");
                }
                assert!(client.receive_all() == (bulk.clone(), End::Finished), "{lane}");
            });
            client.finish();
            let record = proxy.records_of(1).remove(0);
            let (spliced, all) = (count(&record, "splice_bytes"), count(&record, "bytes_out"));
            assert!(spliced > all / 10 * 9, "{family:?}, zero_copy {lane}: {record}");
        }
    }
}

fn talk_and_listen(peer: &Peer, seed: u64, other: u64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            peer.send(&Pattern::bytes(seed, BULK));
            peer.finish();
        });
        let (received, end) = peer.receive_all();
        assert_eq!(end, End::Finished);
        assert!(received == Pattern::bytes(other, BULK), "bytes were lost, doubled or moved");
    });
}

#[test]
fn every_size_around_a_buffer_makes_the_round_trip() {
    for lane in LANES {
        let folder = Folder::new();
        let backend = Backend::echo(Family::V4, &folder);
        let proxy = Setup::to(&[&backend]).set("zero_copy", lane).start();
        let client = proxy.client();
        for exponent in [6, 12, 14, 16, 18] {
            for size in [(1_usize << exponent) - 1, 1 << exponent, (1 << exponent) + 1] {
                client.round_trip(&Pattern::bytes(size as u64, size));
            }
        }
    }
}

#[test]
fn t12_an_urgent_byte_does_not_stop_the_stream() {
    for family in IP_FAMILIES {
        for lane in LANES {
            let folder = Folder::new();
            let listener = Listener::new(family, &folder);
            let proxy = Setup::to(&[&listener]).on(family).set("zero_copy", lane).start();
            let client = proxy.client();
            let backend = listener.accept();
            client.send(b"before");
            assert_eq!(backend.receive(6), b"before", "{family:?}, {lane}");
            client.socket().send_out_of_band(b"!").expect("an urgent byte can be sent");
            client.send(b"after");
            client.finish();
            let (received, end) = backend.receive_all();
            assert_eq!(end, End::Finished, "{family:?}, {lane}");
            let fine = received == b"after" || received == b"!after";
            assert!(fine, "{family:?}, {lane}: got {received:?}");
        }
    }
}

#[test]
fn an_idle_connection_survives_quiet_and_goes_on() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).start();
    let client = proxy.client();
    client.round_trip(b"one");
    assert!(client.is_silent_for(Duration::from_secs(2)));
    client.round_trip(b"two");
    assert!(client.is_silent_for(GLANCE));
    client.round_trip(&Pattern::bytes(3, 100_000));
}

#[test]
fn many_connections_at_once_keep_their_bytes_apart() {
    let folder = Folder::new();
    let backends = [(); 3].map(|()| Backend::echo(Family::V4, &folder));
    let [a, b, c] = &backends;
    let proxy = Setup::to(&[a, b, c]).set("workers", "2").start();
    thread::scope(|scope| {
        for seed in 0..32 {
            let proxy = &proxy;
            scope.spawn(move || {
                for turn in 0..8 {
                    let client = proxy.client();
                    client.round_trip(&Pattern::bytes(seed * 100 + turn, 20_000));
                    client.finish();
                    assert_eq!(client.end(), End::Finished);
                }
            });
        }
    });
    let terms = proxy.terms(256);
    assert!(terms.iter().all(|term| term == "--"), "{terms:?}");
    let shares = backends.map(|backend| backend.accepted());
    assert_eq!(shares.iter().sum::<usize>(), 256);
    assert!(shares.iter().all(|share| (80..=90).contains(share)), "round robin gave {shares:?}");
}

const BULK: usize = 8 << 20;

/// A read of a Unix socket stops behind bytes that carried descriptors, however many follow.
#[test]
fn bytes_behind_a_descriptor_are_not_forgotten() {
    for lane in LANES {
        for finishes in [true, false] {
            let folder = Folder::new();
            let listener = Listener::new(Family::V4, &folder);
            let proxy = Setup::to(&[&listener]).on(Family::Unix).set("zero_copy", lane).start();
            let client = proxy.client();
            let backend = listener.accept();
            client.send(b"first");
            assert_eq!(backend.receive(5), b"first");
            // All of it is there before the first of it is read.
            proxy.signal(Signal::SIGSTOP);
            let descriptors = [client.socket().as_raw_fd()];
            let carried = [ControlMessage::ScmRights(&descriptors)];
            let bytes = [IoSlice::new(b"a")];
            let fd = client.socket().as_raw_fd();
            sendmsg::<()>(fd, &bytes, &carried, MsgFlags::empty(), None).expect("it can be sent");
            client.send(&Pattern::bytes(5, 10_000));
            if finishes {
                client.finish();
            }
            proxy.signal(Signal::SIGCONT);
            assert_eq!(backend.receive(1), b"a", "{lane}");
            assert!(backend.receive(10_000) == Pattern::bytes(5, 10_000), "{lane}");
        }
    }
}
