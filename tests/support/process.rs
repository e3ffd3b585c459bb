//! A program of the test: its output line by line, its signals, its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::tick;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::clock::{now, until};

/// A running program. It dies with this value; if the test panicked, its last words are shown.
pub struct Process {
    child: Child,
    name: String,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    last_signal: Signal,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Process {
    /// Starts `command` with both of its outputs collected.
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![collect(stdout, output.clone()), collect(stderr, output.clone())];
        Process { child, name: name.into(), output, readers, last_signal: Signal::SIGKILL }
    }

    /// The signal that ends it when the test is over; SIGKILL unless it has children of its own.
    pub fn end_with(mut self, signal: Signal) -> Process {
        self.last_signal = signal;
        self
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // A child that ended but was not waited for keeps its id, so this never hits a stranger.
        signal::kill(self.nix_pid(), signal).expect("the child is ours and not yet waited for");
    }

    /// Has it ended?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let status = until(&what, limit, || self.child.try_wait().expect("the child is ours"));
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status
    }

    /// Everything it has said so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines.lock().expect("no reader panics").clone()
    }

    /// Waits until `enough` can make something of what it said.
    pub fn said<T>(
        &self,
        what: &str,
        limit: Duration,
        mut enough: impl FnMut(&[String]) -> Option<T>,
    ) -> T {
        let start = now();
        let mut lines = self.output.lines.lock().expect("no reader panics");
        loop {
            if let Some(found) = enough(&lines) {
                return found;
            }
            let left = limit.saturating_sub(start.elapsed());
            assert!(
                !left.is_zero(),
                "{} did not say within {limit:?}: {what}; its last words:\n{}",
                self.name,
                tail(&lines)
            );
            lines = self.output.grown.wait_timeout(lines, left).expect("no reader panics").0;
        }
    }

    /// Waits for one line.
    pub fn line(&self, what: &str, limit: Duration, matches: impl Fn(&str) -> bool) -> String {
        self.said(what, limit, |lines| lines.iter().find(|line| matches(line)).cloned())
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        if ended.is_none() {
            self.end();
        }
        if thread::panicking() {
            let lines = self.output.lines.lock().map(|lines| tail(&lines)).unwrap_or_default();
            let state = ended.map_or("running".into(), |status| format!("ended, {status}"));
            eprintln!("--- last words of {} ({state}):\n{lines}\n---", self.name);
        }
    }
}

impl Process {
    /// Asks it to end and, when it does not, ends it.
    fn end(&mut self) {
        let _ = signal::kill(self.nix_pid(), self.last_signal);
        let start = now();
        while self.last_signal != Signal::SIGKILL
            && matches!(self.child.try_wait(), Ok(None))
            && start.elapsed() < Duration::from_secs(5)
        {
            let _ = tick(Duration::from_millis(5)).recv();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end and returns its standard output; panics if it fails or takes too long.
pub fn run(name: &str, command: &mut Command, limit: Duration) -> String {
    let mut process = Process::start(name, command);
    let status = process.wait(limit);
    let lines = process.lines().join("\n");
    assert!(status.success(), "{name} ended with {status}:\n{lines}");
    lines
}

fn collect(source: impl Read + Send + 'static, output: Arc<Output>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while matches!(source.read_until(b'\n', &mut line), Ok(size) if size > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            output.lines.lock().expect("no holder panics").push(text);
            output.grown.notify_all();
            line.clear();
        }
    })
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(25)..].join("\n")
}
