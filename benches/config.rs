//! What it takes to read a configuration, and its smallest parts.
//!
//! ```text
//! cargo bench --bench config -- --quick
//! ```

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use evenkeel::config::{Format, parse, parse_bind, parse_duration, parse_size, parse_target};

/// A file with so many backends, in every way they can be written.
fn yaml(backends: usize) -> String {
    let mut text = String::from(
        "timeouts: {connect: 2s, idle: 30m}\n\
         listeners:\n  - {name: main, bind: 0.0.0.0:8080, pool: main}\n\
         pools:\n  - name: main\n    algorithm: least_connections\n    backends:\n",
    );
    for at in 0..backends {
        let (high, low) = (at / 250, at % 250);
        let line = match at % 2 {
            0 => format!("      - 10.0.{high}.{low}:80"),
            _ => format!(
                "      - {{name: odd-{at}, address: 10.0.{high}.{low}:80, weight: {}}}",
                at % 5
            ),
        };
        writeln!(text, "{line}").expect("a String takes everything");
    }
    text
}

fn files(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("yaml");
    for backends in [10, 1_000] {
        let text = yaml(backends);
        let read = || parse(black_box(&text), "bench.yaml", Format::Yaml, &|_| None);
        let loaded = read().unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.plan.pools[0].backends.len(), backends);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("backends", backends), |bencher| bencher.iter(read));
    }
    group.finish();
}

fn scalars(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scalar");
    group.bench_function("duration", |bencher| bencher.iter(|| parse_duration(black_box("1h30m"))));
    group.bench_function("size", |bencher| bencher.iter(|| parse_size(black_box("1.5MiB"))));
    group.bench_function("bind", |bencher| bencher.iter(|| parse_bind(black_box("[::1]:8080"))));
    group.bench_function("target", |bencher| {
        bencher.iter(|| parse_target(black_box("backend-17.example.com:8080")));
    });
    group.finish();
}

criterion_group!(benches, files, scalars);
criterion_main!(benches);
