//! Access records: one for each accepted connection, written by a thread of their own.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use serde::Serialize;

use super::wall::timestamp;
use crate::config::{LogFormat, Plan};
use crate::net::Peer;
use crate::session::End;
use crate::time::Moment;

/// What a worker knows of a connection when it is over.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The listener's place in the plan.
    pub listener: u16,
    /// The pool's place in the plan.
    pub pool: u16,
    /// The backend's place in its pool; `None` when none was chosen.
    pub backend: Option<u16>,
    /// The client.
    pub peer: Peer,
    /// When it was accepted.
    pub started: Moment,
    /// How long it lasted.
    pub duration: Duration,
    /// From accept to an established backend connection.
    pub connected: Option<Duration>,
    /// From accept to the backend's first byte.
    pub answered: Option<Duration>,
    /// Bytes from the client that the backend's kernel took.
    pub bytes_up: u64,
    /// Bytes from the backend that the client's kernel took.
    pub bytes_down: u64,
    /// Those of both that were spliced.
    pub spliced: u64,
    /// Attempts to connect.
    pub attempts: u8,
    /// One side went on after the other had finished.
    pub half_closed: bool,
    /// Why it ended.
    pub end: End,
}

/// Records of one worker, and what its clock said beside the wall's.
#[derive(Debug)]
pub struct Batch {
    /// The records.
    pub records: Vec<Record>,
    /// The worker's time.
    pub now: Moment,
    /// The wall's time at that moment.
    pub wall: SystemTime,
}

/// Writes batches until all their senders are gone.
pub fn write_all(
    batches: &Receiver<Batch>,
    empties: &Sender<Vec<Record>>,
    plan: &Arc<Plan>,
    mut out: impl Write,
) {
    let mut text = String::new();
    for mut batch in batches {
        for record in &batch.records {
            let age = batch.now - record.started;
            let start = batch.wall.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            match plan.log.format {
                LogFormat::Json => write_json(&mut text, plan, record, start),
                LogFormat::Text => write_text(&mut text, plan, record, start),
            }
        }
        // A full disk or a closed pipe costs records, never connections.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        text.clear();
        batch.records.clear();
        let _ = empties.try_send(batch.records);
    }
}

#[derive(Serialize)]
struct Json<'a> {
    ts: String,
    event: &'static str,
    listener: &'a str,
    pool: &'a str,
    backend: Option<&'a str>,
    src: String,
    attempts: u8,
    bytes_in: u64,
    bytes_out: u64,
    splice_bytes: u64,
    dur_ms: f64,
    t_connect_ms: Option<f64>,
    t_first_byte_ms: Option<f64>,
    half_close: bool,
    term: &'static str,
    slug: &'static str,
}

fn write_json(text: &mut String, plan: &Plan, record: &Record, start: SystemTime) {
    let line = Json {
        ts: timestamp(start),
        event: "access",
        listener: &plan.listeners[usize::from(record.listener)].name,
        pool: &plan.pools[usize::from(record.pool)].name,
        backend: backend(plan, record),
        src: record.peer.to_string(),
        attempts: record.attempts,
        bytes_in: record.bytes_up,
        bytes_out: record.bytes_down,
        splice_bytes: record.spliced,
        dur_ms: millis(record.duration),
        t_connect_ms: record.connected.map(millis),
        t_first_byte_ms: record.answered.map(millis),
        half_close: record.half_closed,
        term: record.end.code(),
        slug: record.end.slug(),
    };
    text.push_str(&serde_json::to_string(&line).expect("names and numbers are always JSON"));
    text.push('\n');
}

fn write_text(text: &mut String, plan: &Plan, record: &Record, start: SystemTime) {
    let span = |span: Option<Duration>| {
        span.map_or_else(|| "-".to_owned(), |span| format!("{:.3}ms", millis(span)))
    };
    let _ = writeln!(
        text,
        "{} access {} {} -> {}/{} {} {} in={} out={} spliced={} attempts={} connect={} \
         first_byte={} total={}",
        timestamp(start),
        plan.listeners[usize::from(record.listener)].name,
        record.peer,
        plan.pools[usize::from(record.pool)].name,
        backend(plan, record).unwrap_or("-"),
        record.end.code(),
        record.end.slug(),
        record.bytes_up,
        record.bytes_down,
        record.spliced,
        record.attempts,
        span(record.connected),
        span(record.answered),
        span(Some(record.duration)),
    );
}

fn backend<'a>(plan: &'a Plan, record: &Record) -> Option<&'a str> {
    let backends = &plan.pools[usize::from(record.pool)].backends;
    record.backend.map(|at| backends[usize::from(at)].name.as_str())
}

fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}
