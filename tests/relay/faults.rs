//! System calls that fail for no fault of anybody's: `strace` makes a few of them return an error
//! while connections are living, coming and going.

use crate::needs;
use crate::support::clock::{SOON, holds_for, until};
use crate::support::digest::Pattern;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, Family, Peer};
use crate::support::proxy::{GLANCE, Proxy, Setup};
use crate::support::strace::Strace;
use crate::support::vitals;

/// How many calls fail in each case.
const FAULTS: usize = 3;
/// How many clients come while they fail.
const CLIENTS: usize = 12;

/// Lets the first three calls of `call` end with each of `errors`. At most `losses` of the clients
/// that come meanwhile may fail; everybody else, before, during and after, sees every byte.
fn survives(test: &str, call: &str, errors: &[&str], losses: usize) {
    for error in errors {
        let folder = Folder::new();
        let backends = [(); 3].map(|()| Backend::echo(Family::V4, &folder));
        let [a, b, c] = &backends;
        let proxy = Setup::to(&[a, b, c]).set("zero_copy", "always").start();
        let old = proxy.client();
        old.round_trip(b"before");
        let inject = format!("inject={call}:error={error}:when=1..{FAULTS}");
        let trace = format!("trace={call}");
        let options = ["-f", "-e", trace.as_str(), "-e", inject.as_str()];
        let Some(strace) = Strace::attach(test, proxy.pid(), &options) else { return };
        let results: Vec<Result<(), String>> =
            (0..CLIENTS).map(|seed| visit(&proxy, seed as u64)).collect();
        old.round_trip(&Pattern::bytes(1, 100_000));
        let seen = strace.finish();
        let injected = seen.matches("(INJECTED)").count();
        let lost = results.iter().filter(|result| result.is_err()).count();
        let what = format!("{call} with {error}, {injected} times: {results:?}\n{seen}");
        assert!(lost <= losses.min(injected), "{lost} clients lost; {what}");
        for seed in 0..CLIENTS {
            visit(&proxy, seed as u64)
                .unwrap_or_else(|error| panic!("afterwards: {error}; {what}"));
        }
        old.round_trip(b"after");
        old.finish();
        assert_eq!(old.end(), End::Finished, "{what}");
        let count = 2 * CLIENTS + 1;
        until("all records", SOON, || (proxy.records().len() >= count - lost).then_some(()));
        assert!(proxy.records().len() <= count, "more records than connections; {what}");
        let calm = vitals::cpu_time(proxy.pid());
        assert!(holds_for(GLANCE, || true));
        let busy = vitals::cpu_time(proxy.pid()) - calm;
        assert!(busy < GLANCE / 4, "it spins afterwards: {busy:?} of {GLANCE:?}; {what}");
    }
}

fn visit(proxy: &Proxy, seed: u64) -> Result<(), String> {
    let client = Peer::try_connect(proxy.place()).map_err(|error| error.to_string())?;
    client.try_round_trip(&Pattern::bytes(seed, 40_000))?;
    client.finish();
    match client.receive_some(1) {
        Err(End::Finished) => Ok(()),
        other => Err(format!("the end was {other:?}")),
    }
}

#[test]
fn r2_r4_r6_accept_fails_and_no_client_is_lost() {
    needs!("strace");
    let errors = ["ENFILE", "EMFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPROTO", "EPERM"];
    survives("r2_r4_r6", "accept4", &errors, 0);
}

#[test]
fn r3_r4_socket_fails_and_only_its_own_connection_may_be_lost() {
    needs!("strace");
    survives("r3_r4_socket", "socket", &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"], FAULTS);
}

#[test]
fn r4_r6_connect_fails_and_only_its_own_connection_may_be_lost() {
    needs!("strace");
    let errors = ["ENOBUFS", "ENOMEM", "EPERM", "EADDRNOTAVAIL", "ENETUNREACH", "EINTR"];
    survives("r4_r6_connect", "connect", &errors, FAULTS);
}

#[test]
fn b1_a_connect_that_is_refused_or_unreachable_goes_to_another_backend() {
    needs!("strace");
    // Three faults, three attempts: one connection may meet all of them, no more.
    let errors = ["ECONNREFUSED", "EHOSTUNREACH", "ETIMEDOUT"];
    survives("b1_connect", "connect", &errors, 1);
}

#[test]
fn r3_r8_pipe2_fails_and_bytes_are_copied_instead() {
    needs!("strace");
    survives("r3_r8_pipe2", "pipe2", &["EMFILE", "ENFILE"], 0);
}

#[test]
fn t22_a_pipe_that_cannot_grow_is_used_as_it_is() {
    needs!("strace");
    survives("t22", "fcntl", &["EPERM", "ENOMEM", "EBUSY"], 0);
}

#[test]
fn r3_r10_epoll_ctl_fails_and_only_its_own_connection_may_be_lost() {
    needs!("strace");
    survives("r3_r10", "epoll_ctl", &["ENOMEM", "ENOSPC"], FAULTS);
}

#[test]
fn r4_a_refused_socket_option_is_no_reason_to_fail() {
    needs!("strace");
    survives("r4_setsockopt", "setsockopt", &["ENOBUFS", "ENOMEM", "EPERM"], 0);
}

#[test]
fn r9_a_ring_without_room_or_memory_for_the_moment_loses_nothing() {
    needs!("strace");
    survives("r9_enter", "io_uring_enter", &["EBUSY", "EAGAIN"], 0);
}

#[test]
fn t20_interrupted_calls_are_made_again() {
    needs!("strace");
    for call in [
        "epoll_wait",
        "io_uring_enter",
        "splice",
        "recvfrom",
        "read",
        "sendto",
        "write",
        "writev",
        "accept4",
    ] {
        survives(&format!("t20 {call}"), call, &["EINTR"], 0);
    }
}
