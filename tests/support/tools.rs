//! Programs from the distribution, and what to do without them.

use std::path::PathBuf;

/// Where `name` is: on `PATH`, among the administrator's programs, or in PostgreSQL's own place.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path()).collect();
        versions.sort();
        places.extend(versions.into_iter().rev().map(|version| version.join("bin")));
    }
    places.into_iter().map(|place| place.join(name)).find(|file| file.is_file())
}

/// The program `name`, which `needs!` has found before.
pub fn path(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is not installed; the test asks with needs! first"))
}

/// Says loudly that a test did not run, and why.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED: {test}: {why}");
}

/// The first of `names` that is not installed. Where `CI=true`, that is a failure of the machine.
pub fn missing<'a>(test: &str, names: &[&'a str]) -> Option<&'a str> {
    let absent = names.iter().copied().find(|name| find(name).is_none())?;
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs {absent}, and CI=true means every tool is there"
    );
    skip(test, &format!("{absent} is not installed"));
    Some(absent)
}

/// Leaves the test unless every named program is installed.
#[macro_export]
macro_rules! needs {
    ($($name:literal),+ $(,)?) => {
        if $crate::support::tools::missing(module_path!(), &[$($name),+]).is_some() {
            return;
        }
    };
}

/// Is this process the superuser?
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// A number from the environment, to make a long test short or a short one long.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
