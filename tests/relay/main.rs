//! What a relayed TCP connection looks like from outside: the real program between two peers that
//! the test plays itself. The names carry the case ids of the feature map (T: TCP, B: backend
//! faults, R: resources, S: signals).

#[path = "../support/mod.rs"]
mod support;

mod dialing;
mod flow;
mod half_close;
mod handshake;
mod lifecycle;
mod limits;
mod timeouts;

// These look into /proc, at the queues of sockets and the descriptors of the proxy.
#[cfg(target_os = "linux")]
mod exhaustion;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod pressure;
#[cfg(target_os = "linux")]
mod reset;
#[cfg(target_os = "linux")]
mod uring;
