//! Where `log` messages go: text for people or JSON lines for machines.
//!
//! The only module that knows `env_logger`.

use std::fs::OpenOptions;
use std::io::{self, Write};

use env_logger::{Builder, Target, WriteStyle};
use log::{LevelFilter, Record};
use serde::Serialize;

use super::color::When;
use super::outlet::Outlet;
use super::wall;
use crate::config::{LogFormat, LogLevel, LogOutput, LogPlan};

/// Installs the logger of this process.
///
/// # Errors
/// When the log file cannot be opened (the message names it), or when there is a logger already.
pub fn start(plan: &LogPlan, color: When) -> io::Result<()> {
    let (outlet, colored) = match &plan.output {
        LogOutput::Stderr => (Outlet::new(io::stderr())?, color.applies_to(&io::stderr())),
        LogOutput::Stdout => (Outlet::new(io::stdout())?, color.applies_to(&io::stdout())),
        LogOutput::File(path) => {
            let file =
                OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
                    let message = format!("cannot open the log file {}: {error}", path.display());
                    io::Error::new(error.kind(), message)
                })?;
            (Outlet::new(file)?, color == When::Always)
        }
    };
    let target = Target::Pipe(Box::new(outlet));
    let mut builder = Builder::new();
    builder.filter_level(filter(plan.level)).target(target).write_style(if colored {
        WriteStyle::Always
    } else {
        WriteStyle::Never
    });
    match plan.format {
        LogFormat::Text => builder.format(|out, record| {
            let style = out.default_level_style(record.level());
            let time = wall::now();
            let (level, target) = (record.level(), record.target());
            writeln!(out, "{time} {style}{level:<5}{style:#} {target}: {}", record.args())
        }),
        LogFormat::Json => builder.format(|out, record| {
            let time = wall::now();
            writeln!(out, "{}", json(&time, record))
        }),
    };
    builder.try_init().map_err(io::Error::other)
}

/// One line of the JSON log.
#[derive(Serialize)]
struct Line<'a> {
    ts: &'a str,
    level: &'a str,
    target: &'a str,
    msg: &'a str,
}

fn json(time: &str, record: &Record<'_>) -> String {
    let line = Line {
        ts: time,
        level: &record.level().as_str().to_lowercase(),
        target: record.target(),
        msg: &record.args().to_string(),
    };
    serde_json::to_string(&line).expect("four strings are always JSON")
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_one_line_whatever_is_said() {
        let record = Record::builder()
            .level(log::Level::Warn)
            .target("evenkeel::worker")
            .args(format_args!("a \"quoted\"\nline"))
            .build();
        assert_eq!(
            json("2026-01-02T03:04:05.678Z", &record),
            r#"{"ts":"2026-01-02T03:04:05.678Z","level":"warn","target":"evenkeel::worker","msg":"a \"quoted\"\nline"}"#
        );
    }
}
