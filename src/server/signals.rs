//! Signals, as messages.

use std::thread;

use crossbeam_channel::Sender;
use nix::sys::signal::{SigSet, Signal};

/// What the process is told from outside.
const HEARD: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Blocks the signals that [`listen`] will hear, in this thread and those it starts; they wait. To
/// be called before the first thread is started.
pub fn block() {
    let _ = heard().thread_block();
}

/// Hears signals for as long as anybody is interested, in a thread of its own.
pub fn listen(heard_by: Sender<Signal>) -> std::io::Result<()> {
    thread::Builder::new().name("signals".into()).spawn(move || {
        let set = heard();
        while let Ok(signal) = set.wait() {
            if heard_by.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn heard() -> SigSet {
    HEARD.into_iter().collect()
}
