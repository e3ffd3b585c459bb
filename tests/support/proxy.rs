//! The balancer under test: a configuration, a process, the records it leaves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::clock::{SOON, until};
use super::folder::{Folder, open_to_all};
use super::peers::{Backend, Family, Listener, Peer, Place};
use super::process::Process;

/// What to start: one listener, one pool, and every key a test cares about.
pub struct Setup {
    folder: Folder,
    listen: Place,
    backends: Vec<String>,
    /// More keys of each backend.
    backend_keys: Vec<String>,
    top: BTreeMap<String, String>,
    listener: BTreeMap<String, String>,
    pool: BTreeMap<String, String>,
    wrapper: Vec<String>,
}

/// Anything with a place a pool may name.
pub trait Target {
    /// Its address as the configuration writes it.
    fn address(&self) -> String;
}

impl Target for Place {
    fn address(&self) -> String {
        self.to_string()
    }
}

impl Target for Backend {
    fn address(&self) -> String {
        self.place().to_string()
    }
}

impl Target for Listener {
    fn address(&self) -> String {
        self.place().to_string()
    }
}

impl Target for u16 {
    fn address(&self) -> String {
        format!("127.0.0.1:{self}")
    }
}

impl Setup {
    /// A balancer on IPv4 in front of `backends`, with one worker, no probes and every access logged.
    pub fn to(backends: &[&dyn Target]) -> Setup {
        let folder = Folder::new();
        let listen = Place::free(Family::V4, &folder);
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Setup {
            listen,
            backends: backends.iter().map(|backend| backend.address()).collect(),
            backend_keys: vec![String::new(); backends.len()],
            top: map(&[
                ("workers", "1"),
                ("admin", "{socket: off, http: off}"),
                ("log", "{level: info, format: json, access: all, output: stderr}"),
            ]),
            listener: map(&[]),
            pool: map(&[("algorithm", "round_robin"), ("health_check", "{type: off}")]),
            wrapper: Vec::new(),
            folder,
        }
        .on_poller()
    }

    /// The poller of `EVENKEEL_TEST_POLLER`, so that one suite judges every implementation.
    fn on_poller(self) -> Setup {
        match std::env::var("EVENKEEL_TEST_POLLER") {
            Ok(poller) => self.set("poller", &poller),
            Err(_) => self,
        }
    }

    /// The address family of the listener.
    pub fn on(mut self, family: Family) -> Setup {
        self.listen = Place::free(family, &self.folder);
        self
    }

    /// The exact place of the listener.
    pub fn at(mut self, place: Place) -> Setup {
        self.listen = place;
        self
    }

    /// A top-level key of the configuration.
    pub fn set(mut self, key: &str, value: &str) -> Setup {
        self.top.insert(key.into(), value.into());
        self
    }

    /// A key of the listener.
    pub fn listener(mut self, key: &str, value: &str) -> Setup {
        self.listener.insert(key.into(), value.into());
        self
    }

    /// A key of the pool.
    pub fn pool(mut self, key: &str, value: &str) -> Setup {
        self.pool.insert(key.into(), value.into());
        self
    }

    /// More keys of one backend, as `weight: 3`.
    pub fn backend(mut self, number: usize, keys: &str) -> Setup {
        self.backend_keys[number] = format!(", {keys}");
        self
    }

    /// No access records, for measurements.
    pub fn unlogged(self) -> Setup {
        self.set("log", "{level: info, format: json, access: off, output: stderr}")
    }

    /// Starts it through another program, such as `setpriv` or `prlimit`.
    pub fn under(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The configuration as text.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.top {
            let _ = writeln!(text, "{key}: {value}");
        }
        let _ = writeln!(text, "listeners:\n  - name: front\n    bind: \"{}\"", self.listen);
        let _ = writeln!(text, "    pool: back");
        for (key, value) in &self.listener {
            let _ = writeln!(text, "    {key}: {value}");
        }
        let _ = writeln!(text, "pools:\n  - name: back");
        for (key, value) in &self.pool {
            let _ = writeln!(text, "    {key}: {value}");
        }
        let _ = writeln!(text, "    backends:");
        for (number, (backend, keys)) in self.backends.iter().zip(&self.backend_keys).enumerate() {
            let _ = writeln!(text, "      - {{name: b{number}, address: \"{backend}\"{keys}}}");
        }
        text
    }

    /// The command that would start it from its configuration file.
    pub fn command(&self) -> Command {
        let config = self.folder.write("evenkeel.yaml", &self.yaml());
        let mut command = self.program();
        command.args(["--log-format", "json", "run", "-c"]).arg(config);
        command
    }

    /// Starts it from a configuration file and waits until it is ready.
    pub fn start(self) -> Proxy {
        let command = self.command();
        self.launch(command)
    }

    /// Starts it as one line, without a file.
    pub fn start_in_one_line(self) -> Proxy {
        let mut command = self.program();
        command.args(["--log-format", "json", "run", "--listen"]).arg(self.listen.to_string());
        for backend in &self.backends {
            command.args(["--backend", backend]);
        }
        self.launch(command)
    }

    /// Starts what must refuse to start; its exit code and what it said.
    pub fn refused(self) -> (Option<i32>, String) {
        let mut process = Process::start("evenkeel", &mut self.command());
        let status = process.wait(SOON);
        (status.code(), process.lines().join("\n"))
    }

    /// A copy of the program that every user may run.
    pub fn program_for_all(&self) -> PathBuf {
        let copy = self.folder.file("evenkeel");
        std::fs::copy(BINARY, &copy).expect("the program can be copied");
        open_to_all(&copy);
        copy
    }

    fn program(&self) -> Command {
        let mut command = match self.wrapper.split_first() {
            None => Command::new(BINARY),
            Some((wrapper, words)) => {
                let mut command = Command::new(super::tools::path(wrapper));
                command.args(words).arg(self.program_for_all());
                command
            }
        };
        command.current_dir(self.folder.path()).env_remove("RUST_LOG");
        command
    }

    fn launch(self, mut command: Command) -> Proxy {
        let mut process = Process::start("evenkeel", &mut command);
        until("evenkeel to be ready", SOON, || {
            let ready = process.lines().iter().any(|line| is_ready(line));
            assert!(ready || process.ended().is_none(), "evenkeel did not start");
            ready.then_some(())
        });
        Proxy { process, place: self.listen, _folder: self.folder }
    }
}

/// A running balancer.
pub struct Proxy {
    process: Process,
    place: Place,
    _folder: Folder,
}

impl Proxy {
    /// Where clients connect.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.place.port()
    }

    /// The process, for what it says.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A client of it.
    pub fn client(&self) -> Peer {
        Peer::connect(&self.place)
    }

    /// The access records so far.
    pub fn records(&self) -> Vec<Value> {
        records_in(&self.process.lines())
    }

    /// Waits for `count` access records.
    pub fn records_of(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} access records");
        self.process.said(&what, SOON, |lines| {
            let records = records_in(lines);
            (records.len() >= count).then_some(records)
        })
    }

    /// Waits for `count` access records, checks that there are no more, and returns their codes.
    pub fn terms(&self, count: usize) -> Vec<String> {
        let records = self.records_of(count);
        assert_eq!(records.len(), count, "one record per connection: {records:#?}");
        records.iter().map(term).collect()
    }

    /// The code of the one connection there was.
    pub fn term(&self) -> String {
        self.terms(1).remove(0)
    }
}

impl Deref for Proxy {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Proxy {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The termination code of a record.
pub fn term(record: &Value) -> String {
    record["term"].as_str().unwrap_or_else(|| panic!("a record without a code: {record}")).into()
}

/// A number in a record.
pub fn count(record: &Value, field: &str) -> u64 {
    record[field].as_u64().unwrap_or_else(|| panic!("a record without {field}: {record}"))
}

/// Does this line say that all workers accept?
pub fn is_ready(line: &str) -> bool {
    line.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == "ready")
}

/// How long a proxy may take to notice what happened on a socket, in tests that look for silence.
pub const GLANCE: Duration = Duration::from_millis(300);

fn records_in(lines: &[String]) -> Vec<Value> {
    lines
        .iter()
        .filter(|line| line.contains("\"access\""))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|record| record["event"] == "access")
        .collect()
}

const BINARY: &str = env!("CARGO_BIN_EXE_evenkeel");
