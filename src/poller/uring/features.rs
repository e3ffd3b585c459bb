//! What io_uring can do here: the kernel may lack it, in part, or be told to refuse it.

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// How a ring is made. Each is asked for where the kernel has it, and done without where not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Completions are worked off when we ask for them, on our thread (Linux 6.1).
    pub deferred: bool,
    /// One entry accepts until it is taken back. Otherwise accept(2), by poll.
    pub multishot_accept: bool,
    /// One entry receives until it is taken back, into buffers it chooses (Linux 6.0).
    pub multishot_receive: bool,
}

impl Features {
    /// What this kernel has, tried out.
    ///
    /// # Errors
    /// When there is no io_uring (ENOSYS), when it is refused (EPERM: seccomp, or
    /// `kernel.io_uring_disabled`), and when it is older than Linux 5.19: what is taken back must be
    /// told by its user data, every one of them.
    pub fn probe() -> io::Result<Features> {
        let best = Features { deferred: true, multishot_accept: true, multishot_receive: true };
        // Multishot receives came with 6.0, and deferring with 6.1; which of them are known is heard
        // when they are tried.
        let without_deferring = Features { deferred: false, ..best };
        for features in [best, without_deferring] {
            match features.build(8, 8) {
                Ok(ring) => {
                    check(&ring)?;
                    return Ok(features);
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {}
                Err(error) => return Err(error),
            }
        }
        Err(too_old())
    }

    /// A ring, disabled.
    pub(super) fn build(self, entries: u32, completions: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_r_disabled().setup_cqsize(completions);
        if self.deferred {
            // Without the flag in memory we could not tell that there is work without a system call.
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        } else {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        builder.setup_submit_all();
        builder.build(entries)
    }
}

fn check(ring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let operations = [
        opcode::PollAdd::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Close::CODE,
        opcode::Accept::CODE,
        opcode::Recv::CODE,
    ];
    let params = ring.params();
    let complete = operations.iter().all(|&operation| probe.is_supported(operation))
        && params.is_feature_nodrop()
        && params.is_feature_ext_arg()
        && params.is_feature_skip_cqe_on_success();
    if complete { Ok(()) } else { Err(too_old()) }
}

fn too_old() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "io_uring of this kernel is older than Linux 5.19")
}

/// Whether a [`Uring`](super::Uring) can be made here, and if not, why.
///
/// # Errors
/// As for [`Features::probe`].
pub fn available() -> io::Result<()> {
    Features::probe().map(drop)
}
