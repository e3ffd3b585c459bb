//! A test in a network of its own.
//!
//! The test process starts itself again inside `unshare --net`, for that one test. The new network
//! has nothing but a loopback device and ends with the process, so nothing is left to clean up.

use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::tools;

/// True inside the namespace. Outside, runs `test` (its full name) inside and returns false; the
/// verdict of the inner run is the verdict of the outer.
pub fn entered(test: &str) -> bool {
    if std::env::var(MARK).as_deref() == Ok(test) {
        let up = Command::new(tools::path("ip")).args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "the namespace has a loopback device");
        return true;
    }
    let flags: &[&str] = if tools::is_root() { &["--net"] } else { &["--net", "--map-root-user"] };
    let unshare = || {
        let mut command = Command::new(tools::path("unshare"));
        command.args(flags);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        tools::skip(test, "this machine does not allow a network namespace");
        return false;
    }
    let mut inner = unshare();
    inner.arg(std::env::current_exe().expect("a test knows its program"));
    inner.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, test);
    let mut process = Process::start("the test in its namespace", &mut inner);
    let status = process.wait(Duration::from_secs(120));
    let said = process.lines().join("\n");
    assert!(status.success(), "{test} failed in its namespace:\n{said}");
    assert!(said.contains("1 passed"), "{test} is not the full name of a test:\n{said}");
    false
}

const MARK: &str = "EVENKEEL_TEST_NAMESPACE";
