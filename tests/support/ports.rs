//! Ports nobody uses.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that is free on IPv4 and, where the machine has it, on IPv6.
///
/// It lies below the range the kernel hands to outgoing connections, so no client takes it between
/// this call and the bind; two test processes start at different places.
pub fn free_port() -> u16 {
    static STEP: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..SPAN {
        // Relaxed: only the number's uniqueness matters.
        let step = STEP.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(step) % SPAN) as u16;
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", u32::from(FIRST) + SPAN);
}

/// Several free ports.
pub fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| free_port())
}

fn is_free(port: u16) -> bool {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
    v4 && v6.map_or_else(|error| error.kind() != std::io::ErrorKind::AddrInUse, |_| true)
}

/// `127.0.0.1:port`.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

const FIRST: u16 = 11_000;
const SPAN: u32 = 20_000;
