//! `evenkeel version`: which build this is, and what it finds here.

use serde_json::json;

use super::{Failure, print};
use crate::cli::Version;
use crate::machine::Machine;

/// Prints the version, and with `--verbose` the machine.
///
/// # Errors
/// When the output cannot be written.
pub fn version(args: Version) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    print(match (args.json, args.verbose) {
        (false, false) => format!("evenkeel {version}\n"),
        (false, true) => format!("evenkeel {version}\n\n{}\n", Machine::observe()),
        (true, false) => format!("{:#}\n", json!({"version": version})),
        (true, true) => {
            format!("{:#}\n", json!({"version": version, "machine": Machine::observe()}))
        }
    })
}
