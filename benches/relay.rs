//! What a worker takes for a request and for a connection: by itself, and with the kernel's part.
//!
//! ```text
//! cargo bench --bench relay -- --quick
//! ```
//!
//! `worker` runs over a poller without a kernel, so it is the session, the choice, the timers and
//! the loop. `kernel` is the same worker over the real poller, with a client and a backend in this
//! very thread: their system calls and TCP are in the figure too.

mod support;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{real, still};

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    let mut relay = still::Relay::new();
    let line = relay.open();
    group.bench_function("worker", |bencher| {
        bencher.iter(|| relay.round_trip(black_box(line), 64, 100));
    });
    assert_eq!(relay.at_rest(), (0, 2), "everything was relayed, on the two sockets there are");
    let mut relay = real::Relay::new();
    let line = relay.open();
    let (request, answer) = (vec![1; 64], vec![2; 100]);
    group.bench_function("kernel", |bencher| {
        bencher.iter(|| relay.round_trip(&line, &request, &answer));
    });
    group.finish();
}

/// The same request on one of a thousand connections: tables are larger, and caches colder.
fn requests_among_many(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request among 1000");
    group.throughput(Throughput::Elements(1));
    let mut relay = still::Relay::new();
    let lines: Vec<still::Line> = (0..1_000).map(|_| relay.open()).collect();
    let mut turn = lines.iter().cycle();
    group.bench_function("worker", |bencher| {
        bencher.iter(|| relay.round_trip(*turn.next().expect("it goes round"), 64, 100));
    });
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connection");
    group.throughput(Throughput::Elements(1));
    let mut relay = still::Relay::new();
    group.bench_function("worker", |bencher| {
        bencher.iter(|| {
            let line = relay.open();
            relay.round_trip(line, 64, 100);
            relay.close(line);
        });
    });
    assert_eq!(relay.at_rest(), (0, 0), "every connection was closed");
    let mut relay = real::Relay::new();
    let (request, answer) = (vec![1; 64], vec![2; 100]);
    group.bench_function("kernel", |bencher| {
        bencher.iter(|| {
            let line = relay.open();
            relay.round_trip(&line, &request, &answer);
            relay.close(line);
        });
    });
    group.finish();
}

/// A mebibyte from the backend to the client, in pieces that fill a buffer.
fn bulk(criterion: &mut Criterion) {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 16;
    let mut group = criterion.benchmark_group("bulk");
    group.throughput(Throughput::Bytes((PIECE * PIECES) as u64));
    let mut relay = real::Relay::new();
    let line = relay.open();
    let piece = vec![3; PIECE];
    group.bench_function("kernel", |bencher| {
        bencher.iter(|| (0..PIECES).for_each(|_| relay.round_trip(&line, &[1], &piece)));
    });
    group.finish();
}

criterion_group!(benches, requests, requests_among_many, connections, bulk);
criterion_main!(benches);
