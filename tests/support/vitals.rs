//! A process as the kernel sees it: descriptors, memory, CPU time, TCP queues.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// What the descriptors of `pid` point to.
pub fn descriptors(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|target: PathBuf| target.to_string_lossy().into_owned())
        .collect()
}

/// How many descriptors of `pid` are ends of pipes.
pub fn pipes(pid: u32) -> usize {
    descriptors(pid).iter().filter(|target| target.starts_with("pipe:")).count()
}

/// A line of `/proc/PID/status` in KiB, such as `VmRSS`.
pub fn status_kib(pid: u32, key: &str) -> u64 {
    kib(&format!("/proc/{pid}/status"), key)
}

/// A line of `/proc/PID/smaps_rollup` in KiB, such as `Pss` or `Private_Dirty`.
pub fn memory_kib(pid: u32, key: &str) -> u64 {
    kib(&format!("/proc/{pid}/smaps_rollup"), key)
}

/// CPU time of all threads of `pid`, to the nanosecond.
pub fn cpu_time(pid: u32) -> Duration {
    threads(pid)
        .into_iter()
        .filter_map(|thread| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        })
        .sum()
}

/// The threads of `pid`.
pub fn threads(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether every thread of `pid` is stopped (SIGSTOP): each stops when it next runs.
pub fn is_stopped(pid: u32) -> bool {
    threads(pid).into_iter().all(|thread| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"));
        // "pid (name) state ...", and the name may hold anything.
        stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    })
}

/// The threads of `pid` whose name contains `part`.
pub fn threads_named(pid: u32, part: &str) -> Vec<u32> {
    let name = |thread: &u32| fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm"));
    threads(pid)
        .into_iter()
        .filter(|thread| name(thread).is_ok_and(|name| name.contains(part)))
        .collect()
}

/// One row of the kernel's table of TCP sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpRow {
    pub local: u16,
    pub remote: u16,
    pub state: u8,
    pub unacked: u64,
    pub unread: u64,
}

/// States of `TcpRow`, as in the kernel's `include/net/tcp_states.h`.
pub const ESTABLISHED: u8 = 1;
pub const FIN_WAIT1: u8 = 4;
pub const FIN_WAIT2: u8 = 5;

/// Every TCP socket of this network namespace, IPv4 and IPv6.
pub fn tcp_table() -> Vec<TcpRow> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(tcp_row).collect::<Vec<_>>())
        .collect()
}

/// The socket between `local` and `remote`, seen from `local`.
pub fn tcp_socket(local: u16, remote: u16) -> Option<TcpRow> {
    tcp_table().into_iter().find(|row| row.local == local && row.remote == remote)
}

fn tcp_row(line: &str) -> Option<TcpRow> {
    let mut words = line.split_whitespace().skip(1);
    let port = |word: &str| u16::from_str_radix(word.rsplit(':').next()?, 16).ok();
    let local = port(words.next()?)?;
    let remote = port(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (unacked, unread) = words.next()?.split_once(':')?;
    Some(TcpRow {
        local,
        remote,
        state,
        unacked: u64::from_str_radix(unacked, 16).ok()?,
        unread: u64::from_str_radix(unread, 16).ok()?,
    })
}

fn kib(path: &str, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("{path} has no {key}"))
}
