//! Listening sockets: one for each worker where the kernel spreads connections, one shared
//! otherwise.

use std::io;
use std::path::{Path, PathBuf};

use socket2::SockRef;

use crate::config::{Bind, ListenerPlan, Plan};
use crate::net::{Address, Listener};
use crate::poller::readiness::set_lifelines;
use crate::worker::lifelines;

/// The sockets of every listener: for each worker, pairs of the listener's place in the plan and
/// its socket; and where each listener can be reached.
#[derive(Debug)]
pub struct Bound {
    /// By worker.
    pub sockets: Vec<Vec<(usize, Listener)>>,
    /// Addresses as bound, with ports filled in, by listener.
    pub addresses: Vec<(usize, Address)>,
    /// The files of Unix listeners.
    pub paths: Paths,
}

/// The files of Unix listeners, each with the device and inode that it had when it was bound.
#[derive(Debug, Default)]
pub struct Paths(Vec<(PathBuf, (u64, u64))>);

impl Paths {
    /// Removes those that are still ours: a successor may have bound the path anew.
    pub fn remove(&self) {
        for (path, ours) in &self.0 {
            if identity(path).is_some_and(|now| now == *ours) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Binds everything, or nothing.
///
/// # Errors
/// A message that names the key, the address, what is wrong and what would help.
pub fn bind_all(plan: &Plan, workers: usize) -> Result<Bound, String> {
    let mut sockets: Vec<Vec<(usize, Listener)>> = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let mut paths = Paths::default();
    for (at, listener) in plan.listeners.iter().enumerate() {
        for Bind::Address(address) in &listener.binds {
            let made = bind(plan, address, workers).map_err(|error| {
                let hint = hint(address, &error);
                let name = &listener.name;
                format!("listener \"{name}\": cannot listen on {address}: {}{hint}", plain(&error))
            })?;
            for socket in &made {
                prepare(socket, listener)?;
            }
            if let Address::Unix(path) = address
                && let Some(identity) = identity(path)
            {
                paths.0.push((path.clone(), identity));
            }
            let bound = made.first().and_then(|one| one.address().ok());
            addresses.push((at, bound.unwrap_or_else(|| address.clone())));
            for (of_worker, socket) in sockets.iter_mut().zip(made) {
                of_worker.push((at, socket));
            }
        }
    }
    Ok(Bound { sockets, addresses, paths })
}

/// Sets what only this listener asks for.
fn prepare(socket: &Listener, plan: &ListenerPlan) -> Result<(), String> {
    let refused = |key: &str, error: &io::Error| {
        format!("listener \"{}\": {key} cannot be had here: {}", plan.name, plain(error))
    };
    if plan.defer_accept {
        socket.defer_accept().map_err(|error| refused("defer_accept", &error))?;
    }
    if plan.fastopen {
        socket.fastopen().map_err(|error| refused("fastopen", &error))?;
    }
    Ok(())
}

/// One socket for each worker.
fn bind(plan: &Plan, address: &Address, workers: usize) -> io::Result<Vec<Listener>> {
    let backlog = plan.tcp.backlog;
    let spreads = cfg!(target_os = "linux") && matches!(address, Address::Ip(_));
    let mut made = Vec::with_capacity(workers);
    if spreads && workers > 1 {
        // SO_REUSEPORT would let a second evenkeel of the same user in without a word, so the port
        // is first taken alone, which says "in use" where it is.
        let address = Listener::probe(address)?;
        for _ in 0..workers {
            made.push(Listener::bind_shared(&address, backlog, true)?);
        }
    } else {
        made.push(Listener::bind(address, backlog)?);
        for _ in 1..workers {
            made.push(made[0].duplicate()?);
        }
    }
    if let Address::Ip(_) = address {
        for listener in &made {
            let socket = SockRef::from(listener);
            // Accepted sockets inherit these.
            let _ = socket.set_tcp_nodelay(plan.tcp.nodelay);
            set_lifelines(&socket, &lifelines(plan));
        }
    }
    Ok(made)
}

fn hint(address: &Address, error: &io::Error) -> String {
    match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, Address::Ip(ip)) => {
            let port = ip.port();
            format!(
                " (who has it: ss -ltnp 'sport = :{port}'; or listen elsewhere, as on port {})",
                port.checked_add(1).unwrap_or(8080)
            )
        }
        (io::ErrorKind::AddrInUse, Address::Unix(path)) => {
            format!(" (another process listens there, or {} is no socket)", path.display())
        }
        (io::ErrorKind::PermissionDenied, Address::Ip(ip)) if ip.port() < 1024 => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE: setcap, or AmbientCapabilities= in the \
             unit, or a higher port)"
                .to_owned()
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            " (no interface of this machine has that address: ip addr; net.ipv4.ip_nonlocal_bind=1 \
             allows it before it comes up)"
                .to_owned()
        }
        (io::ErrorKind::NotFound, Address::Unix(path)) => {
            let parent = path.parent().unwrap_or(path);
            format!(" (make the directory {} first)", parent.display())
        }
        _ => String::new(),
    }
}

/// The kernel's words, lower case and without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
