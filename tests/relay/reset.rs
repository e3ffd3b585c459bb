//! Connections that break: a RST travels, but never past bytes that were already under way.

use crate::support::clock::{SOON, until};
use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, Family, IP_FAMILIES, Listener, Peer};
use crate::support::proxy::{GLANCE, Proxy, Setup};
use crate::support::vitals::{FIN_WAIT1, FIN_WAIT2, TcpRow, tcp_table};

const LANES: [&str; 3] = ["auto", "always", "never"];

/// A relayed connection with a client that does not read, in all families that know resets and with
/// every way to move bytes.
fn for_each_slow_client(check: impl Fn(&str, Proxy, Peer, Peer)) {
    for family in IP_FAMILIES {
        for lane in LANES {
            let folder = Folder::new();
            let listener = Listener::new(family, &folder);
            let proxy = Setup::to(&[&listener]).on(family).set("zero_copy", lane).start();
            let client = Peer::with(proxy.place(), |socket| socket.set_recv_buffer_size(4_096))
                .expect("the proxy listens");
            let backend = listener.accept();
            client.send(b"go");
            assert_eq!(backend.receive(2), b"go");
            check(&format!("{family:?}, zero_copy {lane}"), proxy, client, backend);
        }
    }
}

/// Waits until the proxy has taken everything `peer` sent out of its socket.
fn wait_until_read(peer: &Peer) {
    let (own, other) = (peer.port(), peer.peer_port());
    until("the proxy to read what was sent", SOON, || {
        let table = tcp_table();
        let find = |local, remote| {
            table.iter().find(|row: &&TcpRow| row.local == local && row.remote == remote)
        };
        let acknowledged = find(own, other)?.unacked == 0;
        (acknowledged && find(other, own)?.unread == 0).then_some(())
    });
}

/// Waits until the proxy has let go of its socket towards `(own, other)`.
fn wait_until_noticed(own: u16, other: u16) {
    until("the proxy to notice the end", SOON, || {
        let gone = !tcp_table().iter().any(|row| row.local == other && row.remote == own);
        gone.then_some(())
    });
}

#[test]
fn t4_a_reset_client_resets_the_backend() {
    for family in IP_FAMILIES {
        for lane in LANES {
            let folder = Folder::new();
            let listener = Listener::new(family, &folder);
            let proxy = Setup::to(&[&listener]).on(family).set("zero_copy", lane).start();
            let client = proxy.client();
            let backend = listener.accept();
            client.send(b"half a requ");
            assert_eq!(backend.receive(11), b"half a requ");
            client.reset();
            assert_eq!(backend.end(), End::Reset, "{family:?}, {lane}");
            assert_eq!(proxy.term(), "CD", "{family:?}, {lane}");
        }
    }
}

#[test]
fn t4_a_client_reset_in_the_middle_of_bulk_resets_the_backend() {
    for_each_slow_client(|what, proxy, client, backend| {
        let sent = backend.stuff(&Pattern::bytes(4, 64 << 20), GLANCE);
        assert!(sent > 0 && sent < 64 << 20, "{what}: the window closed after {sent} bytes");
        client.reset();
        assert_eq!(backend.end(), End::Reset, "{what}");
        assert_eq!(proxy.term(), "CD", "{what}");
    });
}

#[test]
fn t5_a_reset_backend_does_not_cut_what_was_read() {
    for_each_slow_client(|what, proxy, client, backend| {
        let bytes = Pattern::bytes(5, 64 << 10);
        backend.send(&bytes);
        wait_until_read(&backend);
        let (own, other) = (backend.port(), backend.peer_port());
        backend.reset();
        wait_until_noticed(own, other);
        let mut received = Vec::new();
        let end = loop {
            match client.receive_some(1_024) {
                Ok(some) => received.extend(some),
                Err(end) => break end,
            }
        };
        assert_eq!(received.len(), bytes.len(), "{what}: bytes the proxy had read were lost");
        assert!(received == bytes, "{what}: other bytes than the backend sent");
        assert_eq!(end, End::Reset, "{what}");
        assert_eq!(proxy.term(), "SD", "{what}");
    });
}

#[test]
fn t5_a_reset_after_a_fin_does_not_reach_the_finished_direction() {
    for_each_slow_client(|what, proxy, client, backend| {
        let bytes = Pattern::bytes(6, 64 << 10);
        backend.send(&bytes);
        backend.finish();
        wait_until_read(&backend);
        let (port, remote) = (client.peer_port(), client.port());
        until("the proxy to pass the FIN on", SOON, || {
            let passed = |row: &TcpRow| {
                (row.local, row.remote) == (port, remote)
                    && [FIN_WAIT1, FIN_WAIT2].contains(&row.state)
            };
            tcp_table().iter().any(passed).then_some(())
        });
        let (own, other) = (backend.port(), backend.peer_port());
        backend.reset();
        wait_until_noticed(own, other);
        let (received, end) = client.receive_all();
        assert_eq!(received.len(), bytes.len(), "{what}: the RST overtook finished bytes");
        assert!(received == bytes, "{what}: other bytes than the backend sent");
        assert_eq!(end, End::Finished, "{what}: a FIN came before the RST");
        drop(client);
        assert_eq!(proxy.terms(1).len(), 1, "{what}");
    });
}

#[test]
fn t5_mirrored_a_reset_client_does_not_cut_what_was_read_from_it() {
    for family in IP_FAMILIES {
        for lane in LANES {
            let folder = Folder::new();
            let listener = Listener::new(family, &folder);
            listener.shrink();
            let proxy = Setup::to(&[&listener]).on(family).set("zero_copy", lane).start();
            let client = proxy.client();
            let backend = listener.accept();
            let bytes = Pattern::bytes(8, 48 << 10);
            client.send(&bytes);
            wait_until_read(&client);
            let (own, other) = (client.port(), client.peer_port());
            client.reset();
            wait_until_noticed(own, other);
            let (received, end) = backend.receive_all();
            assert_eq!(received.len(), bytes.len(), "{family:?}, {lane}: read bytes were lost");
            assert!(received == bytes, "{family:?}, {lane}: other bytes than the client sent");
            assert_eq!(end, End::Reset, "{family:?}, {lane}");
            assert_eq!(proxy.term(), "CD", "{family:?}, {lane}");
        }
    }
}

#[test]
fn t6_a_reset_in_the_middle_of_bulk_leaves_the_client_a_prefix() {
    for_each_slow_client(|what, proxy, client, backend| {
        backend.stuff(&Pattern::bytes(6, 64 << 20), GLANCE);
        backend.reset();
        let (received, end) = client.receive_all();
        assert_eq!(end, End::Reset, "{what}");
        assert!(Pattern::bytes(6, received.len()) == received, "{what}: not a prefix");
        assert_eq!(proxy.term(), "SD", "{what}");
    });
}

#[test]
fn b4_a_backend_that_accepts_and_resets_is_not_held_against_others() {
    for family in IP_FAMILIES {
        let folder = Folder::new();
        let bad = Backend::start(Listener::new(family, &folder), Peer::reset);
        let proxy = Setup::to(&[&bad]).on(family).start();
        for _ in 0..5 {
            let client = proxy.client();
            let (received, end) = client.receive_all();
            assert!(received.is_empty(), "{family:?}");
            assert_eq!(end, End::Reset, "{family:?}");
        }
        for term in proxy.terms(5) {
            assert!(["SD", "SC"].contains(&term.as_str()), "{family:?}: {term}");
        }
    }
}

#[test]
fn after_resets_nothing_is_left() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).set("zero_copy", "always").start();
    let round = |count: usize| {
        let clients: Vec<Peer> = (0..count).map(|_| proxy.client()).collect();
        for client in clients {
            client.round_trip(b"hold on");
            client.reset();
        }
    };
    let descriptors = || crate::support::vitals::descriptors(proxy.pid()).len();
    round(50);
    proxy.records_of(50);
    let before = descriptors();
    round(50);
    proxy.records_of(100);
    until("the descriptors to return", SOON, || (descriptors() <= before).then_some(()));
}
