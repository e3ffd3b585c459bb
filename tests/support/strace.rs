//! Watching and disturbing the system calls of a running process.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::clock::{SOON, until};
use super::folder::Folder;
use super::process::Process;
use super::tools;

/// A tracer attached to a process; it lets go when dropped.
pub struct Strace {
    process: Process,
    folder: Folder,
}

impl Strace {
    /// Attaches to a process (`-p`, add `-f` to `options` for all of its threads). `None`, said
    /// loudly, where the machine does not allow tracing.
    pub fn attach(test: &str, id: u32, options: &[&str]) -> Option<Strace> {
        let folder = Folder::new();
        let mut command = Command::new(tools::path("strace"));
        command.arg("-o").arg(folder.file("trace")).args(options).args(["-p", &id.to_string()]);
        let mut process = Process::start("strace", &mut command).end_with(Signal::SIGINT);
        let attached = until("strace to attach", SOON, || {
            if process.lines().iter().any(|line| line.contains(" attached")) {
                return Some(true);
            }
            process.ended().map(|_| false)
        });
        if !attached {
            tools::skip(test, &format!("strace cannot attach: {}", process.lines().join("; ")));
            return None;
        }
        Some(Strace { process, folder })
    }

    /// Everything seen so far.
    pub fn seen(&self) -> String {
        fs::read_to_string(self.folder.file("trace")).unwrap_or_default()
    }

    /// Lets go of the process and returns what was seen.
    pub fn finish(mut self) -> String {
        self.process.signal(Signal::SIGINT);
        self.process.wait(Duration::from_secs(20));
        self.seen()
    }
}

/// The number of calls in the summary of `strace -c`, and its rows by name.
pub fn summary(text: &str) -> (u64, Vec<(String, u64)>) {
    let rows: Vec<(String, u64)> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // "% time, seconds, usecs/call, calls, [errors,] syscall"
            let (Some(name), Some(calls)) = (words.last(), words.get(3)) else { return None };
            words[0].parse::<f64>().ok()?;
            Some(((*name).to_owned(), calls.parse().ok()?))
        })
        .filter(|(name, _)| name != "total")
        .collect();
    (rows.iter().map(|(_, calls)| calls).sum(), rows)
}
