//! io_uring where the machine refuses it, and where the ring is short of something (R9).

use crate::needs;
use crate::support::clock::SOON;
use crate::support::folder::Folder;
use crate::support::peers::{Backend, Family};
use crate::support::proxy::Setup;

/// A machine on which `io_uring_setup` ends with `error`. strace is the grandchild (`-D`), so that
/// the process started is the proxy itself.
fn refusing(setup: Setup, error: &str) -> Setup {
    let inject = format!("inject=io_uring_setup:error={error}");
    let trace = "trace=io_uring_setup";
    setup.under(&["strace", "-D", "-f", "-o", "/dev/null", "-e", trace, "-e", &inject])
}

#[test]
fn r9_where_io_uring_is_refused_auto_takes_epoll_and_says_so_once() {
    needs!("strace");
    for (error, why) in [("EPERM", "seccomp"), ("ENOSYS", "this kernel has none")] {
        let folder = Folder::new();
        let backend = Backend::echo(Family::V4, &folder);
        let setup = Setup::to(&[&backend]).set("poller", "auto").set("workers", "2");
        let proxy = refusing(setup, error).start();
        proxy.client().round_trip(b"over epoll");
        proxy.process().line("the poller in use", SOON, |line| line.contains("2 workers on epoll"));
        let lines = proxy.process().lines();
        let told: Vec<_> = lines.iter().filter(|line| line.contains("io_uring")).collect();
        assert_eq!(told.len(), 1, "{error}: {lines:#?}");
        assert!(told[0].contains(why) && told[0].contains("warn"), "{error}: {told:?}");
    }
}

#[test]
fn r9_io_uring_asked_for_and_refused_is_an_error_with_a_way_out() {
    needs!("strace");
    let folder = Folder::new();
    let backend = Backend::echo(Family::V4, &folder);
    let setup = Setup::to(&[&backend]).set("poller", "io_uring");
    let (code, said) = refusing(setup, "EPERM").refused();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("poller: io_uring is not available here"), "{said}");
    assert!(said.contains("poller: auto works anywhere"), "{said}");
}
