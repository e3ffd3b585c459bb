#![cfg(target_os = "linux")]
//! What a connection costs in system calls, counted by `strace` on the worker thread.

mod support;

use std::process::Command;
use std::time::Duration;

use support::clock::{holds_for, now, until};
use support::folder::Folder;
use support::peers::{Backend, Family, Peer};
use support::process::run;
use support::proxy::{Proxy, Setup, Target};
use support::servers::Nginx;
use support::strace::{Strace, summary};
use support::{tools, vitals};

/// Of a whole proxied connection: accept, connect, request, answer, both ends. Thirteen, and a share
/// of the waits.
const CALLS_PER_CONNECTION: f64 = 13.5;
/// The same on io_uring, where accepts, watches and closes are no calls: nine.
const CALLS_PER_CONNECTION_ON_A_RING: f64 = 10.0;

/// The worker's thread, or all threads where it has no name of its own.
fn worker(proxy: &Proxy) -> (u32, &'static [&'static str]) {
    match vitals::threads_named(proxy.pid(), "work")[..] {
        [worker] => (worker, &[]),
        _ => (proxy.pid(), &["-f"]),
    }
}

#[test]
fn a_short_connection_costs_few_system_calls() {
    needs!("nginx", "wrk", "strace");
    let nginx = Nginx::start(3);
    let targets: Vec<&dyn Target> = nginx.ports().iter().map(|port| port as &dyn Target).collect();
    let proxy = Setup::to(&targets).unlogged().start();
    let (id, flags) = worker(&proxy);
    let options: Vec<&str> = flags.iter().copied().chain(["-c"]).collect();
    let Some(strace) = Strace::attach("syscalls", id, &options) else { return };
    let mut wrk = Command::new(tools::path("wrk"));
    wrk.args(["-t", "1", "-c", "16", "-d", "3s", "-H", "Connection: close"]);
    let said = run("wrk", wrk.arg(format!("http://{}/", proxy.place())), Duration::from_secs(60));
    assert!(!said.contains("Socket errors"), "{said}");
    let (mut calls, mut rows) = summary(&strace.finish());
    if cfg!(debug_assertions) {
        // The standard library checks every descriptor it closes, in debug builds only.
        calls -= rows.iter().filter(|row| row.0 == "fcntl").map(|row| row.1).sum::<u64>();
        rows.retain(|row| row.0 != "fcntl");
    }
    let connections: u64 = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
        .unwrap_or_else(|| panic!("wrk said\n{said}"));
    let each = calls as f64 / connections as f64;
    println!("{calls} system calls for {connections} connections: {each:.2} each");
    for (name, calls) in &rows {
        println!("{:8.3} {name}", *calls as f64 / connections as f64);
    }
    assert!(connections > 200, "too few connections to judge: {connections}");
    let on_a_ring = rows.iter().any(|(name, _)| name == "io_uring_enter");
    let most = if on_a_ring { CALLS_PER_CONNECTION_ON_A_RING } else { CALLS_PER_CONNECTION };
    assert!(each <= most, "{each:.2} system calls per connection: {rows:?}");
}

#[test]
fn an_idle_connection_costs_no_system_call() {
    needs!("strace");
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).unlogged().start();
    let clients: Vec<Peer> = (0..50).map(|_| proxy.client()).collect();
    clients.iter().for_each(|client| client.round_trip(b"and now be quiet"));
    let (id, flags) = worker(&proxy);
    let Some(strace) = Strace::attach("idle", id, flags) else { return };
    // What a connection is owed once (keepalive, say) may come late; after that, nothing.
    let mut last = (0, now());
    until("three seconds without a system call", Duration::from_secs(20), || {
        let calls = strace.seen().lines().count();
        if calls != last.0 {
            last = (calls, now());
        }
        (last.1.elapsed() > Duration::from_secs(3)).then_some(())
    });
    println!("three quiet seconds of 50 idle connections, after {} system calls", last.0);
    clients.iter().for_each(|client| client.round_trip(b"and speak again"));
}

#[test]
fn an_idle_proxy_burns_no_cpu() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).unlogged().start();
    let clients: Vec<Peer> = (0..50).map(|_| proxy.client()).collect();
    clients.iter().for_each(|client| client.round_trip(b"and now be quiet"));
    assert!(holds_for(Duration::from_millis(200), || true));
    let before = vitals::cpu_time(proxy.pid());
    assert!(clients[0].is_silent_for(Duration::from_secs(2)));
    let burnt = vitals::cpu_time(proxy.pid()) - before;
    println!("{burnt:?} of CPU in two idle seconds");
    assert!(burnt < Duration::from_millis(20), "{burnt:?} of CPU in two idle seconds");
}
