//! The command line: what can be typed, and what it is worth as plain values.
//!
//! Knows: clap (nobody else does, `main` aside). Does not know: what a command does.
//!
//! One screen per `--help` is the rule, so every option has one line, which names its default.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::Direction;
use crate::config::{self, Access, LogFormat, LogLevel, PollerKind, Workers, ZeroCopy};
use crate::observe::color::{Paint, When};

/// A layer 4 TCP load balancer.
#[derive(Debug, Parser)]
#[command(
    name = "evenkeel",
    version,
    about = "A layer 4 TCP load balancer: one event loop per core, zero-copy forwarding.",
    after_help = "Start here: evenkeel demo\nNO_COLOR is heeded.",
    arg_required_else_help = true,
    max_term_width = 80
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Everywhere (stronger than the file)")]
pub struct Global {
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = words(LEVELS))]
    #[arg(hide_possible_values = true)]
    pub log_level: Option<LogLevel>,
    /// text or json [default: text]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = words(FORMATS))]
    #[arg(hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
    /// auto, always or never [default: auto]
    #[arg(long, global = true, value_name = "WHEN", value_parser = words(COLORS))]
    #[arg(hide_possible_values = true)]
    pub color: Option<When>,
}

/// The commands of this version.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Balance connections, as a file or a few options say
    Run(Run),
    /// Try it: three built-in backends and the balancer in front of them
    Demo(Demo),
    /// Validate a configuration and print what it comes to
    Check(Check),
    /// Scripted TCP peers to test against
    Testserver(Testserver),
    /// Put load on a target and measure what it does with it
    Bench(Bench),
    /// Print the version, and what this machine allows
    Version(Version),
    /// Print a completion script: bash, elvish, fish, powershell or zsh
    Completions {
        /// For which shell
        #[arg(value_name = "SHELL", hide_possible_values = true)]
        shell: Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// Where to; made if it is missing
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// `evenkeel run`.
#[derive(Debug, Args)]
#[command(after_help = "Without a file: evenkeel run --listen 8080 --backend 10.0.0.1:80,weight=2")]
pub struct Run {
    /// [default: evenkeel.yaml, here or in /etc/evenkeel]
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["listen", "backend", "algorithm"])]
    pub config: Option<PathBuf>,
    /// Accept here; repeatable [default ADDR: 0.0.0.0]
    #[arg(long, value_name = "[ADDR:]PORT", requires = "backend")]
    pub listen: Vec<String>,
    /// Append ,weight=N; repeatable [default weight: 1]
    #[arg(long, value_name = "ADDR:PORT", requires = "listen")]
    pub backend: Vec<String>,
    /// Or least_connections [default: round_robin]
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub algorithm: Option<String>,
    /// Not in this version: no effect [default: off]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub admin: Option<SocketAddr>,
    /// What overrides the file, or completes the options above.
    #[command(flatten)]
    pub tuning: Tuning,
}

/// Settings that the command line may override.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Stronger than the file")]
pub struct Tuning {
    /// Threads, or auto: one per allowed core [default: auto]
    #[arg(long, value_name = "N", value_parser = workers)]
    pub workers: Option<Workers>,
    /// auto, epoll, kqueue or io_uring [default: auto]
    #[arg(long, value_name = "NAME", value_parser = words(POLLERS), hide_possible_values = true)]
    pub poller: Option<PollerKind>,
    /// auto, always or never [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = words(ZERO_COPY), hide_possible_values = true)]
    pub zero_copy: Option<ZeroCopy>,
    /// Sessions to log: all, errors or off [default: all]
    #[arg(long, value_name = "WHICH", value_parser = words(ACCESS), hide_possible_values = true)]
    pub access: Option<Access>,
}

/// `evenkeel demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Port 0 is a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Not in this version: no effect [default: off]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub admin: Option<SocketAddr>,
}

/// `evenkeel check`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0: valid, with or without warnings; 2: not valid.")]
pub struct Check {
    /// [default: evenkeel.yaml, here or in /etc/evenkeel]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print what changes since this file [default: off]
    #[arg(long, value_name = "OLD_FILE", conflicts_with = "json")]
    pub diff: Option<PathBuf>,
    /// Print the JSON Schema, check nothing [default: off]
    #[arg(long, conflicts_with_all = ["config", "diff", "json"])]
    pub schema: bool,
    /// Print plan, warnings, errors as JSON [default: off]
    #[arg(long)]
    pub json: bool,
}

/// `evenkeel testserver`.
#[derive(Debug, Args)]
#[command(after_help = "Prints `listening on ADDR:PORT` per address, then serves until Ctrl-C.")]
pub struct Testserver {
    /// Repeatable [default: 127.0.0.1:0, a free port]
    #[arg(long, global = true, value_name = "[ADDR:]PORT", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// Which script.
    #[command(subcommand)]
    pub script: Script,
}

/// The scripts of `evenkeel testserver`.
#[derive(Debug, Subcommand)]
pub enum Script {
    /// Send back what comes
    Echo,
    /// Say who answers; also /bytes/N, /slow/MS and /status/CODE
    Http {
        /// Its name [default: the address it listens on]
        #[arg(long)]
        name: Option<String>,
    },
    /// Read and discard
    Sink,
    /// Send, then end
    Source {
        /// 5000, 64MiB … [default: until the client closes]
        #[arg(long, value_name = "SIZE", value_parser = size)]
        bytes: Option<u64>,
    },
    /// Send one byte, take one byte, and wait
    Slow {
        /// Between bytes, such as 50ms
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = span)]
        interval: Duration,
    },
    /// Accept, then reset at once
    Reset,
    /// Accept, then never read, write or close
    Hang,
    /// Echo on N connections per address, then refuse
    RefuseAfter {
        /// How many
        #[arg(value_name = "N")]
        connections: u64,
    },
}

/// `evenkeel bench`.
#[derive(Debug, Args)]
#[command(override_usage = "evenkeel bench --target ADDR:PORT [OPTIONS]")]
#[command(after_help = "\
connect: open, await the peer's end, close. request: ask on kept connections.
stream: move bytes. idle: open, then hold. With --rate, latency counts from
when an operation was due, so a stall is seen. Ctrl-C ends it with the report.")]
pub struct Bench {
    /// Required; no names [default: none]
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = address)]
    pub target: SocketAddr,
    /// connect, request, stream, idle [default: request]
    #[arg(long, value_name = "MODE", value_parser = words(LOADS), hide_possible_values = true)]
    pub mode: Option<Load>,
    /// At once [default: 16]
    #[arg(long, value_name = "N", value_parser = connections)]
    pub connections: Option<u32>,
    /// To measure [default: 10s]
    #[arg(long, value_name = "T", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Per second, by a schedule [default: no schedule]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,
    /// Ask for an echo of SIZE [default: 64B in request]
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "http")]
    pub size: Option<u64>,
    /// Ask with GET PATH instead [default: off]
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub http: Option<String>,
    /// Of a stream: up, down or both [default: down]
    #[arg(long, value_name = "WAY", value_parser = words(WAYS), hide_possible_values = true)]
    pub direction: Option<Direction>,
    /// For connecting, an answer, a byte [default: 5s]
    #[arg(long, value_name = "T", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// That make the load [default: 1]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<u32>,
    /// Report as JSON [default: off]
    #[arg(long)]
    pub json: bool,
}

/// What `evenkeel bench` does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Opens and ends them.
    Connect,
    /// Asks on them.
    Request,
    /// Moves bytes.
    Stream,
    /// Holds them.
    Idle,
}

/// `evenkeel version`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Version {
    /// Also what this machine allows [default: off]
    #[arg(long)]
    pub verbose: bool,
    /// As JSON [default: off]
    #[arg(long)]
    pub json: bool,
}

/// What to do instead of a command: say something and leave.
#[derive(Debug)]
pub struct Answer {
    /// Help or a version was asked for: it goes to stdout and is a success.
    pub wanted: bool,
    /// Ready to print.
    pub text: String,
}

impl Cli {
    /// Reads a command line, program name first.
    ///
    /// # Errors
    /// With the text of `--help` or `--version`, or with what is wrong and a hint.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Answer> {
        let args: Vec<OsString> = args.into_iter().collect();
        let color = color_of(&args);
        Cli::command()
            .try_get_matches_from(&args)
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .map_err(|error| answer(&error, &args, color))
    }
}

fn answer(error: &clap::Error, args: &[OsString], color: When) -> Answer {
    use ErrorKind::{DisplayHelp, DisplayVersion};
    let wanted = matches!(error.kind(), DisplayHelp | DisplayVersion);
    let colored =
        if wanted { color.applies_to(&io::stdout()) } else { color.applies_to(&io::stderr()) };
    let rendered = error.render();
    let text = if wanted || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        if colored { rendered.ansi().to_string() } else { rendered.to_string() }
    } else {
        // Every message of ours starts alike, whoever found the mistake.
        let plain = rendered.to_string();
        let what = plain.strip_prefix("error: ").unwrap_or(&plain);
        // clap's idea of similar misses swapped letters, so without a tip all of them are shown.
        let all = match error.kind() {
            ErrorKind::InvalidSubcommand if !what.contains("tip:") => commands(args),
            _ => String::new(),
        };
        format!("{} {what}{all}", Paint::new(colored).red("evenkeel:"))
    };
    Answer { wanted, text: format!("{}\n", text.trim_end()) }
}

/// The commands at the place where the command line went wrong.
fn commands(args: &[OsString]) -> String {
    let root = Cli::command();
    let deepest = args.iter().fold(&root, |at, arg| at.find_subcommand(arg).unwrap_or(at));
    let names: Vec<&str> = deepest.get_subcommands().map(clap::Command::get_name).collect();
    format!("Here it is one of: {}.\n", names.join(", "))
}

/// `--color`, looked up before the rest is parsed: the message about a mistake should heed it too.
fn color_of(args: &[OsString]) -> When {
    let word = args.iter().enumerate().find_map(|(index, arg)| match arg.to_str()? {
        "--color" => args.get(index + 1)?.to_str(),
        arg => arg.strip_prefix("--color="),
    });
    COLORS.iter().find(|(name, _)| Some(*name) == word).map_or(When::Auto, |(_, when)| *when)
}

/// The completion script for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "evenkeel", &mut script);
    script
}

/// Writes one manual page per command.
///
/// # Errors
/// When the directory cannot be made or a file not written.
pub fn manual(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}

/// A parser for one of a few words. clap suggests the nearest when it is none of them.
fn words<T>(table: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(table.iter().map(|(word, _)| *word)).map(move |word| {
        let found = table.iter().find(|(known, _)| *known == word);
        found.expect("clap lets only words of the table through").1
    })
}

fn workers(text: &str) -> Result<Workers, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Workers::Auto),
        Ok(count @ 1..=1024) => Ok(Workers::Count(count)),
        _ => Err("give a number from 1 to 1024, or auto".into()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse()
        .map_err(|_| "give an address and a port, such as 127.0.0.1:8080 or [::1]:80".into())
}

fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = unit(text);
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    let bytes = number.and_then(|number: u64| number.checked_mul(factor));
    bytes.filter(|_| factor > 0).ok_or("give a size, such as 5000, 64KiB, 10MiB or 1GiB".into())
}

fn connections(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=CONNECTIONS_MAX).contains(number));
    number.ok_or(format!("give a number from 1 to {CONNECTIONS_MAX}"))
}

fn threads(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=1024).contains(number));
    number.ok_or("give a number from 1 to 1024".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    match config::parse_duration(text)? {
        Duration::ZERO => Err("give more than nothing, such as 500ms, 10s or 5m".into()),
        duration => Ok(duration),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse().ok();
    number
        .filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate))
        .ok_or("give how many per second, from 0.001 to 100000000, such as 1000".into())
}

fn path(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.starts_with('/') && is_plain {
        Ok(text.to_owned())
    } else {
        Err("give a path that starts with a slash and has no spaces, such as /index.html".into())
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = unit(text);
    match (number, unit) {
        (Some(ms), "ms") => Ok(Duration::from_millis(ms)),
        (Some(s), "s") => Ok(Duration::from_secs(s)),
        _ => Err("give a time with its unit, such as 50ms or 2s".into()),
    }
}

fn unit(text: &str) -> (Option<u64>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number.parse().ok(), unit)
}

/// More than any machine has descriptors for; a limit so that a slip of the hand has an answer.
const CONNECTIONS_MAX: u32 = 10_000_000;
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 1e8;
const LOADS: &[(&str, Load)] = &[
    ("connect", Load::Connect),
    ("request", Load::Request),
    ("stream", Load::Stream),
    ("idle", Load::Idle),
];
const WAYS: &[(&str, Direction)] =
    &[("up", Direction::Up), ("down", Direction::Down), ("both", Direction::Both)];
const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
const COLORS: &[(&str, When)] =
    &[("auto", When::Auto), ("always", When::Always), ("never", When::Never)];
const POLLERS: &[(&str, PollerKind)] = &[
    ("auto", PollerKind::Auto),
    ("epoll", PollerKind::Epoll),
    ("kqueue", PollerKind::Kqueue),
    ("io_uring", PollerKind::IoUring),
];
const ZERO_COPY: &[(&str, ZeroCopy)] =
    &[("auto", ZeroCopy::Auto), ("always", ZeroCopy::Always), ("never", ZeroCopy::Never)];
const ACCESS: &[(&str, Access)] =
    &[("all", Access::All), ("errors", Access::Errors), ("off", Access::Off)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault_with_the_definitions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_times_want_units_we_know() {
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("7"), Ok(7));
        assert!(size("7kb").is_err() && size("").is_err() && size("99999999999GiB").is_err());
        assert_eq!(span("50ms"), Ok(Duration::from_millis(50)));
        assert!(span("50").is_err() && span("ms").is_err());
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(rate("1000"), Ok(1000.0));
        assert_eq!(rate("0.5/s"), Ok(0.5));
        for text in ["0", "-1", "nan", "inf", "1e99", "fast", ""] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn workers_are_a_number_or_auto() {
        assert_eq!(workers("auto"), Ok(Workers::Auto));
        assert_eq!(workers("2"), Ok(Workers::Count(2)));
        assert!(workers("0").is_err() && workers("-1").is_err() && workers("1025").is_err());
    }
}
