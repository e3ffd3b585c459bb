//! Ends of one direction: FINs travel, and the other direction lives on.

use std::thread;

use crate::support::digest::{Pattern, of_bytes};
use crate::support::folder::Folder;
#[cfg(target_os = "linux")]
use crate::support::peers::Place;
use crate::support::peers::{Backend, End, FAMILIES, Family, Listener, Peer};
use crate::support::proxy::{GLANCE, Proxy, Setup, count};

/// A proxy of `family` on both sides, and its backend's listener.
fn pair(family: Family, folder: &Folder) -> (Proxy, Listener) {
    let listener = Listener::new(family, folder);
    let proxy = Setup::to(&[&listener]).on(family).start();
    (proxy, listener)
}

#[test]
fn one_line_is_enough_to_start() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).start_in_one_line();
    let client = proxy.client();
    client.round_trip(b"hello through the wall");
    client.finish();
    assert_eq!(client.end(), End::Finished);
    assert_eq!(proxy.term(), "--");
}

#[test]
fn t1_a_client_that_finished_still_gets_a_long_reply() {
    for family in FAMILIES {
        let folder = Folder::new();
        let (proxy, listener) = pair(family, &folder);
        let reply = Pattern::bytes(1, 10 << 20);
        let client = proxy.client();
        client.send(b"request");
        client.finish();
        let backend = listener.accept();
        assert_eq!(backend.receive_all(), (b"request".to_vec(), End::Finished), "{family:?}");
        assert!(client.is_silent_for(GLANCE), "{family:?}: the proxy must not end the reply");
        let reader = thread::spawn(move || client.receive_all());
        backend.send(&reply);
        drop(backend);
        let (received, end) = reader.join().expect("the reader is well");
        assert_eq!(end, End::Finished, "{family:?}");
        assert_eq!(of_bytes(&received), of_bytes(&reply), "{family:?}");
        let record = proxy.records_of(1).remove(0);
        assert_eq!(record["term"], "--", "{family:?}: {record}");
        assert_eq!(count(&record, "bytes_in"), 7, "{family:?}: {record}");
        assert_eq!(count(&record, "bytes_out"), reply.len() as u64, "{family:?}: {record}");
    }
}

#[test]
fn t2_a_backend_that_finished_still_gets_a_long_upload() {
    for family in FAMILIES {
        let folder = Folder::new();
        let (proxy, listener) = pair(family, &folder);
        let upload = Pattern::bytes(2, 10 << 20);
        let client = proxy.client();
        let backend = listener.accept();
        backend.send(b"greeting");
        backend.finish();
        assert_eq!(client.receive_all(), (b"greeting".to_vec(), End::Finished), "{family:?}");
        assert!(backend.is_silent_for(GLANCE), "{family:?}: the proxy must not end the upload");
        let reader = thread::spawn(move || backend.receive_all());
        client.send(&upload);
        client.finish();
        let (received, end) = reader.join().expect("the reader is well");
        assert_eq!(end, End::Finished, "{family:?}");
        assert_eq!(of_bytes(&received), of_bytes(&upload), "{family:?}");
        assert_eq!(proxy.term(), "--", "{family:?}");
    }
}

#[test]
fn t3_both_sides_finish_at_once() {
    for family in FAMILIES {
        let folder = Folder::new();
        let (proxy, listener) = pair(family, &folder);
        let client = proxy.client();
        let backend = listener.accept();
        client.send(b"c");
        backend.send(b"b");
        client.finish();
        backend.finish();
        assert_eq!(client.receive_all(), (b"b".to_vec(), End::Finished), "{family:?}");
        assert_eq!(backend.receive_all(), (b"c".to_vec(), End::Finished), "{family:?}");
        assert_eq!(proxy.term(), "--", "{family:?}");
    }
}

#[test]
fn t7_a_fin_in_the_segment_of_the_data_takes_nothing_with_it() {
    for family in FAMILIES {
        let folder = Folder::new();
        let backend = Backend::echo(family, &folder);
        let proxy = Setup::to(&[&backend]).on(family).start();
        for size in [1, 100, 1_400, 16_384, 16_385, 60_000] {
            let bytes = Pattern::bytes(size, size as usize);
            let client = corked(&proxy);
            client.send(&bytes);
            client.finish();
            let (received, end) = client.receive_all();
            assert_eq!(end, End::Finished, "{family:?}, {size} bytes");
            assert!(received == bytes, "{family:?}, {size} bytes");
        }
        assert!(proxy.terms(6).iter().all(|term| term == "--"), "{family:?}");
    }
}

/// A client whose last data and FIN share a segment, where the system can be told so.
fn corked(proxy: &Proxy) -> Peer {
    let client = proxy.client();
    #[cfg(target_os = "linux")]
    if matches!(proxy.place(), Place::Ip(_)) {
        client.socket().set_tcp_cork(true).expect("a TCP socket can be corked");
    }
    client
}

#[test]
fn t8_a_connection_without_a_byte_closes_cleanly() {
    for family in FAMILIES {
        let folder = Folder::new();
        let backend = Backend::echo(family, &folder);
        let proxy = Setup::to(&[&backend]).on(family).start();
        for _ in 0..20 {
            drop(proxy.client());
        }
        let terms = proxy.terms(20);
        let fine = ["--", "CC", "CD"];
        assert!(terms.iter().all(|term| fine.contains(&term.as_str())), "{family:?}: {terms:?}");
        proxy_still_serves(&proxy);
    }
}

fn proxy_still_serves(proxy: &Proxy) {
    let client = proxy.client();
    client.round_trip(b"still here");
}

#[test]
fn t16_a_server_may_greet_first() {
    for family in FAMILIES {
        let folder = Folder::new();
        let (proxy, listener) = pair(family, &folder);
        let client = proxy.client();
        let backend = listener.accept();
        backend.send(b"220 mail.example ready\r\n");
        assert_eq!(client.receive(24), b"220 mail.example ready\r\n", "{family:?}");
        client.send(b"QUIT\r\n");
        assert_eq!(backend.receive(6), b"QUIT\r\n", "{family:?}");
        drop(backend);
        assert_eq!(client.end(), End::Finished, "{family:?}");
        drop(client);
        assert_eq!(proxy.term(), "--", "{family:?}");
    }
}

#[test]
fn b5_a_backend_that_accepts_and_finishes_is_passed_on() {
    for family in FAMILIES {
        let folder = Folder::new();
        let backend = Backend::start(Listener::new(family, &folder), drop);
        let proxy = Setup::to(&[&backend]).on(family).start();
        for _ in 0..5 {
            let client = proxy.client();
            assert_eq!(client.end(), End::Finished, "{family:?}");
        }
        let terms = proxy.terms(5);
        assert!(terms.iter().all(|term| term == "--"), "{family:?}: {terms:?}");
    }
}

#[test]
fn b7_garbage_before_the_request_is_the_clients_to_judge() {
    for family in FAMILIES {
        let folder = Folder::new();
        let garbage = Pattern::bytes(7, 3_000);
        let expected = garbage.clone();
        let backend = Backend::start(Listener::new(family, &folder), move |peer| {
            peer.send(&garbage);
            crate::support::peers::echo(peer);
        });
        let proxy = Setup::to(&[&backend]).on(family).start();
        let client = proxy.client();
        assert!(client.receive(3_000) == expected, "{family:?}");
        client.round_trip(b"and then the request");
    }
}
