//! What each command does, from plain values to output or to something for `main` to serve.
//!
//! Knows: configuration, test server, load generator, machine, output. Does not know: clap, `server`. Commands that
//! end in a running balancer return a [`Launch`]; `main` is the one that starts it.

mod bench;
mod check;
mod demo;
mod diff;
mod load;
mod serve;
mod version;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use crate::config::{Errors, Plan};
use crate::observe::color::{Paint, When};
use crate::testserver::TestServer;

pub use bench::bench;
pub use check::check;
pub use demo::demo;
pub use load::run;
pub use serve::testserver;
pub use version::version;

/// A balancer, ready to be started.
#[derive(Debug)]
pub struct Launch {
    /// What it is to do.
    pub plan: Plan,
    /// To print on stdout before it starts; may be empty.
    pub greeting: String,
    /// Backends that live as long as it does.
    pub backends: Vec<TestServer>,
}

/// Why a command did not do what it was to do.
#[derive(Debug)]
pub struct Failure {
    /// What the process exits with.
    pub code: u8,
    /// One message per line; a line that starts with a space continues the one before.
    text: String,
}

impl Failure {
    /// The operator's mistake: bad usage or a bad configuration.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { code: 2, text: text.into() }
    }

    /// Something failed while running.
    pub fn running(text: impl Into<String>) -> Failure {
        Failure { code: 1, text: text.into() }
    }

    /// A failure of another part, with the exit code it chose.
    pub fn with_code(code: u8, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }

    /// Prints it on stderr, each message with our name in front.
    pub fn report(&self, color: When) {
        let name = Paint::new(color.applies_to(&io::stderr())).red("evenkeel:");
        let mut text = String::new();
        for line in self.text.lines() {
            let lead = if line.starts_with(' ') { "" } else { &format!("{name} ") };
            text.push_str(&format!("{lead}{line}\n"));
        }
        // Where stderr is closed there is nobody left to tell.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl From<Errors> for Failure {
    fn from(errors: Errors) -> Failure {
        Failure::usage(errors.to_string())
    }
}

/// Prints on stdout.
///
/// # Errors
/// When it cannot be written. A reader that has seen enough (`| head`) is no error.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::running(format!("cannot write the output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes the manual pages.
///
/// # Errors
/// When the directory or a page cannot be written.
pub fn manual(dir: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Failure> {
    write(dir).map_err(|error| {
        Failure::running(format!("cannot write manual pages into {}: {error}", dir.display()))
    })
}

/// Prints a warning on stderr.
fn warn(text: impl fmt::Display, color: When) {
    let paint = Paint::new(color.applies_to(&io::stderr()));
    let _ = writeln!(io::stderr(), "{} {text}", paint.yellow("evenkeel: warning:"));
}
