#![cfg(target_os = "linux")]
//! What a relayed byte costs in allocations: nothing; and a connection: nothing either, once a
//! worker has had as many at once before.

#[path = "../benches/support/mod.rs"]
mod support;

use allocation_counter::measure;
use support::real;

/// What is made once (buffers, tables, timers) is made by the first connections.
fn warm() -> real::Relay {
    let mut relay = real::Relay::new();
    let lines: Vec<real::Line> = (0..LINES).map(|_| relay.open()).collect();
    for line in &lines {
        relay.round_trip(line, &[1; 100], &[2; 9_000]);
    }
    lines.into_iter().for_each(|line| relay.close(line));
    relay
}

#[test]
fn a_relayed_request_allocates_nothing() {
    let mut relay = warm();
    let line = relay.open();
    for (request, answer) in [(64, 100), (100, 9_000), (16_384, 16_384), (1, 60_000)] {
        let (request, answer) = (vec![1; request], vec![2; answer]);
        // The lane may change by what it sees, and then a pipe is made.
        (0..100).for_each(|_| relay.round_trip(&line, &request, &answer));
        let count = measure(|| {
            (0..1_000).for_each(|_| relay.round_trip(&line, &request, &answer));
        });
        assert_eq!(count.count_total, 0, "{} and {} bytes", request.len(), answer.len());
    }
}

#[test]
fn a_relayed_connection_allocates_nothing() {
    let mut relay = warm();
    let count = measure(|| {
        for _ in 0..1_000 {
            let line = relay.open();
            relay.round_trip(&line, &[1; 100], &[2; 100]);
            relay.close(line);
        }
    });
    assert_eq!(count.count_total, 0, "for a thousand connections");
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![0u8; 10]))).count_total, 1);
}

/// Connections at once.
const LINES: usize = 64;
