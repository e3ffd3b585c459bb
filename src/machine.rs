//! What this machine allows: the facts that cap a balancer, read without changing anything.
//!
//! Knows: the kernel. Does not know: anything else of ours.

use std::fmt;
use std::fs;
use std::str::FromStr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

/// What was found. `None` is "this system has no such thing, or does not tell".
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Operating system, such as `linux`.
    pub os: &'static str,
    /// Processor architecture, such as `x86_64`.
    pub arch: &'static str,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Pollers of this build that run here, by their names in the configuration.
    pub pollers: Vec<&'static str>,
    /// Whether bytes can move through a pipe: tried, not guessed.
    pub splice: bool,
    /// The largest pipe for an unprivileged process, in bytes.
    pub pipe_size_max: Option<u64>,
    /// Pipe memory of one unprivileged user before new pipes shrink, in pages; 0 is no limit.
    pub pipe_user_pages_soft: Option<u64>,
    /// Limit on open files in force.
    pub open_files_soft: Option<u64>,
    /// How far a process may raise it.
    pub open_files_hard: Option<u64>,
    /// Cores this process may run on.
    pub cores_allowed: usize,
    /// Cores that are worth a thread: fewer than allowed under a CPU quota.
    pub cores_usable: usize,
}

impl Machine {
    /// Looks around.
    pub fn observe() -> Machine {
        let files = getrlimit(Resource::RLIMIT_NOFILE).ok();
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        Machine {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            kernel: read("/proc/sys/kernel/osrelease"),
            pollers: pollers(),
            splice: splices(),
            pipe_size_max: read("/proc/sys/fs/pipe-max-size"),
            pipe_user_pages_soft: read("/proc/sys/fs/pipe-user-pages-soft"),
            open_files_soft: files.map(|(soft, _)| soft),
            open_files_hard: files.map(|(_, hard)| hard),
            cores_allowed: cores_allowed().unwrap_or(usable),
            cores_usable: usable,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number =
            |number: Option<u64>| number.map_or("unknown".to_owned(), |number| number.to_string());
        let kernel = self.kernel.as_deref().unwrap_or("unknown");
        let pages = match self.pipe_user_pages_soft {
            Some(0) => "0 (no limit)".to_owned(),
            pages => number(pages),
        };
        let pipe =
            self.pipe_size_max.map_or("unknown".to_owned(), |bytes| format!("{bytes} bytes"));
        writeln!(f, "system                {} {}, kernel {kernel}", self.os, self.arch)?;
        writeln!(f, "pollers               {}", self.pollers.join(", "))?;
        writeln!(f, "splice                {}", if self.splice { "yes" } else { "no" })?;
        writeln!(f, "pipe-max-size         {pipe}")?;
        writeln!(f, "pipe-user-pages-soft  {pages}")?;
        let (soft, hard) = (number(self.open_files_soft), number(self.open_files_hard));
        writeln!(f, "open files            {soft} now, {hard} at most")?;
        write!(f, "cores                 {} allowed", self.cores_allowed)?;
        if self.cores_usable != self.cores_allowed {
            write!(f, ", {} by quota", self.cores_usable)?;
        }
        Ok(())
    }
}

/// Raises the limit on open files as far as this process may, and returns what holds now.
///
/// # Errors
/// When the kernel does not tell the limit. Where it does not raise it, the old one holds.
pub fn raise_open_files() -> std::io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        // macOS says "unlimited" and means it less.
        if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
            return Ok(soft);
        }
    }
    Ok(hard)
}

/// What the system does of TCP Fast Open (net.ipv4.tcp_fastopen): whether connections may be opened
/// so, and whether they may be accepted so. `None` where it does not tell.
pub fn fastopen() -> Option<(bool, bool)> {
    let bits: u32 = read("/proc/sys/net/ipv4/tcp_fastopen")?;
    Some((bits & 1 != 0, bits & 2 != 0))
}

fn read<T: FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn pollers() -> Vec<&'static str> {
    #[cfg(target_os = "linux")]
    {
        let uring = crate::poller::uring::available().is_ok().then_some("io_uring");
        std::iter::once("epoll").chain(uring).collect()
    }
    #[cfg(not(target_os = "linux"))]
    {
        vec!["kqueue"]
    }
}

#[cfg(target_os = "linux")]
fn splices() -> bool {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{OFlag, SpliceFFlags, splice};
    use nix::unistd::pipe2;

    let attempt = || -> std::io::Result<bool> {
        let (mut near, far) = UnixStream::pair()?;
        near.write_all(b"x")?;
        let (_out, pipe) = pipe2(OFlag::O_CLOEXEC)?;
        let moved = splice(&far, None, &pipe, None, 1, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        Ok(moved == 1)
    };
    attempt().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn splices() -> bool {
    false
}

#[cfg(target_os = "linux")]
fn cores_allowed() -> Option<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;

    let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
    Some((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).count())
}

#[cfg(not(target_os = "linux"))]
fn cores_allowed() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_core_and_a_poller() {
        let machine = Machine::observe();
        assert!(machine.cores_allowed > 0 && machine.cores_usable > 0);
        assert!(!machine.pollers.is_empty());
        assert_eq!(machine.to_string().lines().count(), 7);
    }
}
