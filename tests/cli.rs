//! The real binary: what it prints, where, and what it exits with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// No answer of these tests takes longer, unless something is broken.
const DEADLINE: Duration = Duration::from_secs(20);

fn evenkeel(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    // Whoever runs the tests may have a taste in colours; they have not.
    command.args(args).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Exit code, stdout, stderr of a command that ends by itself.
fn outcome(args: &[&str]) -> (i32, String, String) {
    outcome_of(&mut evenkeel(args))
}

fn outcome_of(command: &mut Command) -> (i32, String, String) {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = piped.spawn().expect("the binary starts");
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let output = ended.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        let _ = send(id, Signal::SIGKILL);
        panic!("{command:?} does not end");
    });
    let output = output.expect("readable pipes");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn send(id: u32, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(id.try_into().expect("process numbers are small")), signal)
}

/// A directory of this test's own, empty.
fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a writable target directory");
    path
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a writable directory");
    path.to_str().expect("UTF-8").to_owned()
}

/// A command that goes on until it is stopped.
struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    fn start(args: &[&str]) -> Running {
        let mut command = evenkeel(args);
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary starts");
        let stdout = lines(child.stdout.take().expect("it was piped"));
        let stderr = lines(child.stderr.take().expect("it was piped"));
        Running { child, stdout, stderr }
    }

    /// The next line on stdout.
    fn line(&self) -> String {
        self.stdout.recv_timeout(DEADLINE).expect("another line")
    }

    /// The next line on stderr that has `word` in it.
    fn log_line(&self, word: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("no line with \"{word}\" in the log"));
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Asks it to end and tells how it did.
    fn stop(mut self, signal: Signal) -> Option<i32> {
        send(self.child.id(), signal).expect("it runs");
        // stdout closes when the process ends.
        loop {
            match self.stdout.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end on {signal}"),
            }
        }
        self.child.wait().expect("it is ours").code()
    }
}

/// What comes out of a pipe, line by line, for whoever is still interested.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let read = BufReader::new(pipe).lines().map_while(Result::ok);
        read.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    lines
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const COMMANDS: [&[&str]; 13] = [
    &[],
    &["run"],
    &["demo"],
    &["check"],
    &["testserver"],
    &["testserver", "http"],
    &["testserver", "source"],
    &["testserver", "slow"],
    &["testserver", "refuse-after"],
    &["bench"],
    &["version"],
    &["completions"],
    &["man"],
];

#[test]
fn every_help_fits_one_screen_and_goes_to_stdout() {
    for command in COMMANDS {
        let (code, out, err) = outcome(&[command, &["--help"]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{command:?}");
        assert!(out.lines().count() <= 30, "{command:?} has too many lines:\n{out}");
        for line in out.lines() {
            assert!(line.chars().count() <= 80, "{command:?} has a long line:\n{line}");
        }
    }
}

#[test]
fn every_option_names_its_default() {
    for command in COMMANDS {
        let (_, out, _) = outcome(&[command, &["--help"]].concat());
        let options = out.lines().filter(|line| line.trim_start().starts_with('-'));
        for option in options.filter(|line| !line.contains("Print help") && !line.contains("-V,")) {
            assert!(option.contains("[default"), "{command:?}: {option}");
        }
    }
}

#[test]
fn help_names_the_commands_of_this_version_and_no_others() {
    let (_, out, _) = outcome(&["--help"]);
    let commands: Vec<&str> = out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    let expected =
        ["run", "demo", "check", "testserver", "bench", "version", "completions", "man", "help"];
    assert_eq!(commands, expected);
}

#[test]
fn nothing_typed_is_bad_usage_and_shows_the_help() {
    let (code, out, err) = outcome(&[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("Usage: evenkeel"), "{err}");
}

#[test]
fn mistakes_are_named_with_a_way_out() {
    for (args, what, way_out) in [
        (&["chek"][..], "unrecognized subcommand 'chek'", "'check'"),
        (&["rnu"], "unrecognized subcommand 'rnu'", "one of: run, demo,"),
        (&["testserver", "htpt"], "unrecognized subcommand 'htpt'", "http"),
        (&["run", "--lisen", "80"], "unexpected argument '--lisen'", "'--listen'"),
        (&["run", "--listen", "80"], "were not provided", "--backend"),
        (&["run", "--poller", "epol"], "invalid value 'epol'", "'epoll'"),
        (&["run", "--workers", "0"], "invalid value '0'", "1 to 1024, or auto"),
        (&["run", "-c", "x", "--listen", "80"], "cannot be used with", "--help"),
        (&["version", "--log-level", "inf"], "invalid value 'inf'", "'info'"),
        (&["demo", "--listen", "nowhere"], "invalid value 'nowhere'", "127.0.0.1:8080"),
        (&["completions", "fishy"], "invalid value 'fishy'", "fish"),
        (&["testserver", "slow", "--interval", "5"], "invalid value '5'", "50ms"),
    ] {
        let (code, out, err) = outcome(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.starts_with("evenkeel: "), "{err}");
        assert!(err.contains(what) && err.contains(way_out), "{err}");
    }
}

#[test]
fn the_version_is_one_line() {
    let line = format!("evenkeel {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(outcome(&["version"]), (0, line.clone(), String::new()));
    assert_eq!(outcome(&["--version"]), (0, line, String::new()));
}

#[test]
fn the_verbose_version_knows_the_machine() {
    let (code, out, _) = outcome(&["version", "--verbose"]);
    assert_eq!(code, 0);
    for word in ["pollers", "splice", "pipe-max-size", "open files", "cores", "kernel"] {
        assert!(out.contains(word), "{word} is missing:\n{out}");
    }
    let (_, out, _) = outcome(&["version", "--verbose", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["machine"]["cores_allowed"].as_u64() > Some(0));
    assert!(json["machine"]["pollers"].as_array().is_some_and(|pollers| !pollers.is_empty()));
    let (_, out, _) = outcome(&["version", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(json.get("machine").is_none());
}

const GOOD: &str = "listen: 127.0.0.1:8080\nbackends: [127.0.0.1:9001, 127.0.0.1:9002]\n";

#[test]
fn check_prints_the_plan_of_a_good_file() {
    let path = file(&directory("good"), "good.yaml", GOOD);
    let (code, out, err) = outcome(&["check", "-c", &path]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("127.0.0.1:9002"), "{out}");
    let (code, out, _) = outcome(&["check", "-c", &path, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["valid"]), (0, &true.into()));
    assert!(json["plan"].is_object());
}

#[test]
fn check_names_all_that_is_wrong_and_where() {
    let text = "lisen: 127.0.0.1:8080\nbackends: [127.0.0.1:99999]\n";
    let path = file(&directory("bad"), "bad.yaml", text);
    let (code, out, err) = outcome(&["check", "-c", &path]);
    assert_eq!((code, out.as_str()), (2, ""));
    for place in [":1:1: lisen", ":2:12: backends[0]"] {
        let line = format!("evenkeel: {path}{place}");
        assert!(err.lines().any(|l| l.starts_with(&line)), "{line} is missing:\n{err}");
    }
    let (code, out, json_err) = outcome(&["check", "-c", &path, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["valid"], json_err), (2, &false.into(), err));
    assert_eq!(json["errors"][0]["line"], 1);
}

#[test]
fn check_names_a_file_that_is_not_there() {
    let path = directory("absent").join("absent.yaml");
    let path = path.to_str().expect("UTF-8");
    for args in [&["check", "-c", path][..], &["run", "-c", path]] {
        let (code, _, err) = outcome(args);
        assert_eq!(code, 2);
        assert!(err.starts_with(&format!("evenkeel: {path}: ")), "{err}");
    }
}

#[test]
fn check_diff_shows_what_changes() {
    let dir = directory("diff");
    let old = file(&dir, "old.yaml", GOOD);
    let new = file(&dir, "new.yaml", &GOOD.replace(":9002", ":9003"));
    let (code, out, err) = outcome(&["check", "-c", &new, "--diff", &old]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with(&format!("--- {old}\n+++ {new}\n@@ ")), "{out}");
    let changed = |sign| out.lines().skip(2).filter(move |line| line.starts_with(sign));
    assert!(changed('-').any(|line| line.contains("9002")), "{out}");
    assert!(changed('+').any(|line| line.contains("9003")), "{out}");
    assert!(
        !out.lines().any(|line| line.starts_with(['-', '+']) && line.contains("9001")),
        "{out}"
    );
    let (_, out, _) = outcome(&["check", "-c", &new, "--diff", &old, "--color", "always"]);
    assert!(out.contains("\x1b[31m-") && out.contains("\x1b[32m+"), "{out}");
    let (code, out, _) = outcome(&["check", "-c", &old, "--diff", &old]);
    assert_eq!(code, 0);
    assert!(out.starts_with("no difference"), "{out}");
}

#[test]
fn check_prints_the_schema_without_a_file() {
    let (code, out, err) = outcome(&["check", "--schema"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(json["$schema"].is_string());
}

#[test]
fn check_takes_the_file_in_the_working_directory() {
    let dir = directory("here");
    file(&dir, "evenkeel.yaml", GOOD);
    let (code, out, _) = outcome_of(evenkeel(&["check"]).current_dir(&dir));
    assert_eq!(code, 0);
    assert!(out.contains("127.0.0.1:9001"), "{out}");
}

#[test]
fn run_without_anything_says_how_to_start() {
    let dir = directory("nowhere");
    let (code, _, err) = outcome_of(evenkeel(&["run"]).current_dir(&dir));
    assert_eq!(code, 2);
    assert!(err.starts_with("evenkeel: no configuration: "), "{err}");
    for way_out in ["./evenkeel.yaml", "-c FILE", "--listen 8080 --backend", "evenkeel demo"] {
        assert!(err.contains(way_out), "{err}");
    }
}

#[test]
fn run_names_the_flag_that_is_wrong() {
    let (code, _, err) = outcome(&["run", "--listen", "99999", "--backend", "127.0.0.1:80"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("evenkeel: ") && err.contains("99999"), "{err}");
}

#[test]
fn demo_says_what_to_do_about_a_taken_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let (code, out, err) = outcome(&["demo", "--listen", &address]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with(&format!("evenkeel: cannot listen on {address}: ")), "{err}");
    assert!(err.contains("evenkeel demo --listen 127.0.0.1:8080"), "{err}");
}

/// Which backend answers a request of a connection of its own.
fn who(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("an open socket");
    stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
    json["backend"].as_str().expect("a name").to_owned()
}

#[test]
fn demo_takes_its_backends_strictly_in_turn() {
    let demo = Running::start(&["demo", "--listen", "127.0.0.1:0"]);
    let address = loop {
        if let Some((_, url)) = demo.line().split_once("http://") {
            break url.split(' ').next().expect("split gives one at least").to_owned();
        }
    };
    demo.log_line("ready");
    let mut names: Vec<String> = (0..9).map(|_| who(&address)).collect();
    let (first, rest) = names.split_at(3);
    assert_eq!(rest, [first, first].concat(), "not in turn");
    names.truncate(3);
    names.sort();
    assert_eq!(names, ["alpha", "beta", "gamma"]);
    assert_eq!(demo.stop(Signal::SIGINT), Some(0));
}

/// Scripts that are written for what comes shall not fail, and shall not be deceived.
#[test]
fn admin_is_accepted_and_said_to_do_nothing() {
    let demo = Running::start(&["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:9901"]);
    let said = demo.log_line("--admin");
    assert!(said.contains("127.0.0.1:9901") && said.contains("no effect"), "{said}");
    demo.log_line("ready");
    assert_eq!(demo.stop(Signal::SIGINT), Some(0));
}

#[test]
fn the_log_is_json_when_asked_for() {
    let demo = Running::start(&["demo", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&demo.log_line("ready")).expect("JSON");
    assert_eq!(json["level"], "info");
    assert!(json["target"].is_string() && json["msg"].is_string(), "{json}");
    let time = json["ts"].as_str().expect("a time");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
}

#[test]
fn run_names_a_log_file_that_cannot_be_written() {
    let dir = directory("log");
    let log = dir.join("missing/evenkeel.log");
    let text = format!("{GOOD}log: {{output: {}}}\n", log.display());
    let (code, _, err) = outcome(&["run", "-c", &file(&dir, "log.yaml", &text)]);
    assert_eq!(code, 2);
    let expected = format!("evenkeel: log.output: cannot open the log file {}: ", log.display());
    assert!(err.starts_with(&expected), "{err}");
}

#[test]
fn testserver_says_where_it_listens_serves_and_ends_on_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Running::start(&["testserver", "http", "--name", "alpha"]);
        let line = server.line();
        let address = line.strip_prefix("listening on ").expect("the promised line");
        assert_eq!(who(address), "alpha");
        assert_eq!(server.stop(signal), Some(0));
    }
}

#[test]
fn testserver_listens_on_every_address() {
    let free = ["--listen", "127.0.0.1:0"];
    let server = Running::start(&[&["testserver", "echo"][..], &free, &free].concat());
    for _ in 0..2 {
        let line = server.line();
        let address = line.strip_prefix("listening on ").expect("one line per address");
        TcpStream::connect(address).expect("it accepts");
    }
}

#[test]
fn testserver_names_a_taken_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let (code, _, err) = outcome(&["testserver", "echo", "--listen", &address]);
    assert_eq!(code, 2);
    let expected = format!("evenkeel: cannot listen on {address}: address already in use\n  give ");
    assert!(err.starts_with(&expected), "{err}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, out, err) = outcome(&["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        assert!(out.contains("testserver") && out.contains("zero-copy"), "{shell}");
    }
}

#[test]
fn manual_pages_are_written() {
    let dir = directory("man").join("made/by/us");
    let (code, _, err) = outcome(&["man", dir.to_str().expect("UTF-8")]);
    assert_eq!((code, err.as_str()), (0, ""));
    let page = std::fs::read_to_string(dir.join("evenkeel-run.1")).expect("a page per command");
    assert!(page.contains(".TH evenkeel"), "{page}");
    let blocked = file(&directory("man-blocked"), "file", "");
    let (code, _, err) = outcome(&["man", &blocked]);
    assert_eq!(code, 1);
    assert!(err.starts_with("evenkeel: cannot write manual pages into "), "{err}");
}

#[test]
fn colours_follow_the_flag_then_no_color_then_the_terminal() {
    // A pipe is no terminal.
    assert!(!outcome(&["rnu"]).2.contains('\x1b'));
    assert!(!outcome(&["--help"]).1.contains('\x1b'));
    assert!(outcome(&["rnu", "--color", "always"]).2.contains('\x1b'));
    assert!(outcome(&["rnu", "--color=always"]).2.contains('\x1b'));
    assert!(outcome(&["--color=always", "--help"]).1.contains('\x1b'));
    let both = outcome_of(evenkeel(&["rnu", "--color=always"]).env("NO_COLOR", "1"));
    assert!(both.2.contains('\x1b'), "what is typed is meant");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = evenkeel(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("it was piped").read_to_string(&mut err).expect("UTF-8");
    assert_eq!((child.wait().expect("it ends").code(), err.as_str()), (Some(0), ""));
}
