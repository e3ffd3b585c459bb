//! The `evenkeel` command.

use std::io::Write;
use std::process::ExitCode;

use evenkeel::cli::{Cli, Command, completions, manual};
use evenkeel::commands::{self, Failure, Launch};
use evenkeel::config::{Access, LogFormat, LogLevel, LogOutput, LogPlan};
use evenkeel::observe::color::When;
use evenkeel::observe::{logging, outlet};
use evenkeel::server;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(answer) if answer.wanted => return finish(commands::print(&answer.text), When::Auto),
        Err(answer) => {
            // Where stderr is closed there is nobody left to tell.
            let _ = std::io::stderr().write_all(answer.text.as_bytes());
            return ExitCode::from(2);
        }
    };
    finish(obey(&cli), cli.global.color.unwrap_or_default())
}

fn obey(cli: &Cli) -> Result<(), Failure> {
    let global = cli.global;
    let color = global.color.unwrap_or_default();
    if let Command::Run(_) | Command::Demo(_) = &cli.command {
        // Before the first thread: a signal that comes during the start waits for the server.
        server::block_signals();
    }
    match &cli.command {
        Command::Run(args) => serve(commands::run(args, global)?, color),
        Command::Demo(args) => serve(commands::demo(args, global)?, color),
        Command::Check(args) => commands::check(args, global),
        Command::Testserver(args) => {
            let log = LogPlan {
                level: global.log_level.unwrap_or(LogLevel::Info),
                format: global.log_format.unwrap_or(LogFormat::Text),
                access: Access::Off,
                output: LogOutput::Stderr,
            };
            start_log(&log, color)?;
            commands::testserver(args, global)
        }
        Command::Bench(args) => commands::bench(args, global),
        Command::Version(args) => commands::version(*args),
        Command::Completions { shell } => commands::print(completions(*shell)),
        Command::Man { dir } => commands::manual(dir, manual),
    }
}

fn serve(launch: Launch, color: When) -> Result<(), Failure> {
    start_log(&launch.plan.log, color)?;
    let greeting = launch.greeting;
    let greet = move || {
        // Where stdout is closed there is nobody to greet.
        let _ = commands::print(&greeting);
    };
    let served = server::run(launch.plan, greet);
    // Not earlier: sessions may still have been talking to them.
    drop(launch.backends);
    served.map_err(|fatal| Failure::with_code(fatal.exit_code(), fatal.to_string()))
}

fn start_log(plan: &LogPlan, color: When) -> Result<(), Failure> {
    logging::start(plan, color).map_err(|error| Failure::usage(format!("log.output: {error}")))
}

fn finish(done: Result<(), Failure>, color: When) -> ExitCode {
    outlet::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(color);
            ExitCode::from(failure.code)
        }
    }
}
