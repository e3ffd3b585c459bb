//! `evenkeel bench`: load on a target, its progress on a terminal, and a report.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, tick};
use nix::sys::signal::{SigSet, Signal};

use super::{Failure, print};
use crate::bench::{self, Ask, Direction, Job, Progress, Run, Stage, Work};
use crate::cli::{Bench, Global, Load};
use crate::machine;
use crate::observe::color::{Paint, When};

/// Puts load on a target until the time is over or SIGINT or SIGTERM comes, and reports.
///
/// # Errors
/// When options contradict each other or ask for more than this machine has, and when nothing
/// succeeded.
pub fn bench(args: &Bench, global: Global) -> Result<(), Failure> {
    let job = job(args)?;
    let open_files = machine::raise_open_files().map_err(|error| {
        Failure::running(format!("cannot read the limit on open files: {error}"))
    })?;
    fits(&job, open_files)?;
    // Before there are threads: they inherit the mask, so the signals wait for the one that hears.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals
        .thread_block()
        .map_err(|error| Failure::running(format!("cannot block signals: {error}")))?;
    let cannot = |error: io::Error| Failure::running(format!("cannot make load: {error}"));
    let stop = hear(signals).map_err(cannot)?;
    let what = operations(&job.work);
    let run = Run::start(job).map_err(cannot)?;
    watch(&run, &stop, global.color.unwrap_or_default());
    let report = run.report().map_err(cannot)?;
    let text = if args.json { format!("{:#}\n", report.json()) } else { report.to_string() };
    print(text)?;
    if report.has_success() {
        return Ok(());
    }
    let cut = if report.interrupted { "interrupted before any" } else { "not one of the" };
    Err(Failure::running(format!("{}: {cut} {what} succeeded", report.job.target)))
}

/// What the options come to.
fn job(args: &Bench) -> Result<Job, Failure> {
    let mode = args.mode.unwrap_or(Load::Request);
    let ask = match (args.size, &args.http) {
        (Some(0), _) => {
            return Err(Failure::usage("--size 0: there is no echo of nothing, give at least 1"));
        }
        (Some(bytes), _) => Some(Ask::Echo { bytes }),
        (None, Some(path)) => Some(Ask::Http { path: path.clone() }),
        (None, None) => None,
    };
    if mode != Load::Stream
        && let Some(direction) = args.direction
    {
        let way = format!("{direction:?}").to_lowercase();
        return Err(Failure::usage(format!(
            "--direction {way}: only a stream has one, give --mode stream or leave it out"
        )));
    }
    let work = match mode {
        Load::Connect => Work::Connect { ask },
        Load::Request => Work::Request { ask: ask.unwrap_or(Ask::Echo { bytes: ECHO_SIZE }) },
        Load::Stream => {
            let excess = match (&ask, args.rate) {
                (Some(Ask::Echo { bytes }), _) => {
                    Some(format!("--size {bytes}: a stream has no size"))
                }
                (Some(Ask::Http { path }), _) => {
                    Some(format!("--http {path}: a stream asks nothing"))
                }
                (None, Some(rate)) => {
                    Some(format!("--rate {rate}: a stream goes as fast as it can"))
                }
                (None, None) => None,
            };
            if let Some(excess) = excess {
                return Err(Failure::usage(format!(
                    "{excess}, leave it out or give another --mode"
                )));
            }
            Work::Stream { direction: args.direction.unwrap_or(Direction::Down) }
        }
        Load::Idle => Work::Idle { ask },
    };
    let connections = args.connections.unwrap_or(CONNECTIONS);
    let threads = args.threads.unwrap_or(1);
    if threads > connections {
        return Err(Failure::usage(format!(
            "--threads {threads}: more than --connections {connections}, give each a connection at least"
        )));
    }
    let duration = args.duration.unwrap_or(DURATION);
    let timeout = args.timeout.unwrap_or(TIMEOUT);
    Ok(Job { target: args.target, work, connections, duration, rate: args.rate, timeout, threads })
}

/// Are there descriptors for all connections?
fn fits(job: &Job, open_files: u64) -> Result<(), Failure> {
    let needed = bench::descriptors(job.connections, job.threads);
    if needed <= open_files {
        return Ok(());
    }
    let possible = bench::connections_possible(open_files, job.threads);
    Err(Failure::usage(format!(
        "--connections {}: {possible} are possible with {open_files} file descriptors\n  \
         give fewer, or raise the limit first: ulimit -n {needed}",
        job.connections
    )))
}

/// A channel that says when somebody wants it to end.
fn hear(signals: SigSet) -> io::Result<Receiver<()>> {
    let (sender, heard): (Sender<()>, _) = bounded(1);
    thread::Builder::new().name("signals".into()).spawn(move || {
        while signals.wait().is_ok() {
            if sender.send(()).is_err() {
                return;
            }
        }
    })?;
    Ok(heard)
}

/// Waits for the end of the run, and passes a wish for it on. Shows how far it is, on a terminal.
fn watch(run: &Run, stop: &Receiver<()>, color: When) {
    let mut terminal = io::stderr();
    let shows = terminal.is_terminal();
    let paint = Paint::new(color.applies_to(&terminal));
    let ticks = if shows { tick(PROGRESS) } else { crossbeam_channel::never() };
    let mut shown = Line::default();
    loop {
        select! {
            recv(run.over()) -> _ => break,
            recv(stop) -> _ => run.stop(),
            recv(ticks) -> _ => shown.show(&mut terminal, paint, &describe(run)),
        }
    }
    shown.clear(&mut terminal);
}

/// A line of a terminal that is written again and again.
#[derive(Default)]
struct Line {
    columns: usize,
}

impl Line {
    fn show(&mut self, terminal: &mut impl Write, paint: Paint, text: &str) {
        let columns = text.chars().count();
        // What the last text had more is blanked.
        let rest = self.columns.saturating_sub(columns);
        self.columns = columns;
        // Where stderr is closed nobody looks.
        let _ = write!(terminal, "\r{}{:rest$}", paint.dim(text), "");
        let _ = terminal.flush();
    }

    fn clear(&mut self, terminal: &mut impl Write) {
        if self.columns > 0 {
            let _ = write!(terminal, "\r{:1$}\r", "", self.columns);
            let _ = terminal.flush();
        }
    }
}

fn describe(run: &Run) -> String {
    let Progress { stage, elapsed, done, failed, bytes } = run.progress();
    let job = run.job();
    let failed: &dyn fmt::Display = match failed {
        0 => &"",
        failed => &format!(", {failed} failed"),
    };
    if stage == Stage::Opening {
        return format!("opening {} connections{failed}", job.connections);
    }
    let (elapsed, duration) = (elapsed.min(job.duration).as_secs(), job.duration.as_secs_f64());
    let end = if stage == Stage::Draining { ", waiting for the last" } else { "" };
    let what = match job.work {
        Work::Stream { .. } => format!("{} MiB, {done} streams", bytes >> 20),
        Work::Idle { .. } => format!("{done} connections held"),
        Work::Connect { .. } | Work::Request { .. } => format!("{done} {}", operations(&job.work)),
    };
    format!("{elapsed} of {duration} s: {what}{failed}{end}")
}

fn operations(work: &Work) -> &'static str {
    match work {
        Work::Connect { .. } | Work::Idle { .. } => "connections",
        Work::Request { .. } => "requests",
        Work::Stream { .. } => "streams",
    }
}

/// Bytes of an echo.
const ECHO_SIZE: u64 = 64;
const CONNECTIONS: u32 = 16;
const DURATION: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at the progress.
const PROGRESS: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_line_covers_a_longer_one() {
        let (mut out, mut line) = (Vec::new(), Line::default());
        line.show(&mut out, Paint::new(false), "12345");
        line.show(&mut out, Paint::new(false), "123");
        line.clear(&mut out);
        assert_eq!(String::from_utf8(out).expect("ASCII"), "\r12345\r123  \r   \r");
    }

    #[test]
    fn what_fits_fits_exactly() {
        let job = |connections| Job {
            target: ([127, 0, 0, 1], 80).into(),
            work: Work::Idle { ask: None },
            connections,
            duration: DURATION,
            rate: None,
            timeout: TIMEOUT,
            threads: 3,
        };
        let possible = u32::try_from(bench::connections_possible(1_000, 3)).expect("few");
        assert!(fits(&job(possible), 1_000).is_ok());
        assert!(fits(&job(possible + 1), 1_000).is_err());
    }
}
