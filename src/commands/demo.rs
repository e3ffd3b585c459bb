//! `evenkeel demo`: three backends and a balancer, in one process, with something to try.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use super::{Failure, Launch, load};
use crate::cli::{Demo, Global};
use crate::config::{Plan, Workers};
use crate::observe::color::Paint;
use crate::testserver::{Mode, TestServer};

/// Starts the backends and plans the balancer in front of them.
///
/// # Errors
/// When the address is taken, with another one to try, or when no backend can start.
pub fn demo(args: &Demo, global: Global) -> Result<Launch, Failure> {
    load::warn_of_admin(args.admin, global);
    let listen = reserve(args.listen)?;
    let mut backends = Vec::new();
    for name in NAMES {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let backend = TestServer::start(Mode::Http, Some(name), &[free])
            .map_err(|error| Failure::running(format!("cannot start backend {name}: {error}")))?;
        backends.push(backend);
    }
    let addresses: Vec<SocketAddr> = backends.iter().filter_map(TestServer::address).collect();
    let target = |(address, name)| format!("{address},name={name}");
    let targets: Vec<String> = addresses.iter().zip(NAMES).map(target).collect();
    let mut plan = Plan::one_line(&[listen.to_string()], &targets, None)?.plan;
    // Every worker has a rotation of its own; with one, alpha, beta, gamma come strictly in turn.
    plan.workers = Workers::Count(1);
    // Nobody who tries things out wants Ctrl-C to wait for an idle keep-alive connection.
    plan.drain = Duration::from_secs(1);
    load::tell(&mut plan, global);
    let paint = Paint::new(global.color.unwrap_or_default().applies_to(&io::stdout()));
    Ok(Launch { plan, greeting: greeting(listen, &addresses, paint), backends })
}

/// Makes sure that the address is ours to take. The balancer shares its port between workers
/// (SO_REUSEPORT), so without this look a second demo would quietly share it with the first.
fn reserve(listen: SocketAddr) -> Result<SocketAddr, Failure> {
    match TcpListener::bind(listen).and_then(|listener| listener.local_addr()) {
        Ok(address) => Ok(address),
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => "something else listens there".to_owned(),
                io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
                io::ErrorKind::PermissionDenied => "ports below 1024 need privileges".to_owned(),
                _ => error.to_string(),
            };
            let other = if listen.port() == 8080 { 8081 } else { 8080 };
            Err(Failure::usage(format!(
                "cannot listen on {listen}: {why}\n  \
                 try another port: evenkeel demo --listen 127.0.0.1:{other}"
            )))
        }
    }
}

fn greeting(listen: SocketAddr, backends: &[SocketAddr], paint: Paint) -> String {
    let mut text = format!(
        "{}\n\n  {}  the balancer: round robin, one worker\n",
        paint.bold("evenkeel demo: three backends and a balancer in front of them"),
        paint.cyan(format_args!("http://{listen}"))
    );
    for ((index, address), name) in backends.iter().enumerate().zip(NAMES) {
        let branch = if index + 1 == backends.len() { "└─" } else { "├─" };
        text.push_str(&format!("    {} {name:<6}{address}\n", paint.dim(branch)));
    }
    let tries = [
        (format!("curl {listen}"), "one connection, one backend"),
        (format!("for i in 1 2 3 4 5 6; do curl -s {listen}; done"), "each in turn, twice"),
        (format!("curl -s {listen} {listen} {listen}"), "one connection stays where it is"),
        (format!("curl -so /dev/null {listen}/bytes/1000000000"), "a gigabyte, without a copy"),
    ];
    text.push_str(&format!("\n{}\n", paint.bold("Try in another terminal")));
    for (command, what) in tries {
        text.push_str(&format!("  {}\n      {}\n", paint.cyan(command), paint.dim(what)));
    }
    text.push_str("\nBelow is a line for every connection. Ctrl-C ends it all.\n\n");
    text
}

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
