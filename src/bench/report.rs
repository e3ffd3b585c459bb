//! What a run came to: as a table, and as JSON.
//!
//! Knows: the job and the tally. Does not know: where it is printed.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::tally::{Counts, Fault, Latency, Tally};
use super::{Ask, Direction, Job, Work};

/// A run, after the fact.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub job: Job,
    /// What was counted.
    pub tally: Tally,
    /// How long was measured: the duration, or less if somebody stopped it.
    pub measured: Duration,
    /// Whether somebody stopped it.
    pub interrupted: bool,
}

impl Report {
    /// Whether anything at all went as it should.
    pub fn has_success(&self) -> bool {
        self.tally.operations.ok > 0
    }

    /// Successful operations per second of measured time.
    pub fn per_second(&self) -> f64 {
        self.rate(self.tally.in_time)
    }

    fn rate(&self, count: u64) -> f64 {
        let seconds = self.measured.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    fn gib_per_second(&self, bytes: u64) -> f64 {
        self.rate(bytes) / (1u64 << 30) as f64
    }

    /// For programs. All modes have the same keys; what a mode has not is `null`.
    pub fn json(&self) -> Value {
        let Report { job, tally, .. } = self;
        let (size, path) = match job.work.ask() {
            Some(Ask::Echo { bytes }) => (Some(*bytes), None),
            Some(Ask::Http { path }) => (None, Some(path)),
            None => (None, None),
        };
        let direction = match job.work {
            Work::Stream { direction } => Some(word(direction)),
            _ => None,
        };
        let has_rate = matches!(job.work, Work::Connect { .. } | Work::Request { .. });
        let is_stream = direction.is_some();
        let mut operations = counts(&tally.operations);
        operations["per_second"] = json!(has_rate.then(|| self.per_second()));
        let (sent, received) = (tally.bytes_in_time.sent, tally.bytes_in_time.received);
        let extremes = tally.extremes.map(|(least, most)| {
            json!({"min": self.gib_per_second(least), "max": self.gib_per_second(most)})
        });
        json!({
            "mode": job.work.name(),
            "target": job.target.to_string(),
            "connections": job.connections,
            "threads": job.threads,
            "duration_s": job.duration.as_secs_f64(),
            "rate": job.rate,
            "timeout_s": job.timeout.as_secs_f64(),
            "size_bytes": size,
            "http_path": path,
            "direction": direction,
            "measured_s": self.measured.as_secs_f64(),
            "interrupted": self.interrupted,
            "operations": operations,
            "connects": counts(&tally.connects),
            "lost": counts(&tally.lost),
            "latency_us": {
                "connect": latency(&tally.connect),
                "service": latency(&tally.service),
                "response": latency(&tally.response),
            },
            "bytes": {
                "sent": tally.bytes.sent,
                "received": tally.bytes.received,
                "sent_gib_per_second": is_stream.then(|| self.gib_per_second(sent)),
                "received_gib_per_second": is_stream.then(|| self.gib_per_second(received)),
                "stream_gib_per_second": extremes,
            },
        })
    }

    /// What was asked for, in a line.
    fn title(&self) -> String {
        let Job { target, connections, threads, .. } = self.job;
        let what = match (&self.job.work, self.job.work.ask()) {
            (Work::Stream { direction }, _) => format!("stream {}", word(*direction)),
            (work, Some(Ask::Echo { bytes })) => format!("{} {} B echo", work.name(), bytes),
            (work, Some(Ask::Http { path })) => format!("{} GET {path}", work.name()),
            (work, None) => work.name().to_owned(),
        };
        let pace = match (self.job.rate, &self.job.work) {
            (Some(rate), Work::Idle { .. }) => format!(", opened at {rate}/s"),
            (Some(rate), _) => format!(", open loop at {rate}/s"),
            (None, Work::Connect { .. } | Work::Request { .. }) => ", closed loop".to_owned(),
            (None, Work::Stream { .. } | Work::Idle { .. }) => String::new(),
        };
        let cut = if self.interrupted { ", interrupted" } else { "" };
        let threads =
            if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        format!(
            "{what} on {target}: {} connections, {threads}{pace}, {:.2} s{cut}",
            grouped(u64::from(connections)),
            self.measured.as_secs_f64()
        )
    }

    fn latencies(&self) -> Vec<(&'static str, &Latency)> {
        let tally = &self.tally;
        let open_loop = self.job.rate.is_some();
        let whole = match self.job.work {
            Work::Connect { .. } => "whole connection",
            Work::Request { .. } if open_loop => "service (from sent)",
            Work::Request { .. } => "request",
            Work::Stream { .. } => "whole stream",
            Work::Idle { .. } => "round trip",
        };
        let response = match self.job.work {
            Work::Connect { .. } | Work::Request { .. } if open_loop => Some(&tally.response),
            _ => None,
        };
        let mut rows = vec![("connect", &tally.connect), (whole, &tally.service)];
        rows.extend(response.map(|latency| ("response (from due)", latency)));
        rows.retain(|(_, latency)| latency.count() > 0);
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        writeln!(f, "{}\n", self.title())?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, ok: u64, word: &str, failed: u64| {
            write!(f, "{name:<12} {:>14} {word:<9} {:>12} failed", grouped(ok), grouped(failed))
        };
        let (ok, failed) = (tally.operations.ok, tally.operations.failed());
        match self.job.work {
            Work::Connect { .. } => {
                row(f, "connections", ok, "ok", failed)?;
                writeln!(f, " {:>15.1} /s", self.per_second())?;
            }
            Work::Request { .. } => {
                row(f, "requests", ok, "ok", failed)?;
                writeln!(f, " {:>15.1} /s", self.per_second())?;
                let (ok, failed) = (tally.connects.ok, tally.connects.failed());
                row(f, "connections", ok, "opened", failed)?;
                writeln!(f, " {:>15} lost while idle", grouped(tally.lost.failed()))?;
            }
            Work::Stream { direction } => {
                row(f, "streams", ok, "ok", failed)?;
                writeln!(f)?;
                for (is_wanted, name, bytes) in [
                    (direction.sends(), "sent", tally.bytes_in_time.sent),
                    (direction.receives(), "received", tally.bytes_in_time.received),
                ] {
                    if is_wanted {
                        let (rate, bytes) = (self.gib_per_second(bytes), grouped(bytes));
                        writeln!(f, "{name:<12} {bytes:>14} bytes    {rate:>12.3} GiB/s")?;
                    }
                }
                if let Some((least, most)) = tally.extremes {
                    let (least, most) = (self.gib_per_second(least), self.gib_per_second(most));
                    writeln!(f, "per stream   {least:>14.3} to {most:.3} GiB/s")?;
                }
            }
            Work::Idle { .. } => {
                row(f, "connections", tally.connects.ok, "opened", tally.connects.failed())?;
                writeln!(f)?;
                row(f, "", ok, "survived", failed)?;
                writeln!(f)?;
            }
        }
        let latencies = self.latencies();
        if !latencies.is_empty() {
            write!(f, "\n{:<20}", "ms")?;
            QUANTILES.iter().try_for_each(|(name, _)| write!(f, " {name:>9}"))?;
            writeln!(f, " {:>9} {:>9}", "max", "mean")?;
        }
        for (name, latency) in latencies {
            write!(f, "{name:<20}")?;
            let ms = |span: Duration| format!(" {:>9.3}", span.as_secs_f64() * 1e3);
            QUANTILES.iter().try_for_each(|(_, q)| f.write_str(&ms(latency.quantile(*q))))?;
            writeln!(f, "{}{}", ms(latency.max()), ms(latency.mean()))?;
        }
        let operation = match self.job.work {
            Work::Connect { .. } | Work::Idle { .. } => "connections",
            Work::Request { .. } => "requests",
            Work::Stream { .. } => "streams",
        };
        failures(f, &format!("{operation} that failed"), &tally.operations)?;
        if matches!(self.job.work, Work::Request { .. }) {
            failures(f, "attempts to connect that failed", &tally.connects)?;
            failures(f, "connections lost while idle, and opened again", &tally.lost)?;
        }
        Ok(())
    }
}

fn failures(f: &mut fmt::Formatter<'_>, title: &str, counts: &Counts) -> fmt::Result {
    let mut title = Some(title);
    for fault in Fault::ALL {
        let count = counts.failed_by(fault);
        if count > 0 {
            if let Some(title) = title.take() {
                writeln!(f, "\n{title}")?;
            }
            writeln!(f, "{:>14}  {}: {}", grouped(count), fault.name(), fault.meaning())?;
        }
    }
    Ok(())
}

fn counts(counts: &Counts) -> Value {
    let failures: serde_json::Map<String, Value> = Fault::ALL
        .iter()
        .map(|fault| (fault.name().to_owned(), counts.failed_by(*fault).into()))
        .collect();
    json!({"ok": counts.ok, "failed": counts.failed(), "failures": failures})
}

fn latency(latency: &Latency) -> Value {
    if latency.count() == 0 {
        return Value::Null;
    }
    let us = |span: Duration| span.as_nanos() as f64 / 1e3;
    let mut value = json!({
        "count": latency.count(),
        "mean": us(latency.mean()),
        "max": us(latency.max()),
    });
    for (name, share) in QUANTILES {
        value[name.replace('.', "_")] = json!(us(latency.quantile(share)));
    }
    value
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
        Direction::Both => "both",
    }
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn report(work: Work, rate: Option<f64>) -> Report {
        let mut tally =
            Tally { in_time: 500, extremes: Some((1 << 30, 4 << 30)), ..Tally::default() };
        tally.operations.ok = 600;
        tally.operations.fail_many(Fault::Timeout, 1_234);
        tally.connects.fail(Fault::Refused);
        tally.bytes_in_time.received = 8 << 30;
        for ms in 1..=1_000 {
            tally.service.record(Duration::from_millis(1));
            tally.response.record(Duration::from_millis(ms));
        }
        let job = Job {
            target: SocketAddr::from(([127, 0, 0, 1], 80)),
            work,
            connections: 1_000,
            duration: Duration::from_secs(3),
            rate,
            timeout: Duration::from_secs(5),
            threads: 2,
        };
        Report { job, tally, measured: Duration::from_secs(2), interrupted: true }
    }

    fn has(report: &Report, parts: &[&str]) {
        let text = report.to_string();
        // By words: columns may move.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(words.contains(part), "{part} is missing:\n{text}");
        }
    }

    #[test]
    fn rates_are_of_what_was_in_time() {
        let report = report(Work::Request { ask: Ask::Echo { bytes: 64 } }, Some(300.0));
        has(
            &report,
            &[
                "request 64 B echo on 127.0.0.1:80: 1,000 connections, 2 threads, \
                 open loop at 300/s, 2.00 s, interrupted",
                "requests 600 ok 1,234 failed 250.0 /s",
                "service (from sent) 1.000 1.000 1.000 1.000 1.000 1.000",
                "requests that failed 1,234 timeout: no answer in time (--timeout)",
                "attempts to connect that failed 1 refused: nobody listens there",
            ],
        );
        let json = report.json();
        assert_eq!(json["operations"]["per_second"], 250.0);
        assert_eq!(json["operations"]["failures"]["timeout"], 1_234);
        let p99 = json["latency_us"]["response"]["p99"].as_f64().expect("a number");
        assert!((p99 - 990_000.0).abs() < 2_000.0, "{p99}");
        assert!(json["latency_us"]["connect"].is_null());
    }

    #[test]
    fn a_closed_loop_has_one_latency() {
        let text = report(Work::Connect { ask: None }, None).to_string();
        assert!(text.contains("closed loop") && !text.contains("response"), "{text}");
    }

    #[test]
    fn streams_are_reported_by_bytes() {
        let report = report(Work::Stream { direction: Direction::Down }, None);
        has(&report, &["received 8,589,934,592 bytes 4.000 GiB/s", "0.500 to 2.000 GiB/s"]);
        assert!(!report.to_string().contains("sent"));
        assert_eq!(report.json()["bytes"]["stream_gib_per_second"]["max"], 2.0);
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        let mut report = report(Work::Request { ask: Ask::Echo { bytes: 1 } }, None);
        report.measured = Duration::ZERO;
        assert_eq!(report.per_second(), 0.0);
        assert!(report.to_string().contains(" 0.0 /s"));
    }

    #[test]
    fn digits_come_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
