#![cfg(target_os = "linux")]
//! One of three backends is killed under about a thousand connections per second. What a retry can
//! hide must stay hidden: a client may fail only where its bytes had already reached the dead one.
//!
//! `EVENKEEL_TEST_SECONDS` (default 4) sets how long the load lasts.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::tick;
use nix::sys::signal::Signal;
use serde_json::Value;

use support::clock::{now, until};
use support::peers::{End, Peer};
use support::proxy::{Proxy, Setup, term};
use support::servers::Nginx;
use support::tools::number;

const THREADS: u32 = 8;
const RATE: u32 = 1_000;

#[test]
fn a2_7_killing_a_backend_costs_no_client_that_a_retry_could_save() {
    needs!("nginx");
    let mut servers = [(); 3].map(|()| Nginx::start(1));
    let ports = [0, 1, 2].map(|index| servers[index].ports()[0]);
    let [a, b, c] = &ports;
    let proxy = Setup::to(&[a, b, c]).start();
    let seconds = number("EVENKEEL_TEST_SECONDS", 4);
    let stop = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let (proxy, stop) = (&proxy, &stop);
        let clients: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| visit(proxy, stop))).collect();
        let start = now();
        let half = Duration::from_secs(seconds) / 2;
        until("the middle", half * 2, || (start.elapsed() > half).then_some(()));
        servers[1].process().signal(Signal::SIGKILL);
        until("the end", half * 4, || (start.elapsed() > half * 2).then_some(()));
        stop.store(true, Ordering::SeqCst);
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        for client in clients {
            for (outcome, count) in client.join().expect("the client is well") {
                *outcomes.entry(outcome).or_default() += count;
            }
        }
        outcomes
    });
    let total: usize = outcomes.values().sum();
    let answered = outcomes.get(ANSWERED).copied().unwrap_or_default();
    let records = proxy.records_of(total);
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    records.iter().for_each(|record| *codes.entry(term(record)).or_default() += 1);
    let retried = records.iter().filter(|record| attempts(record) > 1).count();
    println!("{total} connections in {seconds} s, {} failed: {outcomes:?}", total - answered);
    println!("codes: {codes:?}; {retried} were saved by a second attempt");
    let avoidable: Vec<&Value> = records.iter().filter(|record| could_be_hidden(record)).collect();
    assert!(avoidable.is_empty(), "{} avoidable failures: {avoidable:#?}", avoidable.len());
    assert!(total as u64 > 100 * seconds, "the load never came about: {total} connections");
    assert!(retried > 0, "nobody met the dead backend, so nothing was tested");
    let late = &records[records.len() - 50..];
    assert!(late.iter().all(|record| term(record) == "--"), "the end of the run is clean");
    // Clients fail only as records say: a connection that broke after its bytes were taken.
    let broken = codes.get("SD").copied().unwrap_or_default();
    assert!(total - answered <= broken, "{outcomes:?} against {codes:?}");
}

/// One connection with one request after the other, at this thread's share of the rate.
fn visit(proxy: &Proxy, stop: &AtomicBool) -> BTreeMap<String, usize> {
    let ticks = tick(Duration::from_secs(1) * THREADS / RATE);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    while !stop.load(Ordering::SeqCst) {
        let _ = ticks.recv();
        *outcomes.entry(request(proxy)).or_default() += 1;
    }
    outcomes
}

fn request(proxy: &Proxy) -> String {
    let client = match Peer::try_connect(proxy.place()) {
        Ok(client) => client,
        Err(error) => return format!("connecting: {error}"),
    };
    if let Err(error) = client.try_send(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n") {
        return format!("sending: {error}");
    }
    let (received, end) = client.receive_all();
    let whole = received.starts_with(b"HTTP/1.1 200") && received.ends_with(b"\n");
    match end {
        End::Finished if whole => ANSWERED.into(),
        end => format!("{end:?} after {} bytes", received.len()),
    }
}

fn attempts(record: &Value) -> u64 {
    record["attempts"].as_u64().unwrap_or_default()
}

/// Did this connection fail although no byte of it had reached a backend?
fn could_be_hidden(record: &Value) -> bool {
    let bytes = |field: &str| record[field].as_u64().unwrap_or_default();
    match term(record).as_str() {
        "SC" | "sC" | "sQ" | "PX" | "RC" => true,
        "SD" => bytes("bytes_in") == 0 && bytes("bytes_out") == 0,
        _ => false,
    }
}

const ANSWERED: &str = "answered";
