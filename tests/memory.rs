#![cfg(target_os = "linux")]
//! What an idle connection costs in memory and pipes: thousands of them, proxied, silent.

mod support;

use nix::sys::resource::{Resource, getrlimit};

use support::clock::{SOON, until};
use support::digest::Pattern;
use support::folder::Folder;
use support::peers::{Family, Listener, Peer};
use support::proxy::Setup;
use support::vitals;

const WANTED: usize = 5_000;
/// A session, two sockets and a timer: 216 by the sizes asserted where they are defined. On io_uring
/// two streams of 12 more, and what the kernel's choice of buffers touches.
const BYTES_PER_CONNECTION: u64 = 300;
/// What the process may take with nobody connected, before and after the thousands.
const BYTES_AT_REST: u64 = 8_000_000;

#[test]
fn an_idle_connection_costs_no_more_than_300_bytes_and_no_pipe() {
    // This process holds both ends of every connection, the proxy both of its own.
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process knows its limits");
    let possible = usize::try_from(limit.saturating_sub(200) / 2).unwrap_or(WANTED);
    let count = WANTED.min(possible);
    if count < WANTED {
        eprintln!("ulimit -n is {limit}: measuring {count} connections instead of {WANTED}");
    }
    for lane in ["auto", "always"] {
        let folder = Folder::new();
        let listener = Listener::new(Family::V4, &folder);
        let proxy = Setup::to(&[&listener]).set("zero_copy", lane).unlogged().start();
        let at_rest = |when: &str| {
            let taken = ["Rss", "Pss"].map(|key| vitals::memory_kib(proxy.pid(), key) << 10);
            println!("zero_copy {lane}: {taken:?} bytes {when} (Rss, Pss)");
            // Rss also counts whole the pages of libraries that other processes share.
            assert!(taken[1] <= BYTES_AT_REST, "zero_copy {lane}: {taken:?} bytes {when}");
        };
        at_rest("at the start");
        let connect = |bytes: &[u8]| {
            let client = proxy.client();
            let backend = listener.accept();
            client.send(bytes);
            assert!(backend.receive(bytes.len()) == bytes);
            backend.send(bytes);
            assert!(client.receive(bytes.len()) == bytes);
            (client, backend)
        };
        // What is made once (buffers in turn, a pipe, tables) is made by the first hundred.
        let warm: Vec<(Peer, Peer)> =
            (0..100).map(|_| connect(&Pattern::bytes(1, 9_000))).collect();
        let before = ["Pss", "Private_Dirty"].map(|key| vitals::memory_kib(proxy.pid(), key));
        let pipes_before = vitals::pipes(proxy.pid());
        let held: Vec<(Peer, Peer)> = (0..count).map(|_| connect(b"held")).collect();
        let after = ["Pss", "Private_Dirty"].map(|key| vitals::memory_kib(proxy.pid(), key));
        let each = [0, 1]
            .map(|index| (after[index].saturating_sub(before[index]) << 10) / held.len() as u64);
        let pipes = vitals::pipes(proxy.pid());
        println!("zero_copy {lane}: {count} idle connections, {each:?} bytes each (Pss, dirty)");
        println!("zero_copy {lane}: ends of pipes {pipes_before} before, {pipes} after");
        assert!(each[0].min(each[1]) <= BYTES_PER_CONNECTION, "zero_copy {lane}: {each:?} bytes");
        assert!(pipes <= pipes_before + 2, "zero_copy {lane}: idle connections hold {pipes} pipes");
        drop((warm, held));
        until("the descriptors to return", SOON, || {
            (vitals::descriptors(proxy.pid()).len() < 100).then_some(())
        });
        at_rest("after they have gone");
    }
}
