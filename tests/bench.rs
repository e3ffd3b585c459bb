//! `evenkeel bench`, the real binary, against scripted peers that count for themselves.
//!
//! Nothing here measures time: a busy machine may take as long as it likes. What is checked is that
//! nothing is lost, that both sides agree, and what lower bounds on latencies follow from scripts.

mod support;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use evenkeel::testserver::{Mode, TestServer};
use support::clock::{SOON, until};
use support::folder::Folder;
use support::ports::free_port;

/// No run of these tests takes longer, unless something is broken.
const DEADLINE: Duration = Duration::from_secs(60);

fn start(mode: Mode) -> (TestServer, String) {
    let server = TestServer::start(mode, None, &[([127, 0, 0, 1], 0).into()]);
    let server = server.expect("a free loopback port");
    let address = server.address().expect("it listens").to_string();
    (server, address)
}

/// How a run ended.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("{error}\n{}\n{}", self.stdout, self.stderr);
        })
    }
}

fn bench(target: &str, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(["bench", "--target", target]).args(args.split_whitespace());
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// A run under way; it ends with this value.
struct Running {
    child: Child,
    folder: Folder,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let folder = Folder::new();
        // Files, not pipes: nobody has to read while it runs.
        let file = |name| File::create(folder.file(name)).expect("a writable directory");
        let command = command.stdout(file("out")).stderr(file("err"));
        Running { child: command.spawn().expect("the binary starts"), folder }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids fit");
        kill(Pid::from_raw(id), signal).expect("it is ours and not waited for yet");
    }

    fn end(mut self) -> Outcome {
        let ended = || self.child.try_wait().expect("it is ours");
        let status = until("the end of a run", DEADLINE, ended);
        let read = |name| std::fs::read_to_string(self.folder.file(name)).expect("UTF-8");
        let code = status.code().expect("no signal");
        Outcome { code, stdout: read("out"), stderr: read("err") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn outcome(command: &mut Command) -> Outcome {
    Running::start(command).end()
}

/// A run that should succeed, its report as JSON.
fn report(target: &str, args: &str) -> Value {
    let outcome = outcome(bench(target, args).arg("--json"));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{args}");
    outcome.json()
}

/// A run in which nothing succeeds.
fn failure(target: &str, args: &str) -> Value {
    let outcome = outcome(bench(target, args).arg("--json"));
    assert_eq!(outcome.code, 1, "{args}: {}", outcome.stdout);
    assert!(outcome.stderr.starts_with(&format!("evenkeel: {target}: ")), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with(" succeeded\n"), "{}", outcome.stderr);
    outcome.json()
}

/// A number of the report, by its path.
fn number(report: &Value, path: &str) -> u64 {
    let value = report.pointer(path).unwrap_or_else(|| panic!("no {path} in {report:#}"));
    value.as_u64().unwrap_or_else(|| panic!("{path} is {value}"))
}

fn real(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path}: {report:#}"))
}

/// Successes and failures of operations, where nothing but success is expected.
fn all_ok(report: &Value) -> u64 {
    assert_eq!(number(report, "/operations/failed"), 0, "{report:#}");
    number(report, "/operations/ok")
}

#[test]
fn echoes_are_counted_to_the_byte() {
    let (server, target) = start(Mode::Echo);
    let report = report(&target, "--connections 5 --duration 300ms --size 1000 --timeout 60s");
    let ok = all_ok(&report);
    assert!(ok >= 5, "each connection asks once at least: {ok}");
    assert_eq!(number(&report, "/bytes/sent"), 1000 * ok);
    assert_eq!(number(&report, "/bytes/received"), 1000 * ok);
    assert_eq!(number(&report, "/connects/ok"), 5);
    assert_eq!(server.accepted(), 5);
    for kind in ["service", "response"] {
        assert_eq!(number(&report, &format!("/latency_us/{kind}/count")), ok);
    }
    assert_eq!(number(&report, "/latency_us/connect/count"), 5);
    assert_eq!(report["mode"], "request");
    assert_eq!(report["measured_s"], 0.3);
}

#[test]
fn an_echo_larger_than_any_buffer_does_not_lock_up() {
    let (_server, target) = start(Mode::Echo);
    let report = report(&target, "--connections 2 --duration 100ms --size 20MiB --timeout 60s");
    assert_eq!(number(&report, "/bytes/received"), (20 << 20) * all_ok(&report));
}

#[test]
fn requests_are_those_that_the_server_counted() {
    let (server, target) = start(Mode::Http);
    let args = "--connections 7 --threads 2 --duration 300ms --http /bytes/3000 --timeout 60s";
    let report = report(&target, args);
    assert_eq!(all_ok(&report), server.requests());
    assert_eq!(number(&report, "/connects/ok"), 7);
    assert!(number(&report, "/bytes/received") > 3000 * server.requests());
    assert!(real(&report, "/operations/per_second") > 0.0);
}

#[test]
fn connections_are_those_that_the_server_counted() {
    for (mode, ask) in [(Mode::Sink, ""), (Mode::Echo, "--size 10"), (Mode::Http, "--http /")] {
        let (server, target) = start(mode);
        let args = format!("--mode connect --connections 4 --duration 200ms --timeout 60s {ask}");
        let report = report(&target, &args);
        assert_eq!(all_ok(&report), server.accepted(), "{mode:?}");
        assert_eq!(number(&report, "/connects/ok"), server.accepted());
        assert!(server.accepted() > 4, "one after the other: {}", server.accepted());
    }
}

/// What is due is done: neither a slow machine nor a fast one changes how much that is.
#[test]
fn an_open_loop_does_exactly_what_its_rate_says() {
    for (threads, mode, ask) in [(1, "request", "--http /"), (3, "connect", "--http /")] {
        let (server, target) = start(Mode::Http);
        let args = format!(
            "--mode {mode} {ask} --threads {threads} --connections 6 \
             --rate 401 --duration 500ms --timeout 60s"
        );
        let report = report(&target, &args);
        assert_eq!(all_ok(&report), 201, "{mode}: the first is due at once, the last at 498.8 ms");
        assert_eq!(if mode == "request" { server.requests() } else { server.accepted() }, 201);
    }
}

/// One connection, ten answers a second, twenty asked for: each takes as long as the server takes,
/// and the last one waits for all that were before it.
#[test]
fn waiting_shows_in_the_response_time_and_not_in_the_service_time() {
    let (server, target) = start(Mode::Http);
    let report =
        report(&target, "--http /slow/100 --connections 1 --rate 20 --duration 1s --timeout 60s");
    assert_eq!((all_ok(&report), server.requests()), (20, 20));
    // The last is due at 950 ms, and cannot be over before 20 times 100 ms.
    assert!(real(&report, "/latency_us/response/max") > 1_040_000.0, "{report:#}");
    assert!(real(&report, "/latency_us/service/p50") > 99_000.0, "{report:#}");
    let of = |kind: &str| real(&report, &format!("/latency_us/{kind}/mean"));
    assert!(of("response") > of("service") + 400_000.0, "{report:#}");
}

#[test]
fn what_is_due_and_cannot_be_done_is_counted() {
    let (_server, target) = start(Mode::Http);
    let report = report(
        &target,
        "--http /slow/200 --connections 1 --rate 50 --duration 500ms --timeout 700ms",
    );
    let (ok, failed) = (number(&report, "/operations/ok"), number(&report, "/operations/failed"));
    assert_eq!(ok + failed, 25, "{report:#}");
    assert!(number(&report, "/operations/failures/not_started") >= 25 - 7, "{report:#}");
}

#[test]
fn streams_go_down_up_and_both_ways() {
    let args = |direction: &str| {
        format!(
            "--mode stream --direction {direction} --connections 3 --duration 300ms --timeout 60s"
        )
    };
    let (_source, target) = start(Mode::Source { bytes: None });
    let down = report(&target, &args("down"));
    assert_eq!((all_ok(&down), number(&down, "/bytes/sent")), (3, 0));
    assert!(number(&down, "/bytes/received") > 0);
    let (_sink, target) = start(Mode::Sink);
    let up = report(&target, &args("up"));
    assert_eq!((all_ok(&up), number(&up, "/bytes/received")), (3, 0));
    assert!(number(&up, "/bytes/sent") > 0);
    let (_echo, target) = start(Mode::Echo);
    let both = report(&target, &args("both"));
    assert_eq!(all_ok(&both), 3);
    assert!(number(&both, "/bytes/sent") > 0);
    assert_eq!(number(&both, "/bytes/sent"), number(&both, "/bytes/received"));
    for report in [&down, &up, &both] {
        let of = |end: &str| real(report, &format!("/bytes/stream_gib_per_second/{end}"));
        assert!(of("min") > 0.0 && of("min") <= of("max"), "{report:#}");
    }
}

#[test]
fn a_download_that_is_complete_is_followed_by_another() {
    let (server, target) = start(Mode::Source { bytes: Some(100_000) });
    let report = report(&target, "--mode stream --connections 2 --duration 300ms --timeout 60s");
    let whole = number(&report, "/latency_us/service/count");
    assert!(whole > 2, "{report:#}");
    assert!(number(&report, "/bytes/received") >= 100_000 * whole);
    assert!(server.accepted() > whole - 2);
    // The end may come between the server's half of a connection and ours.
    let cut = number(&report, "/connects/failures/unfinished");
    let connects = number(&report, "/connects/ok");
    assert!((connects..=connects + cut).contains(&server.accepted()), "{report:#}");
}

#[test]
fn idle_connections_are_held_and_then_closed() {
    let (server, target) = start(Mode::Echo);
    let args = "--mode idle --connections 300 --size 5 --duration 2s --threads 2 --timeout 60s";
    let run = Running::start(bench(&target, args).arg("--json"));
    until("all of them at once", SOON, || (server.open() == 300).then_some(()));
    let report = run.end().json();
    assert_eq!(all_ok(&report), 300);
    assert_eq!(number(&report, "/bytes/received"), 1500);
    assert_eq!(number(&report, "/latency_us/service/count"), 300);
    until("their end", SOON, || (server.open() == 0).then_some(()));
    assert_eq!(server.accepted(), 300);
}

#[test]
fn idle_connections_that_end_did_not_survive() {
    let (server, target) = start(Mode::Hang);
    let args = "--mode idle --connections 20 --duration 1h --json";
    let run = Running::start(&mut bench(&target, args));
    until("all of them", SOON, || (server.open() == 20).then_some(()));
    server.stop();
    // Their ends have arrived before this does, whether or not it has been told of them.
    run.signal(Signal::SIGINT);
    let outcome = run.end();
    assert_eq!(outcome.code, 1, "{}", outcome.stdout);
    let report = outcome.json();
    let of = |kind: &str| number(&report, &format!("/operations/failures/{kind}"));
    assert_eq!(of("closed") + of("unfinished"), 20, "{report:#}");
    assert_eq!(of("unfinished"), 20 - number(&report, "/connects/ok"), "{report:#}");
}

/// The end may come with the very event that tells of the connection.
#[test]
fn connections_that_end_at_once_were_never_idle() {
    let (_server, target) = start(Mode::Source { bytes: Some(0) });
    let report = failure(&target, "--mode idle --connections 50 --duration 500ms");
    assert_eq!(number(&report, "/connects/ok"), 50);
    assert_eq!(number(&report, "/operations/failures/closed"), 50, "{report:#}");
}

#[test]
fn a_stop_while_opening_leaves_nothing_uncounted() {
    let (server, target) = start(Mode::Echo);
    let args = "--mode idle --connections 1000 --rate 50 --duration 1h --json";
    let run = Running::start(&mut bench(&target, args));
    until("some of them", SOON, || (server.open() >= 10).then_some(()));
    run.signal(Signal::SIGTERM);
    let outcome = run.end();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let report = outcome.json();
    let (ok, not_started) =
        (number(&report, "/operations/ok"), number(&report, "/operations/failures/not_started"));
    assert!(ok >= 10 && not_started > 0, "{report:#}");
    assert_eq!(ok + number(&report, "/operations/failed"), 1000, "{report:#}");
    assert_eq!(report["measured_s"], 0.0);
}

#[test]
fn ctrl_c_ends_it_with_the_report() {
    let (server, target) = start(Mode::Http);
    for args in ["--http / --connections 3", "--http / --connections 3 --rate 100"] {
        let before = server.requests();
        let run = Running::start(bench(&target, args).args(["--duration", "1h", "--json"]));
        until("some requests", SOON, || (server.requests() > before + 20).then_some(()));
        run.signal(Signal::SIGINT);
        let outcome = run.end();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        let report = outcome.json();
        assert_eq!(report["interrupted"], true);
        assert!(real(&report, "/measured_s") > 0.0 && real(&report, "/measured_s") < 3600.0);
        // What was under way is not waited for. The server may have answered it all the same.
        let (ok, cut) =
            (number(&report, "/operations/ok"), number(&report, "/operations/failures/unfinished"));
        let answered = server.requests() - before;
        assert!((ok..=ok + cut).contains(&answered), "{answered} of {ok} + {cut}");
        assert!(cut <= 3, "{report:#}");
    }
}

#[test]
fn a_target_that_refuses_is_counted_in_every_mode() {
    let target = format!("127.0.0.1:{}", free_port());
    for mode in ["connect", "request", "stream", "idle"] {
        let report = failure(&target, &format!("--mode {mode} --connections 3 --duration 100ms"));
        let refused = number(&report, "/connects/failures/refused");
        assert!(refused >= 3, "{report:#}");
        // The end may come between a question and the kernel's answer.
        let failed = refused + number(&report, "/connects/failures/unfinished");
        assert_eq!(number(&report, "/connects/failed"), failed, "{report:#}");
        assert_eq!(number(&report, "/connects/ok"), 0);
        // A request has no connection to fail on; in the other modes it is the operation.
        let operations = if mode == "request" { 0 } else { failed };
        assert_eq!(number(&report, "/operations/failed"), operations, "{report:#}");
    }
}

#[test]
fn requests_that_nobody_takes_are_counted_by_the_schedule() {
    let target = format!("127.0.0.1:{}", free_port());
    let args = "--rate 100 --connections 3 --duration 200ms --timeout 300ms";
    let report = failure(&target, args);
    assert_eq!(number(&report, "/operations/failures/not_started"), 20, "{report:#}");
}

#[test]
fn a_target_that_hangs_is_counted() {
    let (server, target) = start(Mode::Hang);
    for (mode, ask) in
        [("connect", ""), ("connect", "--size 9"), ("request", ""), ("idle", "--size 9")]
    {
        let before = server.accepted();
        let args = format!("--mode {mode} {ask} --connections 4 --duration 100ms --timeout 200ms");
        let report = failure(&target, &args);
        let timeouts = number(&report, "/operations/failures/timeout");
        assert!(timeouts >= 4, "{mode} {ask}: {report:#}");
        assert_eq!(number(&report, "/connects/ok"), server.accepted() - before, "{report:#}");
    }
    // It takes what the kernel's buffers hold, and then nothing.
    let args = "--mode stream --direction up --connections 4 --duration 100ms --timeout 200ms";
    let report = failure(&target, args);
    assert_eq!(number(&report, "/operations/failures/timeout"), 4, "{report:#}");
}

#[test]
fn a_target_that_resets_is_counted() {
    let (_server, target) = start(Mode::Reset);
    for mode in ["connect", "request", "stream", "idle"] {
        let ask = if mode == "idle" { "--size 9" } else { "" };
        let report =
            failure(&target, &format!("--mode {mode} {ask} --connections 4 --duration 100ms"));
        let of = |what: &str| number(&report, &format!("/{what}/failures/reset"));
        assert!(of("operations") + of("connects") + of("lost") >= 4, "{mode}: {report:#}");
    }
}

/// The queue of its listener is full, so the kernel drops the SYNs.
#[test]
#[cfg(target_os = "linux")]
fn a_target_that_does_not_answer_syns_is_counted() {
    use socket2::{Domain, Socket, Type};

    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    deaf.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    deaf.listen(0).expect("a queue for one");
    let target = deaf.local_addr().expect("it is bound").as_socket().expect("IPv4").to_string();
    let args = "--mode idle --connections 600 --duration 50ms --timeout 300ms --json";
    let report = outcome(&mut bench(&target, args)).json();
    let timeouts = number(&report, "/connects/failures/connect_timeout");
    assert!(timeouts >= 590, "{report:#}");
    assert_eq!(number(&report, "/connects/ok") + timeouts, 600, "{report:#}");
    let (ok, failed) = (number(&report, "/operations/ok"), number(&report, "/operations/failed"));
    assert_eq!(ok + failed, 600, "{report:#}");
}

#[test]
fn a_target_that_takes_only_some_serves_those() {
    let (server, target) = start(Mode::RefuseAfter { connections: 2 });
    let report = report(&target, "--connections 5 --duration 200ms --timeout 60s");
    assert!(number(&report, "/operations/ok") > 0);
    assert_eq!(server.accepted(), 2);
    assert!(number(&report, "/connects/failed") + number(&report, "/operations/failed") > 0);
}

#[test]
fn a_bad_status_is_a_failure_on_a_good_connection() {
    let (server, target) = start(Mode::Http);
    let report = failure(&target, "--http /status/503 --connections 2 --duration 100ms");
    assert_eq!(number(&report, "/operations/failures/bad_status"), server.requests());
    assert_eq!(server.accepted(), 2, "no connection was given up for it");
}

#[test]
fn an_answer_that_is_none_is_a_failure() {
    // An echo server sends the request back, and that is no response.
    let (_echo, target) = start(Mode::Echo);
    let report = failure(&target, "--http / --connections 2 --duration 100ms");
    assert!(number(&report, "/operations/failures/bad_answer") > 0);
    // And an HTTP server answers bytes with something else than those.
    let (_http, target) = start(Mode::Http);
    let report = failure(&target, "--size 100KiB --connections 2 --duration 100ms --timeout 300ms");
    assert!(number(&report, "/operations/failed") > 0);
}

#[test]
fn the_table_says_what_the_json_says() {
    let (server, target) = start(Mode::Http);
    let args = "--http / --connections 2 --rate 50 --duration 200ms --timeout 60s";
    let outcome = outcome(&mut bench(&target, args));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let words = outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        &format!("request GET / on {target}: 2 connections, 1 thread, open loop at 50/s, 0.20 s"),
        "requests 10 ok 0 failed",
        "ms p50 p90 p99 p99.9 max mean",
        "service (from sent)",
        "response (from due)",
    ] {
        assert!(words.contains(part), "{part} is missing:\n{}", outcome.stdout);
    }
    assert_eq!(server.requests(), 10);
}

#[test]
fn mistakes_are_named_with_a_way_out() {
    for (args, what, way_out) in [
        ("--mode conect", "invalid value 'conect'", "'connect'"),
        ("--connections 0", "'0' for '--connections <N>'", "1 to 10000000"),
        ("--connections many", "'many' for '--connections <N>'", "1 to 10000000"),
        ("--duration 10", "'10' for '--duration <T>'", "write 10s or 10ms"),
        ("--duration 0s", "'0s' for '--duration <T>'", "10s"),
        ("--rate 0", "'0' for '--rate <R>'", "per second"),
        ("--rate fast", "'fast' for '--rate <R>'", "such as 1000"),
        ("--size 5kb", "'5kb' for '--size <SIZE>'", "64KiB"),
        ("--size 0", "--size 0:", "at least 1"),
        ("--size 1 --http /", "cannot be used with", "--http"),
        ("--http index.html", "'index.html' for '--http <PATH>'", "/index.html"),
        ("--direction up", "--direction up: only a stream", "--mode stream"),
        ("--mode stream --rate 5", "--rate 5: a stream", "leave it out"),
        ("--mode stream --size 5", "--size 5: a stream", "leave it out"),
        ("--mode stream --http /", "--http /: a stream", "leave it out"),
        ("--threads 5 --connections 4", "--threads 5: more than --connections 4", "each"),
        ("--threads 0", "'0' for '--threads <N>'", "1 to 1024"),
        ("--target localhost:80", "'localhost:80'", "127.0.0.1:8080"),
    ] {
        let mut command = bench("127.0.0.1:1", args);
        if args.starts_with("--target") {
            command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
            command.arg("bench").args(args.split(' '));
        }
        let Outcome { code, stdout, stderr } = outcome(&mut command);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args}: {stderr}");
        assert!(stderr.starts_with("evenkeel: "), "{stderr}");
        assert!(stderr.contains(what) && stderr.contains(way_out), "{args}: {stderr}");
    }
    let mut without = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let Outcome { code, stderr, .. } = outcome(without.arg("bench"));
    assert!(code == 2 && stderr.contains("--target"), "{stderr}");
}

#[test]
fn more_connections_than_descriptors_are_refused_with_numbers() {
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let limited = |connections: u32| {
        let line = format!(
            "ulimit -n 100 && exec {program} bench --target 127.0.0.1:{} --mode idle \
             --duration 10ms --connections {connections}",
            free_port()
        );
        outcome(Command::new("sh").args(["-c", &line]))
    };
    let Outcome { code, stderr, .. } = limited(500);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--connections 500: 80 are possible with 100 file desc"), "{stderr}");
    assert!(stderr.contains("ulimit -n 520"), "{stderr}");
    assert_eq!(limited(80).code, 1, "as many as are possible get as far as being refused");
}

/// Its progress is for people: a line on a terminal, without colours if they want none.
#[test]
#[cfg(target_os = "linux")]
fn progress_is_shown_on_a_terminal() {
    needs!("script");
    let (_server, target) = start(Mode::Echo);
    let program = env!("CARGO_BIN_EXE_evenkeel");
    let on_terminal = |options: &str| {
        let line = format!(
            "{program} bench --target {target} --connections 2 --duration 1s {options} > /dev/null"
        );
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
        outcome(command.stdin(Stdio::null()))
    };
    let Outcome { code, stdout, .. } = on_terminal("");
    assert_eq!(code, 0, "{stdout}");
    assert!(stdout.contains("\r\x1b[2m0 of 1 s: "), "{stdout:?}");
    let Outcome { stdout, .. } = on_terminal("--color never");
    assert!(stdout.contains("\r0 of 1 s: ") && stdout.contains(" requests"), "{stdout:?}");
    assert!(!stdout.contains('\x1b'), "{stdout:?}");
    assert!(stdout.ends_with('\r'), "the line is wiped: {stdout:?}");
}
