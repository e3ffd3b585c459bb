//! `evenkeel run` up to the plan: which configuration, and what the command line changes in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Failure, Launch, warn};
use crate::cli::{Global, Run, Tuning};
use crate::config::{self, Errors, Loaded, Plan};

/// The balancer that a file or a few options describe.
///
/// # Errors
/// When there is neither, or when what is there is not valid.
pub fn run(args: &Run, global: Global) -> Result<Launch, Failure> {
    let loaded = if args.listen.is_empty() {
        file(&choose(args.config.as_deref())?)?
    } else {
        Plan::one_line(&args.listen, &args.backend, args.algorithm.as_deref())?
    };
    for warning in &loaded.warnings {
        warn(warning, global.color.unwrap_or_default());
    }
    warn_of_admin(args.admin, global);
    let mut plan = loaded.plan;
    tune(&mut plan, args.tuning);
    tell(&mut plan, global);
    Ok(Launch { plan, greeting: String::new(), backends: Vec::new() })
}

/// Reads a file, with the variables of this process.
pub(super) fn file(path: &Path) -> Result<Loaded, Errors> {
    config::load(path, &|name| std::env::var(name).ok())
}

/// The file that was named, or the first that is where we look.
pub(super) fn choose(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    // One that cannot be looked at is taken, so that reading it says why.
    let found = PLACES.iter().map(Path::new).find(|path| path.try_exists().unwrap_or(true));
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::usage(format!(
            "no configuration: neither {} nor {} exists\n  \
             name one:        evenkeel run -c FILE\n  \
             or do without:   evenkeel run --listen 8080 --backend 10.0.0.1:80 --backend 10.0.0.2:80\n  \
             or look around:  evenkeel demo",
            PLACES[0], PLACES[1]
        ))
    })
}

/// As `admin.http` in a file: known, and not there yet.
pub(super) fn warn_of_admin(admin: Option<SocketAddr>, global: Global) {
    if let Some(address) = admin {
        let text = format!("--admin {address}: accepted, but has no effect in this version");
        warn(text, global.color.unwrap_or_default());
    }
}

fn tune(plan: &mut Plan, tuning: Tuning) {
    let Tuning { workers, poller, zero_copy, access } = tuning;
    plan.workers = workers.unwrap_or(plan.workers);
    plan.poller = poller.unwrap_or(plan.poller);
    plan.zero_copy = zero_copy.unwrap_or(plan.zero_copy);
    plan.log.access = access.unwrap_or(plan.log.access);
}

/// Where the command line says how to log, it wins over the file.
pub(super) fn tell(plan: &mut Plan, global: Global) {
    plan.log.level = global.log_level.unwrap_or(plan.log.level);
    plan.log.format = global.log_format.unwrap_or(plan.log.format);
}

const PLACES: [&str; 2] = ["./evenkeel.yaml", "/etc/evenkeel/evenkeel.yaml"];
