//! Ends by the clock: each limit fires in time, not before, and under its own code.

use std::time::Duration;

use crate::support::clock::now;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, End, FAMILIES, Family, Listener};
use crate::support::proxy::{Setup, term};

/// Runs `wait` and checks that it took between 90 % of `limit` and three seconds more.
fn takes<T>(what: &str, limit: Duration, wait: impl FnOnce() -> T) -> T {
    let start = now();
    let result = wait();
    let elapsed = start.elapsed();
    assert!(elapsed >= limit.mul_f64(0.9), "{what}: ended early, after {elapsed:?}");
    assert!(elapsed < limit + Duration::from_secs(3), "{what}: ended late, after {elapsed:?}");
    result
}

#[test]
fn t15_half_close_with_a_silent_other_side_ends_by_its_limit() {
    for family in FAMILIES {
        let folder = Folder::new();
        let listener = Listener::new(family, &folder);
        let proxy =
            Setup::to(&[&listener]).on(family).set("timeouts", "{half_close: 400ms}").start();
        let client = proxy.client();
        let backend = listener.accept();
        client.finish();
        let what = format!("half_close over {family:?}");
        let end = takes(&what, Duration::from_millis(400), || client.end());
        assert_ne!(end, End::Silent, "{what}");
        assert_eq!(backend.end(), End::Finished, "{what}");
        let record = proxy.records_of(1).remove(0);
        assert!(["sD", "cD"].contains(&term(&record).as_str()), "{what}: {record}");
    }
}

#[test]
fn t15_half_close_with_a_busy_other_side_goes_on() {
    let folder = Folder::new();
    let listener = Listener::new(Family::V4, &folder);
    let proxy = Setup::to(&[&listener]).set("timeouts", "{half_close: 500ms}").start();
    let client = proxy.client();
    let backend = listener.accept();
    client.finish();
    for _ in 0..8 {
        // A byte every 200 ms for 1.6 s: never silent for half a second.
        assert!(client.is_silent_for(Duration::from_millis(200)));
        backend.send(b".");
        assert_eq!(client.receive(1), b".");
    }
    drop(backend);
    assert_eq!(client.end(), End::Finished);
    assert_eq!(proxy.term(), "--");
}

#[test]
fn an_idle_connection_ends_by_its_limit() {
    for family in FAMILIES {
        let folder = Folder::new();
        let backend = Backend::echo(family, &folder);
        let proxy = Setup::to(&[&backend]).on(family).set("timeouts", "{idle: 400ms}").start();
        let client = proxy.client();
        client.round_trip(b"the last word");
        let what = format!("idle over {family:?}");
        let end = takes(&what, Duration::from_millis(400), || client.end());
        assert_ne!(end, End::Silent, "{what}");
        let record = proxy.records_of(1).remove(0);
        assert!(["sD", "cD"].contains(&term(&record).as_str()), "{what}: {record}");
    }
}

#[test]
fn a_byte_in_either_direction_is_not_idle() {
    let folder = Folder::new();
    let listener = Listener::new(Family::V4, &folder);
    let proxy = Setup::to(&[&listener]).set("timeouts", "{idle: 500ms}").start();
    let client = proxy.client();
    let backend = listener.accept();
    for _ in 0..4 {
        assert!(client.is_silent_for(Duration::from_millis(300)));
        backend.send(b"b");
        assert_eq!(client.receive(1), b"b");
        assert!(backend.is_silent_for(Duration::from_millis(300)));
        client.send(b"c");
        assert_eq!(backend.receive(1), b"c");
    }
    client.finish();
    drop(backend);
    assert_eq!(client.end(), End::Finished);
    assert_eq!(proxy.term(), "--");
}

#[test]
fn a_connection_ends_at_the_end_of_its_lifetime() {
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let proxy = Setup::to(&[&backend])
        .set("timeouts", "{max_lifetime: 600ms, lifetime_jitter: 10%}")
        .start();
    let client = proxy.client();
    client.round_trip(b"born");
    let end = takes("max_lifetime", Duration::from_millis(540), || client.end());
    assert_ne!(end, End::Silent);
    assert_eq!(proxy.term(), "LD");
}
