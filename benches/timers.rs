//! The timer wheel with as many owners as a large worker has sessions.
//!
//! ```text
//! cargo bench --bench timers -- --quick
//! ```

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use evenkeel::time::Moment;
use evenkeel::worker::timers::Timers;

const OWNERS: u32 = 100_000;

/// Deadlines as sessions have them: from a second to an hour, in no order.
fn deadline(owner: u32) -> Moment {
    let spread = u64::from(owner).wrapping_mul(2_654_435_761) % 3_600_000;
    Moment::ZERO + Duration::from_millis(1_000 + spread)
}

fn full() -> Timers {
    let mut timers = Timers::default();
    (0..OWNERS).for_each(|owner| timers.set(owner, deadline(owner)));
    timers
}

fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("100000 timers");
    group.throughput(Throughput::Elements(u64::from(OWNERS)));
    group.sample_size(20);
    group.bench_function("set", |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut timers = full();
                (0..OWNERS).for_each(|owner| timers.clear(owner));
                timers
            },
            |timers| (0..OWNERS).for_each(|owner| timers.set(owner, deadline(owner))),
            BatchSize::LargeInput,
        );
    });
    // What every byte of a busy connection does: it puts its deadline off.
    group.bench_function("put off", |bencher| {
        bencher.iter_batched_ref(
            full,
            |timers| {
                let later = Duration::from_secs(5);
                (0..OWNERS).for_each(|owner| timers.set(owner, deadline(owner) + later));
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("clear", |bencher| {
        bencher.iter_batched_ref(
            full,
            |timers| (0..OWNERS).for_each(|owner| timers.clear(owner)),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("expire", |bencher| {
        bencher.iter_batched_ref(
            full,
            |timers| {
                let (mut now, mut fired) = (Moment::ZERO, 0);
                while fired < OWNERS {
                    now = timers.next().max(now);
                    while timers.expire(now).is_some() {
                        fired += 1;
                    }
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
    let timers = full();
    criterion.bench_function("next of 100000 timers", |bencher| bencher.iter(|| timers.next()));
}

criterion_group!(benches, timers);
criterion_main!(benches);
