//! What the integration tests share: peers to talk to, servers to stand behind the balancer, and
//! ways to look at it from outside.
//!
//! Knows: the command line, the configuration file, the log on stderr, `/proc`. Does not know: any
//! module of the crate. Every test binary takes in this folder with `mod support;`.
//!
//! **Invariant:** whatever a test starts (process, listener, directory) ends with the value that
//! stands for it, on panic too. All traffic stays on loopback or in a namespace of the test's own.
#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod clock;
pub mod digest;
pub mod folder;
pub mod namespace;
pub mod peers;
pub mod ports;
pub mod process;
pub mod proxy;
#[cfg(target_os = "linux")]
pub mod servers;
#[cfg(target_os = "linux")]
pub mod strace;
pub mod tools;
#[cfg(target_os = "linux")]
pub mod vitals;
