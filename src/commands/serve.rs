//! `evenkeel testserver`: scripted peers until somebody says stop.

use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::signal::{SigSet, Signal};

use super::{Failure, print, warn};
use crate::cli::{Global, Script, Testserver};
use crate::machine;
use crate::testserver::{Mode, TestServer};

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When an address cannot be bound.
pub fn testserver(args: &Testserver, global: Global) -> Result<(), Failure> {
    // Before there are threads: they inherit the mask, so the signals wait for us below.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals
        .thread_block()
        .map_err(|error| Failure::running(format!("cannot block signals: {error}")))?;
    if let Err(error) = machine::raise_open_files() {
        let color = global.color.unwrap_or_default();
        warn(format_args!("cannot raise the limit on open files: {error}"), color);
    }
    let (mode, name) = mode(&args.script);
    let free = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let listen = if args.listen.is_empty() { &free[..] } else { &args.listen };
    let server = TestServer::start(mode, name, listen).map_err(|error| {
        Failure::usage(format!("{error}\n  give another --listen, or none for a free port"))
    })?;
    let addresses = server.addresses().iter();
    print(addresses.map(|address| format!("listening on {address}\n")).collect::<String>())?;
    signals.wait().map_err(|error| Failure::running(format!("cannot wait: {error}")))?;
    Ok(())
}

fn mode(script: &Script) -> (Mode, Option<&str>) {
    let mode = match script {
        Script::Echo => Mode::Echo,
        Script::Http { name } => return (Mode::Http, name.as_deref()),
        Script::Sink => Mode::Sink,
        Script::Source { bytes } => Mode::Source { bytes: *bytes },
        Script::Slow { interval } => Mode::Slow { interval: *interval },
        Script::Reset => Mode::Reset,
        Script::Hang => Mode::Hang,
        Script::RefuseAfter { connections } => Mode::RefuseAfter { connections: *connections },
    };
    (mode, None)
}
