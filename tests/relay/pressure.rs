//! Peers that do not read, backends that do not accept, pipes that are rationed: memory stays flat
//! and no byte is lost.

use std::process::Command;
use std::thread;

use nix::fcntl::{FcntlArg, fcntl};

use crate::needs;
use crate::support::clock::{SOON, until};
use crate::support::digest::Pattern;
use crate::support::folder::{Folder, open_to_all};
use crate::support::peers::{Backend, End, Family, IP_FAMILIES, Listener, Peer, Place};
use crate::support::proxy::{GLANCE, Proxy, Setup};
use crate::support::{process::Process, tools, vitals};

const LANES: [&str; 3] = ["auto", "always", "never"];

#[test]
fn t10_clients_that_do_not_read_cost_no_memory() {
    for lane in LANES {
        let folder = Folder::new();
        let listener = Listener::new(Family::V4, &folder);
        let proxy = Setup::to(&[&listener]).set("zero_copy", lane).start();
        // One connection through first, so that what is made once is made.
        let (client, backend) = connected(&proxy, &listener);
        backend.send(b"warm");
        client.receive(4);
        let before = vitals::status_kib(proxy.pid(), "VmRSS");
        let bytes = Pattern::bytes(10, 64 << 20);
        let stuck: Vec<(Peer, Peer, usize)> = (0..12)
            .map(|_| {
                let client =
                    Peer::with(proxy.place(), |socket| socket.set_recv_buffer_size(1 << 16))
                        .expect("the proxy listens");
                let backend = listener.accept();
                let sent = backend.stuff(&bytes, GLANCE);
                assert!(sent < bytes.len(), "zero_copy {lane}: the backend was never held back");
                (client, backend, sent)
            })
            .collect();
        let after = vitals::status_kib(proxy.pid(), "VmRSS");
        assert!(after < before + 4_096, "zero_copy {lane}: {before} KiB became {after} KiB");
        for (client, backend, sent) in stuck {
            drop(backend);
            let (received, end) = client.receive_all();
            assert_eq!(end, End::Finished, "zero_copy {lane}");
            assert!(received == bytes[..sent], "zero_copy {lane}: {} of {sent}", received.len());
        }
    }
}

#[test]
fn b6_a_backend_that_does_not_read_holds_the_client_back() {
    for family in IP_FAMILIES {
        for lane in LANES {
            let folder = Folder::new();
            let listener = Listener::new(family, &folder);
            listener.shrink();
            let proxy = Setup::to(&[&listener]).on(family).set("zero_copy", lane).start();
            let (client, backend) = connected(&proxy, &listener);
            let before = vitals::status_kib(proxy.pid(), "VmRSS");
            let bytes = Pattern::bytes(6, 64 << 20);
            let sent = client.stuff(&bytes, GLANCE);
            assert!(sent < bytes.len(), "{family:?}, {lane}: the client was never held back");
            let after = vitals::status_kib(proxy.pid(), "VmRSS");
            assert!(after < before + 2_048, "{family:?}, {lane}: {before} became {after} KiB");
            client.finish();
            let (received, end) = backend.receive_all();
            assert_eq!(end, End::Finished, "{family:?}, {lane}");
            assert!(received == bytes[..sent], "{family:?}, {lane}: {} bytes", received.len());
        }
    }
}

#[test]
fn t17_early_data_is_not_hoarded_while_dialing() {
    let folder = Folder::new();
    let listener = Listener::at(Place::free(Family::V4, &folder), 0);
    let mut filler = Vec::new();
    while let Ok(peer) = Peer::try_connect_within(listener.place(), GLANCE) {
        filler.push(peer);
    }
    let proxy = Setup::to(&[&listener]).start();
    let before = vitals::status_kib(proxy.pid(), "VmRSS");
    let bytes = Pattern::bytes(17, 64 << 20);
    let clients: Vec<(Peer, usize)> = (0..16)
        .map(|_| {
            let client = proxy.client();
            let sent = client.stuff(&bytes, GLANCE);
            (client, sent)
        })
        .collect();
    assert!(clients.iter().all(|(_, sent)| *sent < bytes.len()), "nobody held them back");
    let after = vitals::status_kib(proxy.pid(), "VmRSS");
    assert!(after < before + 2_048, "{before} KiB became {after} KiB");
}

#[test]
fn at_rest_no_connection_holds_a_pipe() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).set("zero_copy", "always").start();
    let clients: Vec<Peer> = (0..64).map(|_| proxy.client()).collect();
    for client in &clients {
        client.round_trip(&Pattern::bytes(1, 50_000));
    }
    let pipes = vitals::pipes(proxy.pid());
    assert!(pipes < 64, "64 quiet connections and {pipes} ends of pipes");
}

#[test]
fn r8_when_pipes_are_rationed_every_byte_still_arrives() {
    needs!("setpriv");
    if !tools::is_root() {
        return tools::skip("r8", "only root can become another user");
    }
    // The ration is counted per user, so another process of the same user can use it up.
    let shared = Folder::new();
    let program = shared.file("test");
    std::fs::copy(std::env::current_exe().expect("a test knows its program"), &program)
        .expect("the program can be copied");
    open_to_all(&program);
    let mut command = Command::new(tools::path("setpriv"));
    command.args(NOBODY).arg(&program).args(["holder_of_pipes", "--ignored", "--nocapture"]);
    let hog = Process::start("the holder of pipes", &mut command);
    hog.line("that it holds them", SOON, |line| line.starts_with("holding"));
    for lane in ["always", "auto"] {
        let folder = Folder::new();
        let listener = Listener::new(Family::V4, &folder);
        let wrapper: Vec<&str> = ["setpriv"].into_iter().chain(NOBODY).collect();
        let proxy = Setup::to(&[&listener]).set("zero_copy", lane).under(&wrapper).start();
        thread::scope(|scope| {
            for seed in 0..16 {
                let (client, backend) = connected(&proxy, &listener);
                scope.spawn(move || {
                    backend.send(&Pattern::bytes(seed, 4 << 20));
                });
                scope.spawn(move || {
                    let (received, end) = client.receive_all();
                    assert_eq!(end, End::Finished, "zero_copy {lane}");
                    assert!(received == Pattern::bytes(seed, 4 << 20), "zero_copy {lane}");
                });
            }
        });
    }
    drop(hog);
}

#[test]
#[ignore = "not a test: the other process of r8"]
fn holder_of_pipes() {
    let mut pipes = Vec::new();
    // Beyond the ration a new pipe has two pages instead of sixteen.
    while let Ok((reader, writer)) = std::io::pipe() {
        let size = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).expect("a pipe has a size");
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1 << 20));
        pipes.push((reader, writer));
        if size < 1 << 16 || pipes.len() > 8_000 {
            break;
        }
    }
    println!("\nholding {} pipes", pipes.len());
    thread::park();
}

/// A client and the backend's end of its connection.
fn connected(proxy: &Proxy, listener: &Listener) -> (Peer, Peer) {
    let client = proxy.client();
    let backend = listener.accept();
    (client, backend)
}

#[test]
fn c1_a_burst_of_clients_is_served_whole() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).start();
    let clients: Vec<Peer> = (0..200).map(|_| proxy.client()).collect();
    clients.iter().for_each(|client| client.send(b"all at once"));
    clients.iter().for_each(|client| assert_eq!(client.receive(11), b"all at once"));
    drop(clients);
    until("every record", SOON, || (proxy.records().len() == 200).then_some(()));
}

const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
