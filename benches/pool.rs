//! The choice of a backend, and what has to be built before there is one.
//!
//! ```text
//! cargo bench --bench pool -- --quick
//! ```

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use evenkeel::config::{Algorithm, Plan};
use evenkeel::pool::balance::{LeastConnections, Load, Rotation};
use evenkeel::pool::{Ask, Board, Pool, Tally, Tried};
use evenkeel::time::Moment;

/// A client that nothing is known of.
const ASK: Ask = Ask { client: None, now: Moment::ZERO, dice: 7 };

/// Few, many, and as many as anybody has.
const SIZES: [usize; 3] = [3, 100, 1_000];

fn balancers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choose");
    for size in SIZES {
        for (name, weight) in [("equal", 1), ("by weight", 3)] {
            let weights = (0..size).map(|at| if at == 0 { weight } else { 1 });
            let mut rotation = Rotation::new(weights, 0, 1);
            group.bench_function(BenchmarkId::new(format!("rotation {name}"), size), |bencher| {
                bencher.iter(|| rotation.next(|at| black_box(at) < size));
            });
        }
        let tallies: Vec<Arc<Tally>> = (0..size).map(|_| Arc::default()).collect();
        let load = |at: usize| Load { live: tallies[at].live(), weight: 1 };
        let weights = (0..size).map(|_| 1);
        let mut least = LeastConnections::new(weights, 0);
        let mut dice = 1u32;
        group.bench_function(BenchmarkId::new("least connections", size), |bencher| {
            bencher.iter(|| {
                dice = dice.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                let at = least.next(|at| black_box(at) < size, load, dice);
                // As a worker does: one comes, and by now another one has gone.
                let tally = &tallies[at.expect("all may be chosen")];
                tally.enter();
                tally.leave();
            });
        });
    }
    group.finish();
}

/// A plan with so many backends.
fn plan(size: usize, algorithm: Algorithm) -> Plan {
    let backend = |at: usize| format!("10.{}.{}.1:80", at / 250, at % 250);
    let backends: Vec<String> = (0..size).map(backend).collect();
    let listen = ["127.0.0.1:1".to_owned()];
    let mut plan = Plan::one_line(&listen, &backends, None).expect("these are addresses").plan;
    plan.pools[0].algorithm = algorithm;
    plan
}

fn rosters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build");
    for size in SIZES {
        for (name, algorithm) in [
            ("rotation", Algorithm::RoundRobin),
            ("least connections", Algorithm::LeastConnections),
        ] {
            let plan = plan(size, algorithm);
            let board = Board::new(&plan);
            let nowhere = vec![None; size];
            group.bench_function(BenchmarkId::new(format!("pool with {name}"), size), |bencher| {
                bencher.iter(|| {
                    let mut pool = Pool::new(&plan.pools[0], board.pool(0), &nowhere, None, 1, 2);
                    pool.choose(&Tried::default(), ASK).expect("all may be chosen")
                });
            });
        }
        let plan = plan(size, Algorithm::RoundRobin);
        group.bench_function(BenchmarkId::new("board", size), |bencher| {
            bencher.iter(|| Board::new(black_box(&plan)));
        });
    }
    group.finish();
}

criterion_group!(benches, balancers, rosters);
criterion_main!(benches);
