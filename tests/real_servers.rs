#![cfg(target_os = "linux")]
//! Programs people run, behind the balancer: nginx, redis, PostgreSQL and iperf3, driven by their
//! own clients. Whatever they do over a plain connection they must do through it, with the same
//! bytes, whether those are copied or spliced.
//!
//! `EVENKEEL_TEST_BULK_MIB` (default 1024) sizes the bulk transfers.

mod support;

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use support::digest::{of_file, of_stream, write_pattern};
use support::folder::Folder;
use support::process::run;
use support::proxy::{Proxy, Setup, Target};
use support::servers::{Iperf, Nginx, Postgres, Redis};
use support::tools::{number, path};

/// The two ways to move bytes; `auto` mixes them.
const LANES: [&str; 2] = ["always", "never"];
const LIMIT: Duration = Duration::from_secs(120);

fn before(ports: &[u16], lane: &str) -> Proxy {
    let targets: Vec<&dyn Target> = ports.iter().map(|port| port as &dyn Target).collect();
    Setup::to(&targets).set("zero_copy", lane).unlogged().start()
}

/// Runs wrk with `header`, and returns how many requests were answered without a single error.
fn wrk(proxy: &Proxy, what: &str, header: &str) -> u64 {
    let mut command = Command::new(path("wrk"));
    command.args(["-t", "1", "-c", "32", "-d", "2s", "--timeout", "5s", "-H", header]);
    let said = run("wrk", command.arg(format!("http://{}/", proxy.place())), LIMIT);
    assert!(!said.contains("Socket errors"), "{what}:\n{said}");
    assert!(!said.contains("Non-2xx"), "{what}:\n{said}");
    let answered = said.lines().find_map(|line| line.trim().split_once(" requests in "));
    let answered = answered.and_then(|(count, _)| count.parse().ok());
    answered.unwrap_or_else(|| panic!("{what}: wrk said\n{said}"))
}

#[test]
fn nginx_with_keep_alive_answers_without_errors() {
    needs!("nginx", "wrk");
    let nginx = Nginx::start(3);
    for lane in ["auto", "always", "never"] {
        let proxy = before(nginx.ports(), lane);
        let answered = wrk(&proxy, lane, "Connection: keep-alive");
        println!("wrk, keep-alive, zero_copy {lane}: {answered} requests");
        assert!(answered > 100, "zero_copy {lane}: {answered} requests");
    }
}

#[test]
fn nginx_with_a_connection_per_request_answers_without_errors() {
    needs!("nginx", "wrk");
    let nginx = Nginx::start(3);
    for lane in ["auto", "always", "never"] {
        let proxy = before(nginx.ports(), lane);
        let answered = wrk(&proxy, lane, "Connection: close");
        println!("wrk, connection: close, zero_copy {lane}: {answered} requests");
        assert!(answered > 100, "zero_copy {lane}: {answered} requests");
    }
}

#[test]
fn nginx_backends_take_turns() {
    needs!("nginx", "curl");
    let nginx = Nginx::start(3);
    let proxy = before(nginx.ports(), "auto");
    let mut named: Vec<String> = Vec::new();
    for _ in 0..6 {
        let mut curl = Command::new(path("curl"));
        curl.args(["-sS", &format!("http://{}/", proxy.place())]);
        named.push(run("curl", &mut curl, LIMIT));
    }
    for port in nginx.ports() {
        let count = named.iter().filter(|name| name.contains(&port.to_string())).count();
        assert_eq!(count, 2, "six requests to three backends: {named:?}");
    }
}

#[test]
fn nginx_speaks_http2_through_it() {
    needs!("nginx", "h2load");
    let nginx = Nginx::start(3);
    for lane in LANES {
        let proxy = before(nginx.h2_ports(), lane);
        let mut h2load = Command::new(path("h2load"));
        h2load.args(["-n", "20000", "-c", "16", "-m", "16", "-t", "1"]);
        let said = run("h2load", h2load.arg(format!("http://{}/", proxy.place())), LIMIT);
        let verdict = said.lines().find(|line| line.starts_with("requests:")).unwrap_or_default();
        let fine = "20000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(verdict.contains(fine), "zero_copy {lane}:\n{said}");
    }
}

#[test]
fn curl_gets_and_puts_a_gibibyte_whole() {
    needs!("nginx", "curl");
    let nginx = Nginx::start(3);
    let size = number("EVENKEEL_TEST_BULK_MIB", 1_024) << 20;
    let file = File::create(nginx.file("bulk")).expect("the folder is ours");
    let digest = write_pattern(1, size, file).expect("the disk has room");
    for lane in LANES {
        let proxy = before(nginx.ports(), lane);
        let url = |name: &str| format!("http://{}/files/{name}", proxy.place());
        let mut curl = Command::new(path("curl"));
        curl.args(["-sS", "--fail", &url("bulk")]).stdout(Stdio::piped());
        let mut curl = curl.spawn().expect("curl starts");
        let down = of_stream(curl.stdout.take().expect("stdout is piped")).expect("a pipe reads");
        assert!(curl.wait().expect("curl is ours").success(), "zero_copy {lane}");
        assert_eq!(down, (digest.clone(), size), "down, zero_copy {lane}");

        let mut curl = Command::new(path("curl"));
        curl.args(["-sS", "--fail", "-H", "Expect:", "-T"]).arg(nginx.file("bulk"));
        run("curl", curl.arg(url("upload")), LIMIT);
        let up = of_file(&nginx.file("upload")).expect("nginx stored it");
        assert_eq!(up, (digest.clone(), size), "up, zero_copy {lane}");
        std::fs::remove_file(nginx.file("upload")).expect("the folder is ours");
    }
}

#[test]
fn iperf3_moves_bulk_down_and_both_ways() {
    needs!("iperf3");
    let server = Iperf::start();
    for lane in LANES {
        for mode in [["-R"].as_slice(), &["--bidir", "-P", "8"], &["-P", "8"]] {
            // One backend: iperf3's control and data connections must meet at the same server.
            let proxy = before(&[server.port], lane);
            let mut iperf = Command::new(path("iperf3"));
            iperf.args(["-c", "127.0.0.1", "-p", &proxy.port().to_string(), "-t", "2", "-J"]);
            let said = run("iperf3", iperf.args(mode), LIMIT);
            let report: Value = serde_json::from_str(&said).expect("iperf3 -J writes JSON");
            assert!(report["error"].is_null(), "{mode:?}, zero_copy {lane}: {}", report["error"]);
            let bytes = |key: &str| report["end"][key]["bytes"].as_u64();
            for key in ["sum_received", "sum_received_bidir_reverse"] {
                let Some(bytes) = bytes(key) else { continue };
                println!("iperf3 {mode:?}, zero_copy {lane}, {key}: {} MiB", bytes >> 20);
                assert!(bytes > 1 << 20, "{mode:?}, zero_copy {lane}: {key} {bytes} bytes");
            }
        }
    }
}

#[test]
fn redis_benchmark_pipelines_through_it() {
    needs!("redis-server", "redis-benchmark");
    let redis = Redis::start();
    for lane in LANES {
        let proxy = before(&[redis.port], lane);
        for (size, commands) in [("64", "set,get,lpush,lrange_100"), ("20000", "set,get,lpush")] {
            let mut benchmark = Command::new(path("redis-benchmark"));
            benchmark.args(["-p", &proxy.port().to_string(), "-P", "16", "-c", "20", "-d", size]);
            benchmark.args(["-n", "20000", "-t", commands, "--csv"]);
            let said = run("redis-benchmark", &mut benchmark, LIMIT);
            assert!(!said.contains("rror"), "zero_copy {lane}:\n{said}");
            let tests = ["\"SET\"", "\"GET\"", "\"LPUSH\""];
            assert!(tests.iter().all(|test| said.contains(test)), "zero_copy {lane}:\n{said}");
        }
    }
}

#[test]
fn pgbench_runs_without_a_failed_transaction() {
    needs!("initdb", "postgres", "pgbench");
    let postgres = Postgres::start();
    for lane in LANES {
        let proxy = before(&[postgres.port], lane);
        let pgbench = |arguments: &[&str]| {
            let mut command = Postgres::client("pgbench", proxy.port());
            run("pgbench", command.args(arguments).arg("postgres"), LIMIT)
        };
        pgbench(&["-i", "-s", "1", "-q"]);
        let said = pgbench(&["-c", "8", "-j", "1", "-T", "2"]);
        assert!(said.contains("number of failed transactions: 0 "), "zero_copy {lane}:\n{said}");
        // A connection for each transaction: start-up packets, authentication, goodbye.
        let said = pgbench(&["-c", "4", "-j", "1", "-t", "25", "-C", "-S"]);
        assert!(said.contains("actually processed: 100/100"), "zero_copy {lane}:\n{said}");
    }
}

#[test]
fn postgres_copies_a_hundred_mebibytes_in_and_out() {
    needs!("initdb", "postgres", "psql");
    let postgres = Postgres::start();
    let folder = Folder::new();
    let rows = folder.file("rows");
    write_rows(&rows, number("EVENKEEL_TEST_BULK_MIB", 1_024).min(100) << 20);
    let written = of_file(&rows).expect("it was written");
    for lane in LANES {
        let proxy = before(&[postgres.port], lane);
        let psql = |sql: &str| {
            let mut command = Postgres::client("psql", proxy.port());
            command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", sql]);
            command
        };
        run(
            "psql",
            &mut psql("DROP TABLE IF EXISTS t; CREATE UNLOGGED TABLE t (line text)"),
            LIMIT,
        );
        let source = File::open(&rows).expect("it was written");
        let status = psql("COPY t FROM STDIN").stdin(source).status().expect("psql starts");
        assert!(status.success(), "in, zero_copy {lane}");
        let mut out = psql("COPY t TO STDOUT").stdout(Stdio::piped()).spawn().expect("psql starts");
        let read = of_stream(out.stdout.take().expect("stdout is piped")).expect("a pipe reads");
        assert!(out.wait().expect("psql is ours").success(), "out, zero_copy {lane}");
        assert_eq!(read, written, "zero_copy {lane}");
    }
}

/// Lines of hexadecimal digits, about `size` bytes of them.
fn write_rows(path: &std::path::Path, size: u64) {
    use std::io::Write;
    let mut file = std::io::BufWriter::new(File::create(path).expect("the folder is ours"));
    let mut pattern = support::digest::Pattern::new(100);
    let mut line = [0_u8; 512];
    for _ in 0..size / 513 {
        pattern.fill(&mut line);
        for byte in &mut line {
            *byte = b"0123456789abcdef"[usize::from(*byte & 15)];
        }
        file.write_all(&line).and_then(|()| file.write_all(b"\n")).expect("the disk has room");
    }
    file.flush().expect("the disk has room");
}
