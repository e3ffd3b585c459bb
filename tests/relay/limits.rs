//! Limits on the number of connections: reached, overstepped by one, and freed again.

use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, Family, Peer};
use crate::support::proxy::{GLANCE, Setup};

#[test]
fn r18_beyond_max_connections_a_client_waits_until_one_leaves() {
    for workers in ["1", "2"] {
        let folder = Folder::new();
        let backend = Backend::echo(Family::V4, &folder);
        let proxy = Setup::to(&[&backend])
            .set("workers", workers)
            .set("limits", "{max_connections: 8}")
            .start();
        let mut clients: Vec<Peer> = (0..8).map(|_| proxy.client()).collect();
        for client in &clients {
            client.round_trip(b"one of eight");
        }
        let ninth = proxy.client();
        ninth.send(b"may I?");
        assert!(ninth.is_silent_for(GLANCE), "{workers} workers: eight is the limit");
        assert_eq!(backend.accepted(), 8, "{workers} workers");
        for client in &clients {
            client.round_trip(b"undisturbed");
        }
        let leaving = clients.swap_remove(3);
        leaving.finish();
        assert_eq!(leaving.end(), End::Finished);
        assert_eq!(ninth.receive(6), b"may I?", "{workers} workers: room for the ninth");
    }
}

#[test]
fn r18_a_listeners_limit_resets_the_one_too_many() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy =
        Setup::to(&[&backend]).listener("limits", "{max_connections: 4, action: reset}").start();
    let mut clients: Vec<Peer> = (0..4).map(|_| proxy.client()).collect();
    for client in &clients {
        client.round_trip(b"one of four");
    }
    let fifth = proxy.client();
    assert_eq!(proxy.term(), "PC");
    // The reset may reach this send already, and then the kernel does not tell the read of it.
    let _ = fifth.try_send(b"may I?");
    assert_eq!(fifth.end(), End::Reset);
    let leaving = clients.swap_remove(0);
    leaving.finish();
    assert_eq!(leaving.end(), End::Finished);
    proxy.records_of(2);
    proxy.client().round_trip(b"welcome");
}

/// `pin_workers` keeps each worker on one core, each on its own while there are enough.
#[cfg(target_os = "linux")]
#[test]
fn pinned_workers_stay_on_a_core_of_their_own() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).set("workers", "2").set("pin_workers", "true").start();
    proxy.client().round_trip(b"served all the same");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("it runs");
    let mut cores = Vec::new();
    for task in tasks {
        let status = task.expect("a thread of it").path().join("status");
        let status = std::fs::read_to_string(status).expect("a thread's status");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a field of it");
            line.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        if field("Name:").starts_with("worker-") {
            cores.push(field("Cpus_allowed_list:"));
        }
    }
    assert_eq!(cores.len(), 2);
    assert!(cores.iter().all(|core| core.parse::<usize>().is_ok()), "one core each: {cores:?}");
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(machine < 2 || cores[0] != cores[1], "{cores:?}");
}
