//! `evenkeel check`: what a configuration comes to, or all that is wrong with it.

use std::io;

use serde_json::json;

use super::{Failure, diff, load, print, warn};
use crate::cli::{Check, Global};
use crate::config::{self, Loaded};
use crate::observe::color::Paint;

/// Prints the plan, the difference of two, or the schema.
///
/// # Errors
/// When a configuration is not valid or cannot be read.
pub fn check(args: &Check, global: Global) -> Result<(), Failure> {
    if args.schema {
        return print(pretty(&config::schema()));
    }
    let color = global.color.unwrap_or_default();
    let path = load::choose(args.config.as_deref())?;
    if args.json {
        return as_json(load::file(&path));
    }
    let loaded = load::file(&path)?;
    for warning in &loaded.warnings {
        warn(warning, color);
    }
    let new = loaded.plan.to_string();
    let Some(old_path) = &args.diff else {
        return print(lines(&new));
    };
    let old = load::file(old_path)?.plan.to_string();
    let names = (old_path.display().to_string(), path.display().to_string());
    let paint = Paint::new(color.applies_to(&io::stdout()));
    print(diff::unified((&names.0, &lines(&old)), (&names.1, &lines(&new)), paint))
}

fn as_json(loaded: Result<Loaded, config::Errors>) -> Result<(), Failure> {
    match loaded {
        Ok(Loaded { plan, warnings }) => {
            let warnings: Vec<_> = warnings.iter().map(config::Problem::to_json).collect();
            print(pretty(&json!({"valid": true, "warnings": warnings, "plan": plan.to_json()})))
        }
        Err(errors) => {
            print(pretty(&json!({"valid": false, "errors": errors.to_json()})))?;
            Err(errors.into())
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Ends in exactly one line end, whatever the plan's own text ends in.
fn lines(text: &str) -> String {
    format!("{}\n", text.trim_end())
}
