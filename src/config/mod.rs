//! The configuration: from a file or a command line to a `Plan`, or to every reason why not.
//!
//! The way of a file: `file` reads it, `tree` gives every value its place, `env` puts variables in,
//! `decode` turns values into what `keys` says they are, `build` turns those into the `Plan`. Each
//! step goes on after an error, so that one run reports them all.
//!
//! Knows: the text, the environment it is given, addresses. Does not know: sockets, threads, who
//! carries the plan out.

mod address;
mod build;
mod datum;
mod decode;
mod env;
mod error;
mod file;
mod flags;
mod keys;
mod plan;
mod print;
mod scalar;
mod schema;
mod suggest;
mod tree;
mod units;

pub use address::{parse_bind, parse_target};
pub use env::Env;
pub use error::{Errors, Place, Problem, Warning};
pub use file::load;
pub use plan::*;
pub use schema::schema;
pub use units::{parse_duration, parse_size};

use error::{Findings, Origin};
use tree::Node;

/// A plan, and what its author should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What to do.
    pub plan: Plan,
    /// Accepted, but worth a look; by position.
    pub warnings: Vec<Warning>,
}

/// How the text of a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.yaml` or `.yml`.
    Yaml,
    /// `.toml`.
    Toml,
    /// `.json`.
    Json,
}

/// Reads a configuration from `text`; `file` is its name in messages.
pub fn parse(text: &str, file: &str, format: Format, env: Env<'_>) -> Result<Loaded, Errors> {
    let mut findings = Findings::new(Origin::File(file.to_owned()));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(findings.fail(Place::default(), EMPTY));
    }
    let mut root = match tree::read(text, format) {
        Ok(root) => root,
        Err(error) => return Err(findings.fail(error.place, error.message)),
    };
    if root.is_null() {
        return Err(findings.fail(Place::default(), EMPTY));
    }
    env::substitute(&mut root, "", env, &mut findings);
    finish(&root, findings)
}

/// From a tree to a plan, the environment already in it.
fn finish(root: &Node, mut findings: Findings) -> Result<Loaded, Errors> {
    let plan = decode::decode(root, keys::ROOT, &mut findings)
        .map(|record| build::build(&record, &mut findings));
    let warnings = findings.finish()?;
    match plan {
        Some(plan) => Ok(Loaded { plan, warnings }),
        None => unreachable!("a root that could not be decoded was reported"),
    }
}

const EMPTY: &str = "is empty (give at least listen and backends)";
