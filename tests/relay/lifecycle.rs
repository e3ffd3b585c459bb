//! Signals: draining, stopping at once, and what must not stop it.

use std::io::Write;
use std::process::Child;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::clock::{SOON, until};
use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, Family, Peer, Place};
use crate::support::process::Process;
use crate::support::proxy::{GLANCE, Setup, is_ready};
#[cfg(target_os = "linux")]
use crate::support::vitals;

#[test]
fn s1_sigterm_lets_connections_finish_and_takes_no_new_ones() {
    stops_gracefully(Signal::SIGTERM);
}

#[test]
fn s3_sigint_lets_connections_finish_and_takes_no_new_ones() {
    stops_gracefully(Signal::SIGINT);
}

fn stops_gracefully(signal: Signal) {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let mut proxy = Setup::to(&[&backend]).set("workers", "2").start();
    let clients: Vec<Peer> = (0..8).map(|_| proxy.client()).collect();
    for client in &clients {
        client.round_trip(b"before");
    }
    proxy.signal(signal);
    until("new connections to be refused", SOON, || {
        Peer::try_connect(proxy.place()).err().map(|_| ())
    });
    for (seed, client) in clients.iter().enumerate() {
        client.round_trip(&Pattern::bytes(seed as u64, 100_000));
    }
    assert!(proxy.ended().is_none(), "it waits for its connections");
    for client in &clients {
        client.finish();
        assert_eq!(client.end(), End::Finished);
    }
    assert_eq!(proxy.wait(SOON).code(), Some(0));
    let finished = proxy.records().iter().filter(|record| record["term"] == "--").count();
    assert!(finished >= 8, "a record for each connection that finished, got {finished}");
}

#[test]
fn s1_without_connections_sigterm_ends_at_once() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let mut proxy = Setup::to(&[&backend]).start();
    proxy.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait(Duration::from_secs(3)).code(), Some(0));
}

#[test]
fn s1_a_second_sigterm_ends_at_once() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let mut proxy = Setup::to(&[&backend]).start();
    let client = proxy.client();
    client.round_trip(b"held");
    proxy.signal(Signal::SIGTERM);
    until("the drain to begin", SOON, || Peer::try_connect(proxy.place()).err().map(|_| ()));
    assert!(proxy.ended().is_none(), "the first one drains");
    proxy.signal(Signal::SIGTERM);
    let status = proxy.wait(Duration::from_secs(3));
    assert!(status.code().is_some(), "it ends by itself, not by the signal: {status}");
    assert_ne!(client.end(), End::Silent);
}

#[test]
fn s1_the_drain_ends_at_its_limit() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let mut proxy = Setup::to(&[&backend]).set("timeouts", "{drain: 500ms}").start();
    let client = proxy.client();
    client.round_trip(b"held");
    proxy.signal(Signal::SIGTERM);
    assert_eq!(proxy.wait(Duration::from_secs(5)).code(), Some(0));
    assert_ne!(client.end(), End::Silent);
    assert_eq!(proxy.term(), "LD");
}

#[test]
fn s1_sigterm_during_the_start_is_obeyed() {
    for wait in [0, 1, 2, 5, 10, 20] {
        let folder = Folder::new();
        let backend = Backend::echo(Family::V4, &folder);
        let setup = Setup::to(&[&backend]);
        let mut process = Process::start("evenkeel", &mut setup.command());
        let span = Duration::from_millis(wait);
        let _ = crossbeam_channel::never::<()>().recv_timeout(span);
        let was_ready = process.lines().iter().any(|line| is_ready(line));
        process.signal(Signal::SIGTERM);
        let status = process.wait(Duration::from_secs(3));
        if was_ready {
            assert_eq!(status.code(), Some(0), "{wait} ms after the start");
        }
    }
}

#[test]
fn s2_s3_sighup_and_sigpipe_do_not_end_it() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let mut proxy = Setup::to(&[&backend]).start();
    let client = proxy.client();
    client.round_trip(b"before");
    for signal in [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGPIPE] {
        proxy.signal(signal);
        client.round_trip(&Pattern::bytes(1, 10_000));
        proxy.client().round_trip(b"a new one");
    }
    assert!(client.is_silent_for(GLANCE));
    assert!(proxy.ended().is_none());
}

#[test]
fn s4_stopping_and_continuing_the_process_loses_nothing() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend]).start();
    let client = proxy.client();
    client.round_trip(b"before");
    proxy.signal(Signal::SIGSTOP);
    // A signal is on its way for a while: the worker may still be echoing.
    #[cfg(target_os = "linux")]
    until("every thread to stop", SOON, || vitals::is_stopped(proxy.pid()).then_some(()));
    client.send(b"while stopped");
    assert!(client.is_silent_for(GLANCE));
    proxy.signal(Signal::SIGCONT);
    assert_eq!(client.receive(13), b"while stopped");
}

#[test]
fn a_taken_port_ends_the_start_with_one_clear_line() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let taken = Backend::echo(Family::V4, &folder);
    let place = taken.place().clone();
    let (code, said) = Setup::to(&[&backend]).at(place.clone()).refused();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&place.to_string()), "the message names the address: {said}");
}

#[test]
fn a_draining_process_leaves_its_successors_path_alone() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let place = Place::free(Family::Unix, &folder);
    let mut old = Setup::to(&[&backend]).at(place.clone()).start();
    let held = old.client();
    held.round_trip(b"held by the old one");
    old.signal(Signal::SIGTERM);
    until("the path to be free", SOON, || Peer::try_connect(&place).err().map(|_| ()));
    let successor = Setup::to(&[&backend]).at(place).start();
    held.finish();
    assert_eq!(held.end(), End::Finished);
    assert_eq!(old.wait(SOON).code(), Some(0));
    successor.client().round_trip(b"still reachable");
}

#[test]
fn r13_a_log_that_nobody_reads_does_not_keep_it_from_stopping() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let place = Place::free(Family::V4, &folder);
    let setup = Setup::to(&[&backend]).at(place.clone());
    // A pipe with no room left: the first line that is logged blocks whoever writes it.
    let (unread, full) = std::io::pipe().expect("there are pipes");
    let flags = OFlag::from_bits_truncate(fcntl(&full, FcntlArg::F_GETFL).expect("it has flags"));
    fcntl(&full, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).expect("it can be non-blocking");
    while (&full).write(&[0; 4096]).is_ok() {}
    while (&full).write(&[0]).is_ok() {}
    fcntl(&full, FcntlArg::F_SETFL(flags)).expect("it can be blocking");
    let mut child = Guarded(setup.command().stderr(full).spawn().expect("it can be started"));
    until("it to accept", SOON, || Peer::try_connect(&place).ok());
    for _ in 0..300 {
        Peer::connect(&place).round_trip(b"nobody reads of this");
    }
    let pid = Pid::from_raw(child.0.id() as i32);
    kill(pid, Signal::SIGTERM).expect("it runs");
    // It waits a little for its last lines, and then goes.
    let status = until("its end", SOON, || child.0.try_wait().expect("it is ours"));
    assert_eq!(status.code(), Some(0));
    drop(unread);
}

/// A process that does not outlive a test that fails.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
