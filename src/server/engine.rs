//! Which poller the workers run on.

use crate::config::PollerKind;
use crate::server::Fatal;

/// A poller that runs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// epoll or kqueue.
    Readiness,
    /// io_uring.
    #[cfg(target_os = "linux")]
    Uring,
}

impl Engine {
    /// The one a plan asks for; for `auto`, the one that measured best here and is allowed.
    ///
    /// # Errors
    /// When this system does not have what was asked for by name, or refuses it.
    pub fn choose(kind: PollerKind) -> Result<Engine, Fatal> {
        match kind {
            PollerKind::Epoll if cfg!(target_os = "linux") => Ok(Engine::Readiness),
            PollerKind::Kqueue if cfg!(not(target_os = "linux")) => Ok(Engine::Readiness),
            PollerKind::Epoll => Err(absent("epoll", "it is Linux's")),
            PollerKind::Kqueue => Err(absent("kqueue", "it is of macOS and the BSDs")),
            #[cfg(target_os = "linux")]
            PollerKind::IoUring => match crate::poller::uring::available() {
                Ok(()) => Ok(Engine::Uring),
                Err(error) => Err(absent("io_uring", &refusal(&error))),
            },
            #[cfg(not(target_os = "linux"))]
            PollerKind::IoUring => Err(absent("io_uring", "it is Linux's")),
            #[cfg(target_os = "linux")]
            PollerKind::Auto => match crate::poller::uring::available() {
                Ok(()) => Ok(Engine::Uring),
                Err(error) => {
                    log::warn!("io_uring cannot be used, so epoll is: {}", refusal(&error));
                    Ok(Engine::Readiness)
                }
            },
            #[cfg(not(target_os = "linux"))]
            PollerKind::Auto => Ok(Engine::Readiness),
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_os = "linux")]
            Engine::Uring => "io_uring",
            Engine::Readiness if cfg!(target_os = "linux") => "epoll",
            Engine::Readiness => "kqueue",
        }
    }
}

fn absent(name: &str, why: &str) -> Fatal {
    Fatal::Start(format!(
        "poller: {name} is not available here: {why} (poller: auto works anywhere)"
    ))
}

/// Why io_uring is refused, in words an operator can act on.
#[cfg(target_os = "linux")]
fn refusal(error: &std::io::Error) -> String {
    use nix::libc;

    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.as_deref().map_or("0", str::trim);
    match error.raw_os_error() {
        Some(libc::EPERM) if disabled != "0" => {
            format!("the sysctl kernel.io_uring_disabled is {disabled}, 0 allows it")
        }
        Some(libc::EPERM | libc::EACCES) => {
            "it is forbidden, most likely by a seccomp profile (containers have one)".into()
        }
        Some(libc::ENOSYS) => "this kernel has none".into(),
        Some(libc::ENOMEM) => "no memory may be locked for it (ulimit -l)".into(),
        _ => error.to_string(),
    }
}
