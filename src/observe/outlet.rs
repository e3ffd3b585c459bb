//! Where log lines leave the process, without anybody waiting for them.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

/// A writer that hands lines to a thread of its own. When that thread is stuck (a pipe that nobody
/// reads, a full disk that hangs) and its queue is full, lines are dropped; whoever logs goes on.
#[derive(Clone, Debug)]
pub struct Outlet(Sender<Message>);

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

/// The outlet of this process's log, for [`flush`].
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// Lines that may wait to be written.
const QUEUE: usize = 1024;

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(2);

impl Outlet {
    /// An outlet into `out`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(mut out: impl Write + Send + 'static) -> io::Result<Outlet> {
        let (sender, receiver) = bounded(QUEUE);
        thread::Builder::new().name("log".into()).spawn(move || {
            for message in receiver {
                match message {
                    Message::Line(line) => {
                        // There is nowhere to complain about a log that cannot be written.
                        let _ = out.write_all(&line).and_then(|()| out.flush());
                    }
                    Message::Flush(done) => {
                        let _ = done.send(());
                    }
                }
            }
        })?;
        let outlet = Outlet(sender);
        let _ = OUTLET.set(outlet.clone());
        Ok(outlet)
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Message::Line(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until what was logged is written; not for long, in case it cannot be.
pub fn flush() {
    if let Some(outlet) = OUTLET.get() {
        let (done, written) = bounded(1);
        if outlet.0.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that waits until it may go on, as a full pipe does.
    struct Stuck(crossbeam_channel::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_log_stalls_nobody() {
        let (release, stuck) = bounded(0);
        let mut outlet = Outlet::new(Stuck(stuck)).expect("a thread can be started");
        for _ in 0..2 * QUEUE {
            outlet.write_all(b"a line\n").expect("it never fails");
        }
        drop(release);
    }
}
