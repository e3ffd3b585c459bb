//! Rules that are tests: who may import whom, and what may not appear.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our modules each module may name, itself excepted. `src/lib.rs` has the reasons.
const IMPORTS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("token", &[]),
    ("transfer", &[]),
    ("net", &[]),
    ("config", &["net"]),
    ("session", &["time", "transfer"]),
    ("pool", &["config", "net", "time"]),
    ("poller", &["net", "time", "token", "transfer"]),
    ("observe", &["config", "net", "session", "time"]),
    (
        "worker",
        &["config", "net", "observe", "poller", "pool", "session", "time", "token", "transfer"],
    ),
    (
        "server",
        &["config", "machine", "net", "observe", "poller", "pool", "session", "time", "worker"],
    ),
    ("machine", &["poller"]),
    ("testserver", &["net"]),
    ("cli", &["config", "observe"]),
    ("commands", &["cli", "config", "machine", "net", "observe", "testserver"]),
];

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of this package") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no source in {folder}");
    found
}

fn module_of(path: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = path.strip_prefix(&source).expect("a file of src");
    let first = inside.components().next().expect("a name");
    let name = first.as_os_str().to_string_lossy();
    name.trim_end_matches(".rs").to_owned()
}

/// What a file names by `crate::…`.
fn imports(text: &str) -> Vec<String> {
    let mut named = Vec::new();
    for line in text.lines() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue; // a link in a document binds nobody
        }
        for at in code.match_indices("crate::").map(|(at, _)| at + "crate::".len()) {
            let name: String =
                code[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            named.push(name);
        }
    }
    named
}

#[test]
fn imports_point_one_way() {
    let allowed: BTreeMap<_, _> = IMPORTS.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources("src") {
        let module = module_of(&path);
        if module == "lib" || module == "main" {
            continue;
        }
        let may = allowed.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no rule"));
        for named in imports(&fs::read_to_string(&path).expect("readable source")) {
            if named != module && !named.is_empty() && !may.contains(&named.as_str()) {
                wrong.push(format!("{}: {module} may not import {named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rule_finds_what_it_looks_for() {
    let text = "use crate::worker::Worker;\nlet x = crate::net::Peer::Unix;\n/// [`crate::time`]";
    assert_eq!(imports(text), ["worker", "net"]);
}

#[test]
fn nothing_is_left_lying_about() {
    let banned = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore]", "thread::sleep("];
    let mut found = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")) {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable source");
        for (number, line) in text.lines().enumerate() {
            for word in banned {
                if line.contains(word) {
                    found.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_stays_in_the_poller() {
    for path in sources("src") {
        if module_of(&path) == "poller" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable source");
        assert!(!text.contains("allow(unsafe_code)"), "{}", path.display());
    }
}

/// J1: whatever the wall clock does, no timer moves. It is read in two places, both to write down
/// when something was.
#[test]
fn the_wall_clock_times_nothing() {
    let mut read_by: Vec<_> = sources("src")
        .into_iter()
        .filter(|path| {
            fs::read_to_string(path).expect("readable source").contains("SystemTime::now")
        })
        .map(|path| module_of(&path))
        .collect();
    read_by.sort();
    assert_eq!(read_by, ["observe", "worker"], "log lines, and batches of access records");
}
